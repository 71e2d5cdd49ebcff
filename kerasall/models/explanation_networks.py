"""What of a model can be explained: its networks, each with last feature maps and a score that follows from them.

A classifier is one network with one feature map, an ensemble several of these, and a classifier of
deep features one network with a feature map per backbone. A model of another make is one network that
is cut at its last feature map. A map lies in the image where the way back leads through what fitted the
image to its network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from kerasall.errors import ModelError
from kerasall.models.backbones import BACKBONES
from kerasall.models.classifier import find_parts, split_at
from kerasall.models.ensembles import MEMBERS, find_join, find_members

_Tensor = Any

Place = Callable[[_Tensor], _Tensor]
"""Maps [N, h, w] of any size -> float32 maps [N, H, W], each value where in the image it belongs."""

Score = Callable[[Sequence[_Tensor]], _Tensor]
"""Activations of every target -> one score per class [N, C]."""

_STANDARDISED = "standardised"
"""Layer of a classifier of deep features that takes the features of its backbones."""

_UNDONE = ("Resize", "Cropping2D", "Pad", "Round", "Clip")
"""Kinds of operations, as ``fit_pixels`` builds them, through which a map finds back."""


@dataclass(frozen=True, eq=False)
class Target:
    """One feature map.

    Attributes:
        activate: the whole model's pixels [N, H, W, 3] to activations [N, h, w, K] of the last convolution.
        place: lays maps [N, h, w] over the whole model's image, [N, H, W].
    """

    activate: keras.Model
    place: Place


@dataclass(frozen=True, eq=False)
class Network:
    """One network of a model, with a score of its own.

    Attributes:
        name: for example of a member.
        targets: its feature maps; their signed maps have one unit and add up.
        score: what is explained, before any softmax.
        weight: share in the map of the whole model, positive; all shares sum to 1.
        missing: why it has no map, and no targets; "" where it has one.
    """

    name: str
    targets: tuple[Target, ...]
    score: Score
    weight: float = 1.0
    missing: str = ""


def find_networks(model: keras.Model) -> tuple[Network, ...]:
    """The networks of a model, now or after it was saved; they share its weights.

    Members of an ensemble weigh as its rule does where the rule is a weighted average, else equally. A member that can
    have no map is ``missing``: the others go on without it.

    Raises:
        ModelError: the model (of an ensemble every member) has no convolution, its score cannot be had before the
            softmax, or its images are too small for a map.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4 or None in model.inputs[0].shape[1:]:
        raise ModelError(
            f"{model.name} must take images [N, H, W, 3] of one size to be explained, but takes "
            f"{[tuple(each.shape) for each in model.inputs]}"
        )
    names = {each.name for each in model.operations}
    if MEMBERS in names:
        return _ensemble_networks(model)
    if _STANDARDISED in names:
        return (_feature_network(model),)
    return (_single_network(model, model.inputs[0], model.inputs[0]),)


def _ensemble_networks(ensemble: keras.Model) -> tuple[Network, ...]:
    answers = find_join(ensemble)._inbound_nodes[0].input_tensors
    members = find_members(ensemble)
    networks = []
    for member, answer, weight in zip(members, answers, rule_weights(ensemble, len(members)), strict=True):
        try:
            own = _single_network(member, _input_of(answer), ensemble.inputs[0])
        except ModelError as error:
            own = Network(member.name, (), lambda values: values[0], missing=str(error))
        networks.append(replace(own, weight=float(weight)))
    if all(network.missing for network in networks):
        raise ModelError("; ".join(f"{network.name}: {network.missing}" for network in networks))
    return tuple(networks)


