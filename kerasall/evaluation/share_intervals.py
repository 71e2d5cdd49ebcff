"""Intervals over groups of shares and means that are no row of the table of metrics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kerasall.evaluation.intervals import GROUPS, IMAGES, Interval, group_interval, groups_known
from kerasall.evaluation.metrics import Metric
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import Resampler, draw_weights, find_units


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
