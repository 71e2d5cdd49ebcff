"""Batches of stored features: NumPy arrays, without the cost of a dataset an epoch.

A head on pooled features trains in milliseconds an epoch; a ``tf.data`` graph of its own for each costs many times
that. Order and content are those of ``input_pipeline.epoch_batches``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


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
