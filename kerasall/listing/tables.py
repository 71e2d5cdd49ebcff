"""The one reader of tables that people bring: text with any separator and encoding, Excel, Parquet, JSON lines.

Nothing here knows what columns mean. Every field is a string as it was written: ids keep their leading zeros.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, time
from functools import partial
from pathlib import Path
from typing import Any

from kerasall.errors import DataError
from kerasall.listing.folders import list_some
from kerasall.paths import as_file
from kerasall.shown_text import from_cell

_FOREIGN = {
    ".xls": "an Excel file of the old kind", ".xlsb": "a binary Excel file", ".ods": "an OpenDocument table",
    ".numbers": "a Numbers table",
}  # fmt: skip
TABLE_SUFFIXES = frozenset(
    (".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm", ".parquet", ".jsonl", *_FOREIGN)
)
"""File types taken for tables, compared in lower case; those that cannot be read are refused with the cure."""

Line = tuple[int, list[str]]
"""Number of a line, from 1 (Parquet: of a row below the names), and its fields without the spaces around them."""

_SEPARATORS = "\t;|,"  # of two that fit equally well the first: a comma stands in texts and numbers as well
_STATED_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's first line
_SAMPLE = 1 << 16
_CHUNK = 1 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_NOT_IN_1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x19]")
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class TableStream:
    """A table whose lines are read as they are asked for, once.

    Attributes:
        columns: their names, "" where one has none.
        header: number of the line they stand in.
        lines: the filled lines below; a line may hold more or fewer fields than there are columns.
        notes: what a reader should know: the encoding that was guessed, the sheet that was taken.
    """

    columns: tuple[str, ...]
    header: int
    lines: Iterator[Line]
    notes: tuple[str, ...] = ()

    def read_fields(self, column: int) -> Iterator[tuple[int, str]]:
        """Number of each line, and its field in one column; "" where the line is too short."""
        for number, fields in self.lines:
            yield number, fields[column] if column < len(fields) else ""


@dataclass(frozen=True)
class Table:
    """A table read whole.

    Attributes:
        columns, header, notes: as ``TableStream``.
        lines: number of a line -> as many fields as there are columns; other lines are among the problems.
        problems: sentences on uneven lines and repeated names, each with its cure.
    """

    columns: tuple[str, ...]
    header: int
    lines: dict[int, list[str]]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def read_table(path: Path, what: str) -> Table:
    """Reads a table: ``.csv``, ``.tsv``, ``.txt``, ``.xlsx``, ``.parquet`` or ``.jsonl``, told by what the file holds.

    Text may be separated by commas, semicolons, tabs or pipes, and be UTF-8, UTF-16 with a byte order mark, or
    Windows-1252 or Latin-1, which is noted. Lines above the names that begin with ``#``, a first line ``sep=;`` and
    empty lines are passed over.

    Args:
        path: the file.
        what: what it must be, in the words of a message.

    Raises:
        DataError: it cannot be read as a table; the message names the line.
    """
    stream = stream_table(path, what)
    lines, uneven, repeated_names = {}, [], []
    for number, fields in stream.lines:
        while len(fields) > len(stream.columns) and not fields[-1]:
            fields.pop()  # a spreadsheet's empty columns
        if tuple(fields) == stream.columns:
            repeated_names.append(str(number))  # of tables written one below the other
            continue
        lines[number] = fields
        if len(fields) != len(stream.columns):
            uneven.append(number)
    problems = _describe_uneven(stream, lines, uneven)
    repeated = Counter(name.casefold() for name in stream.columns if name)
    if twice := [name for name in stream.columns if repeated[name.casefold()] > 1]:
        problems.append(
            f"every column must have a name of its own, but {list_some(twice)} stand in line {stream.header} more than "
            "once: rename or remove one"
        )
    even = {number: fields for number, fields in lines.items() if len(fields) == len(stream.columns)}
    notes = [*stream.notes]
    if repeated_names:
        notes.append(f"line {list_some(repeated_names)} repeats the names of the columns and was passed over")
    return Table(stream.columns, stream.header, even, tuple(notes), tuple(problems))


def _describe_uneven(stream: TableStream, lines: dict[int, list[str]], uneven: list[int]) -> list[str]:
    if not uneven:
        return []
    if len(stream.columns) == 1 and 2 * len(uneven) > len(lines):
        return [
            f"the first line must hold the names of the columns, but line {stream.header} holds only "
            f"{stream.columns[0]!r}: remove what stands above the names"
        ]
    several = len(uneven) > 1
    return [
        f"every line must hold {len(stream.columns)} fields, as many as line {stream.header} has names, but "
        f"{'lines' if several else 'line'} {list_some([str(n) for n in uneven])} {'hold' if several else 'holds'} "
        "another number: put fields that hold the separator into quotation marks"
    ]


def stream_table(path: Path, what: str) -> TableStream:
    """As ``read_table``, line by line: memory stays flat however long a text or a Parquet file is."""
    try:
        file = as_file(path)  # read more than once
        kind = _find_kind(file)
        if kind == "parquet":
            stream = _open_parquet(file)
        elif kind == "excel":
            stream = _take_header(*_read_excel(file))
        elif kind == "json lines":
            stream = _open_json_lines(file)
        else:
            stream = _take_header(*_open_text(file))
    except DataError as error:
        raise _describe_failure(path, what, error) from None
    except Exception as error:  # whatever a broken file provokes in openpyxl and pyarrow
        raise _describe_failure(path, what, error) from None
    return TableStream(stream.columns, stream.header, _guard(path, what, stream.lines), stream.notes)


def stream_text_lines(path: Path, what: str) -> tuple[Iterator[str], tuple[str, ...]]:
    """Lines of a text file without their ends, and notes on its encoding; decoded as the text of tables is."""
    try:
        file = as_file(path)
        encoding, notes = _find_encoding(file)
    except (OSError, DataError) as error:
        raise _describe_failure(path, what, error) from None

    def read() -> Iterator[Line]:
        with open(file, encoding=encoding, newline="") as text:
            for number, line in enumerate(text, 1):
                yield number, [line.rstrip("\r\n")]

    return (fields[0] for _, fields in _guard(path, what, read())), notes


def holds_table(path: Path) -> bool:
    """Whether a file is a table by its suffix or, as Excel and Parquet are, by its first bytes; ``.txt`` may be a list."""
    suffix = path.suffix.lower()
    return (suffix in TABLE_SUFFIXES and suffix != ".txt") or _find_kind(as_file(path)) != "text"


def _guard(path: Path, what: str, lines: Iterable[Line]) -> Iterator[Line]:
    try:
        yield from lines
    except (
        OSError,
        ValueError,
        RecursionError,
        csv.Error,
    ) as error:  # DataError, UnicodeDecodeError and pyarrow's are ValueErrors
        raise _describe_failure(path, what, error) from None


def _describe_failure(path: Path, what: str, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return DataError(f"{path} must be {what}, but reading it failed: {reason}")


def _find_kind(path: Path) -> str:
    suffix = path.suffix.lower()
    with open(path, "rb") as file:
        start = file.read(8)
    if suffix in _FOREIGN:
        raise DataError(f"it is {_FOREIGN[suffix]}; save it as .xlsx or .csv")
    if start.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError(
            "it is an Excel file with a password or of the old kind; save it as .xlsx or .csv without one"
        )
    if start.startswith(b"PAR1"):
        return "parquet"
    if suffix == ".jsonl" or (not suffix and start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b'{"')):
        return "json lines"
    return "excel" if start.startswith(b"PK\x03\x04") else "text"


def _take_header(lines: Iterable[Line], notes: tuple[str, ...]) -> TableStream:
    """The first filled line that is no comment holds the names."""
    filled = ((number, fields) for number, fields in lines if any(fields))
    comments = []
    for number, fields in filled:
        if fields[0].startswith("#") and fields[0] != "#":  # a lone # is a name: of the column of numbers
            comments.append(str(number))
            continue
        while not fields[-1]:
            fields.pop()
        if comments:
            notes = (*notes, f"line {list_some(comments)} begins with # and was passed over")
        return TableStream(tuple(fields), number, filled, notes)
    return TableStream((), 1, filled, notes)


# --- text


def _open_text(path: Path) -> tuple[Iterator[Line], tuple[str, ...]]:
    encoding, notes = _find_encoding(path)
    with open(path, encoding=encoding, newline="") as text:
        sample = text.read(_SAMPLE)
    first = sample.splitlines()[0] if sample.strip() else ""
    stated = _STATED_SEPARATOR.fullmatch(first)
    separator = stated[1] if stated else _find_separator(sample, whole=len(sample) < _SAMPLE)

    def read() -> Iterator[Line]:
        with open(path, encoding=encoding, newline="") as text:
            above = 1 if stated and text.readline() else 0
            # Not pandas: it takes a surplus field for an index, or drops it, without an error.
            yield from _read_separated(text, separator, above)

    return read(), notes


def _read_separated(text: Iterable[str], separator: str, above: int) -> Iterator[Line]:
    reader = csv.reader(text, delimiter=separator, strict=True)
    number = above + 1
    try:
        for fields in reader:
            yield number, [from_cell(field.strip()) for field in fields]
            number = above + reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"line {number} cannot be read ({error}): a quotation mark that begins a field must end it, and one "
            'inside is written twice (""); correct it there'
        ) from None


def _find_separator(sample: str, whole: bool) -> str:
    """The separator of the names under which the lines below are even, and of several the one with most names."""
    fits = {}
    for separator in _SEPARATORS:
        lines: list[list[str]] = []
        with suppress(DataError):  # told when the lines are read
            lines += (fields for _, fields in _read_separated(io.StringIO(sample, newline=""), separator, 0))
        names, *rows = [
            fields for fields in lines if any(fields) and (fields[0] == "#" or fields[0][:1] != "#")
        ] or [[]]
        rows = rows if whole else rows[:-1]
        if len(names) > 1:
            even = sum(len(fields) == len(names) for fields in rows)
            fits[separator] = (even / max(len(rows), 1), len(names))
    return max(fits, key=fits.__getitem__, default=",")


def _find_encoding(path: Path) -> tuple[str, tuple[str, ...]]:
    """Encoding of a text file, and a note where it was guessed.

    Raises:
        DataError: it holds bytes that no text has.
    """
    utf8, unknown = codecs.getincrementaldecoder("utf-8")(), False
    is_utf8 = True
    with open(path, "rb") as file:
        for chunk in iter(partial(file.read, _CHUNK), b""):
            if file.tell() == len(chunk) and (bom := next((e for b, e in _BOMS if chunk.startswith(b)), "")):
                return bom, ()
            if _NO_TEXT.search(chunk):
                raise DataError("it holds bytes that are no text; save it as CSV UTF-8 or .xlsx")
            try:
                utf8.decode(chunk) if is_utf8 else None
            except UnicodeDecodeError:
                is_utf8 = False
            unknown = unknown or _NOT_IN_1252.search(chunk) is not None
    with suppress(UnicodeDecodeError):
        if is_utf8:
            utf8.decode(b"", final=True)
            return "utf-8", ()
    encoding, name = ("latin-1", "Latin-1") if unknown else ("cp1252", "Windows-1252 (Latin-1)")
    return encoding, (
        f"{path.name} is no UTF-8 and was read as {name}: look whether accents are right, else save it as CSV UTF-8",
    )


def _open_json_lines(path: Path) -> TableStream:
    encoding, notes = _find_encoding(path)

    def read() -> Generator[tuple[int, dict[str, Any]]]:
        with open(path, encoding=encoding) as text:
            for number, line in enumerate(text, 1):
                try:
                    row = json.loads(line) if line.strip() else {}
                except (ValueError, RecursionError) as error:  # more digits, or deeper, than Python reads
                    raise DataError(f"line {number} is no JSON ({error}); correct it") from None
                if not isinstance(row, dict):
                    raise DataError(f"line {number} is no JSON object; write one object a line")
                if row:
                    yield number, row

    with closing(read()) as rows:
        _, first = next(rows, (1, {}))
    columns = tuple(first)

    def in_order(row: dict[str, Any]) -> list[str]:
        more = [name for name in row if name not in first]
        return [_to_text(row.get(name)) for name in (*columns, *more)]

    return TableStream(columns, 1, ((number, in_order(row)) for number, row in read()), notes)


# --- Excel and Parquet


def _read_excel(path: Path) -> tuple[list[Line], tuple[str, ...]]:
    """Filled rows of the first sheet that can be seen."""
    with _open_sheets(path, data_only=True) as sheets:
        rows = [[_cell_text(cell) for cell in row] for row in _walk_rows(sheets[0])]
        content = _read_sheet_source(path, sheets[0])
        if re.search(rb"<f[ >]", content):
            _require_computed(path, sheets[0])
        first, *others = [sheet.title for sheet in sheets]
    width = max(map(len, rows), default=0)
    rows = [texts + [""] * (width - len(texts)) for texts in rows]
    notes = (
        [f"{path.name} has {len(others) + 1} sheets: only the first, {first!r}, was read"] if others else []
    )
    if merged := _fill_merged(rows, content):
        notes.append(
            f"{path.name} has cells merged over lines {list_some(merged)}: each of the lines has their value"
        )
    return [(number, texts) for number, texts in enumerate(rows, 1) if any(texts)], tuple(notes)


def _fill_merged(rows: list[list[str]], content: bytes) -> list[str]:
    """Gives every row that cells are merged over their value; which lines they span."""
    from openpyxl.utils.cell import range_boundaries

    spans = []
    for found in re.finditer(rb'<mergeCell [^>]*ref="([A-Z]+\d+:[A-Z]+\d+)"', content):
        bounds: Any = range_boundaries(found[1].decode())
        left, top, _, bottom = bounds
        if top < bottom <= len(rows) and left <= len(rows[0]):
            for row in rows[top:bottom]:
                row[left - 1] = rows[top - 1][left - 1]
            spans.append(f"{top} to {bottom}")
    return spans


@contextmanager
def _open_sheets(path: Path, data_only: bool) -> Iterator[list[Any]]:
    """The sheets that can be seen; what openpyxl thinks of a file's styles and lists is no matter of ours."""
    import openpyxl

    with warnings.catch_warnings(), open(path, "rb") as file:  # of a path, openpyxl believes the suffix
        warnings.simplefilter("ignore")
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=data_only)
        except (zipfile.BadZipFile, KeyError):
            raise DataError("it is no whole Excel file; save it as .xlsx or .csv again") from None
        with closing(book):
            sheets = [s for s in book.worksheets if s.sheet_state == "visible"] or list(book.worksheets)
            if not sheets:
                raise DataError("it has no sheet with cells; save the table as .xlsx or .csv")
            yield sheets