def rule_weights(ensemble: keras.Model, members: int) -> np.ndarray:
    """Shares of the members in an ensemble's answer, float64 [M], which sum to 1.

    They are read off what the rule does, not off its name: if it averages with fixed weights, these;
    else (votes, maximum, stacking), where no member has a share of its own, equal ones.
    """
    joined = find_join(ensemble).output
    outputs: _Tensor = ensemble.output
    rule = keras.Model(joined, outputs["probabilities"])
    classes = joined.shape[-1]
    alone = np.zeros((members, members, classes), np.float32)
    alone[np.arange(members), np.arange(members), 0] = 1.0  # one member says class 0, the others nothing
    weights = np.asarray(keras.ops.convert_to_numpy(rule(alone)), np.float64)[:, 0]
    tried = np.random.default_rng(0).dirichlet(np.ones(classes), (64, members)).astype(np.float32)
    averages = np.einsum("k,nkc->nc", weights, tried)
    if np.allclose(averages, np.asarray(keras.ops.convert_to_numpy(rule(tried))), atol=1e-5):
        return weights / weights.sum()
    return np.full(members, 1 / members)


def _single_network(model: keras.Model, pixels: _Tensor, image: _Tensor) -> Network:
    """The network of one classifier that takes ``pixels``, which were made of ``image``."""
    try:
        row = find_parts(model).row
    except ModelError:
        lower, score = _cut_at_last_map(model)
    else:
        lower, upper = split_at(model, row.last_convolution)
        score = build_score(upper.inputs, upper.outputs[0])
    return Network(model.name, (_target(lower, pixels, image),), score)


def _feature_network(model: keras.Model) -> Network:
    image = model.inputs[0]
    features = _input_of(model.get_layer(_STANDARDISED).output)
    parts = [features]
    if isinstance(features._keras_history.operation, keras.layers.Concatenate):
        parts = features._keras_history.operation._inbound_nodes[0].input_tensors
    cuts = [_cut_extractor(part._keras_history.operation) for part in parts]
    targets = [_target(lower, _input_of(part), image) for part, (lower, _) in zip(parts, cuts, strict=True)]
    outputs: Any = model.output
    # A support vector machine decides by its decision values, which are linear in the features.
    upper = build_score(parts, outputs.get("decision_values", outputs["probabilities"]))

    def score(values: Sequence[_Tensor]) -> _Tensor:
        return upper([rest([value]) for value, (_, rest) in zip(values, cuts, strict=True)])

    return Network(model.name, tuple(targets), score)


def _cut_extractor(extractor: Any) -> tuple[keras.Model, Score]:
    """Pixels to the last convolution's activations, and these (one in a list) to the pooled features."""
    nested = [layer for layer in extractor.layers if isinstance(layer, keras.Model)]
    rows = [row for row in BACKBONES.values() if len(nested) == 2 and nested[1].name == row.name]
    if not rows:
        raise ModelError(
            f"the extractor {extractor.name} must be made of preprocess, backbone and pooling, but has the layers "
            f"{[layer.name for layer in extractor.layers][:6]}: build it with build_extractor"
        )
    preprocess, backbone = nested
    last = backbone.get_layer(rows[0].last_convolution).output
    image: _Tensor = keras.Input(preprocess.input_shape[1:], dtype="float32", name="image")
    lower = keras.Model(image, keras.Model(backbone.inputs[0], last)(preprocess(image)))
    rest, pooled = _between([last], backbone.outputs[0]), extractor.layers[-1]
    return lower, lambda values: pooled(rest(values))


def _cut_at_last_map(model: keras.Model) -> tuple[keras.Model, Score]:
    """For models of another make: cut at the last tensor of several places that the answer follows from alone."""
    graph: Any = model
    if len(model.outputs) == 1:  # outputs in a list or a dictionary of one
        graph = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    operation = graph.outputs[0]._keras_history.operation
    if len(getattr(operation, "inputs", ())) == len(getattr(operation, "outputs", ())) == 1:
        # The whole network stands in this model as one layer, after what scales its pixels.
        inner, score = _cut_at_last_map(operation)
        return keras.Model(graph.inputs[0], inner(_input_of(graph.outputs[0]))), score
    maps = list(_feature_maps(graph))
    found = [_cut(graph, each) for each in reversed(maps) if int(each.shape[1]) * int(each.shape[2]) > 1]
    if not found and maps and _has_convolution(graph):
        _require_places(maps[-1], graph.inputs[0])
    cuts = [lower for lower in found if lower is not None]
    if not cuts:
        raise ModelError(
            f"{model.name} must have a convolution for its answers to be laid over the image, but has none"
        )
    return _first_that_leads_to(cuts, graph.outputs[0])


