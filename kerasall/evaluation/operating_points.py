"""Thresholds chosen on validation images, and many classes seen as two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.cross_fitting import cross_fit
from kerasall.evaluation.intervals import Interval, group_intervals
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
