"""The last operations of a member's chain inside a graph, where members want images of several sizes.

Only what changes the size of an image is here, in plain Keras operations, equal to the operations of
the same name in ``kerasall.preprocessing``. All else stands in the chain that the members share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from kerasall.errors import SettingsError, did_you_mean

Step = Mapping[str, Any]
"""An operation in a chain's JSON form: ``{"op": "resize", "height": 224, "width": 224}``."""

_Tensor = Any
_METHODS = ("bilinear", "nearest", "bicubic")  # Keras has no "area"


def _resize(
    pixels: _Tensor, height: int, width: int, method: str = "bilinear", antialias: bool = False
) -> _Tensor:
    if method not in _METHODS:
        raise SettingsError(
            f"a member's own resize must be one of {', '.join(_METHODS)}, but is {method!r}: give it to the common chain"
        )
    resized = keras.ops.image.resize(
        pixels, (height, width), interpolation=method, antialias=antialias, data_format="channels_last"
    )
    return keras.ops.clip(resized, 0.0, 255.0) if method == "bicubic" else resized


def _center_crop(pixels: _Tensor, height: int, width: int) -> _Tensor:
    spare = [pixels.shape[1] - height, pixels.shape[2] - width]
    cut = [(max(each, 0) // 2, max(each, 0) - max(each, 0) // 2) for each in spare]
    if max(spare) > 0:
        pixels = keras.layers.Cropping2D(cut, data_format="channels_last", dtype="float32")(pixels)
    return _pad(pixels, [max(-each, 0) for each in spare], 0.0)


def _pad_to_square(pixels: _Tensor, value: float = 0.0) -> _Tensor:
    side = max(pixels.shape[1:3])
    return _pad(pixels, [side - each for each in pixels.shape[1:3]], value)


def _pad(pixels: _Tensor, missing: Sequence[int], value: float) -> _Tensor:
    if not any(missing):
        return pixels
    margins = [(each // 2, each - each // 2) for each in missing]
    return keras.ops.pad(pixels, ((0, 0), *margins, (0, 0)), constant_values=float(value))


PIXEL_STEPS: dict[str, Callable[..., _Tensor]] = {
    "resize": _resize,
    "center_crop": _center_crop,
    "pad_to_square": _pad_to_square,
}
"""Name of an operation -> function of float32 pixels [N, H, W, 3] and its arguments."""


def fit_pixels(
    pixels: _Tensor, size: tuple[int, int], steps: Sequence[Step] | None = None, whose: str = "the model"
) -> _Tensor:
    """Pixels of the common chain as one member is to see them.

    As in a chain, pixels are rounded half to even after the last step, so that the member sees the
    whole numbers that it was trained on. They equal those of a chain that ends with these steps only
    if the common chain before them does not resize: resizing twice is not resizing once.

    Args:
        pixels: float32 [N, H, W, 3] in 0..255, symbolic, of a known size.
        size: height and width that the member takes.
        steps: the member's own operations among ``PIXEL_STEPS``; None: a bilinear resize where the
            size differs.
        whose: the member's name, for messages.

    Returns:
        float32 [N, *size, 3]; ``pixels`` themselves where there is nothing to do.

    Raises:
        SettingsError: an unknown step or argument, or another size in the end.
    """
    if steps is None:
        differs = tuple(pixels.shape[1:3]) != tuple(size)
        steps = [{"op": "resize", "height": size[0], "width": size[1]}] if differs else []
    fitted = pixels
    for step in steps:
        fitted = _apply(fitted, step, whose)
    if tuple(fitted.shape[1:3]) != tuple(size):
        raise SettingsError(
            f"the steps of {whose} must give images of {tuple(size)}, but give {tuple(fitted.shape[1:3])}: "
            "end them with a resize to that size"
        )
    return keras.ops.clip(keras.ops.round(fitted), 0.0, 255.0) if steps else pixels


def _apply(pixels: _Tensor, step: Step, whose: str) -> _Tensor:
    name = str(step.get("op"))
    if name not in PIXEL_STEPS:
        cure = did_you_mean(name, PIXEL_STEPS, "give it to the common chain")
        raise SettingsError(
            f"the steps of {whose} must be among {', '.join(PIXEL_STEPS)}, but one is {name!r}: {cure}"
        )
    try:
        return PIXEL_STEPS[name](pixels, **{key: value for key, value in step.items() if key != "op"})
    except TypeError as error:
        raise SettingsError(
            f"the step {name!r} of {whose} must have the arguments of its operation, but {error}"
        ) from None


def see(model: keras.Model, image: _Tensor, steps: Sequence[Step] | None) -> _Tensor:
    """What ``model`` answers to a symbolic image of the common chain, shown to it by its own steps (``fit_pixels``)."""
    return model(fit_pixels(image, _image_size(model), steps, model.name))


def largest_size(models: Sequence[keras.Model]) -> tuple[int, int]:
    """Size of the model with the largest images: the others lose least when it is brought down to theirs."""
    return max(map(_image_size, models), key=lambda size: size[0] * size[1])


def one_each(what: str, values: Sequence[Any] | None, models: Sequence[keras.Model]) -> Sequence[Any]:
    """``values``, or None for each model where they are None.

    Raises:
        SettingsError: there are more or fewer than models; the message says of ``what``.
    """
    if values is None:
        return [None] * len(models)
    if len(values) != len(models):
        raise SettingsError(f"there must be as many {what} ({len(models)}), but there are {len(values)}")
    return values


def _image_size(model: keras.Model) -> tuple[int, int]:
    _, height, width, _ = model.inputs[0].shape
    return int(height), int(width)
