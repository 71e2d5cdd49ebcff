"""The three parts of a classifier: pixel scaling, the convolutional base, and the head."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kerasall.errors import ModelError, SettingsError, WeightsError
from kerasall.models.backbones import Backbone, get_backbone
from kerasall.models.saving import load_model
from kerasall.models.weights import resolve_weights

_MEANS = (0.485, 0.456, 0.406)  # of ImageNet's red, green and blue, in 0..1
_DEVIATIONS = (0.229, 0.224, 0.225)
_SCALES: dict[str, tuple[Any, Any]] = {
    "tf": (1 / 127.5, -1.0),
    "torch": (
        [1 / (255 * deviation) for deviation in _DEVIATIONS],
        [-mean / deviation for mean, deviation in zip(_MEANS, _DEVIATIONS, strict=True)],
    ),
    "caffe": (1.0, [-103.939, -116.779, -123.68]),  # in the order blue, green, red
}
"""Kind of ``Backbone.preprocess`` -> factor and offset of pixels 0..255."""

STANDARDISED_PIXELS = "standardised"
"""In place of a backbone's own preprocessing: every image with mean 0 and variance 1 over its pixels and channels."""

MOVING_MOMENTUM = 0.9
"""Momentum of batch normalisation's moving statistics, where it trains; the default of PyTorch and MATLAB. Keras' 0.99, and the
0.999 of its MobileNetV2, suit the long trainings of ImageNet: on some hundred images the statistics would lag by ten epochs
and more behind what they normalise, in which a network that has learnt well answers like one that has not."""

POOLED = "pooled"
"""Name of the head's first layer, whose output is the pooled feature vector."""

UNPOOLED = "unpooled"
"""Name of the layer that takes its place where all places of the feature map are kept."""


