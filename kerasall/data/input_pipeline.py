"""From an array of pixels or features to the batches of one epoch: shuffle, augment, batch, prefetch.

The order of the whole way is fixed: read -> check the header -> decode -> deterministic chain -> cache
(``pixel_cache``) -> shuffle -> augment -> batch -> prefetch. Everything random is a pure function of
(seed, epoch, index), so a run that goes on at epoch k sees the very batches of an unbroken one.

Batches of stored features: NumPy arrays, without the cost of a dataset an epoch.

A head on pooled features trains in milliseconds an epoch; a ``tf.data`` graph of its own for each costs many times
that. Order and content are those of ``input_pipeline.epoch_batches``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from kerasall.data.epoch_source import Augment, EpochSource, RowGather, checked_indices, require_counts
from kerasall.data.pixel_cache import PixelCache, PixelChain, decode_pixels
from kerasall.errors import SettingsError


@dataclass(frozen=True, eq=False)
class FeatureBatches:
    """Batches (features [B, ...], targets [B, C]) or with weights [B], gathered as they are asked for.

    Attributes:
        columns: features, targets and, or not, weights: arrays of equal length.
        rows: positions of the rows that take part, in the order they are visited, repeats allowed.
        batch_size: rows a batch; the last batch holds what is left.
    """

    columns: tuple[np.ndarray, ...]
    rows: np.ndarray
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        for start in range(0, len(self.rows), self.batch_size):
            chosen = self.rows[start : start + self.batch_size]
            yield tuple(column[chosen] for column in self.columns)


def feature_batches(
    features: np.ndarray,
    targets: np.ndarray,
    *,
    batch_size: int,
    indices: np.ndarray,
    shuffle: tuple[int, int] | None = None,
    sample_weights: np.ndarray | None = None,
) -> FeatureBatches:
    """The batches of one epoch, equal to those of ``epoch_batches``.

    Args:
        features: float32 [N, ...].
        targets: probabilities [N, C].
        batch_size: rows a batch.
        indices: the rows that take part, in order, repeats allowed.
        shuffle: seed and number of the epoch, which decide the order; None keeps that of ``indices``.
        sample_weights: [N], of the rows in the loss.
    """
    columns = [features, np.asarray(targets, np.float32)]
    if sample_weights is not None:
        columns.append(np.asarray(sample_weights, np.float32))
    rows = np.asarray(indices)
    if shuffle is not None:
        rows = rows[np.random.default_rng(list(shuffle)).permutation(len(rows))]
    return FeatureBatches(tuple(columns), rows, batch_size)


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
