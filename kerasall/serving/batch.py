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
from kerasall.evaluation.refer import REASONS
from kerasall.files import atomic_path
from kerasall.serving.predictor import Predictor

IMAGE_SUFFIXES = (".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff")


def find_images(arguments: Sequence[str]) -> list[Path]:
    """Image files named by paths, folders (searched to the bottom) and glob patterns, each once.

    A link that leads nowhere counts as a file: it gets a row that says so, and is not passed over in silence.

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
        yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and _is_listed(p))
    elif path.exists() or path.is_symlink():
        yield path
    else:
        yield from (Path(p) for p in sorted(glob.glob(argument, recursive=True)) if _is_listed(Path(p)))


def _is_listed(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())


def predict_files(
    predictor: Predictor,
    paths: Sequence[Path],
    out: str | Path | IO[str],
    *,
    batch_size: int = 32,
    advance: Callable[[int], None] = lambda count: None,
) -> int:
    """Writes one row a file: path, label, one probability per class, error, and ``list_extras``.

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
    columns = ["path", "label", *predictor.labels, "error", *list_extras(predictor)]
    if not isinstance(out, str | Path):
        return _write_csv(rows, out, columns)
    writer = _WRITERS[require_destination(out).suffix.lower()]
    # A file name that is not UTF-8 must not cost the whole table.
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    with atomic_path(out) as temporary, open(temporary, "w", **options) as file:
        return writer(rows, file, columns)


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
            found = _row(
                path, predictor.labels, answers.probabilities[row], answers.label_indices[row], error
            )
            extras = {} if error else {name: values[row] for name, values in answers.extras.items()}
            yield found | _extras(list_extras(predictor), predictor.labels, extras)
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


def list_extras(predictor: Predictor) -> list[str]:
    """Columns after ``error``: what the model says besides its answer; none of models exported without.

    ``calibrated_<class>`` probabilities; ``prediction_set``, the classes that cannot be ruled out, joined
    by "|"; ``domain_distance`` to the training images; ``refer``, whether an expert should look; and
    ``refer_reason`` in words.
    """
    names = [f"calibrated_{label}" for label in predictor.labels]
    known = {"calibrated_probabilities": names} | {name: [name] for name in _EXTRAS}
    return [
        column for output, columns in known.items() if output in predictor.output_shapes for column in columns
    ]


_EXTRAS: dict[str, Callable[[Any, Sequence[str]], Any]] = {
    "prediction_set": lambda members, labels: "|".join(np.asarray(labels)[members]),
    "domain_distance": lambda distance, _: float(distance),
    "refer": lambda refer, _: bool(refer),
    "refer_reason": lambda code, _: REASONS[int(code)],
}
"""Output of the model -> what stands in its column, from one image's value and the labels."""


def _extras(columns: Sequence[str], labels: Sequence[str], values: dict[str, np.ndarray]) -> dict[str, Any]:
    """Column -> value of one image; None in every column of a bad one."""
    found: dict[str, Any] = dict.fromkeys(columns)
    for name, value in values.items():
        if name == "calibrated_probabilities":
            found |= {f"calibrated_{label}": float(p) for label, p in zip(labels, value, strict=True)}
        elif name in found:
            found[name] = _EXTRAS[name](value, labels)
    return found


def _write_csv(rows: Iterable[dict[str, Any]], file: IO[str], columns: Sequence[str]) -> int:
    writer = csv.writer(file)
    writer.writerow(columns)
    failed = 0
    for row in rows:
        writer.writerow([_shown(row[column]) for column in columns])
        failed += bool(row["error"])
    return failed


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.9f}" if isinstance(value, float) else value or ""


def _write_jsonl(rows: Iterable[dict[str, Any]], file: IO[str], _: Sequence[str]) -> int:
    failed = 0
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
        failed += bool(row["error"])
    return failed


_WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl}
