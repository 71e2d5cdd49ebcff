"""The map of an explanation as pictures: grey for programs, in colours over the image for people."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

_COLOURS = np.array(
    [[0, 0, 4], [60, 9, 101], [130, 37, 103], [202, 70, 65], [245, 125, 21], [250, 193, 39], [252, 255, 164]],
    np.float32,
)
"""From little to much evidence; evenly growing in lightness, so that it reads without colours too."""


def draw_explanation(pixels: np.ndarray, heatmap: np.ndarray) -> dict[str, Any]:
    """Pictures of one image's map.

    Args:
        pixels: uint8 [H, W, 3], what the model was shown.
        heatmap: float32 [H, W] in 0..1.

    Returns:
        ``picture``, ``heatmap`` (grey, 255 where the map is 1) and ``overlay`` as base64 of PNG files, and
        ``has_evidence``, false where the map is zero throughout.
    """
    shares = np.clip(heatmap, 0, 1)
    grey = np.round(255 * shares).astype(np.uint8)
    return {
        "has_evidence": bool(heatmap.max() > 0),
        "picture": _png(pixels),
        "heatmap": _png(grey),
        "overlay": _png(_blend(pixels, shares)),
    }


def _blend(pixels: np.ndarray, shares: np.ndarray) -> np.ndarray:
    positions = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(shares, positions, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    strength = 0.65 * np.sqrt(shares)[..., None]  # where there is no evidence the image stays as it is
    return np.round((1 - strength) * pixels + strength * colours).astype(np.uint8)


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode("ascii")
