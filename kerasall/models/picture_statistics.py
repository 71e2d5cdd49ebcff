"""What an image looks like, apart from what it shows: colours, contrast and detail at several scales.

A network's last features forget much of that, as its classes do not depend on it: exchanged colour channels, a
dark lamp or a fine grain can leave them where they were. These statistics are the same for every network, and
neither turning an image by quarters nor mirroring it changes them.
"""

from __future__ import annotations

from typing import Any

import keras

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SCALES = 4
"""Bands of detail below the finest, each of half the frequency of the one before; fewer in a small image."""

UNITS = {"quantile": 0.05, "energy": 0.3, "evenness": 0.05, "correlation": 0.2}
"""Statistic -> a difference that counts as 1: about what one camera and stain give from slide to slide."""

SMALLEST_VARIANCE = 0.01
"""In units squared: a statistic that no training image varies (a black ground, say) may still differ a little."""

_Tensor = Any


def measure_pictures(ops: Any, pixels: _Tensor) -> _Tensor:
    """Statistics float32 [N, D] of images.

    Over the three opponent channels grey, red against green and blue against both (the finest band over grey
    alone, as cameras and JPEG files hold colours at half the resolution):

        quantile     of the values, in shares of 255
        energy       log of the root mean square of the detail in each band
        evenness     mean absolute detail over its root mean square: low where detail is rare and strong
        correlation  between each two channels

    Args:
        ops: ``keras.ops``.
        pixels: float32 [N, H, W, 3] in 0..255, H and W known and at least 8.
    """
    grey = ops.mean(pixels, axis=-1, keepdims=True) / 255.0
    channels = _opponent(ops, _halve(ops, pixels) / 255.0)
    found = [*_detail(ops, grey, channels[..., :1]), *_correlations(ops, channels)]
    found += _quantiles(ops, _halve(ops, channels))
    for _ in range(SCALES):
        if min(channels.shape[1:3]) < 4:
            break
        halved = _halve(ops, channels)
        found += _detail(ops, channels, halved)
        channels = halved
    return ops.concatenate(found, axis=-1)


def _halve(ops: Any, image: _Tensor) -> _Tensor:
    return ops.average_pool(image, 2, strides=2, padding="valid")


def _opponent(ops: Any, image: _Tensor) -> _Tensor:
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    return ops.stack([(red + green + blue) / 3, (red - green) / 2, (red + green) / 4 - blue / 2], axis=-1)


def _quantiles(ops: Any, channels: _Tensor) -> list[_Tensor]:
    count = channels.shape[1] * channels.shape[2]
    ordered = ops.sort(ops.reshape(channels, (-1, count, 3)), axis=1)
    return [ordered[:, round(each * (count - 1))] / UNITS["quantile"] for each in QUANTILES]


def _detail(ops: Any, image: _Tensor, halved: _Tensor) -> list[_Tensor]:
    """Energy and evenness of what the means of 2 x 2 pixels leave over."""
    coarse = ops.repeat(ops.repeat(halved, 2, axis=1), 2, axis=2)
    detail = image[:, : coarse.shape[1], : coarse.shape[2]] - coarse
    strength = ops.sqrt(ops.mean(detail * detail, axis=(1, 2)) + 1e-8)
    evenness = ops.mean(ops.abs(detail), axis=(1, 2)) / (strength + 1e-3)
    return [ops.log(strength + 2e-3) / UNITS["energy"], evenness / UNITS["evenness"]]


def _correlations(ops: Any, channels: _Tensor) -> list[_Tensor]:
    centred = channels - ops.mean(channels, axis=(1, 2), keepdims=True)
    deviations = ops.sqrt(ops.mean(centred * centred, axis=(1, 2)) + 1e-6)
    found = []
    for first, second in ((0, 1), (0, 2), (1, 2)):
        product = ops.mean(centred[..., first] * centred[..., second], axis=(1, 2))
        share = product / (deviations[:, first] * deviations[:, second] + 1e-4)
        found.append(share[:, None] / UNITS["correlation"])
    return found


class PictureStatistics(keras.layers.Layer):
    """``measure_pictures`` as a layer: [N, H, W, 3] to [N, D]."""

    def __init__(self) -> None:
        super().__init__(dtype="float32", name="picture_statistics")

    def call(self, pixels: _Tensor) -> _Tensor:
        return measure_pictures(keras.ops, pixels)


def build_statistics_model(image_size: tuple[int, int]) -> keras.Model:
    """A model from pixels 0..255 [N, H, W, 3] to statistics float32 [N, D]."""
    image: _Tensor = keras.Input((*image_size, 3), dtype="float32", name="image")
    return keras.Model(image, PictureStatistics()(image), name="picture_statistics")
