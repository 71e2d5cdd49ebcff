"""The blessing: scores lie above what guessing reaches, on enough images and groups; and patients are known, or the
verdict says first what stands in their place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from kerasall.components.evaluator import find_patients
from kerasall.data.development import Facts
from kerasall.evaluation.findings import Criterion, Floors, Patients, judge
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import MALIGNANT_SCORES
from kerasall.evaluation.predictions import Predictions
from kerasall.report.verdict import describe_criterion, describe_verdict
from kerasall.settings import BlessSettings

WAIVED = "patients waived by data.subject: none: images of one patient may stand on both sides"
BLOCKS = "blocks of file numbers stand in for patients: images of one patient may stand on both sides"
PARITY = {"passed": True, "tolerance": 1e-4, "largest_difference": 1e-6, "images": 4}


KNOWN = Patients(1.0)


def record_of(right: Sequence[Sequence[int]], size: int) -> Predictions:
    """Groups of ``size`` images of one class: by class, how many images of each group are decided rightly, the others as
    the next class.
    """
    labels = np.repeat(range(len(right)), [size * len(groups) for groups in right])
    hits = np.concatenate([np.arange(size) < count for groups in right for count in groups])
    decisions = np.where(hits, labels, (labels + 1) % len(right))
    groups = np.repeat([f"g{k}" for k in range(len(labels) // size)], size)
    ids = np.array([f"i{k}" for k in range(len(labels))])
    return Predictions(
        ids, groups, groups, labels, np.eye(len(right))[decisions], tuple("abcd"[: len(right)])
    )


def criteria_of(
    patients: Patients = KNOWN, errors: int = 0, record: Predictions | None = None, malignant: str = "a", trained_beside: int = 0,
    protocol: str = "honest", scored: str = "test", chosen_on: tuple[str, ...] = (), **floors: float,
) -> tuple[Criterion, ...]:  # fmt: skip
    record = record_of([[10] * 12] * 2, 10) if record is None else record
    scorer, images = Scorer(record, tuple(malignant), seed=1), np.bincount(record.labels).tolist()
    return judge(
        scorer.intervals(["balanced_accuracy", *(MALIGNANT_SCORES if malignant else ())]),
        {name: found["recall"] for name, found in scorer.by_class().items()},
        images=dict(zip(record.classes, images, strict=True)), malignant=len(malignant),
        floors=Floors(**BlessSettings.model_validate(floors).model_dump()), protocol=protocol, scored=scored, chosen_on=chosen_on,
        errors=errors, parity=PARITY, near_searched=True, patients=patients, trained_beside=trained_beside,
    )  # fmt: skip


def patients_of(subjects: str, kind: str = "subject", stated: str = "auto") -> Patients:
    """Of 40 images of two classes, of which the second's first ones are without a patient."""
    rows = pd.DataFrame({"label": ["a"] * 20 + ["b"] * 20, "subject": ["p"] * 20 + list(subjects)})
    rows["subject"] = rows["subject"].replace("-", "")
    return find_patients(rows, Facts(("a", "b"), ("a",), kind, "folder", (), ""), stated)


@pytest.mark.parametrize(
    ("patients", "met", "verdict"),
    [
        (patients_of("p" * 20), True, "blessed"),
        (patients_of("-" + "p" * 19), True, "blessed"),
        (patients_of("--" + "p" * 18), False, "not blessed, as this does not hold: The patient is known of at least 95.0% of the "
         "images of every class (here 90.0%), or waived by data.subject: none"),
        (patients_of("-" * 20, "none"), False, "not blessed, as this does not hold: The patient is known of at least 95.0% of the "
         "images of every class (here 0.0%), or waived by data.subject: none"),
        (patients_of("-" * 20, "none", "none"), True, f"blessed, {WAIVED}"),
        (patients_of("p" * 20, "block"), True, f"blessed, {BLOCKS}"),
        (patients_of("p" * 20, "block", "none"), True, f"blessed, {WAIVED}"),
    ],
)  # fmt: skip
def test_patients_are_known_or_the_verdict_says_what_stands_in_their_place(patients, met, verdict):
    criteria = criteria_of(patients)
    (found,) = [each for each in criteria if each.name == "patients_known"]
    assert found.met is met
    assert all(each.met for each in criteria) is met
    assert describe_verdict(criteria) == verdict


def test_a_verdict_that_fails_otherwise_names_the_waiver_too():
    words = describe_verdict(criteria_of(patients_of("-" * 20, "none", "none"), errors=1))
    assert words == f"not blessed, as this does not hold: No validation error in the data; {WAIVED}"


def test_the_criterion_in_words_and_for_programs():
    waived, known = (
        criteria_of(patients_of(s, k, t))[-1]
        for s, k, t in (("-" * 20, "none", "none"), ("p" * 20, "subject", "auto"))
    )
    assert describe_criterion(waived) == WAIVED[0].upper() + WAIVED[1:]
    assert "(here 100.0%)" in describe_criterion(known)
    assert known.to_json() == {
        "criterion": "patients_known", "met": True, "known": 1.0, "least": 0.95, "blocks": False, "waived": False,
    }  # fmt: skip


