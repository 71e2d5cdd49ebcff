"""Printed scores: batches against the distribution they come from, and a published vote by its patients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kerasall.errors import DataError
from kerasall.evaluation.predictions import Predictions
from results.pages.printed import section
from results.printed import describe_batches, draw_batches, read_preliminary, study_vote

RESULTS = Path(__file__).parents[2] / "results"


def make_record(right: int, images: int = 200) -> Predictions:
    names, labels = np.arange(images).astype(str), np.zeros(images, int)
    return Predictions(
        names, names, names, labels, np.eye(2)[(np.arange(images) >= right).astype(int)], ("a", "b")
    )


def test_batches_spread_as_the_hypergeometric_distribution_says():
    found = describe_batches([make_record(180), make_record(190)], 4_000, 0)
    assert found["accuracy"] == pytest.approx(0.925)
    # 32 of 200 without putting back: 31 or 32 right of them, from 180 and from 190 right images.
    assert found["expected"] == pytest.approx((0.1134 + 0.4936) / 2, abs=0.02)
    assert found["reach_printed"] == pytest.approx(found["expected"], abs=0.03)
    assert found["lowest"] < found["low_5"] < found["median"] < found["high_95"] <= found["highest"] == 1


def test_batches_are_drawn_without_putting_back_and_the_same_for_a_seed():
    records = [make_record(32, images=32), make_record(0, images=40)]
    assert draw_batches(records, 6, 1).tolist() == [32, 0] * 3
    records = [make_record(100)]
    assert draw_batches(records, 50, 1).tolist() == draw_batches(records, 50, 1).tolist()
    assert draw_batches(records, 50, 1).tolist() != draw_batches(records, 50, 2).tolist()


@pytest.mark.realdata
def test_the_printed_vote_by_its_patients(real_data):
    images = read_preliminary(real_data / "C-NMC_test_prelim_phase_data_labels.csv")
    found = study_vote(images)
    assert (found["images"], found["listed_as_wrong"], found["groups"]) == (1867, 278, 28)
    assert found["accuracy"] == pytest.approx(0.8511, abs=5e-5)
    assert [found["low"], found["high"]] == pytest.approx([0.729, 0.900], abs=5e-4)
    assert found["lowest_patients"]["H25"] == pytest.approx(0.05, abs=5e-3)


def test_another_table_is_refused(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("Patient,label\nUID_1_1_1_all.bmp,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="Patient_ID"):
        read_preliminary(path)
    path.write_text("Patient_ID,new_names\nUID_1_1_1_all.bmp,1.bmp\ncell.bmp,2.bmp\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"one is cell\.bmp"):
        read_preliminary(path)


def test_the_page_is_written_from_the_file():
    document = json.loads((RESULTS / "printed.json").read_text(encoding="utf-8"))
    page = "\n".join(section(document))
    assert "31 of 32" in page
    assert "0.843 to 0.994" in page
    assert "None" not in page
