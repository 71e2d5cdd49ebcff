"""Systems to compare, from runs or files of predictions, and the page of their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kerasall.errors import DataError
from kerasall.evaluation.comparison import System, SystemComparison
from kerasall.evaluation.predictions import read_predictions
from kerasall.paths import as_file_name, runs_folder
from kerasall.report.page import write_page
from kerasall.report.pages.comparison import make_comparison_page
from kerasall.studies.finished_run import RECORD, Run, predictions_in

_MOST_NAMED = 3


def read_systems(given: Sequence[str]) -> list[System]:
    """Reads every system, and names them apart.

    Args:
        given: what ``Run.find`` takes; files of predictions (.csv, .npz); or folders that hold one, as an external
            check leaves them.

    Raises:
        ArtifactError: a run or file does not exist, or a run has no predictions yet.
        DataError: the same predictions are given twice, or a file does not hold predictions.
    """
    files = [find_predictions(text) for text in given]
    for number, file in enumerate(files):
        if file.resolve() in [other.resolve() for other in files[:number]]:
            raise DataError(f"compared systems must differ, but {given[number]} is given twice: name another")
    systems = [_read_system(file) for file in files]
    names = [system.name for system in systems]
    return [
        replace(system, name=_longer_name(file)) if names.count(system.name) > 1 else system
        for system, file in zip(systems, files, strict=True)
    ]


def find_predictions(text: str) -> Path:
    """The file of predictions that an argument stands for.

    Raises:
        ArtifactError: there is none; the message names the runs there are.
    """
    path = Path(text).expanduser()
    if path.suffix in (".csv", ".npz") and path.is_file():
        return path
    for folder in (runs_folder() / text, path):
        if not (folder / RECORD).is_file() and (found := predictions_in(folder)):
            return found
    return Run.find(text).predictions_file


def write_comparison(found: SystemComparison, folder: Path | None, command: str) -> Path:
    """Writes report.html and report.json, by default into ``comparisons/A_vs_B`` below the runs folder."""
    folder = folder or default_folder([system.name for system in found.systems])
    return write_page(folder, make_comparison_page(found, command))


def default_folder(names: Sequence[str]) -> Path:
    """``comparisons/A_vs_B`` below the runs folder; of many systems the first three are named."""
    kept = [as_file_name(name, "system") for name in names[:_MOST_NAMED]]
    more = [f"{len(names) - _MOST_NAMED}_more"] if len(names) > _MOST_NAMED else []
    return runs_folder() / "comparisons" / "_vs_".join([*kept, *more])


def _read_system(file: Path) -> System:
    """One system from its predictions, with what report.json and run.json beside them say of it."""
    run = Run(file.parent)
    results: dict[str, Any] = run.numbers.get("results", {})
    split = next((output["digest"] for output in run.outputs if output.get("type") == "Split"), "")
    return System(
        name=file.parent.resolve().name if file.stem == "predictions" else file.stem,
        predictions=read_predictions(file), source=str(file), scored=str(results.get("scored") or ""),
        malignant=tuple(results["malignant"]) if "malignant" in results else None,
        fingerprint=str(results.get("fingerprint") or ""), split=split,
        main_metric=str(run.settings.get("evaluate", {}).get("main_metric") or ""),
    )  # fmt: skip


def _longer_name(file: Path) -> str:
    """Enough of the path to tell two files of one name apart."""
    parts = file.resolve().with_suffix("").parts
    kept = parts[-3:-1] if file.stem == "predictions" else parts[-2:]
    return "/".join(kept) + ("" if file.stem == "predictions" else file.suffix)
