"""Runtimes besides TensorFlow that may compute a SavedModel's answers: OpenVINO and ONNX Runtime.

TensorFlow reads the files (signature ``preprocess``), so that every runtime is shown the very same pixels. The network
of ``serving_pixels`` is converted once, cut into pieces, and answers in TensorFlow's place once compared with it.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from kerasall.errors import ArtifactError, ModelError, SettingsError
from kerasall.files import atomic_path, sha256_of_file, sha256_of_json
from kerasall.runtime import has_amx
from kerasall.serving.card import MANIFEST, verify_manifest, write_manifest
from kerasall.serving.conversion import (
    PIXELS,
    TOLERANCE,
    Answer,
    Parity,
    ask_signature,
    compare_answers,
    load_onnx,
    not_convertible,
    require_packages,
    to_onnx,
)
from kerasall.serving.graph import load_saved_model

# The runtimes are extras: without them there is nothing here to check types against.
# pyright: reportMissingImports=false

PRECISIONS = ("float32", "auto", "bfloat16")
PREPROCESS = "preprocess"
COMPARED = 8
"""Images of the first batch that TensorFlow answers too."""
COMPARED_BFLOAT16 = 32
"""As many where ``auto`` computes in bfloat16, since it may be too coarse for a few images only."""
AUTO_TOLERANCE = 0.02
"""Largest difference of a probability at which ``auto`` stays with bfloat16; no label may change either."""
PIECE = 4
"""Images that one thread answers at a time."""
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Runtime:
    """One runtime besides TensorFlow.

    Attributes:
        packages: what must be installed; the first one's version is told.
        extra: the extra that brings them.
        bfloat16: whether it can compute in bfloat16 on a CPU.
        write: folder of a SavedModel, empty folder -> writes the converted network there.
        open: that folder, whether in bfloat16 -> functions that may answer at the same time.
    """

    packages: tuple[str, ...]
    extra: str
    bfloat16: bool
    write: Callable[[Path, Path], None]
    open: Callable[[Path, bool], list[Answer]]


@dataclass(frozen=True)
class RuntimeChoice:
    """What shall compute the answers, and how exactly.

    Attributes:
        name: "tensorflow" or a row of ``RUNTIMES``.
        precision: "float32"; "auto": bfloat16 where the runtime has it and the CPU computes it faster (has
            ``amx_bf16``), unless the first images' answers are too far from float32's; "bfloat16": wherever it
            runs at all, however far.
        cache: folder that keeps converted networks; None converts at every start.

    Raises:
        SettingsError: no such runtime or precision, or a package is missing.
    """

    name: str = "tensorflow"
    precision: str = "float32"
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.name != "tensorflow" and self.name not in RUNTIMES:
            raise SettingsError(
                f"the runtime must be one of tensorflow, {', '.join(RUNTIMES)}, but is {self.name!r}"
            )
        if self.precision not in PRECISIONS:
            raise SettingsError(
                f"the precision must be one of {', '.join(PRECISIONS)}, but is {self.precision!r}"
            )
        if self.name == "tensorflow":
            return
        row = RUNTIMES[self.name]
        require_packages(row.packages, row.extra, f"the runtime {self.name}")
        if self.precision == "bfloat16" and not row.bfloat16:
            raise SettingsError(
                f"{self.name} must compute in float32, but bfloat16 is asked for: leave --precision out"
            )

    @property
    def in_bfloat16(self) -> bool:
        """Whether the network will be computed in bfloat16."""
        return self.precision == "bfloat16" or (self.precision == "auto" and self._has_bfloat16 and has_amx())

    @property
    def _has_bfloat16(self) -> bool:
        return self.name == "tensorflow" or RUNTIMES[self.name].bfloat16

    @property
    def is_plain(self) -> bool:
        """Whether the SavedModel's own signature says the same."""
        return self.name == "tensorflow" and not self.in_bfloat16

    @property
    def is_default(self) -> bool:
        """Whether nothing was asked for."""
        return self.name == "tensorflow" and self.precision == "float32"

    def describe(self) -> str:
        """Name, version and precision."""
        package = "tensorflow" if self.name == "tensorflow" else RUNTIMES[self.name].packages[0]
        why = ""
        if self.precision == "auto" and not self.in_bfloat16:
            gains = "bfloat16 gains only on a CPU with amx_bf16"
            why = f" ({gains if self._has_bfloat16 else 'it has no bfloat16 here'})"
        return f"{self.name} {version(package)}, {'bfloat16' if self.in_bfloat16 else 'float32'}{why}"


