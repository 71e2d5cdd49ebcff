"""A classifier is three named parts: preprocess -> backbone -> head. Built, frozen and cut here."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kerasall.errors import ModelError, SettingsError, did_you_mean
from kerasall.models.backbones import BACKBONES, Backbone, find_block, get_backbone
from kerasall.models.base import POOLED, HeadSettings, build_backbone, build_head, build_preprocess, seeded

ALL = "all"
"""``freeze(model, unfreeze_from=ALL)``: the whole backbone trains."""
HEAD = "head"
"""Answer of ``frozen_cut``: the whole backbone is frozen."""

_Tensor = Any  # symbolic; Keras' own annotations know no private history and allow lists


@dataclass(frozen=True)
class Parts:
    """The parts of a classifier; they share their variables with it.

    Attributes:
        row: the backbone's row in ``BACKBONES``.
        preprocess: RGB pixels 0..255 to what the backbone was trained on.
        backbone: preprocessed pixels to the last feature map.
        head: feature map to probabilities.
    """

    row: Backbone
    preprocess: keras.Model
    backbone: keras.Model
    head: keras.Model


def build_classifier(
    backbone: str,
    classes: int,
    image_size: tuple[int, int],
    head: HeadSettings | None = None,
    weights: str | Path = "imagenet",
    alpha: float = 1.0,
    weights_folder: str | Path | None = None,
    name: str | None = None,
    seed: int = 0,
) -> keras.Model:
    """Builds a classifier of cell images.

    With pretrained weights the backbone starts frozen (``freeze``); with random ones everything
    trains, batch normalisation included.

    Example:
        >>> model = kerasall.build_classifier("mobilenet", 2, (64, 64), weights="random", alpha=0.25)
        >>> model.predict(np.zeros((3, 64, 64, 3), np.uint8), verbose=0).shape
        (3, 2)
        >>> model.name, [layer.name for layer in model.layers[1:]]
        ('mobilenet', ['preprocess', 'mobilenet', 'head'])

    Args:
        backbone: key in ``BACKBONES``.
        classes: number C of classes.
        image_size: height H and width W in pixels.
        head: hidden layers and dropout; by default a linear classifier on pooled features.
        weights: "imagenet", "random" or the path of a weights file (``build_backbone``).
        alpha: width multiplier of the MobileNets.
        weights_folder: folder of ImageNet weights (``resolve_weights``).
        name: name of the model, which also leads the names of its parts, so that several equal
            networks can live in one graph. By default the model bears the backbone's name and the
            parts are called ``preprocess``, the backbone's name, and ``head``.
        seed: of all initial weights: the same seed gives bit-equal ones, of the head whatever the
            backbone was built from.

    Returns:
        A model from RGB pixels 0..255, uint8 or float [N, H, W, 3], called ``image``, to float32
        probabilities [N, C] under any precision policy.

    Raises:
        SettingsError: an unknown backbone, or a size, alpha, head or name that cannot be.
        WeightsError: the weights are missing, changed, or of another architecture.
    """
    row = get_backbone(backbone)
    names = _part_names(row.name, name)
    preprocess = build_preprocess(row.preprocess, image_size, names[0])
    base = build_backbone(row.name, image_size, weights, alpha, weights_folder, seed, names[1])
    with seeded(f"head {seed}"):
        top = build_head(base.output_shape[1:], classes, head or HeadSettings(), seed, names[2])
    image = keras.Input((*image_size, 3), dtype="float32", name="image")
    model = keras.Model(image, top(base(preprocess(image))), name=name or row.name)
    if str(weights) != "random":
        freeze(model)
    return model


def with_new_head(model: keras.Model, head: HeadSettings, seed: int) -> keras.Model:
    """A frozen classifier with the head that ``build_classifier`` would give it by this seed, on the same backbone.

    Equal to one built anew from the same weights, in a fraction of the time; both share the backbone's variables.

    Args:
        model: a classifier with pretrained weights whose backbone was not trained.
        head, seed: as for ``build_classifier``.
    """
    parts = find_parts(model)
    with seeded(f"head {seed}"):
        top = build_head(parts.backbone.output_shape[1:], model.output_shape[-1], head, seed, parts.head.name)
    image: _Tensor = keras.Input(model.input_shape[1:], dtype="float32", name="image")
    fresh = keras.Model(image, top(parts.backbone(parts.preprocess(image))), name=model.name)
    freeze(fresh)
    return fresh


def _part_names(backbone: str, name: str | None) -> tuple[str, str, str]:
    if name is None:
        return "preprocess", backbone, "head"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise SettingsError(
            f"a model's name must start with a letter or digit and hold only letters, digits and _ . -, but is {name!r}"
        )
    return f"{name}_preprocess", f"{name}_{backbone}", f"{name}_head"


def rename(model: keras.Model, name: str) -> None:
    """Gives a classifier and its parts the names they would have been built with."""
    parts = find_parts(model)
    names = _part_names(parts.row.name, name)
    parts.preprocess.name, parts.backbone.name, parts.head.name = names
    model.name = name


def find_parts(model: keras.Model) -> Parts:
    """The parts of a model that ``build_classifier`` made, now or before it was saved.

    Raises:
        ModelError: the model is of another make.
    """
    parts = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    middle = parts[1].name if len(parts) == 3 else ""
    rows = [row for row in BACKBONES.values() if re.search(rf"(^|_){row.name}$", middle)]
    if not rows:
        raise ModelError(
            f"{model.name} must be made of preprocess, backbone and head, but has the layers "
            f"{[layer.name for layer in model.layers][:6]}: build it with build_classifier"
        )
    return Parts(max(rows, key=lambda row: len(row.name)), *parts)


def freeze(model: keras.Model, unfreeze_from: str | None = None, train_batch_norm: bool = False) -> None:
    """Chooses what trains: always the head, and of the backbone what is named.

    A frozen layer keeps its weights bit for bit. A frozen batch normalisation also keeps its moving
    statistics and normalises by them: Keras 3 heeds that only as ``trainable = False`` on the layer
    itself (``training=False`` on the backbone's call is ignored inside ``fit``).

    Args:
        model: a classifier. Compile it anew afterwards: an optimizer keeps the variables it was given.
        unfreeze_from: a block of the backbone's row, from which on it trains; the beginning of
            several blocks' names ("conv5", "block8") for the lowest of them; "all"; or None, which
            freezes the whole backbone.
        train_batch_norm: whether batch normalisation trains in what is unfrozen. Small batches of
            a new kind of image make its statistics worse, so by default none does.

    Raises:
        SettingsError: no such block; the message names the nearest.
    """
    parts = find_parts(model)
    frozen = _layers_below(parts, unfreeze_from)
    model.trainable = True
    for layer in parts.backbone.layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = id(layer) not in frozen and (train_batch_norm or not is_norm)


def _layers_below(parts: Parts, unfreeze_from: str | None) -> set[int]:
    if unfreeze_from is None:
        return {id(layer) for layer in parts.backbone.layers}
    if unfreeze_from == ALL:
        return set()
    boundary = parts.row.blocks[find_block(parts.row, unfreeze_from)]
    return {id(layer) for layer in _below(parts.backbone, boundary).layers}


def _below(backbone: keras.Model, boundary: tuple[str, ...]) -> keras.Model:
    outputs = [backbone.get_layer(layer).output for layer in boundary]
    return keras.Model(backbone.inputs[0], outputs if len(outputs) > 1 else outputs[0])


def frozen_cut(model: keras.Model) -> str | None:
    """The highest place below which nothing trains: where stored activations replace the most work.

    Returns:
        "head" where the whole backbone is frozen, else a block's name for ``split_at``, else None
        where there is no such place.
    """
    parts = find_parts(model)
    if not parts.backbone.trainable_variables:
        return HEAD
    for block, boundary in parts.row.blocks.items():
        if not any(layer.trainable_variables for layer in _below(parts.backbone, boundary).layers):
            return block
    return None


def split_at(model: keras.Model, cut: str | None = None) -> tuple[keras.Model, keras.Model]:
    """Cuts a classifier in two models that share its layers: ``suffix(prefix(x)) == model(x)``.

    Training the suffix on stored outputs of the prefix trains ``model``, step for step as if the
    whole had been trained with the prefix frozen, at a fraction of the work.

    Args:
        model: a classifier.
        cut: None or "head": the prefix ends with the pooled features. A block's name: it ends below
            that block. A layer's name of the backbone: it ends with that layer's output, which must
            be all that passes there (the last convolution is, for Grad-CAM).

    Returns:
        prefix: pixels [N, H, W, 3] to activations, [N, channels] when pooled, else
            [N, h, w, channels] (of a boundary of two layers both, joined along the channels).
        suffix: these activations to probabilities [N, C].

    Raises:
        ModelError: no such block or layer, or other layers bypass it.
    """
    parts = find_parts(model)
    image: _Tensor = keras.Input(model.input_shape[1:], dtype="float32", name="image")
    if cut in (None, HEAD):
        pooled = parts.head.get_layer(POOLED).output
        lower = keras.Model(parts.head.inputs[0], pooled)
        below = lower(parts.backbone(parts.preprocess(image)))
        activations = keras.Input(below.shape[1:], dtype=below.dtype, name="activations")
        above = keras.Model(pooled, parts.head.outputs[0])(activations)
    else:
        below, activations, features = _cut_backbone(parts, image, str(cut))
        above = parts.head(features)
    return (
        keras.Model(image, below, name=f"{model.name}_prefix"),
        keras.Model(activations, above, name=f"{model.name}_suffix"),
    )


def pooled_above(model: keras.Model, cut: str) -> keras.Model:
    """What lies between two cuts of ``split_at``: activations below ``cut`` to pooled features [N, channels].

    Args:
        model: a classifier.
        cut: a block's or layer's name, as in ``split_at``.

    Raises:
        ModelError: no such block or layer, or other layers bypass it.
    """
    parts = find_parts(model)
    image: _Tensor = keras.Input(model.input_shape[1:], dtype="float32", name="image")
    _, activations, features = _cut_backbone(parts, image, cut)
    pool = keras.Model(parts.head.inputs[0], parts.head.get_layer(POOLED).output)
    return keras.Model(activations, pool(features), name=f"{model.name}_above_{cut}")


def _boundary(parts: Parts, cut: str) -> tuple[str, ...]:
    if cut in parts.row.blocks:
        return parts.row.blocks[cut]
    names = [layer.name for layer in parts.backbone.layers]
    if cut not in names:
        blocks = f"its blocks are {', '.join(parts.row.blocks)}"
        raise ModelError(
            f"{parts.row.name} can be cut at a block or layer, but has none called {cut!r}: "
            + did_you_mean(cut, [*parts.row.blocks, *names], blocks)
        )
    return (cut,)


def _cut_backbone(parts: Parts, image: _Tensor, cut: str) -> tuple[_Tensor, _Tensor, _Tensor]:
    """Activations of an image below the cut, an input for such activations, and their feature map."""
    tensors = [parts.backbone.get_layer(layer).output for layer in _boundary(parts, cut)]
    single = len(tensors) == 1
    boundary = tensors[0] if single else tensors
    outputs = keras.Model(parts.backbone.inputs[0], boundary)(parts.preprocess(image))
    below = outputs if single else keras.layers.Concatenate(name="boundary")(outputs)
    activations = keras.Input(below.shape[1:], dtype=below.dtype, name="activations")
    if boundary is parts.backbone.outputs[0]:
        return below, activations, activations
    try:
        upper = keras.Model(boundary, parts.backbone.outputs[0])
    except ValueError:
        name = tensors[0]._keras_history.operation.name
        raise ModelError(
            f"{parts.row.name} can be cut only where all passes through one layer, but others bypass {name!r}: "
            f"choose one of {', '.join(parts.row.blocks)}"
        ) from None
    if single:
        return below, activations, upper(activations)
    starts = list(itertools.accumulate(tensor.shape[-1] for tensor in tensors[:-1]))
    return below, activations, upper(keras.ops.split(activations, starts, axis=-1))
