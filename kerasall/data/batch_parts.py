"""Batches that pass in parts, so that a large batch fits a small device: gradient accumulation's side of the data.

The optimizer averages the gradients of a batch's parts. Parts of unequal length are weighted so that this average
is the gradient of the whole batch, and the last, smaller batch of an epoch is cut into as many parts as the others:
no batch reaches into the next epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class BatchParts:
    """How the rows of one epoch pass.

    Attributes:
        order: positions int64 in the order in which they pass; longer than the epoch's rows only where the last
            batch has fewer rows than parts: its rows then stand in several of them.
        sizes: rows of every part, int64.
        factors: factor of a row's loss, by position, float32; None where all are 1.
    """

    order: np.ndarray
    sizes: np.ndarray
    factors: np.ndarray | None


def split_batches(order: np.ndarray, batch_size: int, parts: int) -> BatchParts:
    """Cuts the batches of an epoch into ``parts`` parts each.

    Args:
        order: the epoch's positions, each of 0..N-1 once.
        batch_size: rows a batch of the optimizer.
        parts: of every batch, at least 1 and at most ``batch_size``.
    """
    visited, sizes = [], []
    factors = np.ones(len(order), np.float32)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        filled = np.resize(batch, max(parts, len(batch)))
        for part in np.array_split(filled, parts):
            times = np.array([np.count_nonzero(filled == at) for at in part]) if len(batch) < parts else 1
            factors[part] = len(part) * parts / (len(batch) * times)
            sizes.append(len(part))
        visited.append(filled)
    even = np.all(factors == 1)
    return BatchParts(np.concatenate(visited), np.array(sizes, np.int64), None if even else factors)
