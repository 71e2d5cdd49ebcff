"""Resampling of groups: random weights for whole groups of images, and scores under them.

Images of one patient resemble each other, so patients are drawn and not images. Each draw gives every
group of a class a random positive weight (Rubin's Bayesian bootstrap, Ann. Statist. 9:130, 1981). That
alone covers too seldom with few groups, because the sample holds too few of the rare bad ones. Each
class is therefore given half a group more than was seen, which lies as far beyond its worst group (for
the lower end; its best group for the upper end) as that one lies from the class's mean. The idea is
that of Clopper and Pearson: were all groups wholly right or wrong, one such group would give their
interval, and half a one about the mid-P interval. ``benchmarks/interval_coverage.py`` shows the effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from kerasall.evaluation.confusion_scores import Formula
from kerasall.evaluation.metrics import Metric, malignant_mask, ranking_shares, ranking_tasks
from kerasall.evaluation.predictions import Predictions

UNSEEN = 0.5
"""Weight of the unseen group of each class, in groups."""

MOST_UNITS = 500
"""More groups than this are bundled at random within their class: the spread is as well known by then."""


@dataclass(frozen=True)
class Units:
    """What is resampled: groups, or bundles of them where there are very many.

    Attributes:
        rows: int [N], the unit of each image.
        sizes: int [G], images of each unit.
        strata: int [G], index into ``classes`` of the class most of the unit's images have.
        classes: int [S], the classes that are strata, ascending.
        group_counts: int [S], groups of each stratum before bundling.
    """

    rows: np.ndarray
    sizes: np.ndarray
    strata: np.ndarray
    classes: np.ndarray
    group_counts: np.ndarray

    @cached_property
    def membership(self) -> np.ndarray:
        """bool [S, G]: which unit is in which stratum."""
        return self.strata == np.arange(len(self.classes))[:, None]

    @property
    def groups(self) -> int:
        """Number of groups before bundling."""
        return int(self.group_counts.sum())

    def group_means(self, totals: np.ndarray) -> np.ndarray:
        """Mean over the groups of each stratum, from totals [G, ...] of the units: float [S, ...]."""
        sums = np.stack([totals[members].sum(axis=0) for members in self.membership])
        return sums / self.group_counts.reshape(-1, *[1] * (sums.ndim - 1))

    def totals(self, values: np.ndarray) -> np.ndarray:
        """Sums of ``values`` [N] over each unit: float [G]."""
        return np.bincount(self.rows, weights=values, minlength=len(self.sizes))


def find_units(predictions: Predictions) -> Units:
    """Groups of ``predictions`` in order of their names, so that the order of images does not matter."""
    _, rows = np.unique(predictions.group_names, return_inverse=True)
    labels = predictions.labels
    groups, kinds = int(rows.max()) + 1, len(predictions.classes)
    labelled = np.bincount(rows * kinds + labels, minlength=groups * kinds).reshape(groups, kinds)
    classes, strata = np.unique(labelled.argmax(axis=1), return_inverse=True)
    group_counts = np.bincount(strata)
    if groups > MOST_UNITS:
        bundles = _bundle(strata)
        rows, strata = bundles[rows], strata[np.unique(bundles, return_index=True)[1]]
    return Units(rows, np.bincount(rows), strata, classes, group_counts)


def _bundle(strata: np.ndarray) -> np.ndarray:
    """Bundle of each group, int [G]: groups of one stratum dealt out at random, in even shares."""
    rng, bundles, first = np.random.default_rng(0), np.empty(len(strata), np.int64), 0
    for stratum in range(int(strata.max()) + 1):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        count = max(1, round(MOST_UNITS * len(members) / len(strata)))
        bundles[members] = first + np.arange(len(members)) % count
        first += min(count, len(members))
    return bundles


@dataclass(frozen=True)
class Draws:
    """Random weights: ``units`` float [B, G] of what was seen, ``unseen`` float [B, S] of what was not.

    In each row the weights of a stratum, its unseen group included, sum to its number of units.
    """

    units: np.ndarray
    unseen: np.ndarray


def draw_weights(units: Units, resamples: int, seed: int, unseen: float = UNSEEN) -> Draws:
    """Draws ``resamples`` sets of weights, the same for the same seed. ``unseen=0`` draws none.

    One evaluation asks for the same groups many times over, so the last few draws are kept (read-only).
    """
    return _draw(units.strata.tobytes(), units.strata.dtype.str, resamples, seed, unseen)


@lru_cache(maxsize=8)
def _draw(strata: bytes, dtype: str, resamples: int, seed: int, unseen: float) -> Draws:
    rng, members_of = np.random.default_rng(seed), np.frombuffer(strata, dtype)
    weights = rng.standard_exponential((resamples, len(members_of)))
    extra = rng.standard_gamma(unseen, (resamples, int(members_of.max()) + 1))
    for stratum in range(extra.shape[1]):
        members = members_of == stratum
        scale = members.sum() / (weights[:, members].sum(axis=1) + extra[:, stratum])
        weights[:, members] *= scale[:, None]
        extra[:, stratum] *= scale
    weights.flags.writeable = extra.flags.writeable = False
    return Draws(weights, extra)


class Resampler:
    """Scores of one record of predictions under one set of draws."""

    def __init__(self, predictions: Predictions, units: Units, draws: Draws, malignant: Sequence[str] = ()):
        """Keeps what is asked for.

        Args:
            predictions: N images.
            units: ``find_units(predictions)``.
            draws: B draws of weights for them.
            malignant: names of the malignant classes.
        """
        self.predictions, self.units, self.draws = predictions, units, draws
        self.malignant = malignant_mask(predictions.classes, malignant)
        self._areas: dict[bool, list[_Areas]] = {}

    def score(self, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """Scores with the unseen groups at the low and at the high end of the scale: float [B], float [B].

        Args:
            metric: a metric that is defined on the predictions.
        """
        if metric.formula is not None:
            counts = unit_counts(self.predictions, self.units)
            return _resample_counts(metric.formula, counts, self.units, self.draws, self.malignant)
        if metric.losses is not None:
            return _resample_losses(metric, metric.losses(self.predictions), self.units, self.draws)
        areas = self._areas_of(metric)
        shares = ranking_shares(metric, np.stack([area.positives for area in areas], axis=1))
        lows = np.stack([area.low for area in areas], axis=1)
        highs = np.stack([area.high for area in areas], axis=1)
        return (shares * lows).sum(axis=1), (shares * highs).sum(axis=1)

    def _areas_of(self, metric: Metric) -> list[_Areas]:
        # The macro and the weighted mean ask the same questions, and these take the longest.
        key = metric.ranking == "malignant"
        if key not in self._areas:
            scores, positive = ranking_tasks(metric, self.predictions, self.malignant)
            asked = positive.any(axis=1) & ~positive.all(axis=1)
            tasks = zip(scores[asked], positive[asked], strict=True)
            self._areas[key] = [_resample_area(s, p, self.units, self.draws) for s, p in tasks]
        return self._areas[key]


# --- where the unseen group of each stratum lies -----------------------------------------------------


def _extrapolate(values: np.ndarray, sizes: np.ndarray, units: Units, side: int) -> np.ndarray:
    """Value of the unseen group, float [S]: twice the extreme unit's less the mean; NaN without spread.

    Args:
        values: float [G], a mean over each unit's images; NaN where the unit has none.
        sizes: float [G], the number of those images.
        units: G units in S strata.
        side: -1 for the lower end, 1 for the upper.
    """
    unseen = np.full(len(units.classes), np.nan)
    for stratum, members in enumerate(units.membership & (sizes > 0)):
        if members.any():
            inside = values[members]
            extreme = inside.max() if side > 0 else inside.min()
            mean = np.average(inside, weights=sizes[members])
            if np.ptp(inside) > 1e-9:
                unseen[stratum] = 2 * extreme - mean
    return unseen


def unit_counts(predictions: Predictions, units: Units) -> np.ndarray:
    """Confusion matrix of each unit: float [G, C, C]."""
    classes = len(predictions.classes)
    cells = (units.rows * classes + predictions.labels) * classes + predictions.decisions
    counts = np.bincount(cells, minlength=len(units.sizes) * classes * classes)
    return counts.reshape(-1, classes, classes).astype(float)


def _resample_counts(
    formula: Formula, counts: np.ndarray, units: Units, draws: Draws, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    gradient, classes = _gradient(formula, counts.sum(axis=0), mask), len(mask)
    seen = draws.units @ counts.reshape(len(counts), -1)
    ends = []
    for side in (-1, 1):
        unseen = _unseen_counts(counts, gradient, units, side)
        matrices = seen + draws.unseen @ unseen.reshape(len(unseen), -1)
        ends.append(formula(matrices.reshape(-1, classes, classes), mask))
    return ends[0], ends[1]


def _gradient(formula: Formula, matrix: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Change of the metric per image added to each cell, scaled to a largest entry of 1: float [C, C]."""
    step = 1e-6 * matrix.sum()
    # Forward steps only: a cell may be empty, and a count below zero has no meaning.
    moved = matrix + step * np.eye(matrix.size).reshape(-1, *matrix.shape)
    change = (formula(moved, mask) - formula(matrix, mask)).reshape(matrix.shape)
    return np.round(change / max(np.abs(change).max(), 1e-300), 4)


