"""Tables of predictions on disk that grow row by row and can be gone on with: CSV, JSONL, Parquet parts.

A CSV or JSONL file is appended to in place: what it holds after a kill is every finished row and at most one
half-written last line, which is dropped. A Parquet table is a folder of numbered parts, each written
atomically: a kill costs the rows of the part that was not finished.

What a model says of image files, as rows of a table: one row a file, a bad file's with its error.

CSV and JSONL tables of predictions: written line by line, and read back up to the last whole line.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from kerasall.decoding import Limits, read_image_bytes
from kerasall.errors import DataError, DecodingError
from kerasall.evaluation.safeguards import REASONS
from kerasall.files import atomic_path, is_abandoned
from kerasall.serving.image_files import as_written
from kerasall.serving.predictor import Predictor

Row = dict[str, Any]

Kind = type[str] | type[float] | type[bool]

ReadBytes = Callable[[str, Limits], bytes]

"""Name of a file and limits -> its content; raises DecodingError."""


def predict_rows(predictor: Predictor, names: Sequence[str], read: ReadBytes | None = None) -> list[Row]:
    """One row a file, in order, with the columns of ``list_columns``; None where there is no answer.

    Args:
        predictor: the loaded model; all files go through one call of it.
        names: files.
        read: how to read one; default from a local disk.
    """
    return answer_rows(predictor, names, *read_files(names, predictor.limits, read))


def read_files(
    names: Sequence[str], limits: Limits, read: ReadBytes | None = None
) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """Contents of at least one file, and for each "" or what is wrong with it, its content being b"" then."""
    contents, unread = zip(*(_read(name, limits, read) for name in names), strict=True)
    return contents, unread


def answer_rows(
    predictor: Predictor, names: Sequence[str], contents: Sequence[bytes], unread: Sequence[str]
) -> list[Row]:
    """The rows of files that ``read_files`` read."""
    answers = predictor.predict(contents, names)
    rows = []
    extra = _list_extras(predictor)
    for number, name in enumerate(names):
        error = unread[number] or answers.errors[number]
        probabilities, index = answers.probabilities[number], answers.label_indices[number]
        found = _row(name, predictor.labels, probabilities, index, error)
        values = {} if error else {key: every[number] for key, every in answers.extras.items()}
        rows.append(found | _extras(extra, predictor.labels, values))
    return rows


def list_columns(predictor: Predictor) -> dict[str, Kind]:
    """Columns of a table of predictions and what stands in them.

    ``path``, ``label``, one probability per class, ``error``; then what the model says besides its answer,
    nothing of models exported without: ``calibrated_<class>`` probabilities; ``prediction_set``, the classes
    that cannot be ruled out, joined by "|"; ``domain_distance`` to the training images; ``refer``, whether
    an expert should look; and ``refer_reason`` in words.
    """
    classes: dict[str, Kind] = dict.fromkeys(predictor.labels, float)
    return {"path": str, "label": str, **classes, "error": str, **_list_extras(predictor)}


def _list_extras(predictor: Predictor) -> dict[str, Kind]:
    columns: dict[str, Kind] = {}
    if "calibrated_probabilities" in predictor.output_shapes:
        columns |= dict.fromkeys((f"calibrated_{label}" for label in predictor.labels), float)
    return columns | {name: kind for name, (kind, _) in _EXTRAS.items() if name in predictor.output_shapes}


_EXTRAS: dict[str, tuple[Kind, Callable[[Any, Sequence[str]], Any]]] = {
    "prediction_set": (str, lambda members, labels: "|".join(np.asarray(labels)[members])),
    "domain_distance": (float, lambda distance, _: float(distance)),
    "refer": (bool, lambda refer, _: bool(refer)),
    "refer_reason": (str, lambda code, _: REASONS[int(code)]),
}

"""Output of the model -> kind of its column, and what stands there, from one image's value and the labels."""


def _read(name: str, limits: Limits, read: ReadBytes | None) -> tuple[bytes, str]:
    """A file's content and "", or b"" and what is wrong with it."""
    try:
        return (read or _read_local)(name, limits), ""
    except DecodingError as error:
        return b"", str(error)


def _read_local(name: str, limits: Limits) -> bytes:
    return read_image_bytes(Path(name), limits)


def _row(name: str, labels: Sequence[str], probabilities: np.ndarray, index: int, error: str) -> Row:
    values = {label: None if error else float(p) for label, p in zip(labels, probabilities, strict=True)}
    return {"path": name, "label": "" if error else labels[index], **values, "error": error}


def _extras(columns: Mapping[str, Kind], labels: Sequence[str], values: Mapping[str, np.ndarray]) -> Row:
    """Column -> value of one image; None in every column of a bad one."""
    found: Row = dict.fromkeys(columns)
    for name, value in values.items():
        if name == "calibrated_probabilities":
            found |= {f"calibrated_{label}": float(p) for label, p in zip(labels, value, strict=True)}
        elif name in found:
            found[name] = _EXTRAS[name][1](value, labels)
    return found


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


