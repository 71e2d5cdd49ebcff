"""Channels of an image, in OpenCV's ranges, and their histograms; what several operations share."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

CHANNELS = ("red", "green", "blue", "grey", "hue", "saturation", "value")


def mix_channels(image: tf.Tensor, matrix: tf.Tensor | np.ndarray) -> tf.Tensor:
    """Channels [..., K] times a matrix [K, L].

    Sums of products instead of a matrix product, which may run in bfloat16 on some processors: training
    and serving must see the same pixels.
    """
    rows = tf.unstack(tf.cast(matrix, image.dtype))
    columns = tf.split(image, len(rows), axis=-1)
    return tf.add_n([column * row for column, row in zip(columns, rows, strict=True)])


def luma(image: tf.Tensor) -> tf.Tensor:
    """Grey [H, W], 0..255, of an image [H, W, 3] (ITU-R BT.601, as ``cv2.COLOR_RGB2GRAY``)."""
    red, green, blue = tf.unstack(image, num=3, axis=-1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def hue_saturation_value(image: tf.Tensor) -> tf.Tensor:
    """Whole numbers, float32 [H, W, 3]: hue 0..179, saturation 0..255, value 0..255, as OpenCV's uint8 HSV.

    A pixel on the edge of two whole numbers may differ by one from OpenCV's integer arithmetic.
    """
    hue, saturation, value = tf.unstack(tf.image.rgb_to_hsv(image), num=3, axis=-1)
    whole = [tf.math.floormod(tf.round(180.0 * hue), 180.0), tf.round(255.0 * saturation), tf.round(value)]
    return tf.stack(whole, axis=-1)


def take_channel(image: tf.Tensor, name: str) -> tf.Tensor:
    """One channel [H, W] of ``CHANNELS``, 0..255 (hue 0..179)."""
    if name == "grey":
        return luma(image)
    if name in CHANNELS[:3]:
        return tf.unstack(image, num=3, axis=-1)[CHANNELS.index(name)]
    return tf.unstack(hue_saturation_value(image), num=3, axis=-1)[CHANNELS.index(name) - 4]


def to_grey_levels(values: tf.Tensor) -> tf.Tensor:
    """Nearest whole grey levels, int32, 0..255."""
    return tf.cast(tf.clip_by_value(tf.round(values), 0.0, 255.0), tf.int32)


def count_levels(levels: tf.Tensor) -> tf.Tensor:
    """How often each grey level occurs in a tensor of any shape: int32 [256]."""
    return tf.math.bincount(tf.reshape(levels, [-1]), minlength=256, maxlength=256, dtype=tf.int32)


def change_luma(image: tf.Tensor, changed: tf.Tensor) -> tf.Tensor:
    """The image with a new luma [H, W] and its old colour differences, clipped to 0..255.

    Adding one number to all three channels leaves R - Y and B - Y, the chroma of YCrCb, as they were.
    """
    return tf.clip_by_value(image + tf.expand_dims(changed - luma(image), -1), 0.0, 255.0)
