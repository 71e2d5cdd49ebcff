"""ROC, precision-recall and referral curves with bands that resample groups.

Operating points and calibration bins, which belong to the same figures, are found here too.

ROC and precision-recall curves of every class against the rest, and their mean, each with a band.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.metrics import area_under_roc, find_metric
from kerasall.evaluation.operating_points import (
    NEGATIVE,
    POSITIVE,
    OperatingPoint,
    collapse,
    operating_point,
    positive_scores,
)
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.reliability import Reliability, confidences, reliability
from kerasall.evaluation.resampling import Draws, Resampler, Units, draw_weights, find_units

__all__ = [
    "GRID",
    "BandedCurve",
    "OperatingPoint",
    "Reliability",
    "collapse",
    "operating_point",
    "precision_recall",
    "reliability",
    "roc_curve",
    "selective_accuracy",
]


GRID = np.linspace(0, 1, 201) ** 2

"""Abscissae of ROC curves: dense near zero, where few false alarms are made."""


RECALLS = np.linspace(0, 1, 101)

"""Abscissae of precision-recall curves."""


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


def roc_curve(
    predictions: Predictions,
    positive: Sequence[str],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> BandedCurve:
    """True-positive rate against false-positive rate, on ``GRID``, with a band and the area's interval.

    Args:
        predictions: N images.
        positive: classes that count as positive: one, or all malignant ones.
        confidence: of the band, at each point by itself, and of the area's interval.
        resamples: number of draws of groups.
        seed: of the draws.

    Raises:
        DataError: the images are all positive or all not.
    """
    rates = Rates(predictions, positive, resamples, seed)
    area = area_under_roc(rates.scores, rates.positive)
    return banded(" + ".join(positive), GRID, *roc_rows(rates), confidence, area, rates.areas())


def roc_rows(rates: Rates) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True-positive rates on ``GRID``: of all images [K], and under the draws' low and high ends [B, K]."""
    lows, highs = (
        np.stack([np.interp(GRID, *row) for row in zip(*rates.of_draws(side), strict=True)])
        for side in (-1, 1)
    )
    return np.interp(GRID, *rates.of_all()), lows, highs


def precision_recall(
    predictions: Predictions,
    positive: Sequence[str],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> BandedCurve:
    """Precision against recall, 101 points, with a band and the average precision's interval.

    Average precision is sum_k (R_k - R_{k-1}) P_k over falling thresholds, as in scikit-learn. Arguments and
    errors as in ``roc_curve``.
    """
    rates = Rates(predictions, positive, resamples, seed)
    rows, area, areas = precision_rows(rates)
    return banded(" + ".join(positive), RECALLS, *rows, confidence, area, areas)


def precision_rows(
    rates: Rates,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], float, tuple[np.ndarray, np.ndarray]]:
    """Precisions at ``RECALLS`` as ``roc_rows``, the average precision, and its low and high ends [B], [B]."""
    shares = rates.draw_shares()
    ends, areas = [], []
    for side in (-1, 1):
        false_positive, recall = rates.of_draws(side)
        found = [_precision(*row) for row in zip(false_positive, recall, shares, strict=True)]
        ends.append(np.stack([_at_recall(RECALLS, r, p) for r, p in zip(recall, found, strict=True)]))
        areas.append((np.diff(recall, prepend=0, axis=1) * np.stack(found)).sum(axis=1))
    false_positive, recall = rates.of_all()
    precision = _precision(false_positive, recall, rates.positive.mean())
    area = float(np.diff(recall, prepend=0) @ precision)
    return (_at_recall(RECALLS, recall, precision), ends[0], ends[1]), area, (areas[0], areas[1])


