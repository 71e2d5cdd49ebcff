"""ROC, precision-recall and referral curves with bands that resample groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import area_under_roc, find_metric
from kerasall.evaluation.operating_points import NEGATIVE, POSITIVE, collapse, positive_scores
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import Resampler, Units

GRID = np.linspace(0, 1, 201) ** 2
"""Abscissae of ROC curves: dense near zero, where few false alarms are made."""

RECALLS = np.linspace(0, 1, 101)
"""Abscissae of precision-recall curves."""

REFERRED = np.linspace(0, 0.5, 51)
"""Abscissae of referral curves: shares of the images."""

MACRO = "mean of classes"

_MOST_THRESHOLDS = 400


@dataclass(frozen=True)
class BandedCurve:
    """A curve over x in [0, 1] with a pointwise band.

    Attributes:
        label: what the curve is of.
        x: float [K], ascending.
        y: float [K].
        band_low: float [K].
        band_high: float [K].
        area: area under it (ROC), average precision (precision-recall), or None.
        area_low: lower end of the area's interval.
        area_high: upper end of the area's interval.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    band_low: np.ndarray
    band_high: np.ndarray
    area: float | None = None
    area_low: float | None = None
    area_high: float | None = None


def roc_curve(scorer: Scorer, positive: Sequence[str]) -> BandedCurve:
    """True-positive rate against false-positive rate, on ``GRID``, with a band and the area's interval.

    Args:
        scorer: of N images; its confidence is the band's at each point by itself, and the area's interval's.
        positive: classes that count as positive: one, or all malignant ones.

    Raises:
        DataError: the images are all positive or all not.
    """
    return _of_roc(_Rates(scorer, positive)).curve(scorer, " + ".join(positive), GRID)


def roc_curves(scorer: Scorer) -> list[BandedCurve]:
    """One ROC curve a class and, of more than two classes, their mean at each false-positive rate.

    Two classes have one curve, of the malignant one (else of the second): the other's is its mirror image.
    A class without images, or without others, has none. All curves are drawn from the same draws of
    groups, so that the mean's band knows how the classes vary together.
    """
    return _curves(scorer, GRID, _of_roc)


def precision_recall_curves(scorer: Scorer) -> list[BandedCurve]:
    """One precision-recall curve a class, and their mean at each recall; as ``roc_curves``.

    Average precision is sum_k (R_k - R_{k-1}) P_k over falling thresholds, as in scikit-learn.
    """
    return _curves(scorer, RECALLS, _of_precision)


def roc_lines(scorer: Scorer) -> dict[str, np.ndarray]:
    """The same curves as ``roc_curves`` without their bands: name -> true-positive rates on ``GRID``, float [K]."""
    found = {}
    for name in _curve_classes(scorer):
        rates = _rates_of_all(*positive_scores(scorer.predictions, [name]))
        found[name] = np.interp(GRID, *rates)
    return found | ({MACRO: np.mean(list(found.values()), axis=0)} if len(found) > 1 else {})


def _curve_classes(scorer: Scorer) -> list[str]:
    """The classes that have a curve."""
    classes, present = scorer.predictions.classes, np.unique(scorer.predictions.labels)
    if len(present) < 2:
        return []
    if len(classes) == 2:
        return list(scorer.malignant) if len(scorer.malignant) == 1 else [classes[present[-1]]]
    return [classes[index] for index in present]


def _curves(scorer: Scorer, grid: np.ndarray, estimate: Callable[[_Rates], _Estimate]) -> list[BandedCurve]:
    found = {name: estimate(_Rates(scorer, [name])) for name in _curve_classes(scorer)}
    if len(found) > 1:
        found[MACRO] = _Estimate(
            *(np.mean(of_classes, axis=0) for of_classes in zip(*found.values(), strict=True))
        )
    return [each.curve(scorer, name, grid) for name, each in found.items()]


