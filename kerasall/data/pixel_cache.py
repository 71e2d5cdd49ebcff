"""Decoded pixels of all images in one array, in memory or on disk: each file is decoded once.

Files -> header check -> decode -> deterministic chain (on several threads) -> rows of an array. Exported models decode
inside TensorFlow, to the same pixels (``kerasall.decoding``).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import mmap
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import tensorflow as tf

from kerasall.decoding import DEFAULT_LIMITS, Limits, SixteenBit, decode, read_image_bytes
from kerasall.decoding.pixels import Allocate
from kerasall.errors import DataError, DecodingError
from kerasall.files import atomic_path, find_sealed, seal_file, sha256_of_json
from kerasall.runtime import as_tensor, empty_aligned, show_progress

_CACHE_VERSION = 4
"""To be raised when equal files and chains would give other pixels than before, or an error."""
_PART = 32
"""Files that one thread decodes in one go."""
_TOGETHER = 8
"""Images that go through a chain in one call: eight cost half as much as one by one."""
_LARGE = 12 << 20
"""Bytes of an image too large to wait for others in memory."""


class PixelChain(Protocol):
    """What is asked of the deterministic preprocessing: ``preprocessing.operations.Chain`` has it."""

    def unrounded(self, image: tf.Tensor) -> tf.Tensor: ...

    def to_json(self) -> list[dict[str, Any]]: ...

    def keeps(self, height: int, width: int) -> bool: ...

    @property
    def only_sizes(self) -> bool: ...

    @property
    def bilinear_size(self) -> tuple[int, int] | None: ...

    @property
    def output_size(self) -> tuple[int, int]: ...

    @property
    def sixteen_bit(self) -> SixteenBit: ...


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
) -> PixelCache:
    """Decodes every file once and applies the chain.

    Args:
        paths: N image files.
        chain: the deterministic preprocessing; it must give one static size.
        folder: where pixels that do not fit into memory are kept, and looked for.
        memory_bytes: keep the pixels in memory up to this size, else in ``folder``.
        keys: SHA-256 of each file's bytes, if already known: a file that has another by now is refused. If not,
            the files are hashed first where there is a folder.
        limits: pixel and byte limits, checked from each header before its pixels are decoded.

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
        keys = [hashlib.sha256(read_image_bytes(name, limits)).hexdigest() for name in names]
    if keys is not None:
        key = pixels_key(names, chain, keys)
        stored = None if folder is None else Path(folder) / f"pixels-{key[:32]}.npy"
        kept = None if stored is None else find_sealed(stored)
        pixels = None if kept is None else _load_pixels(kept, shape, in_memory)
        if pixels is not None:
            return PixelCache(pixels, key, kept, decoded=0)

    def read_pixels(row: int, allocate: Allocate) -> np.ndarray:
        data = read_image_bytes(names[row], limits)
        # The pixels are kept under these hashes: a file changed since must not be taken for what it was.
        if keys is not None and hashlib.sha256(data).hexdigest() != keys[row]:
            raise DecodingError(f"{names[row]} was changed since it was scanned: run the same command again")
        return decode(data, limits, names[row], allocate, chain.sixteen_bit)

    if in_memory:
        pixels = empty_pixels(shape)
        _fill_pixels(pixels, chain, read_pixels)
        return PixelCache(pixels, key, None, decoded=len(names))
    stored = _require_room(stored, shape)
    with atomic_path(stored) as temporary:
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        _fill_pixels(pixels, chain, read_pixels)
        pixels.flush()
    stored = seal_file(stored)
    return PixelCache(np.load(stored, mmap_mode="r"), key, stored, decoded=len(names))


def pixels_key(paths: Sequence[str | Path], chain: PixelChain, keys: Sequence[str]) -> str:
    """The key that ``decode_pixels`` would give, without decoding anything; ``keys`` are the files' SHA-256."""
    if len(keys) != len(paths):
        raise DataError(f"one content key per file is needed ({len(paths)}), but {len(keys)} were given")
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


