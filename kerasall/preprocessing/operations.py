"""The contract of an image operation, the table of all operations, and their composition.

An operation is a frozen dataclass that checks its arguments once and maps an image to an image with
TensorFlow operations only, so that it runs eagerly, inside ``Dataset.map`` and inside a SavedModel,
also where height and width are not known beforehand. Its fields are its JSON form. Adding one: the
dataclass in its file (those that change the size stand here), one row in ``OPERATIONS``, one case in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import tensorflow as tf

from kerasall.decoding.depth import FULL, STEP, SixteenBit, find_sixteen_bit, is_sixteen_bit
from kerasall.errors import SettingsError
from kerasall.preprocessing.arguments import (
    arguments_to_json,
    make_from_arguments,
    require_boolean,
    require_choice,
    require_integer,
    require_number,
    unknown_name,
)
from kerasall.preprocessing.contrast import CLAHE, ContrastStretch, Gamma, HistogramEqualization
from kerasall.preprocessing.segmentation import CropToContent, HsvThresholdMask, OtsuMask
from kerasall.preprocessing.stain import (
    MacenkoNormalization,
    ReinhardNormalization,
    StainShift,
    fit_macenko,
    fit_reinhard,
)

LARGEST_SIDE = 8192
RESIZE_METHODS = ("bilinear", "nearest", "area", "bicubic")
_METHODS_WITH_ANTIALIAS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class CenterCrop:
    """Keeps the middle ``height`` x ``width`` pixels.

    A side that is too short is filled up with zeros (black) on both ends. Where the difference is odd,
    the spare pixel is cut from, or added to, the bottom or right end. No pixel is interpolated.

    Attributes:
        height: rows to keep, in pixels.
        width: columns to keep, in pixels.
    """

    height: int
    width: int
    name: ClassVar[str] = "center_crop"

    def __post_init__(self) -> None:
        require_integer(self, "height", 1, LARGEST_SIDE)
        require_integer(self, "width", 1, LARGEST_SIDE)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        size = tf.shape(image)[:2]
        target = tf.constant([self.height, self.width])
        cut = tf.maximum(size - target, 0) // 2
        image = image[cut[0] : cut[0] + self.height, cut[1] : cut[1] + self.width]
        return _pad(image, tf.maximum(target - size, 0), value=0.0)

    def output_size(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        return self.height, self.width


@dataclass(frozen=True)
class Resize:
    """Stretches the image to ``height`` x ``width``; the sides' ratio is not kept.

    Pixel centres lie at half coordinates, as in OpenCV: bilinear without antialiasing is within rounding
    of ``cv2.INTER_LINEAR``, and differs from Pillow, which always antialiases when it shrinks.

    Attributes:
        height: rows, in pixels.
        width: columns, in pixels.
        method: "bilinear", "nearest", "area" (mean over the covered pixels) or "bicubic" (clipped to 0..255).
        antialias: widen the bilinear or bicubic kernel when shrinking, so that fine texture does not alias.
            Off by default: the published systems resized without it.
    """

    height: int
    width: int
    method: str = "bilinear"
    antialias: bool = False
    name: ClassVar[str] = "resize"

    def __post_init__(self) -> None:
        require_integer(self, "height", 1, LARGEST_SIDE)
        require_integer(self, "width", 1, LARGEST_SIDE)
        require_choice(self, "method", RESIZE_METHODS)
        require_boolean(self, "antialias")
        if self.antialias:  # the other methods would ignore it silently
            require_choice(self, "method", _METHODS_WITH_ANTIALIAS)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        size = [self.height, self.width]
        resized = tf.image.resize(image, size, method=self.method, antialias=self.antialias)
        return tf.clip_by_value(resized, 0.0, 255.0) if self.method == "bicubic" else resized

    def output_size(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        return self.height, self.width


@dataclass(frozen=True)
class PadToSquare:
    """Adds margins to the shorter side until the image is square; the image stays in the middle.

    Attributes:
        value: grey level of the margins, 0 (black) to 255.
    """

    value: float = 0.0
    name: ClassVar[str] = "pad_to_square"

    def __post_init__(self) -> None:
        require_number(self, "value", 0, 255)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        size = tf.shape(image)[:2]
        return _pad(image, tf.reduce_max(size) - size, self.value)

    def output_size(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        if height is None or width is None:
            return None, None
        return max(height, width), max(height, width)


def _pad(image: tf.Tensor, missing: tf.Tensor, value: float) -> tf.Tensor:
    before = missing // 2
    after = missing - before
    paddings = [[before[0], after[0]], [before[1], after[1]], [0, 0]]
    return tf.pad(image, paddings, constant_values=tf.cast(value, image.dtype))


class Operation(Protocol):
    """What every row of ``OPERATIONS`` provides.

    Attributes:
        name: the operation's name in JSON and YAML.
    """

    name: ClassVar[str]

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        """Maps one image, float32 [H, W, 3], RGB, 0..255, to an image of the same kind."""
        ...

    def output_size(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        """Height and width of the result in pixels, None where they depend on the image."""
        ...


OPERATIONS: dict[str, type] = {
    "center_crop": CenterCrop,
    "resize": Resize,
    "pad_to_square": PadToSquare,
    "crop_to_content": CropToContent,
    "contrast_stretch": ContrastStretch,
    "gamma": Gamma,
    "histogram_equalization": HistogramEqualization,
    "clahe": CLAHE,
    "otsu_mask": OtsuMask,
    "hsv_threshold_mask": HsvThresholdMask,
    "reinhard": ReinhardNormalization,
    "macenko": MacenkoNormalization,
    "stain_shift": StainShift,
}
"""Every deterministic operation by its name in JSON. Random ones are in ``augmentation``."""

FITS: dict[str, Callable[..., Any]] = {"reinhard": fit_reinhard, "macenko": fit_macenko}
"""Operation name -> fit(images, **arguments), for the operations that can be fitted on training images."""


@dataclass(frozen=True)
class Chain:
    """Operations applied one after the other; equal chains give equal pixels everywhere.

    The image is cast to float32 before the first operation and rounded only after the last:
    TensorFlow rounds integers differently in eager and graph mode, floats alike.

    Example:
        >>> chain = kerasall.Chain.from_json([{"op": "pad_to_square"}, {"op": "resize", "height": 64, "width": 64}])
        >>> chain.output_size, chain.to_json()[0]
        ((64, 64), {'op': 'pad_to_square', 'value': 0.0})
        >>> image = np.zeros((100, 80, 3), np.uint8)
        >>> chain(image).numpy().shape
        (64, 64, 3)

    Attributes:
        operations: the steps in order. An empty chain leaves the pixels as they are.
        sixteen_bit: what becomes of a file's 16-bit samples before the chain: the setting ``data.sixteen_bit``. It stands
            here as nobody may decode an image for the chain in another way.
    """

    operations: tuple[Operation, ...] = ()
    sixteen_bit: SixteenBit = FULL

    def __post_init__(self) -> None:
        object.__setattr__(self, "operations", tuple(self.operations))
        if not is_sixteen_bit(self.sixteen_bit):
            raise SettingsError(
                "a chain must read 16-bit samples in one of the ways of data.sixteen_bit (full, minmax, 8 to 15 bits), but "
                f"has {self.sixteen_bit!r}: correct it"
            )
        for operation in self.operations:
            if OPERATIONS.get(getattr(operation, "name", "")) is not type(operation):
                raise SettingsError(
                    f"a chain must hold operations among {', '.join(OPERATIONS)}, but holds {operation!r}: "
                    "add a row to OPERATIONS or correct the chain"
                )

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        """Maps one image, uint8 [H, W, 3] RGB, to uint8 [h, w, 3]; rounds half to even and clips."""
        with tf.device("CPU:0"):
            return tf.cast(tf.clip_by_value(tf.round(self.unrounded(image)), 0.0, 255.0), tf.uint8)

    def unrounded(self, image: tf.Tensor) -> tf.Tensor:
        """The same before it is rounded and clipped: float32 [h, w, 3]. On the CPU: a GPU has other last digits."""
        with tf.device("CPU:0"):
            image = tf.convert_to_tensor(image)
            height, width = image.shape[0], image.shape[1]
            for number, operation in enumerate(self.operations):
                # Resizing reads whole numbers as they are, to the same result, and writes floats: a quarter to read.
                if number or not isinstance(operation, Resize):
                    image = tf.cast(image, tf.float32)
                height, width = operation.output_size(height, width)
                image = tf.ensure_shape(operation(image), [height, width, 3])
            return tf.cast(image, tf.float32)

    def keeps(self, height: int, width: int) -> bool:
        """Whether every image of this size comes out as it went in: there is nothing but its size to change."""
        return self.only_sizes and all(
            each.output_size(height, width) == (height, width) for each in self.operations
        )

    @property
    def only_sizes(self) -> bool:
        """Whether nothing but the size changes: no value then leaves 0..255 by more than rounding undoes."""
        return all(isinstance(each, CenterCrop | Resize | PadToSquare) for each in self.operations)

    @property
    def bilinear_size(self) -> tuple[int, int] | None:
        """Height and width, where all it does is one bilinear resize without antialiasing; else None."""
        match self.operations:
            case (Resize(method="bilinear", antialias=False) as resize,):
                return resize.height, resize.width
        return None

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of every result, in pixels.

        Raises:
            SettingsError: the size would depend on the image; a network needs one size.
        """
        height: int | None = None
        width: int | None = None
        for operation in self.operations:
            height, width = operation.output_size(height, width)
        if height is None or width is None:
            names = [operation.name for operation in self.operations]
            raise SettingsError(
                f"a chain must give every image the same size, but {names} does not: "
                'end it with {"op": "resize", "height": ..., "width": ...} or a center_crop'
            )
        return height, width

    def to_json(self) -> list[dict[str, Any]]:
        """The chain as JSON: a list of ``{"op": name, argument: value, ...}``."""
        read = [] if self.sixteen_bit == FULL else [{"op": STEP, "read": self.sixteen_bit}]
        return [*read, *({"op": each.name, **arguments_to_json(each)} for each in self.operations)]

    @classmethod
    def from_json(cls, steps: Sequence[Mapping[str, Any]]) -> Chain:
        """Reads what ``to_json`` wrote, or the same by hand; arguments with defaults may be left out.

        Raises:
            SettingsError: not such a list, an unknown operation or argument (the message names the
                nearest known one), a missing argument, or a value out of range.
        """
        _require_list(steps)
        sixteen_bit = find_sixteen_bit(steps)
        own = steps if sixteen_bit == FULL else steps[1:]
        return cls(tuple(_operation_from_json(step) for step in own), sixteen_bit)


