"""Several trained classifiers as one model: frozen members, a rule, and every number a reader may ask for.

Where members want images of several sizes, the last operations of a member's chain stand inside the graph. Only what
changes the size of an image can, in plain Keras operations, equal to the operations of the same name in
``kerasall.preprocessing``. All else stands in the chain that the members share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kerasall.errors import ModelError, SettingsError, did_you_mean
from kerasall.evaluation.ensemble_rules import (
    Rule,
    Stacking,
    check_rule,
    count_votes,
    decide,
    mean_probabilities,
    stacking_inputs,
)  # fmt: skip
from kerasall.models.base import as_functional, name_operations
from kerasall.models.classifier import find_parts, rename
from kerasall.models.prediction import require_probabilities

Step = Mapping[str, Any]
"""An operation in a chain's JSON form: ``{"op": "resize", "height": 224, "width": 224}``."""

MEMBERS = "member_probabilities"
"""Output, and name of the operation that joins the members."""

_RESERVED = ("image", MEMBERS, "stacking")

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


def build_ensemble(
    members: Sequence[keras.Model],
    rule: str = "average",
    weights: Sequence[float] | np.ndarray | None = None,
    names: Sequence[str] | None = None,
    *,
    stacking: Stacking | None = None,
    malignant: Sequence[int] = (),
    image_size: tuple[int, int] | None = None,
    steps: Sequence[Sequence[Step] | None] | None = None,
    name: str = "ensemble",
) -> keras.Model:
    """Builds one model over all members, made of Keras' own layers and operations.

    The members live on in it: they are frozen, renamed where their names repeat, and share their
    weights with the ensemble, which stay as they are bit for bit.

    Example:
        >>> alike = {"input_shape": (64, 64, 3), "classes": 3, "weights": None}
        >>> members = [keras.applications.MobileNet(alpha=alpha, **alike) for alpha in (0.5, 0.25)]
        >>> vote = kerasall.build_ensemble(members, "majority_vote", names=["wide", "narrow"])
        >>> answers = vote.predict(np.zeros((5, 64, 64, 3)), verbose=0)
        >>> answers["probabilities"].shape, answers["member_probabilities"].shape, len(vote.trainable_weights)
        ((5, 3), (5, 2, 3), 0)
        >>> vote.save("vote.keras")
        >>> keras.saving.load_model("vote.keras").count_params() == vote.count_params()
        True

    Args:
        members: M >= 2 classifiers of the same C classes, in the order of all that follows: of kerasall, of
            ``keras.applications`` with their top, or any other functional model from images to probabilities. Pixels
            pass to them as they are, so stock models of one scaling may stand together.
        rule: key in ``RULES``, such as average or majority_vote.
        weights: M positive numbers, for the weighted average.
        names: M different names. By default the members' own where they differ, else ``member_1`` ...
        stacking: coefficients, for stacking.
        malignant: indices of the malignant classes: one of them has the last word in a tie of votes, or of a voter.
        image_size: height and width of the ensemble's images, which are those after the common chain.
            By default the size of the member with the largest images.
        steps: what each member does to these images before it looks at them (``fit_pixels``); None,
            for all or for one: a bilinear resize where its size differs. For pixels in 0..255 alone.
        name: name of the ensemble.

    Returns:
        A model from RGB pixels as its members take them (of kerasall 0..255), uint8 or float [N, H, W, 3], called
        ``image``, to a dictionary:
        ``probabilities`` float32 [N, C] by the rule (of a majority vote the vote shares),
        ``label_index`` [N] after ties were broken (``decide``), ``member_probabilities`` [N, M, C],
        ``votes`` whole numbers [N, C], and ``mean_probabilities`` [N, C], the plain mean.

    Raises:
        SettingsError: an unknown rule, weights or coefficients that do not fit it, names that repeat,
            or steps that end in another size.
        ModelError: fewer than two members, one that is there twice, or members that are no graphs of layers, of other
            classes, or do not give probabilities.
    """
    members = [as_functional(member) for member in members]
    classes = _check_members(members)
    row, parameter = check_rule(rule, len(members), classes, weights, stacking)
    _name_members(members, names)
    size = image_size or largest_size(members)
    image: _Tensor = keras.Input((*size, 3), dtype="float32", name="image")
    answers = []
    for member, own in zip(members, one_each("lists of steps as members", steps, members), strict=True):
        member.trainable = False
        answers.append(see(member, image, own))
    joined: _Tensor = keras.ops.stack(answers, axis=1)
    joined._keras_history.operation.name = MEMBERS
    model = keras.Model(image, _answers(row, parameter, joined, classes, malignant), name=name)
    name_operations(model, [*_RESERVED, *(member.name for member in members)])
    return model