def _unseen_counts(counts: np.ndarray, gradient: np.ndarray, units: Units, side: int) -> np.ndarray:
    """Matrix of each stratum's unseen group, of its groups' mean size: float [S, C, C]."""
    profiles = counts / units.sizes[:, None, None]
    effects = (profiles * gradient).sum(axis=(1, 2))
    strata = units.membership
    sizes = units.group_means(units.sizes)[:, None, None]
    means = units.group_means(counts) / sizes
    unseen = np.full(means.shape, np.nan)
    for stratum, members in enumerate(strata):
        if np.ptp(effects[members]) > 1e-9:
            extreme = profiles[members][np.argmax(side * effects[members])]
            beyond = np.maximum(2 * extreme - means[stratum], 0)
            unseen[stratum] = beyond / beyond.sum()
    moved = np.abs(unseen - means).sum(axis=(1, 2)) / 2
    # A stratum without spread moves as far as the one that moves most, or all the way if none has any.
    share = 1.0 if np.isnan(moved).all() else np.nanmax(moved)
    for stratum in np.flatnonzero(np.isnan(moved)):
        best = np.eye(gradient.shape[0])[np.argmax(side * gradient, axis=1)]
        target = means[stratum].sum(axis=1, keepdims=True) * best
        unseen[stratum] = (1 - share) * means[stratum] + share * target
    return unseen * sizes


