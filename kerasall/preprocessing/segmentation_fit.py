"""Bounds of a colour mask from images with given masks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from kerasall.errors import DataError
from kerasall.preprocessing.segmentation import HsvThresholdMask


def fit_hsv_bounds(
    images: Iterable[np.ndarray], masks: Iterable[np.ndarray], **cleaning: Any
) -> HsvThresholdMask:
    """Bounds whose box agrees best with given masks: greatest intersection over union of all pixels.

    The bounds of hue, saturation and value are improved in turn, each by trying every interval, until
    none gets better. Saturation and value bounds are multiples of four.

    Args:
        images: uint8 [H, W, 3] RGB, each of any size. Training images only.
        masks: bool [H, W] for each image: which pixels to keep.
        **cleaning: further arguments of the result, such as ``fill_value``. They do not enter the fit.

    Raises:
        DataError: the masks do not fit the images or keep no pixel.
    """
    kept, every = (np.zeros((180, 64, 64), np.int64) for _ in range(2))
    for image, mask in zip(images, masks, strict=True):
        if mask.shape != image.shape[:2]:
            raise DataError(f"a mask must have its image's size {image.shape[:2]}, but has {mask.shape}")
        colour = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).reshape(-1, 3).astype(np.int64)
        cell = (colour[:, 0] * 64 + colour[:, 1] // 4) * 64 + colour[:, 2] // 4
        every += np.bincount(cell, minlength=every.size).reshape(every.shape)
        kept += np.bincount(cell[mask.ravel().astype(bool)], minlength=kept.size).reshape(kept.shape)
    if not kept.any():
        raise DataError("the masks must keep some pixels to fit bounds to, but keep none: check the masks")
    (hue, saturation, value) = _best_box(kept, every)
    lower = (hue[0], 4 * saturation[0], 4 * value[0])
    upper = (hue[1], 4 * saturation[1] + 3, 4 * value[1] + 3)
    return HsvThresholdMask(lower, upper, **cleaning)


def _best_box(kept: np.ndarray, every: np.ndarray) -> list[tuple[int, int]]:
    box = [(0, length - 1) for length in kept.shape]
    best = -1.0
    while True:
        for axis in range(3):
            others = [
                _indices(box[i], kept.shape[i]) if i != axis else np.arange(kept.shape[i]) for i in range(3)
            ]
            rest = tuple(i for i in range(3) if i != axis)
            along = [counts[np.ix_(*others)].sum(axis=rest) for counts in (kept, every)]
            score, box[axis] = _best_interval(*along, total=int(kept.sum()), circular=axis == 0)
        if score <= best:
            return box
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
