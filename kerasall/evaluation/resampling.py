"""Resampling of groups: random weights for whole groups of images, and scores under them.

Images of one patient resemble each other, so patients are drawn and not images. Each draw gives every
group of a class a random positive weight (Rubin's Bayesian bootstrap, Ann. Statist. 9:130, 1981). That
alone covers too seldom, because a sample often holds none of the rare bad patients. Each figure therefore
counts half a group more than was seen, wholly wrong for its lower end and wholly right for its upper one.
Were all groups wholly right or wrong, one such group would give the interval of Clopper and Pearson, and
half a one about the mid-P interval. What the group would be like must not be read off those that were
seen: then one more error could raise an end. ``benchmarks/interval_coverage.py`` shows what the rule is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

import numpy as np

from kerasall.evaluation.confusion_scores import Formula
from kerasall.evaluation.metrics import Metric, malignant_mask, ranking_shares, ranking_tasks
from kerasall.evaluation.predictions import Predictions

UNSEEN = 0.5
"""Weight of the unseen group, in groups."""

MOST_UNITS = 300
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
        spread: float [S], root mean square of their sizes over the mean size: 1 where all are of one size.
    """

    rows: np.ndarray
    sizes: np.ndarray
    strata: np.ndarray
    classes: np.ndarray
    group_counts: np.ndarray
    spread: np.ndarray

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

    def of_unseen(self, totals: np.ndarray) -> np.ndarray:
        """What an unseen group of each stratum holds of the same, float [S, ...].

        Its size is the root mean square of the seen ones: a group moves a score by its size, so that variances go with
        the squares. With the mean size too few data sets are covered where sizes differ much.
        """
        means = self.group_means(totals)
        return means * self.spread.reshape(-1, *[1] * (means.ndim - 1))

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
    group_counts, sizes = np.bincount(strata), np.bincount(rows)
    squares = np.bincount(strata, weights=sizes**2) / group_counts
    spread = np.sqrt(squares) / (np.bincount(strata, weights=sizes) / group_counts)
    if groups > MOST_UNITS:
        bundles = _bundle(strata)
        rows, strata = bundles[rows], strata[np.unique(bundles, return_index=True)[1]]
    return Units(rows, np.bincount(rows), strata, classes, group_counts, spread)


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
    strata_of_unit = members_of[:, None] == np.arange(int(members_of.max()) + 1)
    extra = rng.standard_gamma(unseen, (resamples, strata_of_unit.shape[1]))
    scale = strata_of_unit.sum(axis=0) / (weights @ strata_of_unit.astype(float) + extra)
    weights *= scale[:, members_of]
    extra *= scale
    weights.flags.writeable = extra.flags.writeable = False
    return Draws(weights, extra)


