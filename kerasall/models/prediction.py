"""Fast forward passes over many batches, views of one image that show the same cell, and activations kept by content.

A cell has no upper side, so the model's answers to the eight symmetries of a square differ only by what it
has learnt by chance; their mean is the test-time augmentation of the field. Activations of a frozen part are
computed once per image.
"""

from __future__ import annotations

import hashlib
import json
import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasall.errors import DataError, ModelError
from kerasall.files import atomic_path, find_sealed, require_room, seal_file
from kerasall.models.passes import PLAIN, Forward, Way, choose_way, open_way
from kerasall.runtime import show_progress

View = tuple[bool, bool, bool]
"""Whether rows and columns are exchanged, then mirrored up-down and left-right."""

VIEWS: dict[int, tuple[View, ...]] = {
    1: ((False, False, False),),
    4: tuple((False, down, across) for down, across in product((False, True), repeat=2)),
    8: tuple((turned, down, across) for turned, down, across in product((False, True), repeat=3)),
}
"""How many views -> these. The first is the image itself; four are the mirrorings and the half turn, which
need no square."""

ACTIVATIONS = "activations"
"""Folder of a cache in which every system keeps what a frozen part gave, and finds what another has passed."""

Lower = tuple[keras.Model, np.ndarray]
"""Stored activations [N, ...] of a lower cut, and the model that goes on from them."""

_Tensor = Any

_FORWARDS: weakref.WeakKeyDictionary[keras.Model, dict[str, Forward]] = weakref.WeakKeyDictionary()
_LARGEST: weakref.WeakKeyDictionary[keras.Model, int] = weakref.WeakKeyDictionary()


def predict_probabilities(model: keras.Model, batches: Iterable[Any]) -> np.ndarray:
    """Class probabilities float32 [N, C] of all images, in inference mode: ``predict_activations`` of a whole model."""
    return predict_activations(model, batches)


def predict_classes(model: keras.Model, batches: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N, C] of any classifier or ensemble, of one sigmoid those of two classes, and called classes int64 [N]."""
    if isinstance(model.output, Mapping):
        outputs = predict_outputs(model, batches)
        probabilities = outputs["probabilities"]
        called = outputs["label_index"] if "label_index" in outputs else probabilities.argmax(axis=1)
        return probabilities, called.astype(np.int64)
    probabilities = predict_probabilities(model, batches)
    if probabilities.shape[1] == 1:
        probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
    return probabilities, probabilities.argmax(axis=1)


def require_probabilities(model: keras.Model, answers: np.ndarray) -> None:
    """Refuses a model whose answers [N, C] are logits: their mean would pass for a probability.

    Raises:
        ModelError: some are negative, or do not sum to 1.
    """
    sums = answers.astype(np.float64).sum(axis=1)
    if not (answers >= 0).all() or np.abs(sums - 1).max() > 1e-3:
        raise ModelError(
            f"{model.name} must give probabilities that sum to 1, but gives an image values that sum to {sums[0]:.4g}: "
            "end it with a softmax"
        )


def predict_activations(
    model: keras.Model, batches: Iterable[Any], out: np.ndarray | None = None, way: Way = PLAIN
) -> np.ndarray:
    """Outputs of ``model`` for all images in ``batches``, in inference mode.

    Args:
        model: a model with one input and one output, for example a prefix from ``split_at``.
        batches: of images [n, H, W, 3], or of tuples whose first entry they are (a ``tf.data``
            set of images and labels). Batches may differ in size; no size is traced anew.
        out: array [N, ...] to fill, for example a memory map; its dtype is kept. Without it all
            outputs are held in memory twice for a moment.
        way: how they pass, with the weights of this moment; see ``choose_way``. For one long pass.

    Returns:
        ``out``, or a new float32 array [N, ...] in the order of the batches; [0, ...] where there are none.

    Raises:
        ModelError: the images do not fit the model's input, or ``out`` is not as long as they are.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(f"{model.name} must have one input and one output to predict with")
    answers = (np.asarray(each, np.float32) for each in _run(model, batches, way))
    if out is None:
        parts = list(answers)
        return np.concatenate(parts) if parts else np.zeros((0, *model.output_shape[1:]), np.float32)
    done = 0
    for part in answers:
        if done + len(part) <= len(out):
            out[done : done + len(part)] = part
        done += len(part)
    if done != len(out):
        raise ModelError(
            f"the array to fill must have one row per image, but has {len(out)} for {done} images"
        )
    return out


