"""Rows of several arrays, gathered inside a tf.data graph, and what must hold of the numbers that choose them.

One numpy gather a batch: several times faster than batching single rows, and it reads no more of a file than it
needs.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from kerasall.aligned_arrays import empty_aligned
from kerasall.errors import DataError, SettingsError


class RowGather:
    """Takes the same rows of every column.

    Args:
        columns: arrays [N, ...] of equal N, in memory or mapped from files.
        rows: whole numbers [M] in [0, N): what the positions 0..M-1 stand for.
    """

    def __init__(self, columns: Sequence[np.ndarray], rows: np.ndarray) -> None:
        self._takers = [_taker(column) for column in columns]
        self._rows = rows
        self._specs = [tf.TensorSpec([None, *column.shape[1:]], column.dtype) for column in columns]

    def take(self, at: np.ndarray, *factors: np.ndarray) -> list[np.ndarray]:
        """The rows at positions [B], of each column; factors [B], if given, multiply those of the last."""
        chosen = self._rows[at]
        found = [take_rows(chosen) for take_rows in self._takers]
        for factor in factors:
            found[-1] = found[-1] * factor
        return found

    def take_in_graph(self, at: tf.Tensor, *factors: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """``take`` as a part of a graph, whose dataset ``keep`` must then tie to this object."""
        # TensorFlow never lets go of a Python function that it was once given: this one holds no arrays.
        weak = weakref.ref(self)

        def take(*arguments: np.ndarray) -> list[np.ndarray]:
            gather = weak()
            if gather is None:  # the dataset is gone and its iterator about to go: told quietly, to nobody
                raise StopIteration
            return gather.take(*arguments)

        # Stateless: under op determinism a stateful function would lose its parallelism and its prefetching.
        found = tf.numpy_function(take, [at, *factors], [spec.dtype for spec in self._specs], stateful=False)
        return tuple(
            tf.ensure_shape(column, spec.shape) for column, spec in zip(found, self._specs, strict=True)
        )

    def keep(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """``dataset``, which from now on holds this object, as do its iterators and what its own methods derive from it.

        What passes through a ``tf.function``, or is captured by one, must be kept again.
        """
        dataset.gather = self  # pyright: ignore[reportAttributeAccessIssue]
        return dataset


def checked_indices(indices: np.ndarray | None, count: int) -> np.ndarray:
    """The row numbers [M], all of ``count`` rows where none are given.

    Raises:
        DataError: none, not whole numbers, or out of range.
    """
    rows = np.arange(count) if indices is None else np.asarray(indices)
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer) or not len(rows):
        raise DataError(f"indices must be a list of at least one row number, but are {rows!r}")
    if rows.min() < 0 or rows.max() >= count:
        raise DataError(f"indices must be in [0, {count}), but range from {rows.min()} to {rows.max()}")
    return rows


def require_counts(batch_size: int = 1, seed: int = 0, epoch: int = 0) -> None:
    """Raises SettingsError for a batch size under 1, or a negative seed or epoch."""
    for name, value, low in (("batch_size", batch_size, 1), ("seed", seed, 0), ("epoch", epoch, 0)):
        if value < low:
            raise SettingsError(f"{name} must be at least {low}, but is {value}: correct the setting")


def _taker(column: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What takes rows of an array, or of a file mapped into memory."""
    row = column.shape[1:]
    if (
        not isinstance(column, np.memmap)
        or not isinstance(column.base, mmap.mmap)
        or not column.flags.c_contiguous
    ):
        return lambda chosen: np.take(
            column, chosen, axis=0, out=empty_aligned((len(chosen), *row), column.dtype), mode="clip"
        )
    # Read and not mapped: mapped pages would count as the process' own memory, in the end all of the file.
    file, size, start = os.open(str(column.filename), os.O_RDONLY), column[0].nbytes, column.offset

    def read(chosen: np.ndarray) -> np.ndarray:
        found = empty_aligned((len(chosen), *row), column.dtype)
        for each, number in zip(found, chosen, strict=True):
            if os.preadv(file, [each], start + int(number) * size) != size:
                raise DataError(
                    f"{column.filename} must hold whole rows of {size} bytes, but was cut: remove it"
                )
        return found

    weakref.finalize(read, os.close, file)
    return read
