"""From an array of pixels or features to the batches of one epoch: shuffle, augment, batch, prefetch.

The order of the whole way is fixed: read -> check the header -> decode -> deterministic chain -> cache
(``pixel_cache``) -> shuffle -> augment -> batch -> prefetch. Everything random is a pure function of
(seed, epoch, index), so a run that goes on at epoch k sees the very batches of an unbroken one.

Tracing a ``tf.data`` graph takes some 30 ms and starting it as long again, which shows where an epoch takes a second.
So one graph serves all epochs of a stage: it is traced once, as a function of all that differs between them (the
order, the key of the augmentation), and started without the rewrites of graphs from which it gains nothing. A head on
pooled features trains in milliseconds an epoch: its batches (``FeatureBatches``) are NumPy arrays without any graph.

Batches may pass in parts, so that a large batch fits a small device (gradient accumulation). The optimizer averages
the gradients of a batch's parts. Parts of unequal length are weighted so that this average is the gradient of the
whole batch, and the last, smaller batch of an epoch is cut into as many parts as the others: no batch reaches into
the next epoch.

Rows are taken by one numpy gather a batch: several times faster than batching single rows, and it reads no more of a
file than it needs.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from kerasall.errors import DataError, SettingsError
from kerasall.runtime import empty_aligned

_GATHERED_BYTES = 16 << 20
"""Of batches of features that are taken in one go."""

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Maps images [B, H, W, 3], 0..255, and seeds, int32 [B, 2], to float32 images of the same shape.

Row i of the result depends on row i of both alone.
"""


class EpochSource:
    """Hands out the dataset of any epoch; order and content are a pure function of (seed, epoch).

    Datasets of several epochs may be iterated at once: nothing passes from one to another.

    Args:
        pixels: N rows: images uint8 [N, H, W, 3], or features or activations [N, ...] of any dtype.
        labels: class indices, integers [N] (then ``classes`` is needed), or probabilities [N, C].
        batch_size: rows a batch; the last batch holds what is left.
        seed: not negative.
        shuffle: visit the rows in a random order, each exactly once; else in the given order.
        classes: number of classes C.
        augment: random change of the images, keyed by (seed, epoch, position in ``indices``), so that
            a row that stands twice among the indices (oversampling) is changed in two ways.
        sample_weights: N weights of the rows in the loss.
        indices: the rows that take part, in order, repeats allowed; default all.
        parts: pieces of a batch that pass one after the other, for an optimizer that accumulates as many
            gradients. Where they cannot be of one length, weights make up for it (``BatchParts``).

    Raises:
        DataError: labels, weights or indices do not fit the pixels.
        SettingsError: a batch size under 1, a negative seed, or more parts than rows in a batch.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        classes: int | None = None,
        augment: Augment | None = None,
        sample_weights: np.ndarray | None = None,
        indices: np.ndarray | None = None,
        parts: int = 1,
    ) -> None:
        _require_counts(batch_size, seed)
        if not 1 <= parts <= batch_size:
            raise SettingsError(
                f"a batch of {batch_size} must pass in 1 to {batch_size} parts, but accumulate is {parts}: correct it"
            )
        columns = [np.asanyarray(pixels), _one_hot(labels, classes)]  # a memory map stays one
        if sample_weights is not None:
            columns.append(np.asarray(sample_weights, np.float32))
        lengths = [len(column) for column in columns]
        if len(set(lengths)) != 1:
            raise DataError(
                f"pixels, labels and weights must have one row each per image, but have {lengths}"
            )
        rows = _checked_indices(indices, len(pixels))
        self._count, self._seed, self._shuffle = len(rows), seed, shuffle
        self._batch_size, self._parts = batch_size, parts
        # Which rows get weights depends on the order; whether any do, does not.
        cut = self._cut(np.arange(len(rows)))
        weighted = cut is not None and cut.factors is not None
        if weighted and sample_weights is None:
            columns.append(np.ones(len(pixels), np.float32))
        self._gather = RowGather(columns, rows)
        self._make = _make_graph(self._gather, batch_size, cut, augment)

    def epoch(self, epoch: int = 0) -> tf.data.Dataset:
        """The batches of one epoch.

        Args:
            epoch: its number, from 0.

        Returns:
            A dataset of (rows [B, ...], one-hot float32 [B, C]) or, with weights, (rows, one-hot, float32 [B]).
            Rows keep their dtype unless ``augment`` makes them float32. Its cardinality is known.

        Raises:
            SettingsError: a negative epoch.
        """
        _require_counts(epoch=epoch)
        random = np.random.default_rng([self._seed, epoch])
        order = random.permutation(self._count) if self._shuffle else np.arange(self._count)
        cut = self._cut(order)
        factors = np.zeros(0, np.float32)
        if cut is not None:
            order, factors = cut.order, factors if cut.factors is None else cut.factors[cut.order]
        key = np.random.SeedSequence([self._seed, epoch]).generate_state(1)[0] >> 1  # 31 bits: fits int32
        return self._gather.keep(self._make(order.astype(np.int64), factors, np.int32(key)))

    def _cut(self, order: np.ndarray) -> BatchParts | None:
        return split_batches(order, self._batch_size, self._parts) if self._parts > 1 else None


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
    _require_counts(batch_size)
    rows = _checked_indices(indices, len(pixels))
    gather = RowGather([pixels], rows)
    batches = tf.data.Dataset.from_tensor_slices(np.arange(len(rows))).batch(batch_size)
    batches = batches.map(lambda at: gather.take_in_graph(at)[0], num_parallel_calls=2, deterministic=True)
    return gather.keep(batches.prefetch(tf.data.AUTOTUNE))


class FeatureBatches:
    """The batches of one epoch as NumPy arrays, gathered as they are asked for; equal to those of ``epoch_batches``.

    They are (features [B, ...], targets [B, C]), or with weights [B].

    Args:
        features: float32 [N, ...].
        targets: probabilities [N, C].
        batch_size: rows a batch; the last batch holds what is left.
        indices: the rows that take part, in order, repeats allowed.
        shuffle: seed and number of the epoch, which decide the order; None keeps that of ``indices``.
        sample_weights: [N], of the rows in the loss.
    """

    def __init__(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        *,
        batch_size: int,
        indices: np.ndarray,
        shuffle: tuple[int, int] | None = None,
        sample_weights: np.ndarray | None = None,
    ) -> None:
        weights = [] if sample_weights is None else [np.asarray(sample_weights, np.float32)]
        self._columns = [features, np.asarray(targets, np.float32), *weights]
        rows = np.asarray(indices)
        self._rows = rows if shuffle is None else np.random.default_rng(list(shuffle)).permutation(rows)
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        size = self._batch_size
        many = size * max(1, _GATHERED_BYTES // (size * sum(column[0].nbytes for column in self._columns)))
        for start in range(0, len(self._rows), many):
            chosen = self._rows[start : start + many]
            # Of several batches in one go: they then lie one after another, and pass together without a copy.
            gathered = [_take_rows(column, chosen) for column in self._columns]
            for at in range(0, len(chosen), size):
                yield tuple(column[at : at + size] for column in gathered)


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


def _taker(column: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What takes rows of an array, or of a file mapped into memory."""
    row = column.shape[1:]
    is_whole = isinstance(column.base, mmap.mmap) and column.flags.c_contiguous
    if not isinstance(column, np.memmap) or not is_whole:
        return partial(_take_rows, column)
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