def predict_outputs(model: keras.Model, batches: Iterable[Any]) -> dict[str, np.ndarray]:
    """All named outputs for all images in ``batches``, in inference mode and one pass.

    Args:
        model: a model with one input and a dictionary of outputs of known shapes [N, ...].
        batches: as for ``predict_activations``.

    Returns:
        name -> array [N, ...] in the order of the batches, of the output's own kind of number.

    Raises:
        ModelError: the outputs have no names, or the images do not fit the model's input.
    """
    outputs: Any = model.output
    if not isinstance(outputs, dict):
        raise ModelError(f"{model.name} must answer with named outputs: use predict_probabilities")
    parts = list(_run(model, batches))
    none = {name: np.zeros((0, *tensor.shape[1:]), tensor.dtype) for name, tensor in outputs.items()}
    return {name: np.concatenate([part[name] for part in parts or [none]]) for name in outputs}


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
    shown = (batches.map(partial(show_view, keras.ops, view=view)) for view in VIEWS[views])
    return np.stack([predict_probabilities(model, each) for each in shown]).mean(axis=0, dtype=np.float32)


def mean_of_views(answer: Callable[[_Tensor], _Tensor], pixels: _Tensor, views: int, classes: int) -> _Tensor:
    """Mean over the views of a network's probabilities, in TensorFlow operations, one view after another.

    The views pass the network one by one: eight at once would take eight times the memory.

    Args:
        answer: pixels float32 [N, H, W, 3] -> probabilities float32 [N, C].
        pixels: of N images.
        views: a key of ``VIEWS``.
        classes: C.
    """
    import tensorflow as tf

    if views == 1:
        return answer(pixels)
    stacked = tf.stack([show_view(keras.ops, pixels, view) for view in VIEWS[views]])
    answers = tf.map_fn(
        lambda shown: tf.cast(answer(shown), tf.float32), stacked, parallel_iterations=1,
        fn_output_signature=tf.TensorSpec([None, classes], tf.float32),
    )  # fmt: skip
    return tf.reduce_mean(answers, axis=0)


def show_view(ops: Any, pixels: _Tensor, view: View) -> _Tensor:
    """One view of every image.

    Args:
        ops: numpy or ``keras.ops``.
        pixels: [N, H, W, 3], square if the view exchanges rows and columns.
        view: of ``VIEWS``.
    """
    exchanged, down, across = view
    if exchanged:
        pixels = ops.transpose(pixels, (0, 2, 1, 3))
    pixels = ops.flip(pixels, 1) if down else pixels
    return ops.flip(pixels, 2) if across else pixels


def require_views(model: keras.Model, views: int) -> None:
    """Checks that a model's images can be shown in so many views.

    Raises:
        ModelError: not 1, 4 or 8; eight of images that are not square; or a model of several outputs.
    """
    if views not in VIEWS:
        raise ModelError(f"serve.views must be one of {list(VIEWS)}, but is {views}")
    if views == 1:
        return
    height, width = model.input_shape[1:3]
    if views == 8 and height != width:
        raise ModelError(
            f"eight views need square images, but the model takes {height}x{width}: set serve.views: 4, or crop to a "
            "square"
        )
    if isinstance(model.output, dict):
        raise ModelError(
            "views are averaged for one classifier, but the model is an ensemble: set serve.views: 1"
        )


def _run(model: keras.Model, batches: Iterable[Any], way: Way = PLAIN) -> Iterator[Any]:
    """What the model answers to each batch, as arrays in the structure of its outputs."""
    expected = tuple(model.input_shape[1:])
    opened: dict[str, Forward] = {}
    for batch in batches:
        images = batch[0] if isinstance(batch, tuple | list) else batch
        if tuple(images.shape[1:]) != expected:
            raise ModelError(
                f"{model.name} takes batches of shape [n, {', '.join(map(str, expected))}], but got "
                f"{tuple(images.shape)}: prepare the images with the chain the model was trained with"
            )
        if keras.backend.backend() != "tensorflow":
            yield _run_padded(model, images)
            continue
        dtype = keras.backend.standardize_dtype(images.dtype)
        if dtype not in ("uint8", "float16", "bfloat16", "float32"):
            images, dtype = keras.ops.cast(images, "float32"), "float32"
        if dtype not in opened:
            opened[dtype] = open_way(way, _forward(model, dtype), images, model.name)
        yield keras.tree.map_structure(np.asarray, opened[dtype](images))


def _forward(model: keras.Model, dtype: str) -> Forward:
    """One graph per model and dtype, for any batch size; kept as long as the model lives."""
    import tensorflow as tf  # here, because other backends need none

    forwards = _FORWARDS.setdefault(model, {})
    if dtype not in forwards:
        alive = weakref.ref(model)  # a strong reference in the value would keep its own key alive
        signature = [tf.TensorSpec((None, *model.input_shape[1:]), dtype)]

        @tf.function(input_signature=signature, autograph=False)
        def forward(images: tf.Tensor) -> tf.Tensor:
            return alive()(images, training=False)  # pyright: ignore[reportOptionalCall]

        forwards[dtype] = forward
    return forwards[dtype]