def selective_accuracy(scorer: Scorer, referred: Sequence[float] | np.ndarray = REFERRED) -> BandedCurve:
    """Accuracy on the images that are kept when the least sure ones are referred to an expert.

    Args:
        scorer: of N images, at least one.
        referred: shares to refer, ascending, in [0, 1); at least one image is always kept.

    Raises:
        DataError: no images.
        SettingsError: shares out of range.
    """
    shares, predictions = np.asarray(referred, dtype=float), scorer.predictions
    if len(predictions) == 0:
        raise DataError("accuracy against referral needs at least one image, but there is none")
    if shares.min() < 0 or shares.max() >= 1:
        raise SettingsError(
            f"shares to refer must lie in [0, 1), but range from {shares.min()} to {shares.max()}"
        )
    right, values, ends = predictions.right, [], []
    for kept in keep_surest(predictions, shares):
        values.append(right[kept].mean())
        ends.append(_kept_accuracies(scorer, right, kept))
    lows, highs = (np.stack(side, axis=1) for side in zip(*ends, strict=True))
    y = np.array(values)
    return BandedCurve("kept images", shares, y, *_ends_around(y, scorer, lows, highs))


def keep_surest(predictions: Predictions, shares: Sequence[float] | np.ndarray) -> np.ndarray:
    """Which of N images are left when each of K shares of the least sure is referred, at least one: bool [K, N]."""
    ranks = np.argsort(np.lexsort((predictions.ids, predictions.confidences)))
    referred = (np.asarray(shares) * len(ranks)).astype(int)
    return ranks >= np.minimum(referred, len(ranks) - 1)[:, None]


