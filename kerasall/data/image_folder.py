"""A lab's own images, sorted into folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerasall.data.examples import Collection
from kerasall.data.own_images import make_collection
from kerasall.errors import DataError
from kerasall.listing.folders import find_files, is_text, list_folders, list_some, require_folder

_PART_NAMES = frozenset(("train", "training", "val", "valid", "validation", "test", "testing", "dev"))


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
    rows = [{"id": image, "path": str(root / image), "label": label} for image, label in chosen]
    left_out = _describe_left_out(root, members, loose, labels)
    return make_collection("folder", root, rows, classes=labels, warnings=(*left_out, *found.warnings()))


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
    if empty := [name for name in folders if is_text(name) and name not in members]:
        warnings.append(f"folders without images are not taken for classes: {list_some(empty)}")
    return warnings
