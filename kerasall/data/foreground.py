"""Where the cell is: the foreground of an image on black, and its crop as a small grey picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_BLACK = 12
"""Brightest channel up to which a pixel counts as black: above the ringing of JPEG around a cut-out cell."""

_SMALLEST_BOX = 8
"""A foreground narrower than this, in pixels, is dust; the whole image is taken instead."""


@dataclass(frozen=True)
class Foreground:
    """Foreground of an image.

    Attributes:
        left, top, right, bottom: its bounding box in pixels, right and bottom exclusive.
        mask: bool [height, width] of the whole image; None where everything is foreground, as in a field
            of many cells on a light background.
    """

    left: int
    top: int
    right: int
    bottom: int
    mask: np.ndarray | None

    @property
    def side(self) -> int:
        """Shorter side of the box, in pixels."""
        return min(self.right - self.left, self.bottom - self.top)


def find_foreground(pixels: np.ndarray) -> Foreground:
    """Finds what is not black, if the frame of the image is mostly black.

    Args:
        pixels: uint8 [height, width, 3].
    """
    height, width = pixels.shape[:2]
    whole = Foreground(0, 0, width, height, None)
    bright = cv2.max(cv2.max(pixels[..., 0], pixels[..., 1]), pixels[..., 2]) > _BLACK
    if _frame(bright).mean() > 0.5:
        return whole
    # Opening removes single bright pixels, which would stretch the box.
    mask = cv2.morphologyEx(bright.view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    left, top, box_width, box_height = cv2.boundingRect(mask)
    if min(box_width, box_height) < _SMALLEST_BOX:
        return whole
    return Foreground(left, top, left + box_width, top + box_height, mask.view(bool))


def _frame(bright: np.ndarray) -> np.ndarray:
    """Values of the outermost 2% of rows and columns."""
    width = max(1, round(0.02 * min(bright.shape)))
    edges = (bright[:width], bright[-width:], bright[:, :width], bright[:, -width:])
    return np.concatenate([edge.ravel() for edge in edges])


def crop_to_foreground(pixels: np.ndarray, foreground: Foreground, size: int) -> np.ndarray:
    """The foreground's box as a square grey picture.

    Args:
        pixels: uint8 [height, width, 3], RGB.
        foreground: of these pixels.
        size: side of the result, in pixels.

    Returns:
        uint8 [size, size]: 0 outside the foreground, 1 to 255 inside it.
    """
    rows, columns = slice(foreground.top, foreground.bottom), slice(foreground.left, foreground.right)
    box = np.ascontiguousarray(pixels[rows, columns])
    grey = np.maximum(_resized(cv2.cvtColor(box, cv2.COLOR_RGB2GRAY), size), 1)
    if foreground.mask is not None:
        inside = _resized(foreground.mask[rows, columns].view(np.uint8) * 255, size)
        grey[inside <= 127] = 0
    return grey


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    shrinks = min(image.shape) >= size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
