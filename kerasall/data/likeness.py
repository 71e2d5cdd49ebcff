"""How alike two pictures of cells are, whatever their orientation, small shifts, sizes and brightness.

The pictures are the foreground of images, where the cell is, as small grey crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

ORIENTATIONS = 8
"""Quarter turns, unmirrored (0 to 3) and mirrored (4 to 7)."""
_BLACK = 12
"""Brightest channel up to which a pixel counts as black: above the ringing of JPEG around a cut-out cell."""
_SMALLEST_BOX = 8
"""A foreground narrower than this, in pixels, is dust; the whole image is taken instead."""
_ALIGNED_SIDE = 64
"""Side of the pictures that are aligned; the transform found is applied to the larger ones."""
_SMALLEST_OVERLAP = 0.6
"""Least share of a field of cells that must lie within the other after alignment."""


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
    rim = max(1, round(0.02 * min(bright.shape)))  # the outermost 2% of rows and columns
    edges = (bright[:rim], bright[-rim:], bright[:, :rim], bright[:, -rim:])
    if np.concatenate([edge.ravel() for edge in edges]).mean() > 0.5:
        return whole
    # Opening removes single bright pixels, which would stretch the box.
    mask = cv2.morphologyEx(bright.view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    left, top, box_width, box_height = cv2.boundingRect(mask)
    if min(box_width, box_height) < _SMALLEST_BOX:
        return whole
    return Foreground(left, top, left + box_width, top + box_height, mask.view(bool))


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


def orient(pictures: np.ndarray, orientation: int) -> np.ndarray:
    """Mirrors and turns square pictures [..., side, side]."""
    mirrored = pictures[..., ::-1] if orientation >= 4 else pictures
    return np.ascontiguousarray(np.rot90(mirrored, orientation % 4, axes=(-2, -1)))


def squash(band: np.ndarray) -> np.ndarray:
    """The texture of what ``band_pass`` gave: squashed, so that many small structures count and no single strong edge.

    Returns:
        float32 [side, side] in (-1, 1), 0 outside the foreground without its rim.
    """
    strength = float(np.sqrt((band**2).sum() / max(np.count_nonzero(band), 1)))
    return np.tanh(band / max(strength, 1e-6))


def measure_grain(band: np.ndarray, is_field: bool) -> float:
    """How much there is to tell pictures apart by, in grey levels.

    Root mean square of the band of a field; of a cell on black the median of its size, as the edges of a
    nucleus without grain would not tell cells apart.

    Args:
        band: from ``band_pass``.
        is_field: whether all of the picture is foreground.
    """
    sizes = np.abs(band[band != 0])
    if sizes.size == 0:
        return 0.0
    if is_field:
        return float(np.sqrt((sizes**2).mean()))
    sizes.sort()  # NumPy's median takes four times as long for so few
    return float((sizes[(sizes.size - 1) // 2] + sizes[sizes.size // 2]) / 2)


def band_pass(picture: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """Difference of two Gaussian blurs of the foreground, less what cells on black have in common.

    Unrelated cells on black are alike in outline, brightness and the ring of cytoplasm around the nucleus;
    what tells them apart is the grain inside. So the blurs are normalised by the blurred foreground, the rim
    is cut off, and what depends on the distance to the outline alone is taken away.

    Args:
        picture: uint8 [side, side], 0 = background.
        fine: standard deviation of the narrow blur, in thirty-seconds of the side.
        coarse: that of the wide one.

    Returns:
        float32 [side, side] in grey levels, 0 outside the foreground without its rim.
    """
    unit = len(picture) / 32
    foreground = (picture > 0).astype(np.uint8)
    inside = _without_rim(foreground, round(unit)).astype(np.float32)
    count = inside.sum()
    if count == 0:
        return inside
    grey = picture * inside
    band = (_blur(grey, inside, fine * unit) - _blur(grey, inside, coarse * unit)) * inside
    if foreground.all():
        return band - band.sum() / count
    return _without_rings(band, foreground, inside > 0, unit / 2)


def _without_rings(band: np.ndarray, foreground: np.ndarray, inside: np.ndarray, width: float) -> np.ndarray:
    """Takes from every pixel the mean of those as far from the outline, interpolated between rings."""
    distance = cv2.distanceTransform(foreground, cv2.DIST_L2, 5)[inside] / width
    values, ring = band[inside], distance.astype(np.int64)
    counts = np.bincount(ring)
    means = np.bincount(ring, values) / np.maximum(counts, 1)
    filled = np.flatnonzero(counts)
    rest = np.zeros_like(band)
    rest[inside] = values - np.interp(distance.astype(np.float64), filled + 0.5, means[filled])
    return rest


def _without_rim(inside: np.ndarray, width: int) -> np.ndarray:
    if inside.all():
        return inside
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    eroded = cv2.erode(inside, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    # Thin or scattered foreground would vanish.
    return eroded if eroded.sum() > 0.1 * inside.sum() else inside


def _blur(grey: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(grey, (0, 0), sigma) / (cv2.GaussianBlur(inside, (0, 0), sigma) + 1e-3)


def to_unit_length(vectors: np.ndarray) -> np.ndarray:
    """Scales along the last axis to length 1; float32. Zero vectors stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(length, 1e-6)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Grain:
    """What is compared of a picture.

    Attributes:
        texture: float32 [side, side], from ``squash``.
        guide: float32 [up to 64, up to 64], a coarse band of unit strength, by which pictures are aligned;
            None where there is nothing to align by.
        is_field: whether all of the picture is foreground.
    """

    texture: np.ndarray
    guide: np.ndarray | None
    is_field: bool


