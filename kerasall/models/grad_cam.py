"""Grad-CAM and Grad-CAM++: from the last feature map and a score's gradient to what speaks for a class.

The formulas take activations A and gradients g = dS/dA of a class's score S, and are plain Keras
operations; only the gradient itself is the backend's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import keras

from kerasall.errors import ModelError, SettingsError

_Tensor = Any
Formula = Callable[[_Tensor, _Tensor], _Tensor]
"""(activations, gradients), float32 [N, h, w, K] each -> signed map float32 [N, h, w]."""


@dataclass(frozen=True)
class Method:
    """One row of ``METHODS``.

    Attributes:
        name: key in ``METHODS``.
        title: words for a figure.
        formula: from activations and gradients to a signed map.
        suffix: what the names of its outputs end with where both methods answer side by side.
    """

    name: str
    title: str
    formula: Formula
    suffix: str = ""


def grad_cam(activations: _Tensor, gradients: _Tensor) -> _Tensor:
    """L = sum_k w_k A_k with w_k = sum_ij g_ijk (Selvaraju et al. 2017, Eqs. 1 and 2, before the ReLU).

    Where the paper takes the mean gradient, this takes its sum. That changes the unit alone: under a
    linear head on average-pooled features the mean of L is the score without its bias, exactly.
    """
    weights = keras.ops.sum(gradients, axis=(1, 2), keepdims=True)
    return keras.ops.sum(weights * activations, axis=-1)


def grad_cam_plus_plus(activations: _Tensor, gradients: _Tensor) -> _Tensor:
    """L = sum_k w_k A_k with w_k = sum_ij a_ijk ReLU(g_ijk), a = g^2 / (2 g^2 + g^3 sum_ab A_abk).

    Chattopadhay et al. 2018, Eqs. 10 and 19, for exp(S), of which the common factor exp(S) is left out:
    it scales a whole map. Only positive gradients have weight, so several parts of one object, or
    several objects, stay in the map. Activations below zero, which a last ReLU forbids, do not enter a.
    """
    positive: _Tensor = keras.ops.relu(gradients)
    totals: _Tensor = keras.ops.sum(keras.ops.relu(activations), axis=(1, 2), keepdims=True)
    shares = 1.0 / (2.0 + positive * totals)  # g^2 cancels, and where g is 0 its weight is 0
    weights = keras.ops.sum(shares * positive, axis=(1, 2), keepdims=True)
    return keras.ops.sum(weights * activations, axis=-1)


_ROWS = (
    Method("grad_cam", "Grad-CAM", grad_cam),
    Method("grad_cam_plus_plus", "Grad-CAM++", grad_cam_plus_plus, "_plus_plus"),
)

METHODS: dict[str, Method] = {row.name: row for row in _ROWS}
"""Every method by name."""


def get_method(name: str) -> Method:
    """The row called ``name``.

    Raises:
        SettingsError: there is none; the message names the nearest.
    """
    if name not in METHODS:
        near = get_close_matches(name, METHODS, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"the method must be one of {', '.join(METHODS)}, but is {name!r}{hint}")
    return METHODS[name]


def score_gradients(
    score: Callable[[Sequence[_Tensor]], _Tensor], activations: Sequence[_Tensor], classes: _Tensor
) -> list[_Tensor]:
    """Gradients of each image's own class score with respect to every tensor of activations.

    Args:
        score: activations, a list of [N, h, w, K] (h, w and K of their own) -> scores [N, C].
        activations: where to differentiate.
        classes: int [N], the class of each image.

    Returns:
        float32 tensors like ``activations``.

    Raises:
        ModelError: the score does not depend on some activations, or the backend has no gradients here.
    """

    def total(values: Sequence[_Tensor]) -> _Tensor:
        scores = score(values)
        return keras.ops.sum(scores * keras.ops.one_hot(classes, scores.shape[-1], dtype=scores.dtype))

    found = _gradients_of(keras.backend.backend())(total, list(activations))
    if any(each is None for each in found):
        raise ModelError(
            "a class score must depend on the last feature map, but has no gradient there: the layers between them "
            "cannot be differentiated, so there is nothing to explain the score by"
        )
    return [keras.ops.cast(each, "float32") for each in found]


def _gradients_of(backend: str) -> Callable[[Callable, list[_Tensor]], Sequence[_Tensor | None]]:
    known = {"tensorflow": _tensorflow_gradients, "jax": _jax_gradients}
    if backend not in known:
        raise ModelError(
            f"explanations need gradients by {' or '.join(known)}, but Keras runs on {backend}: set KERAS_BACKEND"
        )
    return known[backend]


def _tensorflow_gradients(total: Callable, values: list[_Tensor]) -> Sequence[_Tensor | None]:
    import tensorflow as tf  # here, because other backends need none

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        result = total(values)
    return tape.gradient(result, values)


def _jax_gradients(total: Callable, values: list[_Tensor]) -> Sequence[_Tensor | None]:
    import jax  # pyright: ignore[reportMissingImports]

    return jax.grad(total)(values)
