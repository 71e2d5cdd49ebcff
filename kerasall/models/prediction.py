"""Fast forward passes over many batches: probabilities of a classifier, activations of a prefix.

Models that answer with a dictionary, ensembles and deep-feature classifiers: predictions, names inside.
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

import keras
import numpy as np

from kerasall.errors import ModelError
from kerasall.models.views import VIEWS, require_views, show_view

_Forward = Callable[[Any], Any]

_FORWARDS: weakref.WeakKeyDictionary[keras.Model, dict[tuple[str, bool], _Forward]] = (
    weakref.WeakKeyDictionary()
)

_LARGEST: weakref.WeakKeyDictionary[keras.Model, int] = weakref.WeakKeyDictionary()


def predict_probabilities(
    model: keras.Model, batches: Iterable[Any], jit_compile: bool = False
) -> np.ndarray:
    """Class probabilities of all images in ``batches``, in inference mode.

    Args:
        model: a model with one input and one output [n, C].
        batches: of images [n, H, W, 3], or of tuples whose first entry they are (a ``tf.data``
            set of images and labels). Batches may differ in size; no size is traced anew.
        jit_compile: whether to compile with XLA; on a CPU that is slower for most backbones.

    Returns:
        float32 [N, C] in the order of the batches; [0, C] where there are none.

    Raises:
        ModelError: the images do not fit the model's input.
    """
    return predict_activations(model, batches, jit_compile=jit_compile)


def predict_views(model: keras.Model, batches: Any, views: int) -> np.ndarray:
    """Mean of the class probabilities over ``views`` of every image, as the exported model answers.

    Args:
        model: as for ``predict_probabilities``.
        batches: a ``tf.data`` set of images [n, H, W, 3].
        views: a key of ``VIEWS``.

    Returns:
        float32 [N, C].
    """
    require_views(model, views)
    if views == 1:
        return predict_probabilities(model, batches)
    shown = (batches.map(partial(_show, view=view)) for view in VIEWS[views])
    return np.stack([predict_probabilities(model, each) for each in shown]).mean(axis=0, dtype=np.float32)


def _show(pixels: Any, view: tuple[bool, bool, bool]) -> Any:
    return show_view(keras.ops, pixels, view)


def predict_activations(
    model: keras.Model,
    batches: Iterable[Any],
    out: np.ndarray | None = None,
    jit_compile: bool = False,
    fold: bool = False,
) -> np.ndarray:
    """Outputs of ``model`` for all images in ``batches``, in inference mode.

    Args:
        model: a model with one input and one output, for example a prefix from ``split_at``.
        batches: as for ``predict_probabilities``.
        out: array [N, ...] to fill, for example a memory map; its dtype is kept. Without it all
            outputs are held in memory twice for a moment.
        jit_compile: whether to compile with XLA.
        fold: make constants of the weights for this call, so that TensorFlow folds batch normalisation into the
            convolutions before it: the same numbers but for rounding, 1.2 to 1.6 times faster on a CPU, for some
            seconds at the start. For one long pass.

    Returns:
        ``out``, or a new float32 array [N, ...] in the order of the batches.

    Raises:
        ModelError: the images do not fit the model's input, or ``out`` is not as long as they are.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(f"{model.name} must have one input and one output to predict with")
    folded: dict[str, _Forward] | None = {} if fold and not jit_compile else None
    parts, done = [], 0
    for images in map(_first, batches):
        outputs = _run(model, images, jit_compile, folded)
        if out is None:
            parts.append(outputs)
        elif done + len(outputs) <= len(out):
            out[done : done + len(outputs)] = outputs
        done += len(outputs)
    if out is not None:
        if done != len(out):
            raise ModelError(
                f"the array to fill must have one row per image, but has {len(out)} for {done} images"
            )
        return out
    if not parts:
        return np.zeros((0, *model.output_shape[1:]), np.float32)
    return np.concatenate(parts, dtype=np.float32, casting="same_kind")


def _first(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple | list) else batch


def _run(
    model: keras.Model, images: Any, jit_compile: bool, folded: dict[str, _Forward] | None = None
) -> np.ndarray:
    expected = tuple(model.input_shape[1:])
    if tuple(images.shape[1:]) != expected:
        raise ModelError(
            f"{model.name} takes batches of shape [n, {', '.join(map(str, expected))}], but got {tuple(images.shape)}: "
            "prepare the images with the chain the model was trained with"
        )
    if keras.backend.backend() != "tensorflow":
        return _run_padded(model, images)
    dtype = keras.backend.standardize_dtype(images.dtype)
    if dtype not in ("uint8", "float16", "bfloat16", "float32"):
        images, dtype = keras.ops.cast(images, "float32"), "float32"
    if folded is None:
        return np.asarray(_forward(model, dtype, jit_compile)(images), np.float32)
    if dtype not in folded:
        folded[dtype] = _fold(_forward(model, dtype, jit_compile))
    return np.asarray(folded[dtype](images), np.float32)


def _forward(model: keras.Model, dtype: str, jit_compile: bool) -> _Forward:
    """One graph per model and dtype, for any batch size; kept as long as the model lives."""
    import tensorflow as tf  # here, because other backends need none

    forwards = _FORWARDS.setdefault(model, {})
    if (dtype, jit_compile) not in forwards:
        alive = weakref.ref(model)  # a strong reference in the value would keep its own key alive
        signature = [tf.TensorSpec((None, *model.input_shape[1:]), dtype)]

        @tf.function(input_signature=signature, jit_compile=jit_compile, autograph=False)
        def forward(images: tf.Tensor) -> tf.Tensor:
            return alive()(images, training=False)  # pyright: ignore[reportOptionalCall]

        forwards[dtype, jit_compile] = forward
    return forwards[dtype, jit_compile]


def _fold(forward: Any) -> _Forward:
    """The same graph with the weights of this moment as constants, in which the optimizer folds what it can."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants  # public in no other way

    constant = convert_to_constants.convert_variables_to_constants_v2(forward.get_concrete_function())
    return lambda images: constant(tf.convert_to_tensor(images))[0]


def _run_padded(model: keras.Model, images: Any) -> np.ndarray:
    """For backends that compile per batch size: a smaller last batch is filled up to the largest seen."""
    images = np.asarray(images)
    _LARGEST[model] = largest = max(len(images), _LARGEST.get(model, 0))
    padding = np.zeros((largest - len(images), *images.shape[1:]), images.dtype)
    return np.asarray(model.predict_on_batch(np.concatenate([images, padding])), np.float32)[: len(images)]


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
