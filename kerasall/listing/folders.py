"""The one walk over the files below a folder: what counts as an image, what is passed over, and that it is said."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerasall.errors import DataError, count_of

IMAGE_SUFFIXES = frozenset((".bmp", ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp"))
"""File types taken for images, compared in lower case."""

_IGNORED = frozenset(
    (
        "__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found",
        "thumbs.db", "ehthumbs.db", "desktop.ini",
    )
)  # fmt: skip
"""What operating systems and network disks leave beside files of people, in lower case."""
_PACKED = frozenset((".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2"))
_IMAGE_STARTS = re.compile(rb"\x89PNG|\xff\xd8\xff|II[*+]\0|MM\0[*+]|BM....\0{4}|RIFF....WEBP", re.DOTALL)
_LOOKED_INTO = 200
_NAMED = 5


@dataclass(frozen=True)
class FoundFiles:
    """Files below a folder: paths relative to it with forward slashes, sorted.

    Attributes:
        images: files with one of ``IMAGE_SUFFIXES``.
        others: all other files that are not hidden.
        undecodable: files whose name is not valid text, spelt with escapes; no table can hold them.
        misnamed: those of the others (of the first 200) that hold an image all the same.
    """

    images: tuple[str, ...]
    others: tuple[str, ...]
    undecodable: tuple[str, ...]
    misnamed: tuple[str, ...] = ()

    @property
    def packed(self) -> list[str]:
        """Archives among the other files, which somebody may have forgotten to unpack."""
        return [name for name in self.others if PurePosixPath(name).suffix.lower() in _PACKED]

    def warnings(self, expected: Callable[[str], bool] = lambda name: False) -> list[str]:
        """Sentences on what is left out; ``expected`` tells other files that have a purpose."""
        misnamed = set(self.misnamed)
        others = [name for name in self.others if not expected(name) and name not in misnamed]
        found = describe_left_out(others, len(others), self.misnamed)
        if self.undecodable:
            found.append(
                f"{len(self.undecodable)} files whose names are not valid UTF-8 were left out; rename them: "
                f"{list_some(self.undecodable)}"
            )
        return found


def describe_left_out(others: Sequence[str], count: int, misnamed: Sequence[str]) -> list[str]:
    """Sentences on files that were left out: ``count`` of them, the first by name, and images without a known suffix."""
    found = []
    if count:
        found.append(
            f"{count_of(count, 'file that is no image was', 'files that are no images were')} left out: {list_some(others, count=count)}"
        )
    if misnamed:
        found.append(
            f"{len(misnamed)} files that hold images, but do not end in one of {', '.join(sorted(IMAGE_SUFFIXES))}, were "
            f"left out; rename them: {list_some(misnamed)}"
        )
    return found


def walk_files(root: Path) -> Iterator[str]:
    """Yields every file below ``root``: path relative to it with forward slashes, in the order of their paths.

    Hidden files and folders are passed over, and what operating systems leave. Links to folders are followed,
    but no folder is entered twice, so a loop of links ends. In memory are the names of the folder it is in, and
    what remains of those above.

    Raises:
        DataError: a folder cannot be listed.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [(root, "", True)]
    while waiting:
        path, name, is_folder = waiting.pop()
        if not is_folder:
            yield name
            continue
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            with os.scandir(path) as entries:
                listed = sorted(
                    ((entry.name, _is_folder(entry)) for entry in entries if not _is_ignored(entry.name)),
                    reverse=True,
                )
        except OSError as error:
            raise DataError(
                f"{path} must be a folder that can be listed, but is not: {error.strerror}"
            ) from None
        entered.add((status.st_dev, status.st_ino))
        prefix = f"{name}/" if name else ""
        waiting.extend((path / each, prefix + each, below) for each, below in listed)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """False of a link that leads to itself, which the system refuses to follow: it is a file that cannot be read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def walk_images(root: Path, tell: Callable[[str], None]) -> Iterator[str]:
    """Yields the images among ``walk_files``, and tells at the end what was left out; memory stays flat."""
    count, others, misnamed = 0, [], []
    for name in walk_files(root):
        if is_image_name(name):
            yield name
            continue
        if count < _LOOKED_INTO and _holds_image(root / name):
            misnamed.append(name)
            continue
        count += 1
        if len(others) < _NAMED:
            others.append(name)
    for sentence in describe_left_out(others, count, misnamed):
        tell(f"{root}: {sentence}")


def is_image_name(name: str) -> bool:
    """Whether a file is an image by its suffix."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _holds_image(path: Path) -> bool:
    try:
        if not path.is_file():  # of a pipe, reading would wait for ever
            return False
        with open(path, "rb") as file:
            return _IMAGE_STARTS.match(file.read(16)) is not None
    except OSError:
        return False


def list_folders(path: Path) -> list[Path]:
    """The visible folders right below ``path``, sorted; none where it may not be listed."""
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir() and not _is_ignored(entry.name))
    except OSError:
        return []


def find_files(root: Path) -> FoundFiles:
    """Sorts every file below ``root`` by kind, judged by the suffix alone."""
    images, others, undecodable = [], [], []
    for name in walk_files(root):
        if not is_text(name):
            undecodable.append(ascii(name)[1:-1])
        elif is_image_name(name):
            images.append(name)
        else:
            others.append(name)
    misnamed = [name for name in sorted(others)[:_LOOKED_INTO] if _holds_image(root / name)]
    return FoundFiles(
        tuple(sorted(images)), tuple(sorted(others)), tuple(sorted(undecodable)), tuple(misnamed)
    )


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


def list_some(names: Sequence[str], limit: int = _NAMED, count: int | None = None) -> str:
    """Joins names for a message, the first ``limit`` by name and the rest by number; ``count`` where not all are given."""
    more = (len(names) if count is None else count) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED


def is_text(name: str) -> bool:
    """Whether a text can be written to a file: names of files that are no UTF-8 cannot."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
