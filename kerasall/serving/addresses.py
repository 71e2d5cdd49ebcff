"""Files at addresses such as ``s3://bucket/cell.png``, by whatever fsspec has a package for; nothing is fetched unasked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kerasall.decoding import Limits
from kerasall.errors import DataError, DecodingError
from kerasall.listing.folders import is_image_name
from kerasall.shown_text import mask_passwords

_PATTERN = frozenset("*?[")


def is_remote(name: str) -> bool:
    """Whether a name is an address on another file system, such as ``gs://bucket/cell.png``."""
    return "://" in name


def open_system(address: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path there.

    Raises:
        DataError: no file system is known by that name, its package is missing, or it cannot be reached.
    """
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(address)
    except (ImportError, OSError, TypeError, ValueError) as error:  # TypeError: the address lacks its host
        raise DataError(
            f"{mask_passwords(address)} must begin with a file system that fsspec knows and reaches, but: "
            f"{mask_passwords(str(error))}: correct it, or install its package"
        ) from None


def match_images(address: str) -> Iterator[str]:
    """Addresses of the images that an address, a pattern or a folder's address stands for, in an order that does not change.

    A folder is searched to the bottom, its names held folder by folder.

    Raises:
        DataError: the file system cannot be reached, or an address of a file there would not lead to it.
    """
    system, path = open_system(address)
    try:
        if _PATTERN & set(path):
            found: Iterator[str] = iter(sorted(system.glob(path)))
        elif system.isdir(path):
            found = _walk(system, path)
        else:
            found = iter([path] if system.exists(path) else [])
        for at, each in enumerate(filter(is_image_name, found)):
            name = system.unstrip_protocol(each)
            if not at:
                _require_same(address, (system, each), name)
            yield name
    except OSError as error:
        raise DataError(
            mask_passwords(f"{address} must be readable, but listing it failed: {error}")
        ) from None


def _require_same(address: str, listed: tuple[Any, str], name: str) -> None:
    """Refuses an address whose host, account or archive fsspec leaves out of the names of its files."""
    try:
        if open_system(name) == listed:
            return
    except DataError:
        pass  # as below
    raise DataError(
        f"{mask_passwords(address)} must list files by their whole addresses, but the first would be {name}, which does "
        "not lead there: list them by --manifest, or state host and account in fsspec's configuration instead"
    )


def _walk(system: Any, folder: str) -> Iterator[str]:
    """Paths of all files below a folder; fsspec's own walk passes over a subfolder that cannot be listed."""
    listed = sorted(system.ls(folder, detail=True), key=lambda entry: entry["name"])
    system.invalidate_cache(folder)  # or the listings of all folders are held
    for entry in listed:
        if entry["type"] != "directory":
            yield entry["name"]
        elif entry["name"].rstrip("/") != folder.rstrip("/"):
            yield from _walk(system, entry["name"])


def read_address(address: str, limits: Limits) -> bytes:
    """Content of the image file at an address.

    Raises:
        DecodingError: unreadable or larger than the limits allow.
    """
    try:
        system, path = open_system(address)
        with system.open(path, "rb") as file:
            data = file.read(limits.max_bytes + 1)
    except Exception as error:  # each file system has errors of its own
        raise DecodingError(
            mask_passwords(
                f"{address} must be readable, but reading it failed: {error or type(error).__name__}"
            )
        ) from None
    if len(data) > limits.max_bytes:
        raise DecodingError(
            f"{mask_passwords(address)} must have at most {limits.max_bytes:,} bytes, but has more: shrink it"
        )
    return data
