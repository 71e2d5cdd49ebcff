"""Intervals of scores that resample groups of images, or say that they could not.

Intervals over groups of shares and means that are no row of the table of metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, floor, sqrt
from typing import Any

import numpy as np
from scipy.special import ndtri

from kerasall.errors import SettingsError
from kerasall.evaluation.metrics import (
    Metric,
    confusion_matrix,
    find_metric,
    malignant_mask,
    undefined_reason,
)
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import Resampler, draw_weights, find_units, group_names

GROUPS = "group bootstrap within classes, with half an unseen group each"

IMAGES = "bootstrap of single images (groups unknown)"

WILSON = "Wilson, on single images (groups unknown)"


FEW_GROUPS = 20

"""Below this number an interval says that it is likely too narrow."""


@dataclass(frozen=True)
class Interval:
    """A score with its interval.

    Attributes:
        value: the score on all images, or None where it is not defined.
        low: lower end, or None.
        high: upper end, or None.
        confidence: nominal coverage, for example 0.95.
        method: ``GROUPS``, ``WILSON`` or ``IMAGES``.
        groups: number of groups resampled; of images where groups are unknown.
        note: what a reader must know, or "".
    """

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    method: str
    groups: int
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return asdict(self)


def group_interval(
    predictions: Predictions,
    metric: str,
    malignant: Sequence[str] = (),
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The interval of one metric; see ``group_intervals``."""
    options = {"confidence": confidence, "resamples": resamples, "seed": seed}
    return group_intervals(predictions, [metric], malignant, **options)[metric]


