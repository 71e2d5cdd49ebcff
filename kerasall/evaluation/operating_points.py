"""Thresholds chosen on validation images, and many classes seen as two.

What a threshold is worth: net benefit of calling cells malignant (Vickers and Elkin 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.cross_fitting import cross_fit
from kerasall.evaluation.intervals import Interval, group_intervals, mean_interval
from kerasall.evaluation.metrics import malignant_mask
from kerasall.evaluation.predictions import Predictions

NEGATIVE, POSITIVE = "negative", "positive"


def positive_scores(predictions: Predictions, positive: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Summed probability of the classes ``positive``, float [N], and which images are of them, bool [N].

    Raises:
        DataError: all images or none are of these classes.
        SettingsError: a name is not a class.
    """
    mask = malignant_mask(predictions.classes, positive)
    truth = mask[predictions.labels]
    if truth.all() or not truth.any():
        raise DataError(
            f"images of {list(positive)} and of other classes are both needed, but {int(truth.sum())} of "
            f"{len(truth)} are of them"
        )
    return predictions.probabilities[:, mask].sum(axis=1), truth


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it does on the images it was chosen on.

    Attributes:
        threshold: an image whose summed positive probability is at least this is called positive.
        sensitivity: share of positive images called so.
        specificity: share of other images not called so.
    """

    threshold: float
    sensitivity: float
    specificity: float


def operating_point(validation: Predictions, positive: Sequence[str], sensitivity: float) -> OperatingPoint:
    """The highest threshold that reaches a wanted sensitivity on validation images.

    It lies half-way between the last score that must be called and the next lower one, so that rounding
    cannot turn a call around. Report it on test images through ``collapse``.

    Args:
        validation: predictions that are not the test's.
        positive: the classes to find, for example the malignant ones.
        sensitivity: wanted share of them, in (0, 1].

    Raises:
        SettingsError: the wanted sensitivity is out of range.
        DataError: the images are all positive or all not.
    """
    if not 0 < sensitivity <= 1:
        raise SettingsError(f"a wanted sensitivity must be above 0 and at most 1, but is {sensitivity}")
    scores, truth = positive_scores(validation, positive)
    needed = ceil(sensitivity * truth.sum() - 1e-9)
    lowest = np.sort(scores[truth])[::-1][needed - 1]
    below = scores[scores < lowest]
    threshold = (lowest + below.max()) / 2 if len(below) else lowest / 2
    called = scores >= threshold
    return OperatingPoint(float(threshold), float(called[truth].mean()), float(1 - called[~truth].mean()))


def collapse(predictions: Predictions, positive: Sequence[str], threshold: float) -> Predictions:
    """The same images as two classes, "negative" and "positive", decided at ``threshold``.

    All metrics and intervals apply: "recall:positive" is the sensitivity.
    """
    mask = malignant_mask(predictions.classes, positive)
    scores = np.clip(predictions.probabilities[:, mask].sum(axis=1), 0, 1)
    return Predictions(
        ids=predictions.ids,
        subjects=predictions.subjects,
        groups=predictions.groups,
        labels=mask[predictions.labels].astype(np.int64),
        probabilities=np.stack([1 - scores, scores], axis=1),
        classes=(NEGATIVE, POSITIVE),
        decisions=(scores >= threshold).astype(np.int64),
    )


@dataclass(frozen=True)
class ScoredPoint:
    """A wanted sensitivity and what was reached on images that did not choose the threshold.

    Attributes:
        wanted: sensitivity that was asked for.
        threshold: of the exported model, on calibrated probabilities.
        sensitivity: share of positive images called so.
        specificity: share of other images not called so.
        precision: share of called images that are positive.
        missed: positive images not called.
        false_alarms: other images called.
        positives: positive images.
        others: other images.
    """

    wanted: float
    threshold: float
    sensitivity: Interval
    specificity: Interval
    precision: Interval
    missed: int
    false_alarms: int
    positives: int
    others: int

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            name: value.to_json() if isinstance(value, Interval) else value
            for name, value in vars(self).items()
        }


_READ = ("recall:positive", "specificity:positive", "precision:positive")


def score_point(
    called: Predictions, wanted: float, threshold: float, *, resamples: int = 2000, seed: int = 0
) -> ScoredPoint:
    """Scores decisions at a threshold, from ``collapse`` or ``cross_collapse``.

    Args:
        called: N images, negative and positive.
        wanted: sensitivity that was asked for.
        threshold: of the exported model, to be told.
        resamples, seed: of the intervals.
    """
    found = group_intervals(called, _READ, resamples=resamples, seed=seed)
    positive, decided = called.labels == 1, called.decisions == 1
    return ScoredPoint(
        wanted,
        threshold,
        sensitivity=found["recall:positive"],
        specificity=found["specificity:positive"],
        precision=found["precision:positive"],
        missed=int((positive & ~decided).sum()),
        false_alarms=int((decided & ~positive).sum()),
        positives=int(positive.sum()),
        others=int((~positive).sum()),
    )


def cross_collapse(
    raw: Predictions, positive: Sequence[str], sensitivity: float, parts: np.ndarray, *, biases: bool = False
) -> Predictions:
    """Negative and positive decisions, each image's threshold chosen on the other parts alone.

    Calibration and threshold are both fitted without the part that they are applied to.

    Args:
        raw: N images with the model's own probabilities.
        positive: the classes to find.
        sensitivity: wanted.
        parts: number of each image's part, int [N].
        biases: whether calibration has biases.
    """
    mask = malignant_mask(raw.classes, positive)

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        fitting = raw.take(others)
        calibration = fit_calibration(fitting, biases=biases)
        point = operating_point(calibration.apply_to(fitting), positive, sensitivity)
        scores = calibration.apply(raw.probabilities[inside])[:, mask].sum(axis=1)
        return np.stack([np.clip(scores, 0, 1), scores >= point.threshold], axis=1)

    answers = cross_fit(parts, answer)
    called = collapse(raw, positive, 0.5)
    return Predictions(
        ids=called.ids,
        subjects=called.subjects,
        groups=called.groups,
        labels=called.labels,
        probabilities=np.stack([1 - answers[:, 0], answers[:, 0]], axis=1),
        classes=called.classes,
        decisions=answers[:, 1].astype(np.int64),
    )


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
