"""Images of which nobody says whose they are: never counted as more groups than are known to be apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kerasall.data.splits import group_examples
from kerasall.errors import DataError
from kerasall.evaluation.intervals import IMAGES, WILSON, Scorer
from kerasall.evaluation.predictions import (
    UNNAMED,
    Predictions,
    concatenate,
    read_predictions,
    write_predictions,
)
from kerasall.evaluation.scores import score

BLANKS = ["", None, np.nan, "nan", "NaN", " nan", "None", pd.NA, pd.NaT, " "]


def record_of(subjects, groups, wrong=()) -> Predictions:
    count = len(subjects)
    labels = np.arange(count) % 2
    decisions = np.where(np.isin(np.arange(count), wrong), 1 - labels, labels)
    ids = np.char.add("cell ", np.arange(count).astype(str))
    return Predictions(ids, subjects, groups, labels, np.eye(2)[decisions], ("a", "b"))


def patients(count: int, images: int = 10) -> np.ndarray:
    return np.repeat([f"P{k}" for k in range(count)], images).astype(object)


@pytest.mark.parametrize("blank", BLANKS, ids=repr)
def test_blank_groups_fall_back_to_subjects(blank):
    named = patients(6)
    whole, fallen = (
        record_of(named, named, [3, 4, 5]),
        record_of(named, np.full(60, blank, object), [3, 4, 5]),
    )
    assert fallen.groups.tolist() == named.tolist()
    assert Scorer(fallen, resamples=200).interval("accuracy") == Scorer(whole, resamples=200).interval(
        "accuracy"
    )
    some = named.copy()
    some[5:9] = blank  # within a patient
    assert record_of(named, some).groups.tolist() == named.tolist()


@pytest.mark.parametrize("blank", BLANKS, ids=repr)
def test_images_of_nobody_beside_patients_are_one_group(blank):
    subjects = np.concatenate([patients(6), np.full(40, blank, object)])
    found = record_of(subjects, np.full(100, blank, object))
    assert len(np.unique(found.group_names)) == 7
    assert set(found.groups[60:]) == {UNNAMED}
    interval = Scorer(found, resamples=200).interval("accuracy")
    assert interval.groups == 7
    assert "40 images count as one group, as nobody knows whose they are" in interval.note


def test_a_split_gives_such_images_groups_of_their_own_and_the_interval_does_not_count_them():
    """As a run has it: the group of an image without a patient is named after the image."""
    subjects = np.concatenate([patients(6), np.full(40, "", object)])
    ids = np.char.add("cell ", np.arange(100).astype(str))
    groups = np.where(subjects == "", ids, subjects)
    found = record_of(subjects, groups)
    assert Scorer(found, resamples=200).interval("accuracy").groups == 7
    joined = groups.copy()
    joined[60:62] = "P0"  # copies of a patient's images are that patient's
    assert (record_of(subjects, joined).groups[60:62] == "P0").all()
    assert len(np.unique(record_of(subjects, joined).groups)) == 7


def test_no_interval_is_narrower_for_not_knowing():
    subjects = np.concatenate([patients(8), patients(12)])
    subjects[80:] = np.char.add("Q", subjects[80:].astype(str))
    wrong = [0, 1, 2, 3, 40, 41, 85, 86, 120, 121, 122, 199]
    known = Scorer(record_of(subjects, subjects, wrong), resamples=1000).interval("accuracy")
    blank = np.where(np.arange(200) < 80, subjects, "")
    unknown = Scorer(record_of(blank, blank, wrong), resamples=1000).interval("accuracy")
    assert unknown.groups == 9
    assert unknown.low < known.low


@pytest.mark.parametrize("blank", BLANKS, ids=repr)
def test_where_nothing_is_known_of_any_image_each_stands_for_itself_and_the_note_says_so(blank):
    nothing = np.full(40, blank, object)
    found = Scorer(record_of(nothing, nothing, [1]), resamples=200)
    assert not found.groups_known
    assert found.interval("accuracy").method == WILSON
    assert found.interval("cohen_kappa").method == IMAGES
    assert "likely too narrow" in found.interval("accuracy").note


def test_parts_of_a_record_keep_what_the_whole_knows(tmp_path):
    """A class of which no image names a patient, alone, does not become so many groups again."""
    subjects = np.concatenate([patients(6), np.full(40, "", object)])
    found = record_of(subjects, subjects)
    alone = found.take(np.arange(60, 100))
    assert set(alone.groups) == {UNNAMED}
    assert Scorer(alone, resamples=200).units.groups == 1
    again = concatenate([found.take(np.arange(50)), found.take(np.arange(50, 100))])
    assert again.groups.tolist() == found.groups.tolist()
    for name in ("predictions.csv", "predictions.npz"):
        write_predictions(found, tmp_path / name)
        assert read_predictions(tmp_path / name).groups.tolist() == found.groups.tolist()


def test_groups_without_any_subject_are_told_apart():
    groups = patients(6)
    found = record_of(np.full(60, ""), groups)
    assert found.groups.tolist() == groups.tolist()
    assert Scorer(found, resamples=200).groups_known


def test_scores_of_plain_arrays_take_patients_that_are_partly_unknown():
    labels, chances = np.arange(40) % 2, np.tile([0.2, 0.8], 20)
    groups = np.where(np.arange(40) < 20, np.repeat(["p1", "p2", "p3", "p4"], 10), None)
    assert score(labels, chances, groups).accuracy.groups == 3  # p1, p2 and the others
    assert score(labels, chances, [7.0] * 20 + [np.nan] * 20).accuracy.groups == 2


@pytest.mark.parametrize("blank", [None, np.nan, "nan", "", pd.NA], ids=repr)
def test_an_image_without_a_label_is_refused(blank):
    labels = np.array(["ALL", "ALL", blank, blank], object)
    with pytest.raises(
        DataError, match="2 images have none, the first at position 2: leave these images out"
    ):
        score(labels, [0.9, 0.8, 0.2, 0.1], malignant="ALL")
    if isinstance(blank, str) and blank:  # a class may be called so, where it is said
        assert score(labels, np.eye(2)[[0, 0, 1, 1]], classes=["ALL", blank]).accuracy.value == 1.0


@pytest.mark.parametrize("blank", [None, np.nan, "nan", pd.NA, "None", ""], ids=repr)
def test_a_split_joins_no_images_by_a_patient_that_is_none(blank):
    examples = pd.DataFrame({"id": list("abcd"), "subject": np.array(["P1", "P1", blank, blank], object)})
    groups = group_examples(examples, [])
    assert groups.tolist() == ["P1", "P1", "c", "d"]


def test_shuffled_images_and_renamed_groups_change_no_interval_of_a_probability():
    subjects = np.concatenate([patients(6), np.full(40, "", object)])
    found = record_of(subjects, subjects, [0, 1, 70, 71, 72])
    found = replace(found, probabilities=0.9 * found.probabilities + 0.05)
    names = [
        "accuracy",
        "f1_macro",
        "cohen_kappa",
        "roc_auc",
        "log_loss",
        "brier",
        "precision:b",
        "specificity:a",
    ]
    order = np.random.default_rng(0).permutation(100)
    for one, other in zip(
        Scorer(found, resamples=200).intervals(names).values(),
        Scorer(found.take(order), resamples=200).intervals(names).values(),
        strict=True,
    ):
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-12)
