"""A SavedModel's network in another runtime, or in bfloat16: converted once, cut into pieces, compared with TensorFlow.

A network that was converted before answers without TensorFlow, where its ``kerasall.serving.proof`` says so. Else
TensorFlow is loaded, and answers the first images too.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from kerasall.decoding import Limits, decode
from kerasall.decoding.depth import find_sixteen_bit
from kerasall.errors import ModelError
from kerasall.files import atomic_path, sha256_of_file, sha256_of_json
from kerasall.serving.card import MANIFEST, verify_manifest, write_manifest
from kerasall.serving.conversion import PIXELS, TOLERANCE, Answer, Parity, ask_signature, compare_answers
from kerasall.serving.graph import Interface, SavedModel, require_known_graph
from kerasall.serving.proof import PREPROCESS, Proof, read_proof, write_proof
from kerasall.serving.runtimes import RUNTIMES, RuntimeChoice
from kerasall.serving.sizes import Change, read_sizes
from kerasall.version import __version__

COMPARED = 8
"""Images of the first batch that TensorFlow answers too."""
COMPARED_BFLOAT16 = 32
"""As many where ``auto`` computes in bfloat16, since it may be too coarse for a few images only."""
AUTO_TOLERANCE = 0.02
"""Largest difference of a probability at which ``auto`` stays with bfloat16; no label may change either."""
PIECE = 4
"""Images that one thread answers at a time."""
SCHEMA_VERSION = 1
_OF_ANOTHER = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT)
"""What the system says where another process was first."""
_DECODERS = ("simplejpeg", "opencv-python-headless", "pillow", "numpy")
"""What our own pixels, which were proven equal to TensorFlow's, rest on."""