def _kept_accuracies(scorer: Scorer, right: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy of the kept images under each draw, the unseen group at its worst and best: [B], [B]."""
    units, draws = scorer.units, scorer.draws_shared(len(scorer.units.classes))
    images, hits = units.totals(kept), draws.units @ units.totals(kept & right)
    unseen = draws.unseen @ units.of_unseen(images)
    total = np.maximum(draws.units @ images + unseen, 1e-300)
    return hits / total, (hits + unseen) / total


# --- a curve of all images, and under each draw of groups ---------------------------------------------


class _Estimate(NamedTuple):
    """A curve y [K], its low and high ends under the draws [B, K], and its area with those ends [B]."""

    y: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    area: float
    area_lows: np.ndarray
    area_highs: np.ndarray

    def curve(self, scorer: Scorer, label: str, x: np.ndarray) -> BandedCurve:
        """The curve over ``x`` with its band and its area's interval."""
        band = _ends_around(self.y, scorer, self.lows, self.highs)
        low, high = _ends_around(self.area, scorer, self.area_lows, self.area_highs)
        return BandedCurve(label, x, self.y, *band, float(self.area), float(low), float(high))


def _ends_around(
    y: Any, scorer: Scorer, lows: np.ndarray, highs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals of y [...] from its low and high ends under the draws [B, ...]."""
    low, high = scorer.quantile_ends(lows, highs)
    return np.minimum(low, y), np.maximum(high, y)


def _of_roc(rates: _Rates) -> _Estimate:
    """True-positive rates on ``GRID``."""
    lows, highs = (
        np.stack([np.interp(GRID, *row) for row in zip(*rates.of_draws(side), strict=True)])
        for side in (-1, 1)
    )
    y, area = np.interp(GRID, *rates.of_all()), area_under_roc(rates.scores, rates.positive)
    return _Estimate(y, lows, highs, area, *rates.areas())


def _of_precision(rates: _Rates) -> _Estimate:
    """Precisions at ``RECALLS``; the area is the average precision."""
    shares = rates.draw_shares()
    ends, areas = [], []
    for side in (-1, 1):
        false_positive, recall = rates.of_draws(side)
        found = [_precision(*row) for row in zip(false_positive, recall, shares, strict=True)]
        ends.append(np.stack([_at_recall(r, p) for r, p in zip(recall, found, strict=True)]))
        areas.append((np.diff(recall, prepend=0, axis=1) * np.stack(found)).sum(axis=1))
    false_positive, recall = rates.of_all()
    precision = _precision(false_positive, recall, rates.positive.mean())
    area = float(np.diff(recall, prepend=0) @ precision)
    return _Estimate(_at_recall(recall, precision), ends[0], ends[1], area, areas[0], areas[1])


def _at_recall(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Precision at the highest threshold that reaches each of ``RECALLS``."""
    return precision[np.searchsorted(recall, RECALLS - 1e-12)]


def _precision(false_positive: np.ndarray, true_positive: np.ndarray, share: float) -> np.ndarray:
    found, alarms = share * true_positive, (1 - share) * false_positive
    # Where nothing is called positive yet, the first called threshold's precision stands in.
    precision = np.divide(found, found + alarms, out=np.full(len(found), np.nan), where=found + alarms > 0)
    first = int(np.argmax(~np.isnan(precision)))
    return np.where(np.isnan(precision), precision[first], precision)


class _Rates:
    """False- and true-positive rates of all images and under random weights of their groups."""

    def __init__(self, scorer: Scorer, positive: Sequence[str]):
        predictions = scorer.predictions
        self.scores, self.positive = positive_scores(predictions, positive)
        self.units, self.draws = scorer.units, scorer.draws
        collapsed = collapse(predictions, positive, 0.5)
        self._resampler = Resampler(collapsed, self.units, self.draws, (POSITIVE,), scorer.draws_shared)
        levels = np.unique(self.scores)[::-1]
        if len(levels) > _MOST_THRESHOLDS:
            levels = np.quantile(self.scores, np.linspace(1, 0, _MOST_THRESHOLDS), method="nearest")
        self.called = {
            kind: _called(self.scores, self.positive == kind, self.units, levels) for kind in (False, True)
        }

    def of_all(self) -> tuple[np.ndarray, np.ndarray]:
        """Rates at every distinct score, falling, from (0, 0): float [K], float [K]."""
        return _rates_of_all(self.scores, self.positive)

    def of_draws(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Rates under each draw at at most 400 thresholds: float [B, K], float [B, K].

        With ``side=-1`` the unseen group is found too rarely or alarms too often, with 1 the reverse.
        """
        rates = []
        for kind, end in ((False, -side), (True, side)):
            called = self.called[kind]
            images = called[:, -1]
            unseen = self.draws.unseen @ self.units.of_unseen(images)
            found = self.draws.units @ called + unseen[:, None] * _unseen_rates(called.shape[1], end)
            rates.append(np.minimum(found / found[:, -1:], 1))
        return rates[0], rates[1]

    def draw_shares(self) -> np.ndarray:
        """Share of positive images under each draw: float [B]."""
        weights = [self.draws.units @ self.called[kind][:, -1] for kind in (False, True)]
        return weights[1] / (weights[0] + weights[1])

    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Areas under the ROC curve with the unseen groups at their worst and best: float [B], float [B]."""
        return self._resampler.score(find_metric("malignant_roc_auc", (NEGATIVE, POSITIVE)))


def _rates_of_all(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False- and true-positive rates at every distinct score, falling, from (0, 0): float [K], float [K]."""
    levels, place = np.unique(-scores, return_inverse=True)
    counts = [np.bincount(place[positive == kind], minlength=len(levels)) for kind in (False, True)]
    false_positive, true_positive = (np.r_[0, np.cumsum(c)] / c.sum() for c in counts)
    return false_positive, true_positive


def _called(scores: np.ndarray, kept: np.ndarray, units: Units, levels: np.ndarray) -> np.ndarray:
    """Images with ``kept`` that score at least each of the falling levels, per unit: float [G, 1 + K]."""
    # Column k holds what is called at level k - 1 and not before; nothing is called in column 0.
    place = len(levels) - np.searchsorted(levels[::-1], scores[kept], side="right")
    counts = np.zeros((len(units.sizes), len(levels) + 1))
    np.add.at(counts, (units.rows[kept], np.minimum(place + 1, len(levels))), 1)
    return np.cumsum(counts, axis=1)


def _unseen_rates(columns: int, end: int) -> np.ndarray:
    """Rates of an unseen group at each threshold: float [1 + K]. Nothing is called at the first and all at the last."""
    rates = np.full(columns, float(end > 0))
    rates[[0, -1]] = 0, 1
    return rates
