"""Several trained classifiers as one model: frozen members, a rule, and every number a reader may ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kerasall.errors import ModelError, SettingsError
from kerasall.evaluation.ensemble_rules import (
    Rule,
    Stacking,
    check_rule,
    count_votes,
    decide,
    mean_probabilities,
    stacking_inputs,
)  # fmt: skip
from kerasall.models.base import name_operations
from kerasall.models.classifier import find_parts, rename
from kerasall.models.pixel_steps import Step, largest_size, one_each, see

MEMBERS = "member_probabilities"
"""Output, and name of the operation that joins the members."""

_RESERVED = ("image", MEMBERS, "stacking")

_Tensor = Any


def build_ensemble(
    members: Sequence[keras.Model],
    rule: str,
    weights: Sequence[float] | np.ndarray | None = None,
    names: Sequence[str] | None = None,
    *,
    stacking: Stacking | None = None,
    image_size: tuple[int, int] | None = None,
    steps: Sequence[Sequence[Step] | None] | None = None,
    name: str = "ensemble",
) -> keras.Model:
    """Builds one model over all members, made of Keras' own layers and operations.

    The members live on in it: they are frozen, renamed where their names repeat, and share their
    weights with the ensemble, which stay as they are bit for bit.

    Args:
        members: M >= 2 classifiers of the same C classes, in the order of all that follows.
        rule: key in ``RULES``.
        weights: M positive numbers, for the weighted average.
        names: M different names. By default the members' own where they differ, else ``member_1`` ...
        stacking: coefficients, for stacking.
        image_size: height and width of the ensemble's images, which are those after the common chain.
            By default the size of the member with the largest images.
        steps: what each member does to these images before it looks at them (``fit_pixels``); None,
            for all or for one: a bilinear resize where its size differs.
        name: name of the ensemble.

    Returns:
        A model from RGB pixels 0..255, uint8 or float [N, H, W, 3], called ``image``, to a dictionary:
        ``probabilities`` float32 [N, C] by the rule (of a majority vote the vote shares),
        ``label_index`` [N] after ties were broken (``decide``), ``member_probabilities`` [N, M, C],
        ``votes`` whole numbers [N, C], and ``mean_probabilities`` [N, C], the plain mean.

    Raises:
        SettingsError: an unknown rule, weights or coefficients that do not fit it, names that repeat,
            or steps that end in another size.
        ModelError: fewer than two members, one that is there twice, or members of other make or of
            other classes.
    """
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
    model = keras.Model(image, _answers(row, parameter, joined, classes), name=name)
    name_operations(model, [*_RESERVED, *(member.name for member in members)])
    return model


def _answers(row: Rule, parameter: Any, members: _Tensor, classes: int) -> dict[str, _Tensor]:
    if row.parameter == "stacking":
        # The same formula as a layer, so that what was fitted is weights of the model and not its text.
        dense = keras.layers.Dense(
            classes, activation="softmax", dtype="float32", trainable=False, name=row.name
        )
        probabilities = dense(stacking_inputs(keras.ops, members))
        dense.set_weights([parameter.kernel, parameter.bias])
    else:
        probabilities = row.formula(keras.ops, members, parameter)
    means = mean_probabilities(keras.ops, members)
    return {
        "probabilities": probabilities,
        "label_index": decide(keras.ops, probabilities, means),
        MEMBERS: members,
        "votes": count_votes(keras.ops, members),
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
    return counts[0] if counts else 0


def _name_members(members: Sequence[keras.Model], names: Sequence[str] | None) -> None:
    own = [member.name for member in members]
    if names is None:
        names = own if len(set(own)) == len(own) else [f"member_{k}" for k in range(1, len(own) + 1)]
    names = one_each("names as members", names, members)
    if repeated := [each for each, count in Counter(names).items() if count > 1]:
        raise SettingsError(f"names of members must differ, but {', '.join(repeated)} repeats")
    if taken := sorted({*names} & {*_RESERVED}):
        raise SettingsError(f"no member may be called {', '.join(taken)}, a part of the ensemble: rename it")
    for member, wanted in zip(members, names, strict=True):
        if wanted != member.name:
            _rename(member, wanted)


def _rename(member: keras.Model, name: str) -> None:
    try:
        find_parts(member)
    except ModelError:  # of another make: it has no parts whose names follow
        member.name = name
    else:
        rename(member, name)


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