def _fill_pixels(pixels: np.ndarray, chain: PixelChain, read: Callable[[int, Allocate], np.ndarray]) -> None:
    """Puts what the chain makes of every row's image into ``pixels``.

    Args:
        pixels: uint8 [N, H, W, 3] with the chain's output size; to be replaced.
        chain: the deterministic preprocessing.
        read: row and where to put its pixels if that is possible -> uint8 [h, w, 3] RGB; called from several
            threads at once. What it raises stops the rest.
    """
    _keep_freed_memory()
    count, size = len(pixels), pixels.shape[1:]
    starts = range(0, count, _PART)
    keeps = chain.keeps(*size[:2])
    change, together = (_change_each, 1) if chain.bilinear_size else (_change_together, _TOGETHER)

    def fill_part(start: int) -> None:
        waiting: dict[int, np.ndarray] = {}
        for row in range(start, min(start + _PART, count)):

            def allocate(shape: tuple[int, int, int], row: int = row) -> np.ndarray:
                return pixels[row] if keeps and shape == size else empty_aligned(shape, np.uint8)

            image = read(row, allocate)
            if keeps and image.shape == size:
                if not np.may_share_memory(image, pixels):
                    pixels[row] = image
                continue
            waiting[row] = image
            if len(waiting) == together or image.size > _LARGE:
                change(chain, waiting, pixels)
                waiting.clear()
        change(chain, waiting, pixels)

    pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decoding")
    try:
        with _opencv_on_one_thread:
            parts = pool.map(fill_part, starts)
            for _ in show_progress(parts, len(starts), f"decoding {count} images"):
                _release(pixels)
    finally:  # the first broken file stops the rest
        pool.shutdown(cancel_futures=True)


def empty_pixels(shape: tuple[int, ...]) -> np.ndarray:
    """A uint8 array without defined content, in small pages.

    NumPy asks Linux for huge pages, which a virtual machine may first have to get from its host: filling them took
    three to six times as long as small ones, and as long as decoding.
    """
    if not hasattr(mmap, "MADV_NOHUGEPAGE"):
        return np.empty(shape, np.uint8)
    memory = mmap.mmap(-1, math.prod(shape), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.uint8).reshape(shape)


def _change_together(chain: PixelChain, images: dict[int, np.ndarray], pixels: np.ndarray) -> None:
    """Writes what the chain makes of the images, row -> image, into their rows."""
    tensors = [as_tensor(image) for image in images.values()]
    step = _TOGETHER if len(tensors) == _TOGETHER else 1
    change = _compile(chain, step)
    changed = [each for i in range(0, len(tensors), step) for each in change(tensors[i : i + step])]
    for row, result in zip(images, changed, strict=True):
        _round_into(np.asarray(pixels[row]), np.asarray(result), chain.only_sizes)


@lru_cache(maxsize=8)
def _compile(chain: PixelChain, count: int) -> Callable[[Sequence[tf.Tensor]], Sequence[tf.Tensor]]:
    """The chain for ``count`` images in one call."""
    image = tf.TensorSpec([None, None, 3], tf.uint8)
    return tf.function(
        lambda images: [chain.unrounded(each) for each in images], [[image] * count], autograph=False
    )


def _change_each(chain: PixelChain, images: dict[int, np.ndarray], pixels: np.ndarray) -> None:
    """As ``_change_together``, where the chain is one bilinear resize: called directly, it costs next to nothing.

    It is the operation that the chain would call. One image at a time, it finds its pixels in the processor's cache.
    """
    for row, image in images.items():
        resized = tf.raw_ops.ResizeBilinear(
            images=as_tensor(image[None]), size=_as_constant(chain.bilinear_size), half_pixel_centers=True
        )
        _round_into(np.asarray(pixels[row]), np.asarray(resized)[0], within_range=True)


@lru_cache(maxsize=8)
def _as_constant(size: tuple[int, int]) -> tf.Tensor:
    return tf.constant(size)


def _round_into(row: np.ndarray, values: np.ndarray, within_range: bool) -> None:
    """Writes values into a row, rounded to the nearest, halves to the even, as the chain itself rounds.

    By OpenCV, because TensorFlow takes longer for this than for resizing. OpenCV by itself would clip only what fits
    into an integer.
    """
    cv2.convertScaleAbs(values if within_range else np.clip(values, 0, 255), row)


class _OpenCVOnOneThread:
    """Keeps OpenCV from threads of its own: they would wait, spinning, for cores that decode other images.

    Their number is the whole process': of several that decode at once, the last one out restores it.
    """

    def __init__(self) -> None:
        self._lock, self._users, self._threads = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._threads = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                cv2.setNumThreads(self._threads)


_opencv_on_one_thread = _OpenCVOnOneThread()


def _keep_freed_memory() -> None:
    """Lets the C library keep some tens of MB a thread that were freed, where it is glibc.

    It would else give each image's memory back at once and ask for it anew, page by page, which takes longer
    than decoding. Having seen a block of this size freed, it keeps what is smaller, until the process ends.
    """
    np.empty(31 << 20, np.uint8)


def _release(pixels: np.ndarray) -> None:
    """Gives what was written into a file mapped into memory to the system, which writes it to disk in its time."""
    memory = pixels.base if isinstance(pixels, np.memmap) else None
    if isinstance(memory, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        memory.madvise(mmap.MADV_DONTNEED)
