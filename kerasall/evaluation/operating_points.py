"""Thresholds chosen on validation images, and many classes seen as two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from kerasall.errors import DataError, SettingsError
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
