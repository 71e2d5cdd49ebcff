"""Morphology of masks (bool [H, W]) with a square of 2 r + 1 pixels, in TensorFlow."""

from __future__ import annotations

import tensorflow as tf


def open_mask(mask: tf.Tensor, radius: int) -> tf.Tensor:
    """Removes what the square does not fit into; as ``cv2.MORPH_OPEN``."""
    return dilate(erode(mask, radius), radius)


def close_mask(mask: tf.Tensor, radius: int) -> tf.Tensor:
    """Closes gaps that the square does not fit into; as ``cv2.MORPH_CLOSE``."""
    return erode(dilate(mask, radius), radius)


def dilate(mask: tf.Tensor, radius: int) -> tf.Tensor:
    """Adds every pixel within the square about a kept one."""
    return _grow(mask, radius, radius)


def erode(mask: tf.Tensor, radius: int) -> tf.Tensor:
    """Removes every pixel within the square about a blank one; beyond the border nothing is blank."""
    return tf.logical_not(dilate(tf.logical_not(mask), radius))


def fill_holes(mask: tf.Tensor) -> tf.Tensor:
    """Adds the blank pixels that no path of side-by-side blank pixels joins to the border."""
    row, column = (tf.range(tf.shape(mask)[axis]) for axis in range(2))
    edge_row = (row == 0) | (row == row[-1])
    edge_column = (column == 0) | (column == column[-1])
    blank = tf.logical_not(mask)
    outside = blank & (edge_row[:, None] | edge_column[None])

    def spread(outside: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        grown = (_grow(outside, 1, 0) | _grow(outside, 0, 1)) & blank
        return grown, tf.reduce_any(grown != outside)

    outside, _ = tf.while_loop(lambda _, grew: grew, spread, [outside, tf.constant(True)])
    return tf.logical_not(outside)


def _grow(mask: tf.Tensor, down: int, across: int) -> tf.Tensor:
    pixels = tf.cast(mask, tf.float32)[None, :, :, None]
    window = [2 * down + 1, 2 * across + 1]
    return tf.nn.max_pool2d(pixels, window, strides=1, padding="SAME")[0, :, :, 0] > 0
