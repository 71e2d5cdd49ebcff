"""Predicting any number of files: one row a file, bad files listed and passed over, memory flat: two batches of files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kerasall.errors import DataError
from kerasall.evaluation.class_names import name_columns
from kerasall.files import atomic_path
from kerasall.serving.addresses import is_remote
from kerasall.serving.image_files import NameSet, as_written
from kerasall.serving.prediction_tables import Kind, PrintedTable, Row, Table, list_columns, to_rows
from kerasall.serving.predictor import Predictor
from kerasall.serving.table_files import open_table, require_destination

Advance = Callable[[int], None]
"""Told how many files were done or passed over, for a progress bar."""
Ask = Callable[[Iterable[str]], Iterator[list[Row]]]
"""Files, walked without being held -> a row of each, some at a time and in any order."""
SAME_MODEL = 1e-3
"""Largest difference in a probability that the same model on another machine may show."""


@dataclass(frozen=True)
class Answering:
    """A model that answers files, wherever it computes.

    Attributes:
        folder: of the SavedModel.
        labels: names of the classes.
        columns: of its rows, see ``list_columns``.
        ask: files -> rows.
        at_once: how many files keep it busy.
    """

    folder: Path
    labels: Sequence[str]
    columns: Mapping[str, Kind]
    ask: Ask
    at_once: int

    @classmethod
    def here(cls, predictor: Predictor, batch_size: int) -> Answering:
        """The model of this process, asked for so many files at a time."""

        def ask(names: Iterable[str]) -> Iterator[list[Row]]:
            for part, answers in predictor.answer_files(names, batch_size):
                yield to_rows(predictor, part, answers)

        return cls(predictor.folder, predictor.labels, list_columns(predictor), ask, batch_size)

    def in_order(self, names: Sequence[str]) -> list[Row]:
        """One row a file, in the order of the files."""
        found = {row["path"]: row for rows in self.ask(names) for row in rows}
        return [found[name] for name in names]


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
    model, names = Answering.here(predictor, batch_size), map(str, paths)
    if not isinstance(out, str | Path):
        return _predict(model, names, PrintedTable(out, model.columns, excel), advance)
    require_destination(out)
    out = Path(out)
    with atomic_path(out) as temporary:
        with open_table(temporary, model.columns, excel) as table:
            list(table.held())  # none: this makes the header
            failed = _predict(model, names, table, advance)
        if out.is_dir():
            shutil.rmtree(out)
    return failed


def resume_predictions(
    model: Predictor | Answering,
    names: Iterable[str],
    out: str | Path,
    *,
    batch_size: int = 32,
    advance: Advance = lambda count: None,
    excel: bool = False,
    parts: bool = False,
    part_rows: int | None = None,
) -> Tally:
    """As ``predict_files``, but goes on where ``out`` ends: files that it holds are passed over.

    Those that it holds an error of are tried again, for a disk that was away may be back; their rows keep their places.
    A few of the rows held are predicted again first, so that answers of two models never stand in one table.

    Args:
        model: the loaded model, or one that computes elsewhere.
        names: image files, each once; walked without being held.
        out: ``.csv`` or ``.jsonl`` file or folder of parts, or the address of such a folder; appended to.
        batch_size: files per call of a model that computes here.
        advance: told how many files were done or passed over.
        excel, parts, part_rows: as ``open_table``.

    Raises:
        DataError: ``out`` holds something else than this model's predictions, or is being written to.
    """
    if isinstance(model, Predictor):
        model = Answering.here(model, batch_size)
    held, failing, again, sample = NameSet(), NameSet(), NameSet(), []
    with open_table(out, model.columns, excel, parts, part_rows) as table:
        for row in table.held():
            held.add(row["path"])
            if row["error"]:
                failing.add(row["path"])
            else:  # the first ones, and then always the last
                sample = [*sample[:3], row]
        _require_same_model(model, sample, out)
        odd: dict[str, str] = {}  # names that are no UTF-8, by what stands for them
        for name in names if len(failing) else ():
            if name in failing:
                again.add(name)
                if (written := as_written(name)) != name:
                    odd[written] = name
        failed = len(failing) - len(again)
        failed += table.retry(
            again, lambda paths: model.in_order([odd.get(path, path) for path in paths]), model.at_once
        )
        fresh = Fresh(names, held, advance)
        failed += _predict(model, fresh, table, advance)
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


def _predict(model: Answering, names: Iterable[str], table: Table, advance: Advance) -> int:
    failed = 0
    for rows in model.ask(names):
        table.append(rows)
        failed += sum(bool(row["error"]) for row in rows)
        advance(len(rows))
    return failed


def _require_same_model(model: Answering, rows: Sequence[Row], out: str | Path) -> None:
    """Raises DataError where the model answers otherwise than rows of the table say."""
    known = [row for row in rows if is_remote(row["path"]) or Path(row["path"]).is_file()]
    for held, now in zip(known, model.in_order([row["path"] for row in known]), strict=True):
        far = [abs(float(held[name]) - (now[name] or 0.0)) for name in name_columns(model.labels)]
        if now["error"] and is_remote(held["path"]):
            continue  # it is away now
        if now["error"] or max(far) > SAME_MODEL:
            raise DataError(
                f"{out} must hold answers of this model to go on with, but says {held['label']} of {held['path']} "
                f"with other probabilities than {model.folder}: another model wrote it, or the image was "
                "changed; give another name, or --overwrite"
            )
