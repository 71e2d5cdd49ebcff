"""Predicting any number of files: one row a file, bad files listed and passed over, memory flat: two batches of files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from kerasall.errors import DataError
from kerasall.files import atomic_path
from kerasall.serving.image_files import NameSet, find_images
from kerasall.serving.prediction_tables import (
    TEXT_FORMATS,
    Row,
    Table,
    answer_rows,
    list_columns,
    open_table,
    predict_rows,
    read_files,
    require_destination,
)
from kerasall.serving.predictor import Predictor

__all__ = ["Tally", "find_images", "predict_files", "require_destination", "resume_predictions"]

SAME_MODEL = 1e-3
"""Largest difference in a probability that the same model on another machine may show."""


@dataclass(frozen=True)
class Tally:
    """What became of the files.

    Attributes:
        files: how many were named, each once.
        held: how many of them the table held already.
        failed: how many rows of the table have an error.
    """

    files: int
    held: int
    failed: int


def predict_files(
    predictor: Predictor,
    paths: Iterable[str | Path],
    out: str | Path | IO[str],
    *,
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
) -> int:
    """Writes one row a file: path, label, one probability per class, error, and what else the model says.

    Args:
        predictor: the loaded model.
        paths: image files, each once.
        out: ``.csv`` or ``.jsonl`` file or ``.parquet`` folder, replaced atomically, or an open text file
            (CSV).
        batch_size: files per call of the model; memory grows with this, not with the number of files.
        advance: told how many files were done, for a progress bar.

    Returns:
        How many files failed.
    """
    columns = list_columns(predictor)
    if not isinstance(out, str | Path):
        return _print_rows(predictor, paths, out, columns, batch_size, advance)
    out = require_destination(out)
    with atomic_path(out) as temporary, open_table(temporary, columns) as table:
        for _ in table.held():  # none: this makes the header
            pass
        failed = _predict(predictor, paths, table, batch_size, advance)
        table.finish()
        if out.is_dir():
            shutil.rmtree(out)
    return failed


def resume_predictions(
    predictor: Predictor,
    names: Iterable[str],
    out: str | Path,
    *,
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
) -> Tally:
    """As ``predict_files``, but goes on where ``out`` ends: files that it holds are passed over.

    A few of the rows held are predicted again first, so that answers of two models never stand in one table.

    Args:
        predictor: the loaded model.
        names: image files, each once; walked without being held.
        out: ``.csv`` or ``.jsonl`` file or ``.parquet`` folder, appended to.
        batch_size: files per call of the model.
        advance: told how many files were done or passed over.

    Raises:
        DataError: ``out`` holds something else than this model's predictions, or is being written to.
    """
    with open_table(out, list_columns(predictor)) as table:
        before = _Held()
        for row in table.held():
            before.add(row)
        before.require_answers_of(predictor, Path(out))
        counted = _Counted(names, before.names, advance)
        failed = _predict(predictor, counted, table, batch_size, advance)
        table.finish()
    return Tally(counted.files, counted.held, before.failed + failed)


@dataclass
class _Held:
    """What a table held when it was opened."""

    names: NameSet = field(default_factory=NameSet)
    failed: int = 0
    sample: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, row: Mapping[str, Any]) -> None:
        self.names.add(row["path"])
        if row["error"]:
            self.failed += 1
        else:  # the first ones, and then always the last
            self.sample = [*self.sample[:3], row]

    def require_answers_of(self, predictor: Predictor, out: Path) -> None:
        """Raises DataError where the model answers otherwise than the table says."""
        known = [row for row in self.sample if Path(row["path"]).is_file()]
        if not known:
            return
        for held, now in zip(known, predict_rows(predictor, [row["path"] for row in known]), strict=True):
            far = [abs(float(held[label]) - (now[label] or 0.0)) for label in predictor.labels]
            if now["error"] or max(far) > SAME_MODEL:
                raise DataError(
                    f"{out} must hold answers of this model to go on with, but says {held['label']} of {held['path']} "
                    f"with other probabilities than {predictor.folder}: another model wrote it, or the image was "
                    "changed; give another name, or --overwrite"
                )


class _Counted:
    """Names that a table does not hold, counted as they pass."""

    def __init__(self, names: Iterable[str], held: NameSet, advance: Callable[[int], None]) -> None:
        self._names, self._held, self._advance = names, held, advance
        self.files = self.held = 0

    def __iter__(self) -> Iterator[str]:
        for name in self._names:
            self.files += 1
            if name in self._held:
                self.held += 1
                self._advance(1)
            else:
                yield name


def _predict(
    predictor: Predictor,
    names: Iterable[str | Path],
    table: Table,
    batch_size: int,
    advance: Callable[[int], None],
) -> int:
    failed = 0
    for rows in _predicted(predictor, names, batch_size):
        table.append(rows)
        failed += sum(bool(row["error"]) for row in rows)
        advance(len(rows))
    return failed


def _predicted(predictor: Predictor, names: Iterable[str | Path], batch_size: int) -> Iterator[list[Row]]:
    """Rows of one batch after the other; while the model answers one, the files of the next are read."""
    waiting = map(str, names)
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as reader:
        part, reading = _begin_to_read(predictor, waiting, batch_size, reader)
        while part:
            contents, unread = reading.result()
            following, reading = _begin_to_read(predictor, waiting, batch_size, reader)
            yield answer_rows(predictor, part, contents, unread)
            part = following


def _begin_to_read(
    predictor: Predictor, waiting: Iterator[str], batch_size: int, reader: ThreadPoolExecutor
) -> tuple[list[str], Future]:
    part = list(islice(waiting, batch_size))
    return part, reader.submit(read_files, part, predictor.limits) if part else Future()


def _print_rows(
    predictor: Predictor,
    names: Iterable[str | Path],
    out: IO[str],
    columns: Sequence[str] | Mapping[str, Any],
    batch_size: int,
    advance: Callable[[int], None],
) -> int:
    form, order, failed = TEXT_FORMATS[".csv"], list(columns), 0
    out.write(form.header(order))
    for rows in _predicted(predictor, names, batch_size):
        out.writelines(form.line(row, order) for row in rows)
        failed += sum(bool(row["error"]) for row in rows)
        advance(len(rows))
    return failed
