"""Random changes of training images: one affine warp and one colour step for a whole batch.

What happens to an image is a pure function of its seed pair, so a run can be repeated or resumed, and
the same image looks different in every epoch. Never part of an exported model.

NumPy draws the amounts, OpenCV moves and recolours the pixels: its warp takes a seventh of the time of
``ImageProjectiveTransformV3`` on a processor (0.34 against 2.4 ms for 224 px), and no graph has to be traced and
optimized anew in every epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import tensorflow as tf

from kerasall.errors import SettingsError
from kerasall.preprocessing.arguments import (
    arguments_to_json,
    make_from_arguments,
    require_boolean,
    require_choice,
    require_number,
    require_numbers,
)
from kerasall.runtime import empty_aligned

FILL_MODES = {
    "constant": cv2.BORDER_CONSTANT,
    "nearest": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT,
    "wrap": cv2.BORDER_WRAP,
}
INTERPOLATIONS = {"bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}

_DRAWS = (
    *("flip_x", "flip_y", "turns", "rotation", "zoom", "shift_x", "shift_y", "shear"),
    *("brightness", "contrast", "saturation"),
    *("stain_scale_0", "stain_scale_1", "stain_scale_2", "stain_shift_0", "stain_shift_1", "stain_shift_2"),
)
"""One uniform number each, in this order: switching one change on leaves the others as they were."""

_QUARTER_TURNS = np.array([[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]])
_LUMA = np.array([0.299, 0.587, 0.114])

# Optical densities of haematoxylin, eosin and DAB in red, green and blue (Ruifrok & Johnston 2001, Table 1),
# each made of length 1 below.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_STAINS /= np.linalg.norm(_STAINS, axis=1, keepdims=True)


@dataclass(frozen=True)
class Augmentation:
    """Settings of the random changes; with all defaults an image stays as it is.

    Every amount is drawn uniformly (zoom: log-uniformly), independently for each image. Geometry is
    about the image's centre, in the order flips, quarter turns, shear, rotation, zoom, shift; colour in
    the order stain, saturation, contrast, brightness.

    Attributes:
        horizontal_flip: mirror left and right in half of the images.
        vertical_flip: mirror top and bottom in half of the images.
        quarter_turns: turn by 0, 90, 180 or 270 degrees, without interpolation; square images only.
        rotation_degrees: turn by up to this angle either way, 0 to 180.
        zoom: least and greatest factor of enlargement, 0.1 to 10; [1, 1] is none.
        shift: move along each axis by up to this fraction of the side, 0 to 1.
        shear_degrees: slant by up to this angle either way, 0 to 60.
        brightness: scale all light by 1 - b to 1 + b, 0 to 1; a black background stays black.
        contrast: scale the distance to the image's mean colour by 1 - c to 1 + c, 0 to 1.
        saturation: scale the distance to the pixel's own grey by 1 - s to 1 + s, 0 to 1.
        stain: scale each of three stains' amounts by 1 - s to 1 + s and add up to s optical density,
            0 to 0.5 (Tellez et al. 2018, section II-C; 0.05 is light).
        fill: what lies beyond the image's border: "constant", "nearest", "reflect" or "wrap".
        fill_value: grey level for "constant", 0 to 255.
        interpolation: "bilinear" or "nearest".
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    quarter_turns: bool = False
    rotation_degrees: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    shear_degrees: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    stain: float = 0.0
    fill: str = "constant"
    fill_value: float = 0.0
    interpolation: str = "bilinear"
    name: ClassVar[str] = "augmentation"

    def __post_init__(self) -> None:
        for switch in ("horizontal_flip", "vertical_flip", "quarter_turns"):
            require_boolean(self, switch)
        limits = {"rotation_degrees": 180, "shear_degrees": 60, "stain": 0.5, "fill_value": 255}
        for amount in ("shift", "brightness", "contrast", "saturation", *limits):
            require_number(self, amount, 0, limits.get(amount, 1))
        require_numbers(self, "zoom", 2, 0.1, 10)
        if self.zoom[0] > self.zoom[1]:
            raise SettingsError(
                f"augmentation: zoom must be [least, greatest], but is {list(self.zoom)}: swap them"
            )
        require_choice(self, "fill", list(FILL_MODES))
        require_choice(self, "interpolation", list(INTERPOLATIONS))

    @property
    def warps(self) -> bool:
        """Whether any change moves pixels."""
        amounts = (self.rotation_degrees, self.shift, self.shear_degrees)
        flips = self.horizontal_flip or self.vertical_flip or self.quarter_turns
        return flips or any(amounts) or self.zoom != (1.0, 1.0)

    @property
    def recolours(self) -> bool:
        """Whether any change alters colours."""
        return any((self.brightness, self.contrast, self.saturation, self.stain))

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Changes a batch of images.

        Args:
            images: uint8 or float [B, H, W, 3], RGB, 0..255.
            seeds: int32 [B, 2]; equal pairs give equal changes.

        Returns:
            float32 [B, H, W, 3], 0..255.
        """
        if not (self.warps or self.recolours):
            return tf.cast(images, tf.float32)
        height, width = images.shape[1:3]
        if self.quarter_turns and height != width:
            raise SettingsError(
                f"augmentation: quarter_turns needs square images, but they are {height}x{width}: "
                "end the chain with equal height and width, or switch it off"
            )

        def change(batch: np.ndarray, pairs: np.ndarray) -> np.ndarray:
            drawn = self.draw(pairs)
            transforms = backward_transforms(drawn, batch.shape[1:3])
            changed = empty_aligned(batch.shape, np.float32)
            for i, image in enumerate(batch):
                self._warp(image, transforms[i], changed[i])
                if self.recolours:
                    amounts = {name: float(values[i]) for name, values in drawn.items()}
                    changed[i] = self._recolour(changed[i], amounts)
            return changed

        changed = tf.numpy_function(change, [images, seeds], tf.float32, stateful=False)
        return tf.ensure_shape(changed, images.shape)

    def draw(self, seeds: np.ndarray) -> dict[str, np.ndarray]:
        """The amounts of change for seeds int32 [B, 2]: name -> float32 [B].

        flip_x and flip_y are -1 (mirrored) or 1, turns 0 to 3, rotation and shear in radians, shifts in
        fractions of the side, stain_shift in optical density; the others are factors.
        """
        unit = dict(zip(_DRAWS, _draw_uniform(np.asarray(seeds), len(_DRAWS)).T, strict=True))

        def around(center: float, amount: float, name: str) -> np.ndarray:
            return center + amount * (2.0 * unit[name] - 1.0)

        low, high = self.zoom
        drawn = {
            "flip_x": np.where(self.horizontal_flip & (unit["flip_x"] < 0.5), -1.0, 1.0),
            "flip_y": np.where(self.vertical_flip & (unit["flip_y"] < 0.5), -1.0, 1.0),
            "turns": np.floor(4.0 * unit["turns"]) * self.quarter_turns,
            "rotation": around(0.0, math.radians(self.rotation_degrees), "rotation"),
            "zoom": low * (high / low) ** unit["zoom"],
            "shift_x": around(0.0, self.shift, "shift_x"),
            "shift_y": around(0.0, self.shift, "shift_y"),
            "shear": around(0.0, math.radians(self.shear_degrees), "shear"),
            "brightness": around(1.0, self.brightness, "brightness"),
            "contrast": around(1.0, self.contrast, "contrast"),
            "saturation": around(1.0, self.saturation, "saturation"),
        }
        for stain in range(3):
            scale, shift = f"stain_scale_{stain}", f"stain_shift_{stain}"
            drawn |= {scale: around(1.0, self.stain, scale), shift: around(0.0, self.stain, shift)}
        return {name: values.astype(np.float32) for name, values in drawn.items()}

    def _warp(self, image: np.ndarray, transform: np.ndarray, moved: np.ndarray) -> None:
        """Writes the moved image into ``moved``, float32 [H, W, 3]."""
        if not self.warps:
            moved[...] = image
            return
        flags, border = INTERPOLATIONS[self.interpolation] | cv2.WARP_INVERSE_MAP, FILL_MODES[self.fill]
        size, filling = (image.shape[1], image.shape[0]), (self.fill_value,) * 3
        cv2.warpAffine(image.astype(np.float32), transform, size, moved, flags, border, filling)

    def _recolour(self, image: np.ndarray, amounts: Mapping[str, float]) -> np.ndarray:
        """Stains in optical density, then all the rest as one matrix and one offset."""
        if self.stain:
            image = _change_stains(image, amounts)
        saturate = amounts["saturation"] * np.eye(3) + (1.0 - amounts["saturation"]) * np.tile(_LUMA, (3, 1))
        mean = saturate @ cv2.mean(image)[:3]
        change = np.column_stack([amounts["contrast"] * saturate, (1.0 - amounts["contrast"]) * mean])
        recoloured = cv2.transform(image, amounts["brightness"] * change)
        return np.clip(recoloured, 0.0, 255.0)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON: argument -> value."""
        return arguments_to_json(self)

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> Augmentation:
        """Reads what ``to_json`` wrote; absent arguments keep their defaults.

        Raises:
            SettingsError: an unknown argument (the message names the nearest) or a value out of range.
        """
        return make_from_arguments(cls, cls.name, settings)


