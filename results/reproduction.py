"""Whether a row made from scratch gives what is kept of it: to the digit, or within the spread over seeds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.errors import KerasallError
from kerasall.files import read_object
from results.rows import Places, Row

Make = Callable[[Row, Places, Path], Mapping[str, Any]]

_SAME = ("scored", "images", "labels", "metrics", "confusion_matrix", "repeats")
"""What two results agree in to the digit, beside split and predictions."""


@dataclass(frozen=True)
class Verdict:
    """Whether a row was reproduced, and what was compared."""

    row: str
    same: bool
    words: str

    def __str__(self) -> str:
        return f"{self.row}: {'reproduced' if self.same else 'NOT REPRODUCED'}: {self.words}"


def reproduce(row: Row, places: Places, make: Make) -> Verdict:
    """Makes a row again, in a new folder of runs and results, and compares.

    The new folder is removed where the row was reproduced, and else kept to be looked at.

    Args:
        row: whose result is kept.
        places: where.
        make: makes a row at places, writes it into a folder and returns what it wrote.
    """
    kept = read_object(places.result(row.name))
    places.runs.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"check-{row.name}-", dir=places.runs))
    try:
        verdict = compare(kept, make(row, replace(places, runs=fresh), fresh / "results"))
    except KerasallError as error:
        verdict = Verdict(row.name, False, f"it failed: {error}")
    if verdict.same:
        shutil.rmtree(fresh)
        return verdict
    return replace(verdict, words=f"{verdict.words}; the new runs are kept in {fresh}")


def compare(kept: Mapping[str, Any], new: Mapping[str, Any]) -> Verdict:
    """What two results of one row say of each other.

    A row without ``deterministic: true`` passes where its main score, in every repetition, differs from the kept one by
    no more than the kept repetitions do among themselves (highest less lowest).
    """
    name, metric = kept["row"], kept.get("main_metric")
    if "study" in kept:
        same = _numbers(kept) == _numbers(new)
        return Verdict(name, same, "every number to the digit" if same else "its numbers differ")
    if kept["split"] != new["split"]:
        return Verdict(name, False, "the split is another")
    if all(kept[key] == new[key] for key in _SAME) and kept["predictions"] == new["predictions"]:
        return Verdict(
            name, True, f"to the digit: {metric} {kept['metrics'][metric]['value']:.6f}, every prediction"
        )
    elsewhere = [key for key in ("hardware", "versions") if kept[key] != new[key]]
    made = f" (made with other {' and '.join(elsewhere)})" if elsewhere else ""
    before, now = _values(kept, metric), _values(new, metric)
    said = f"{metric} {_list(now)}, kept {_list(before)}{made}"
    if kept["deterministic"]:
        return Verdict(name, False, f"it is deterministic, but gave {said}")
    if len(before) < 2:
        return Verdict(name, False, f"it states no spread over seeds, and gave {said}")
    spread = float(np.ptp(before))  # NaN where one is, as in what is compared with it: then nothing is inside
    inside = bool(np.max(np.abs(np.subtract(before, now))) <= spread + 1e-12)  # of the subtraction
    return Verdict(
        name, inside, f"{said}: {'within' if inside else 'beyond'} the spread over seeds, {spread:.4f}"
    )


def _numbers(study: Any) -> Any:
    """A study without what differs from one computation to the next, or from one checkout."""
    if isinstance(study, dict):
        elsewhere = ("hardware", "versions", "inputs", "commit", "load")
        return {
            key: _numbers(value)
            for key, value in study.items()
            if key not in elsewhere and not key.startswith(("seconds", "bytes"))
        }
    return [_numbers(each) for each in study] if isinstance(study, list) else study


def _values(result: Mapping[str, Any], metric: str | None) -> list[float]:
    """The main score of the system in every repetition; NaN where it is not defined, which is near to nothing."""
    values = [result["metrics"][metric]["value"]]
    if result["repeats"]:
        values = list(result["repeats"]["models"].values())[-1][metric]["values"]  # the system stands last
    return [float("nan") if value is None else value for value in values]


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
