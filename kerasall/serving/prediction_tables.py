"""Tables of predictions that grow row by row and can be gone on with: their rows, CSV and JSON lines, one file of these.

A row says what a model says of one image file; a bad file's has the error, and may be tried again. Where a table lies:
``kerasall.serving.table_files``.
"""

from __future__ import annotations

import codecs
import csv
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from kerasall.csv_tables import LINE_END, csv_line, csv_rows
from kerasall.errors import DataError
from kerasall.evaluation.class_names import EXTRA_COLUMNS, calibrated_column, join_set, name_columns
from kerasall.evaluation.safeguards import REASONS
from kerasall.files import atomic_path
from kerasall.serving.image_files import NameSet, as_written
from kerasall.serving.predictor import Answers, Predictor
from kerasall.shown_text import one_line

PARQUET = ".parquet"
_CHUNK = 1 << 20

Row = dict[str, Any]
Answer = Callable[[Sequence[str]], Sequence[Row]]
"""Files by their paths in a table -> one row each."""
Kind = type[str] | type[float] | type[bool]

_EXTRAS: dict[str, tuple[Kind, Callable[[Any, Sequence[str]], Any]]] = dict(
    zip(
        EXTRA_COLUMNS,
        (
            (str, lambda members, labels: join_set(np.asarray(labels)[members])),
            (float, lambda distance, _: float(distance)),
            (bool, lambda refer, _: bool(refer)),
            (str, lambda code, _: REASONS[int(code)]),
        ),
        strict=True,
    )
)
"""Output of the model -> kind of its column, and what stands there, from one image's value and the labels."""


def list_columns(predictor: Predictor) -> dict[str, Kind]:
    """Columns of a table of predictions and what stands in them.

    ``path``, ``label``, one probability per class, ``error``; then what the model says besides its answer,
    nothing of models exported without: ``calibrated_<class>`` probabilities; ``prediction_set``, the classes
    that cannot be ruled out, joined by "|"; ``domain_distance`` to the training images; ``refer``, whether
    an expert should look; and ``refer_reason`` in words.
    """
    outputs = predictor.output_shapes
    classes: dict[str, Kind] = dict.fromkeys(name_columns(predictor.labels), float)
    calibrated: dict[str, Kind] = {}
    if "calibrated_probabilities" in outputs:
        calibrated = dict.fromkeys(map(calibrated_column, predictor.labels), float)
    extras = {name: kind for name, (kind, _) in _EXTRAS.items() if name in outputs}
    return {"path": str, "label": str, **classes, "error": str, **calibrated, **extras}


def to_rows(predictor: Predictor, names: Sequence[str], answers: Answers) -> list[Row]:
    """One row a file, in order, with the columns of ``list_columns``; None where there is no answer."""
    empty = dict.fromkeys(list_columns(predictor)) | {"label": ""}
    rows = []
    for number, (name, error) in enumerate(zip(names, answers.errors, strict=True)):
        said = {} if error else _say(predictor.labels, answers, number)
        rows.append({**empty, "path": name, "error": error, **said})
    return rows


def _say(labels: Sequence[str], answers: Answers, number: int) -> Row:
    row: Row = {"label": labels[answers.label_indices[number]]}
    row |= zip(name_columns(labels), answers.probabilities[number].tolist(), strict=True)
    for name, values in answers.extras.items():
        if name == "calibrated_probabilities":
            row |= zip(map(calibrated_column, labels), values[number].tolist(), strict=True)
        elif name in _EXTRAS:
            row[name] = _EXTRAS[name][1](values[number], labels)
    return row


def encode(text: str) -> bytes:
    """UTF-8; a file name that is none must not cost the whole table, and is written with escapes."""
    return text.encode("utf-8", "backslashreplace")


