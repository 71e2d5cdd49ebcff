"""Calls of whole subjects: worked numbers, the threshold's choice, and that no scored subject has a say in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_tables import read_tables

from kerasall.errors import DataError
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.subject_calls import (
    SENSITIVITY,
    SPECIFICITY,
    Subjects,
    call_subjects,
    choose_share,
    count_subjects,
)
from kerasall.report.figures_data import draw_subject_shares
from kerasall.report.figures_style import new_figure
from kerasall.report.sections import subject_calls_section

CLASSES = ("hem", "early", "pro")
MALIGNANT = ("early", "pro")


def images(*subjects: tuple[str, str, int, int], prefix: str = "", groups=None) -> Predictions:
    """Images of subjects given as (name, label, images, images called malignant)."""
    rows = [
        (name, CLASSES.index(label), 1 + number % 2 if number < called else 0)
        for name, label, total, called in subjects
        for number in range(total)
    ]
    names = np.array([row[0] for row in rows])
    decisions = np.array([row[2] for row in rows])
    return Predictions(
        ids=[f"{prefix}{number}" for number in range(len(rows))],
        subjects=names,
        groups=names if groups is None else groups,
        labels=[row[1] for row in rows],
        probabilities=np.eye(3)[decisions] * 0.7 + 0.1,
        classes=CLASSES,
        decisions=decisions,
    )


FITTING = images(
    ("a", "hem", 10, 1), ("b", "hem", 10, 3), ("c", "pro", 10, 7), ("d", "early", 20, 18), prefix="f"
)


def test_a_worked_example():
    scored = images(
        ("p", "pro", 4, 3), ("q", "pro", 10, 2), ("r", "hem", 8, 1), ("s", "hem", 5, 3), ("t", "early", 9, 9)
    )
    calls = call_subjects(Scorer(scored, MALIGNANT, resamples=200), FITTING, fitted_on="validation")
    assert calls.threshold == pytest.approx(0.5)  # between 0.3 and 0.7
    assert calls.fitting == (2, 2)
    assert calls.called.tolist() == [True, False, False, True, True]
    assert calls.scores["accuracy"].value == pytest.approx(3 / 5)
    assert calls.scores[SENSITIVITY].value == pytest.approx(2 / 3)
    assert calls.scores[SPECIFICITY].value == pytest.approx(1 / 2)
    # Pairs of a malignant and another subject whose shares are in order: p > r, s; q > r; t > r, s.
    assert calls.scores["roc_auc"].value == pytest.approx(5 / 6)
    first = calls.to_rows()[0]
    assert (first["share"], first["images"], first["right"]) == (0.75, 4, True)
    assert (first["low"], first["high"]) == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson, 3 of 4
    assert calls.to_json()["fitted_on"] == "validation"
    assert not calls.cross_fitted


def test_any_malignant_image_makes_a_subject_malignant():
    found = count_subjects(images(("a", "hem", 3, 0), ("b", "pro", 1, 1), ("b", "hem", 2, 0)), MALIGNANT)
    assert found.malignant.tolist() == [False, True]
    assert found.mixed.tolist() == [False, True]
    assert found.shares.tolist() == pytest.approx([0, 1 / 3])


def test_images_of_nobody_are_left_out():
    found = count_subjects(
        images(("", "pro", 5, 5), ("a", "hem", 2, 1), groups=np.repeat(["x", "a"], [5, 2])), MALIGNANT
    )
    assert found.names.tolist() == ["a"]
    with pytest.raises(DataError, match="none does"):
        count_subjects(images(("", "pro", 5, 5)), MALIGNANT)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.floats(0, 1)), min_size=2, max_size=25),
)
@settings(max_examples=60, deadline=None)
def test_no_other_threshold_is_better(drawn):
    malignant = np.array([each[0] for each in drawn])
    counts = np.array([each[1] for each in drawn])
    called = np.array([round(each[1] * each[2]) for each in drawn])
    names = np.array([f"s{number:02d}" for number in range(len(drawn))])
    subjects = Subjects(names, names, malignant, np.zeros(len(drawn), bool), counts, called)
    if malignant.all() or not malignant.any():
        with pytest.raises(DataError, match="with and without"):
            choose_share(subjects)
        return

    def gain(threshold):
        found = subjects.shares >= threshold
        return found[malignant].mean() - found[~malignant].mean()

    threshold = choose_share(subjects)
    assert 0 < threshold < 1
    assert gain(threshold) >= max(gain(each) for each in np.linspace(0, 1, 601)[1:-1]) - 1e-9
    shuffled = np.random.default_rng(0).permutation(len(drawn))
    assert choose_share(subjects.take(shuffled)) == threshold


def many(seed: int, per_kind: int = 12) -> Predictions:
    rng = np.random.default_rng(seed)
    rows = [(f"h{k:02d}", "hem", 20, int(rng.binomial(20, rng.beta(2, 6)))) for k in range(per_kind)]
    rows += [(f"p{k:02d}", "pro", 20, int(rng.binomial(20, rng.beta(6, 2)))) for k in range(per_kind)]
    return images(*rows)


def test_a_held_out_subject_has_no_say_in_its_threshold():
    record = many(1)
    folds = {
        f"fold_{k}": [i for i, s in zip(record.ids, record.subjects, strict=True) if int(s[1:]) % 4 == k]
        for k in range(4)
    }
    calls = call_subjects(
        Scorer(record, MALIGNANT, resamples=200), record, fitted_on="out-of-fold", folds=folds
    )
    assert calls.cross_fitted
    inside = record.subjects == "p01"
    changed = np.where(inside, 0, record.decisions)  # the subject's images are all called benign
    other = Predictions(
        record.ids, record.subjects, record.groups, record.labels, record.probabilities, CLASSES, changed
    )
    again = call_subjects(
        Scorer(other, MALIGNANT, resamples=200), other, fitted_on="out-of-fold", folds=folds
    )
    same_fold = np.array([int(name[1:]) % 4 == 1 for name in calls.subjects.names])
    assert (calls.thresholds[same_fold] == again.thresholds[same_fold]).all()
    for fold in range(4):
        inside = np.array([int(name[1:]) % 4 == fold for name in calls.subjects.names])
        assert calls.thresholds[inside] == pytest.approx(choose_share(calls.subjects.take(~inside)))


def test_without_folds_five_parts_cross_fit():
    record = many(2)
    calls = call_subjects(Scorer(record, MALIGNANT, resamples=200), record, fitted_on="validation")
    assert calls.cross_fitted
    assert len(set(calls.thresholds)) > 1


def test_a_subject_on_both_sides_is_refused():
    scored = images(("a", "hem", 4, 0), ("x", "pro", 4, 4))
    with pytest.raises(DataError, match="a stands on both sides"):
        call_subjects(Scorer(scored, MALIGNANT), FITTING, fitted_on="validation")
    record = many(1)
    folds = {"one": record.ids[::2].tolist(), "two": record.ids[1::2].tolist()}
    with pytest.raises(DataError, match="must be in one fold"):
        call_subjects(Scorer(record, MALIGNANT), record, fitted_on="out-of-fold", folds=folds)


def test_a_torn_group_is_refused():
    with pytest.raises(DataError, match="must be in one group"):
        count_subjects(images(("a", "hem", 2, 1), groups=np.array(["x", "y"])), MALIGNANT)


def test_intervals_cover_what_a_new_subject_does():
    """24 subjects, each called rightly with chance 0.85: the interval of accuracy holds it nearly always."""
    rng, held = np.random.default_rng(5), 0
    for _ in range(60):
        right = rng.random(24) < 0.85
        called = np.where(right, [0] * 12 + [10] * 12, [10] * 12 + [0] * 12)
        rows = [(f"s{k:02d}", "hem" if k < 12 else "pro", 10, int(called[k])) for k in range(24)]
        found = call_subjects(
            Scorer(images(*rows), MALIGNANT, resamples=300), FITTING, fitted_on="validation"
        )
        interval = found.scores["accuracy"]
        held += interval.low <= 0.85 <= interval.high
    assert held >= 54


def test_the_section_says_who_is_wrong():
    scored = images(("good", "hem", 8, 1), ("missed", "pro", 10, 2), ("found", "pro", 10, 9))
    calls = call_subjects(Scorer(scored, MALIGNANT, resamples=200), FITTING, fitted_on="validation")
    section = subject_calls_section(calls)
    first = read_tables(section.body)["Every subject, wrong calls first"][1]
    assert first[0].text == "missed"
    assert first[-1].tone == "bad"
    assert "50.0%" in section.intro
    assert "rests on 2 malignant and 2 other" in section.body
    _, axes = new_figure()
    assert draw_subject_shares(axes, calls).endswith("Called wrongly: missed 20.0%.")
    assert "No patient" in subject_calls_section("No patient is known.").body
