"""What lets a converted network answer without TensorFlow: images, and what TensorFlow said of them when it was converted.

They are drawn, for a patient's cells should not lie in a cache, and asked again at every start: on this processor the
runtime must still answer as TensorFlow did. Files that TensorFlow has to decode and resize are not needed where our own
pixels of the same files were equal to those of the SavedModel's graph.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kerasall.decoding import DEFAULT_LIMITS, decode, to_native
from kerasall.decoding.depth import find_sixteen_bit
from kerasall.errors import ArtifactError
from kerasall.files import read_object, write_json
from kerasall.serving.conversion import PIXELS, TOLERANCE, ask_signature
from kerasall.serving.graph import Interface, SavedModel
from kerasall.serving.sizes import read_sizes

PREPROCESS = "preprocess"
PROOF, _IMAGES = "proof.json", "proof.npz"
_DRAWN, _KEPT = 16, 4
"""Images that TensorFlow is asked for, and how many of them are kept."""
_SURE = 0.999
"""Where all probabilities are as sure as this, a difference would hardly be seen."""


@dataclass(frozen=True)
class Proof:
    """What stands beside a converted network.

    Attributes:
        interface: what the SavedModel's functions take and give.
        pixels: uint8 [K, H, W, 3].
        answers: TensorFlow's to them, by name.
        lacking: why TensorFlow is needed all the same; "" where it is not.
    """

    interface: Interface
    pixels: np.ndarray
    answers: Mapping[str, np.ndarray]
    lacking: str


def write_proof(saved: SavedModel, card: Mapping[str, Any], key: Mapping[str, Any], folder: Path) -> None:
    """Asks TensorFlow, and writes what it says beside the converted network in ``folder``, and of what (``key``)."""
    interface = saved.describe()
    height, width = interface[PIXELS]["inputs"]["pixels"][1][1:3]
    drawn = np.stack([_draw(number, height, width) for number in range(_DRAWN)])
    answers = ask_signature(saved.signatures[PIXELS], drawn)
    kept = _find_telling(answers)
    lacking = _find_lacking(saved, card, (height, width))
    if not len(kept):
        lacking = (
            lacking
            or "of every image drawn to compare it by, the model is quite sure, or torn between classes"
        )
    arrays: dict[str, Any] = {f"answer.{name}": values[kept] for name, values in answers.items()}
    np.savez(folder / _IMAGES, pixels=drawn[kept], **arrays)
    write_json(folder / PROOF, {"key": key, "interface": interface, "lacking": lacking})


def read_proof(folder: Path, key: Mapping[str, Any]) -> Proof:
    """What ``write_proof`` wrote of the same ``key``; the folder's manifest has been verified.

    Raises:
        ArtifactError: it is of another model or other versions, or does not hold together.
        Exception: whatever Python says of files that ``write_proof`` did not write.
    """
    told = read_object(folder / PROOF)
    with np.load(folder / _IMAGES) as arrays:
        answers = {name.removeprefix("answer."): arrays[name] for name in arrays.files if name != "pixels"}
        proof = Proof(told["interface"], arrays["pixels"], answers, told["lacking"])
    taken, given = proof.interface[PIXELS]["inputs"]["pixels"], proof.interface[PIXELS]["outputs"]
    whole = (
        told["key"] == key
        and isinstance(proof.lacking, str)
        and (proof.lacking or len(proof.pixels))
        and answers.keys() == given.keys()
        and _fits(proof.pixels, *taken)
        and all(_fits(values, *given[name]) for name, values in answers.items())
        and len({len(values) for values in (proof.pixels, *answers.values())}) == 1
    )
    if not whole:
        raise ArtifactError(f"{folder / PROOF} must be the proof of {dict(key)}, but is not: remove {folder}")
    return proof


def _fits(values: np.ndarray, kind: str, shape: Sequence[int | None]) -> bool:
    sizes = zip(values.shape, shape, strict=True)
    return values.dtype.name == kind and all(size in (None, found) for found, size in sizes)


def _find_telling(answers: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of which images a wrong answer would be seen: no class is as probable as another, and not all is certain."""
    shares = [values for name, values in answers.items() if name.endswith("probabilities")]
    highest = np.sort(
        np.concatenate([each.reshape(len(each), -1, each.shape[-1]) for each in shares], axis=1)
    )
    margins = (highest[..., -1] - highest[..., -2:-1].sum(axis=-1)).min(axis=1)
    telling = np.flatnonzero((margins > 2 * TOLERANCE) & (margins < _SURE))
    return telling[np.argsort(margins[telling], kind="stable")][:_KEPT]


def _find_lacking(saved: SavedModel, card: Mapping[str, Any], size: tuple[int, int]) -> str:
    if "preprocess" not in card:
        return "the model's card does not say what is done to an image"
    try:
        change = read_sizes(card["preprocess"])
    except LookupError as error:
        return f"it alone computes {error.args[0]}, which is done to every image"
    import tensorflow as tf

    ask, sixteen_bit = saved.signatures[PREPROCESS], find_sixteen_bit(card["preprocess"])
    for data in _draw_files(size):
        try:
            expected = ask(image_bytes=tf.constant([to_native(data)]))["pixels"].numpy()[0]
        except tf.errors.InvalidArgumentError:
            return "the model does not take images of every size"
        if not np.array_equal(change(decode(data, DEFAULT_LIMITS, sixteen_bit=sixteen_bit)), expected):
            return "its pixels of some files are not those that the card describes"
    return ""


def _draw(number: int, height: int, width: int) -> np.ndarray:
    """Smooth colours of some contrast, and noise: uint8 [height, width, 3]."""
    import cv2

    random = np.random.default_rng(number)
    coarse = random.uniform(0, 255, (*random.integers(2, 10, 2), 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, 3)
    mean, contrast, noise = random.uniform(40, 215, 3), random.uniform(0.1, 1), random.uniform(1, 30)
    pixels = mean + contrast * (smooth - 127.5) + random.normal(0, noise, smooth.shape)
    return np.rint(pixels).clip(0, 255).astype(np.uint8)


def _draw_files(size: tuple[int, int]) -> Iterator[bytes]:
    """Image files of every kind and many sizes around what the network takes, and one of 16 bits."""
    height, width = size
    sizes = (
        size,
        (450, 450),
        (257, 257),
        (2 * height + 1, 3 * width - 2),
        (height // 2 + 1, width),
        (width, height),
    )
    for number, (rows, columns) in enumerate(sizes):
        image = Image.fromarray(_draw(number, rows, columns))
        for kind in ("BMP", "JPEG", "PNG"):
            file = io.BytesIO()
            image.save(file, kind)
            yield file.getvalue()
    file, grey = io.BytesIO(), _draw(0, height + 1, width + 2)[..., 0]
    # Values that every way of reading 16 bits allows.
    Image.fromarray(grey.astype(np.uint16)).save(file, "PNG")
    yield file.getvalue()
