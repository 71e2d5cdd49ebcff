"""From an array of pixels or features to the batches of one epoch: shuffle, augment, batch, prefetch.

The order of the whole way is fixed: read -> check the header -> decode -> deterministic chain -> cache
(``pixel_cache``) -> shuffle -> augment -> batch -> prefetch. Everything random is a pure function of
(seed, epoch, index), so a run that goes on at epoch k sees the very batches of an unbroken one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kerasall.data.epoch_source import Augment, EpochSource
from kerasall.data.pixel_cache import PixelCache, PixelChain, decode_pixels
from kerasall.data.row_gathering import RowGather, checked_indices, require_counts
from kerasall.errors import SettingsError

__all__ = [
    "Augment",
    "EpochSource",
    "PixelCache",
    "PixelChain",
    "decode_pixels",
    "epoch_batches",
    "prediction_batches",
    "weigh_by_class",
]


def epoch_batches(
    pixels: np.ndarray, labels: np.ndarray, *, epoch: int = 0, **settings: Any
) -> tf.data.Dataset:
    """The batches of one epoch; their order and content are a pure function of (seed, epoch).

    For one pass. Where several epochs follow each other, ``EpochSource``, which takes the same arguments, hands out
    the very same batches and builds what they share but once.

    Args:
        pixels, labels, settings: of ``EpochSource``: ``batch_size`` and what else it takes.
        epoch: number of the epoch, from 0.

    Raises:
        DataError, SettingsError: as ``EpochSource``.
    """
    return EpochSource(pixels, labels, **settings).epoch(epoch)


def prediction_batches(
    pixels: np.ndarray, *, batch_size: int, indices: np.ndarray | None = None
) -> tf.data.Dataset:
    """Batches of rows [B, ...] alone, in the given order, for prediction."""
    require_counts(batch_size)
    rows = checked_indices(indices, len(pixels))
    gather = RowGather([pixels], rows)
    batches = tf.data.Dataset.from_tensor_slices(np.arange(len(rows))).batch(batch_size)
    batches = batches.map(lambda at: gather.take_in_graph(at)[0], num_parallel_calls=2, deterministic=True)
    return gather.keep(batches.prefetch(tf.data.AUTOTUNE))


def weigh_by_class(labels: np.ndarray, class_weights: Mapping[int, float]) -> np.ndarray:
    """Sample weights, float32 [N], from one weight per class index.

    Raises:
        SettingsError: a class that occurs among the labels has no weight, or a weight is not positive.
    """
    labels = np.asarray(labels)
    missing = sorted(set(labels.tolist()) - set(class_weights))
    if missing:
        raise SettingsError(
            f"every class needs a weight, but the class indices {missing} have none: add them"
        )
    wrong = {index: weight for index, weight in class_weights.items() if not 0 < weight < np.inf}
    if wrong:
        raise SettingsError(f"class weights must be positive numbers, but found {wrong}: correct them")
    return np.asarray([class_weights[label] for label in labels.tolist()], np.float32)
