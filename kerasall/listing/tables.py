"""The one reader of tables that people bring."""

from __future__ import annotations

import csv
from pathlib import Path

from kerasall.errors import DataError


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