def _take_rows(column: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The chosen rows of an array; they become a tensor without a copy."""
    out = empty_aligned((len(chosen), *column.shape[1:]), column.dtype)
    return np.take(column, chosen, axis=0, out=out, mode="clip")


def _make_graph(
    gather: RowGather, batch_size: int, cut: BatchParts | None, augment: Augment | None
) -> Callable[..., tf.data.Dataset]:
    """What gives an epoch's dataset: a function of order int64 [M], factors float32 [M] or [0] and key int32 []."""
    weighted = cut is not None and cut.factors is not None
    threads, ahead = (2, 2) if augment is None else (tf.data.AUTOTUNE, tf.data.AUTOTUNE)
    # Without rewrites of the graph, and where nothing random is computed without threads that tune it.
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = augment is not None
    change = None if augment is None else tf.function(augment)  # which may branch on tensors, as in any map

    def make(order: tf.Tensor, factors: tf.Tensor, key: tf.Tensor) -> tf.data.Dataset:
        def take(at: tf.Tensor, *factors: tf.Tensor) -> tuple[tf.Tensor, ...]:
            batch = gather.take_in_graph(at, *factors)
            return batch if change is None else _changed(at, batch, change, key)

        def take_span(start: tf.Tensor, stop: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return take(order[start:stop], *([factors[start:stop]] if weighted else []))

        if cut is None:
            positions = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
        else:
            stops = np.cumsum(cut.sizes)
            positions = tf.data.Dataset.from_tensor_slices((stops - cut.sizes, stops))
        batches = positions.map(
            take if cut is None else take_span, num_parallel_calls=threads, deterministic=True
        )
        return batches.prefetch(ahead).with_options(options)

    specs = [tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32)]
    return tf.function(make, input_signature=specs, autograph=False)


def _changed(at: tf.Tensor, batch: Sequence[tf.Tensor], change: Augment, key: tf.Tensor) -> tuple:
    at = tf.cast(at, tf.int32)
    seeds = tf.stack([tf.fill(tf.shape(at), key), at], axis=1)
    images = tf.ensure_shape(change(batch[0], seeds), batch[0].shape)
    return (images, *batch[1:])


def _checked_indices(indices: np.ndarray | None, count: int) -> np.ndarray:
    """The row numbers [M], all of ``count`` rows where none are given."""
    rows = np.arange(count) if indices is None else np.asarray(indices)
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer) or not len(rows):
        raise DataError(f"indices must be a list of at least one row number, but are {rows!r}")
    if rows.min() < 0 or rows.max() >= count:
        raise DataError(f"indices must be in [0, {count}), but range from {rows.min()} to {rows.max()}")
    return rows


def _require_counts(batch_size: int = 1, seed: int = 0, epoch: int = 0) -> None:
    """Raises SettingsError for a batch size under 1, or a negative seed or epoch."""
    for name, value, low in (("batch_size", batch_size, 1), ("seed", seed, 0), ("epoch", epoch, 0)):
        if value < low:
            raise SettingsError(f"{name} must be at least {low}, but is {value}: correct the setting")


def _one_hot(labels: np.ndarray, classes: int | None) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim == 2:
        return labels.astype(np.float32)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or classes is None:
        raise DataError(
            "labels must be class indices (integers [N], with the number of classes) or probabilities [N, C], "
            f"but have shape {labels.shape}, dtype {labels.dtype} and classes={classes}"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(f"labels must be in [0, {classes}), but range from {labels.min()} to {labels.max()}")
    return np.eye(classes, dtype=np.float32)[labels]