def group_intervals(
    predictions: Predictions,
    metrics: Sequence[str],
    malignant: Sequence[str] = (),
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of several metrics from the same draws of whole groups, stratified by class.

    The ends lie within the metric's range and on both sides of the value. Where no group is known the
    images are resampled one by one, or Wilson's interval is used for plain proportions; the method and
    the note say so, since such an interval is far too narrow when patients differ.

    Args:
        predictions: N images.
        metrics: names of ``METRICS``, or scores of one class such as "recall:ALL".
        malignant: names of the malignant classes.
        confidence: nominal coverage, in (0, 1).
        resamples: number of draws, at least 100.
        seed: of the draws; the same seed gives the same interval, whatever the order of the images.

    Returns:
        Name -> interval, in the order of ``metrics``.

    Raises:
        SettingsError: an unknown metric or class, or a confidence or number of draws out of range.
    """
    if not 0 < confidence < 1 or resamples < 100:
        raise SettingsError(
            f"an interval needs 0 < confidence < 1 and at least 100 resamples, but got {confidence} and {resamples}"
        )
    rows = {name: find_metric(name, predictions.classes) for name in metrics}
    malignant_mask(predictions.classes, malignant)
    if len(predictions) == 0:
        empty = Interval(None, None, None, confidence, GROUPS, 0, "there are no images")
        return dict.fromkeys(rows, empty)
    units = find_units(predictions)
    resampler = Resampler(predictions, units, draw_weights(units, resamples, seed), malignant)
    maker = _Maker(resampler, tuple(malignant), confidence, groups_known(predictions))
    return {name: maker.make(metric) for name, metric in rows.items()}


def groups_known(predictions: Predictions) -> bool:
    """False where no subject is named and every image is a group of its own."""
    names = group_names(predictions)
    return bool((predictions.subjects != "").any()) or len(np.unique(names)) < len(names)


def wilson_interval(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion of independent trials.

    Source: Wilson, J. Am. Stat. Assoc. 22:209, 1927.

    >>> low, high = wilson_interval(31, 32)
    >>> round(low, 3), round(high, 3)
    (0.843, 0.994)
    """
    z = float(ndtri(0.5 + confidence / 2))
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    # Rounding must not push an end past the share itself where all or no trial succeeds.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


@dataclass(frozen=True)
class _Maker:
    """What the intervals of one record have in common."""

    resampler: Resampler
    malignant: tuple[str, ...]
    confidence: float
    known: bool

    @property
    def predictions(self) -> Predictions:
        return self.resampler.predictions

    def make(self, metric: Metric) -> Interval:
        reason = undefined_reason(metric, self.predictions, self.malignant)
        if reason:
            return self._record(None, None, None, self.method(metric), f"not defined: {reason}")
        if metric.name == "malignant_called_benign":
            return self._missed_count()
        value, low, high = self._ends(metric)
        return self._record(value, low, high, self.method(metric), self._note(metric, value))

    def _ends(self, metric: Metric) -> tuple[float, float, float]:
        value = metric(self.predictions, self.malignant)
        if metric.trials is not None and not self.known:
            matrix = confusion_matrix(self.predictions).astype(float)
            trials = float(metric.trials(matrix, self.resampler.malignant))
            low, high = wilson_interval(value * trials, trials, self.confidence)
        else:
            lows, highs = self.resampler.score(metric)
            tail = (1 - self.confidence) / 2
            low, high = float(np.quantile(lows, tail)), float(np.quantile(highs, 1 - tail))
        return value, max(metric.lowest, min(low, value)), min(metric.highest, max(high, value))

    def method(self, metric: Metric) -> str:
        if self.known:
            return GROUPS
        return WILSON if metric.trials is not None else IMAGES

    def _record(self, value, low, high, method: str, note: str) -> Interval:
        return Interval(value, low, high, self.confidence, method, self.resampler.units.groups, note)

    def _missed_count(self) -> Interval:
        """The count's interval is the sensitivity's, told in images."""
        sensitivity = find_metric("malignant_sensitivity", self.predictions.classes)
        images = int(self.resampler.malignant[self.predictions.labels].sum())
        # Rounded first, so that 1 - 0.9 is no tenth and a bit.
        value, high, low = (round(images * (1 - end), 6) for end in self._ends(sensitivity))
        note = self._note(sensitivity, 1 - value / images)
        return self._record(
            float(round(value)), float(floor(low)), float(ceil(high)), self.method(sensitivity), note
        )

    def _note(self, metric: Metric, value: float) -> str:
        if not self.known:
            return "groups are unknown: images of one patient count as independent, the interval is likely too narrow"
        notes = []
        if self.resampler.units.groups < FEW_GROUPS:
            notes.append(f"fewer than {FEW_GROUPS} groups: the interval is likely too narrow")
        alone = self.resampler.units.classes[self.resampler.units.group_counts == 1]
        if len(alone):
            names = ", ".join(np.asarray(self.predictions.classes)[alone])
            notes.append(f"only one group of {names}: how much such groups differ is unknown")
        if not (self.predictions.subjects != "").any():
            notes.append("no patient is named: one patient's images may stand in several groups")
        perfect = metric.highest if metric.direction == "higher" else metric.lowest
        if value == perfect:
            notes.append("no group has a fault: the other end is what an unseen group could do")
        return "; ".join(notes)


def share_interval(
    predictions: Predictions, mask: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Share of images with ``mask``, with its 95% interval.

    Args:
        predictions: N images, for their groups and classes.
        mask: bool [N].
        resamples, seed: of the interval.
    """
    # The share of right decisions, had these images and no others been decided rightly.
    labels, classes = predictions.labels, len(predictions.classes)
    decisions = np.where(mask, labels, (labels + 1) % classes)
    asked = replace(predictions, decisions=decisions)
    return group_interval(asked, "accuracy", resamples=resamples, seed=seed)


def mean_interval(
    predictions: Predictions,
    values: np.ndarray,
    lowest: float,
    highest: float,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of ``values`` over the images, with its interval.

    Args:
        predictions: N images, at least one, for their groups and classes.
        values: float [N].
        lowest, highest: limits of what a value can be.
        confidence: nominal coverage.
        resamples, seed: of the draws of groups.
    """
    metric = Metric("mean", "Mean", "", lowest=lowest, highest=highest, losses=lambda _: values)
    units = find_units(predictions)
    lows, highs = Resampler(predictions, units, draw_weights(units, resamples, seed)).score(metric)
    value, tail = float(np.mean(values)), (1 - confidence) / 2
    low, high = float(np.quantile(lows, tail)), float(np.quantile(highs, 1 - tail))
    method = GROUPS if groups_known(predictions) else IMAGES
    return Interval(value, min(low, value), max(high, value), confidence, method, units.groups)