SPECIFICITY, SENSITIVITY, CLASS = "malignant_specificity", "malignant_sensitivity", "class_sensitivity"


@pytest.mark.parametrize(
    ("right", "size", "malignant", "failed"),
    [
        ([[10] * 12] * 2, 10, "a", []),
        # 12 images of each class, one a patient, all right: they may hide one fault in four.
        ([[1] * 12] * 2, 1, "a", ["images_per_class"]),
        ([[1] * 30] * 2, 1, "a", []),
        ([[10] * 4, [10] * 12], 10, "a", ["groups_per_class"]),
        ([[10] * 5, [10] * 12], 10, "a", []),
        # Balanced accuracy (100% + 48%) / 2 = .74: half of the benign cells are called malignant.
        ([[10] * 12, [5, 5, 4, 5, 5, 5, 4, 5, 5, 5, 5, 5]], 10, "a", [CLASS, SPECIFICITY]),
        ([[5, 5, 4, 5, 5, 5, 4, 5, 5, 5, 5, 5], [10] * 12], 10, "a", [CLASS, SENSITIVITY]),
        # One of four classes has 2 of 10 right, where a guess has 2.5; malignant or not is told of all but these.
        ([[10] * 12, [10] * 12, [10] * 12, [2] * 12], 10, "ab", [CLASS]),
        ([[10] * 12, [10] * 12, [10] * 12, [2] * 12], 10, "d", [CLASS, SENSITIVITY]),
        # Three of four classes are malignant: a guess finds 75% of the malignant cells, and here are 7 of 10 found.
        ([[10] * 12, [10] * 12, [1] * 12, [10] * 12], 10, "abc", [CLASS, SENSITIVITY]),
        # Subtypes of leukaemia alone: nothing benign can be confused.
        ([[10] * 12] * 3, 10, "abc", []),
        ([[10] * 12] * 2, 10, "", ["malignant_classes_named"]),
    ],
)  # fmt: skip
def test_what_is_not_above_guessing_or_rests_on_little_is_not_blessed(right, size, malignant, failed):
    criteria = criteria_of(record=record_of(right, size), malignant=malignant)
    assert [each.name for each in criteria if not each.met] == failed


def test_one_of_five_right_in_a_class_is_not_blessed():
    record = record_of([[5] * 12, [5] * 12, [5] * 12, [1]], 5)
    failed = {each.name: each for each in criteria_of(record=record, malignant="ab") if not each.met}
    assert list(failed) == ["groups_per_class", "images_per_class", CLASS]
    assert describe_criterion(failed["groups_per_class"]) == (
        "At least 5 groups of every class are scored (fewest: 1 of d)"
    )
    assert describe_criterion(failed["images_per_class"]) == (
        "At least 30 images of every class are scored (fewest: 5 of d)"
    )
    words = describe_criterion(failed[CLASS])
    assert words.startswith("Lower bound of every class's sensitivity, least ")
    assert words.endswith(" over 1 group (d), is above 25.0%: no guess reaches that in every class")


@pytest.mark.parametrize(
    ("floors", "failed"),
    [
        ({"images_per_class": 121}, ["images_per_class"]),
        ({"groups_per_class": 13}, ["groups_per_class"]),
        ({"balanced_accuracy_above_chance": 0.5}, ["balanced_accuracy"]),
        ({"class_sensitivity_above_chance": 0.5}, [CLASS]),
        ({"malignant_sensitivity": 0.95}, [SENSITIVITY]),
        ({"malignant_specificity": 0.95}, [SPECIFICITY]),
    ],
)
def test_the_config_moves_every_floor(floors, failed):
    assert [each.name for each in criteria_of(**floors) if not each.met] == failed


def test_floors_are_never_below_what_guessing_reaches():
    record = record_of([[10] * 12] * 4, 10)
    criteria = {
        each.name: each for each in criteria_of(record=record, malignant="abc", malignant_sensitivity=0.1)
    }
    assert (criteria[SENSITIVITY].values["floor"], criteria[SPECIFICITY].values["floor"]) == (0.75, 0.5)
    assert describe_criterion(criteria[SENSITIVITY]).endswith(
        "is above the floor of 75.0% (guessing reaches 75.0%)"
    )
    before = Criterion(SENSITIVITY, True, {"low": 0.97, "floor": 0.5, "groups": 33})  # as 0.1.0 judged
    assert describe_criterion(before).endswith("97.0% over 33 groups, is above the floor of 50.0%")


@pytest.mark.parametrize(
    ("protocol", "scored", "chosen_on", "met"),
    [
        ("honest", "test", (), True),
        ("honest", "test", ("out-of-fold",), True),
        ("honest", "out-of-fold", (), True),
        ("honest", "out-of-fold", ("out-of-fold",), False),
        ("honest", "validation", (), False),
        ("faithful", "test", (), False),
    ],
)
def test_a_score_on_images_that_chose_the_model_is_not_honest(protocol, scored, chosen_on, met):
    criteria = criteria_of(protocol=protocol, scored=scored, chosen_on=chosen_on)
    (found,) = [each for each in criteria if each.name == "honest_protocol"]
    assert found.met is met
    assert "by this run" in describe_criterion(found)
    assert describe_verdict(criteria).startswith("blessed") is met
