"""Finds what ``kerasall compare`` is given: runs by name, run folders, and files of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kerasall.errors import ArtifactError, DataError
from kerasall.evaluation.predictions import read_predictions
from kerasall.evaluation.shared_images import System
from kerasall.files import read_json
from kerasall.paths import runs_folder

SUFFIXES = (".csv", ".npz")


def read_systems(given: Sequence[str], root: Path | None = None) -> list[System]:
    """Reads every system, and names them apart.

    Args:
        given: names of runs in ``root``, paths of run folders, or paths of predictions (.csv, .npz).
        root: the runs folder; by default ``kerasall.paths.runs_folder()``.

    Raises:
        ArtifactError: a run or file does not exist, or a run has no predictions yet.
        DataError: the same predictions are given twice, or a file does not hold predictions.
    """
    root = root or runs_folder()
    files = [find_predictions(text, root) for text in given]
    for number, file in enumerate(files):
        if file.resolve() in [other.resolve() for other in files[:number]]:
            raise DataError(f"compared systems must differ, but {given[number]} is given twice: name another")
    systems = [read_system(file) for file in files]
    names = [system.name for system in systems]
    return [
        replace(system, name=_longer_name(file)) if names.count(system.name) > 1 else system
        for system, file in zip(systems, files, strict=True)
    ]


def find_predictions(text: str, root: Path) -> Path:
    """The file of predictions that a run's name, a folder or a file stands for.

    Raises:
        ArtifactError: there is none; the message names the runs there are.
    """
    path = Path(text).expanduser()
    if path.suffix in SUFFIXES and path.is_file():
        return path
    for folder in (root / text, path):
        if folder.is_dir():
            return _predictions_in(folder)
    known = sorted(p.parent.name for p in root.glob("*/run.json"))
    raise ArtifactError(
        f"{text!r} must be a run in {root}, a run's folder or a file of predictions (.csv, .npz), but is none; "
        f"runs: {known}"
    )


def _predictions_in(folder: Path) -> Path:
    for suffix in reversed(SUFFIXES):  # .npz is exact
        if (file := folder / f"predictions{suffix}").is_file():
            return file
    state = (
        f"the run is {_read(folder / 'run.json').get('state')}"
        if (folder / "run.json").is_file()
        else "no run is there"
    )
    raise ArtifactError(
        f"{folder} must hold predictions.csv, but does not ({state}): finish the run, or name its predictions"
    )


def read_system(file: Path) -> System:
    """One system from its predictions, with what report.json and run.json beside them say of it."""
    report, run = _read(file.parent / "report.json"), _read(file.parent / "run.json")
    results = report.get("results", {})
    return System(
        name=file.parent.resolve().name if file.stem == "predictions" else file.stem,
        predictions=read_predictions(file),
        source=str(file),
        scored=str(results.get("scored") or ""),
        malignant=tuple(results["malignant"]) if "malignant" in results else None,
        fingerprint=str(results.get("fingerprint") or ""),
        split=_split_digest(run),
        main_metric=str(run.get("settings", {}).get("evaluate", {}).get("main_metric") or ""),
    )


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, or {} where there is no such file."""
    return read_json(path) if path.is_file() else {}


def _split_digest(run: dict[str, Any]) -> str:
    outputs = [output for step in run.get("steps", []) for output in step.get("outputs", {}).values()]
    return next((output["digest"] for output in outputs if output.get("type") == "Split"), "")


def _longer_name(file: Path) -> str:
    """Enough of the path to tell two files of one name apart."""
    parts = file.resolve().with_suffix("").parts
    kept = parts[-3:-1] if file.stem == "predictions" else parts[-2:]
    return "/".join(kept) + ("" if file.stem == "predictions" else file.suffix)