def backward_transforms(drawn: Mapping[str, np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Where each pixel of the result comes from: x = a0 u + a1 v + a2, y = b0 u + b1 v + b2.

    Args:
        drawn: amounts as ``Augmentation.draw`` gives them.
        size: height and width.

    Returns:
        float32 [B, 2, 3]: rows a and b. Flips and quarter turns alone have exact integers.
    """
    height, width = size
    center_x, center_y = (width - 1.0) / 2.0, (height - 1.0) / 2.0
    cos, sin, slant = np.cos(drawn["rotation"]), np.sin(drawn["rotation"]), np.tan(drawn["shear"])
    # Backwards: undo the shift, the zoom, the rotation, the shear, the quarter turns and the flips.
    turned_x = [(cos + slant * sin) / drawn["zoom"], (sin - slant * cos) / drawn["zoom"]]
    turned_y = [-sin / drawn["zoom"], cos / drawn["zoom"]]
    turns = _QUARTER_TURNS[drawn["turns"].astype(int)]
    rows = []
    for axis, flip, center in ((0, drawn["flip_x"], center_x), (1, drawn["flip_y"], center_y)):
        a, b = (flip * (turns[:, axis, 0] * turned_x[i] + turns[:, axis, 1] * turned_y[i]) for i in range(2))
        origin_x = center_x + drawn["shift_x"] * width
        origin_y = center_y + drawn["shift_y"] * height
        rows.append(np.stack([a, b, center - a * origin_x - b * origin_y], axis=1))
    return np.stack(rows, axis=1).astype(np.float32)


def _draw_uniform(seeds: np.ndarray, count: int) -> np.ndarray:
    """Numbers from 0 to 1, float64 [B, count], a pure function of each pair of seeds, int32 [B, 2].

    SplitMix64 (Steele, Lea & Flood 2014, section 4.1), started where its own mix takes the pair.
    """
    pairs = seeds.astype(np.uint32).astype(np.uint64)
    state = _mix((pairs[:, 0] << np.uint64(32)) | pairs[:, 1])
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (_mix(state[:, None] + steps) >> np.uint64(11)) * 2.0**-53


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _change_stains(image: np.ndarray, amounts: Mapping[str, float]) -> np.ndarray:
    """Scales and shifts the amounts of three stains, in optical density (Beer-Lambert)."""
    scale = np.diag([amounts[f"stain_scale_{i}"] for i in range(3)])
    shift = np.array([amounts[f"stain_shift_{i}"] for i in range(3)])
    # A density is a row of stain amounts times _STAINS; as columns: D' = S^T diag S^-T D + S^T shift.
    change = _STAINS.T @ scale @ np.linalg.inv(_STAINS.T)
    density = -np.log((image + 1.0) / 256.0)
    changed = cv2.transform(density, np.column_stack([change, _STAINS.T @ shift]))
    return np.clip(256.0 * np.exp(-changed) - 1.0, 0.0, 255.0)
