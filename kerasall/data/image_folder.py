"""Any tree ``<class>/<image>``, and the walk over image files that the other readers share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kerasall.data.examples import Collection, make_examples
from kerasall.errors import DataError

IMAGE_SUFFIXES = frozenset((".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff"))
"""File types taken for images, compared in lower case."""

NO_SUBJECT_NOTE = (
    "No patient is known for these images: splits keep duplicates together but may put images of one "
    "patient on both sides, so scores may be optimistic."
)

_IGNORED_FOLDERS = frozenset(("__MACOSX", "@eaDir"))
_PART_NAMES = frozenset(("train", "training", "val", "valid", "validation", "test", "testing", "dev"))


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
        if not _is_text(name):
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


def read_image_folder(path: str | Path, classes: Sequence[str] | None = None) -> Collection:
    """Reads a tree in which every folder at the top is a class; folders below a class are its images too.

    Args:
        path: the folder that holds the class folders.
        classes: class names in class order; other folders are left out with a warning. By default every
            folder that holds images, sorted by name.

    Raises:
        DataError: not a folder, no class folders, a named class that is absent, or folders that look
            like parts of a split (``train``, ``test``) where classes are expected.
    """
    root = require_folder(path)
    found = find_files(root)
    members: dict[str, list[str]] = {}
    for image in found.images:
        top, _, rest = image.partition("/")
        members.setdefault(top if rest else "", []).append(image)
    loose = members.pop("", [])
    labels = _choose_classes(root, members, loose, classes)
    chosen = [(image, label) for label in labels for image in members[label]]
    rows = [{"id": image, "path": str(root / image), "label": label} for image, label in sorted(chosen)]
    return Collection(
        source="folder",
        root=root,
        examples=make_examples(rows),
        labels=labels,
        notes=(NO_SUBJECT_NOTE,),
        read_warnings=(*_describe_left_out(root, members, loose, labels), *found.warnings()),
    )


def _choose_classes(
    root: Path, members: dict[str, list[str]], loose: list[str], classes: Sequence[str] | None
) -> tuple[str, ...]:
    if not members:
        found = f"{len(loose)} images lie in it directly" if loose else "no images lie below it"
        raise DataError(
            f"{root} must hold one folder per class with images inside (<class>/<image>), but {found}: "
            "sort the images into class folders, or list them in a CSV with the columns path and label"
        )
    if classes is None:
        if {name.lower() for name in members} <= _PART_NAMES:
            raise DataError(
                f"{root} must hold one folder per class, but its folders {sorted(members)} look like parts of a "
                "split: give the path of one part, name the classes, or list the images in a CSV"
            )
        return tuple(sorted(members))
    absent = [name for name in classes if name not in members]
    if absent or len(set(classes)) != len(classes):
        problem = f"{absent} hold no images" if absent else "some are named twice"
        raise DataError(
            f"classes must name different folders with images in {root}, but {problem}: "
            f"the folders with images are {sorted(members)}"
        )
    return tuple(classes)


def _describe_left_out(
    root: Path, members: dict[str, list[str]], loose: list[str], labels: tuple[str, ...]
) -> list[str]:
    warnings = []
    if loose:
        warnings.append(f"{len(loose)} images outside any class folder were left out: {list_some(loose)}")
    if unused := [f"{name} ({len(members[name])})" for name in sorted(set(members) - set(labels))]:
        warnings.append(f"folders that are none of the classes were left out: {list_some(unused)}")
    folders = [folder.name for folder in list_folders(root)]
    if empty := [name for name in folders if _is_text(name) and name not in members]:
        warnings.append(f"folders without images are not taken for classes: {list_some(empty)}")
    return warnings


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED_FOLDERS


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
