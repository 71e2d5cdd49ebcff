"""Decoded pixels of all images in one array, in memory or on disk: each file is decoded once.

Files -> header check -> what TensorFlow cannot read becomes PNG -> decode -> deterministic chain -> array.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import track

from kerasall.decoding import DEFAULT_LIMITS, Limits, read_image_bytes, to_native
from kerasall.errors import DataError, DecodingError
from kerasall.files import atomic_path, sha256_of_json

_DECODE_BATCH = 32
_CACHE_VERSION = 1
"""To be raised when equal files and chains would give other pixels than before."""

ReadImage = Callable[[str, Limits], bytes]
"""Path and limits -> bytes of an image file; raises DecodingError naming the path."""


class PixelChain(Protocol):
    """What is asked of the deterministic preprocessing: ``preprocessing.operations.Chain`` has it."""

    def __call__(self, image: tf.Tensor) -> tf.Tensor: ...

    def to_json(self) -> list[dict[str, Any]]: ...

    @property
    def output_size(self) -> tuple[int, int]: ...


@dataclass(frozen=True, eq=False)
class PixelCache:
    """Decoded images after the deterministic chain.

    Attributes:
        pixels: uint8 [N, H, W, 3] RGB, in the order of the paths; an array or, from disk, a read-only
            memory map.
        key: SHA-256 over the files' contents, the chain and the decoder; equal keys mean equal pixels.
        path: the file that holds the pixels, or None if they are in memory only.
        decoded: how many files this call decoded: 0 when a stored cache was reused.
    """

    pixels: np.ndarray
    key: str
    path: Path | None
    decoded: int

    def __len__(self) -> int:
        return len(self.pixels)


def decode_pixels(
    paths: Sequence[str | Path],
    chain: PixelChain,
    folder: str | Path | None = None,
    memory_bytes: int = 2 << 30,
    keys: Sequence[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    read: ReadImage = read_image_bytes,
) -> PixelCache:
    """Decodes every file once and applies the chain.

    Args:
        paths: N image files, or other names that ``read`` knows.
        chain: the deterministic preprocessing; it must give one static size.
        folder: where pixels that do not fit into memory are kept, and looked for.
        memory_bytes: keep the pixels in memory up to this size, else in ``folder``.
        keys: SHA-256 of each file's bytes, if already known; else the files are hashed.
        limits: pixel and byte limits, checked from each header before its pixels are decoded.
        read: how the bytes at a path are read; called from several threads at once.

    Raises:
        DecodingError: a file is missing or does not decode; the message names it.
        DataError: no paths, or the pixels fit neither into memory nor on disk.
        SettingsError: the chain gives no static size.
    """
    if not len(paths):
        raise DataError("at least one image file is needed, but none was given: check the data path")
    names = [str(path) for path in paths]

    def read_native(name: str) -> bytes:
        data = read(name, limits)
        # The pixels are kept under these hashes: a file changed since must not be taken for what it was.
        if name in expected and hashlib.sha256(data).hexdigest() != expected[name]:
            raise DecodingError(f"{name} was changed since it was scanned: run the same command again")
        return to_native(data, limits, name)

    shape = (len(names), *chain.output_size, 3)
    key = _content_key(names, chain, keys, lambda name: read(name, limits))
    expected = {} if keys is None else dict(zip(names, keys, strict=True))
    in_memory = math.prod(shape) <= memory_bytes
    stored = None if folder is None else Path(folder) / f"pixels-{key[:32]}.npy"
    pixels = None if stored is None else _load_pixels(stored, shape, in_memory)
    if pixels is not None:
        return PixelCache(pixels, key, stored, decoded=0)
    if not in_memory:
        stored = _require_room(stored, shape)
        with atomic_path(stored) as temporary:
            pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            _fill(pixels, names, chain, read_native)
            pixels.flush()
        return PixelCache(np.load(stored, mmap_mode="r"), key, stored, decoded=len(names))
    pixels = np.empty(shape, np.uint8)
    _fill(pixels, names, chain, read_native)
    return PixelCache(pixels, key, None, decoded=len(names))


def pixels_key(paths: Sequence[str | Path], chain: PixelChain, keys: Sequence[str]) -> str:
    """The key that ``decode_pixels`` would give, without decoding anything; ``keys`` are the files' SHA-256."""
    return _content_key([str(path) for path in paths], chain, keys, lambda name: b"")


