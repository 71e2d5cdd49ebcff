"""Tables of predictions on disk that grow row by row and can be gone on with: CSV, JSONL, Parquet parts.

A CSV or JSONL file is appended to in place: what it holds after a kill is every finished row and at most one
half-written last line, which is dropped. A Parquet table is a folder of numbered parts, each written
atomically: a kill costs the rows of the part that was not finished.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from kerasall.errors import DataError
from kerasall.files import atomic_path, is_abandoned
from kerasall.serving.image_files import as_written
from kerasall.serving.prediction_rows import Kind, Row
from kerasall.serving.text_tables import TEXT_FORMATS, TextFormat, encode

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
