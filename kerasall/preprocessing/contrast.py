"""Channels of an image and their histograms, and the operations that change contrast and brightness; the size stays.

Channels are in OpenCV's ranges; the operations on stain and segments use them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from kerasall.errors import SettingsError
from kerasall.preprocessing.arguments import KeepsSize, require_boolean, require_integer, require_number

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


@dataclass(frozen=True)
class ContrastStretch(KeepsSize):
    """Stretches the grey levels between two percentiles of this image to 0..255; beyond them it clips.

    y = 255 (x - x_low) / (x_high - x_low), where x_p is the least whole grey level that at least p percent
    of the values do not exceed. An image whose two percentiles fall together stays as it is.

    Attributes:
        low: percentile that becomes 0, from 0 to 100.
        high: percentile that becomes 255, above ``low``.
        per_channel: stretch red, green and blue each by their own percentiles, which also balances the
            colours; else all three alike.
    """

    low: float = 1.0
    high: float = 99.0
    per_channel: bool = False
    name: ClassVar[str] = "contrast_stretch"

    def __post_init__(self) -> None:
        require_number(self, "low", 0, 100)
        require_number(self, "high", 0, 100)
        require_boolean(self, "per_channel")
        if self.low >= self.high:
            raise SettingsError(
                f"contrast_stretch: low must be under high, but they are {self.low} and {self.high}: swap them"
            )

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        if not self.per_channel:
            return self._stretch(image)
        return tf.stack([self._stretch(channel) for channel in tf.unstack(image, 3, axis=-1)], axis=-1)

    def _stretch(self, values: tf.Tensor) -> tf.Tensor:
        reached = tf.cumsum(tf.cast(count_levels(to_grey_levels(values)), tf.float64))
        low, high = (_level_at(reached, percent) for percent in (self.low, self.high))
        stretched = (values - low) * 255.0 / tf.maximum(high - low, 1.0)
        return tf.where(high > low, tf.clip_by_value(stretched, 0.0, 255.0), values)


def _level_at(reached: tf.Tensor, percent: float) -> tf.Tensor:
    """The least level with ``reached[level] >= percent`` of all; percent 0 is the least level that occurs."""
    needed = tf.maximum(reached[-1] * (percent / 100.0), 0.5)  # half a value: at least one
    return tf.cast(tf.argmax(reached >= needed), tf.float32)


@dataclass(frozen=True)
class Gamma(KeepsSize):
    """Power law y = 255 (x / 255) ^ gamma.

    Attributes:
        gamma: below 1 brightens dark parts, above 1 darkens; 0.1 to 10.
    """

    gamma: float
    name: ClassVar[str] = "gamma"

    def __post_init__(self) -> None:
        require_number(self, "gamma", 0.1, 10)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        return 255.0 * tf.pow(tf.clip_by_value(image / 255.0, 0.0, 1.0), self.gamma)


@dataclass(frozen=True)
class HistogramEqualization(KeepsSize):
    """Spreads the image's luma evenly over 0..255 and keeps its colour differences.

    The luma changes as by ``cv2.equalizeHist``: level v becomes 255 (n(<= v) - n_0) / (n - n_0), where n_0
    counts the darkest level that occurs, so a black background takes no part.
    """

    name: ClassVar[str] = "histogram_equalization"

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        levels = to_grey_levels(luma(image))
        reached = tf.cast(tf.cumsum(count_levels(levels)), tf.float32)
        darkest = tf.gather(reached, tf.reduce_min(levels))
        table = 255.0 * (reached - darkest) / tf.maximum(reached[-1] - darkest, 1.0)
        flat = reached[-1] <= darkest
        return tf.where(flat, image, change_luma(image, tf.gather(table, levels)))


@dataclass(frozen=True)
class CLAHE(KeepsSize):
    """Contrast-limited adaptive histogram equalization of the luma; colour differences stay.

    The image is cut into tiles, each tile's histogram is clipped and equalised, and each pixel is looked
    up in the four nearest tiles and interpolated (Zuiderveld 1994), as ``cv2.createCLAHE`` does.

    Attributes:
        clip_limit: how often a level may occur in a tile, in multiples of an even histogram; 1 to 100.
        tiles: number of tiles along each side, 1 to 64.
    """

    clip_limit: float = 2.0
    tiles: int = 8
    name: ClassVar[str] = "clahe"

    def __post_init__(self) -> None:
        require_number(self, "clip_limit", 1, 100)
        require_integer(self, "tiles", 1, 64)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        levels = to_grey_levels(luma(image))
        size: Any = tf.shape(levels)
        height, width = tf.unstack(size)
        # OpenCV fills up both sides as soon as one cannot be cut evenly, by a whole row of pixels a tile
        # where that side could.
        uneven = tf.reduce_any(size % self.tiles != 0)
        tile = tf.where(uneven, size // self.tiles + 1, size // self.tiles)
        rows = _mirrored(tile[0] * self.tiles, height)
        columns = _mirrored(tile[1] * self.tiles, width)
        padded = tf.gather(tf.gather(levels, rows), columns, axis=1)
        blocks = tf.reshape(padded, [self.tiles, tile[0], self.tiles, tile[1]])
        blocks = tf.reshape(tf.transpose(blocks, [0, 2, 1, 3]), [self.tiles**2, tile[0] * tile[1]])
        return change_luma(image, self._look_up(levels, self._tables(blocks), tile))

    def _tables(self, blocks: tf.Tensor) -> tf.Tensor:
        """Grey level tables, float32 [tiles ** 2, 256], of the tiles' pixels [tiles ** 2, area]."""
        counts = tf.math.bincount(blocks, minlength=256, maxlength=256, axis=-1, dtype=tf.int32)
        area = tf.shape(blocks)[1]
        limit = tf.maximum(tf.cast(self.clip_limit * tf.cast(area, tf.float32) / 256.0, tf.int32), 1)
        excess = tf.reduce_sum(tf.maximum(counts - limit, 0), axis=1, keepdims=True)
        share, rest = excess // 256, tf.math.floormod(excess, 256)
        step = tf.maximum(256 // tf.maximum(rest, 1), 1)  # the rest is dealt out evenly, one a level
        level = tf.range(256)[None]
        dealt = tf.cast((level % step == 0) & (level // step < rest), tf.int32)
        reached = tf.cumsum(tf.minimum(counts, limit) + share + dealt, axis=1)
        return tf.clip_by_value(255.0 * tf.cast(reached, tf.float32) / tf.cast(area, tf.float32), 0.0, 255.0)

    def _look_up(self, levels: tf.Tensor, tables: tf.Tensor, tile: tf.Tensor) -> tf.Tensor:
        (top, bottom, down), (left, right, across) = (
            _neighbours(tf.shape(levels)[axis], tile[axis], self.tiles) for axis in range(2)
        )
        flat = tf.reshape(tables, [-1])

        def table(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
            number = row[:, None] * self.tiles + column[None]
            return tf.gather(flat, number * 256 + levels)

        down, across = down[:, None], across[None]
        upper = table(top, left) * (1.0 - across) + table(top, right) * across
        lower = table(bottom, left) * (1.0 - across) + table(bottom, right) * across
        return upper * (1.0 - down) + lower * down


def _mirrored(count: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Indices 0..count-1 into a side of ``size`` pixels, mirrored about the last pixel beyond it."""
    period = tf.maximum(2 * (size - 1), 1)
    index = tf.range(count) % period
    return tf.minimum(tf.minimum(index, period - index), size - 1)


def _neighbours(count: tf.Tensor, tile: tf.Tensor, tiles: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """For each pixel of a side: the tile before, the tile behind, and the latter's weight."""
    position = tf.cast(tf.range(count), tf.float32) / tf.cast(tile, tf.float32) - 0.5
    before = tf.floor(position)
    first = tf.cast(before, tf.int32)
    return tf.maximum(first, 0), tf.minimum(first + 1, tiles - 1), position - before
