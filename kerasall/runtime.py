"""What a run needs of this machine: a quiet TensorFlow, OpenVINO, arrays taken without a copy, bfloat16 of the CPU, a bar.

Importing this loads no TensorFlow.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from kerasall.shown_text import one_line, tell

if TYPE_CHECKING:
    import tensorflow as tf

_REWRITE = "auto_mixed_precision_onednn_bfloat16"
_ALIGNMENT = 64
"""Bytes; an array that does not begin at a multiple is copied when it becomes a tensor."""

_KEPT_BYTES = 256 << 20
"""Memory kept for later, in all."""

_free: dict[int, bytearray] = {}

NOTED_SECONDS = 2.0
"""How often at most a step's progress is written down."""

TOLD_SECONDS = 60.0
"""How often at most a line says how far something is where a bar cannot, as in a log."""

_noted: dict[str, Any] = {"file": None, "at": -math.inf}


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Imports TensorFlow without the lines its libraries write before their log level can be set.

    Only the import is silenced, and only its C++ lines: an error is raised as ever. Outside the main thread they are
    let through, as those of other threads would be lost with them.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" not in sys.modules and "KERASALL_VERBOSE" not in os.environ:
        is_alone = threading.current_thread() is threading.main_thread()
        with _without_standard_error() if is_alone else nullcontext():
            import tensorflow as tf

            tf.config.list_physical_devices()
            # Each fold is a network of its own, so each traces anew: that is meant, not a fault.
            tf.get_logger().setLevel("ERROR")
            gc.freeze()  # TensorFlow stays: no collection of garbage need look through all of it, for a fifth of a second
    yield


@contextmanager
def _without_standard_error() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def show_progress(items: Iterable, total: int, what: str) -> Iterator:
    """Passes ``items`` on, with a transient progress bar on standard error if that is a terminal, else a line a minute.

    Inside a run ``kerasall status`` tells how many are done, too.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import track

    console, begun = Console(stderr=True), time.monotonic()
    told = begun
    shown = track(
        items, escape(one_line(what)), total, console=console, transient=True, disable=not console.is_terminal
    )
    for done, item in enumerate(shown, start=1):
        yield item
        now = time.monotonic()
        left = (now - begun) / done * (total - done)
        if is_note_due():
            note_progress(doing=what, done=done, total=total, seconds_left=left)
        if not console.is_terminal and done < total and now - told >= TOLD_SECONDS:
            told = now
            tell(f"{what}: {done:,} of {total:,}, {timedelta(seconds=round(left))} left")


@contextmanager
def noting_progress(file: Path) -> Iterator[None]:
    """What runs inside and tells how far it is (``note_progress``) is written down in ``file``, which goes afterwards."""
    former = dict(_noted)
    file.unlink(missing_ok=True)
    _noted.update(file=file, at=-math.inf)
    try:
        yield
    finally:
        _noted.update(former)
        file.unlink(missing_ok=True)


def is_note_due() -> bool:
    """Whether progress is written down at all, and the last note is old enough for another."""
    return _noted["file"] is not None and time.monotonic() - _noted["at"] >= NOTED_SECONDS


def note_progress(**told: Any) -> None:
    """Writes down how far the step at work is, for whoever asks from another process.

    Args:
        told: JSON values: ``doing`` (words), and of ``done``, ``total``, ``epoch``, ``epochs``, ``step``, ``steps``,
            ``seconds_left`` what is known.
    """
    if _noted["file"] is None:
        return
    _noted["at"] = time.monotonic()
    # No fsync, unlike an artifact: after a loss of power nobody asks for it.
    temporary = _noted["file"].with_name(f".{_noted['file'].name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(told | {"noted": time.time()}), encoding="utf-8")
        os.replace(temporary, _noted["file"])
    except OSError:  # a full disk stops the step where it matters
        temporary.unlink(missing_ok=True)


def has_amx(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Whether the CPU multiplies matrices of bfloat16 in tiles (Linux; elsewhere False).

    With ``avx512_bf16`` alone networks became slower than in float32 (``benchmarks/bfloat16.py``).
    """
    try:
        lines = Path(cpuinfo).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any("amx_bf16" in line.split() for line in lines if line.startswith("flags"))


@contextmanager
def rewriting_to_bfloat16() -> Iterator[None]:
    """Lets TensorFlow turn convolutions and matrix products of its graphs into bfloat16; afterwards all is as before.

    The option is read at every call of a function, and holds for the whole process while the block lasts.
    """
    import tensorflow as tf

    before = bool(tf.config.optimizer.get_experimental_options().get(_REWRITE, False))
    tf.config.optimizer.set_experimental_options({_REWRITE: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_REWRITE: before})


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which would tell its maker of every import and conversion."""
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    with logging_as_it_was():
        import openvino  # pyright: ignore[reportMissingImports]

    # Its tables of kinds of numbers are made when first asked for, and two threads that both ask wait for each other for
    # ever (OpenVINO 2026.4: one holds the table, the other Python's lock).
    openvino.Type.f32.to_dtype()
    openvino.Tensor(np.zeros(1, np.float32))
    return openvino


@contextmanager
def logging_as_it_was() -> Iterator[None]:
    """OpenVINO sets level, handlers and filters of the root logger, which is the whole process' own."""
    root = logging.getLogger()
    level, handlers, filters = root.level, root.handlers[:], root.filters[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:], root.filters[:] = handlers, filters


def empty_aligned(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """An array without defined content, as ``numpy.empty`` makes it, that becomes a tensor without a copy.

    Its memory is handed out again when nothing refers to the array, to a slice of it, or to a tensor made of it any
    more: the system takes longer to give new memory than to copy a batch into it.
    """
    dtype = np.dtype(dtype)
    memory = _take(math.prod(shape) * dtype.itemsize + _ALIGNMENT)
    start = -np.frombuffer(memory, np.uint8).ctypes.data % _ALIGNMENT
    # Not a view of an array: slices of this one refer to it, as they would not to a view.
    array = np.ndarray(shape, dtype, memory, start)
    weakref.finalize(array, _give_back, memory).atexit = False
    return array


def as_tensor(array: np.ndarray) -> tf.Tensor:
    """A tensor on the CPU in the array's own memory, where that is aligned, else a copy.

    The array must not be changed while the tensor is in use: TensorFlow takes it for constant.
    """
    import tensorflow as tf  # here, because what decodes and converts without TensorFlow imports this room, too

    # Of an array as such, tf.constant makes a copy lest somebody change it; not of what only gives one.
    giving: Any = _Giving(array)
    with tf.device("CPU:0"):
        return tf.constant(giving)


class _Giving:
    def __init__(self, array: np.ndarray):
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array


# Several threads take and give back, the latter whenever an array dies: each step on the dictionary is one that the
# interpreter does not interrupt, and no lock is held that a dying array could wait for.
def _take(size: int) -> bytearray:
    for key, memory in list(_free.items()):
        if size <= len(memory) <= 2 * size and _free.pop(key, None) is not None:
            return memory
    return bytearray(size)


def _give_back(memory: bytearray) -> None:
    _free[id(memory)] = memory
    kept = list(_free.items())
    spare = sum(len(each) for _, each in kept) - _KEPT_BYTES
    for key, each in kept:
        if spare <= 0:
            break
        _free.pop(key, None)
        spare -= len(each)
