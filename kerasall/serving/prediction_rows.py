"""What a model says of image files, as rows of a table: one row a file, a bad file's with its error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.decoding import Limits, read_image_bytes
from kerasall.errors import DecodingError
from kerasall.evaluation.refer_reasons import REASONS
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
