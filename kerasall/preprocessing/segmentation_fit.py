"""Bounds of a colour mask from images with given masks.

Chains whose operations are fitted on training images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from kerasall.errors import DataError
from kerasall.preprocessing.operations import OPERATIONS, Chain
from kerasall.preprocessing.segmentation import HsvThresholdMask
from kerasall.preprocessing.stain import fit_macenko, fit_reinhard

FITS: dict[str, Callable[..., Any]] = {"reinhard": fit_reinhard, "macenko": fit_macenko}

"""Operation name -> fit(images, **arguments), for the operations that can be fitted on images alone."""


def fit_chain(steps: Sequence[Mapping[str, Any]], images: Callable[[], Iterable[np.ndarray]]) -> Chain:
    """Makes a chain from JSON, fitting the operations of ``FITS`` whose fitted arguments are left out.

    Each is fitted on the images as the steps before it leave them. A chain that lacks nothing is read as
    by ``Chain.from_json`` and no image is looked at.

    Args:
        steps: the chain's JSON, for example ``[{"op": "reinhard"}, {"op": "resize", ...}]``.
        images: gives training images, uint8 [H, W, 3] RGB; called once for every operation to fit.

    Raises:
        SettingsError: as ``Chain.from_json``.
        DataError: the images do not allow the fit.
    """
    if isinstance(steps, str | Mapping) or not isinstance(steps, Sequence):
        return Chain.from_json(steps)  # says what is wrong
    done = Chain()
    for step in steps:
        if _lacks_fit(step):
            arguments = {name: value for name, value in step.items() if name != "op"}
            fit = FITS[step["op"]]
            fitted = fit((done(tf.constant(image)).numpy() for image in images()), **arguments)
            done = Chain((*done.operations, fitted))
        else:
            done = Chain((*done.operations, *Chain.from_json([step]).operations))
    return done


def check_steps(steps: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Checks a chain's JSON without fitting anything.

    Returns:
        Height and width of every result, in pixels.

    Raises:
        SettingsError: as ``Chain.from_json``, or the size would depend on the image.
    """
    # What is fitted changes colours alone, so the others tell the size.
    listed = not isinstance(steps, str | Mapping) and isinstance(steps, Sequence)
    return Chain.from_json([step for step in steps if not _lacks_fit(step)] if listed else steps).output_size


def _lacks_fit(step: Any) -> bool:
    """Whether every fitted argument is absent; a step that has some of them is a mistake to report."""
    if not isinstance(step, Mapping) or step.get("op") not in FITS:
        return False
    fields = dataclasses.fields(OPERATIONS[step["op"]])
    fitted = [field.name for field in fields if field.default is dataclasses.MISSING]
    known = {"op", *(field.name for field in fields)}
    return not any(name in step for name in fitted) and set(step) <= known


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
