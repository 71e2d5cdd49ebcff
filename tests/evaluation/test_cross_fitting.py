"""What is reported on images is fitted without them; permuting what must not matter changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_calibration import distorted

from kerasall.errors import DataError
from kerasall.evaluation.calibration import believe, fit_calibration, reliability, score_calibration
from kerasall.evaluation.cross_fitting import cross_fit, deal_parts, number_folds
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.operating_points import (
    collapse,
    cross_collapse,
    expect_sensitivity,
    operating_point,
    score_point,
)
from kerasall.evaluation.predictions import Predictions


def grouped(temperature: float, groups: int = 40, count: int = 2000, seed: int = 0) -> Predictions:
    predictions = distorted(temperature, count=count, seed=seed)
    names = np.char.add("g", (np.arange(count) % groups).astype(str))
    return replace(predictions, groups=names, subjects=names)


def cross_calibrate(predictions: Predictions, parts: np.ndarray) -> Predictions:
    """Probabilities calibrated on the images of the other parts."""

    def answer(others, inside):
        return fit_calibration(predictions.take(others)).apply(predictions.probabilities[inside])

    return replace(predictions, probabilities=cross_fit(parts, answer))


def test_no_group_is_in_two_parts_and_the_order_of_images_does_not_matter():
    predictions = grouped(1.0)
    parts = deal_parts(predictions)
    assert set(parts) == set(range(5))
    for name in np.unique(predictions.groups):
        assert len(set(parts[predictions.groups == name])) == 1
    order = np.random.default_rng(0).permutation(len(predictions))
    assert (deal_parts(predictions.take(order)) == parts[order]).all()


def test_each_answer_comes_from_the_other_parts():
    parts = np.array([0, 1, 0, 2, 1])
    seen = cross_fit(parts, lambda others, inside: np.full(inside.sum(), others.sum()))
    assert seen.tolist() == [3, 3, 3, 4, 3]
    with pytest.raises(DataError, match="two parts"):
        cross_fit(np.zeros(4, int), lambda others, inside: np.zeros(inside.sum()))


def test_folds_are_numbered_by_their_images():
    predictions = grouped(1.0, count=6)
    ids = predictions.ids.tolist()
    assert number_folds(predictions, {"x": ids[3:], "y": ids[:3]}).tolist() == [1, 1, 1, 0, 0, 0]
    with pytest.raises(DataError, match="in none"):
        number_folds(predictions, {"x": ids[3:]})


def test_an_images_own_labels_do_not_move_its_calibrated_probability():
    predictions = grouped(2.0)
    parts = deal_parts(predictions)
    calibrated = cross_calibrate(predictions, parts)
    labels = predictions.labels.copy()
    labels[parts == 0] = np.roll(labels[parts == 0], 7)
    changed = cross_calibrate(replace(predictions, labels=labels), parts)
    assert (changed.probabilities[parts == 0] == calibrated.probabilities[parts == 0]).all()
    assert not np.allclose(changed.probabilities[parts == 1], calibrated.probabilities[parts == 1])
    assert (calibrated.decisions == predictions.decisions).all()


def test_a_calibrated_toy_has_temperature_one_and_error_near_zero():
    toy = distorted(1.0)
    assert fit_calibration(toy).temperature == pytest.approx(1, rel=0.03)
    found = reliability(Scorer(toy))
    assert found.error < 2 * found.noise_floor
    assert found.error_low < 0.003


def test_calibration_is_scored_before_and_after():
    predictions = grouped(3.0)
    parts, scorer = deal_parts(predictions), Scorer(predictions, resamples=200)
    calibrated = cross_calibrate(predictions, parts)
    scores = score_calibration(
        scorer, calibrated, fit_calibration(predictions), "out-of-fold", cross_fitted=True
    )
    assert scores.before.reliability.error > 0.1
    assert scores.after.reliability.error < 0.04
    assert scores.after.scores["brier"].value < scores.before.scores["brier"].value
    assert scores.after.scores["brier"].value == pytest.approx(METRICS["brier"](calibrated))
    written = scores.to_json()
    assert written["before"]["expected_calibration_error"]["bins"] == 15
    assert written["cross_fitted"] is True
    assert believe(scorer).to_json() == written["before"]


def test_thresholds_come_from_validation_labels_and_not_from_the_scored_ones():
    validation, scored = grouped(2.0, seed=1), grouped(2.0, seed=2)
    point = operating_point(validation, ["a"], 0.95)
    called = collapse(scored, ["a"], point.threshold)
    permuted = replace(scored, labels=np.roll(scored.labels, 3))
    assert (collapse(permuted, ["a"], point.threshold).decisions == called.decisions).all()
    other = operating_point(replace(validation, labels=np.roll(validation.labels, 3)), ["a"], 0.95)
    assert other.threshold != point.threshold
    found = score_point(Scorer(called, resamples=200), 0.95, point.threshold)
    assert found.sensitivity.value == pytest.approx(0.95, abs=0.03)
    assert found.missed == round((1 - found.sensitivity.value) * found.positives)
    assert found.positives + found.others == len(scored)


def test_cross_fitted_thresholds_reach_the_wanted_sensitivity():
    predictions = grouped(2.0)
    parts = deal_parts(predictions)
    called = cross_collapse(predictions, ["a"], 0.95, parts)
    assert METRICS["malignant_sensitivity"](called, ["positive"]) == pytest.approx(0.95, abs=0.03)
    labels = predictions.labels.copy()
    labels[parts == 2] = np.roll(labels[parts == 2], 7)
    again = cross_collapse(replace(predictions, labels=labels), ["a"], 0.95, parts)
    assert (again.decisions[parts == 2] == called.decisions[parts == 2]).all()


@pytest.mark.parametrize(("groups", "expected"), [(20, 20 / 21), (40, 40 / 41), (99, 0.99), (200, 198 / 201)])
def test_thresholds_fall_short_on_new_groups_by_what_few_groups_cannot_promise(groups, expected):
    """2,000 simulated choices of a threshold for 99% sensitivity, one image a group; see ``expect_sensitivity``."""
    rng = np.random.default_rng(groups)
    names = np.arange(2 * groups).astype(str)
    labels = np.repeat([0, 1], groups)
    reached = []
    for scores in rng.random((2000, 2 * groups)):
        probabilities = np.stack([scores, 1 - scores], axis=1)
        chosen_on = Predictions(names, names, names, labels, probabilities, ("a", "b"))
        reached.append(
            1 - operating_point(chosen_on, ["a"], 0.99).threshold
        )  # of uniform scores on new images
    assert expect_sensitivity(0.99, groups) == pytest.approx(expected)
    error = np.std(reached) / np.sqrt(2000)
    # Half-way down to the next score, here of 2 n: a quarter of 1 / (n + 1) more.
    assert np.mean(reached) == pytest.approx(expected + 0.25 / (groups + 1), abs=4 * error)


def test_a_scored_point_tells_what_its_threshold_can_promise():
    """The bounds: 4 groups whose 32 images are alike, 4 / 5; images that are not, 32 / 33."""
    names = np.arange(64).astype(str)
    groups = np.repeat(np.arange(8), 8).astype(str)
    called = Predictions(
        names, groups, groups, np.repeat([0, 1], 32), np.full((64, 2), 0.5), ("negative", "positive")
    )
    found = score_point(Scorer(called, resamples=200), 0.99, 0.5)
    assert found.expected == pytest.approx((4 / 5, 32 / 33))
