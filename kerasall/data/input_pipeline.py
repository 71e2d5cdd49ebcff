"""From an array of pixels or features to the batches of one epoch: shuffle, augment, batch, prefetch.

The order of the whole way is fixed: read -> check the header -> decode -> deterministic chain -> cache
(``pixel_cache``) -> shuffle -> augment -> batch -> prefetch. Everything random is a pure function of
(seed, epoch, index), so a run that goes on at epoch k sees the very batches of an unbroken one.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from kerasall.aligned_arrays import empty_aligned
from kerasall.data.batch_parts import BatchParts, split_batches
from kerasall.data.pixel_cache import PixelCache, PixelChain, decode_pixels
from kerasall.errors import DataError, SettingsError

__all__ = [
    "Augment",
    "PixelCache",
    "PixelChain",
    "decode_pixels",
    "epoch_batches",
    "prediction_batches",
    "weigh_by_class",
]

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Maps images [B, H, W, 3], 0..255, and seeds, int32 [B, 2], to float32 images of the same shape.

Row i of the result depends on row i of both alone.
"""


def epoch_batches(
    pixels: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = False,
    classes: int | None = None,
    augment: Augment | None = None,
    sample_weights: np.ndarray | None = None,
    indices: np.ndarray | None = None,
    parts: int = 1,
) -> tf.data.Dataset:
    """The batches of one epoch; their order and content are a pure function of (seed, epoch).

    Args:
        pixels: N rows: images uint8 [N, H, W, 3], or features or activations [N, ...] of any dtype.
        labels: class indices, integers [N] (then ``classes`` is needed), or probabilities [N, C].
        batch_size: rows a batch; the last batch holds what is left.
        seed: not negative.
        epoch: number of the epoch, from 0.
        shuffle: visit the rows in a random order, each exactly once; else in the given order.
        classes: number of classes C.
        augment: random change of the images, keyed by (seed, epoch, position in ``indices``), so that
            a row that stands twice among the indices (oversampling) is changed in two ways.
        sample_weights: N weights of the rows in the loss.
        indices: the rows that take part, in order, repeats allowed; default all.
        parts: pieces of a batch that pass one after the other, for an optimizer that accumulates as many
            gradients. Where they cannot be of one length, weights make up for it (``BatchParts``).

    Returns:
        A dataset of (rows [B, ...], one-hot float32 [B, C]) or, with weights, (rows, one-hot, float32 [B]).
        Rows keep their dtype unless ``augment`` makes them float32. Its cardinality is known.

    Raises:
        DataError: labels, weights or indices do not fit the pixels.
        SettingsError: a batch size under 1, a negative seed or epoch, or more parts than rows in a batch.
    """
    _require_counts(batch_size, seed, epoch)
    _require_parts(parts, batch_size)
    targets = _one_hot(labels, classes)
    columns = [np.asarray(pixels) if not isinstance(pixels, np.ndarray) else pixels, targets]
    if sample_weights is not None:
        columns.append(np.asarray(sample_weights, np.float32))
    _require_equal_lengths(columns)
    rows = _checked_indices(indices, len(pixels))
    order = np.random.default_rng([seed, epoch]).permutation(len(rows)) if shuffle else np.arange(len(rows))
    cut = split_batches(order, batch_size, parts) if parts > 1 else None
    if cut is not None and cut.factors is not None and sample_weights is None:
        columns.append(np.ones(len(pixels), np.float32))
    batches = _gathered(columns, rows, order, batch_size, cut)
    if augment is None:
        return batches.map(lambda at, *batch: batch).prefetch(tf.data.AUTOTUNE)
    key = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0] >> 1)  # 31 bits: fits int32
    batches = batches.map(
        lambda at, *batch: _augmented(at, batch, augment, key),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def prediction_batches(
    pixels: np.ndarray, *, batch_size: int, indices: np.ndarray | None = None
) -> tf.data.Dataset:
    """Batches of rows [B, ...] alone, in the given order, for prediction."""
    _require_counts(batch_size)
    rows = _checked_indices(indices, len(pixels))
    batches = _gathered([pixels], rows, np.arange(len(rows)), batch_size)
    return batches.map(lambda _, batch: batch).prefetch(tf.data.AUTOTUNE)


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


def _gathered(
    columns: Sequence[np.ndarray],
    rows: np.ndarray,
    order: np.ndarray,
    batch_size: int,
    cut: BatchParts | None = None,
) -> tf.data.Dataset:
    """A dataset of (positions int64 [B], column 0 [B, ...], column 1 [B, ...], ...).

    One numpy gather a batch: several times faster than batching single rows, and it reads no more of
    a file than it needs.
    """
    takers = [_taker(column) for column in columns]

    def gather(at: np.ndarray) -> list[np.ndarray]:
        chosen = rows[at]
        found = [take_rows(chosen) for take_rows in takers]
        if cut is not None and cut.factors is not None:
            found[-1] = found[-1] * cut.factors[at]
        return found

    def take(at: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = tf.numpy_function(gather, [at], [tf.as_dtype(column.dtype) for column in columns])
        shaped = [tf.ensure_shape(p, [None, *c.shape[1:]]) for p, c in zip(parts, columns, strict=True)]
        return (at, *shaped)

    if cut is None:
        dataset = tf.data.Dataset.from_tensor_slices(order.astype(np.int64)).batch(batch_size)
    else:
        positions, stops = tf.constant(cut.order, tf.int64), np.cumsum(cut.sizes)
        spans = tf.data.Dataset.from_tensor_slices((stops - cut.sizes, stops))
        dataset = spans.map(lambda start, stop: positions[start:stop])
    return dataset.map(take, num_parallel_calls=2, deterministic=True)


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


def _augmented(at: tf.Tensor, batch: Sequence[tf.Tensor], augment: Augment, key: int) -> tuple:
    at = tf.cast(at, tf.int32)
    seeds = tf.stack([tf.fill(tf.shape(at), key), at], axis=1)
    images = tf.ensure_shape(augment(batch[0], seeds), batch[0].shape)
    return (images, *batch[1:])


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


def _require_equal_lengths(columns: Sequence[np.ndarray]) -> None:
    lengths = [len(column) for column in columns]
    if len(set(lengths)) != 1:
        raise DataError(f"pixels, labels and weights must have one row each per image, but have {lengths}")


def _checked_indices(indices: np.ndarray | None, count: int) -> np.ndarray:
    rows = np.arange(count) if indices is None else np.asarray(indices)
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer) or not len(rows):
        raise DataError(f"indices must be a list of at least one row number, but are {rows!r}")
    if rows.min() < 0 or rows.max() >= count:
        raise DataError(f"indices must be in [0, {count}), but range from {rows.min()} to {rows.max()}")
    return rows


def _require_parts(parts: int, batch_size: int) -> None:
    if not 1 <= parts <= batch_size:
        raise SettingsError(
            f"a batch of {batch_size} must pass in 1 to {batch_size} parts, but accumulate is {parts}: correct it"
        )


def _require_counts(batch_size: int, seed: int = 0, epoch: int = 0) -> None:
    for name, value, low in (("batch_size", batch_size, 1), ("seed", seed, 0), ("epoch", epoch, 0)):
        if value < low:
            raise SettingsError(f"{name} must be at least {low}, but is {value}: correct the setting")