def build_preprocess(mode: str, image_size: tuple[int, int], name: str = "preprocess") -> keras.Model:
    """Builds the part that gives a backbone pixels as it was trained to see them.

    The same numbers as ``preprocess_input`` of Keras Applications, made of plain layers in float32
    (whatever the precision policy), so that a saved model needs no code of ours.

    Args:
        mode: "tf", "torch" or "caffe", see ``Backbone.preprocess``; or ``STANDARDISED_PIXELS``.
        image_size: height and width in pixels.
        name: name of the part.

    Returns:
        A model from RGB pixels 0..255, uint8 or float [N, H, W, 3], to float32 of the same shape.
    """
    if mode not in (*_SCALES, STANDARDISED_PIXELS):
        raise SettingsError(f"the preprocess mode must be 'tf', 'torch' or 'caffe', but is {mode!r}")
    pixels: Any = keras.Input((*image_size, 3), dtype="float32", name="pixels")
    if mode == STANDARDISED_PIXELS:
        # In grey levels squared: an image of one colour stays at 0.
        options: dict[str, Any] = {"axis": (1, 2, 3), "epsilon": 1e-3, "center": False, "scale": False}
        layer = keras.layers.LayerNormalization(**options, dtype="float32", name="scale")
        return keras.Model(pixels, layer(pixels), name=name)
    ordered: Any = pixels
    if mode == "caffe":
        ordered = keras.ops.flip(pixels, axis=-1)
        # Keras numbers operations by a counter of the process; the name must not depend on it.
        ordered._keras_history.operation.name = "rgb_to_bgr"
    scale, offset = _SCALES[mode]
    scaled = keras.layers.Rescaling(scale, offset=offset, dtype="float32", name="scale")(ordered)
    return keras.Model(pixels, scaled, name=name)


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
        weights: "imagenet", "random", or the path of a weights file (``resolve_weights``), which may be a
            ``.keras`` classifier of this package: its backbone is taken. ImageNet weights of the MobileNets
            are those trained at 224 pixels, whatever ``image_size`` is.
        alpha: width multiplier, other than 1 only for the MobileNets.
        weights_folder: see ``resolve_weights``.
        seed: of the initial weights: the same seed gives bit-equal weights.
        layer_name: name of the part, by default ``name``.

    Returns:
        A model from float [N, H, W, 3] to float [N, h, w, channels]; its batch normalisation has ``MOVING_MOMENTUM``.

    Raises:
        SettingsError: an unknown name, an image below the smallest size, an alpha not offered.
        WeightsError: see ``resolve_weights``; or the file holds another architecture.
    """
    row = get_backbone(name)
    _require_buildable(row, image_size, alpha)
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
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = MOVING_MOMENTUM
    return model


@dataclass(frozen=True)
class HeadSettings:
    """What stands between pooled features and probabilities.

    Attributes:
        dense: units of hidden dense layers with ReLU, in order; none for a linear classifier.
        dropout: share of values dropped before the last layer while training, in [0, 1).
    """

    dense: tuple[int, ...] = ()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "dense", tuple(self.dense))
        if any(not isinstance(units, int) or units < 1 for units in self.dense):
            raise SettingsError(f"head.dense must be whole numbers of at least 1, but is {list(self.dense)}")
        if not 0 <= self.dropout < 1:
            raise SettingsError(f"head.dropout must lie in [0, 1), but is {self.dropout}")


def build_head(
    feature_shape: tuple[int, int, int],
    classes: int,
    settings: HeadSettings,
    seed: int = 0,
    name: str = "head",
) -> keras.Model:
    """Builds average pooling, the hidden layers and a softmax.

    Every layer computes in float32, whatever the precision policy: a softmax in half precision
    rounds small probabilities to 0.

    Args:
        feature_shape: height, width and channels of the backbone's output.
        classes: number C of classes, at least 2.
        settings: hidden layers and dropout.
        seed: of the dropout masks. Initial weights follow the caller's ``seeded`` block.
        name: name of the part.

    Returns:
        A model from float [N, h, w, channels] to float32 probabilities [N, C].
    """
    if classes < 2:
        raise SettingsError(f"a classifier needs at least 2 classes, but has {classes}")
    layers = keras.layers
    features = keras.Input(feature_shape, name="features")
    x = layers.GlobalAveragePooling2D(dtype="float32", name=POOLED)(features)
    for index, units in enumerate(settings.dense, 1):
        x = layers.Dense(units, activation="relu", dtype="float32", name=f"dense_{index}")(x)
    if settings.dropout:
        x = layers.Dropout(settings.dropout, seed=seed, dtype="float32", name="dropout")(x)
    x = layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(features, x, name=name)


def as_functional(model: keras.Model) -> keras.Model:
    """``model`` as a graph of layers, which is what can be cut, joined and exported; it shares the weights.

    Raises:
        ModelError: it is no such graph: a subclass of ``keras.Model``, or a Sequential that knows no image size.
    """
    if isinstance(model, keras.Sequential) and model.built and len(model.inputs) == len(model.outputs) == 1:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        raise ModelError(
            f"a model must be a functional Keras model, or a Sequential with an Input of one image size, but "
            f"{getattr(model, 'name', model)!r} is of {type(model).__name__}: build it "
            "by keras.Model(inputs, outputs), or let the Sequential begin with keras.Input((height, width, 3))"
        )
    return model


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


def _require_buildable(row: Backbone, image_size: tuple[int, int], alpha: float) -> None:
    if min(image_size) < row.min_size:
        raise SettingsError(
            f"{row.name} needs images of at least {row.min_size} pixels a side, but the image size is {image_size}"
        )
    if not alpha > 0 or (alpha != 1.0 and not row.takes_alpha):
        offered = "a positive alpha" if row.takes_alpha else "alpha 1.0 (only the MobileNets have another)"
        raise SettingsError(f"{row.name} takes {offered}, but alpha is {alpha}")


def name_operations(model: keras.Model, named: Collection[str]) -> None:
    """Names a new model's operations by what they are, except those in ``named``.

    Keras names them by a counter of the process; so equal parts would not give equal files.
    """
    counts: Counter[str] = Counter()
    for operation in model.operations:
        if operation.name not in named:
            kind = type(operation).__name__.lower()
            counts[kind] += 1
            operation.name = f"{model.name}_{kind}_{counts[kind]}"


def _number_anew(model: keras.Model) -> None:
    counts: Counter[str] = Counter()
    for operation in model.operations:
        # What Keras calls an unnamed layer, without its number: ``batch_normalization`` or ``conv2d``.
        words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(operation).__name__)
        base = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
        if re.fullmatch(rf"{base}(_\d+)?", operation.name):
            operation.name = f"{base}_{counts[base]}" if counts[base] else base
            counts[base] += 1


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
