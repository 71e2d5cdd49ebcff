"""Predicting many files: one row a file, bad files listed and passed over, memory flat."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from kerasall.decoding import Limits, read_image_bytes
from kerasall.errors import DataError, DecodingError
from kerasall.files import atomic_path
from kerasall.serving.predictor import Predictor

IMAGE_SUFFIXES = (".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff")


def find_images(arguments: Sequence[str]) -> list[Path]:
    """Image files named by paths, folders (searched to the bottom) and glob patterns, each once.

    Raises:
        DataError: an argument matches nothing.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        matches = list(_matches(argument))
        if not matches:
            raise DataError(
                f"{argument} must name an image file, a folder with images ({', '.join(IMAGE_SUFFIXES)}) "
                "or a pattern that matches some, but matches nothing: correct the path"
            )
        found.update(dict.fromkeys(matches))
    return list(found)


def _matches(argument: str) -> Iterator[Path]:
    path = Path(argument)
    if path.is_dir():
        yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    elif path.exists():
        yield path
    else:
        yield from (Path(p) for p in sorted(glob.glob(argument, recursive=True)) if Path(p).is_file())


def predict_files(
    predictor: Predictor,
    paths: Sequence[Path],
    out: str | Path | IO[str],
    *,
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
) -> int:
    """Writes one row a file: path, label, one probability per class, error.

    Args:
        predictor: the loaded model.
        paths: image files.
        out: ``.csv`` or ``.jsonl`` file, written atomically, or an open text file (CSV).
        batch_size: files per call of the model; memory grows with this, not with the number of files.
        advance: told how many files were done, for a progress bar.

    Returns:
        How many files failed.
    """
    rows = _rows(predictor, paths, batch_size, advance)
    if not isinstance(out, str | Path):
        return _write_csv(rows, out, predictor.labels)
    writer = _WRITERS[require_destination(out).suffix.lower()]
    # A file name that is not UTF-8 must not cost the whole table.
    options = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    with atomic_path(out) as temporary, open(temporary, "w", **options) as file:
        return writer(rows, file, predictor.labels)


def require_destination(out: str | Path) -> Path:
    """Checks that predictions can be written to ``out``, before anything is predicted.

    Raises:
        DataError: another kind of file, a folder, or a place that cannot be written to.
    """
    out = Path(out)
    if out.suffix.lower() not in _WRITERS:
        raise DataError(f"predictions are written as {' or '.join(_WRITERS)}, but the path is {out}")
    if out.is_dir():
        raise DataError(f"predictions are written to a file, but {out} is a folder: give another name")
    existing = next(parent for parent in out.absolute().parents if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise DataError(f"predictions must go where they can be written, but {existing} is no such folder")
    return out


def _rows(
    predictor: Predictor, paths: Sequence[Path], batch_size: int, advance: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    waiting = iter(paths)
    while part := list(islice(waiting, batch_size)):
        contents, unread = zip(*(_read(path, predictor.limits) for path in part), strict=True)
        answers = predictor.predict(contents, [str(path) for path in part])
        for row, path in enumerate(part):
            error = unread[row] or answers.errors[row]
            yield _row(path, predictor.labels, answers.probabilities[row], answers.label_indices[row], error)
        advance(len(part))


def _read(path: Path, limits: Limits) -> tuple[bytes, str]:
    """A file's content and "", or b"" and what is wrong with it."""
    try:
        return read_image_bytes(path, limits), ""
    except DecodingError as error:
        return b"", str(error)


def _row(
    path: Path, labels: Sequence[str], probabilities: np.ndarray, index: int, error: str
) -> dict[str, Any]:
    values = {label: None if error else float(p) for label, p in zip(labels, probabilities, strict=True)}
    return {"path": str(path), "label": "" if error else labels[index], **values, "error": error}


def _write_csv(rows: Iterable[dict[str, Any]], file: IO[str], labels: Sequence[str]) -> int:
    writer = csv.writer(file)
    writer.writerow(["path", "label", *labels, "error"])
    failed = 0
    for row in rows:
        shown = ["" if row[label] is None else f"{row[label]:.9f}" for label in labels]
        writer.writerow([row["path"], row["label"], *shown, row["error"]])
        failed += bool(row["error"])
    return failed


def _write_jsonl(rows: Iterable[dict[str, Any]], file: IO[str], labels: Sequence[str]) -> int:
    failed = 0
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        failed += bool(row["error"])
    return failed


_WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl}
