"""Ways in which many images pass a frozen network: the same numbers but for rounding, in less time.

What is installed and how many images there are settle the way, and never how fast it is: the same run goes the same way
again, and what is stored is read again by those alone who would go it. A few images are passed by TensorFlow, too.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasall.runtime import import_openvino, logging_as_it_was
from kerasall.shown_text import tell

Forward = Callable[[Any], Any]
"""A batch of images to activations."""

CHECKED = 8
"""Images of the first batch that TensorFlow answers, too."""
PIECE = 4
"""Images that one thread of OpenVINO passes at a time."""


@dataclass(frozen=True)
class Way:
    """One way.

    Attributes:
        name: of the key of what was stored.
        open: the model's graph, a ``tf.function`` of one batch -> what passes batches with the weights of this moment.
        least_images: from which on it saves more time than its start takes.
        package: that must be installed, whose version is of the key; "" where it needs none.
        batch: images that are best given together.
        tolerance: greatest difference from TensorFlow's own pass, in units of the largest activation. TensorFlow rounds,
            too: of cells on black, MobileNet's activations lie 4e-5 from those of float64, on either side.
    """

    name: str
    open: Callable[[Any], Forward]
    least_images: int = 0
    package: str = ""
    batch: int = 32
    tolerance: float = 2e-4

    @property
    def key(self) -> str:
        """What names it in keys."""
        return f"{self.name} {version(self.package)}" if self.package else self.name

    @property
    def is_installed(self) -> bool:
        """Whether its package is there, and in order."""
        return not self.package or _can_import(self.package)


@cache
def _can_import(package: str) -> bool:
    """A package that is there and cannot be read must not stand in a key."""
    try:
        version(package)
        import_openvino()
    except (PackageNotFoundError, ImportError, OSError):
        return False
    return True


def _with_constants(forward: Any) -> Any:
    """The same graph with the weights of this moment as constants."""
    from tensorflow.python.framework import convert_to_constants  # public in no other way

    return convert_to_constants.convert_variables_to_constants_v2(forward.get_concrete_function())


def fold_weights(forward: Any) -> Forward:
    """The same graph with the weights as constants, in which TensorFlow's optimizer folds what it can."""
    import tensorflow as tf

    constant = _with_constants(forward)
    return lambda images: constant(tf.convert_to_tensor(images))[0]


def _convert_to_openvino(forward: Any) -> Forward:
    """The same graph in OpenVINO, one image after another in one thread of each core: the load changes no bit."""
    openvino = import_openvino()
    # From a file: given a function, OpenVINO 2026.4 asks for TensorFlow's version in a way that Python 3.13 ended.
    with tempfile.TemporaryDirectory(prefix="kerasall-") as work, logging_as_it_was():
        path = Path(work) / "network.pb"
        path.write_bytes(_with_constants(forward).graph.as_graph_def().SerializeToString())
        network = openvino.convert_model(path)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    settings = {
        "NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores, "INFERENCE_PRECISION_HINT": "f32",
    }  # fmt: skip
    queue = openvino.AsyncInferQueue(openvino.Core().compile_model(network, "CPU", settings), cores)
    # Copied: a request writes its next answer into the same memory.
    queue.set_callback(lambda request, at: at[0].__setitem__(at[1], request.get_output_tensor(0).data.copy()))

    def answer(images: Any) -> np.ndarray:
        images, found = np.asarray(images), {}
        for start in range(0, len(images), PIECE):
            queue.start_async({0: images[start : start + PIECE]}, (found, start))
        queue.wait_all()
        return np.concatenate([found[start] for start in sorted(found)])

    return answer


PLAIN = Way("tensorflow", lambda forward: forward)
"""TensorFlow's own pass."""
OPENVINO = "openvino"
WAYS = (
    Way(OPENVINO, _convert_to_openvino, least_images=250, package="openvino", batch=128),
    Way("folded", fold_weights, least_images=1000),
    PLAIN,
)
"""Every way, the fastest first. ONNX Runtime is as fast as OpenVINO, but converting for it takes as long as some
thousand images do."""
COARSE = 0.02
"""The tolerance of what is computed in fewer bits than float32 has."""


def choose_way(images: int, precision: str = "float32") -> Way:
    """The fastest way for so many images; OpenVINO's is one for float32 on a CPU.

    Args:
        images: how many will pass.
        precision: what they are computed in, a name of ``kerasall.training.devices``.
    """
    if keras.backend.backend() != "tensorflow":
        return PLAIN
    exact = precision == "float32"
    on_cpu = exact and not any("gpu" in name.lower() for name in keras.distribution.list_devices())
    able = (way for way in WAYS if way.is_installed and images >= way.least_images)
    way = next(way for way in able if on_cpu or way.name != OPENVINO)
    return way if exact else replace(way, tolerance=COARSE)


def list_installed() -> list[str]:
    """Keys of the ways that need a package and have it: where there are others, results differ in their last bits."""
    return [way.key for way in WAYS if way.package and way.is_installed]


def open_way(way: Way, forward: Any, images: Any, what: str) -> Forward:
    """What passes the batches of one model: the way, or the next that gives TensorFlow's own numbers.

    Args:
        way: chosen.
        forward: the model's graph.
        images: the first batch, of which a few are passed both ways.
        what: passes them, for the line that tells of a way that is left.
    """
    names = [each.name for each in WAYS]
    expected = None
    for each in (way, *WAYS[names.index(way.name) + 1 :]):
        if each.name == PLAIN.name:
            break
        first = images[:CHECKED]
        expected = np.asarray(forward(first), np.float32) if expected is None else expected
        try:
            fast = each.open(forward)
            difference = np.abs(np.asarray(fast(first), np.float32) - expected).max()
            why = f"differs by {difference:.2g} where the largest activation is {np.abs(expected).max():.3g}"
            same = bool(difference <= way.tolerance * np.abs(expected).max())  # of NaN it is not
        except Exception as error:  # whatever a converter meets in a graph
            same, why = False, f"fails ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        if same:
            return partial(_pass_finite, fast, forward)
        tell(f"{what}: not passed by {each.key}, which {why}")
    return forward


def _pass_finite(fast: Forward, forward: Forward, images: Any) -> Any:
    """OpenVINO makes numbers of what is none."""
    values = np.asarray(images)
    finite = values.dtype.kind in "iu" or np.isfinite(values.astype(np.float32, copy=False)).all()
    return fast(images) if finite else forward(images)
