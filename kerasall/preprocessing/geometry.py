"""Operations that change the size of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from kerasall.preprocessing.arguments import require_boolean, require_choice, require_integer, require_number

LARGEST_SIDE = 8192
RESIZE_METHODS = ("bilinear", "nearest", "area", "bicubic")
_METHODS_WITH_ANTIALIAS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class CenterCrop:
    """Keeps the middle ``height`` x ``width`` pixels.

    A side that is too short is filled up with zeros (black) on both ends. Where the difference is odd,
    the spare pixel is cut from, or added to, the bottom or right end. No pixel is interpolated.

    Attributes:
        height: rows to keep, in pixels.
        width: columns to keep, in pixels.
    """

    height: int
    width: int
    name: ClassVar[str] = "center_crop"

    def __post_init__(self) -> None:
        require_integer(self, "height", 1, LARGEST_SIDE)
        require_integer(self, "width", 1, LARGEST_SIDE)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        size = tf.shape(image)[:2]
        target = tf.constant([self.height, self.width])
        cut = tf.maximum(size - target, 0) // 2
        image = image[cut[0] : cut[0] + self.height, cut[1] : cut[1] + self.width]
        return _pad(image, tf.maximum(target - size, 0), value=0.0)

    def output_size(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        return self.height, self.width


@dataclass(frozen=True)
class Resize:
    """Stretches the image to ``height`` x ``width``; the sides' ratio is not kept.

    Pixel centres lie at half coordinates, as in OpenCV: bilinear without antialiasing is within rounding
    of ``cv2.INTER_LINEAR``, and differs from Pillow, which always antialiases when it shrinks.

    Attributes:
        height: rows, in pixels.
        width: columns, in pixels.
        method: "bilinear", "nearest", "area" (mean over the covered pixels) or "bicubic" (clipped to 0..255).
        antialias: widen the bilinear or bicubic kernel when shrinking, so that fine texture does not alias.
            Off by default: the published systems resized without it.
    """

    height: int
    width: int
    method: str = "bilinear"
    antialias: bool = False
    name: ClassVar[str] = "resize"

    def __post_init__(self) -> None:
        require_integer(self, "height", 1, LARGEST_SIDE)
        require_integer(self, "width", 1, LARGEST_SIDE)
        require_choice(self, "method", RESIZE_METHODS)
        require_boolean(self, "antialias")
        if self.antialias:  # the other methods would ignore it silently
            require_choice(self, "method", _METHODS_WITH_ANTIALIAS)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        size = [self.height, self.width]
        resized = tf.image.resize(image, size, method=self.method, antialias=self.antialias)
        return tf.clip_by_value(resized, 0.0, 255.0) if self.method == "bicubic" else resized

    def output_size(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        return self.height, self.width


@dataclass(frozen=True)
class PadToSquare:
    """Adds margins to the shorter side until the image is square; the image stays in the middle.

    Attributes:
        value: grey level of the margins, 0 (black) to 255.
    """

    value: float = 0.0
    name: ClassVar[str] = "pad_to_square"

    def __post_init__(self) -> None:
        require_number(self, "value", 0, 255)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        size = tf.shape(image)[:2]
        return _pad(image, tf.reduce_max(size) - size, self.value)

    def output_size(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        if height is None or width is None:
            return None, None
        return max(height, width), max(height, width)


def _pad(image: tf.Tensor, missing: tf.Tensor, value: float) -> tf.Tensor:
    before = missing // 2
    after = missing - before
    paddings = [[before[0], after[0]], [before[1], after[1]], [0, 0]]
    return tf.pad(image, paddings, constant_values=tf.cast(value, image.dtype))
