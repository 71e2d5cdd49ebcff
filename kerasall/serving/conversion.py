"""A SavedModel as ONNX or LiteRT, for other runtimes: converted, loaded again, and compared on real images.

What is converted is the signature ``serving_pixels``: uint8 pixels after the chain of operations in, all answers
out. Decoding and the chain stay outside; the card beside the result tells them.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.errors import ModelError, SettingsError
from kerasall.runtime import rewriting_to_bfloat16
from kerasall.serving.graph import load_saved_model, require_known_graph

# The converters are extras: without them there is nothing here to check types against.
# pyright: reportMissingImports=false

PIXELS = "serving_pixels"
ONNX_OPSET = 17
TOLERANCE = 1e-4
"""Largest difference of a probability at which a float32 conversion counts as the same model."""

Answer = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Pixels uint8 [N, H, W, 3] -> outputs by name."""


@dataclass(frozen=True)
class Target:
    """One format to convert to.

    Attributes:
        file: name of the converted file.
        packages: what must be installed to convert and to check.
        extra: the extra that brings them; "" where TensorFlow has all.
        convert: folder of a SavedModel -> bytes of the converted file.
        load: path of the converted file -> a function that answers pixels.
    """

    file: str
    packages: tuple[str, ...]
    extra: str
    convert: Callable[[Path], bytes]
    load: Callable[[Path], Answer]


def answer_in_tensorflow(folder: Path) -> Answer:
    """The SavedModel itself, asked by its pixels."""

    model: Any = load_saved_model(folder)
    # By way of the model, which must stay alive.
    return lambda pixels: ask_signature(model.signatures[PIXELS], pixels)


def ask_signature(signature: Any, pixels: np.ndarray, bfloat16: bool = False) -> dict[str, np.ndarray]:
    """A loaded signature's answers to pixels; with ``bfloat16`` oneDNN computes in it what it deems safe."""
    import tensorflow as tf

    with rewriting_to_bfloat16() if bfloat16 else nullcontext():
        return {name: value.numpy() for name, value in signature(pixels=tf.constant(pixels)).items()}


def to_onnx(folder: Path) -> bytes:
    """Converts with tf2onnx; inputs and outputs keep their names.

    Raises:
        ModelError: an operation has no counterpart in ONNX.
    """
    import onnx
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it tells of is checked below
    function = function_of_pixels(folder)
    try:
        found, _ = tf2onnx.convert.from_function(
            function, input_signature=function.input_signature, opset=ONNX_OPSET
        )
        onnx.checker.check_model(found)  # tf2onnx passes on what it does not know
    except Exception as error:  # whatever a converter meets in a graph
        raise not_convertible(folder, "ONNX", error) from error
    return found.SerializeToString()


def function_of_pixels(folder: Path) -> Any:
    """The SavedModel's signature by pixels as a ``tf.function``, which is what converters take."""
    import tensorflow as tf

    model: Any = load_saved_model(folder)
    spec = model.signatures[PIXELS].structured_input_signature[1]["pixels"]
    # By way of the model, which must stay alive.
    return tf.function(lambda pixels: model.signatures[PIXELS](pixels=pixels), input_signature=[spec])


def to_litert(folder: Path) -> bytes:
    """Converts to float32 with TensorFlow's own converter.

    Raises:
        ModelError: an operation has no counterpart among LiteRT's own.
    """
    require_known_graph(folder)
    return _convert_to_litert(folder, folder)


