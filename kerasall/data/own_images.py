"""A lab's own images, sorted into folders or listed in a table.

Folders are any tree ``<class>/<image>``; the table is a CSV with the columns path and label, and where known subject
and fold.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kerasall.data.examples import Collection, make_examples
from kerasall.errors import DataError
from kerasall.listing.folders import find_files, is_text, list_folders, list_some, require_folder
from kerasall.listing.tables import read_lines

NO_SUBJECT_NOTE = (
    "No patient is known for these images: splits keep duplicates together but may put images of one "
    "patient on both sides, so scores may be optimistic."
)

_REQUIRED = ("path", "label")
_OPTIONAL = ("subject", "fold")
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
    if empty := [name for name in folders if is_text(name) and name not in members]:
        warnings.append(f"folders without images are not taken for classes: {list_some(empty)}")
    return warnings


def read_csv(path: str | Path) -> Collection:
    """Reads a table of images.

    Column names are compared without case; further columns are left out with a warning. Paths are
    relative to the CSV's folder or absolute. Classes are ordered by name.

    Args:
        path: CSV file, comma separated, UTF-8 (with or without byte order mark).

    Raises:
        DataError: unreadable, a required column absent, a row without path or label, an image listed
            twice, or images that do not exist; the message names them.
    """
    file = Path(os.path.abspath(Path(path).expanduser()))
    names, lines = read_lines(file, "a table of images in CSV")
    columns = [name.lower() for name in names]
    _require_table(columns, lines, file)
    rows = [_make_row(dict(zip(columns, line, strict=True)), file.parent) for line in lines.values()]
    if missing := [row["path"] for row in rows if not os.path.isfile(row["path"])]:
        raise DataError(
            f"every image listed in {file} must exist, but {len(missing)} of {len(rows)} do not: "
            f"{list_some(missing)}; paths are relative to the folder of the CSV"
        )
    examples = make_examples(sorted(rows, key=lambda row: row["id"]))
    known = sum(row.get("subject", "") != "" for row in rows)
    ignored = [name or "(no name)" for name in columns if name not in _REQUIRED + _OPTIONAL]
    return Collection(
        source="csv",
        root=file.parent,
        examples=examples,
        labels=tuple(sorted(set(examples["label"]))),
        subject_kind="subject" if known else "none",
        notes=_choose_notes(known, len(rows)),
        read_warnings=(f"columns without a use here were left out: {list_some(ignored)}",) if ignored else (),
    )


def _require_table(columns: list[str], lines: dict[int, list[str]], file: Path) -> None:
    if missing := [name for name in _REQUIRED if name not in columns]:
        raise DataError(
            f"{file} must have the columns path and label, separated by commas, but {missing} are missing: "
            f"its columns are {columns}"
        )
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError(f"{file} must have every column once, but has {repeated} more than once")
    if uneven := [str(number) for number, line in lines.items() if len(line) != len(columns)]:
        raise DataError(
            f"{file} must have {len(columns)} fields in every line, but has another number in line "
            f"{list_some(uneven)}: put fields that hold a comma into quotation marks"
        )
    for name in _REQUIRED:
        if empty := [str(number) for number, line in lines.items() if not line[columns.index(name)]]:
            raise DataError(f"{file} must give a {name} in every row, but not in line {list_some(empty)}")


def _make_row(row: dict[str, str], folder: Path) -> dict[str, str]:
    given = row["path"]
    if "\\" in given and not (folder / given).exists():
        given = given.replace("\\", "/")  # a table written under Windows
    path = Path(os.path.normpath(folder / given))
    name = path.relative_to(folder) if path.is_relative_to(folder) else path
    known = {column: row[column] for column in _OPTIONAL if column in row}
    return {"id": name.as_posix(), "path": str(path), "label": row["label"], **known}


def _choose_notes(known: int, images: int) -> tuple[str, ...]:
    if known == images:
        return ()
    if known == 0:
        return (NO_SUBJECT_NOTE,)
    return (
        f"For {images - known} of {images} images no patient is known: each of them counts as a patient of its own, "
        "so scores may be optimistic.",
    )