def _answers(
    row: Rule, parameter: Any, members: _Tensor, classes: int, malignant: Sequence[int]
) -> dict[str, _Tensor]:
    if row.parameter == "stacking":
        # The same formula as a layer, so that what was fitted is weights of the model and not its text.
        dense = keras.layers.Dense(
            classes, activation="softmax", dtype="float32", trainable=False, name=row.name
        )
        probabilities = dense(stacking_inputs(keras.ops, members))
        dense.set_weights([parameter.kernel, parameter.bias])
    else:
        probabilities = row.formula(keras.ops, members, parameter, malignant)
    means = mean_probabilities(keras.ops, members)
    return {
        "probabilities": probabilities,
        "label_index": decide(keras.ops, probabilities, means, malignant),
        MEMBERS: members,
        "votes": count_votes(keras.ops, members, malignant),
        "mean_probabilities": means,
    }


def _check_members(members: Sequence[keras.Model]) -> int:
    """The number of classes, which all members must share."""
    if len({id(member) for member in members}) != len(members):
        raise ModelError("members must be different models, but one is there twice: load or build it anew")
    for member in members:
        shapes = [tuple(tensor.shape) for tensor in (*member.inputs, *member.outputs)]
        if len(shapes) != 2 or len(shapes[0]) != 4 or None in shapes[0][1:] or len(shapes[1]) != 2:
            raise ModelError(
                f"members must take images [N, H, W, 3] of one size and give probabilities [N, C], but {member.name} "
                f"has the inputs and outputs {shapes}"
            )
    counts = [int(member.outputs[0].shape[-1]) for member in members]
    if len({*counts}) > 1:
        named = dict(zip((member.name for member in members), counts, strict=True))
        raise ModelError(f"members must tell the same classes apart, but have {named} outputs")
    if counts[:1] == [1]:
        raise ModelError(
            "members must give one probability per class, but have a single output: use a softmax"
        )
    for member in members:
        try:
            find_parts(member)
        except ModelError:  # of another make
            blank = np.zeros((1, *member.inputs[0].shape[1:]), np.float32)
            answers = keras.ops.convert_to_numpy(member(blank, training=False))
            require_probabilities(member, np.asarray(answers))
    return counts[0] if counts else 0


def _name_members(members: Sequence[keras.Model], names: Sequence[str] | None) -> None:
    own = [member.name for member in members]
    if names is None:
        names = own if len(set(own)) == len(own) else [f"member_{k}" for k in range(1, len(own) + 1)]
    names = one_each("names as members", names, members)
    if repeated := [each for each, count in Counter(names).items() if count > 1]:
        raise SettingsError(f"names of members must differ, but {', '.join(repeated)} repeats")
    require_own_names("member", names, _RESERVED)
    for member, wanted in zip(members, names, strict=True):
        if wanted != member.name:
            try:
                find_parts(member)
            except ModelError:  # of another make: it has no parts whose names follow
                member.name = wanted
            else:
                rename(member, wanted)


def require_own_names(what: str, names: Sequence[str], taken: Sequence[str] = _RESERVED) -> None:
    """Refuses names of members that parts of the ensemble bear.

    Raises:
        SettingsError: some are taken.
    """
    if repeated := sorted({*names} & {*taken}):
        raise SettingsError(
            f"no {what} may be called {', '.join(repeated)}, as a part of the model is: rename it"
        )


def find_join(ensemble: keras.Model) -> Any:
    """The operation that joins the answers of an ensemble's members, now or after it was saved.

    Raises:
        ModelError: the model was not made by ``build_ensemble``.
    """
    for operation in ensemble.operations:
        if operation.name == MEMBERS:
            return operation
    raise ModelError(f"{ensemble.name} must be an ensemble, but has no members: build it with build_ensemble")


def find_members(ensemble: keras.Model) -> list[keras.Model]:
    """The members of an ensemble in their order, now or after it was saved; they share its weights.

    Raises:
        ModelError: the model was not made by ``build_ensemble``.
    """
    tensors = find_join(ensemble)._inbound_nodes[0].input_tensors
    return [tensor._keras_history.operation for tensor in tensors]
