"""The study of protocols: whole things stay whole, and its arithmetic finds the effect that was put in, and none where there is none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from small_images import make_features, make_images

from kerasall.csv_tables import read_csv
from kerasall.evaluation.predictions import Predictions
from results.leakage import (
    HEADS,
    PROTOCOLS,
    count_distinct,
    draw_split,
    measure_effect,
    measure_effects,
    number_parts,
    predict_draws,
    score_protocols,
    tabulate_images,
)
from results.pages import points
from results.pages.leakage import section

RESULTS = Path(__file__).parents[2] / "results"
DRAWS = 2


def predict_all(images, features, head="nearest") -> dict[str, list[Predictions]]:
    return {
        protocol.name: predict_draws(
            images, features, [draw_split(images, protocol, seed) for seed in range(DRAWS)], HEADS[head]
        )
        for protocol in PROTOCOLS[images.collection.source]
    }


@pytest.fixture(scope="module")
def remembered():
    """Images whose features tell the patient and nothing of the class, and what the nearest neighbours make of them."""
    images = make_images()
    return images, predict_all(images, make_features(images, class_shift=0, subject_spread=4))


@pytest.mark.parametrize("source", PROTOCOLS)
def test_each_protocol_keeps_whole_what_it_says(source):
    images = make_images(source)
    subjects, groups = images.collection.examples["subject"].to_numpy(str), images.groups
    together: dict[str, list[bool]] = {}
    for protocol in PROTOCOLS[source]:
        parts = number_parts(images, draw_split(images, protocol, 0))
        assert sorted(set(parts)) == [0, 1, 2, 3, 4]
        together[protocol.name] = [
            all(len(set(parts[names == name])) == 1 for name in set(names)) for names in (subjects, groups)
        ]
    honest, middle, leaky = list(together)[::-1]
    assert together[honest] == [True, True]
    assert together[middle] == ([True, False] if source == "cnmc" else [False, False])
    assert together[leaky] == [False, False]


def test_groups_are_joined_by_copies_and_known_ids():
    images = make_images()
    assert images.describe()["groups"] == 20 - 3
    assert images.recurs.sum() == 12
    assert {images.groups[images.ids == name][0] for name in ("s00_00", "s02_05")} == {"S0+S2"}
    # Blocks are no patients: a copy counts whichever block it stands in.
    assert make_images("aria").recurs.sum() == 12


def test_a_head_that_remembers_profits_from_patients_on_both_sides(remembered):
    images, records = remembered
    rows = {(row["first"], row["second"], row["images"]): row for row in measure_effects(images, records)}
    found = rows["images", "patients", "all"]["metrics"]["accuracy"]
    assert found["difference"] > 0.3
    assert 0 < found["low"] < found["difference"] < found["high"]
    assert found["above"] == 1
    # Copies alone: they stand under another id, so that whole ids do not keep them apart.
    recurring, rest = (
        rows["ids", "patients", which]["metrics"]["accuracy"] for which in ("recurring", "rest")
    )
    assert recurring["difference"] > rest["difference"]
    assert rows["ids", "patients", "recurring"]["count"] == 12


def test_no_effect_is_found_where_images_are_independent():
    images = make_images(copies=0)
    records = predict_all(images, make_features(images, class_shift=2, subject_spread=0), "linear")
    (row,) = [
        row for row in measure_effects(images, records)
        if (row["first"], row["second"], row["images"]) == ("images", "patients", "all")
    ]  # fmt: skip
    found = row["metrics"]["accuracy"]
    assert abs(found["difference"]) < 0.03
    assert found["low"] < 0 < found["high"]
    assert all(
        each["metrics"]["accuracy"] is None
        for each in measure_effects(images, records)
        if each["images"] == "recurring"
    )


def test_scores_and_effects_are_means_over_the_draws(remembered):
    images, records = remembered
    scores = score_protocols(records, ["all"])
    accuracies = {name: np.mean([each.right.mean() for each in draws]) for name, draws in records.items()}
    assert {name: scores[name]["accuracy"]["mean"] for name in scores} == pytest.approx(accuracies)
    found = measure_effect(records["images"], records["ids"], "accuracy", ["all"])
    assert found["difference"] == pytest.approx(accuracies["images"] - accuracies["ids"])
    table = tabulate_images(images, records)
    assert table["right_images"].mean() - table["right_ids"].mean() == pytest.approx(
        found["difference"], abs=1e-4
    )


def test_equal_partitions_count_once():
    images = make_images()
    protocol = PROTOCOLS["cnmc"][0]
    splits = [draw_split(images, protocol, seed) for seed in (0, 0, 1)]
    assert count_distinct(splits) == 2


def test_a_difference_reads_in_points():
    effect = {"difference": 0.0421, "low": 0.0109, "high": 0.0733}
    assert points(effect) == "+4.2 (1.1 to 7.3)"
    assert points({"difference": -0.01, "low": None, "high": None}) == "-1.0"
    assert points(None) == "–"


def test_the_stored_effects_are_those_of_the_stored_images():
    document = json.loads((RESULTS / "leakage.json").read_text(encoding="utf-8"))
    for source, found in document["sets"].items():
        table = read_csv(RESULTS / f"leakage_{source}.csv", dtype={"id": str, "label": str, "group": str})
        assert len(table) == found["images"]
        assert table["group"].nunique() == found["groups"]
        for row in found["heads"]["linear"]["effects"]:
            chosen = {
                "all": table,
                "recurring": table[table["recurs"] == 1],
                "rest": table[table["recurs"] == 0],
            }
            rows = chosen[row["images"]]
            expected = rows[f"right_{row['first']}"].mean() - rows[f"right_{row['second']}"].mean()
            assert row["metrics"]["accuracy"]["difference"] == pytest.approx(expected, abs=1e-4)
    page = "\n".join(section(document))
    assert "this sample alone" in page
    few, many = (found["heads"]["linear"]["effects"][1:3] for found in document["sets"].values())
    assert [row["groups"] for row in few] == [3, 29]
    assert f"on recurring images ({few[0]['count']} images, 3 groups)" in page
    without = few[0]["metrics"]["accuracy"] | {"low": None, "high": None}
    assert (
        f"| {points(without)} | {points(few[1]['metrics']['accuracy'])} |" in page
    )  # over three groups no interval
    assert f"| {points(many[0]['metrics']['accuracy'])} | {points(many[1]['metrics']['accuracy'])} |" in page
    assert not re.search(r"\bnan\b", page)
    assert "None" not in page
