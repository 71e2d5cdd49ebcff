"""What colour and focus alone tell of the classes: the score that a model must beat to have seen a cell."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kerasall.data.oddness import MEASURES
from kerasall.evaluation.cross_fitting import cross_fit, deal_parts
from kerasall.evaluation.intervals import Interval, group_interval
from kerasall.evaluation.predictions import Predictions

TREES, LEAST_LEAF = 100, 5
RESAMPLES = 1000


def score_colour_alone(images: pd.DataFrame, groups: np.ndarray, classes: tuple[str, ...]) -> Interval | None:
    """Balanced accuracy of a random forest that knows only the six measures of an image, and no shape.

    Every image is called by a forest that saw no image of its group.

    Args:
        images: from ``measure_images``.
        groups: str [N], of their subjects and duplicates.
        classes: names in class order.

    Returns:
        The score with its 95% interval over groups; None where there are too few images or groups, or one class.
    """
    labels = images["label"].map({name: index for index, name in enumerate(classes)}).to_numpy(np.int64)
    if len(np.unique(labels)) < 2 or len(np.unique(groups)) < 10 or len(images) < 50:
        return None
    blank = np.full((len(images), len(classes)), 1 / len(classes))
    record = Predictions(
        images["id"].to_numpy(), images["subject"].to_numpy(), groups, labels, blank, classes
    )
    values = images[list(MEASURES)].to_numpy(float)

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return _grow(values[others], labels[others]).predict(values[inside])

    decisions = cross_fit(deal_parts(record), answer)
    called = Predictions(
        record.ids, record.subjects, groups, labels, np.eye(len(classes))[decisions], classes, decisions
    )
    found = group_interval(called, "balanced_accuracy", resamples=RESAMPLES)
    return None if found.value is None else found


def _grow(values: np.ndarray, labels: np.ndarray):
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        TREES, min_samples_leaf=LEAST_LEAF, class_weight="balanced", random_state=0
    ).fit(values, labels)