def to_litert_int8(folder: Path, samples: Sequence[np.ndarray]) -> bytes:
    """Converts the network to 8-bit weights and activations; answers ``probabilities`` and ``label_index`` only.

    Calibrated probabilities, distances and referral are left out: thresholds fitted to float32 numbers say nothing
    of 8-bit ones.

    Args:
        folder: the SavedModel.
        samples: pixels uint8 [H, W, 3] each, after the chain, whose activations settle the ranges; a hundred
            images of all classes do. Never those that the result is scored on.

    Raises:
        ModelError: an operation has no counterpart among LiteRT's own.
    """
    import tensorflow as tf

    model: Any = load_saved_model(folder)
    signature = model.signatures[PIXELS]
    spec = signature.structured_input_signature[1]["pixels"]

    def answer(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = signature(pixels=pixels)
        return {name: outputs[name] for name in ("probabilities", "label_index")}

    def represent() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        yield from ((PIXELS, {"pixels": pixels[None]}) for pixels in samples)

    with tempfile.TemporaryDirectory() as work:
        short: Any = tf.Module()
        short.model = model
        tf.saved_model.save(short, work, {PIXELS: tf.function(answer, input_signature=[spec])})
        quantizing = {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": represent}
        return _convert_to_litert(Path(work), folder, **quantizing)


def _convert_to_litert(source: Path, folder: Path, **settings: Any) -> bytes:
    """Converts the SavedModel in ``source``; errors name ``folder``."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(source), signature_keys=[PIXELS])
    for name, value in settings.items():
        setattr(converter, name, value)
    try:
        with _no_notice_of_the_move():
            return converter.convert()
    except Exception as error:  # whatever a converter meets in a graph
        raise not_convertible(folder, "LiteRT", error) from error


@contextmanager
def _no_notice_of_the_move() -> Iterator[None]:
    """LiteRT's interpreter announces a package of its own; TensorFlow 2.21, which is pinned, still has it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        yield


def not_convertible(folder: Path, name: str, error: Exception) -> ModelError:
    """What to raise where a converter fails."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    first = next((line for line in lines if "for operations:" in line), lines[0])
    return ModelError(
        f"{folder} must hold only operations that {name} knows, but converting it failed: {first[:300]}"
    )


def load_onnx(path: Path, threads: int = 0) -> Answer:
    """Answers with ONNX Runtime on the CPU, in so many threads an image; 0: as it sees fit."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda pixels: dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))


def load_litert(path: Path) -> Answer:
    """Answers with TensorFlow's interpreter of LiteRT files, image by image."""
    import tensorflow as tf

    with _no_notice_of_the_move():
        interpreter = tf.lite.Interpreter(str(path))
    runner = interpreter.get_signature_runner(PIXELS)

    def answer(pixels: np.ndarray) -> dict[str, np.ndarray]:
        rows = [runner(pixels=one[None]) for one in pixels]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return answer


TARGETS: Mapping[str, Target] = {
    "onnx": Target("model.onnx", ("tf2onnx", "onnx", "onnxruntime"), "onnx", to_onnx, load_onnx),
    "litert": Target("model.tflite", (), "", to_litert, load_litert),
}
"""Every format that ``kerasall export`` knows."""


def find_target(name: str) -> Target:
    """A row of ``TARGETS``.

    Raises:
        SettingsError: no such format, or a package that it needs is missing.
    """
    if name not in TARGETS:
        raise SettingsError(f"the format must be one of {', '.join(TARGETS)}, but is {name!r}")
    require_packages(TARGETS[name].packages, TARGETS[name].extra, f"exporting to {name}")
    return TARGETS[name]


def require_packages(packages: Sequence[str], extra: str, what: str) -> None:
    """Stops where packages of an extra are missing.

    Raises:
        SettingsError: says what needs them.
    """
    if missing := [package for package in packages if find_spec(package) is None]:
        raise SettingsError(
            f"{what} needs the extra {extra}, but {', '.join(missing)} is missing: pip install 'kerasall[{extra}]'"
        )


@dataclass(frozen=True)
class Parity:
    """How far a converted model's answers are from the SavedModel's.

    Attributes:
        images: how many were compared.
        labels_changed: of how many the called class differs.
        largest: largest difference by output of floating-point numbers.
    """

    images: int
    labels_changed: int
    largest: Mapping[str, float]

    def is_within(self, tolerance: float) -> bool:
        """Whether no probability of any output differs by more; NaN does."""
        return all(
            value <= tolerance for name, value in self.largest.items() if name.endswith("probabilities")
        )

    def describe(self) -> str:
        """One line of it."""
        return (
            f"on {self.images} images the largest difference of a probability is {self.largest['probabilities']:.2g}, "
            f"{self.labels_changed} labels differ"
        )


def compare_answers(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> Parity:
    """Compares the outputs that both give.

    Raises:
        ModelError: the converted model gives no probabilities.
    """
    if "probabilities" not in found or "label_index" not in found:
        raise ModelError(
            f"the converted model must give probabilities and label_index, but gives {sorted(found)}"
        )
    floats = [name for name in found if np.issubdtype(np.asarray(expected[name]).dtype, np.floating)]
    largest = {name: float(np.abs(expected[name] - found[name]).max()) for name in floats}
    changed = int((expected["label_index"] != found["label_index"]).sum())
    return Parity(len(expected["label_index"]), changed, largest)


def require_same_answers(parity: Parity) -> None:
    """Stops where a float32 conversion answers otherwise.

    Raises:
        ModelError: a probability differs by more than ``TOLERANCE``, or a called class.
    """
    # NaN compares as False: such a conversion does not pass.
    if not (parity.largest["probabilities"] <= TOLERANCE and not parity.labels_changed):
        raise ModelError(
            f"the converted model must answer within {TOLERANCE:g} of the SavedModel, but of {parity.images} images "
            f"{parity.labels_changed} have another label and the largest difference is "
            f"{parity.largest['probabilities']:.2g}: nothing was written"
        )
