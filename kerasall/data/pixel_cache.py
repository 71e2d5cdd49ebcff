"""Decoded pixels of all images in one array, in memory or on disk: each file is decoded once.

Files -> header check -> decode -> deterministic chain -> array. Exported models decode inside TensorFlow, to the
same pixels (``kerasall.decoding``).
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasall.data.pixel_filling import PixelChain, empty_pixels, fill_pixels
from kerasall.decoding import DEFAULT_LIMITS, Limits, decode, read_image_bytes
from kerasall.decoding.pixels import Allocate
from kerasall.errors import DataError, DecodingError
from kerasall.files import atomic_path, sha256_of_json

_CACHE_VERSION = 3
"""To be raised when equal files and chains would give other pixels than before."""

ReadImage = Callable[[str, Limits], bytes]
"""Path and limits -> bytes of an image file; raises DecodingError naming the path."""


@dataclass(frozen=True, eq=False)
class PixelCache:
    """Decoded images after the deterministic chain.

    Attributes:
        pixels: uint8 [N, H, W, 3] RGB, in the order of the paths; an array or, from disk, a read-only
            memory map.
        key: SHA-256 over the files' contents, the chain and the decoder; equal keys mean equal pixels. "" where
            the files' hashes were not given and nothing is stored: then none is taken.
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
        keys: SHA-256 of each file's bytes, if already known: a file that has another by now is refused. If not,
            the files are hashed first where there is a folder.
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
    shape = (len(names), *chain.output_size, 3)
    in_memory = math.prod(shape) <= memory_bytes
    key, stored = "", None
    if keys is None and folder is not None:
        keys = [hashlib.sha256(read(name, limits)).hexdigest() for name in names]
    if keys is not None:
        key = _content_key(names, chain, keys)
        stored = None if folder is None else Path(folder) / f"pixels-{key[:32]}.npy"
        pixels = None if stored is None else _load_pixels(stored, shape, in_memory)
        if pixels is not None:
            return PixelCache(pixels, key, stored, decoded=0)

    def read_pixels(row: int, allocate: Allocate) -> np.ndarray:
        data = read(names[row], limits)
        # The pixels are kept under these hashes: a file changed since must not be taken for what it was.
        if keys is not None and hashlib.sha256(data).hexdigest() != keys[row]:
            raise DecodingError(f"{names[row]} was changed since it was scanned: run the same command again")
        return decode(data, limits, names[row], allocate)

    if in_memory:
        pixels = empty_pixels(shape)
        fill_pixels(pixels, chain, read_pixels)
        return PixelCache(pixels, key, None, decoded=len(names))
    stored = _require_room(stored, shape)
    with atomic_path(stored) as temporary:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        fill_pixels(pixels, chain, read_pixels)
        pixels.flush()
    return PixelCache(np.load(stored, mmap_mode="r"), key, stored, decoded=len(names))


def pixels_key(paths: Sequence[str | Path], chain: PixelChain, keys: Sequence[str]) -> str:
    """The key that ``decode_pixels`` would give, without decoding anything; ``keys`` are the files' SHA-256."""
    return _content_key([str(path) for path in paths], chain, keys)


def _content_key(names: Sequence[str], chain: PixelChain, keys: Sequence[str]) -> str:
    if len(keys) != len(names):
        raise DataError(f"one content key per file is needed ({len(names)}), but {len(keys)} were given")
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
