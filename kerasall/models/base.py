"""The lower two parts of a classifier: pixel scaling and the convolutional base."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from kerasall.errors import ModelError, SettingsError, WeightsError
from kerasall.models.backbones import Backbone, get_backbone
from kerasall.models.saving import load_model
from kerasall.models.weights import resolve_weights

_MEANS = (0.485, 0.456, 0.406)  # of ImageNet's red, green and blue, in 0..1
_DEVIATIONS = (0.229, 0.224, 0.225)
_MEANS_BGR_255 = (103.939, 116.779, 123.68)


def build_preprocess(mode: str, image_size: tuple[int, int], name: str = "preprocess") -> keras.Model:
    """Builds the part that gives a backbone pixels as it was trained to see them.

    The same numbers as ``preprocess_input`` of Keras Applications, made of plain layers in float32
    (whatever the precision policy), so that a saved model needs no code of ours.

    Args:
        mode: "tf", "torch" or "caffe", see ``Backbone.preprocess``.
        image_size: height and width in pixels.
        name: name of the part.

    Returns:
        A model from RGB pixels 0..255, uint8 or float [N, H, W, 3], to float32 of the same shape.
    """
    pixels = keras.Input((*image_size, 3), dtype="float32", name="pixels")
    if mode == "caffe":
        reversed_channels: Any = keras.ops.flip(pixels, axis=-1)
        # Keras numbers operations by a counter of the process; the name must not depend on it.
        reversed_channels._keras_history.operation.name = "rgb_to_bgr"
        scaled = _rescaling(1.0, [-mean for mean in _MEANS_BGR_255])(reversed_channels)
    elif mode == "torch":
        scale = [1 / (255 * deviation) for deviation in _DEVIATIONS]
        offset = [-mean / deviation for mean, deviation in zip(_MEANS, _DEVIATIONS, strict=True)]
        scaled = _rescaling(scale, offset)(pixels)
    elif mode == "tf":
        scaled = _rescaling(1 / 127.5, -1.0)(pixels)
    else:
        raise SettingsError(f"the preprocess mode must be 'tf', 'torch' or 'caffe', but is {mode!r}")
    return keras.Model(pixels, scaled, name=name)


def _rescaling(scale: Any, offset: Any) -> keras.layers.Layer:
    return keras.layers.Rescaling(scale, offset=offset, dtype="float32", name="scale")


FRESH_MOMENTUM = 0.9
"""Momentum of batch normalisation's moving statistics in a backbone with random weights. Keras' 0.99
suits the long trainings of ImageNet; from random weights on some hundred images the statistics would
lag by ten epochs, in which a validated score means nothing."""


def build_backbone(
    name: str,
    image_size: tuple[int, int],
    weights: str | Path = "imagenet",
    alpha: float = 1.0,
    weights_folder: str | Path | None = None,
    seed: int = 0,
    layer_name: str | None = None,
) -> keras.Model:
    """Builds the convolutional base called ``name``: preprocessed pixels to the last feature map.

    Layers that Keras numbers by a counter of the process get numbers that start anew in each
    backbone, so that names do not depend on what was built before.

    Args:
        name: key in ``BACKBONES``.
        image_size: height and width in pixels.
        weights: "imagenet", "random" (batch normalisation then follows new statistics faster, see
            ``FRESH_MOMENTUM``), or the path of a weights file (``resolve_weights``), which
            may be a ``.keras`` classifier of this package: its backbone is taken. ImageNet weights
            of the MobileNets are those trained at 224 pixels, whatever ``image_size`` is.
        alpha: width multiplier, other than 1 only for the MobileNets.
        weights_folder: see ``resolve_weights``.
        seed: of the initial weights: the same seed gives bit-equal weights.
        layer_name: name of the part, by default ``name``.

    Returns:
        A model from float [N, H, W, 3] to float [N, h, w, ``feature_width``].

    Raises:
        SettingsError: an unknown name, an image below the smallest size, an alpha not offered.
        WeightsError: see ``resolve_weights``; or the file holds another architecture.
    """
    row = get_backbone(name)
    require_buildable(row, image_size, alpha)
    path = resolve_weights(row, alpha, weights, weights_folder)
    arguments = {"alpha": alpha} if row.takes_alpha else {}
    constructor = getattr(keras.applications, row.constructor)
    with seeded(f"backbone {seed}"):
        model = constructor(
            include_top=False, weights=None, input_shape=(*image_size, 3), name=name, **arguments
        )
    _number_anew(model)
    model = keras.Model(model.inputs[0], model.outputs[0], name=layer_name or name)
    if path is not None:
        _load_weights(model, path, f"{name} with alpha {alpha}" if row.takes_alpha else name)
    else:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = FRESH_MOMENTUM
    return model


def require_buildable(row: Backbone, image_size: tuple[int, int], alpha: float) -> None:
    """Checks image size and width multiplier against the row.

    Raises:
        SettingsError: an image below the smallest size, or an alpha that is not offered.
    """
    if min(image_size) < row.min_size:
        raise SettingsError(
            f"{row.name} needs images of at least {row.min_size} pixels a side, but the image size is {image_size}"
        )
    if not alpha > 0 or (alpha != 1.0 and not row.takes_alpha):
        offered = "a positive alpha" if row.takes_alpha else "alpha 1.0 (only the MobileNets have another)"
        raise SettingsError(f"{row.name} takes {offered}, but alpha is {alpha}")


@contextmanager
def seeded(seed: str) -> Iterator[None]:
    """Makes Keras draw its default seeds from ``seed`` inside the block; afterwards all is as before.

    Keras takes the seed of every initialiser and generator that has none from Python's ``random``,
    and draws statelessly from there. So nothing global is touched for longer than the block.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _number_anew(model: keras.Model) -> None:
    counts: Counter[str] = Counter()
    for operation in model.operations:
        base = _automatic_name(type(operation).__name__)
        if re.fullmatch(rf"{base}(_\d+)?", operation.name):
            operation.name = f"{base}_{counts[base]}" if counts[base] else base
            counts[base] += 1


def _automatic_name(class_name: str) -> str:
    """The name Keras gives an unnamed layer, without its number: ``BatchNormalization`` is
    ``batch_normalization``, ``Conv2D`` is ``conv2d``.
    """
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", class_name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _load_weights(model: keras.Model, path: Path, what: str) -> None:
    try:
        if path.suffix == ".keras":
            model.set_weights(_backbone_of(load_model(path), model).get_weights())
        else:
            model.load_weights(path)
    except (ValueError, OSError, KeyError, IndexError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise WeightsError(
            f"{path} must hold weights of {what} without its top layers, but loading it failed: {reason}"
        ) from None


def _backbone_of(saved: keras.Model, wanted: keras.Model) -> keras.Model:
    parts = [layer for layer in saved.layers if isinstance(layer, keras.Model)]
    for candidate in [saved, *parts]:
        if [w.shape for w in candidate.weights] == [w.shape for w in wanted.weights]:
            return candidate
    raise ModelError("no part of it has weights of these shapes")
