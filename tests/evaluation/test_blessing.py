"""The blessing: patients are known, or the verdict says first what stands in their place."""

from __future__ import annotations

import pandas as pd
import pytest

from kerasall.components.evaluator import find_patients
from kerasall.data.development import Facts
from kerasall.evaluation.findings import Criterion, Patients, judge
from kerasall.evaluation.intervals import Interval
from kerasall.report.verdict import describe_criterion, describe_verdict

WAIVED = "patients waived by data.subject: none: images of one patient may stand on both sides"
BLOCKS = "blocks of file numbers stand in for patients: images of one patient may stand on both sides"
PARITY = {"passed": True, "tolerance": 1e-4, "largest_difference": 1e-6, "images": 4}


def criteria_of(
    patients: Patients,
    errors: int = 0,
    protocol: str = "honest",
    scored: str = "test",
    chosen_on: tuple[str, ...] = (),
) -> tuple[Criterion, ...]:
    good = Interval(0.95, 0.9, 0.99, 0.95, "bootstrap", 20)
    return judge(
        {"balanced_accuracy": good, "malignant_sensitivity": good}, classes=2, above_chance=0.05, sensitivity_floor=0.5,
        protocol=protocol, scored=scored, chosen_on=chosen_on, errors=errors, parity=PARITY, near_searched=True, patients=patients,
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
    criteria = criteria_of(patients_of("p" * 20), 0, protocol, scored, chosen_on)
    (found,) = [each for each in criteria if each.name == "honest_protocol"]
    assert found.met is met
    assert "by this run" in describe_criterion(found)
    assert describe_verdict(criteria).startswith("blessed") is met
