"""CSV and JSONL tables of predictions: written line by line, and read back up to the last whole line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kerasall.errors import DataError
from kerasall.serving.prediction_rows import Row


@dataclass(frozen=True)
class TextFormat:
    """One way to write rows as lines.

    Attributes:
        header: columns -> what stands before the first row.
        line: a row and its columns -> its line, with its end.
        read: an open file, its path and the columns -> the whole rows in it, as text or JSON values, and
            the number of bytes up to each row's end. A half-written last row is left out. Raises DataError
            where the file is no such table.
    """

    header: Callable[[Sequence[str]], str]
    line: Callable[[Row, Sequence[str]], str]
    read: Callable[[BinaryIO, Path, Sequence[str]], Iterator[tuple[dict[str, Any], int]]]


def encode(text: str) -> bytes:
    """UTF-8; a file name that is none must not cost the whole table, and is written with escapes."""
    return text.encode("utf-8", "backslashreplace")


def _csv_line(values: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue()


def _write_csv_row(row: Row, columns: Sequence[str]) -> str:
    return _csv_line([_shown(row[column]) for column in columns])


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.9f}" if isinstance(value, float) else value or ""


def _read_csv(file: BinaryIO, path: Path, columns: Sequence[str]) -> Iterator[tuple[dict[str, Any], int]]:
    lines = _Lines(file)
    reader = csv.reader(lines, strict=True)
    header = encode(_csv_line(columns))
    start = file.read(len(header))
    if start != header:
        if header.startswith(start):
            return  # killed within the header
        raise _foreign(path, "does not begin with these columns", columns)
    lines.offset = len(header)
    try:
        for fields in reader:
            if len(fields) != len(columns):
                raise _foreign(
                    path, f"has {len(fields)} fields in a row that ends at byte {lines.offset}", columns
                )
            yield dict(zip(columns, fields, strict=True)), lines.offset
    except csv.Error as error:
        if lines.at_end:
            return  # killed within a quoted field that holds a line break
        raise _foreign(path, f"cannot be read behind byte {lines.offset} ({error})", columns) from None
    except UnicodeDecodeError:
        raise _foreign(path, f"holds no text before byte {lines.offset}", columns) from None


def _read_jsonl(file: BinaryIO, path: Path, columns: Sequence[str]) -> Iterator[tuple[dict[str, Any], int]]:
    lines = _Lines(file)
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict) or list(row) != list(columns):
            raise _foreign(path, f"holds another line before byte {lines.offset}", columns)
        yield row, lines.offset
    start = encode(json.dumps({columns[0]: ""}))[:-2]
    if not lines.rest.startswith(start[: len(lines.rest)]):
        raise _foreign(path, "ends with something else", columns)


class _Lines:
    """Whole lines of a file as text, and how far they were read; a last line without its end is left out."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.offset = 0
        self.rest = b""
        self.at_end = False

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            if not line.endswith(b"\n"):
                self.rest = line
                break
            self.offset += len(line)
            yield line.decode("utf-8")
        self.at_end = True


def _foreign(path: Path, found: str, columns: Sequence[str]) -> DataError:
    return DataError(
        f"{path} must be a table of this model's predictions to go on with, with the columns {', '.join(columns)}, "
        f"but it {found}: give another name, or --overwrite"
    )


TEXT_FORMATS: Mapping[str, TextFormat] = {
    ".csv": TextFormat(_csv_line, _write_csv_row, _read_csv),
    ".jsonl": TextFormat(
        lambda _: "", lambda row, _: json.dumps(row, ensure_ascii=False) + "\n", _read_jsonl
    ),
}
