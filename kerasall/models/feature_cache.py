"""Activations of a frozen part, computed once per image and kept by content."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.progress import track

from kerasall.errors import DataError, ModelError
from kerasall.files import atomic_path, require_room
from kerasall.models.prediction import predict_activations

BATCH = 32
WORTH_FOLDING = 1000
"""Images from which on folded weights (``predict_activations``) save more time than they take to fold."""
Lower = tuple[keras.Model, np.ndarray]
"""Stored activations [N, ...] of a lower cut, and the model that goes on from them."""


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
    path = Path(folder) / f"{activations_key(prefix, pixels_key, precision)[:32]}.npy"
    shape = (len(pixels), *prefix.output_shape[1:])
    if None in shape:
        raise ModelError(f"a cached part must give activations of one shape, but gives {prefix.output_shape}")
    if not path.exists():
        model, inputs = lower() or (prefix, pixels)
        _write(model, inputs, path, shape)
    fits = int(np.prod(shape)) * 4 <= memory_bytes
    return np.load(path, mmap_mode=None if fits else "r", allow_pickle=False)


def activations_key(prefix: keras.Model, pixels_key: str, precision: str = "float32") -> str:
    """SHA-256 over the operations and weights of ``prefix``, its pixels, and the precision it computes in."""
    require_key(pixels_key)
    digest = hashlib.sha256()
    shapes = [(variable.shape, str(variable.dtype)) for variable in prefix.weights]
    computed_in = [precision, keras.config.dtype_policy().name]
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
    """Kind and arguments of every operation, parts inside parts too; names, which decide nothing, left out."""
    for operation in model.operations:
        if isinstance(operation, keras.Model):
            yield from _describe_operations(operation)
        else:
            config = operation.get_config()
            yield [type(operation).__name__, {k: v for k, v in config.items() if k != "name"}]


def _write(model: keras.Model, inputs: np.ndarray, path: Path, shape: tuple[int, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    require_room(path.parent, math.prod(shape) * 4, f"the activations of {len(inputs):,} images")
    with atomic_path(path) as temporary:
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        predict_activations(model, _batches(inputs, model.name), out=out, fold=len(inputs) >= WORTH_FOLDING)
        out.flush()
        del out


def _batches(inputs: np.ndarray, name: str) -> Iterator[np.ndarray]:
    """Slices of ``inputs``, with progress and time left: one pass of a large network can take long."""
    console = Console(stderr=True)
    starts = range(0, len(inputs), BATCH)
    what = f"{name} over {len(inputs):,} images, once"
    for start in track(starts, what, console=console, transient=True, disable=not console.is_terminal):
        yield inputs[start : start + BATCH]