def _content_key(
    names: Sequence[str],
    chain: PixelChain,
    keys: Sequence[str] | None,
    read_bytes: Callable[[str], bytes],
) -> str:
    if keys is not None and len(keys) != len(names):
        raise DataError(f"one content key per file is needed ({len(names)}), but {len(keys)} were given")
    if keys is None:
        keys = [hashlib.sha256(read_bytes(name)).hexdigest() for name in names]
    decoder = {"version": _CACHE_VERSION, "tensorflow": tf.version.VERSION}
    return sha256_of_json({"files": list(keys), "chain": chain.to_json(), "decoder": decoder})


def _load_pixels(path: Path, shape: tuple[int, ...], in_memory: bool) -> np.ndarray | None:
    """The stored pixels, or None where there are none that fit."""
    try:
        pixels = np.load(path, mmap_mode=None if in_memory else "r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, or cut short by something other than us: decode again
        return None
    return pixels if pixels.shape == shape and pixels.dtype == np.uint8 else None


def _require_room(path: Path | None, shape: tuple[int, ...]) -> Path:
    need = math.prod(shape) / 2**30
    if path is None:
        raise DataError(
            f"{shape[0]} images of {shape[1]}x{shape[2]} need {need:.1f} GiB, more than the memory allowed "
            "for them: name a cache folder, allow more memory, or resize smaller"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free / 2**30
    if need > free:
        raise DataError(
            f"the pixel cache needs {need:.1f} GiB in {path.parent}, but {free:.1f} GiB are free: make room, "
            "name another folder, or resize smaller"
        )
    return path


def _fill(
    pixels: np.ndarray, names: Sequence[str], chain: PixelChain, read_native: Callable[[str], bytes]
) -> None:
    start = 0
    try:
        for batch in _with_progress(_decoded(names, chain, read_native), len(names)):
            pixels[start : start + len(batch)] = batch
            start += len(batch)
    except tf.errors.OpError as error:
        _name_broken_file(names[start : start + _DECODE_BATCH], chain, read_native)
        raise DecodingError(f"an image after {names[start]} could not be decoded: {error.message}") from error


def _decoded(
    names: Sequence[str], chain: PixelChain, read_native: Callable[[str], bytes]
) -> Iterator[np.ndarray]:
    def read(rows: np.ndarray) -> np.ndarray:
        return np.array([read_native(names[int(row)]) for row in rows], dtype=object)

    def decode(rows: tf.Tensor) -> tf.Tensor:
        files = tf.ensure_shape(tf.numpy_function(read, [rows], tf.string), [None])
        result = tf.TensorSpec([*chain.output_size, 3], tf.uint8)
        # One image at a time in each call: the calls run side by side, and few large images are alive.
        return tf.map_fn(
            lambda data: _decode(data, chain), files, parallel_iterations=1, fn_output_signature=result
        )

    dataset = tf.data.Dataset.range(len(names)).batch(_DECODE_BATCH)
    dataset = dataset.map(decode, num_parallel_calls=os.cpu_count(), deterministic=True)
    return dataset.prefetch(2).as_numpy_iterator()


def _decode(data: tf.Tensor, chain: PixelChain) -> tf.Tensor:
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    return chain(tf.ensure_shape(image, [None, None, 3]))


def _name_broken_file(names: Sequence[str], chain: PixelChain, read_native: Callable[[str], bytes]) -> None:
    """Decodes one by one, outside tf.data, whose errors do not say which file they are about."""
    for name in names:
        data = read_native(name)
        try:
            _decode(tf.constant(data), chain)
        except tf.errors.OpError as error:
            raise DecodingError(
                f"{name} must be a whole image, but decoding it failed ({error.message}): replace or remove it"
            ) from None


def _with_progress(batches: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    console = Console(stderr=True)
    steps = -(-count // _DECODE_BATCH)
    yield from track(
        batches,
        description=f"decoding {count} images",
        total=steps,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