def fit_chain(
    steps: Sequence[Mapping[str, Any]],
    images: Callable[[], Iterable[np.ndarray]],
    sixteen_bit: SixteenBit = FULL,
) -> Chain:
    """Makes a chain from JSON, fitting the operations of ``FITS`` whose fitted arguments are left out.

    Each is fitted on the images as the steps before it leave them. A chain that lacks nothing is read as
    by ``Chain.from_json`` and no image is looked at.

    Args:
        steps: the chain's JSON, for example ``[{"op": "reinhard"}, {"op": "resize", ...}]``.
        images: gives training images, uint8 [H, W, 3] RGB; called once for every operation to fit.
        sixteen_bit: how these were read, as all images of the chain will be.

    Raises:
        SettingsError: as ``Chain.from_json``.
        DataError: the images do not allow the fit.
    """
    _require_list(steps)
    done = Chain((), sixteen_bit)
    for step in steps:
        if lacks_fit(step):
            name, arguments = _split(step)
            operation = FITS[name]((done(tf.constant(image)).numpy() for image in images()), **arguments)
        else:
            operation = _operation_from_json(step)
        done = Chain((*done.operations, operation), sixteen_bit)
    return done


def check_steps(steps: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Checks a chain's JSON without fitting anything.

    Returns:
        Height and width of every result, in pixels.

    Raises:
        SettingsError: as ``Chain.from_json``, or the size would depend on the image.
    """
    _require_list(steps)
    if find_sixteen_bit(steps) != FULL:
        raise SettingsError(
            f"preprocess must not say how 16-bit samples are read, but has {steps[0]!r}: set data.sixteen_bit, which checks "
            "and duplicates read too"
        )
    # What is fitted changes colours alone, so the others tell the size.
    return Chain.from_json([step for step in steps if not lacks_fit(step)]).output_size


def lacks_fit(step: Any) -> bool:
    """Whether every fitted argument is absent; a step that has some of them is a mistake to report."""
    if not isinstance(step, Mapping) or step.get("op") not in FITS:
        return False
    known = fields(OPERATIONS[step["op"]])
    fitted = {field.name for field in known if field.default is MISSING}
    return not fitted & set(step) and set(step) <= {"op", *(field.name for field in known)}


def _require_list(steps: Any) -> None:
    if isinstance(steps, str | bytes | Mapping) or not isinstance(steps, Sequence):
        raise SettingsError(f"a chain must be a list of operations, but is {steps!r}")


def _operation_from_json(step: Mapping[str, Any]) -> Any:
    if not isinstance(step, Mapping) or not isinstance(step.get("op"), str):
        raise SettingsError(f'an operation must be a mapping with the key "op", but is {step!r}')
    name, arguments = _split(step)
    if name not in OPERATIONS:
        raise unknown_name("operation", name, list(OPERATIONS))
    return make_from_arguments(OPERATIONS[name], name, arguments)


def _split(step: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a step."""
    return step["op"], {argument: value for argument, value in step.items() if argument != "op"}
