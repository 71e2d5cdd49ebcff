"""Which image files are meant: paths, folders, patterns and a manifest, walked without holding them all."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path

from kerasall.errors import DataError
from kerasall.listing.columns import find_columns
from kerasall.listing.folders import IMAGE_SUFFIXES, walk_images
from kerasall.listing.tables import TABLE_SUFFIXES, TableStream, holds_table, stream_table, stream_text_lines
from kerasall.listing.written_paths import Parts, find_as_written, find_moved, is_absolute, split_path
from kerasall.paths import folder_of
from kerasall.serving.addresses import is_remote

Tell = Callable[[str], None]
"""Told, in a sentence, what was left out or guessed."""
_MANIFEST = "a manifest: one path a line, or a table (CSV, Excel, Parquet, JSON lines) with a column of paths"


def _tell_nobody(sentence: str) -> None:
    pass


def find_images(arguments: Sequence[str], tell: Tell = _tell_nobody) -> list[Path]:
    """Image files named by paths, folders (searched to the bottom) and glob patterns, each once.

    A link that leads nowhere counts as a file: it gets a row that says so, and is not passed over in silence.

    Raises:
        DataError: an argument matches nothing.
    """
    return [Path(name) for name in ImageNames(tuple(arguments), tell=tell)]


class NameSet:
    """Names seen so far, at about 100 bytes each, however long they are."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def __contains__(self, name: str) -> bool:
        return _digest(name) in self._digests

    def __len__(self) -> int:
        return len(self._digests)

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
        arguments: files, folders (searched to the bottom as ``walk_images`` does) and patterns.
        manifest: a text file with one path a line, or a table with a column of paths, see ``read_manifest``; a
            path that leads nowhere counts.
        match_remote: an address or a pattern of addresses -> the images there; None where nothing can reach
            other file systems.
        tell: told what was left out or guessed, at every pass.
    """

    arguments: tuple[str, ...] = ()
    manifest: str | Path | None = None
    match_remote: Callable[[str], Iterable[str]] | None = None
    tell: Tell = _tell_nobody

    def __iter__(self) -> Iterator[str]:
        if self.manifest is None and len(self.arguments) == 1:
            yield from self._match(self.arguments[0])
            return
        listed = () if self.manifest is None else read_manifest(self.manifest, self.tell)
        seen = NameSet()
        yield from filter(seen.add, chain(*map(self._match, self.arguments), listed))

    def _match(self, argument: str) -> Iterator[str]:
        found = False
        for name in self._matches(argument):
            found = True
            yield name
        if not found:
            raise DataError(
                f"{argument} must name an image file, a folder with images ({', '.join(sorted(IMAGE_SUFFIXES))}) "
                "or a pattern that matches some, but matches nothing: correct the path"
            )

    def _matches(self, argument: str) -> Iterable[str]:
        if not is_remote(argument):
            return _match_local(argument, self.tell)
        if self.match_remote is None:
            raise DataError(
                f"{argument} is on another file system, which only `kerasall predict` reads: copy it here"
            )
        return self.match_remote(argument)


def _match_local(argument: str, tell: Tell) -> Iterator[str]:
    path = Path(argument)
    if path.is_dir():
        yield from (str(path / name) for name in walk_images(path, tell))
    elif path.exists() or path.is_symlink():
        if path.suffix.lower() in TABLE_SUFFIXES - {".txt"}:
            raise DataError(
                f"{path} must be an image, but is a table: give the images that it lists by --manifest {shlex.quote(str(path))}"
            )
        yield str(path)
    else:
        yield from (str(Path(p)) for p in sorted(glob.iglob(argument, recursive=True)) if _is_listed(Path(p)))


def _is_listed(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())


def read_manifest(manifest: str | Path, tell: Tell = _tell_nobody) -> Iterator[str]:
    """Names of the files that a manifest lists, in its order; memory stays flat.

    It is a list, one path a line, or a table as data sets are read from, whose column of paths is known by its name.
    Relative paths start at the manifest's folder, and those that come through a pipe here, with slashes of either kind. Absolute paths of another machine
    are looked for there too; what front of theirs the first loses, all lose.

    Raises:
        DataError: unreadable, without a column of paths or with several, a row without a path, or without a single name.
    """
    manifest = Path(manifest)
    moved = _Moved(folder_of(manifest))
    count = 0
    for name in _listed_names(manifest, tell):
        count += 1
        yield name if is_remote(name) else moved.find(name)
    if not count:
        raise DataError(f"{manifest} must name at least one image file, but names none: fill it")
    if moved.example:
        tell(
            f"{manifest}: {moved.count} paths of another machine were read below its folder, such as {moved.example}"
        )


class _Moved:
    """Where listed paths lead, on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.front: Parts | None = None
        self.count, self.example = 0, ""

    def find(self, written: str) -> str:
        if path := find_as_written(self.folder, written):
            return path
        if is_absolute(written):
            if self.front is None and (found := find_moved(self.folder, written)):
                self.front = found[0]
            parts = split_path(written)
            if self.front is not None and parts[: len(self.front)] == self.front:
                path = str(self.folder.joinpath(*parts[len(self.front) :]))
                self.count, self.example = self.count + 1, self.example or f"{written} as {path}"
                return path
        return os.path.normpath(os.path.join(self.folder, written))


def _listed_names(manifest: Path, tell: Tell) -> Iterator[str]:
    try:
        table = stream_table(manifest, _MANIFEST) if holds_table(manifest) else _find_table(manifest)
    except OSError as error:
        raise DataError(f"{manifest} must be {_MANIFEST}, but reading it failed: {error.strerror}") from None
    if table is None:
        lines, notes = stream_text_lines(manifest, _MANIFEST)
        yield from filter(None, lines)
    else:
        notes = table.notes
        found = find_columns(table.columns, "path")
        if len(found) != 1:
            names = [table.columns[at] for at in found]
            problem = (
                f"{' and '.join(names)} may both be it" if names else f"its columns are {list(table.columns)}"
            )
            raise DataError(f"{manifest} must have one column path, but {problem}: rename columns")
        for number, name in table.read_fields(found[0]):
            if not name:
                raise DataError(
                    f"{manifest} must name a path in every row, but not in line {number}: fill it in"
                )
            yield name
    for note in notes:
        tell(note)


def _find_table(manifest: Path) -> TableStream | None:
    """The table that a text file holds, told by a name of its columns; else it is a list of paths."""
    try:
        table = stream_table(manifest, _MANIFEST)
    except DataError:  # a path may hold what a table's line may not
        return None
    at = find_columns(table.columns, "path")
    return table if at and not find_as_written(folder_of(manifest), table.columns[at[0]]) else None