class Network:
    """A SavedModel's network in the chosen runtime.

    Args:
        choice: which.
        saved: the SavedModel, whose manifest has been verified.
        card: what stands beside it.

    Attributes:
        parity: how far the answers are from TensorFlow's; None before the first ones, where they are to be compared.

    Raises:
        ModelError: it has no signatures by pixels, the runtime lacks one of its operations, or does not answer the
            stored images as TensorFlow did.
    """

    def __init__(self, choice: RuntimeChoice, saved: SavedModel, card: Mapping[str, Any]):
        self._saved, self._card = saved, card
        self._fallen_back = ""
        self.parity: Parity | None = None
        self._open(choice)
        if self._change is None or choice.in_bfloat16:
            saved.load()
        self._compares = saved.is_loaded
        if self._converted and self._converted.stored and not choice.in_bfloat16:
            stored = self._require_near(*self._converted.stored)
            self.parity = None if self._compares else stored

    def _open(self, choice: RuntimeChoice) -> None:
        self._choice = choice
        self._change: Change | None = None
        self._converted: _Converted | None = None
        if choice.name == "tensorflow":
            self._saved.load()
            _require_signatures(self._saved, choice)
            original = self._saved.signatures[PIXELS]
            self._answer = lambda pixels: ask_signature(original, pixels, choice.in_bfloat16)
            return
        self._converted = _open_or_convert(choice, self._saved, self._card)
        self._answer = self._converted.answer
        if not self._converted.proof.lacking:
            self._change = read_sizes(self._card["preprocess"])

    @property
    def interface(self) -> Interface:
        """What the SavedModel's functions take and give."""
        return self._converted.proof.interface if self._converted else self._saved.describe()

    @property
    def decodes(self) -> bool:
        """Whether ``to_pixels`` gives what the network takes; else TensorFlow reads the files."""
        return self._change is not None

    def to_pixels(self, data: bytes, limits: Limits, name: str) -> np.ndarray:
        """An image file as the network takes it, uint8 [H, W, 3]: equal to what TensorFlow makes of it.

        Raises:
            DecodingError: as ``kerasall.decoding.decode``.
        """
        assert self._change is not None
        return self._change(
            decode(data, limits, name, sixteen_bit=find_sixteen_bit(self._card["preprocess"]))
        )

    def answer(self, images: Sequence[bytes]) -> dict[str, np.ndarray]:
        """As ``answer_pixels``, of image files that TensorFlow can decode."""
        import tensorflow as tf

        files = tf.constant(images, tf.string)
        return self.answer_pixels(self._saved.signatures[PREPROCESS](image_bytes=files)["pixels"].numpy())

    def answer_pixels(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Answers by name to uint8 [N, H, W, 3]; where TensorFlow is loaded, the first call is compared with it.

        Raises:
            ModelError: in float32, and the answers are not TensorFlow's.
        """
        found = self._answer(pixels)
        return found if self.parity is not None else self._compared(pixels, found)

    def compare_again(self) -> None:
        """Makes the next call one that is compared: what was answered so far were no real images."""
        if self._compares:
            self.parity = None

    def describe_start(self) -> str:
        """Why TensorFlow was loaded; "" where it was not, or has to be."""
        if self._converted is None or self._choice.in_bfloat16 or not self._compares:
            return ""
        not_kept = self._converted.not_kept
        if lacking := self._converted.proof.lacking:
            return f"TensorFlow is loaded too: {lacking}{'; the converted network is ' * bool(not_kept)}{not_kept}"
        kept = not_kept or "kept, so that the next start needs none"
        return f"converted now, and compared with TensorFlow; {kept}"

    def describe_parity(self) -> str:
        """One line on how far the answers are from TensorFlow's; "" before the first ones."""
        if self.parity is None:
            return ""
        when = "" if self._compares else " (drawn images, which TensorFlow answered when this was converted)"
        return f"{self._fallen_back}{self.parity.describe()}{when}"

    def _compared(self, pixels: np.ndarray, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answers, once they are near enough to TensorFlow's of the same pixels; ``auto`` may turn to float32."""
        count = COMPARED_BFLOAT16 if self._in_auto else COMPARED
        expected = ask_signature(self._saved.signatures[PIXELS], pixels[:count])
        if self._in_auto:
            parity, _ = _compare(expected, found)
            if parity.labels_changed or not parity.is_within(AUTO_TOLERANCE):
                self._fallen_back = f"bfloat16 was left, as {parity.describe()}; now in float32 "
                self._open(replace(self._choice, precision="float32"))
                found = self._answer(pixels)
        self.parity = self._require_near(*_compare(expected, found))
        return found

    def _require_near(self, parity: Parity, others: Sequence[str]) -> Parity:
        allowed, strict = (1.0, False) if self._choice.in_bfloat16 else (TOLERANCE, True)
        if parity.is_within(allowed) and not (strict and others):
            return parity
        if self._converted and self._converted.folder:  # the next start shall not take it for proven
            shutil.rmtree(self._converted.folder, ignore_errors=True)
        raise ModelError(
            f"{self._choice.describe()} must answer as TensorFlow does within {allowed:g}, but {parity.describe()}"
            f"{'; also other: ' + ', '.join(others) if others else ''}: use --runtime tensorflow"
        )

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


def _require_signatures(saved: SavedModel, choice: RuntimeChoice) -> None:
    for name in (PREPROCESS, PIXELS):
        if name not in saved.signatures:
            raise ModelError(
                f"{saved.folder} must have the signature {name} for the runtime {choice.name}, but has "
                f"{', '.join(saved.signatures)}: export the model again, or leave --runtime and --precision out"
            )


@dataclass(frozen=True)
class _Converted:
    """A converted network that was opened and asked.

    Attributes:
        proof: what stands beside it.
        answer: the network.
        stored: how its answers to the proof's images compare with TensorFlow's; None where there are none.
        folder: where it is kept; None where it is not.
        not_kept: why not, and the cure.
    """

    proof: Proof
    answer: Answer
    stored: tuple[Parity, list[str]] | None
    folder: Path | None = None
    not_kept: str = ""


def _open_or_convert(choice: RuntimeChoice, saved: SavedModel, card: Mapping[str, Any]) -> _Converted:
    """The network that is kept; where it is missing, damaged, another's or was never proven, it is made."""
    key = _key_of(choice, saved)
    kept = choice.cache / choice.name / sha256_of_json(key)[:20] if choice.cache else None
    if kept and os.path.lexists(kept):
        require_known_graph(saved.folder)  # else asked when TensorFlow loads it
        try:
            verify_manifest(kept)
            return replace(_open_folder(choice, kept, key), folder=kept)
        except Exception:  # whatever a disk's fault, or what was written by hand, provokes: it is no proof
            pass
    with tempfile.TemporaryDirectory(prefix="kerasall-") as work:
        made = Path(work)
        saved.load()
        _require_signatures(saved, choice)
        RUNTIMES[choice.name].write(saved.folder, made)
        write_proof(saved, card, key, made)
        write_manifest(made)
        converted = _open_folder(choice, made, key)
        if kept is None:
            return replace(converted, not_kept="not kept, as no folder was given")
        try:
            if os.path.lexists(kept):
                shutil.rmtree(kept)
            with atomic_path(kept) as temporary:
                shutil.copytree(made, temporary)
        except OSError as error:
            if not kept.is_dir() or error.errno not in _OF_ANOTHER:
                cure = "set KERASALL_RUNS to a folder that may be written to"
                why = f"not kept, as writing {kept} failed ({error.strerror or error}): {cure}"
                return replace(converted, not_kept=why)
        return replace(converted, folder=kept)


def _open_folder(choice: RuntimeChoice, folder: Path, key: Mapping[str, Any]) -> _Converted:
    proof = read_proof(folder, key)
    answer = spread(RUNTIMES[choice.name].open(folder, choice.in_bfloat16))
    stored = _compare(proof.answers, answer(proof.pixels)) if len(proof.pixels) else None
    return _Converted(proof, answer, stored)


def _key_of(choice: RuntimeChoice, saved: SavedModel) -> dict[str, Any]:
    """What a converted network and its proof are of."""
    packages = ("tensorflow", *RUNTIMES[choice.name].packages, *_DECODERS)
    return {
        "schema": SCHEMA_VERSION,
        "manifest": sha256_of_file(saved.folder / MANIFEST),
        "machine": platform.machine(),
        "versions": {"kerasall": __version__} | {package: version(package) for package in packages},
    }
