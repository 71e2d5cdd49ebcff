"""Operations that keep the cells and blank or cut away the rest.

The morphology of their masks (bool [H, W]) has a square of 2 r + 1 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from kerasall.errors import SettingsError
from kerasall.preprocessing.arguments import (
    KeepsSize,
    require_boolean,
    require_choice,
    require_integer,
    require_number,
    require_numbers,
)
from kerasall.preprocessing.contrast import (
    CHANNELS,
    count_levels,
    hue_saturation_value,
    take_channel,
    to_grey_levels,
)

_LARGEST_RADIUS = 50


class _Mask(KeepsSize):
    """Mixed into operations that blank what their mask leaves out."""

    fill_value: float
    opening: int
    closing: int
    fill_holes: bool

    def mask(self, image: tf.Tensor) -> tf.Tensor:
        """Which pixels of an image are kept: bool [H, W]."""
        raise NotImplementedError

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        return tf.where(self.mask(image)[:, :, None], image, self.fill_value)

    def _require_cleaning(self) -> None:
        require_number(self, "fill_value", 0, 255)
        require_integer(self, "opening", 0, _LARGEST_RADIUS)
        require_integer(self, "closing", 0, _LARGEST_RADIUS)
        require_boolean(self, "fill_holes")

    def _clean(self, mask: tf.Tensor) -> tf.Tensor:
        if self.opening:
            mask = open_mask(mask, self.opening)
        if self.closing:
            mask = close_mask(mask, self.closing)
        return fill_holes(mask) if self.fill_holes else mask


@dataclass(frozen=True)
class OtsuMask(_Mask):
    """Blanks the pixels on one side of Otsu's threshold of one channel.

    The threshold t splits this image's 256 grey levels into <= t and > t so that the variance between
    the two parts is greatest (Otsu 1979, equation 18), as ``cv2.THRESH_OTSU`` does.

    Attributes:
        channel: "red", "green", "blue", "grey", "hue", "saturation" or "value".
        keep: "above" or "below" the threshold.
        fill_value: grey level of what is blanked, 0 to 255.
        opening: first remove specks: parts that no square of 2 r + 1 pixels fits into, r in 0 to 50.
        closing: then close gaps narrower than 2 r + 1 pixels.
        fill_holes: then keep also what the kept parts enclose. Takes tens of milliseconds an image.
    """

    channel: str = "saturation"
    keep: str = "above"
    fill_value: float = 0.0
    opening: int = 0
    closing: int = 0
    fill_holes: bool = False
    name: ClassVar[str] = "otsu_mask"

    def __post_init__(self) -> None:
        require_choice(self, "channel", CHANNELS)
        require_choice(self, "keep", ("above", "below"))
        self._require_cleaning()

    def mask(self, image: tf.Tensor) -> tf.Tensor:
        levels = to_grey_levels(take_channel(image, self.channel))
        above = levels > otsu_threshold(count_levels(levels))
        return self._clean(above if self.keep == "above" else tf.logical_not(above))


@dataclass(frozen=True)
class HsvThresholdMask(_Mask):
    """Blanks the pixels outside a box of hue, saturation and value, as ``cv2.inRange`` does.

    Attributes:
        lower: least hue (0 to 179), saturation and value (0 to 255) that are kept.
        upper: greatest that are kept. Where the hue's lower bound exceeds its upper one, the kept hues
            run through 179 and 0 (reds).
        fill_value, opening, closing, fill_holes: as for ``OtsuMask``.
    """

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    fill_value: float = 0.0
    opening: int = 0
    closing: int = 0
    fill_holes: bool = False
    name: ClassVar[str] = "hsv_threshold_mask"

    def __post_init__(self) -> None:
        for bound in ("lower", "upper"):
            require_numbers(self, bound, 3, 0, 255)
            if getattr(self, bound)[0] > 179:
                raise SettingsError(
                    f"hsv_threshold_mask: {bound} must start with a hue from 0 to 179 (half degrees, as in "
                    f"OpenCV), but it is {getattr(self, bound)[0]}: correct the setting"
                )
        if self.lower[1] > self.upper[1] or self.lower[2] > self.upper[2]:
            raise SettingsError(
                "hsv_threshold_mask: lower saturation and value must not exceed the upper ones, but the "
                f"bounds are {list(self.lower)} and {list(self.upper)}: swap them"
            )
        self._require_cleaning()

    def mask(self, image: tf.Tensor) -> tf.Tensor:
        colour = hue_saturation_value(image)
        reached = tf.unstack(colour >= self.lower, num=3, axis=-1)
        within = tf.unstack(colour <= self.upper, num=3, axis=-1)
        wraps = self.lower[0] > self.upper[0]
        hue = reached[0] | within[0] if wraps else reached[0] & within[0]
        return self._clean(hue & reached[1] & within[1] & reached[2] & within[2])


@dataclass(frozen=True)
class CropToContent:
    """Cuts away the margins that hold nothing but background; an image of background alone stays whole.

    Attributes:
        background: grey level of the background, 0 (black) to 255.
        tolerance: a pixel is background if no channel is further from that level.
        margin: pixels to keep around the content, where the image has them.
    """

    background: float = 0.0
    tolerance: float = 10.0
    margin: int = 0
    name: ClassVar[str] = "crop_to_content"

    def __post_init__(self) -> None:
        require_number(self, "background", 0, 255)
        require_number(self, "tolerance", 0, 255)
        require_integer(self, "margin", 0)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        content = tf.reduce_any(tf.abs(image - self.background) > self.tolerance, axis=-1)
        (top, bottom), (left, right) = (self._span(tf.reduce_any(content, axis=axis)) for axis in (1, 0))
        return image[top:bottom, left:right]

    def _span(self, occupied: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """First and last + 1 index to keep of one side, given which of its lines hold content."""
        size = tf.shape(occupied)[0]
        held = tf.cast(tf.where(occupied)[:, 0], tf.int32)
        first = tf.maximum(tf.reduce_min(tf.concat([held, [size]], axis=0)) - self.margin, 0)
        last = tf.minimum(tf.reduce_max(tf.concat([held, [-1]], axis=0)) + 1 + self.margin, size)
        empty = tf.equal(tf.size(held), 0)
        return tf.where(empty, 0, first), tf.where(empty, size, last)

    def output_size(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        return None, None


def otsu_threshold(counts: tf.Tensor) -> tf.Tensor:
    """Otsu's threshold, int32, of a histogram int32 [256]: the darker part is <= it."""
    share = tf.cast(counts, tf.float64) / tf.cast(tf.maximum(tf.reduce_sum(counts), 1), tf.float64)
    weight = tf.cumsum(share)
    moment = tf.cumsum(share * tf.range(256, dtype=tf.float64))
    between = tf.math.divide_no_nan((moment[-1] * weight - moment) ** 2, weight * (1.0 - weight))
    split = (weight > 1e-12) & (weight < 1.0 - 1e-12)  # rounding must not make a peak of an empty part
    return tf.argmax(tf.where(split, between, 0.0), output_type=tf.int32)


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
