"""Scores with intervals that resample groups of images, or say that they could not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, floor, sqrt

import numpy as np
from scipy.special import ndtri

from kerasall.errors import SettingsError, count_of
from kerasall.evaluation.confusion_scores import PER_CLASS
from kerasall.evaluation.metrics import (
    Metric,
    confusion_matrix,
    find_metric,
    malignant_mask,
    undefined_reason,
)
from kerasall.evaluation.predictions import UNNAMED, JsonFields, Predictions
from kerasall.evaluation.resampling import (
    MOST_UNITS,
    UNSEEN,
    Draws,
    Resampler,
    Units,
    draw_weights,
    find_units,
)

GROUPS = "group bootstrap within classes, with half an unseen group at its worst and its best"
IMAGES = "bootstrap of single images (groups unknown)"
WILSON = "Wilson, on single images (groups unknown)"

RESAMPLES = 10_000
"""Draws by default: with 2,000 an end moves by 0.003 from seed to seed, and reports show a tenth of a percent."""

FEW_GROUPS = 20
"""Below this number in its denominator an interval says that it is rough."""


@dataclass(frozen=True)
class Interval(JsonFields):
    """A score with its interval.

    Attributes:
        value: the score on all images, or None where it is not defined.
        low: lower end, or None.
        high: upper end, or None.
        confidence: nominal coverage, for example 0.95.
        method: ``GROUPS``, ``WILSON`` or ``IMAGES``.
        groups: number of groups with images in the score's denominator; of images where groups are unknown.
        note: what a reader must know, or "".
    """

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    method: str
    groups: int
    note: str = ""

    @property
    def over(self) -> str:
        """What the interval is over, such as ``33 groups``; single images where groups are unknown."""
        return count_of(self.groups, "image" if "single images" in self.method else "group")


@dataclass(frozen=True, eq=False)
class Scorer:
    """Predictions to be scored, and how: bound once, then asked for scores with their intervals.

    All intervals come from the same draws of whole groups, stratified by class. Where no group is known the
    images are resampled one by one, or Wilson's interval is used for plain proportions; the method and
    the note say so, since such an interval is far too narrow when patients differ.

    Attributes:
        predictions: N images.
        malignant: names of the malignant classes.
        resamples: number of draws, at least 100.
        seed: of the draws; the same seed gives the same interval, whatever the order of the images.
        confidence: nominal coverage of the intervals, in (0, 1).
        graded: the same images with the probabilities that curves and areas are computed from, where they
            are not those of ``predictions``: vote shares take few values and order images badly.
        blocks: whether what stands as subjects is no patients but blocks of consecutive file numbers.

    Raises:
        SettingsError: a malignant name is no class, or a confidence or number of draws is out of range.

    >>> labels, names = [0, 0, 0, 1, 1, 1], list("abcdef")
    >>> record = Predictions(names, names, names, labels, np.eye(2)[[0, 0, 1, 1, 1, 1]], ("ALL", "HEM"))
    >>> found = Scorer(record, ["ALL"], seed=1).interval("malignant_sensitivity")
    >>> round(found.value, 3), found.groups
    (0.667, 6)
    """

    predictions: Predictions
    malignant: Sequence[str] = ()
    resamples: int = RESAMPLES
    seed: int = 0
    confidence: float = 0.95
    graded: Predictions | None = None
    blocks: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1 or self.resamples < 100:
            raise SettingsError(
                "an interval needs 0 < confidence < 1 and at least 100 resamples, but got "
                f"{self.confidence} and {self.resamples}"
            )
        malignant_mask(self.predictions.classes, self.malignant)

    def of(self, predictions: Predictions) -> Scorer:
        """The same for other predictions; names of malignant classes mean nothing over other classes."""
        malignant = self.malignant if predictions.classes == self.predictions.classes else ()
        return replace(self, predictions=predictions, malignant=malignant, graded=None)

    def behind(self, metric: Metric) -> Scorer:
        """The scorer of the record that a metric reads: of decisions, or of graded probabilities."""
        return self._of_graded if metric.needs_probabilities else self

    @cached_property
    def _of_graded(self) -> Scorer:
        return self if self.graded is None or self.graded is self.predictions else self.of(self.graded)

    @cached_property
    def units(self) -> Units:
        """What is resampled."""
        return find_units(self.predictions)

    @cached_property
    def draws(self) -> Draws:
        """The random weights behind every interval."""
        return self.draws_shared(1)

    def draws_shared(self, strata: int) -> Draws:
        """The same where so many strata share one unseen group."""
        return draw_weights(self.units, self.resamples, self.seed, UNSEEN / strata)

    @cached_property
    def resampler(self) -> Resampler:
        """Scores under the draws."""
        return Resampler(self.predictions, self.units, self.draws, self.malignant, self.draws_shared)

    @cached_property
    def groups_known(self) -> bool:
        """False where no subject is named and every image is a group of its own."""
        return groups_known(self.predictions)

    def value(self, metric: Metric) -> float | None:
        """The metric on all images; None where it is not defined."""
        value = metric(self.predictions, self.malignant)
        return None if np.isnan(value) else value

    def interval(self, metric: str) -> Interval:
        """The interval of one metric; see ``intervals``."""
        return self.intervals([metric])[metric]

    def interval_of(self, metric: Metric) -> Interval:
        """The interval of a metric that has no name in ``METRICS``, of at least one image."""
        return self.behind(metric)._interval(metric)

    def intervals(self, metrics: Sequence[str]) -> dict[str, Interval]:
        """Intervals of several metrics, in their order.

        The ends lie within the metric's range and on both sides of the value.

        Args:
            metrics: names of ``METRICS``, or scores of one class such as "recall:ALL".

        Raises:
            SettingsError: an unknown metric or class.
        """
        rows = {name: find_metric(name, self.predictions.classes) for name in metrics}
        if len(self.predictions) == 0:
            empty = Interval(None, None, None, self.confidence, GROUPS, 0, "there are no images")
            return dict.fromkeys(rows, empty)
        return {name: self.behind(row)._interval(row) for name, row in rows.items()}

    def distance_from(self, other: Scorer, name: str) -> Interval:
        """How far a metric lies above that of ``other`` on other images, whose groups are drawn independently.

        Each end sets one record's unseen groups at their worst against the other's at their best. There is no interval
        where a group has images in both, for then the two scores move together.

        Raises:
            SettingsError: an unknown metric or class.
        """
        metric = find_metric(name, self.predictions.classes)
        # Another seed: with the same one, records of as many groups would be drawn alike.
        here, there = self.behind(metric), replace(other, seed=other.seed + 1).behind(metric)
        ours, theirs = here.value(metric), there.value(metric)
        method = IMAGES if not (here.groups_known and there.groups_known) else GROUPS
        record = Interval(None, None, None, self.confidence, method, here.units.groups + there.units.groups)
        if ours is None or theirs is None:
            return replace(record, note="one of the scores is not defined")
        record = replace(record, value=ours - theirs)
        if set(here.predictions.group_names) & set(there.predictions.group_names):
            return replace(record, note="some groups have images among both: no interval")
        (our_lows, our_highs), (their_lows, their_highs) = (
            each.resampler.score(metric) for each in (here, there)
        )
        low, high = self.quantile_ends(our_lows - their_highs, our_highs - their_lows)
        return replace(record, low=min(float(low), ours - theirs), high=max(float(high), ours - theirs))

    def by_class(self) -> dict[str, dict[str, Interval]]:
        """Each class against the rest: class -> score of ``PER_CLASS`` -> its interval."""
        classes = self.predictions.classes
        found = self.intervals([f"{kind}:{name}" for name in classes for kind in PER_CLASS])
        return {name: {kind: found[f"{kind}:{name}"] for kind in PER_CLASS} for name in classes}

    def share(self, mask: np.ndarray) -> Interval:
        """Share of images with ``mask``, bool [N]."""
        # The share of right decisions, had these images and no others been decided rightly.
        labels, classes = self.predictions.labels, len(self.predictions.classes)
        decisions = np.where(mask, labels, (labels + 1) % classes)
        return self.of(replace(self.predictions, decisions=decisions)).interval("accuracy")

    def mean(self, values: np.ndarray, lowest: float | np.ndarray, highest: float | np.ndarray) -> Interval:
        """Mean of ``values`` over the images, at least one.

        Args:
            values: float [N].
            lowest, highest: limits of what the value of each image can be, or float [N] of them.
        """
        lowest, highest = (np.broadcast_to(each, np.shape(values)) for each in (lowest, highest))
        metric = Metric("mean", "Mean", "", losses=lambda _: values, limits=lambda _: (lowest, highest))
        value, (low, high) = float(np.mean(values)), self._quantiles(metric)
        method = GROUPS if self.groups_known else IMAGES
        return Interval(value, min(low, value), max(high, value), self.confidence, method, self.units.groups)

    def quantile_ends(self, lows: np.ndarray, highs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ends of intervals [...] from scores under the draws [B, ...], at the low and at the high end."""
        tail = (1 - self.confidence) / 2
        return np.quantile(lows, tail, axis=0), np.quantile(highs, 1 - tail, axis=0)

    def _quantiles(self, metric: Metric) -> tuple[float, float]:
        low, high = self.quantile_ends(*self.resampler.score(metric))
        return float(low), float(high)

    def _interval(self, metric: Metric) -> Interval:
        if reason := undefined_reason(metric, self.predictions, self.malignant):
            return self._record(metric, None, None, None, f"not defined: {reason}")
        if metric.name == "malignant_called_benign":
            return self._missed_count()
        value, low, high = self._ends(metric)
        return self._record(metric, value, low, high, self._note(metric, value))

    def _ends(self, metric: Metric) -> tuple[float, float, float]:
        value = metric(self.predictions, self.malignant)
        if metric.trials is not None and not self.groups_known:
            matrix = confusion_matrix(self.predictions).astype(float)
            trials = float(metric.trials(matrix, self.resampler.malignant))
            low, high = wilson_interval(value * trials, trials, self.confidence)
        else:
            low, high = self._quantiles(metric)
        return value, max(metric.lowest, min(low, value)), min(metric.highest, max(high, value))

    def _record(self, metric: Metric, value, low, high, note: str) -> Interval:
        method = GROUPS if self.groups_known else WILSON if metric.trials is not None else IMAGES
        return Interval(value, low, high, self.confidence, method, self.count_groups(metric), note)

    @cached_property
    def _groups(self) -> np.ndarray:
        """bool [G, C, C]: in which cells of the confusion matrix each group has images, before any bundling."""
        classes = len(self.predictions.classes)
        names, rows = np.unique(self.predictions.group_names, return_inverse=True)
        held = np.zeros((len(names), classes, classes), bool)
        held[rows, self.predictions.labels, self.predictions.decisions] = True
        return held

    def _denominator(self, metric: Metric) -> np.ndarray:
        """Cells of the confusion matrix whose images stand in the metric's denominator, bool [C, C]."""
        classes, images = len(self.predictions.classes), metric.trials or metric.counted
        if images is None:
            return np.ones((classes, classes), bool)
        cells = np.eye(classes * classes).reshape(-1, classes, classes)
        return (images(cells, self.resampler.malignant) > 0).reshape(classes, classes)

    def count_groups(self, metric: Metric) -> int:
        """Groups (of unknown ones: images) with images in the metric's denominator."""
        return int((self._groups & self._denominator(metric)).any(axis=(1, 2)).sum())

    def _missed_count(self) -> Interval:
        """The count's interval is the sensitivity's, told in images."""
        sensitivity = find_metric("malignant_sensitivity", self.predictions.classes)
        images = int(self.resampler.malignant[self.predictions.labels].sum())
        # Rounded first, so that 1 - 0.9 is no tenth and a bit.
        value, high, low = (round(images * (1 - end), 6) for end in self._ends(sensitivity))
        note = self._note(sensitivity, 1 - value / images)
        return self._record(sensitivity, float(round(value)), float(floor(low)), float(ceil(high)), note)

    def _note(self, metric: Metric, value: float) -> str:
        if not self.groups_known:
            return "groups are unknown: images of one patient count as independent, the interval is likely too narrow"
        notes = self._count_notes(metric)
        if self.blocks or not (self.predictions.subjects != "").any():
            notes.append("no patient is named: one patient's images may stand in several groups")
        if unnamed := int((self.predictions.groups == UNNAMED).sum()):
            notes.append(
                f"{count_of(unnamed, 'image counts', 'images count')} as one group, as nobody knows whose they are"
            )
        perfect = metric.highest if metric.direction == "higher" else metric.lowest
        if value == perfect:
            notes.append("no group has a fault: the other end is what an unseen group could do")
        return "; ".join(notes)

    def _count_notes(self, metric: Metric) -> list[str]:
        """What is said of the groups in the denominator where they are few; of a mean over classes, of each class."""
        counted, notes = self._denominator(metric), []
        names = np.asarray(self.predictions.classes)
        if counted.all():
            if len(self._groups) < FEW_GROUPS:
                notes.append(f"fewer than {FEW_GROUPS} groups ({len(self._groups)}): the interval is rough")
        elif (groups := self.count_groups(metric)) < FEW_GROUPS:
            sides = {"of": counted.all(axis=1), "called": counted.all(axis=0)}
            of = " or ".join(
                f"{word} {' or '.join(names[side])}" for word, side in sides.items() if side.any()
            )
            notes.append(
                f"only {count_of(groups, 'group has', 'groups have')} images {of}: the interval is rough"
            )
        if metric.trials is None and counted.all() and len(self._groups) >= FEW_GROUPS:
            held = self._groups.any(axis=2).sum(axis=0)
            few = [
                f"{count} of {name}"
                for count, name in zip(held.tolist(), names, strict=True)
                if 0 < count < FEW_GROUPS
            ]
            if few:
                notes.append(f"few groups ({', '.join(few)}): the interval is rough")
        alone = self.units.classes[self.units.group_counts == 1]
        if len(alone := [each for each in alone if counted[each].any()]):
            notes.append(
                f"only one group of {', '.join(names[alone])}: how much such groups differ is unknown"
            )
        return notes


