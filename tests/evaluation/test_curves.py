"""Curves against scikit-learn, bands around them, thresholds that keep their promise, calibration bins."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.calibration import reliability
from kerasall.evaluation.curves import GRID, precision_recall_curves, roc_curve, selective_accuracy
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import METRICS, find_metric
from kerasall.evaluation.operating_points import collapse, operating_point
from kerasall.evaluation.predictions import Predictions


def precision_recall(scorer: Scorer, positive: list[str]):
    """The curve of ``positive`` against the rest."""
    collapsed = collapse(scorer.predictions, positive, 0.5)
    return precision_recall_curves(scorer.of(collapsed))[0]


def simulate(seed=0, groups=40, classes=2, images=60, digits=8, shift=1.2, spread=0.8) -> Predictions:
    """Scores with an effect of class and one of group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), images)
    labels = group % classes
    logits = rng.normal(size=(len(group), classes)) + spread * rng.normal(size=(groups, classes))[group]
    logits[np.arange(len(group)), labels] += shift
    probabilities = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), digits) + 1e-9
    names = group.astype(str)
    return Predictions(
        np.arange(len(group)).astype(str), names, names, labels,
        probabilities / probabilities.sum(axis=1, keepdims=True), tuple("abcd"[:classes]),
    )  # fmt: skip


@pytest.mark.parametrize("digits", [1, 8])
def test_roc_curve_equals_scikit_learn(digits):
    predictions = simulate(digits=digits)
    curve = roc_curve(Scorer(predictions, resamples=200), ["b"])
    scores = predictions.probabilities[:, 1]
    false_positive, true_positive, _ = sk.roc_curve(predictions.labels, scores, drop_intermediate=False)
    assert curve.y == pytest.approx(np.interp(GRID, false_positive, true_positive), abs=1e-12)
    assert curve.area == pytest.approx(sk.roc_auc_score(predictions.labels, scores), abs=1e-12)


@pytest.mark.parametrize("digits", [1, 8])
def test_precision_recall_equals_scikit_learn(digits):
    predictions = simulate(1, digits=digits)
    curve = precision_recall(Scorer(predictions, resamples=200), ["b"])
    scores = predictions.probabilities[:, 1]
    assert curve.area == pytest.approx(sk.average_precision_score(predictions.labels, scores), abs=1e-9)
    precision, recall, _ = sk.precision_recall_curve(predictions.labels, scores)
    for x, y in zip(curve.x[1:], curve.y[1:], strict=True):
        # scikit-learn lists falling recalls: the last that still reaches x has the highest threshold.
        assert y == pytest.approx(precision[np.flatnonzero(recall >= x - 1e-12)[-1]], abs=1e-9)


@pytest.mark.parametrize("make", [roc_curve, precision_recall])
@pytest.mark.parametrize("positive", [["b"], ["b", "d"]])
def test_bands_surround_their_curves(make, positive):
    curve = make(Scorer(simulate(2, classes=4), resamples=200), positive)
    assert (curve.band_low <= curve.y).all()
    assert (curve.y <= curve.band_high).all()
    assert curve.band_low.min() >= 0
    assert curve.band_high.max() <= 1
    assert curve.area_low < curve.area < curve.area_high
    assert (curve.band_high - curve.band_low)[20:100].max() > 0.02


def test_area_and_its_interval_are_those_of_the_metric():
    predictions = simulate(3)
    scorer = Scorer(predictions, resamples=500, seed=4)
    curve, interval = roc_curve(scorer, ["b"]), scorer.interval("roc_auc")
    assert (curve.area, curve.area_low, curve.area_high) == pytest.approx(
        (interval.value, interval.low, interval.high)
    )


def test_roc_band_holds_the_true_curve_at_a_point():
    """At a false-positive rate of 0.25, for 40 groups, in most of 60 data sets."""
    truth = roc_curve(Scorer(simulate(999, groups=1500, images=20), resamples=100), ["b"])
    at = int(np.argmin(np.abs(GRID - 0.25)))
    hits = 0
    for seed in range(60):
        curve = roc_curve(Scorer(simulate(seed), resamples=200), ["b"])
        hits += curve.band_low[at] <= truth.y[at] <= curve.band_high[at]
    assert hits >= 54


