"""A lab's own images, sorted into folders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from kerasall.data.examples import Collection
from kerasall.data.folder_levels import folder_of
from kerasall.data.layouts import Layout, decide_layout, describe_reading, find_file_pattern
from kerasall.data.locations import Location, parse_location
from kerasall.data.own_images import Classes, make_collection
from kerasall.data.spelling import is_placeholder
from kerasall.errors import DataError, SettingsError
from kerasall.listing.folders import FoundFiles, find_files, is_text, list_folders, list_some, require_folder
from kerasall.listing.tables import TABLE_SUFFIXES


def read_image_folder(
    path: str | Path, label: str = "auto", subject: str = "auto", classes: Classes | None = None
) -> Collection:
    """Reads a tree in which one level of folders is the class, and perhaps another the patient.

    Which they are is decided from the whole tree (``kerasall.data.layouts``) or said, and stands in the first note
    with an example. Levels named train, validation and test, or fold_0, fold_1, become the fold.

    Args:
        path: folder.
        label: where the class stands: auto, folder, folder:N (1 is right below ``path``) or pattern:REGEX on the
            relative path with a group ``label``.
        subject: where the patient stands: likewise with a group ``subject``, or none where patients are waived.
        classes: the classes to use, in class order, or new name -> names it joins; images of others are left out
            with a warning. By default all, sorted by name.

    Raises:
        DataError: not a folder, no images, or folders that can be read in more than one way: each reading is shown
            with its settings.
        SettingsError: a location that is none, or a class that is absent.
    """
    root = require_folder(path)
    found = find_files(root)
    locations = _parse(label, "data.label", root), _parse(subject, "data.subject", root)
    try:
        labels = _search_labels(locations[0], found.images)
        inner = [image for image in found.images if labels is not None or "/" in image]
        _require_images(inner, found)
        known = (
            [name for names in classes.values() for name in names]
            if isinstance(classes, Mapping)
            else classes
        )
        layout = decide_layout(inner, *locations, labels=labels, classes=known or ())
        patients = locations[1].search(inner) if locations[1].kind == "pattern" else None
    except DataError as error:
        raise DataError(f"{root}: {error}") from None
    rows = _make_rows(root, inner, layout, labels, patients)
    warnings = [*layout.warnings, *_describe_left_out(root, found, rows, layout)]
    if locations[1].kind != "none":
        warnings += _describe_unknown(rows, layout, patients)
    return make_collection(
        "folder", root, rows, classes=classes, subject=subject,
        notes=[_describe_example(rows, layout)], warnings=[*warnings, *found.warnings(_is_table)],
    )  # fmt: skip


def _is_table(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in TABLE_SUFFIXES - {".txt"}


def _parse(text: str, setting: str, root: Path) -> Location:
    location = parse_location(text, setting)
    if location.kind == "column":
        raise SettingsError(
            f"{setting} is {text}, which is for tables, but {root} is a folder of images: set auto, folder:N or pattern:REGEX"
        )
    return location


def _search_labels(location: Location, images: Sequence[str]) -> dict[str, str] | None:
    if location.kind != "pattern" or not images:
        return None
    labels = location.search(images)
    if missed := [image for image in images if image not in labels]:
        raise DataError(
            f"data.label must be a pattern that gives every image its class, but matches {len(missed)} of {len(images)} "
            f"not: {list_some(missed)}; widen the pattern, or move these images away"
        )
    return labels


def _require_images(inner: Sequence[str], found: FoundFiles) -> None:
    if not inner:
        lie = f"{len(found.images)} images lie in it directly" if found.images else "no images lie below it"
        listed = [name for name in found.others if _is_table(name)]
        unpack = f"unpack {list_some(found.packed)}, " if found.packed else ""
        take = f"give the path of the table {list_some(listed)} in place of the folder's, " if listed else ""
        pattern = find_file_pattern(found.images) or "^(?P<label>[A-Za-z]+)"
        raise DataError(
            f"it must hold one folder per class with images inside (<class>/<image>), but {lie}: {unpack}{take}sort the images "
            "into class folders, list them in a table with the columns path and label, or, where the files' names tell the "
            f"class, set data.label, for example --set 'data.label=pattern:{pattern}'"
        )


def _make_rows(
    root: Path, images: Sequence[str], layout: Layout,
    labels: Mapping[str, str] | None, patients: Mapping[str, str] | None,
) -> list[dict[str, str]]:  # fmt: skip
    """A row for every image that has a class."""
    rows = []
    for image in images:
        label = labels[image] if labels is not None else folder_of(image, layout.label)
        subject = folder_of(image, layout.subject) if patients is None else patients.get(image, "")
        if label:
            facts = {"label": label, "subject": subject, "fold": folder_of(image, layout.fold)}
            rows.append({"id": image, "path": str(root / image), **facts})
    return rows


def _describe_example(rows: Sequence[Mapping[str, str]], layout: Layout) -> str:
    """How the folders are read, by the first image that has them all."""
    deepest = max(number or 0 for number in (layout.label, layout.subject, layout.fold))
    row = max(rows, key=lambda row: (not is_placeholder(row["subject"]), min(row["id"].count("/"), deepest)))
    return f"Folders are read as in {describe_reading(layout, row['id'], row['label'], row['subject'])}."


def _describe_left_out(
    root: Path, found: FoundFiles, rows: Sequence[Mapping[str, str]], layout: Layout
) -> list[str]:
    warnings, used = [], {row["id"] for row in rows}
    if loose := [image for image in found.images if image not in used]:
        warnings.append(f"{len(loose)} images outside any class folder were left out: {list_some(loose)}")
    filled = {image.partition("/")[0] for image in found.images if "/" in image}
    folders = [folder.name for folder in list_folders(root)]
    if listed := [name for name in found.others if _is_table(name)]:
        warnings.append(
            f"classes and patients are read from the folders, not from {list_some(listed)}: to read such a table, give its "
            "path in place of the folder's"
        )
    if layout.label == 1 and (empty := [name for name in folders if is_text(name) and name not in filled]):
        warnings.append(f"folders without images are not taken for classes: {list_some(empty)}")
    return warnings


def _describe_unknown(
    rows: Sequence[Mapping[str, str]], layout: Layout, patients: Mapping[str, str] | None
) -> list[str]:
    unknown = [row["id"] for row in rows if not row["subject"]]
    if not unknown:
        return []
    if patients is not None:
        return [
            f"the pattern of data.subject matches {len(unknown)} of {len(rows)} images not: {list_some(unknown)}"
        ]
    if layout.subject is not None:
        cure = ""
        if layout.label and any(image.count("/") > layout.label for image in unknown):
            cure = ". If the innermost folder is the patient, set data.subject: 'pattern:(?P<subject>[^/]+)/[^/]+$'"
        return [
            f"{len(unknown)} images lie in no patient's folder: {list_some(unknown)}; their patient is not known{cure}"
        ]
    stems = [PurePosixPath(image).stem for image in unknown]
    codes = {found[1] for stem in stems if (found := re.fullmatch(r"([^_]*\d[^_]*)_.*", stem))}
    if 1 < len(codes) <= len(stems) / 2 and all("_" in stem for stem in stems):
        first = sorted(codes)[0]
        return [
            f"the files' names begin with {len(codes)} codes such as {first}: if each is a patient, set data.subject: "
            "'pattern:(?P<subject>[^/_]+)_[^/]*$'"
        ]
    return []