def extract_grain(picture: np.ndarray, fine: float, coarse: float) -> Grain:
    """Prepares a picture for comparison; arguments as of ``band_pass``."""
    guide = band_pass(_reduced(picture, min(len(picture), _ALIGNED_SIDE)), 1, 6)
    strength = float(guide.std())
    texture = squash(band_pass(picture, fine, coarse))
    return Grain(texture, guide / strength if strength > 1e-3 else None, bool(picture.all()))


def compare_aligned(first: Grain, second: Grain, orientation: int) -> float:
    """Correlation of two pictures' textures after the best small affine alignment.

    The second is mirrored and turned, then shifted, scaled and sheared a little by maximising the enhanced
    correlation coefficient (Evangelidis and Psarakis, 2008) of the guides; the textures are then correlated.
    Foreground of either that the other lacks counts against them.

    Args:
        first, second: of pictures of equal sides.
        orientation: of the second towards the first, 0 to 7.

    Returns:
        Correlation in [-1, 1]; -1 where only a large distortion aligns them or fields overlap too little.
    """
    warp = _align(first, second, orientation)
    # Stretched or squeezed by 15%: a crop by 5% on each side needs 11%.
    stretches = np.linalg.svd(warp[:, :2], compute_uv=False)
    if not (stretches.min() > 0.85 and stretches.max() < 1.18):
        return -1.0
    textures = first.texture, _warped(orient(second.texture, orientation), warp)
    if first.is_field and second.is_field:
        valid = _warped(np.ones(textures[0].shape, np.float32), warp) > 0.99
        if valid.mean() < _SMALLEST_OVERLAP:
            return -1.0
        textures = tuple(texture * valid for texture in textures)
    one, two = (to_unit_length(texture.ravel()) for texture in textures)
    return float(one @ two)


def _align(first: Grain, second: Grain, orientation: int) -> np.ndarray:
    """Affine transform float32 [2, 3] from the first's pixels to the second's; the identity if none is found."""
    warp = np.eye(2, 3, dtype=np.float32)
    if first.guide is None or second.guide is None:
        return warp
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 3e-4)
    everywhere: Any = None  # OpenCV's word for "no mask", which its own stubs forget
    guides = first.guide, orient(second.guide, orientation)
    try:
        _, warp = cv2.findTransformECC(*guides, warp, cv2.MOTION_AFFINE, stop, everywhere, 3)
    except cv2.error:  # no convergence: the pictures are not alike
        return np.eye(2, 3, dtype=np.float32)
    # Pixel centres lie at half coordinates: x' = ratio (A ((x + .5) / ratio - .5) + t + .5) - .5.
    ratio = len(first.texture) / len(first.guide)
    half = np.full(2, 0.5, np.float32)
    warp[:, 2] = ratio * (warp[:, :2] @ (half / ratio - half) + warp[:, 2] + half) - half
    return warp


def _reduced(picture: np.ndarray, side: int) -> np.ndarray:
    if len(picture) == side:
        return picture
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    inside = cv2.resize((picture > 0).astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return np.where(inside > 0.5, np.maximum(small, 1), 0).astype(np.uint8)


def _warped(image: np.ndarray, warp: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(image, warp, image.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
