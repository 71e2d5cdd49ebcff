"""A lab's own images, listed in a table."""

from __future__ import annotations

import os
from pathlib import Path

from kerasall.data.examples import Collection
from kerasall.data.own_images import make_collection
from kerasall.errors import DataError
from kerasall.listing.folders import list_some
from kerasall.listing.tables import read_lines

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
    names, lines = read_lines(file, "a table of images in CSV")
    columns = [name.lower() for name in names]
    _require_table(columns, lines, file)
    rows = [_make_row(dict(zip(columns, line, strict=True)), file.parent) for line in lines.values()]
    if missing := [row["path"] for row in rows if not os.path.isfile(row["path"])]:
        raise DataError(
            f"every image listed in {file} must exist, but {len(missing)} of {len(rows)} do not: "
            f"{list_some(missing)}; paths are relative to the folder of the CSV"
        )
    ignored = [name or "(no name)" for name in columns if name not in _REQUIRED + _OPTIONAL]
    warnings = [f"columns without a use here were left out: {list_some(ignored)}"] if ignored else []
    return make_collection("csv", file.parent, rows, warnings=warnings)


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
