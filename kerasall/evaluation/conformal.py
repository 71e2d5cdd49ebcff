"""Prediction sets: the classes that cannot be ruled out, calibrated patient by patient.

A class is in the set of an image where its probability is at least a threshold t. With s_i = 1 - p_i of
the true class of validation image i, in one of K groups of N_k images, t = 1 - q and

    q = least s with  sum_k 1 / (K + 1) * share of group k with s_i <= s  >=  coverage:

each group counts alike, and a group not yet seen counts as one that no threshold satisfies. An image of
a new group, exchangeable with the others, then has its true class in its set with at least that
probability: hierarchical conformal prediction (Lee, Barber and Willett, arXiv:2306.06342) with the score
of Sadinle, Lei and Wasserman (J. Am. Stat. Assoc. 114:223, 2019). Fewer than coverage / (1 - coverage)
groups cannot give it; then the unseen group is left out (pooled distribution functions, Dunn, Wasserman
and Ramdas, J. Am. Stat. Assoc. 118:2491, 2023), and the record says that nothing is guaranteed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasall.errors import ArtifactError, DataError, SettingsError
from kerasall.evaluation.predictions import JsonFields, Predictions
from kerasall.evaluation.resampling import group_names

SURE_ENOUGH = 0.99
"""No threshold is higher: a larger set covers no less, and float32 tells such probabilities apart badly."""

_SLACK = 1e-6
"""By how much a threshold lies below the probability that set it, so that rounding drops no class."""


@dataclass(frozen=True)
class PredictionSets(JsonFields):
    """What decides which classes are in the set of an image.

    Attributes:
        coverage: stated share of images whose set holds the true class.
        threshold: least calibrated probability of a class in the set.
        groups: groups it was calibrated on.
        guaranteed: whether there were enough groups for the stated coverage to hold by construction.
    """

    coverage: float
    threshold: float
    groups: int
    guaranteed: bool

    def contains(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes are in the sets, bool [..., C], of calibrated probabilities [..., C]."""
        return np.asarray(probabilities) >= self.threshold

    @staticmethod
    def from_json(value: dict[str, Any]) -> PredictionSets:
        """Reads what ``to_json`` gave.

        Raises:
            ArtifactError: fields are missing or unknown.
        """
        try:
            return PredictionSets(**value)
        except TypeError as error:
            raise ArtifactError(
                f"stored prediction sets must have the fields of PredictionSets: {error}"
            ) from None


def fit_prediction_sets(calibrated: Predictions, coverage: float = 0.95) -> PredictionSets:
    """Finds the threshold on predictions that are not the test's.

    Args:
        calibrated: N images with calibrated probabilities, their groups known (an image without one is a
            group of its own).
        coverage: wanted share of images whose set holds the true class, in (0, 1).

    Raises:
        DataError: no images.
        SettingsError: the coverage is out of range.
    """
    if not 0 < coverage < 1:
        raise SettingsError(f"a wanted coverage must lie between 0 and 1, but is {coverage}")
    if len(calibrated) == 0:
        raise DataError("prediction sets need validation images, but there are none")
    scores = 1 - calibrated.probabilities[np.arange(len(calibrated)), calibrated.labels]
    names = group_names(calibrated)
    groups = len(np.unique(names))
    guaranteed = groups / (groups + 1) >= coverage - 1e-12
    bound = group_quantile(scores, names, coverage, unseen_group=guaranteed)
    threshold = float(np.clip(min(1 - bound, SURE_ENOUGH) - _SLACK, 0, 1))
    return PredictionSets(float(coverage), threshold, groups, bool(guaranteed))


def group_quantile(values: np.ndarray, groups: np.ndarray, share: float, *, unseen_group: bool) -> float:
    """Least value below or at which the share of images, each group counting alike, is at least ``share``.

    Args:
        values: float [N].
        groups: name of each value's group [N].
        share: wanted, in (0, 1].
        unseen_group: whether one more group counts, which lies above every value.

    Returns:
        One of the values, or infinity where the unseen group alone weighs more than 1 - share.

    >>> group_quantile(np.array([1.0, 2, 3, 4]), np.array(["a", "a", "a", "b"]), 0.5, unseen_group=False)
    3.0
    >>> group_quantile(np.array([1.0, 2, 3, 4]), np.array(["a", "a", "a", "b"]), 0.5, unseen_group=True)
    4.0
    """
    _, rows, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    weights = 1 / ((len(sizes) + unseen_group) * sizes[rows])
    reached = np.cumsum(weights[order]) >= share - 1e-12
    return float(np.asarray(values)[order][reached.argmax()]) if reached.any() else float("inf")
