"""Tables that people make: the one reader of their lines, and the source that is a table of images.

The table of images is a CSV with the columns path and label, and where known subject and fold.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from kerasall.data.examples import Collection, make_examples
from kerasall.data.image_folder import NO_SUBJECT_NOTE, list_some
from kerasall.errors import DataError

_REQUIRED = ("path", "label")
_OPTIONAL = ("subject", "fold")


def read_lines(path: Path, what: str, semicolons: bool = False) -> tuple[list[str], dict[int, list[str]]]:
    """Reads a CSV line by line; empty lines are passed over. Nothing is asked of columns or numbers of fields.

    Args:
        path: the file, UTF-8 (with or without byte order mark).
        what: what it must be, in the words of a message.
        semicolons: whether they may separate the fields in place of commas, as in spreadsheets of some countries.

    Returns:
        Names of the columns, and line number -> fields; all without the spaces around them.

    Raises:
        DataError: unreadable.
    """
    try:
        # Not pandas: it takes a surplus field for an index, or drops it, without an error.
        with open(path, encoding="utf-8-sig", newline="") as text:
            head = text.readline()
            text.seek(0)
            separator = ";" if semicolons and ";" in head and "," not in head else ","
            reader = csv.reader(text, delimiter=separator, strict=True)
            lines = [(reader.line_num, [field.strip() for field in line]) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} must be {what}, but reading it failed: {error}") from None
    filled = [(number, line) for number, line in lines if any(line)]
    return (filled[0][1] if filled else []), dict(filled[1:])


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
    _require_columns(columns, file)
    _require_filled(columns, lines, file)
    rows = [_make_row(dict(zip(columns, line, strict=True)), file.parent) for line in lines.values()]
    _require_files([row["path"] for row in rows], file)
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


def _require_columns(columns: list[str], file: Path) -> None:
    if missing := [name for name in _REQUIRED if name not in columns]:
        raise DataError(
            f"{file} must have the columns path and label, separated by commas, but {missing} are missing: "
            f"its columns are {columns}"
        )
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise DataError(f"{file} must have every column once, but has {repeated} more than once")


def _require_filled(columns: list[str], lines: dict[int, list[str]], file: Path) -> None:
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


def _require_files(paths: list[str], file: Path) -> None:
    if missing := [path for path in paths if not os.path.isfile(path)]:
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