PARQUET = ".parquet"

SUFFIXES = (*TEXT_FORMATS, PARQUET)

PART_ROWS = 5_000

"""Rows of one Parquet part: held in memory until it is written, and what a kill costs."""


class Table(Protocol):
    """A table that rows are added to."""

    def held(self) -> Iterator[Mapping[str, Any]]:
        """The rows that it held when opened, read one after another; to be exhausted before any is added."""
        ...

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows."""
        ...

    def finish(self) -> None:
        """Writes what is still in memory, safely on disk."""
        ...


def require_destination(out: str | Path) -> Path:
    """Checks that predictions can be written to ``out``, before anything is predicted.

    Raises:
        DataError: another kind of file, a folder, or a place that cannot be written to.
    """
    out = Path(out)
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"predictions are written as {', '.join(SUFFIXES[:-1])} or {PARQUET}, but the path is {out}"
        )
    if suffix == PARQUET and out.exists() and not out.is_dir():
        raise DataError(
            f"Parquet predictions are written to a folder of parts, but {out} is a file: give another name"
        )
    if suffix != PARQUET and out.is_dir():
        raise DataError(f"predictions are written to a file, but {out} is a folder: give another name")
    existing = next(parent for parent in out.absolute().parents if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise DataError(f"predictions must go where they can be written, but {existing} is no such folder")
    return out


@contextmanager
def open_table(out: str | Path, columns: Mapping[str, Kind]) -> Iterator[Table]:
    """Opens a table to go on with, or makes an empty one; nobody else can write to it meanwhile.

    Args:
        out: ``.csv`` or ``.jsonl`` file, or ``.parquet`` folder.
        columns: columns and their kinds, in order.

    Raises:
        DataError: ``out`` holds something else, or another process is writing to it.
    """
    out = require_destination(out)
    if out.suffix.lower() == PARQUET:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY)
        try:
            _lock(descriptor, out)
            yield _ParquetTable(out, columns)
        finally:
            os.close(descriptor)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "a+b") as file:
        _lock(file.fileno(), out)
        yield _TextTable(out, file, TEXT_FORMATS[out.suffix.lower()], list(columns))


def _lock(descriptor: int, out: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(
            f"only one process may write to {out}, but another does: wait for it to end"
        ) from None


def make_schema(columns: Mapping[str, Kind]) -> Any:
    """The ``pyarrow.Schema`` of a table of predictions."""
    import pyarrow

    kinds = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    return pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])


def as_utf8(row: Row) -> Row:
    """A row whose texts Parquet can hold: a file name need not be UTF-8."""
    return {**row, "path": as_written(row["path"]), "error": as_written(row["error"])}


class _TextTable:
    def __init__(self, path: Path, file: BinaryIO, form: TextFormat, columns: list[str]) -> None:
        self._path, self._file, self._form, self._columns = path, file, form, columns

    def held(self) -> Iterator[Mapping[str, Any]]:
        header = encode(self._form.header(self._columns))
        self._file.seek(0)
        whole = 0
        for row, end in self._form.read(self._file, self._path, self._columns):
            whole = end
            yield row
        # A table without rows is begun anew: its header may be half-written too.
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)
        if not whole:
            self._file.write(header)

    def append(self, rows: Sequence[Row]) -> None:
        self._file.write(b"".join(encode(self._form.line(row, self._columns)) for row in rows))
        self._file.flush()

    def finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


class _ParquetTable:
    def __init__(self, folder: Path, columns: Mapping[str, Kind]) -> None:
        self._folder = folder
        self._schema = make_schema(columns)
        self._waiting: list[Row] = []
        for path in folder.iterdir():
            if is_abandoned(path):
                path.unlink()

    def held(self) -> Iterator[Mapping[str, Any]]:
        import pyarrow.parquet

        for part in self._parts():
            try:
                file = pyarrow.parquet.ParquetFile(part)
            except (OSError, pyarrow.ArrowInvalid) as error:
                raise DataError(
                    f"{part} must be a Parquet file, but reading it failed ({error}): remove it"
                ) from None
            with file:
                if not file.schema_arrow.equals(self._schema):
                    raise DataError(
                        f"{part} must hold this model's columns, {', '.join(self._schema.names)}, but holds "
                        f"{', '.join(file.schema_arrow.names)}: give another name, or --overwrite"
                    )
                for batch in file.iter_batches(batch_size=1024):
                    yield from batch.to_pylist()

    def append(self, rows: Sequence[Row]) -> None:
        self._waiting.extend(map(as_utf8, rows))
        if len(self._waiting) >= PART_ROWS:
            self.finish()

    def finish(self) -> None:
        import pyarrow.parquet

        if self._waiting or not self._parts():
            table = pyarrow.Table.from_pylist(self._waiting, self._schema)
            with atomic_path(self._folder / f"part-{len(self._parts()):05d}.parquet") as temporary:
                pyarrow.parquet.write_table(table, temporary)
            self._waiting.clear()

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("part-*.parquet"))
