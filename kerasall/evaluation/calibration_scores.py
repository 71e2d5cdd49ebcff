"""How far probabilities can be believed before and after calibration, on images that did not fit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kerasall.evaluation.calibration import Calibration
from kerasall.evaluation.intervals import Interval, group_intervals
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.reliability import Reliability, reliability

PROPER = ("brier", "log_loss")
"""Scores that only honest probabilities make best."""


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


def believe(predictions: Predictions, *, bins: int = 15, resamples: int = 2000, seed: int = 0) -> Believed:
    """Measures the calibration of ``predictions``.

    Args:
        predictions: N images; the probability of the decided class is compared with how often it is right.
        bins: of equal width.
        resamples, seed: of the intervals.
    """
    found = reliability(predictions, bins, resamples=resamples, seed=seed)
    return Believed(found, group_intervals(predictions, PROPER, resamples=resamples, seed=seed))


def score_calibration(
    raw: Predictions,
    calibrated: Predictions,
    calibration: Calibration,
    fitted_on: str,
    *,
    cross_fitted: bool,
    resamples: int = 2000,
    seed: int = 0,
) -> CalibrationScores:
    """Compares calibrated probabilities with the model's own, of the same images.

    Args:
        raw: the model's own probabilities.
        calibrated: the same images and decisions, calibrated by images that are not themselves.
        calibration: what the exported model applies.
        fitted_on: what that was fitted to.
        cross_fitted: see ``CalibrationScores``.
        resamples, seed: of the intervals.
    """
    before, after = (believe(each, resamples=resamples, seed=seed) for each in (raw, calibrated))
    return CalibrationScores(calibration, fitted_on, cross_fitted, before, after)
