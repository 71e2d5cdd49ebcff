"""Both scores of a run with folds and a test part, and which model each is of."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from kerasall.components.evaluator import score_out_of_fold
from kerasall.data.training_record import TrainingRecord
from kerasall.evaluation.findings import Findings, _held_by, read_findings, write_findings
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import MALIGNANT_SCORES
from kerasall.evaluation.predictions import Predictions
from kerasall.report.verdict import describe_main_score

FOLDS = MappingProxyType({"fold_0": ["i0"], "fold_1": ["i1"]})


def record_of(groups: int, wrong: int) -> Predictions:
    """Groups of 10 images of one of two classes, of which each decides so many wrongly."""
    labels = np.arange(groups).repeat(10) % 2
    decisions = np.where(np.tile(np.arange(10), groups) < wrong, 1 - labels, labels)
    names = np.array([f"p{k}" for k in range(groups)]).repeat(10)
    ids = np.array([f"i{k}" for k in range(10 * groups)])
    return Predictions(ids, names, names, labels, np.eye(2)[decisions], ("all", "hem"))


@pytest.fixture
def record(tmp_path) -> TrainingRecord:
    """51 groups were held out in turn; 2 of 10 images of each are wrong."""
    found = TrainingRecord(tmp_path)
    found.write(record_of(51, 2))
    return found


def test_the_folds_score_stands_beside_that_of_the_final_model(record, tmp_path):
    test = record_of(22, 3)
    scorer = Scorer(test, ("all",), 200)
    held_out = score_out_of_fold(scorer, "test", record, FOLDS, "accuracy")
    assert held_out is not None
    findings = Findings(
        "test", test, test, ("all",), "accuracy", scorer.intervals(["accuracy"]), (), out_of_fold=held_out
    )
    write_findings(findings, tmp_path)
    numbers = read_findings(tmp_path).to_json()["out_of_fold"]
    far = numbers["distance"]
    assert far["value"] == pytest.approx(
        findings.intervals["accuracy"].value - numbers["metrics"]["accuracy"]["value"]
    )
    assert numbers["images"] == 510
    assert list(numbers["metrics"]) == ["accuracy", "balanced_accuracy", *MALIGNANT_SCORES]
    own = Scorer(record.predictions, ("all",), 200).interval("accuracy")
    assert numbers["metrics"]["accuracy"] == own.to_json()
    words = describe_main_score(findings)
    assert words.startswith("accuracy 0.7000 (95% interval ")
    assert ", by resampling 22 groups), test, 220 images, of the final model; accuracy 0.8000 (95% " in words
    assert words.endswith(", by resampling 51 groups), out-of-fold, 510 images, of the folds' models")
    assert describe_main_score(replace(findings, out_of_fold=None)).endswith("22 groups), test, 220 images")


@pytest.mark.parametrize(("kind", "folds"), [("out-of-fold", FOLDS), ("test", {}), ("selection", FOLDS)])
def test_elsewhere_there_is_one_score(record, kind, folds):
    assert (
        score_out_of_fold(Scorer(record.predictions, ("all",), 200), kind, record, folds, "accuracy") is None
    )


def test_no_two_classes_of_findings_have_one_name():
    """They are written and read again by their names."""
    held = set(_held_by(Findings))
    assert len({each.__name__ for each in held}) == len(held)