class Resampler:
    """Scores of one record of predictions under one set of draws."""

    def __init__(
        self, predictions: Predictions, units: Units, draws: Draws, malignant: Sequence[str] = (),
        shared: Callable[[int], Draws] | None = None,
    ):  # fmt: skip
        """Keeps what is asked for.

        Args:
            predictions: N images.
            units: ``find_units(predictions)``.
            draws: B draws of weights for them.
            malignant: names of the malignant classes.
            shared: the same draws where so many strata share one unseen group between them; None: ``draws`` always.
        """
        self.predictions, self.units, self.draws = predictions, units, draws
        self.malignant = malignant_mask(predictions.classes, malignant)
        self._shared = shared or (lambda _: draws)
        self._areas: dict[bool, list[_Areas]] = {}
        self._seen: dict[int, np.ndarray] = {}

    def score(self, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """Scores with the unseen groups at the low and at the high end of the scale: float [B], float [B].

        Args:
            metric: a metric that is defined on the predictions.
        """
        if metric.formula is not None:
            return self._score_counts(metric.formula, self._strata_of(metric))
        every = self._shared(len(self.units.classes))
        if metric.losses is not None:
            losses = metric.losses(self.predictions)
            limits = metric.limits or partial(_limit_losses, metric, metric.losses, losses, self.units)
            return _resample_losses(losses, limits(self.predictions), self.units, every)
        areas = self._areas_of(metric)
        shares = ranking_shares(metric, np.stack([area.positives for area in areas], axis=1))
        lows = np.stack([area.low for area in areas], axis=1)
        highs = np.stack([area.high for area in areas], axis=1)
        return (shares * lows).sum(axis=1), (shares * highs).sum(axis=1)

    @cached_property
    def counts(self) -> np.ndarray:
        """Confusion matrix of each unit: float [G, C, C]."""
        return unit_counts(self.predictions, self.units)

    def _score_counts(self, formula: Formula, sharing: int) -> tuple[np.ndarray, np.ndarray]:
        draws, classes = self._shared(sharing), len(self.malignant)
        if sharing not in self._seen:
            self._seen[sharing] = draws.units @ self.counts.reshape(len(self.counts), -1)
        ends = []
        for unseen in _unseen_counts(formula, self.counts, self.units, self.malignant):
            matrices = self._seen[sharing] + draws.unseen @ unseen.reshape(len(unseen), -1)
            ends.append(formula(matrices.reshape(-1, classes, classes), self.malignant))
        return ends[0], ends[1]

    def _strata_of(self, metric: Metric) -> int:
        """How many strata share one unseen group: those in the denominator of a plain proportion; else each has its own."""
        if metric.trials is None:
            return 1
        # Wherever the images of a stratum could be decided: were it where they are, one more error could raise an end.
        labelled = self.units.group_means(self.counts.sum(axis=2))
        anywhere = np.repeat(labelled[:, :, None], len(self.malignant), axis=2)
        return max(1, int((metric.trials(anywhere, self.malignant) > 0).sum()))

    def _areas_of(self, metric: Metric) -> list[_Areas]:
        # The macro and the weighted mean ask the same questions, and these take the longest.
        key = metric.ranking == "malignant"
        if key not in self._areas:
            scores, positive = ranking_tasks(metric, self.predictions, self.malignant)
            asked = positive.any(axis=1) & ~positive.all(axis=1)
            tasks = zip(scores[asked], positive[asked], strict=True)
            every = self._shared(len(self.units.classes))
            self._areas[key] = [_resample_area(s, p, self.units, every) for s, p in tasks]
        return self._areas[key]


# --- what the unseen group of each stratum is like -----------------------------------------------------


def unit_counts(predictions: Predictions, units: Units) -> np.ndarray:
    """Confusion matrix of each unit: float [G, C, C]."""
    classes = len(predictions.classes)
    cells = (units.rows * classes + predictions.labels) * classes + predictions.decisions
    counts = np.bincount(cells, minlength=len(units.sizes) * classes * classes)
    return counts.reshape(-1, classes, classes).astype(float)


def _gradient(formula: Formula, matrix: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Change of the metric per image added to each cell, scaled to a largest entry of 1: float [C, C]."""
    step = 1e-6 * matrix.sum()
    # Forward steps only: a cell may be empty, and a count below zero has no meaning.
    moved = matrix + step * np.eye(matrix.size).reshape(-1, *matrix.shape)
    change = (formula(moved, mask) - formula(matrix, mask)).reshape(matrix.shape)
    return np.round(change / max(np.abs(change).max(), 1e-300), 4)


def _unseen_counts(formula: Formula, counts: np.ndarray, units: Units, mask: np.ndarray) -> list[np.ndarray]:
    """Matrices of each stratum's unseen group at its worst and at its best: two of float [S, C, C].

    Its labels are those that the stratum's groups have on the mean. What moves the score most is asked where half of
    each class are decided rightly and the others evenly: asked where they are, the answer could change with one more
    error, and an end rise.
    """
    labelled, classes = units.of_unseen(counts.sum(axis=2)), len(mask)
    halves = np.eye(classes) / 2 + (1 - np.eye(classes)) / (2 * max(1, classes - 1))
    gradient = _gradient(formula, counts.sum(axis=(0, 2))[:, None] * halves, mask)
    decided = (np.eye(len(mask))[np.argmax(side * gradient, axis=1)] for side in (-1, 1))
    return [labelled[:, :, None] * each for each in decided]


def _resample_losses(
    losses: np.ndarray, limits: tuple[np.ndarray, np.ndarray], units: Units, draws: Draws
) -> tuple[np.ndarray, np.ndarray]:
    total, images = draws.units @ units.totals(losses), draws.units @ units.sizes
    images = images + draws.unseen @ units.of_unseen(units.sizes)
    low, high = (draws.unseen @ units.of_unseen(units.totals(limit)) for limit in limits)
    return (total + low) / images, (total + high) / images


def _limit_losses(
    metric: Metric, losses_of: Callable[[Predictions], np.ndarray], losses: np.ndarray, units: Units,
    predictions: Predictions,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Losses of the images of an unseen group at its best and at its worst, float [N] both.

    A loss has no useful upper limit: the worst is twice the mean loss of the stratum's worst group, and at least that
    of guessing, at most that of being sure and wrong.
    """
    classes = len(predictions.classes)
    one, other = predictions.take(np.arange(1)), (predictions.labels[:1] + 1) % classes
    guesses = replace(one, probabilities=np.full((1, classes), 1 / classes))
    wrong = replace(one, probabilities=np.eye(classes)[other])
    means = units.totals(losses) / units.sizes
    worst = np.array([means[members].max() for members in units.membership])
    highest = np.minimum(np.maximum(2 * worst, losses_of(guesses)), losses_of(wrong))
    return np.full(len(losses), metric.lowest), highest[units.strata[units.rows]]


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
    # Groups of one class have positives or others, seldom both: most of the table is empty.
    winners, losers = np.flatnonzero(ours), np.flatnonzero(theirs)
    seen = np.einsum(
        "bg,bg->b", draws.units[:, winners] @ won[np.ix_(winners, losers)], draws.units[:, losers]
    )
    our_unseen = draws.unseen @ units.of_unseen(ours)
    their_unseen = draws.unseen @ units.of_unseen(theirs)
    positives = our_weight + our_unseen
    pairs = positives * (their_weight + their_unseen)
    # At the low end unseen images lose every pair, at the high end they win it.
    return _Areas(seen / pairs, 1 - (our_weight * their_weight - seen) / pairs, positives)
