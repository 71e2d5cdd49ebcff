"""A SavedModel's network in another runtime: converted once, cut into pieces, compared with TensorFlow."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from kerasall.errors import ArtifactError, ModelError
from kerasall.files import atomic_path, sha256_of_file, sha256_of_json, write_json
from kerasall.runtime import rewriting_to_bfloat16
from kerasall.serving.card import verify_manifest
from kerasall.serving.conversion import PIXELS, TOLERANCE, Answer, Parity, compare_answers
from kerasall.serving.runtimes import RUNTIMES, RuntimeChoice

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
        self._choice, self._folder = choice, folder
        self._read, self._original = signatures[PREPROCESS], signatures[PIXELS]
        self._answer = spread(_open(choice, folder, self._original))
        self._fallen_back = ""
        self.parity: Parity | None = None

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
        expected = _ask_tensorflow(self._original, pixels[: COMPARED_BFLOAT16 if self._in_auto else COMPARED])
        parity, others = _compare(expected, found)
        if self._in_auto and not (parity.is_within(AUTO_TOLERANCE) and not parity.labels_changed):
            self._fallen_back = f"bfloat16 was left, as {parity.describe()}; now in float32 "
            self._choice = replace(self._choice, precision="float32")
            self._answer = spread(_open(self._choice, self._folder, self._original))
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


def _open(choice: RuntimeChoice, folder: Path, original: Any) -> list[Answer]:
    if choice.name == "tensorflow":
        return [lambda pixels: _ask_tensorflow(original, pixels, bfloat16=choice.in_bfloat16)]
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
    manifest = sha256_of_file(folder / "manifest.json")
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
            hashes = {path.name: sha256_of_file(path) for path in sorted(temporary.iterdir())}
            write_json(temporary / "manifest.json", {"schema_version": SCHEMA_VERSION, "files": hashes})
    except OSError:
        if not kept.is_dir():  # unless another process was first
            raise
    return kept


def _ask_tensorflow(signature: Any, pixels: np.ndarray, *, bfloat16: bool = False) -> dict[str, np.ndarray]:
    """Asks a function; with ``bfloat16`` oneDNN computes in it what it deems safe."""
    import tensorflow as tf

    with rewriting_to_bfloat16() if bfloat16 else nullcontext():
        return {name: value.numpy() for name, value in signature(pixels=tf.constant(pixels)).items()}
