"""Which image files are meant: paths, folders, patterns and a manifest, walked without holding them all."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

from kerasall.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff")


def is_remote(name: str) -> bool:
    """Whether a name is an address on another file system, such as ``gs://bucket/cell.png``."""
    return "://" in name


def find_images(arguments: Sequence[str]) -> list[Path]:
    """Image files named by paths, folders (searched to the bottom) and glob patterns, each once.

    A link that leads nowhere counts as a file: it gets a row that says so, and is not passed over in silence.

    Raises:
        DataError: an argument matches nothing.
    """
    return [Path(name) for name in ImageNames(tuple(arguments))]


class NameSet:
    """Names seen so far, at about 100 bytes each, however long they are."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def __contains__(self, name: str) -> bool:
        return _digest(name) in self._digests

    def add(self, name: str) -> bool:
        """Adds a name; False if it was there."""
        before = len(self._digests)
        self._digests.add(_digest(name))
        return len(self._digests) > before


def as_written(name: str) -> str:
    """A file's name as a UTF-8 table can hold it: bytes that are no UTF-8 are written as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _digest(name: str) -> bytes:
    return blake2b(as_written(name).encode("utf-8"), digest_size=16).digest()


@dataclass(frozen=True)
class ImageNames:
    """Names of image files, each once and in an order that does not change, found anew at every pass.

    No list of them is kept: a pass holds the names of the folder it is in and, where several arguments or
    a manifest could name a file twice, 100 bytes a file.

    Attributes:
        arguments: files, folders (searched to the bottom; links to folders are not followed) and patterns.
        manifest: a text file with one path a line, a CSV with a column ``path``, or a JSONL file with a
            field ``path``. Relative paths start at the manifest's folder; a path that leads nowhere
            counts.
        match_remote: an address or a pattern of addresses -> the images there; None where nothing can reach
            other file systems.
    """

    arguments: tuple[str, ...] = ()
    manifest: str | Path | None = None
    match_remote: Callable[[str], Iterable[str]] | None = None

    def __iter__(self) -> Iterator[str]:
        if self.manifest is None and len(self.arguments) == 1:
            yield from self._match(self.arguments[0])
            return
        listed = () if self.manifest is None else read_manifest(self.manifest)
        seen = NameSet()
        yield from filter(seen.add, chain(*map(self._match, self.arguments), listed))

    def _match(self, argument: str) -> Iterator[str]:
        found = False
        for name in self._matches(argument):
            found = True
            yield name
        if not found:
            raise DataError(
                f"{argument} must name an image file, a folder with images ({', '.join(IMAGE_SUFFIXES)}) "
                "or a pattern that matches some, but matches nothing: correct the path"
            )

    def _matches(self, argument: str) -> Iterable[str]:
        if not is_remote(argument):
            return _match_local(argument)
        if self.match_remote is None:
            raise DataError(
                f"{argument} is on another file system, which only --runner can read: copy it here"
            )
        return self.match_remote(argument)


def _match_local(argument: str) -> Iterator[str]:
    path = Path(argument)
    if path.is_dir():
        yield from _walk(str(path))
    elif path.exists() or path.is_symlink():
        yield str(path)
    else:
        yield from (str(Path(p)) for p in sorted(glob.iglob(argument, recursive=True)) if _is_listed(Path(p)))


def _walk(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in listed:
        path = os.path.join(folder, name) if folder != "." else name
        if is_folder:
            yield from _walk(path)
        elif Path(name).suffix.lower() in IMAGE_SUFFIXES and _is_listed(Path(path)):
            yield path


def _is_listed(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())


def read_manifest(manifest: str | Path) -> Iterator[str]:
    """Names of the files that a manifest lists, in its order; see ``ImageNames``.

    Raises:
        DataError: unreadable, without a column ``path``, or without a single name.
    """
    manifest = Path(manifest)
    count = 0
    try:
        with open(manifest, encoding="utf-8-sig", newline="") as file:
            for name in _listed_names(manifest, file):
                if name:
                    count += 1
                    yield name if is_remote(name) else os.path.normpath(manifest.parent / name)
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise DataError(
            f"{manifest} must be a manifest: one path a line, a CSV with a column path or JSONL with a field path; "
            f"reading it failed: {error}"
        ) from None
    if not count:
        raise DataError(f"{manifest} must name at least one image file, but names none: fill it")


def _listed_names(manifest: Path, file: Any) -> Iterator[str]:
    if manifest.suffix.lower() == ".jsonl":
        for number, line in enumerate(file, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("path"), str):
                    raise DataError(
                        f"{manifest} must hold a text field path in every line, but not in line {number}"
                    )
                yield row["path"]
    elif manifest.suffix.lower() == ".csv":
        table = csv.DictReader(file, strict=True)
        if "path" not in (table.fieldnames or ()):
            raise DataError(
                f"{manifest} must have a column path, but its columns are {table.fieldnames or []}"
            )
        yield from (row["path"] or "" for row in table)
    else:
        yield from (line.rstrip("\r\n") for line in file)