def list_notes(intervals: Iterable[Interval]) -> list[str]:
    """What a reader must know of several intervals, each once."""
    return list(dict.fromkeys(note for each in intervals for note in each.note.split("; ") if note))


def groups_known(predictions: Predictions) -> bool:
    """False where no subject is named and every image is a group of its own."""
    names = predictions.group_names
    return bool((predictions.subjects != "").any()) or len(np.unique(names)) < len(names)


def ratio_interval(
    parts: np.ndarray, wholes: np.ndarray, groups: Sequence[str], confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The ratio of two sums over images, such as intersection over union, with the interval of resampled groups.

    Args:
        parts, wholes: of each image, [N], 0 <= part <= whole.
        groups: name of each image's group.
        confidence: nominal coverage.
        seed: of the draws.

    Returns:
        No value where the wholes sum to 0, no ends where there is but one group.
    """
    names, rows = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    part, whole = (np.bincount(rows, weights=values, minlength=len(names)) for values in (parts, wholes))
    value = float(part.sum() / whole.sum()) if whole.sum() else None
    if value is None or len(names) < 2:
        return Interval(value, None, None, confidence, GROUPS, len(names))
    spread = np.sqrt((whole**2).mean()) / whole.mean()
    one = np.zeros(1, np.int64)
    units = Units(
        rows,
        np.bincount(rows),
        np.zeros(len(names), np.int64),
        one,
        np.array([len(names)]),
        np.array([spread]),
    )
    draws = draw_weights(units, RESAMPLES if len(names) <= MOST_UNITS else RESAMPLES // 5, seed)
    unseen = draws.unseen @ units.of_unseen(whole)
    found, total = draws.units @ part, draws.units @ whole + unseen
    tail = (1 - confidence) / 2
    low, high = np.quantile(found / total, tail), np.quantile((found + unseen) / total, 1 - tail)
    few = f"fewer than {FEW_GROUPS} groups ({len(names)}): the interval is rough"
    note = few if len(names) < FEW_GROUPS else ""
    return Interval(value, float(low), float(high), confidence, GROUPS, len(names), note)


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