def _feature_maps(graph: Any) -> Iterator[_Tensor]:
    """Tensors [N, h, w, K] from the image on; a margin is not one: its places are not those of the image."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[
            depth
        ]:  # an operation's own output may be that of another use of it
            if not re.search("Pad", type(node.operation).__name__):
                yield from (each for each in node.outputs if len(each.shape) == 4)


def _cut(graph: keras.Model, tensor: _Tensor) -> keras.Model | None:
    """The model up to ``tensor``; None where it holds no convolution, so that the map would be the image's own."""
    lower = keras.Model(graph.inputs[0], tensor)
    return lower if _has_convolution(lower) else None


def _has_convolution(model: keras.Model) -> bool:
    return any(re.search("Conv", type(each).__name__) for each in model._flatten_layers())


def _first_that_leads_to(cuts: Sequence[keras.Model], output: _Tensor) -> tuple[keras.Model, Score]:
    """The last cut that all of the answer passes through: others have ways around them."""
    first: ModelError | None = None
    for lower in cuts:
        try:
            return lower, build_score([lower.outputs[0]], output)
        except ModelError as error:
            first = first or error
    assert first is not None
    raise first


def _target(lower: keras.Model, pixels: _Tensor, image: _Tensor) -> Target:
    activations = lower(pixels)
    _require_places(activations, pixels)
    return Target(keras.Model(image, activations), place_in_image(pixels, image))


def _require_places(activations: _Tensor, pixels: _Tensor) -> None:
    height, width = activations.shape[1:3]
    if height * width < 2:
        raise ModelError(
            f"the last feature map must have several places to tell apart, but is {height} x {width} for images of "
            f"{pixels.shape[1]} x {pixels.shape[2]} pixels: use larger images"
        )


def build_score(sources: Sequence[_Tensor], output: _Tensor) -> Score:
    """What ``output`` is decided by, as a function of the values of ``sources``.

    Of a softmax it is each logit less the mean of all: probabilities depend on differences between
    logits alone, so a raw logit would also explain what cancels out (and what training left random).
    One sigmoid z stands for two classes, a softmax over (0, z); of several each logit is its own class's. A linear
    output, such as a decision value, is taken as it is. Gradients of probabilities
    themselves vanish where a model is sure, which is where an explanation is wanted most.

    Raises:
        ModelError: the output is no softmax, sigmoid or dense layer, or does not follow from the sources.
    """
    operation = output._keras_history.operation
    before = _between(sources, _input_of(output))
    if isinstance(operation, keras.Model) and hasattr(operation, "inputs"):
        inner = build_score(operation.inputs, operation.outputs[0])
        return lambda values: inner([before(values)])
    activation = _activation_of(operation)
    is_dense = isinstance(operation, keras.layers.Dense)
    alone = len(output.shape) == 2 and output.shape[-1] == 1
    if activation not in (("sigmoid",) if alone else ("softmax", "sigmoid", "linear")):
        found = f"{operation.name} is a {type(operation).__name__} {activation}".rstrip()
        raise ModelError(
            f"a score before the softmax must be had to explain it, but {found}: end the model with a softmax over a "
            "dense layer of a unit per class"
        )

    def score(values: Sequence[_Tensor]) -> _Tensor:
        scores: _Tensor = keras.ops.cast(before(values), "float32")
        if is_dense:
            scores = keras.ops.matmul(scores, operation.kernel)
            scores = scores if operation.bias is None else scores + operation.bias
        if alone:
            halves: _Tensor = keras.ops.concatenate([-scores, scores], axis=-1)
            scores = halves / 2.0
        return scores - keras.ops.mean(scores, axis=-1, keepdims=True) if activation == "softmax" else scores

    return score