def _resample_losses(
    metric: Metric, losses: np.ndarray, units: Units, draws: Draws
) -> tuple[np.ndarray, np.ndarray]:
    sums = units.totals(losses)
    sizes = units.group_means(units.sizes)
    means = units.group_means(sums) / sizes
    ends = []
    for side in (-1, 1):
        unseen = _extrapolate(sums / units.sizes, units.sizes, units, side)
        unseen = np.clip(np.where(np.isnan(unseen), means, unseen), metric.lowest, metric.highest)
        total = draws.units @ sums + draws.unseen @ (sizes * unseen)
        ends.append(total / (draws.units @ units.sizes + draws.unseen @ sizes))
    return ends[0], ends[1]


# --- areas under ROC curves --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Areas:
    """Areas under one ROC curve and the weight of its positives, each float [B]."""

    low: np.ndarray
    high: np.ndarray
    positives: np.ndarray


def pairs_won(scores: np.ndarray, positive: np.ndarray, units: Units) -> np.ndarray:
    """Pairs that the positives of unit g win against the others of unit h, ties one half: float [G, G].

    Args:
        scores: float [N].
        positive: bool [N].
        units: of the N images.
    """
    _, place = np.unique(scores, return_inverse=True)
    count, levels = len(units.sizes), int(place.max()) + 1
    order = np.flatnonzero(positive)[np.argsort(units.rows[positive], kind="stable")]
    winners, starts = np.unique(units.rows[order], return_index=True)
    others = np.unique(units.rows[~positive])
    won, width = np.zeros((count, count)), max(1, 2_000_000 // levels)  # a table of at most 16 MB
    for first in range(0, len(others), width):
        columns = others[first : first + width]
        inside = np.flatnonzero(~positive & (units.rows >= columns[0]) & (units.rows <= columns[-1]))
        cells = np.searchsorted(columns, units.rows[inside]) * levels + place[inside]
        table = np.bincount(cells, minlength=len(columns) * levels).reshape(len(columns), levels)
        beaten = np.cumsum(table, axis=1) - table / 2
        won[np.ix_(winners, columns)] = np.add.reduceat(beaten[:, place[order]], starts, axis=1).T
    return won


def _resample_area(scores: np.ndarray, positive: np.ndarray, units: Units, draws: Draws) -> _Areas:
    won, ours = pairs_won(scores, positive, units), units.totals(positive)
    theirs = units.sizes - ours
    our_weight, their_weight = draws.units @ ours, draws.units @ theirs
    seen = np.einsum("bg,bg->b", draws.units @ won, draws.units)
    our_unseen = draws.unseen * units.group_means(ours)
    their_unseen = draws.unseen * units.group_means(theirs)
    positives = our_weight + our_unseen.sum(axis=1)
    pairs = positives * (their_weight + their_unseen.sum(axis=1))
    ends = []
    for side in (-1, 1):
        our_share, their_share = _unseen_shares(won, ours, theirs, units, side)
        gained, granted = our_unseen @ our_share, their_unseen @ their_share
        ends.append((seen + gained * their_weight + our_weight * granted + gained * granted) / pairs)
    return _Areas(ends[0], ends[1], positives)


def _unseen_shares(won, ours, theirs, units: Units, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of pairs that unseen positives win, and that positives win against unseen others: [S], [S]."""
    shares = []
    for sums, sizes, pairs in ((won.sum(axis=1), ours, theirs.sum()), (won.sum(axis=0), theirs, ours.sum())):
        values = np.divide(sums, sizes * pairs, out=np.full(len(sums), np.nan), where=sizes > 0)
        shares.append(np.clip(_extrapolate(values, sizes, units, side), 0, 1))
    if np.isnan(shares).all():
        return np.full(len(units.classes), float(side > 0)), np.full(len(units.classes), float(side > 0))
    # A stratum without spread is given the most extreme share of the others.
    extreme = np.nanmax(shares) if side > 0 else np.nanmin(shares)
    return np.nan_to_num(shares[0], nan=extreme), np.nan_to_num(shares[1], nan=extreme)
