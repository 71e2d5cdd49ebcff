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
from kerasall.evaluation.operating_points import collapse, cross_collapse, operating_point, score_point
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
