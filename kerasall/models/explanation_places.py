"""Where a feature map lies in the image: the way back through what fitted the image to a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from kerasall.errors import ModelError

_Tensor = Any
Place = Callable[[_Tensor], _Tensor]
"""Maps [N, h, w] of any size -> float32 maps [N, H, W], each value where in the image it belongs."""


def place_in_image(pixels: _Tensor, image: _Tensor) -> Place:
    """Lays maps of what a network saw over the image it was cut from.

    Undoes the steps between ``image`` and ``pixels`` from the last to the first: a resize by a resize,
    a crop by a margin of zeros, as what was cut off was not seen, and a margin by a crop.

    Args:
        pixels: symbolic [None, h', w', 3], what the network takes.
        image: symbolic [None, H, W, 3], what the whole model takes.

    Raises:
        ModelError: a step that moves pixels in some other way.
    """
    steps = [_resize_to(pixels.shape)]
    while pixels is not image:
        operation, node = pixels._keras_history.operation, pixels._keras_history.node_index
        sources = operation._inbound_nodes[node].input_tensors
        kind = type(operation).__name__
        if kind not in _UNDO or len(sources) != 1:
            raise ModelError(
                f"only {', '.join(_UNDO)} may stand between an image and a network whose map is laid over it, but "
                f"{operation.name} is a {kind}"
            )
        steps.append(_UNDO[kind](operation, sources[0]))
        pixels = sources[0]

    def place(maps: _Tensor) -> _Tensor:
        for step in steps:
            maps = step(maps)
        return maps

    return place


def _resize_to(shape: Sequence[int | None]) -> Place:
    height, width = int(shape[1]), int(shape[2])  # pyright: ignore[reportArgumentType]

    def resize(maps: _Tensor) -> _Tensor:
        if tuple(maps.shape[1:3]) == (height, width):
            return maps
        # Half-pixel centres: a cell of the map covers its own share of the image, no more and no less.
        resized: _Tensor = keras.ops.image.resize(
            maps[..., None], (height, width), interpolation="bilinear", data_format="channels_last"
        )
        return resized[..., 0]

    return resize


def _undo_crop(layer: Any, _: _Tensor) -> Place:
    margins = [list(margin) for margin in layer.cropping]
    return lambda maps: keras.ops.pad(maps, [[0, 0], *margins])


def _undo_pad(operation: Any, source: _Tensor) -> Place:
    (top, _), (left, _) = operation.pad_width[1:3]
    height, width = source.shape[1:3]
    return lambda maps: maps[:, top : top + height, left : left + width]


def _undo_resize(_: Any, source: _Tensor) -> Place:
    return _resize_to(source.shape)


def _stay(_: Any, __: _Tensor) -> Place:
    return lambda maps: maps


_UNDO: dict[str, Callable[[Any, _Tensor], Place]] = {
    "Resize": _undo_resize,
    "Cropping2D": _undo_crop,
    "Pad": _undo_pad,
    "Round": _stay,
    "Clip": _stay,
}
"""Kind of operation, as ``pixel_steps`` builds them -> how a map goes back through it."""
