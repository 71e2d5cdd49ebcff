"""A trained model and its chain of operations become one SavedModel that takes bytes of image files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import keras
import tensorflow as tf

from kerasall.decoding.depth import FULL, MINMAX, SixteenBit, describe_excess
from kerasall.errors import ModelError
from kerasall.evaluation.class_names import describe_faults
from kerasall.evaluation.ensemble_rules import find_highest
from kerasall.files import atomic_path, write_json, write_text
from kerasall.serving.card import CARD, write_manifest
from kerasall.serving.graph import require_known_graph

Tensors = Mapping[str, tf.Tensor]
_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH = 24
"""Where the bits of a sample stand in a PNG."""


class Operations(Protocol):
    """What is done to a decoded image, uint8 [h, w, 3], and what before it to 16-bit samples."""

    @property
    def sixteen_bit(self) -> SixteenBit: ...

    def __call__(self, image: tf.Tensor) -> tf.Tensor: ...


Explain = Callable[[tf.Tensor, tf.Tensor], Tensors]
"""Pixels after the chain, float32 [N, H, W, 3], and class indices [N] -> maps by name, [N, ...] each."""


def export_saved_model(
    model: keras.Model,
    chain: Operations,
    labels: Sequence[str],
    folder: str | Path,
    explain: Explain | None = None,
    answer: Callable[[tf.Tensor], Tensors] | None = None,
    card: Mapping[str, Any] | None = None,
    malignant: Sequence[int] = (),
) -> Path:
    """Writes a SavedModel with decoding, ``chain`` and ``model`` in one graph, atomically.

    Signatures (names are a contract):
        serving_default: image_bytes string [None] -> probabilities float32 [None, C], label_index
            int64 [None], and whatever else the model returns by name.
        serving_pixels: pixels uint8 [None, H, W, 3], after the chain -> the same.
        preprocess: image_bytes string [None] -> those pixels, for runtimes that read no image files.
        explain, if there is such a function: image_bytes string [None], class_index int64 [None] ->
            heatmap float32 [None, H, W] and whatever else it returns by name, and pixels uint8
            [None, H, W, 3], what the model was shown.

    Args:
        model: takes pixels [None, H, W, 3] in 0..255 and returns probabilities [None, C], or a
            dictionary that holds ``probabilities``.
        chain: one uint8 image [h, w, 3] -> uint8 [H, W, 3], in TensorFlow operations alone, and what becomes of 16-bit
            samples before it.
        labels: C class names in class order.
        folder: where the SavedModel shall lie; must not exist.
        explain: where in the image the evidence for a class lies, in TensorFlow operations alone.
        answer: what answers pixels float32 [N, H, W, 3] instead of the model itself, with the model's
            weights and more named outputs.
        card: what to write into card.json beside it; of a pushed model the Pusher does.
        malignant: indices of the malignant classes: one of them is called where it is as probable as another class. A
            model that returns ``label_index`` decides itself.

    Raises:
        ModelError: the number of labels differs from the model's outputs, the image size is open, or the graph would hold
            what ``kerasall.serving.graph`` does not let load.
    """
    folder = Path(folder)
    size = _image_size(model)
    _require_labels(model, labels)
    functions = _list_functions(
        answer or (lambda pixels: model(pixels, training=False)), chain, size, explain, malignant
    )
    with atomic_path(folder) as temporary:
        with _quiet_tensorflow():
            _save(functions, temporary)
        _require_servable(model, temporary)
        write_text(temporary / "labels.txt", "".join(f"{label}\n" for label in labels))
        if card is not None:
            write_json(temporary / CARD, dict(card))
        write_manifest(temporary)
    return folder


def decode_native(data: tf.Tensor, sixteen_bit: SixteenBit = FULL) -> tf.Tensor:
    """Decodes a file that ``to_native`` gave, a string scalar, to uint8 [h, w, 3], RGB.

    Equals ``kerasall.decoding.decode`` pixel by pixel. JPEG goes through the accurate inverse cosine transform,
    which is the same in every libjpeg-turbo; TensorFlow's own choice is a coarser one. It stands here as
    ``kerasall.decoding`` loads no TensorFlow.

    Args:
        data: the file's bytes.
        sixteen_bit: what becomes of a PNG's 16-bit samples, and of no others.
    """

    def decode_other() -> tf.Tensor:
        return tf.io.decode_image(data, channels=3, expand_animations=False)  # of 16 bits the high byte

    def decode_png_or_other() -> tf.Tensor:
        start = tf.strings.substr(data, 0, len(_PNG))
        is_deep = (start == _PNG) & (tf.strings.substr(data, _DEPTH, 1) == b"\x10")
        return tf.cond(is_deep, lambda: _decode_deep_png(data, sixteen_bit), decode_other)

    image = tf.cond(
        tf.io.is_jpeg(data),
        lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"),
        decode_other if sixteen_bit == FULL else decode_png_or_other,
    )
    return tf.ensure_shape(image, [None, None, 3])


def _decode_deep_png(data: tf.Tensor, sixteen_bit: SixteenBit) -> tf.Tensor:
    """As ``kerasall.decoding.depth.to_eight_bits``, in whole numbers too."""
    values = tf.cast(tf.io.decode_png(data, channels=3, dtype=tf.uint16), tf.int32)
    most = tf.reduce_max(values)
    if sixteen_bit == MINMAX:
        least = tf.reduce_min(values)
        return tf.cast((values - least) * 255 // tf.maximum(most - least, 1), tf.uint8)
    bits = int(sixteen_bit)
    fits = tf.debugging.Assert(most < 1 << bits, [describe_excess(bits, "a greater one")])
    with tf.control_dependencies([fits] if fits is not None else []):
        return tf.cast(values // (1 << bits - 8), tf.uint8)


def decode_batch(image_bytes: tf.Tensor, chain: Operations, size: tuple[int, int]) -> tf.Tensor:
    """Decodes a batch of image files and applies the chain: string [N] -> uint8 [N, H, W, 3]."""

    def decode(data: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(chain(decode_native(data, chain.sixteen_bit)), [*size, 3])

    return tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec([*size, 3], tf.uint8))


def _list_functions(
    answer: Callable[[tf.Tensor], Any], chain: Operations, size: tuple[int, int], explain: Explain | None,
    malignant: Sequence[int],
) -> dict[str, Any]:  # fmt: skip
    """The functions of all signatures by name; they call one another, so that each part is traced once."""
    files = tf.TensorSpec([None], tf.string, "image_bytes")
    shown = tf.TensorSpec([None, *size, 3], tf.uint8, "pixels")

    def answer_some(pixels: tf.Tensor) -> Tensors:
        return _named(answer(pixels), malignant)

    to_pixels = _in_graph(lambda image_bytes: {"pixels": decode_batch(image_bytes, chain, size)}, files)
    answer_pixels = _in_graph(lambda pixels: _answer_any(answer_some, tf.cast(pixels, tf.float32)), shown)
    functions = {
        "serving_default": _in_graph(lambda image_bytes: answer_pixels(**to_pixels(image_bytes)), files),
        "serving_pixels": answer_pixels,
        "preprocess": to_pixels,
    }
    if explain is not None:

        def explain_bytes(image_bytes: tf.Tensor, class_index: tf.Tensor) -> Tensors:
            pixels = to_pixels(image_bytes)
            return {**_answer_any(explain, tf.cast(pixels["pixels"], tf.float32), class_index), **pixels}

        functions["explain"] = _in_graph(explain_bytes, files, tf.TensorSpec([None], tf.int64, "class_index"))
    return functions


def _in_graph(function: Callable[..., Tensors], *signature: tf.TensorSpec) -> Any:
    """Without autograph, which would rewrite all of Keras that is called, for seconds: every choice is a ``tf.cond``."""
    return tf.function(function, input_signature=signature, autograph=False)


def _answer_any(answer: Callable[..., Tensors], *batches: tf.Tensor) -> Tensors:
    """What a function answers to batches float32 or int64 [N, ...]; where there are no rows, none, of what it answers to a blank one.

    On processors with kernels of oneDNN an empty batch leaves a convolution in the shape in which it came, and the next
    layer fails.
    """
    count = tf.shape(batches[0])[0]
    lacking = tf.cast(tf.equal(count, 0), tf.int32)
    filled = []
    for batch in batches:
        below: Any = [[0, lacking], *[[0, 0]] * (batch.shape.rank - 1)]
        padded = tf.pad(batch, below)
        filled.append(tf.reshape(padded, [-1, *batch.shape[1:]]))  # whose static shape padding loses
    return {name: values[:count] for name, values in answer(*filled).items()}


def _save(functions: Mapping[str, Any], folder: Path) -> None:
    """Traces every function once and saves what comes out as signatures.

    Keras' own archive hangs the functions themselves on what it saves: each network is traced again and lies in the
    file twice, which takes three times as long, here and at every load.
    """
    signatures = {name: function.get_concrete_function() for name, function in functions.items()}
    saved: Any = tf.Module()
    used = (variable for traced in signatures.values() for variable in traced.variables)
    saved.used_variables = list({id(variable): variable for variable in used}.values())
    tf.saved_model.save(saved, str(folder), signatures=signatures)


def _require_servable(model: keras.Model, folder: Path) -> None:
    try:
        require_known_graph(folder)
    except ModelError as error:
        raise ModelError(str(error).replace(str(folder), f"the graph of {model.name}", 1)) from None


def _named(outputs: Any, malignant: Sequence[int]) -> dict[str, tf.Tensor]:
    named = dict(outputs) if isinstance(outputs, Mapping) else {"probabilities": outputs}
    probabilities = tf.cast(named["probabilities"], tf.float32)
    decided = named.get("label_index")
    if decided is None:
        decided = find_highest(keras.ops, probabilities, malignant)
    return named | {"probabilities": probabilities, "label_index": tf.cast(decided, tf.int64)}


def _image_size(model: keras.Model) -> tuple[int, int]:
    shape = tuple(model.input_shape)
    if len(shape) != 4 or None in shape[1:] or shape[3] != 3:
        raise ModelError(
            f"an exported model must take images of one size, [None, H, W, 3], but takes {shape}: "
            "build it with a fixed image size"
        )
    return int(shape[1]), int(shape[2])


def _require_labels(model: keras.Model, labels: Sequence[str]) -> None:
    outputs: Any = model.output  # not output_shape, which forgets the names of a dictionary
    shape = (outputs["probabilities"] if isinstance(outputs, Mapping) else outputs).shape
    if faults := describe_faults(labels):
        raise ModelError(
            f"labels must be names that every table and file can hold, but {faults}: rename them"
        )
    if shape[-1] != len(labels):
        raise ModelError(f"the model must have one output per label ({len(labels)}), but has {shape[-1]}")


@contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Silences what TensorFlow's Python logger says of every function it traces while saving."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