def _run_padded(model: keras.Model, images: Any) -> Any:
    """For backends that compile per batch size: a smaller last batch is filled up to the largest seen."""
    images = np.asarray(images)
    _LARGEST[model] = largest = max(len(images), _LARGEST.get(model, 0))
    padding = np.zeros((largest - len(images), *images.shape[1:]), images.dtype)
    answers = model.predict_on_batch(np.concatenate([images, padding]))
    return keras.tree.map_structure(lambda each: np.asarray(each)[: len(images)], answers)


def cached_activations(
    prefix: keras.Model,
    pixels: np.ndarray,
    pixels_key: str,
    folder: str | Path,
    memory_bytes: int = 2 << 30,
    lower: Callable[[], Lower | None] = lambda: None,
    precision: str = "float32",
) -> np.ndarray:
    """What ``prefix`` gives for every image, from the folder where it is already there.

    Args:
        prefix: frozen part of a model, from ``split_at``.
        pixels: uint8 [N, H, W, 3].
        pixels_key: names the content of ``pixels``; equal keys mean equal pixels.
        folder: where activations are kept, one file per content of prefix and pixels.
        memory_bytes: read into memory up to this size, else mapped from the disk.
        lower: asked only where nothing is stored: activations of a lower cut from which to go on,
            which spares a second pass over the images; None starts from the pixels.
        precision: names what the caller makes this process compute in; of the file's key.

    Returns:
        float32 [N, ...], read-only where it is mapped.

    Raises:
        DataError: the pixels have no key.
    """
    path = Path(folder) / f"{activations_key(prefix, pixels_key, len(pixels), precision)[:32]}.npy"
    shape = (len(pixels), *prefix.output_shape[1:])
    if None in shape:
        raise ModelError(f"a cached part must give activations of one shape, but gives {prefix.output_shape}")
    stored = find_sealed(path)
    if stored is None:
        model, inputs = lower() or (prefix, pixels)
        path.parent.mkdir(parents=True, exist_ok=True)
        require_room(path.parent, math.prod(shape) * 4, f"the activations of {len(inputs):,} images")
        with atomic_path(path) as temporary:
            out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            way = choose_way(len(inputs), precision)
            predict_activations(model, _batches(inputs, model.name, way.batch), out=out, way=way)
            out.flush()
            del out
        stored = seal_file(path)
    fits = int(np.prod(shape)) * 4 <= memory_bytes
    return np.load(stored, mmap_mode=None if fits else "r", allow_pickle=False)


def activations_key(prefix: keras.Model, pixels_key: str, images: int, precision: str = "float32") -> str:
    """SHA-256 over the operations and weights of ``prefix``, its pixels, the precision it computes in, and the way
    in which so many images pass it."""
    require_key(pixels_key)
    digest = hashlib.sha256()
    shapes = [(variable.shape, str(variable.dtype)) for variable in prefix.weights]
    computed_in = [precision, keras.config.dtype_policy().name, choose_way(images, precision).key]
    facts = [pixels_key, str(prefix.output_shape), computed_in, shapes, list(_describe_operations(prefix))]
    digest.update(json.dumps(facts, default=str, sort_keys=True).encode())
    for variable in prefix.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    return digest.hexdigest()


def require_key(pixels_key: str) -> None:
    """Stops where nothing names the content of pixels: others' results would be taken for theirs.

    Raises:
        DataError: the key is "".
    """
    if not pixels_key:
        raise DataError(
            "what is computed from pixels is kept under their key, but these have none: give decode_pixels the "
            "files' SHA-256 (keys), or a folder"
        )


def _describe_operations(model: keras.Model) -> Iterator[list]:
    """Kind and arguments of every operation, parts inside parts too.

    Left out is what decides nothing where nothing is trained: names, what might be trained, and where the images
    enter. So a member that its ensemble froze, and the same backbone in another system, find what is stored.
    """
    for operation in model.operations:
        if isinstance(operation, keras.Model):
            yield from _describe_operations(operation)
        elif not isinstance(operation, keras.layers.InputLayer):
            config = operation.get_config()
            kept = {name: value for name, value in config.items() if name not in ("name", "trainable")}
            yield [type(operation).__name__, kept]


def _batches(inputs: np.ndarray, name: str, size: int) -> Iterator[np.ndarray]:
    """Slices of ``inputs``, with progress and time left: one pass of a large network can take long."""
    starts = range(0, len(inputs), size)
    for start in show_progress(starts, len(starts), f"{name} over {len(inputs):,} images, once"):
        yield inputs[start : start + size]