def test_curves_need_both_kinds_of_images():
    predictions = simulate()
    with pytest.raises(DataError, match="both needed"):
        roc_curve(Scorer(predictions.take(predictions.labels == 0)), ["b"])


@pytest.mark.parametrize("wanted", [0.5, 0.9, 0.95, 0.999, 1.0])
@pytest.mark.parametrize("digits", [1, 8])
def test_operating_point_reaches_the_sensitivity_with_the_highest_threshold(wanted, digits):
    validation = simulate(5, classes=4, digits=digits)
    point = operating_point(validation, ["b", "c"], wanted)
    applied = collapse(validation, ["b", "c"], point.threshold)
    sensitivity = find_metric("recall:positive", applied.classes)(applied)
    assert sensitivity == pytest.approx(point.sensitivity)
    assert sensitivity >= wanted
    assert find_metric("specificity:positive", applied.classes)(applied) == pytest.approx(point.specificity)
    scores = applied.probabilities[:, 1]
    higher = scores[scores > point.threshold].min() + 1e-12  # the next threshold that changes a call
    assert find_metric("recall:positive", applied.classes)(collapse(validation, ["b", "c"], higher)) < wanted


def test_operating_point_is_not_moved_by_rounding():
    validation = simulate(6)
    point = operating_point(validation, ["b"], 0.9)
    rounded = validation.probabilities[:, 1].astype(np.float32) >= np.float32(point.threshold)
    assert rounded[validation.labels == 1].mean() == point.sensitivity


def test_operating_point_refuses_what_cannot_be():
    with pytest.raises(SettingsError, match="sensitivity"):
        operating_point(simulate(), ["b"], 95)


def calibrated(seed: int, count: int, power: float = 1.0) -> Predictions:
    """Two classes; right with the stated probability, which is then sharpened by ``power``."""
    rng = np.random.default_rng(seed)
    stated = rng.uniform(0.5, 1, count)
    labels = (rng.random(count) > stated).astype(int)
    odds = (stated / (1 - stated)) ** power
    probabilities = np.stack([odds / (1 + odds), 1 / (1 + odds)], axis=1)
    names = np.arange(count).astype(str)
    return Predictions(names, names, (np.arange(count) // 50).astype(str), labels, probabilities, ("a", "b"))


def test_reliability_bins_hold_every_image():
    predictions = simulate(7, classes=4)
    bins = reliability(Scorer(predictions, resamples=100), 10)
    sure = predictions.probabilities.max(axis=1)
    assert bins.counts.sum() == len(predictions)
    expected = 0.0
    for index in range(10):
        inside = (sure > index / 10) & (sure <= (index + 1) / 10)
        assert bins.counts[index] == inside.sum()
        if inside.any():
            right = (predictions.labels == predictions.decisions)[inside]
            assert bins.accuracies[index] == pytest.approx(right.mean())
            assert bins.confidences[index] == pytest.approx(sure[inside].mean())
            expected += inside.mean() * abs(right.mean() - sure[inside].mean())
        else:
            assert np.isnan(bins.accuracies[index])
    assert bins.error == pytest.approx(expected)


def test_calibrated_probabilities_have_no_more_error_than_noise():
    honest = reliability(Scorer(calibrated(0, 20_000)))
    assert honest.error < 0.02
    assert honest.error < 2 * honest.noise_floor
    assert honest.error_low < 0.005
    sharpened = reliability(Scorer(calibrated(0, 20_000, power=3.0)))
    assert sharpened.error > 0.1
    assert sharpened.error_low < sharpened.error < sharpened.error_high
    assert sharpened.error > 10 * sharpened.noise_floor


def test_selective_accuracy_rises_where_confidence_means_something():
    predictions = calibrated(1, 5000)
    curve = selective_accuracy(Scorer(predictions, resamples=200), [0.0, 0.1, 0.5])
    assert curve.y[0] == METRICS["accuracy"](predictions)
    order = np.argsort(predictions.probabilities.max(axis=1), kind="stable")
    kept = order[2500:]
    assert curve.y[2] == pytest.approx((predictions.labels == predictions.decisions)[kept].mean())
    assert curve.y[0] < curve.y[1] < curve.y[2]
    assert (curve.band_low < curve.y).all()
    assert (curve.y < curve.band_high).all()
    with pytest.raises(SettingsError, match="refer"):
        selective_accuracy(Scorer(predictions), [0.5, 1.0])
