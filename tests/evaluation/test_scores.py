"""Plain arrays: the same numbers as the record they stand for, and an error with its cure for what they cannot be."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.scores import intervals, read_scores, score

RNG = np.random.default_rng(5)
GROUPS = np.repeat([f"p{n}" for n in range(12)], 5)
LABELS = np.repeat(np.arange(12) % 3, 5)
CHANCES = RNG.dirichlet(np.ones(3), 60) * 0.5 + 0.5 * np.eye(3)[np.where(RNG.random(60) < 0.8, LABELS, 0)]
NAMES = ("all", "hem", "other")


def test_plain_arrays_score_like_the_record_they_stand_for():
    found = score(LABELS, CHANCES, GROUPS, classes=NAMES, malignant="all", seed=3)
    ids = np.arange(60).astype(str)
    record = Predictions(ids, GROUPS, GROUPS, LABELS, CHANCES, NAMES)
    for metric, expected in Scorer(record, ["all"], seed=3).intervals(list(found)).items():
        assert vars(found[metric]) == {**vars(expected), "metric": metric}
    assert found.accuracy.value == pytest.approx((CHANCES.argmax(1) == LABELS).mean())
    assert found.missed == ((CHANCES.argmax(1) != 0) & (LABELS == 0)).sum()
    assert (found.malignant_images, found.images, found.accuracy.groups) == (20, 60, 12)
    assert score(record, malignant=["all"], seed=3).to_frame().equals(found.to_frame())


@pytest.mark.parametrize(
    "labels",
    [np.array(NAMES)[LABELS], pd.Series(np.array(NAMES)[LABELS]), LABELS.astype(float), LABELS.tolist()],
    ids=["names", "series", "floats", "list"],
)
def test_names_and_indices_mean_the_same(labels):
    expected = score(LABELS, CHANCES, GROUPS, classes=NAMES, resamples=100)
    assert score(labels, CHANCES, list(GROUPS), classes=NAMES, resamples=100).accuracy == expected.accuracy


def test_without_groups_every_image_counts_as_its_own_and_the_result_says_so():
    alone, grouped = score(LABELS, CHANCES), score(LABELS, CHANCES, GROUPS)
    assert alone.accuracy.groups == 60
    assert "groups are unknown" in alone.notes[0]
    assert "groups are unknown" not in " ".join(grouped.notes)
    missing = score(LABELS, CHANCES, [None, np.nan, "", *GROUPS[3:]])
    assert missing.accuracy.groups == 12 + 1  # the three of nobody may all be of one patient


@pytest.mark.parametrize(
    ("labels", "options"),
    [(["b", "a", "a"], {"malignant": "a"}), ([0, 1, 1], {}), ([False, True, True], {}), ([0, 1, 1], {"malignant": "1"})],
    ids=["names", "numbers", "booleans", "named"],
)  # fmt: skip
def test_of_two_classes_the_malignant_ones_probability_is_enough(labels, options):
    found = score(labels, [0.2, 0.9, 0.4], **options)
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert found.log_loss.value == pytest.approx(-np.log([0.8, 0.9, 0.4]).mean())
    assert found.missed == (1 if options else None)


def test_intervals_of_every_metric_are_given_where_none_is_named():
    found = intervals(LABELS, CHANCES, GROUPS, classes=NAMES, resamples=100)
    assert {*METRICS} - set(found) == {name for name in METRICS if name.startswith("malignant")}
    assert {"recall:all", "precision:hem"} <= set(found)
    assert list(intervals(LABELS, CHANCES, metrics="mcc")) == ["mcc"]


def test_scores_are_read_by_name_and_travel():
    found = score(LABELS, CHANCES, GROUPS, classes=NAMES, metrics=["accuracy", "recall:all"])
    assert found["recall:all"].metric == "recall:all"
    assert copy.deepcopy(found).accuracy == found.accuracy
    with pytest.raises(AttributeError, match="but is 'acuracy': did you mean 'accuracy'"):
        _ = found.acuracy
    results = {
        "metrics": {name: {k: v for k, v in vars(each).items() if k != "metric"} for name, each in found.items()},
        "labels": NAMES, "malignant": [], "images": 60, "confusion_matrix": found.confusion_matrix.tolist(),
        "malignant_called_benign": None, "malignant_images": None,
    }  # fmt: skip
    assert read_scores(results).to_frame().equals(found.to_frame())


ROWS = [[0.9, 0.1], [0.2, 0.8]]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (([0, 1], [[1, 0]]), {}, DataError, r"shape \(2, 2\).*one row an image"),
        (([0, 2], ROWS), {}, DataError, "class indices from 0 to 1, but one is 2"),
        (([0, 0.5], ROWS), {}, DataError, "one is 0.5: number the classes"),
        ((["a", "c"], ROWS), {"classes": "ab"}, DataError, "among the classes a, b, but one is 'c'"),
        ((["a", "b"], [[1, 0, 0], [0, 1, 0]]), {}, DataError, r"shape \(2, 3\) for the classes a, b: give classes="),
        (([0, 1], [[0.9, 0.2], [0, 1]]), {}, DataError, "1 of 2 rows do not; that of image 0 sums to 1.1: apply a softmax"),
        (([0, 1], [[np.nan, 0.2], [0, 1]]), {}, DataError, "must be finite, but are not for image 0: leave"),
        (([0, 1], [["x", "y"], [0, 1]]), {}, DataError, "must be numbers"),
        (([0, 1], [0.1, 1.2]), {}, DataError, r"lie in \[0, 1\], but that of image 1 is 1.2"),
        ((["a", "b"], [0.1, 0.2]), {}, SettingsError, "give malignant=NAME"),
        (([0, 1], None), {}, DataError, "must come with probabilities"),
        (([[0], [1]], ROWS), {}, DataError, "one class an image"),
        (([], []), {}, DataError, "one class an image"),
        (([0, 1], ROWS, ["p"]), {}, DataError, r"one patient an image \(2\)"),
        (([0, 1], ROWS), {"malignant": "ALL"}, SettingsError, "among 0, 1, but ALL is not"),
        (([0, 1], ROWS), {"metrics": "acuracy"}, SettingsError, "did you mean .*'accuracy'"),
        (([0, 1], ROWS), {"confidence": 95}, SettingsError, "0 < confidence < 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused_with_its_cure(arguments, options, error, words):
    with pytest.raises(error, match=words):
        score(*arguments, **options)
    record = Predictions(["a"], [""], [""], [0], [[1, 0]], ("x", "y"))
    with pytest.raises(SettingsError, match="must stand alone"):
        score(record, classes=["x", "y"])
