"""Operations that change an image's size alone, without TensorFlow: pixels equal to those of the exported graph, bit by bit.

Of a chain (``kerasall.preprocessing``) these are crops, margins and bilinear resizing without antialiasing. The
arithmetic of the last is that of TensorFlow's kernel, in its order: OpenCV's differs in the last digits, and then in
rounded pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from kerasall.decoding.depth import STEP

Change = Callable[[np.ndarray], np.ndarray]
"""uint8 or float32 [h, w, 3] -> the same, of another size."""
_STRIP = 32
"""Rows that are resized at once: what stands between the steps then stays in the processor's cache."""


def read_sizes(steps: Sequence[Mapping[str, Any]]) -> Change:
    """A chain as a function of decoded pixels, uint8 [h, w, 3] -> uint8 [H, W, 3].

    Args:
        steps: the chain's JSON; what it says of 16-bit samples is for the decoder.

    Raises:
        LookupError: names an operation that is done by TensorFlow alone.
    """
    changes, kind = [], np.uint8
    for step in reversed([step for step in steps if step["op"] != STEP]):
        changes.append(_read_step(step, kind))
        if step["op"] == "resize":  # what another one reads is not rounded
            kind = np.float32

    def change(pixels: np.ndarray) -> np.ndarray:
        for each in reversed(changes):
            pixels = each(pixels)
        return pixels if pixels.dtype == np.uint8 else np.rint(pixels).astype(np.uint8)

    return change


def _read_step(step: Mapping[str, Any], kind: type) -> Change:
    match step:
        case {"op": "center_crop", "height": int(height), "width": int(width)}:
            return partial(_crop, height=height, width=width)
        case {"op": "pad_to_square"}:
            return partial(_pad_to_square, value=step.get("value", 0.0))
        case {"op": "resize", "height": int(height), "width": int(width)} if step.get(
            "method", "bilinear"
        ) == "bilinear" and not step.get("antialias", False):
            return partial(_resize, height=height, width=width, kind=kind)
    raise LookupError(" ".join(str(step[key]) for key in ("op", "method") if key in step))


def _crop(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (
        max(has - wanted, 0) // 2 for has, wanted in zip(pixels.shape, (height, width), strict=False)
    )
    pixels = pixels[top : top + height, left : left + width]
    return _pad(pixels, height - pixels.shape[0], width - pixels.shape[1], 0.0)


def _pad_to_square(pixels: np.ndarray, value: float) -> np.ndarray:
    height, width, _ = pixels.shape
    side = max(height, width)
    return _pad(
        pixels if value == int(value) else pixels.astype(np.float32), side - height, side - width, value
    )


def _pad(pixels: np.ndarray, rows: int, columns: int, value: float) -> np.ndarray:
    around = [(missing // 2, missing - missing // 2) for missing in (rows, columns)]
    return np.pad(pixels, (*around, (0, 0)), constant_values=value) if rows or columns else pixels


def _resize(pixels: np.ndarray, height: int, width: int, kind: type) -> np.ndarray:
    """Resized pixels as ``kind``: float32 as they come out, or uint8, rounded half to even."""
    if pixels.shape[:2] == (height, width):
        return pixels
    upper, lower, down = _place(pixels.shape[0], height)
    left, right, across = _place(pixels.shape[1], width)
    left, right = ((3 * each[:, None] + np.arange(3)).ravel() for each in (left, right))
    across = np.repeat(across, 3)
    flat = pixels.reshape(len(pixels), -1)
    resized = np.empty((height, 3 * width), kind)
    for top in range(0, height, _STRIP):
        strip = slice(top, top + _STRIP)
        rows = (flat[each[strip]] for each in (upper, lower))
        above, below = (_mix(each.take(left, 1), each.take(right, 1), across) for each in rows)
        mixed = _mix(above, below, down[strip, None])
        resized[strip] = mixed if kind is np.float32 else np.rint(mixed, out=mixed)
    return resized.reshape(height, width, 3)


def _place(size: int, new_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every new place the old ones on both sides, and how far it lies between them; centres at half coordinates."""
    half = np.float32(0.5)
    at = (np.arange(new_size, dtype=np.float32) + half) * (np.float32(size) / np.float32(new_size)) - half
    low = np.floor(at)
    before = np.maximum(low, 0).astype(np.intp)
    return before, np.minimum(np.ceil(at), size - 1).astype(np.intp), at - low


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """first + (second - first) * share in float32, each step rounded."""
    mixed = np.subtract(second, first, dtype=np.float32)
    mixed *= share
    mixed += first
    return mixed
