"""What is fitted to predictions is reported on images it was not fitted to: part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kerasall.errors import DataError
from kerasall.evaluation.predictions import Predictions

PARTS = 5
"""Parts that groups are dealt into where a record has no folds of its own."""


def number_folds(predictions: Predictions, folds: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Number of the held-out fold of each image, int64 [N].

    Args:
        predictions: N images.
        folds: name of a fold -> ids of its images.

    Raises:
        DataError: an image is in no fold.
    """
    numbers = {name: number for number, ids in enumerate(folds.values()) for name in ids}
    missing = [name for name in predictions.ids if name not in numbers]
    if missing:
        raise DataError(f"every predicted image must be in a fold, but {missing[0]} is in none")
    return np.asarray([numbers[name] for name in predictions.ids], dtype=np.int64)


def deal_parts(predictions: Predictions, parts: int = PARTS, seed: int = 0) -> np.ndarray:
    """Deals whole groups into parts, class by class, int64 [N]; the order of images does not matter.

    Returns:
        Number of each image's part. There are fewer parts than asked for where there are fewer groups.
    """
    names, rows = np.unique(predictions.group_names, return_inverse=True)
    kinds = len(predictions.classes)
    counts = np.bincount(rows * kinds + predictions.labels, minlength=len(names) * kinds)
    classes = counts.reshape(len(names), kinds).argmax(axis=1)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(classes[shuffled], kind="stable")]
    dealt = np.empty(len(names), np.int64)
    dealt[order] = np.arange(len(names)) % min(parts, len(names))
    return dealt[rows]


def cross_fit(parts: np.ndarray, answer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Answers for every image from what was fitted to the images of the other parts.

    Args:
        parts: number of each image's part, int [N]; at least two parts.
        answer: called once a part with two masks bool [N], of the images to fit to and of those to answer
            for; gives one row for each of the latter.

    Returns:
        The rows of all images, [N, ...].

    Raises:
        DataError: there is one part only.
    """
    numbers = np.unique(parts)
    if len(numbers) < 2:
        raise DataError(
            "cross-fitting needs at least two parts, but all images are in one: there is one group only"
        )
    whole: np.ndarray | None = None
    for number in numbers:
        inside = parts == number
        rows = np.asarray(answer(~inside, inside))
        if whole is None:
            whole = np.empty((len(parts), *rows.shape[1:]), rows.dtype)
        whole[inside] = rows
    assert whole is not None
    return whole
