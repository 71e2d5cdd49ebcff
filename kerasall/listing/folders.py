"""The one walk over the files below a folder: what counts as an image, what is passed over, and that it is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerasall.errors import DataError

IMAGE_SUFFIXES = frozenset((".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff"))
"""File types taken for images, compared in lower case."""

_IGNORED_FOLDERS = frozenset(("__MACOSX", "@eaDir"))


@dataclass(frozen=True)
class FoundFiles:
    """Files below a folder: paths relative to it with forward slashes, sorted.

    Attributes:
        images: files with one of ``IMAGE_SUFFIXES``.
        others: all other files that are not hidden.
        undecodable: files whose name is not valid text, spelt with escapes; no table can hold them.
    """

    images: tuple[str, ...]
    others: tuple[str, ...]
    undecodable: tuple[str, ...]

    def warnings(self, expected: Callable[[str], bool] = lambda name: False) -> list[str]:
        """Sentences on what is left out; ``expected`` tells other files that have a purpose."""
        others = [name for name in self.others if not expected(name)]
        found = []
        if others:
            found.append(f"{len(others)} files that are no images were left out: {list_some(others)}")
        if self.undecodable:
            found.append(
                f"{len(self.undecodable)} files whose names are not valid UTF-8 were left out; rename them: "
                f"{list_some(self.undecodable)}"
            )
        return found


def walk_files(root: Path) -> Iterator[str]:
    """Yields every file below ``root``: path relative to it with forward slashes, folder by folder in order.

    Hidden files and folders are passed over. Links to folders are followed, but no folder is entered
    twice, so a loop of links ends.

    Raises:
        DataError: a folder cannot be listed.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [(root, "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(
                f"{folder} must be a folder that can be listed, but is not: {error.strerror}"
            ) from None
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        visible = [entry for entry in entries if not _is_ignored(entry.name)]
        yield from (prefix + entry.name for entry in visible if not entry.is_dir())
        folders = [entry.name for entry in visible if entry.is_dir()]
        waiting.extend((folder / name, f"{prefix}{name}/") for name in reversed(folders))


def list_folders(path: Path) -> list[Path]:
    """The visible folders right below ``path``, sorted; none where it may not be listed."""
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir() and not _is_ignored(entry.name))
    except OSError:
        return []


def find_files(root: Path) -> FoundFiles:
    """Sorts every file below ``root`` by kind, judged by the suffix alone; no file is opened."""
    images, others, undecodable = [], [], []
    for name in walk_files(root):
        if not is_text(name):
            undecodable.append(ascii(name)[1:-1])
        elif PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
            images.append(name)
        else:
            others.append(name)
    return FoundFiles(tuple(sorted(images)), tuple(sorted(others)), tuple(sorted(undecodable)))


def require_folder(path: str | Path) -> Path:
    """Gives ``path`` as an absolute path, links kept.

    Raises:
        DataError: it is not a folder.
    """
    folder = Path(os.path.abspath(Path(path).expanduser()))
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder} must be a folder of images, but {found}: correct the path")
    return folder


def list_some(names: Sequence[str], limit: int = 5) -> str:
    """Joins names for a message, the first ``limit`` by name and the rest by number."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED_FOLDERS


def is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
