"""ROC and precision-recall curves of every class against the rest, and their mean, each with a band."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kerasall.evaluation.curves import GRID, RECALLS, BandedCurve, Rates, banded, precision_rows, roc_rows
from kerasall.evaluation.metrics import area_under_roc
from kerasall.evaluation.predictions import Predictions

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
