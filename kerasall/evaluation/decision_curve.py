"""What a threshold is worth: net benefit of calling cells malignant (Vickers and Elkin 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasall.errors import SettingsError
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.operating_points import positive_scores
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.share_intervals import mean_interval

THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""From "one missed cell is as bad as 99 false alarms" to "as bad as one"."""


@dataclass(frozen=True)
class NetBenefit:
    """Calling all images positive whose probability is at least ``threshold``.

    Attributes:
        threshold: p_t; a miss counts (1 - p_t) / p_t false alarms.
        model: TP / N - FP / N * p_t / (1 - p_t), in true positives per image.
        all_called: the same when every image is called positive; calling none gives 0.
        called: share of images called.
        missed: positive images not called.
        false_alarms: other images called.
    """

    threshold: float
    model: Interval
    all_called: float
    called: float
    missed: int
    false_alarms: int

    @property
    def false_alarms_per_miss(self) -> float:
        """How many false alarms one miss is worth at this threshold."""
        return (1 - self.threshold) / self.threshold

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {**vars(self), "model": self.model.to_json()}


def decision_curve(
    calibrated: Predictions,
    positive: Sequence[str],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> list[NetBenefit]:
    """Net benefit at each threshold, with its interval over groups.

    Source: Vickers and Elkin, Med. Decis. Making 26:565, 2006.

    Args:
        calibrated: N images with probabilities that mean what they say.
        positive: the classes to find.
        thresholds: in (0, 1).
        resamples, seed: of the intervals.

    Raises:
        SettingsError: a threshold out of range.
        DataError: the images are all positive or all not.
    """
    if not all(0 < threshold < 1 for threshold in thresholds):
        raise SettingsError(f"thresholds must lie between 0 and 1, but are {list(thresholds)}")
    scores, truth = positive_scores(calibrated, positive)
    return [_at(calibrated, scores, truth, threshold, resamples, seed) for threshold in thresholds]


def _at(
    calibrated: Predictions,
    scores: np.ndarray,
    truth: np.ndarray,
    threshold: float,
    resamples: int,
    seed: int,
) -> NetBenefit:
    called, price = scores >= threshold, threshold / (1 - threshold)
    values = np.where(called, np.where(truth, 1.0, -price), 0.0)
    everyone = float(np.where(truth, 1.0, -price).mean())
    model = mean_interval(calibrated, values, -price, 1.0, resamples=resamples, seed=seed)
    missed, alarms = int((truth & ~called).sum()), int((called & ~truth).sum())
    return NetBenefit(float(threshold), model, everyone, float(called.mean()), missed, alarms)
