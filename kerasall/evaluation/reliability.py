"""Does a probability of 0.8 mean right in 80% of cases? Bins and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import draw_weights, find_units


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


def reliability(
    predictions: Predictions,
    bins: int = 15,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Reliability:
    """Calibration of the decided class's probability (Guo et al., ICML 2017, with 15 bins as there).

    Raises:
        DataError: no images.
        SettingsError: no bins.
    """
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
    low, high = _error_interval(predictions, place, right - sure, error, bins, confidence, resamples, seed)
    rng = np.random.default_rng(seed)
    noise = [
        np.bincount(place, weights=(rng.random(len(sure)) < sure) - sure, minlength=bins) for _ in range(200)
    ]
    with np.errstate(invalid="ignore"):
        mean_sure, share_right = (
            np.bincount(place, weights=values, minlength=bins) / counts for values in (sure, right)
        )
    return Reliability(
        mean_sure, share_right, counts, error, low, high, float(np.abs(noise).sum() / len(sure) / 200)
    )


def _error_interval(
    predictions, place, gaps, error, bins, confidence, resamples, seed
) -> tuple[float, float]:
    units = find_units(predictions)
    draws = draw_weights(units, resamples, seed, unseen=0)
    sums = np.zeros((len(units.sizes), bins))
    np.add.at(sums, (units.rows, place), gaps)
    errors = np.abs(draws.units @ sums).sum(axis=1) / (draws.units @ units.sizes)
    # Noise adds to absolute gaps, in each draw as much again as in the images themselves.
    bias, tail = errors.mean() - error, (1 - confidence) / 2
    low, high = np.quantile(errors, [tail, 1 - tail]) - 2 * bias
    return float(np.clip(low, 0, error)), float(np.clip(high, error, 1))
