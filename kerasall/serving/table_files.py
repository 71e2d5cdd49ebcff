"""Where a table of predictions lies: in one file that is appended to, or in a folder of numbered parts, here or at an address.

What one file holds after a kill is every finished row and at most one half-written last line, which is dropped. A part
is written whole or not at all: a kill costs the rows of the part that was not finished.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from kerasall.errors import DataError
from kerasall.files import atomic_path, is_abandoned, require_writable
from kerasall.locks import describe_holder, locked
from kerasall.serving.addresses import is_remote, open_system
from kerasall.serving.image_files import NameSet
from kerasall.serving.prediction_tables import (
    PARQUET,
    SUFFIXES,
    TEXT_FORMATS,
    Answer,
    Kind,
    Row,
    Table,
    TextTable,
    as_utf8,
    encode,
    make_schema,
)

PART_ROWS = 5_000
"""Rows of one part: held in memory until it is written, and what a kill costs."""


def require_destination(out: str | Path, parts: bool = False) -> None:
    """Checks that predictions can be written to ``out``, before anything is predicted.

    Args:
        out: path, or the address of a folder of parts.
        parts: whether a folder of parts is asked for, whatever the kind of file.

    Raises:
        DataError: another kind of file, or a folder where a file is meant, or the other way round.
        KerasallError: a place that cannot be written to.
    """
    suffix = Path(out).suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"predictions are written as {', '.join(SUFFIXES[:-1])} or {PARQUET}, but the path is {out}"
        )
    if is_remote(str(out)):
        open_system(str(out))
        return
    out, parts = Path(out), parts or suffix == PARQUET
    if parts and out.exists() and not out.is_dir():
        raise DataError(
            f"predictions are written to a folder of parts, but {out} is a file: give another name"
        )
    # An empty folder is one of no parts yet: what is left where a kill came first, or an --overwrite.
    if not parts and out.is_dir() and any(out.iterdir()) and not list(out.glob(f"part-*{suffix}")):
        raise DataError(f"predictions are written to a file, but {out} is a folder: give another name")
    require_writable(out, "the file of predictions")


@contextmanager
def open_table(
    out: str | Path,
    columns: Mapping[str, Kind],
    excel: bool = False,
    parts: bool = False,
    part_rows: int | None = None,
) -> Iterator[Table]:
    """Opens a table to go on with, or makes an empty one; nobody else on this disk can write to it meanwhile.

    It is finished at the end of the block, unless that fails.

    Args:
        out: ``.csv`` or ``.jsonl`` file, or the ``.csv``, ``.jsonl`` or ``.parquet`` folder of parts, or its address.
        columns: columns and their kinds, in order.
        excel: of a CSV file: whether it begins with a byte order mark, by which Excel knows it for UTF-8.
        parts: make a folder of parts of a ``.csv`` or ``.jsonl`` path too; what is there already stays what it is.
        part_rows: rows of a part, by default ``PART_ROWS``.

    Raises:
        DataError: ``out`` holds something else, or another process is writing to it.
    """
    require_destination(out, parts)
    suffix, part_rows = Path(out).suffix.lower(), part_rows or PART_ROWS
    if is_remote(str(out)):
        table = _PartsTable(_RemoteFolder(str(out), suffix), suffix, columns, part_rows)
        yield table
        table.finish()
        return
    out = Path(out)
    if parts or suffix == PARQUET or out.is_dir():
        out.mkdir(parents=True, exist_ok=True)
        with _alone_in(out):
            table = _PartsTable(_LocalFolder(out, suffix), suffix, columns, part_rows)
            yield table
            table.finish()
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "a+b") as file, _alone(file.fileno(), out):
        table = TextTable(out, file, TEXT_FORMATS[suffix](columns, excel))
        try:
            yield table
            table.finish()
        finally:
            table.close()


def clear_table(out: str | Path) -> None:
    """Removes a table of predictions; a folder of parts stays one, without any.

    Raises:
        DataError: it is a folder that holds something else, or another process is writing to it; then nothing is removed.
    """
    suffix = Path(out).suffix.lower()
    if is_remote(str(out)):
        _RemoteFolder(str(out), suffix).clear()
    elif (out := Path(out)).exists():
        with _alone_in(out):
            if out.is_dir():
                _LocalFolder(out, suffix).clear()
            else:
                out.unlink()


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    descriptor = os.open(out, os.O_RDONLY)
    try:
        with _alone(descriptor, out):
            yield
    finally:
        os.close(descriptor)


@contextmanager
def _alone(descriptor: int, out: Path) -> Iterator[None]:
    with locked(out, wait=False, descriptor=descriptor) as held:
        # Or another process put a new one in its place since it was opened.
        if not held or not os.path.samestat(os.fstat(descriptor), os.stat(out)):
            raise DataError(
                f"only one process may write to {out}, but another does{describe_holder(out)}: wait for it to end"
            )
        yield


class _Folder(Protocol):
    """A folder of parts, which go by their names."""

    def names(self) -> list[str]: ...
    def read(self, name: str) -> BinaryIO: ...
    def write(self, name: str, content: bytes) -> None: ...
    def path(self, name: str) -> Path: ...


class _LocalFolder:
    def __init__(self, folder: Path, suffix: str) -> None:
        self._folder, self._suffix = folder, suffix
        for path in folder.iterdir():
            if is_abandoned(path):
                path.unlink()

    def names(self) -> list[str]:
        return sorted((path.name for path in self._folder.glob(f"part-*{self._suffix}")), key=_number)

    def read(self, name: str) -> BinaryIO:
        return open(self._folder / name, "rb")

    def write(self, name: str, content: bytes) -> None:
        with atomic_path(self._folder / name) as temporary:
            temporary.write_bytes(content)

    def path(self, name: str) -> Path:
        return self._folder / name

    def clear(self) -> None:
        names = self.names()
        if foreign := sorted({path.name for path in self._folder.iterdir()} - set(names)):
            raise DataError(
                f"{self._folder} must hold nothing but {self._suffix} parts to be overwritten, but holds {foreign[0]}: "
                "give another name"
            )
        for name in names:
            (self._folder / name).unlink()


class _RemoteFolder:
    """An object is there whole or not at all; a disk by fsspec's ``file://`` promises less, and is not meant."""

    def __init__(self, address: str, suffix: str) -> None:
        self._address, self._suffix = address.rstrip("/"), suffix
        self._system, path = open_system(address)
        self._root = path.rstrip("/")

    def names(self) -> list[str]:
        self._system.invalidate_cache()
        try:
            found = self._system.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"{self._address} must be readable, but listing it failed: {error}") from None
        names = (path.rstrip("/").rpartition("/")[2] for path in found)
        parts = (name for name in names if name.startswith("part-") and name.endswith(self._suffix))
        return sorted(parts, key=_number)

    def read(self, name: str) -> BinaryIO:
        return self._system.open(f"{self._root}/{name}", "rb")

    def write(self, name: str, content: bytes) -> None:
        try:
            self._system.makedirs(self._root, exist_ok=True)
            self._system.pipe_file(f"{self._root}/{name}", content)
        except OSError as error:
            raise DataError(f"{self.path(name)} must be writable, but is not: {error}") from None

    def path(self, name: str) -> Path:
        return Path(self._address) / name  # only named in messages

    def clear(self) -> None:
        for name in self.names():
            self._system.rm_file(f"{self._root}/{name}")