def _at_recall(grid: np.ndarray, recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Precision at the highest threshold that reaches each recall."""
    return precision[np.searchsorted(recall, grid - 1e-12)]


def _precision(false_positive: np.ndarray, true_positive: np.ndarray, share: float) -> np.ndarray:
    found, alarms = share * true_positive, (1 - share) * false_positive
    # Where nothing is called positive yet, the first called threshold's precision stands in.
    precision = np.divide(found, found + alarms, out=np.full(len(found), np.nan), where=found + alarms > 0)
    first = int(np.argmax(~np.isnan(precision)))
    return np.where(np.isnan(precision), precision[first], precision)


def banded(label, x, y, lows, highs, confidence, area=None, areas=None) -> BandedCurve:
    """A curve y [K] with its band from low and high ends [B, K] under draws, and the area's interval."""
    tail = (1 - confidence) / 2
    band_low = np.minimum(np.quantile(lows, tail, axis=0), y)
    band_high = np.maximum(np.quantile(highs, 1 - tail, axis=0), y)
    if area is None or areas is None:
        return BandedCurve(label, x, y, band_low, band_high)
    low, high = float(np.quantile(areas[0], tail)), float(np.quantile(areas[1], 1 - tail))
    return BandedCurve(label, x, y, band_low, band_high, area, min(low, area), max(high, area))


class Rates:
    """False- and true-positive rates of all images and under random weights of their groups."""

    def __init__(self, predictions: Predictions, positive: Sequence[str], resamples: int, seed: int):
        self.scores, self.positive = positive_scores(predictions, positive)
        self.units = find_units(predictions)
        self.draws = draw_weights(self.units, resamples, seed)
        collapsed = collapse(predictions, positive, 0.5)
        self._resampler = Resampler(collapsed, self.units, self.draws, (POSITIVE,))
        levels = np.unique(self.scores)[::-1]
        if len(levels) > _MOST_THRESHOLDS:
            levels = np.quantile(self.scores, np.linspace(1, 0, _MOST_THRESHOLDS), method="nearest")
        self.called = {
            kind: _called(self.scores, self.positive == kind, self.units, levels) for kind in (False, True)
        }

    def of_all(self) -> tuple[np.ndarray, np.ndarray]:
        """Rates at every distinct score, falling, from (0, 0): float [K], float [K]."""
        levels, place = np.unique(-self.scores, return_inverse=True)
        counts = [np.bincount(place[self.positive == kind], minlength=len(levels)) for kind in (False, True)]
        false_positive, true_positive = (np.r_[0, np.cumsum(c)] / c.sum() for c in counts)
        return false_positive, true_positive

    def of_draws(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Rates under each draw at at most 400 thresholds: float [B, K], float [B, K].

        With ``side=-1`` the unseen group is found too rarely or alarms too often, with 1 the reverse.
        """
        rates = []
        for kind, end in ((False, -side), (True, side)):
            called = self.called[kind]
            images = called[:, -1]
            unseen = _unseen_rates(called, self.units, end) * self.units.group_means(images)[:, None]
            found = self.draws.units @ called + self.draws.unseen @ unseen
            rates.append(np.minimum(found / found[:, -1:], 1))
        return rates[0], rates[1]

    def draw_shares(self) -> np.ndarray:
        """Share of positive images under each draw: float [B]."""
        weights = [self.draws.units @ self.called[kind][:, -1] for kind in (False, True)]
        return weights[1] / (weights[0] + weights[1])

    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Areas under the ROC curve with the unseen groups at their worst and best: float [B], float [B]."""
        return self._resampler.score(find_metric("malignant_roc_auc", (NEGATIVE, POSITIVE)))


def _called(scores: np.ndarray, kept: np.ndarray, units: Units, levels: np.ndarray) -> np.ndarray:
    """Images with ``kept`` that score at least each of the falling levels, per unit: float [G, 1 + K]."""
    # Column k holds what is called at level k - 1 and not before; nothing is called in column 0.
    place = len(levels) - np.searchsorted(levels[::-1], scores[kept], side="right")
    counts = np.zeros((len(units.sizes), len(levels) + 1))
    np.add.at(counts, (units.rows[kept], np.minimum(place + 1, len(levels))), 1)
    return np.cumsum(counts, axis=1)


def _unseen_rates(called: np.ndarray, units: Units, side: int) -> np.ndarray:
    """Rates of the unseen group of each stratum at each threshold: float [S, 1 + K]."""
    images = called[:, -1]
    rates = np.zeros((len(units.classes), called.shape[1]))
    for stratum, members in enumerate(units.membership & (images > 0)):
        if members.any():
            inside = called[members] / images[members, None]
            extreme = inside.max(axis=0) if side > 0 else inside.min(axis=0)
            rates[stratum] = 2 * extreme - called[members].sum(axis=0) / images[members].sum()
    # A rate grows as the threshold falls, also that of an imagined group.
    return np.maximum.accumulate(np.clip(rates, 0, 1), axis=1)


def selective_accuracy(
    predictions: Predictions,
    referred: Sequence[float] = tuple(np.linspace(0, 0.5, 51)),
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> BandedCurve:
    """Accuracy on the images that are kept when the least sure ones are referred to an expert.

    Args:
        predictions: N images, at least one.
        referred: shares to refer, ascending, in [0, 1); at least one image is always kept.
        confidence: of the band, at each point by itself.
        resamples: number of draws of groups.
        seed: of the draws.

    Raises:
        DataError: no images.
        SettingsError: shares out of range.
    """
    shares = np.asarray(referred, dtype=float)
    if len(predictions) == 0:
        raise DataError("accuracy against referral needs at least one image, but there is none")
    if shares.min() < 0 or shares.max() >= 1:
        raise SettingsError(
            f"shares to refer must lie in [0, 1), but range from {shares.min()} to {shares.max()}"
        )
    units = find_units(predictions)
    draws = draw_weights(units, resamples, seed)
    order = np.lexsort((predictions.ids, confidences(predictions)))
    ranks = np.argsort(order)
    right = predictions.decisions == predictions.labels
    values, lows, highs = [], [], []
    for share in shares:
        kept = ranks >= min(int(share * len(ranks)), len(ranks) - 1)
        values.append(right[kept].mean())
        low, high = _kept_accuracies(right, kept, units, draws)
        lows.append(low)
        highs.append(high)
    return banded(
        "kept images", shares, np.array(values), np.stack(lows, axis=1), np.stack(highs, axis=1), confidence
    )


def _kept_accuracies(right, kept, units: Units, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy of the kept images under each draw, the unseen group at its worst and best: [B], [B]."""
    images, hits = units.totals(kept), units.totals(kept & right)
    called = np.stack([np.zeros(len(images)), hits, images], axis=1)
    ends = []
    for side in (-1, 1):
        unseen = _unseen_rates(called, units, side)[:, 1] * units.group_means(images)
        total = draws.units @ images + draws.unseen @ units.group_means(images)
        ends.append((draws.units @ hits + draws.unseen @ unseen) / np.maximum(total, 1e-300))
    return ends[0], ends[1]


MACRO = "mean of classes"


def roc_curves(
    predictions: Predictions,
    malignant: Sequence[str] = (),
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[BandedCurve]:
    """One ROC curve a class and, of more than two classes, their mean at each false-positive rate.

    Two classes have one curve, of the malignant one (else of the second): the other's is its mirror image. A class without
    images, or without others, has none. Arguments as ``curves.roc_curve``; all curves are drawn from the
    same draws of groups, so that the mean's band knows how the classes vary together.
    """
    return _curves(predictions, malignant, GRID, _of_roc, confidence, resamples, seed)


def precision_recall_curves(
    predictions: Predictions,
    malignant: Sequence[str] = (),
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[BandedCurve]:
    """One precision-recall curve a class, and their mean at each recall; as ``roc_curves``."""
    return _curves(predictions, malignant, RECALLS, _of_precision, confidence, resamples, seed)


_Rows = tuple[np.ndarray, np.ndarray, np.ndarray]

_Areas = tuple[np.ndarray, np.ndarray]


def _of_roc(rates: Rates) -> tuple[_Rows, float, _Areas]:
    return roc_rows(rates), area_under_roc(rates.scores, rates.positive), rates.areas()


def _of_precision(rates: Rates) -> tuple[_Rows, float, _Areas]:
    return precision_rows(rates)


def _curves(
    predictions: Predictions,
    malignant: Sequence[str],
    grid: np.ndarray,
    of_rates: Callable[[Rates], tuple[_Rows, float, _Areas]],
    confidence: float,
    resamples: int,
    seed: int,
) -> list[BandedCurve]:
    present = np.unique(predictions.labels)
    if len(present) < 2:
        return []
    names = [predictions.classes[index] for index in present]
    if len(predictions.classes) == 2:
        names = list(malignant) if len(malignant) == 1 else names[-1:]
    found = [of_rates(Rates(predictions, [name], resamples, seed)) for name in names]
    curves = [
        banded(name, grid, *rows, confidence, area, areas)
        for name, (rows, area, areas) in zip(names, found, strict=True)
    ]
    if len(found) > 1:
        curves.append(banded(MACRO, grid, *_mean(found), confidence, *_mean_areas(found)))
    return curves


def _mean(found: list[Any]) -> _Rows:
    y, low, high = (np.mean([rows[end] for rows, _, _ in found], axis=0) for end in range(3))
    return y, low, high


def _mean_areas(found: list[Any]) -> tuple[float, _Areas]:
    low, high = (np.mean([areas[end] for _, _, areas in found], axis=0) for end in range(2))
    return float(np.mean([area for _, area, _ in found])), (low, high)
