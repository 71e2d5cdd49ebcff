"""A table of images: a CSV with the columns path and label, and where known subject and fold."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

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
    table = _read_table(file)
    for name in _REQUIRED:
        _require_filled(table, name, file)
    rows = [_make_row(row, file.parent) for row in table.to_dict("records")]
    _require_files([row["path"] for row in rows], file)
    examples = make_examples(sorted(rows, key=lambda row: row["id"]))
    known = examples["subject"] != ""
    return Collection(
        source="csv",
        root=file.parent,
        examples=examples,
        labels=tuple(sorted(set(examples["label"]))),
        subject_kind="subject" if known.any() else "none",
        notes=() if known.all() else (NO_SUBJECT_NOTE if not known.any() else _describe_partly_known(known),),
        read_warnings=tuple(_describe_ignored_columns(table)),
    )


def _read_table(file: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{file} must be a table of images in CSV, but reading it failed: {error}") from None
    table.columns = [str(name).strip().lower() for name in table.columns]
    missing = [name for name in _REQUIRED if name not in table.columns]
    if missing:
        raise DataError(
            f"{file} must have the columns path and label, separated by commas, but {missing} are missing: "
            f"its columns are {list(table.columns)}"
        )
    repeated = sorted({name for name in table.columns if list(table.columns).count(name) > 1})
    if repeated:
        raise DataError(f"{file} must have every column once, but has {repeated} more than once")
    return table.fillna("").apply(lambda column: column.str.strip())


def _require_filled(table: pd.DataFrame, name: str, file: Path) -> None:
    lines = [str(row + 2) for row in range(len(table)) if not table[name].iloc[row]]
    if lines:
        raise DataError(f"{file} must give a {name} in every row, but not in line {list_some(lines)}")


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


def _describe_partly_known(known: pd.Series) -> str:
    return (
        f"For {int((~known).sum())} of {len(known)} images no patient is known: each of them counts as a patient "
        "of its own, so scores may be optimistic."
    )


def _describe_ignored_columns(table: pd.DataFrame) -> list[str]:
    ignored = [name for name in table.columns if name not in _REQUIRED + _OPTIONAL]
    return [f"columns without a use here were left out: {list_some(ignored)}"] if ignored else []
