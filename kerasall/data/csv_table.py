"""A table of images: a CSV with the columns path and label, and where known subject and fold."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from kerasall.data.examples import Collection, make_examples
from kerasall.data.image_folder import NO_SUBJECT_NOTE, list_some
from kerasall.errors import DataError

_REQUIRED = ("path", "label")
_OPTIONAL = ("subject", "fold")


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
    columns, lines = _read_lines(file)
    _require_filled(lines, file)
    rows = [_make_row(line, file.parent) for line in lines.values()]
    _require_files([row["path"] for row in rows], file)
    examples = make_examples(sorted(rows, key=lambda row: row["id"]))
    known = sum(row.get("subject", "") != "" for row in rows)
    return Collection(
        source="csv",
        root=file.parent,
        examples=examples,
        labels=tuple(sorted(set(examples["label"]))),
        subject_kind="subject" if known else "none",
        notes=_choose_notes(known, len(rows)),
        read_warnings=tuple(_describe_ignored_columns(columns)),
    )


def _read_lines(file: Path) -> tuple[list[str], dict[int, dict[str, str]]]:
    """Column names, and line number -> values by column; empty lines are passed over."""
    try:
        # Not pandas: it takes a surplus field for an index, or drops it, without an error.
        with open(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)
            columns = [name.strip().lower() for name in next(reader, [])]
            lines = [(reader.line_num, [field.strip() for field in line]) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} must be a table of images in CSV, but reading it failed: {error}") from None
    _require_columns(columns, file)
    filled = {number: line for number, line in lines if any(line)}
    uneven = [str(number) for number, line in filled.items() if len(line) != len(columns)]
    if uneven:
        raise DataError(
            f"{file} must have {len(columns)} fields in every line, but has another number in line "
            f"{list_some(uneven)}: put fields that hold a comma into quotation marks"
        )
    return columns, {number: dict(zip(columns, line, strict=True)) for number, line in filled.items()}


def _require_columns(columns: list[str], file: Path) -> None:
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise DataError(
            f"{file} must have the columns path and label, separated by commas, but {missing} are missing: "
            f"its columns are {columns}"
        )
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise DataError(f"{file} must have every column once, but has {repeated} more than once")


def _require_filled(lines: dict[int, dict[str, str]], file: Path) -> None:
    for name in _REQUIRED:
        empty = [str(number) for number, line in lines.items() if not line[name]]
        if empty:
            raise DataError(f"{file} must give a {name} in every row, but not in line {list_some(empty)}")


def _make_row(row: dict[str, str], folder: Path) -> dict[str, str]:
    given = row["path"]
    if "\\" in given and not (folder / given).exists():
        given = given.replace("\\", "/")  # a table written under Windows
    path = Path(os.path.normpath(folder / given))
    name = path.relative_to(folder) if path.is_relative_to(folder) else path
    known = {column: row[column] for column in _OPTIONAL if column in row}
    return {"id": name.as_posix(), "path": str(path), "label": row["label"], **known}


def _require_files(paths: list[str], file: Path) -> None:
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise DataError(
            f"every image listed in {file} must exist, but {len(missing)} of {len(paths)} do not: "
            f"{list_some(missing)}; paths are relative to the folder of the CSV"
        )


def _choose_notes(known: int, images: int) -> tuple[str, ...]:
    if known == images:
        return ()
    if known == 0:
        return (NO_SUBJECT_NOTE,)
    return (
        f"For {images - known} of {images} images no patient is known: each of them counts as a patient of its own, "
        "so scores may be optimistic.",
    )


def _describe_ignored_columns(columns: list[str]) -> list[str]:
    ignored = [name or "(no name)" for name in columns if name not in _REQUIRED + _OPTIONAL]
    return [f"columns without a use here were left out: {list_some(ignored)}"] if ignored else []