def _activation_of(operation: Any) -> str:
    """What the last layer does to its logits: of a dense layer its own activation, else what a layer of one does."""
    if isinstance(operation, keras.layers.Softmax) or type(operation).__name__ == "Softmax":
        return "softmax"
    if isinstance(operation, keras.layers.Dense | keras.layers.Activation):
        return getattr(operation.activation, "__name__", "")
    return ""


def _between(sources: Sequence[_Tensor], end: _Tensor) -> Score:
    """The function from values of ``sources`` to that of ``end``."""
    if len(sources) == 1 and sources[0] is end:
        return lambda values: values[0]
    try:
        part = keras.Model(list(sources), end)
    except ValueError:
        raise ModelError(
            "a score must follow from the last feature map alone, but other layers bypass "
            f"{', '.join(each._keras_history.operation.name for each in sources)}: no map of it would be the whole reason"
        ) from None
    return lambda values: part(list(values), training=False)


def _input_of(tensor: _Tensor) -> _Tensor:
    """What the operation that made ``tensor`` was given, where that is one tensor."""
    operation, index = tensor._keras_history.operation, tensor._keras_history.node_index
    given = operation._inbound_nodes[index].input_tensors
    if len(given) != 1:
        raise ModelError(f"{operation.name} must take one tensor to be explained, but takes {len(given)}")
    return given[0]


def place_in_image(pixels: _Tensor, image: _Tensor) -> Place:
    """Lays maps of what a network saw over the image it was cut from.

    Undoes the steps between ``image`` and ``pixels`` from the last to the first: a resize by a resize,
    a crop by a margin of zeros, as what was cut off was not seen, and a margin by a crop.

    Args:
        pixels: symbolic [None, h', w', 3], what the network takes.
        image: symbolic [None, H, W, 3], what the whole model takes.

    Raises:
        ModelError: a step that moves pixels in some other way.
    """
    steps = [_resize_to(pixels.shape)]
    while pixels is not image:
        operation = pixels._keras_history.operation
        if type(operation).__name__ not in _UNDONE:
            raise ModelError(
                f"only {', '.join(_UNDONE)} may stand between an image and a network whose map is laid over it, but "
                f"{operation.name} is a {type(operation).__name__}"
            )
        pixels = _input_of(pixels)
        steps.append(_undo(operation, pixels))

    def place(maps: _Tensor) -> _Tensor:
        for step in steps:
            maps = step(maps)
        return maps

    return place


def _undo(operation: Any, source: _Tensor) -> Place:
    """The way of a map back through an operation of ``_UNDONE`` that was given ``source``."""
    match type(operation).__name__:
        case "Resize":
            return _resize_to(source.shape)
        case "Cropping2D":
            margins = [list(margin) for margin in operation.cropping]
            return lambda maps: keras.ops.pad(maps, [[0, 0], *margins])
        case "Pad":
            (top, _), (left, _) = operation.pad_width[1:3]
            height, width = source.shape[1:3]
            return lambda maps: maps[:, top : top + height, left : left + width]
    return lambda maps: maps


def _resize_to(shape: Sequence[int | None]) -> Place:
    height, width = int(shape[1]), int(shape[2])  # pyright: ignore[reportArgumentType]

    def resize(maps: _Tensor) -> _Tensor:
        if tuple(maps.shape[1:3]) == (height, width):
            return maps
        # Half-pixel centres: a cell of the map covers its own share of the image, no more and no less.
        resized: _Tensor = keras.ops.image.resize(
            maps[..., None], (height, width), interpolation="bilinear", data_format="channels_last"
        )
        return resized[..., 0]

    return resize
