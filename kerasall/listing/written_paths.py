"""Paths as people write them in tables: under Windows, on another machine, without folders or suffix."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from kerasall.errors import DataError
from kerasall.listing.folders import is_image_name, walk_files

Parts = tuple[str, ...]
_DRIVE = re.compile(r"(file:)?/*[A-Za-z]:(?=[\\/])|file:/*(?=/)")
_MOST_LISTED = 1_000_000


def split_path(written: str) -> Parts:
    r"""Folders and name of a path of any system, without drive and root.

    >>> split_path(r"C:\data\cells\a.png"), split_path("./ALL/a.png")
    (('data', 'cells', 'a.png'), ('ALL', 'a.png'))
    """
    path = posixpath.normpath(_DRIVE.sub("", written).replace("\\", "/"))
    return tuple(part for part in path.split("/") if part not in ("", "."))


def find_as_written(folder: Path, written: str) -> str | None:
    """The file that a path names, relative to a folder or absolute, with slashes of either kind; None if none."""
    for spelling in (written, written.replace("\\", "/")) if "\\" in written else (written,):
        path = os.path.normpath(os.path.join(folder, spelling))
        if "\0" not in path and os.path.isfile(path):
            return path
    return None


def is_absolute(written: str) -> bool:
    """Whether a path begins with a drive or at the root, and so may be of another machine."""
    return _DRIVE.match(written) is not None or written.startswith(("/", "\\"))


def find_moved(folder: Path, written: str) -> tuple[Parts, str] | None:
    """The file below a folder that an absolute path of another machine ends in, and the folders in front of that."""
    parts = split_path(written) if is_absolute(written) else ()
    for start in range(len(parts)):
        path = folder.joinpath(*parts[start:])
        if path.is_file():
            return parts[:start], str(path)
    return None


@dataclass(frozen=True)
class FolderIndex:
    """The images below a folder, to be found by what people write in place of their paths.

    Spellings that differ by case or by the form of accents are one; a name without a suffix stands for the image.

    Attributes:
        whole: a path below the folder, and the same without suffix -> the paths that are spelt so.
        endings: last folders and name of a path, and the same without suffix -> the paths that end so.
    """

    whole: dict[Parts, list[Parts]] = field(default_factory=dict)
    endings: dict[Parts, list[Parts]] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> FolderIndex:
        """Walks the folder; one that cannot be walked holds nothing."""
        index = cls()
        with suppress(DataError):
            for name in islice(filter(is_image_name, walk_files(folder)), _MOST_LISTED):
                index.add(tuple(name.split("/")))
        return index

    def add(self, image: Parts) -> None:
        """Takes up one image, by its path below the folder."""
        *folders, name = map(_spell, image)
        for last in {name, _spell(PurePosixPath(image[-1]).stem)}:
            self.whole.setdefault((*folders, last), []).append(image)
            for start in range(1, len(image)):
                self.endings.setdefault((*folders[start:], last), []).append(image)

    def find(self, parts: Parts) -> list[Parts]:
        """Images whose paths end in these folders and this name: those right below the folder alone, else all."""
        spelt = tuple(map(_spell, parts))
        ending = self.whole.get(spelt) or self.endings.get(spelt, [])
        return [image for image in ending if image[-len(parts) :] == parts] or ending

    def find_prefix(self, paths: Sequence[Parts]) -> Parts | None:
        """The folders in front that most paths must lose to lie below the folder; None if none of them does.

        One prefix for all: then no two paths of a table can come to mean one file.
        """
        counts: Counter[Parts] = Counter()
        for parts in paths:
            for start in range(len(parts)):
                if tuple(map(_spell, parts[start:])) in self.whole:
                    counts[parts[:start]] += 1
        if not counts:
            return None
        most = max(counts.values())
        return min((prefix for prefix, count in counts.items() if count == most), key=len)


def _spell(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