def _walk_rows(sheet: Any) -> Iterable[Sequence[Any]]:
    sheet.reset_dimensions()  # some programs write wrong ones
    return sheet.iter_rows()


def _read_sheet_source(path: Path, sheet: Any) -> bytes:
    """What openpyxl passes over when it reads row by row: merged cells, and whether there are formulas."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(sheet._worksheet_path)


def _require_computed(path: Path, sheet: Any) -> None:
    """A formula that no spreadsheet has computed yet reads as an empty cell."""
    with _open_sheets(path, data_only=False) as formulas:
        lines = [
            str(number)
            for number, (values, cells) in enumerate(
                zip(_walk_rows(sheet), _walk_rows(formulas[0]), strict=True), 1
            )
            # An empty text that was computed is of kind "str".
            if any(
                c.data_type == "f" and v.value is None and v.data_type == "n"
                for v, c in zip(values, cells, strict=True)
            )
        ]
    if lines:
        raise DataError(
            f"line {list_some(lines)} holds formulas whose results are not stored; open it in a spreadsheet and save "
            "it again"
        )


def _cell_text(cell: Any) -> str:
    text = from_cell(_to_text(cell.value))
    # 007 may be a 7 that is shown so.
    if text.isdigit() and not isinstance(cell.value, str) and re.fullmatch("0+", cell.number_format):
        return text.zfill(len(cell.number_format))
    return text


def _to_text(value: Any) -> str:
    """A stored value as a person would write it."""
    if value is None or value != value:  # not a number
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime):
        return (value.date() if value.time() == time() else value).isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return (json.dumps(value) if isinstance(value, (dict, list)) else str(value)).strip()


def _open_parquet(path: Path) -> TableStream:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if not _PANDAS_INDEX.fullmatch(name)]

    def read() -> Iterator[Line]:
        number = 0
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=names):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    if any(texts := [_to_text(value) for value in row]):
                        yield number, texts

    return TableStream(tuple(name.strip() for name in names), 0, read())
