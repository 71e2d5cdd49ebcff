"""Does a probability of 0.8 mean right in 80% of cases? Bins and the expected calibration error, on images that
did not fit the calibration, before and after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.calibration import Calibration
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import draw_weights

PROPER = ("brier", "log_loss")
"""Scores that only honest probabilities make best."""


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in bins of equal width.

    Attributes:
        confidences: float [B], mean probability of the decided class; NaN in an empty bin.
        accuracies: float [B], share decided rightly; NaN in an empty bin.
        counts: int [B], images.
        error: expected calibration error, sum_b n_b / N |accuracy_b - confidence_b|.
        error_low: lower end of its interval over groups, corrected for the error's upward bias.
        error_high: upper end.
        noise_floor: the error expected of perfectly calibrated probabilities on as many independent images.
    """

    confidences: np.ndarray
    accuracies: np.ndarray
    counts: np.ndarray
    error: float
    error_low: float
    error_high: float
    noise_floor: float


def confidences(predictions: Predictions) -> np.ndarray:
    """Probability of the decided class: float [N]."""
    return predictions.probabilities[np.arange(len(predictions)), predictions.decisions]


def reliability(scorer: Scorer, bins: int = 15) -> Reliability:
    """Calibration of the decided class's probability (Guo et al., ICML 2017, with 15 bins as there).

    Raises:
        DataError: no images.
        SettingsError: no bins.
    """
    predictions = scorer.predictions
    if len(predictions) == 0 or bins < 1:
        kind = DataError if len(predictions) == 0 else SettingsError
        raise kind(
            f"calibration needs images and bins, but there are {len(predictions)} images and {bins} bins"
        )
    sure, right = confidences(predictions), predictions.decisions == predictions.labels
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    gaps = np.bincount(place, weights=right - sure, minlength=bins)
    error = float(np.abs(gaps).sum() / len(sure))
    low, high = _error_interval(scorer, place, right - sure, error, bins)
    rng = np.random.default_rng(scorer.seed)
    noise = [
        np.bincount(place, weights=(rng.random(len(sure)) < sure) - sure, minlength=bins) for _ in range(200)
    ]
    with np.errstate(invalid="ignore"):
        mean_sure, share_right = (
            np.bincount(place, weights=values, minlength=bins) / counts for values in (sure, right)
        )
    noise_floor = float(np.abs(noise).sum() / len(sure) / 200)
    return Reliability(mean_sure, share_right, counts, error, low, high, noise_floor)


def _error_interval(scorer: Scorer, place, gaps, error: float, bins: int) -> tuple[float, float]:
    units = scorer.units
    draws = draw_weights(units, scorer.resamples, scorer.seed, unseen=0)
    sums = np.zeros((len(units.sizes), bins))
    np.add.at(sums, (units.rows, place), gaps)
    errors = np.abs(draws.units @ sums).sum(axis=1) / (draws.units @ units.sizes)
    # Noise adds to absolute gaps, in each draw as much again as in the images themselves.
    bias, (low, high) = errors.mean() - error, scorer.quantile_ends(errors, errors)
    return float(np.clip(low - 2 * bias, 0, error)), float(np.clip(high - 2 * bias, error, 1))


@dataclass(frozen=True, eq=False)
class Believed:
    """Calibration of one set of probabilities.

    Attributes:
        reliability: bins and expected calibration error of the decided class's probability.
        scores: name of ``PROPER`` -> interval.
    """

    reliability: Reliability
    scores: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        found = self.reliability
        error = {"value": found.error, "low": found.error_low, "high": found.error_high}
        return {
            "expected_calibration_error": error
            | {"bins": len(found.counts), "noise_floor": found.noise_floor},
            **{name: interval.to_json() for name, interval in self.scores.items()},
        }


@dataclass(frozen=True, eq=False)
class CalibrationScores:
    """The model's own probabilities and the calibrated ones on the scored images.

    Attributes:
        calibration: what the exported model applies.
        fitted_on: what it was fitted to: validation, out-of-fold or selection predictions.
        cross_fitted: the scored images are those it was fitted to, so that each one's calibrated
            probabilities come from a fit to the other folds.
        before: of the model's own probabilities.
        after: of the calibrated ones.
    """

    calibration: Calibration
    fitted_on: str
    cross_fitted: bool
    before: Believed
    after: Believed

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "temperature": self.calibration.temperature,
            "biases": list(self.calibration.biases),
            "fitted_on": self.fitted_on,
            "fitted_images": self.calibration.images,
            "at_limit": self.calibration.at_limit,
            "refused": self.calibration.refused,
            "cross_fitted": self.cross_fitted,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


def believe(scorer: Scorer, bins: int = 15) -> Believed:
    """Measures how often the decided class is right against its probability, in ``bins`` of equal width."""
    return Believed(reliability(scorer, bins), scorer.intervals(PROPER))


def score_calibration(
    scorer: Scorer, calibrated: Predictions, calibration: Calibration, fitted_on: str, *, cross_fitted: bool
) -> CalibrationScores:
    """Compares calibrated probabilities with the model's own, of the same images.

    Args:
        scorer: of the model's own probabilities.
        calibrated: the same images and decisions, calibrated by images that are not themselves.
        calibration: what the exported model applies.
        fitted_on: what that was fitted to.
        cross_fitted: see ``CalibrationScores``.
    """
    before, after = believe(scorer), believe(scorer.of(calibrated))
    return CalibrationScores(calibration, fitted_on, cross_fitted, before, after)