class _PartsTable(Table):
    def __init__(self, folder: _Folder, suffix: str, columns: Mapping[str, Kind], part_rows: int) -> None:
        self._folder, self._suffix, self._part_rows = folder, suffix, part_rows
        self._form = _ParquetForm(columns) if suffix == PARQUET else _TextForm(suffix, columns)
        self._next = max((_number(name) + 1 for name in folder.names()), default=0)
        self._waiting: list[Row] = []

    def held(self) -> Iterator[Row]:
        for name in self._folder.names():
            with self._folder.read(name) as file:
                yield from self._form.read(file, self._folder.path(name))

    def retry(self, names: NameSet, answer: Answer, batch_size: int) -> int:
        failed = 0
        for name in self._folder.names() if len(names) else ():
            with self._folder.read(name) as file:
                rows = list(self._form.read(file, self._folder.path(name)))
            before = list(rows)
            meant = [at for at, row in enumerate(rows) if row["path"] in names]
            for first in range(0, len(meant), batch_size):
                places = meant[first : first + batch_size]
                for at, new in zip(places, answer([rows[at]["path"] for at in places]), strict=True):
                    failed += bool(new["error"])
                    rows[at] = as_utf8(new)
            content = self._form.write(rows)
            if content != self._form.write(before):
                self._folder.write(name, content)
        return failed

    def append(self, rows: Sequence[Row]) -> None:
        self._waiting.extend(map(as_utf8, rows))
        while len(self._waiting) >= self._part_rows:
            self._write(self._waiting[: self._part_rows])
            del self._waiting[: self._part_rows]

    def finish(self) -> None:
        if self._waiting or not self._next:
            self._write(self._waiting)
            self._waiting.clear()

    def _write(self, rows: Sequence[Row]) -> None:
        self._folder.write(f"part-{self._next:05d}{self._suffix}", self._form.write(rows))
        self._next += 1


def _number(name: str) -> int:
    digits = name.removeprefix("part-").partition(".")[0]
    if not digits.isdecimal():
        raise DataError(f"a part must be called part-NUMBER, but one is {name}: move it away")
    return int(digits)


class _TextForm:
    def __init__(self, suffix: str, columns: Mapping[str, Kind]) -> None:
        self._form = TEXT_FORMATS[suffix](columns)

    def read(self, file: BinaryIO, path: Path) -> Iterator[Row]:
        whole = len(encode(self._form.header))
        for row, end in self._form.read(file, path):
            whole = end
            yield row
        if whole != file.seek(0, os.SEEK_END):
            raise DataError(f"{path} must be a whole part, but ends within a row: remove it")

    def write(self, rows: Sequence[Row]) -> bytes:
        return encode("".join([self._form.header, *map(self._form.line, rows)]))


class _ParquetForm:
    def __init__(self, columns: Mapping[str, Kind]) -> None:
        self._schema = make_schema(columns)

    def read(self, file: BinaryIO, path: Path) -> Iterator[Row]:
        import pyarrow.parquet

        try:
            part = pyarrow.parquet.ParquetFile(file)
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise DataError(
                f"{path} must be a Parquet file, but reading it failed ({error}): remove it"
            ) from None
        if not part.schema_arrow.equals(self._schema):
            raise DataError(
                f"{path} must hold this model's columns, {', '.join(self._schema.names)}, but holds "
                f"{', '.join(part.schema_arrow.names)}: give another name, or --overwrite"
            )
        for batch in part.iter_batches(batch_size=1024):
            yield from batch.to_pylist()

    def write(self, rows: Sequence[Row]) -> bytes:
        import pyarrow.parquet

        written = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), self._schema), written)
        return written.getvalue()