class Network:
    """A SavedModel's network in the chosen runtime, with TensorFlow's beside it to compare with.

    Args:
        choice: which.
        folder: a SavedModel whose manifest has been verified.
        signatures: its functions by name, loaded.

    Raises:
        ModelError: it has no signatures by pixels, or the runtime lacks one of its operations.
    """

    def __init__(self, choice: RuntimeChoice, folder: Path, signatures: Mapping[str, Any]):
        for name in (PREPROCESS, PIXELS):
            if name not in signatures:
                raise ModelError(
                    f"{folder} must have the signature {name} for the runtime {choice.name}, but has "
                    f"{', '.join(signatures)}: export the model again, or leave --runtime and --precision out"
                )
        self._folder = folder
        self._read, self._original = signatures[PREPROCESS], signatures[PIXELS]
        self._open(choice)
        self._fallen_back = ""
        self.parity: Parity | None = None

    def _open(self, choice: RuntimeChoice) -> None:
        self._choice = choice
        self._answer = spread(_open_lanes(choice, self._folder, self._original))

    def answer(self, images: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Answers image files that TensorFlow can decode; the first call is compared with TensorFlow.

        Raises:
            ModelError: in float32, and the answers are not TensorFlow's.
        """
        import tensorflow as tf

        pixels = self._read(image_bytes=tf.constant(images, tf.string))["pixels"].numpy()
        found = self._answer(pixels)
        return found if self.parity is not None else self._compared(pixels, found)

    def compare_again(self) -> None:
        """Makes the next call one that is compared: what was answered so far were no real images."""
        self.parity = None

    def describe_parity(self) -> str:
        """One line on how far the answers are from TensorFlow's; "" before the first ones."""
        return f"{self._fallen_back}{self.parity.describe()}" if self.parity else ""

    def _compared(self, pixels: np.ndarray, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answers, once they are near enough to TensorFlow's of the same pixels; ``auto`` may turn to float32."""
        expected = ask_signature(self._original, pixels[: COMPARED_BFLOAT16 if self._in_auto else COMPARED])
        parity, others = _compare(expected, found)
        if self._in_auto and not (parity.is_within(AUTO_TOLERANCE) and not parity.labels_changed):
            self._fallen_back = f"bfloat16 was left, as {parity.describe()}; now in float32 "
            self._open(replace(self._choice, precision="float32"))
            found = self._answer(pixels)
            parity, others = _compare(expected, found)
        allowed, strict = (1.0, False) if self._choice.in_bfloat16 else (TOLERANCE, True)
        if not parity.is_within(allowed) or (strict and others):
            raise ModelError(
                f"{self._choice.describe()} must answer as TensorFlow does within {allowed:g}, but {parity.describe()}"
                f"{'; also other: ' + ', '.join(others) if others else ''}: use --runtime tensorflow"
            )
        self.parity = parity
        return found

    @property
    def _in_auto(self) -> bool:
        return self._choice.precision == "auto" and self._choice.in_bfloat16


def _compare(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> tuple[Parity, list[str]]:
    """Compares the first answers; which outputs that are no floating-point numbers differ."""
    if missing := sorted(set(expected) - set(found)):
        raise ModelError(f"the converted network must give {', '.join(missing)} too, but does not")
    count = len(expected["label_index"])
    parity = compare_answers(expected, {name: found[name][:count] for name in expected})
    exact = expected.keys() - parity.largest.keys()
    return parity, sorted(name for name in exact if not np.array_equal(expected[name], found[name][:count]))


def spread(lanes: Sequence[Answer]) -> Answer:
    """One function that cuts its pixels into pieces and lets all of ``lanes`` answer them at once."""
    if len(lanes) == 1:
        return lanes[0]
    pool = ThreadPoolExecutor(len(lanes), "runtime")
    free: SimpleQueue[Answer] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def answer_piece(piece: np.ndarray) -> dict[str, np.ndarray]:
        lane = free.get()
        try:
            return lane(piece)
        finally:
            free.put(lane)

    def answer(pixels: np.ndarray) -> dict[str, np.ndarray]:
        size = max(min(PIECE, -(-len(pixels) // len(lanes))), 1)
        parts = list(pool.map(answer_piece, (pixels[i : i + size] for i in range(0, len(pixels), size))))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return answer


def _open_lanes(choice: RuntimeChoice, folder: Path, original: Any) -> list[Answer]:
    if choice.name == "tensorflow":
        return [lambda pixels: ask_signature(original, pixels, choice.in_bfloat16)]
    row = RUNTIMES[choice.name]
    if choice.cache is not None:
        return row.open(_converted(choice, folder), choice.in_bfloat16)
    with tempfile.TemporaryDirectory(prefix="kerasall-") as work:
        row.write(folder, Path(work))
        return row.open(Path(work), choice.in_bfloat16)


def _converted(choice: RuntimeChoice, folder: Path) -> Path:
    """Folder of the converted network, made where it is missing or damaged."""
    assert choice.cache is not None
    row = RUNTIMES[choice.name]
    versions = {package: version(package) for package in ("tensorflow", *row.packages)}
    manifest = sha256_of_file(folder / MANIFEST)
    key = sha256_of_json({"schema": SCHEMA_VERSION, "manifest": manifest, "versions": versions})
    kept = choice.cache / choice.name / key[:20]
    if kept.is_dir():
        try:
            verify_manifest(kept)
            return kept
        except ArtifactError:  # written by hand, or a disk's fault: made anew
            shutil.rmtree(kept)
    try:
        with atomic_path(kept) as temporary:
            temporary.mkdir()
            row.write(folder, temporary)
            write_manifest(temporary)
    except OSError:
        if not kept.is_dir():  # unless another process was first
            raise
    return kept


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which would tell its maker of every import and conversion."""
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    with _logging_as_it_was():
        import openvino

    return openvino


@contextmanager
def _logging_as_it_was() -> Iterator[None]:
    """OpenVINO sets level, handlers and filters of the root logger, which is the whole process' own."""
    root = logging.getLogger()
    level, handlers, filters = root.level, root.handlers[:], root.filters[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:], root.filters[:] = handlers, filters


def _write_openvino(folder: Path, destination: Path) -> None:
    import tensorflow as tf

    openvino = import_openvino()
    model: Any = load_saved_model(folder)
    # From a folder with this one signature: given a function, OpenVINO 2026.4 asks for TensorFlow's version by exec and
    # locals, which Python 3.13 (PEP 667) no longer lets see each other.
    with tempfile.TemporaryDirectory(prefix="kerasall-") as work:
        tf.saved_model.save(model, work, signatures=model.signatures[PIXELS])
        try:
            with _logging_as_it_was():
                network = openvino.convert_model(work)
        except Exception as error:  # whatever a converter meets in a graph
            raise not_convertible(folder, "OpenVINO", error) from error
        openvino.save_model(network, str(destination / "model.xml"), compress_to_fp16=False)


def _open_openvino(folder: Path, bfloat16: bool) -> list[Answer]:
    core = import_openvino().Core()
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32"}
    compiled = core.compile_model(core.read_model(str(folder / "model.xml")), "CPU", settings)

    def lane() -> Answer:
        request = compiled.create_infer_request()

        def answer(pixels: np.ndarray) -> dict[str, np.ndarray]:
            found = request.infer({"pixels": pixels}, share_inputs=True)
            # Copied: the request writes its next answers into the same memory.
            return {port.get_any_name(): np.array(values) for port, values in found.items()}

        return answer

    return [lane() for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))]


def _write_onnx(folder: Path, destination: Path) -> None:
    (destination / "model.onnx").write_bytes(to_onnx(folder))


def _open_onnx(folder: Path, bfloat16: bool) -> list[Answer]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A session may be asked from several threads.
    return [load_onnx(folder / "model.onnx", threads=1)] * cores


RUNTIMES: Mapping[str, Runtime] = {
    "openvino": Runtime(("openvino",), "openvino", True, _write_openvino, _open_openvino),
    "onnxruntime": Runtime(("onnxruntime", "tf2onnx", "onnx"), "onnx", False, _write_onnx, _open_onnx),
}
"""Every runtime besides TensorFlow."""