class TextFormat:
    """One way to write rows as lines and to read them back.

    Args:
        columns: of every row, in order.

        excel: whether Excel shall know it for UTF-8 when it is opened, by a byte order mark.

    Attributes:
        header: what stands before the first row.
        mark: what a file begins with, before the header: of one that was read, what is there.
    """

    header = ""

    def __init__(self, columns: Iterable[str], excel: bool = False) -> None:
        self.columns = list(columns)
        self.mark = codecs.BOM_UTF8 if excel else b""

    def line(self, row: Row) -> str:
        """A row's line, with its end."""
        raise NotImplementedError

    def read(self, file: BinaryIO, path: Path) -> Iterator[tuple[Row, int]]:
        """The whole rows in an open file, as text or JSON values, and the number of bytes up to each row's end.

        A half-written last row is left out.

        Raises:
            DataError: the file is no such table; ``path`` is named.
        """
        raise NotImplementedError

    def _foreign(self, path: Path, found: str) -> DataError:
        return DataError(
            f"{path} must be a table of this model's predictions to go on with, with the columns "
            f"{', '.join(self.columns)}, but it {found}: give another name, or --overwrite"
        )


class _Csv(TextFormat):
    def __init__(self, columns: Iterable[str], excel: bool = False) -> None:
        super().__init__(columns, excel)
        self.header = csv_line(self.columns)

    def line(self, row: Row) -> str:
        return csv_line(_shown(row[column]) for column in self.columns)

    def read(self, file: BinaryIO, path: Path) -> Iterator[tuple[Row, int]]:
        header, first = encode(self.header), file.read(len(codecs.BOM_UTF8))
        if codecs.BOM_UTF8.startswith(first):
            if first != codecs.BOM_UTF8:
                return  # empty, or killed within the mark
            self.mark = first
        else:
            self.mark = b""
            file.seek(0)
        start = file.read(len(header))
        if start != header:
            if header.startswith(start):
                return  # killed within the header
            raise self._foreign(path, "does not begin with these columns")
        lines = _Lines(file, len(self.mark) + len(header))
        try:
            for fields in csv_rows(lines, strict=True):
                if len(fields) != len(self.columns):
                    found = f"has {len(fields)} fields in a row that ends at byte {lines.offset}"
                    raise self._foreign(path, found)
                yield dict(zip(self.columns, fields, strict=True)), lines.offset
        except csv.Error as error:
            if lines.at_end:
                return  # killed within a quoted field that holds a line break
            raise self._foreign(path, f"cannot be read behind byte {lines.offset} ({error})") from None
        except UnicodeDecodeError:
            raise self._foreign(path, f"holds no text before byte {lines.offset}") from None


class _Jsonl(TextFormat):
    def line(self, row: Row) -> str:
        return json.dumps(row, ensure_ascii=False) + "\n"

    def read(self, file: BinaryIO, path: Path) -> Iterator[tuple[Row, int]]:
        lines = _Lines(file)
        for line in lines:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            if not isinstance(row, dict) or list(row) != self.columns:
                raise self._foreign(path, f"holds another line before byte {lines.offset}")
            yield row, lines.offset
        start = encode(json.dumps({self.columns[0]: ""}))[:-2]
        if not lines.rest.startswith(start[: len(lines.rest)]):
            raise self._foreign(path, "ends with something else")


TEXT_FORMATS: Mapping[str, type[TextFormat]] = {".csv": _Csv, ".jsonl": _Jsonl}
"""Every kind of text file that predictions can be written to."""
SUFFIXES = (*TEXT_FORMATS, PARQUET)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.9f}" if isinstance(value, float) else value or ""


class _Lines:
    """Whole lines of a file as text, and how far they were read; a last line without its end is left out."""

    def __init__(self, file: BinaryIO, offset: int = 0) -> None:
        self._file, self.offset = file, offset
        self.rest, self.at_end = b"", False

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            if not line.endswith(b"\n"):
                self.rest = line
                break
            self.offset += len(line)
            yield line.decode("utf-8")
        self.at_end = True


