"""What an image may measure at most, and reading a file that is not larger."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from kerasall.errors import DecodingError

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What an image may measure at most; checked before any pixel is decoded.

    Attributes:
        max_side: width and height, in pixels.
        max_pixels: width times height. 50 million pixels are 150 MB once decoded.
        max_bytes: size of the encoded file.
    """

    max_side: int = 8192
    max_pixels: int = 50_000_000
    max_bytes: int = 256 * _MEBIBYTE


DEFAULT_LIMITS = Limits()


def with_limits(limits: Limits, max_side: int | None = None, max_pixels: int | None = None) -> Limits:
    """The limits with those replaced that are given."""
    given = {"max_side": max_side, "max_pixels": max_pixels}
    return replace(limits, **{name: value for name, value in given.items() if value is not None})


def read_image_bytes(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Reads a file whole, unless it is larger than ``limits.max_bytes``.

    Raises:
        DecodingError: missing, not a regular file, unreadable or too large; the message names it.
    """
    path = Path(path)
    try:
        status = _find_status(path)
        if not stat.S_ISREG(status.st_mode):  # of a pipe, reading would wait for ever
            raise DecodingError(f"{path} must be an image file, but is not a regular file: correct the path")
        require_bytes(status.st_size, limits, str(path))
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError as error:
        raise DecodingError(f"{path} must be readable, but reading it failed: {error.strerror}") from None


def _find_status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last of names that no file can have
        found = "does not exist"
        if path.is_symlink():
            found = f"is a link to {path.readlink()}, which does not exist"
        raise DecodingError(f"{path} must be an image file, but {found}: correct the path") from None


def require_bytes(size: int, limits: Limits, name: str) -> None:
    if size == 0:
        raise DecodingError(f"{name} must be an image, but is empty (0 bytes): copy or export it again")
    if size > limits.max_bytes:
        raise DecodingError(
            f"{name} must have at most {limits.max_bytes:,} bytes, but has {size:,}: "
            "crop or shrink it, or raise the limit"
        )
