"""Bounds of hue, saturation and value that agree best with given masks, and how well any choice of colours could.

All of it is counting: how many pixels of every colour there are, and how many of them the masks keep. Hues are as in
OpenCV, half degrees from 0 to 179; saturation and value are counted in steps of four.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from kerasall.errors import DataError
from kerasall.preprocessing.segmentation import HsvThresholdMask

CHANNELS = ("hue", "saturation", "value")
_COLOURS, _STEPS = (180, 64, 64), (1, 4, 4)


@dataclass(frozen=True, eq=False)
class ColourCounts:
    """Pixels of each colour, int64 [180, 64, 64]: ``every`` one, and those that the masks have ``kept``."""

    kept: np.ndarray
    every: np.ndarray

    @property
    def limit(self) -> float | None:
        """The greatest intersection over union that any choice of colours has with these masks on these images.

        Colours are taken in the order of the share of their pixels that is kept, until the overlap falls: no set of colours
        (of cells of this count) does better, a box of bounds least of all. It knows the masks that it is held against, so nothing that goes by
        a pixel's colour alone can be expected to reach it on other images. None where the masks keep nothing.
        """
        seen = self.every > 0
        kept, every = self.kept[seen], self.every[seen]
        if not kept.any():
            return None
        order = np.argsort(-kept / every, kind="stable")
        together, taken = np.cumsum(kept[order]), np.cumsum(every[order])
        return float((together / (kept.sum() + taken - together)).max())


def count_colours(images: Iterable[np.ndarray], masks: Iterable[np.ndarray]) -> ColourCounts:
    """Counts the pixels of every colour; arguments and errors as ``fit_hsv_bounds``."""
    kept, every = (np.zeros(_COLOURS, np.int64) for _ in range(2))
    for image, mask in zip(images, masks, strict=True):
        if mask.shape != image.shape[:2]:
            raise DataError(f"a mask must have its image's size {image.shape[:2]}, but has {mask.shape}")
        colour = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).reshape(-1, 3).astype(np.int64)
        cell = (colour[:, 0] * 64 + colour[:, 1] // 4) * 64 + colour[:, 2] // 4
        every += np.bincount(cell, minlength=every.size).reshape(every.shape)
        kept += np.bincount(cell[mask.ravel().astype(bool)], minlength=kept.size).reshape(kept.shape)
    return ColourCounts(kept, every)


def fit_hsv_bounds(
    images: Iterable[np.ndarray],
    masks: Iterable[np.ndarray],
    stated: Mapping[str, tuple[int, int]] | None = None,
    cure: str = "check the masks",
    **cleaning: Any,
) -> HsvThresholdMask:
    """Bounds whose box agrees best with given masks: greatest intersection over union of all pixels.

    The bounds of hue, saturation and value are improved in turn, each by trying every interval, until
    none gets better. Fitted bounds of saturation and value are multiples of four.

    Args:
        images: uint8 [H, W, 3] RGB, each of any size. Training images only.
        masks: bool [H, W] for each image: which pixels to keep.
        stated: channel -> least and greatest value that are set: the others are the best beside them.
        cure: what the message says is to be done where the masks keep nothing.
        **cleaning: further arguments of the result, such as ``fill_value``. They do not enter the fit.

    Raises:
        DataError: the masks do not fit the images or keep no pixel, or none in the stated bounds.
    """
    counts, stated = count_colours(images, masks), stated or {}
    if not counts.kept.any():
        raise DataError(f"the masks must keep some pixels to fit bounds to, but keep none: {cure}")
    cells = {
        axis: (stated[channel][0] // step, stated[channel][1] // step)
        for axis, (channel, step) in enumerate(zip(CHANNELS, _STEPS, strict=True))
        if channel in stated
    }
    if not counts.kept[_select(cells)].any():
        words = " and ".join(f"{channel} {low} to {high}" for channel, (low, high) in stated.items())
        raise DataError(
            f"the bounds that are set must hold pixels that the masks keep, but {words} hold none: widen them"
        )
    box = _best_box(counts.kept, counts.every, cells)
    (h0, h1), (s0, s1), (v0, v1) = (
        stated.get(channel, (step * first, step * last + step - 1))
        for channel, step, (first, last) in zip(CHANNELS, _STEPS, box, strict=True)
    )
    return HsvThresholdMask((h0, s0, v0), (h1, s1, v1), **cleaning)


def _select(box: Mapping[int, tuple[int, int]]) -> tuple[np.ndarray, ...]:
    """Index of the colours in a box; an axis without bounds is whole."""
    whole = {axis: (0, length - 1) for axis, length in enumerate(_COLOURS)} | {**box}
    return np.ix_(*(_indices(whole[axis], length) for axis, length in enumerate(_COLOURS)))


def _best_box(
    kept: np.ndarray, every: np.ndarray, stated: Mapping[int, tuple[int, int]]
) -> list[tuple[int, int]]:
    """First and last cell of every axis; those of a stated one are not moved."""
    box = {axis: stated.get(axis, (0, length - 1)) for axis, length in enumerate(_COLOURS)}
    best = -1.0
    while True:
        for axis in sorted({*box} - {*stated}):
            others = {other: bounds for other, bounds in box.items() if other != axis}
            rest = tuple(others)
            along = [counts[_select(others)].sum(axis=rest) for counts in (kept, every)]
            score, box[axis] = _best_interval(*along, total=int(kept.sum()), circular=axis == 0)
        if score <= best:
            return [box[axis] for axis in range(3)]
        best = score


def _indices(bounds: tuple[int, int], length: int) -> np.ndarray:
    first, last = bounds
    return np.arange(first, last + 1 if first <= last else last + 1 + length) % length


def _best_interval(
    kept: np.ndarray, every: np.ndarray, total: int, circular: bool
) -> tuple[float, tuple[int, int]]:
    """The interval [first, last] of greatest intersection over union; past the end if ``circular``."""
    length = len(kept)
    repeat = 2 if circular else 1
    inside, area = (np.concatenate([[0], np.cumsum(np.tile(counts, repeat))]) for counts in (kept, every))
    first, stop = np.meshgrid(np.arange(length), np.arange(1, repeat * length + 1), indexing="ij")
    possible = (stop > first) & (stop - first <= length)
    intersection = np.where(possible, inside[stop] - inside[first], 0)
    union = np.where(possible, area[stop] - area[first] + total - intersection, 1)
    index = np.argmax(intersection / union)
    chosen = int(first.flat[index]), int(stop.flat[index] - 1) % length
    return float((intersection / union).flat[index]), chosen
