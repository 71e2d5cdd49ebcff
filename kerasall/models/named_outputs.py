"""Models that answer with a dictionary, ensembles and deep-feature classifiers: predictions, names inside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import keras
import numpy as np

from kerasall.errors import ModelError
from kerasall.models.prediction import predict_activations


def predict_outputs(
    model: keras.Model, batches: Iterable[Any], jit_compile: bool = False
) -> dict[str, np.ndarray]:
    """All named outputs for all images in ``batches``, in inference mode and one pass.

    Args:
        model: a model with one input and a dictionary of outputs of known shapes [N, ...].
        batches: as for ``predict_probabilities``.
        jit_compile: whether to compile with XLA.

    Returns:
        name -> array [N, ...] in the order of the batches, of the output's own kind of number.

    Raises:
        ModelError: the outputs have no names, or the images do not fit the model's input.
    """
    outputs: Any = model.output
    if not isinstance(outputs, dict):
        raise ModelError(f"{model.name} must answer with named outputs: use predict_probabilities")
    widths = {name: math.prod(tensor.shape[1:]) for name, tensor in outputs.items()}
    ops: Any = keras.ops
    flat = [ops.reshape(ops.cast(outputs[name], "float32"), (-1, widths[name])) for name in widths]
    joined = ops.concatenate(flat, axis=1) if len(flat) > 1 else flat[0]
    values = predict_activations(keras.Model(model.inputs[0], joined), batches, jit_compile=jit_compile)
    parts = np.split(values, np.cumsum(list(widths.values()))[:-1], axis=1)
    return {
        name: part.reshape(-1, *tensor.shape[1:]).astype(tensor.dtype)
        for part, (name, tensor) in zip(parts, outputs.items(), strict=True)
    }


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
