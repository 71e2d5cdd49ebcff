"""Predicting any number of files: one row a file, bad files listed and passed over, memory flat: two batches of files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kerasall.errors import DataError
from kerasall.evaluation.class_names import name_columns
from kerasall.files import atomic_path
from kerasall.serving.image_files import NameSet, as_written
from kerasall.serving.prediction_tables import (
    PrintedTable,
    Row,
    Table,
    list_columns,
    open_table,
    require_destination,
    to_rows,
)
from kerasall.serving.predictor import Predictor, ReadBytes

Advance = Callable[[int], None]
"""Told how many files were done or passed over, for a progress bar."""
SAME_MODEL = 1e-3
"""Largest difference in a probability that the same model on another machine may show."""


@dataclass(frozen=True)
class Tally:
    """What became of the files.

    Attributes:
        files: how many were named, each once.
        held: how many of them the table held already.
        failed: how many rows of the table have an error.
        again: how many of those held had an error, and were tried again.
    """

    files: int
    held: int
    failed: int
    again: int = 0


def predict_files(
    predictor: Predictor,
    paths: Iterable[str | Path],
    out: str | Path | IO[str],
    *,
    batch_size: int = 32,
    advance: Advance = lambda count: None,
    excel: bool = False,
) -> int:
    """Writes one row a file: path, label, one probability per class, error, and what else the model says.

    Args:
        predictor: the loaded model.
        paths: image files, each once.
        out: ``.csv`` or ``.jsonl`` file or ``.parquet`` folder, replaced atomically, or an open text file
            (CSV).
        batch_size: files per call of the model; memory grows with this, not with the number of files.
        advance: told how many files were done.
        excel: begin a CSV with a byte order mark, by which Excel knows it for UTF-8.

    Returns:
        How many files failed.
    """
    columns = list_columns(predictor)
    if not isinstance(out, str | Path):
        return _predict(predictor, paths, PrintedTable(out, columns, excel), batch_size, advance)
    out = require_destination(out)
    with atomic_path(out) as temporary:
        with open_table(temporary, columns, excel) as table:
            list(table.held())  # none: this makes the header
            failed = _predict(predictor, paths, table, batch_size, advance)
        if out.is_dir():
            shutil.rmtree(out)
    return failed


def resume_predictions(
    predictor: Predictor,
    names: Iterable[str],
    out: str | Path,
    *,
    batch_size: int = 32,
    advance: Advance = lambda count: None,
    excel: bool = False,
) -> Tally:
    """As ``predict_files``, but goes on where ``out`` ends: files that it holds are passed over.

    Those that it holds an error of are tried again, for a disk that was away may be back; their rows keep their places.
    A few of the rows held are predicted again first, so that answers of two models never stand in one table.

    Args:
        predictor: the loaded model.
        names: image files, each once; walked without being held.
        out: ``.csv`` or ``.jsonl`` file or ``.parquet`` folder, appended to.
        batch_size: files per call of the model.
        advance: told how many files were done or passed over.
        excel: as ``predict_files``.

    Raises:
        DataError: ``out`` holds something else than this model's predictions, or is being written to.
    """
    held, failing, again, sample = NameSet(), NameSet(), NameSet(), []
    with open_table(out, list_columns(predictor), excel) as table:
        for row in table.held():
            held.add(row["path"])
            if row["error"]:
                failing.add(row["path"])
            else:  # the first ones, and then always the last
                sample = [*sample[:3], row]
        _require_same_model(predictor, sample, Path(out))
        odd: dict[str, str] = {}  # names that are no UTF-8, by what stands for them
        for name in names if len(failing) else ():
            if name in failing:
                again.add(name)
                if (written := as_written(name)) != name:
                    odd[written] = name
        failed = len(failing) - len(again)
        failed += table.retry(
            again, lambda paths: predict_rows(predictor, [odd.get(path, path) for path in paths]), batch_size
        )
        fresh = Fresh(names, held, advance)
        failed += _predict(predictor, fresh, table, batch_size, advance)
    return Tally(fresh.files, fresh.passed, failed, len(again))


class Fresh:
    """Names that are not held yet, counted as they pass.

    Args:
        names: each once.
        held: names to pass over.
        advance: told of each that is passed over.

    Attributes:
        files: how many there were so far.
        passed: how many of them were held.
    """

    def __init__(self, names: Iterable[str], held: NameSet, advance: Advance) -> None:
        self._names, self._held, self._advance = names, held, advance
        self.files = self.passed = 0

    def __iter__(self) -> Iterator[str]:
        for name in self._names:
            self.files += 1
            if name in self._held:
                self.passed += 1
                self._advance(1)
            else:
                yield name


def predict_rows(predictor: Predictor, names: Sequence[str], read: ReadBytes | None = None) -> list[Row]:
    """One row a file, in order, with the columns of ``list_columns``; None where there is no answer.

    Args:
        predictor: the loaded model; all files go through one call of it.
        names: files.
        read: how to read one; default from a local disk.
    """
    return to_rows(predictor, names, predictor.predict(predictor.read_files(names, read), names))


def _predict(
    predictor: Predictor, names: Iterable[str | Path], table: Table, batch_size: int, advance: Advance
) -> int:
    failed = 0
    for part, answers in predictor.answer_files(names, batch_size):
        table.append(to_rows(predictor, part, answers))
        failed += sum(map(bool, answers.errors))
        advance(len(part))
    return failed


def _require_same_model(predictor: Predictor, rows: Sequence[Row], out: Path) -> None:
    """Raises DataError where the model answers otherwise than rows of the table say."""
    known = [row for row in rows if Path(row["path"]).is_file()]
    for held, now in zip(known, predict_rows(predictor, [row["path"] for row in known]), strict=True):
        far = [abs(float(held[name]) - (now[name] or 0.0)) for name in name_columns(predictor.labels)]
        if now["error"] or max(far) > SAME_MODEL:
            raise DataError(
                f"{out} must hold answers of this model to go on with, but says {held['label']} of {held['path']} "
                f"with other probabilities than {predictor.folder}: another model wrote it, or the image was "
                "changed; give another name, or --overwrite"
            )