class Table:
    """A table that rows are added to; this one, without a file, holds none."""

    def held(self) -> Iterator[Row]:
        """The rows that it held when opened, read one after another; to be exhausted before any is added."""
        return iter(())

    def retry(self, names: NameSet, answer: Answer, batch_size: int) -> int:
        """Asks again for the rows of some files, and puts what changed in their place, all of it at once.

        Args:
            names: of files that it holds.
            answer: paths as they stand in the table -> new rows.
            batch_size: how many are asked for at once.

        Returns:
            How many still failed.
        """
        return 0

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows."""

    def finish(self) -> None:
        """Writes what is still in memory, safely on disk."""


class PrintedTable(Table):
    """CSV on a text stream, such as standard output; on a terminal every row is a line that is only seen."""

    def __init__(self, stream: IO[str], columns: Iterable[str], excel: bool = False) -> None:
        self._stream, self._form = stream, _Csv(columns)
        self._write(("\ufeff" if excel else "") + self._form.header)

    def append(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._write(self._form.line(row))

    def _write(self, line: str) -> None:
        self._stream.write(f"{one_line(line.removesuffix(LINE_END))}\n" if self._stream.isatty() else line)


def make_schema(columns: Mapping[str, Kind]) -> Any:
    """The ``pyarrow.Schema`` of a table of predictions."""
    import pyarrow

    kinds = {str: pyarrow.string(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    return pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])


def as_utf8(row: Row) -> Row:
    """A row whose texts Parquet can hold: a file name need not be UTF-8."""
    return {**row, "path": as_written(row["path"]), "error": as_written(row["error"])}


class TextTable(Table):
    def __init__(self, path: Path, file: BinaryIO, form: TextFormat) -> None:
        self._path, self._file, self._form = path, file, form
        self._mark, self._whole = form.mark, 0

    def held(self) -> Iterator[Row]:
        self._file.seek(0)
        whole = 0
        for row, end in self._form.read(self._file, self._path):
            self._whole = whole = end
            yield row
        # A table without rows is begun anew: its header may be half-written too.
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)
        if not whole:
            self._form.mark = self._mark
            self._file.write(self._mark + encode(self._form.header))

    def retry(self, names: NameSet, answer: Answer, batch_size: int) -> int:
        failed = 0

        def changes() -> Iterator[tuple[int, int, bytes]]:
            nonlocal failed
            self._file.seek(0)
            start, waiting = len(self._form.mark) + len(encode(self._form.header)), []
            for row, end in chain(self._form.read(self._file, self._path), [(None, 0)]):
                if row is not None and row["path"] in names:
                    waiting.append((row["path"], start, end))
                start = end
                if row is None or len(waiting) == batch_size:
                    for (_, first, last), new in zip(
                        waiting, answer([path for path, *_ in waiting]), strict=True
                    ):
                        failed += bool(new["error"])
                        line = encode(self._form.line(new))
                        if line != os.pread(self._file.fileno(), last - first, first):
                            yield first, last, line
                    waiting.clear()

        self._rewrite(changes() if len(names) else iter(()))
        return failed

    def _rewrite(self, changes: Iterator[tuple[int, int, bytes]]) -> None:
        """Writes other lines in the place of some, from byte to byte, in order, and the mark that was asked for."""
        first = next(changes, None)
        marked = self._mark if self._form.mark == b"" else b""
        if first is None and not marked:
            return
        stop: BaseException | None = None
        with atomic_path(os.path.realpath(self._path)) as temporary:  # a link stays one
            new = open(temporary, "x+b")  # noqa: SIM115 - written on after the rename, and closed with the table
            try:
                with suppress(OSError):  # who may read it stays as it was, where the disk knows rights
                    os.fchmod(new.fileno(), stat.S_IMODE(os.fstat(self._file.fileno()).st_mode))
                with suppress(
                    OSError
                ):  # where the disk has no locks, the held file of this name goes on to stand for it
                    fcntl.flock(new.fileno(), fcntl.LOCK_EX)  # before anybody else can find it
                new.write(marked)
                at = 0
                try:
                    for start, end, line in chain([first] if first else [], changes):
                        self._copy(new, at, start)
                        new.write(line)
                        at = end
                except BaseException as error:  # what was answered till then is kept
                    stop = error
                self._copy(new, at, self._whole)
                new.flush()
            except BaseException:
                new.close()
                raise
        self._file = new  # the old one stays open with its lock, until the table is closed
        if stop is not None:
            raise stop

    def _copy(self, new: BinaryIO, start: int, end: int) -> None:
        for at in range(start, end, _CHUNK):
            new.write(os.pread(self._file.fileno(), min(_CHUNK, end - at), at))

    def close(self) -> None:
        """Gives the file free for others."""
        self._file.close()

    def append(self, rows: Sequence[Row]) -> None:
        self._file.write(encode("".join(map(self._form.line, rows))))
        self._file.flush()

    def finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
