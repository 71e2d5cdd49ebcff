"""Runtimes besides TensorFlow that may compute a SavedModel's answers, OpenVINO and ONNX Runtime: which, and how each is
given the network of ``serving_pixels``. What is asked of them stands in ``kerasall.serving.network``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.errors import SettingsError
from kerasall.runtime import has_amx, import_openvino, logging_as_it_was
from kerasall.serving.conversion import (
    PIXELS,
    Answer,
    load_onnx,
    not_convertible,
    require_packages,
    to_onnx,
)
from kerasall.serving.graph import load_saved_model

# The runtimes are extras: without them there is nothing here to check types against.
# pyright: reportMissingImports=false

PRECISIONS = ("float32", "auto", "bfloat16")


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


def _write_openvino(folder: Path, destination: Path) -> None:
    import tensorflow as tf

    openvino = import_openvino()
    model: Any = load_saved_model(folder)
    # From a folder with this one signature: given a function, OpenVINO 2026.4 asks for TensorFlow's version by exec and
    # locals, which Python 3.13 (PEP 667) no longer lets see each other.
    with tempfile.TemporaryDirectory(prefix="kerasall-") as work:
        tf.saved_model.save(model, work, signatures=model.signatures[PIXELS])
        try:
            with logging_as_it_was():
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
