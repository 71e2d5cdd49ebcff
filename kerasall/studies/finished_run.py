"""What the runs folder holds, in words: for ``kerasall runs`` and ``status``.

Finds what ``kerasall compare`` is given: runs by name, run folders, and files of predictions.

Where the trials of a designed experiment lie: in a project folder of keras-tuner, or inside a run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasall.errors import ArtifactError, DataError, SettingsError
from kerasall.evaluation.comparison import System
from kerasall.evaluation.predictions import read_predictions
from kerasall.files import read_json
from kerasall.paths import runs_folder
from kerasall.pipeline.artifacts import ArtifactStore
from kerasall.pipeline.metadata import MetadataStore
from kerasall.pipeline.runner import RunPlaces, RunResult, is_running

if TYPE_CHECKING:
    pass


def find_saved_model(text: str) -> tuple[str, Path]:
    """Name and SavedModel of a run by its name or folder, or of a path of SavedModels.

    Raises:
        ArtifactError: there is none, or the run has not exported one yet.
    """
    from kerasall.paths import runs_folder
    from kerasall.serving.predictor import newest_version

    root, path = runs_folder(), Path(text).expanduser()
    for folder in (root / text, path):
        if (folder / "run.json").is_file():
            return folder.name, _exported(folder)
    if path.is_dir():
        found = newest_version(path).absolute()
        return f"{found.parent.name}_{found.name}" if found.name.isdigit() else found.name, found
    known = sorted(p.parent.name for p in root.glob("*/run.json"))
    raise ArtifactError(
        f"{text!r} must be a folder of a SavedModel or a run in {root}, but is none; runs: {known}"
    )


def _exported(run: Path) -> Path:
    content = read_json(run / "run.json")
    for step in reversed(content["steps"]):
        for output in step["outputs"].values():
            found = Path(output["path"]) / "model"
            if output["type"] == "SavedModel" and (found / "saved_model.pb").is_file():
                return found
    raise ArtifactError(
        f"{run} must hold an exported model, but does not (the run is {content['state']}): finish it with `kerasall run`"
    )


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


_STATE = "oracle.json"

_DEPTH = 3

"""Folders below the one given in which a project is looked for."""


@dataclass(frozen=True)
class TrialFolder:
    """A project and where what is made from it goes.

    Attributes:
        project: folder with oracle.json and the trials.
        out: folder for trials.csv and trials.html; None where none may be written beside the project.
        title: name of the run or the project.
    """

    project: Path
    out: Path | None
    title: str


def find_trials(text: str, root: Path | None = None) -> TrialFolder:
    """Finds the trials of a run, finished or not, or of a folder.

    Args:
        text: name of a run, its folder, or a folder with one keras-tuner project in or below it.
        root: folder of runs; ``KERASALL_RUNS`` by default.

    Raises:
        ArtifactError: there are none, or several; the message says what there is.
    """
    folder = Path(text).expanduser().absolute()
    run = next((p for p in (folder, (root or runs_folder()) / text) if (p / "run.json").is_file()), None)
    if run is not None:
        return TrialFolder(_sole(_projects_of_run(run), run), run, run.name)
    if not folder.is_dir():
        raise ArtifactError(
            f"trials must be those of a run in {root or runs_folder()} or of a folder, but {text} is neither: "
            "`kerasall runs` lists the runs"
        )
    project = _sole(list(_projects_below(folder, _DEPTH)), folder)
    return TrialFolder(project, None if _is_artifact(project) else project, project.name)


def choose_out(found: TrialFolder, given: Path | None) -> Path:
    """The folder to write into.

    Raises:
        SettingsError: the project is part of an artifact, whose files must not change, and none is given.
    """
    if given is None and found.out is None:
        raise SettingsError(
            f"{found.project} is part of an artifact, in which nothing may be written: give --out, or the name of "
            "its run"
        )
    return given or found.out or Path()


def _projects_of_run(run: Path) -> list[Path]:
    """In what the steps left; of a step that has not ended, in what it leaves to go on from."""
    steps = read_json(run / "run.json")["steps"]
    outputs = [Path(output["path"]) for step in steps for output in step["outputs"].values()]
    found = [project for output in outputs for project in _projects_below(output, 1)]
    return found or [project for begun in _begun(run) for project in _projects_below(begun, 2)]


def _begun(run: Path) -> Iterator[Path]:
    places = RunPlaces(run.parent, run.name)
    if not places.metadata.exists():
        return
    metadata, artifacts = MetadataStore(places.metadata), ArtifactStore(places.artifacts)
    for row in metadata.runs():
        if row["name"] == run.name:
            for execution in metadata.executions(row["id"]):
                yield artifacts.folder(execution["component"], execution["key"]).with_suffix(".partial")


def _projects_below(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / _STATE).is_file():
        yield folder
    elif depth and folder.is_dir():
        for below in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from _projects_below(below, depth - 1)


def _sole(projects: list[Path], where: Path) -> Path:
    if len(projects) != 1:
        found = (
            f"{len(projects)}: {', '.join(map(str, projects[:6]))}: name one of them" if projects else "none"
        )
        raise ArtifactError(f"{where} must hold one designed experiment ({_STATE}), but holds {found}")
    return projects[0]


def _is_artifact(project: Path) -> bool:
    return any((parent / "artifact.json").is_file() for parent in project.parents[:3])


def list_runs(root: Path | None = None) -> list[dict[str, Any]]:
    """One row a run, newest first: name, experiment, state, started, main_score."""
    root = root or runs_folder()
    places = RunPlaces(root, "")
    if not places.metadata.exists():
        return []
    return [_row(root, row) for row in MetadataStore(places.metadata).runs()]


def describe_run(name: str, root: Path | None = None) -> dict[str, Any]:
    """State, steps and results of one run.

    Raises:
        ArtifactError: there is no such run; the message names those there are.
    """
    root = root or runs_folder()
    folder = root / name
    if not (folder / "run.json").is_file():
        known = sorted(p.parent.name for p in root.glob("*/run.json"))
        raise ArtifactError(f"there must be a run {name} in {root}, but there is none; runs: {known}")
    content = read_json(folder / "run.json")
    steps = [
        {"step": s["step"], "state": s["state"], "seconds": s["seconds"], "paths": _paths(s)}
        for s in content["steps"]
    ]
    return {
        "name": name,
        "experiment": content["experiment"],
        "state": _state(folder, content["state"]),
        "error": content["error"],
        "command": content["command"],
        "steps": steps,
        "results": _results(folder, {s["step"]: s["metrics"] for s in content["steps"]}),
    }


def summarize_result(result: RunResult) -> dict[str, str]:
    """What a person wants to read at the end of a run: score, verdict, and where things lie."""
    return _results(result.folder, result.metrics)


def _results(folder: Path, metrics: dict[str, dict[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    evaluated = metrics.get("ReportGen") or metrics.get(
        "Evaluator", {}
    )  # until 0.1.0 the Evaluator found the words
    if "main_score" in evaluated:
        found["score"] = evaluated["main_score"]
        found["missed"] = evaluated["malignant_called_benign"]
        found["verdict"] = evaluated["verdict"]
    if (folder / "report.html").is_file():
        found["report"] = str(folder / "report.html")
    pushed = metrics.get("Pusher")
    if pushed is not None:
        found["SavedModel"] = pushed.get("path") or "not pushed: the model was not blessed (see the report)"
    return found


def _row(root: Path, row: dict[str, Any]) -> dict[str, Any]:
    folder = root / row["name"]
    content = read_json(folder / "run.json") if (folder / "run.json").is_file() else {"steps": []}
    scores = _results(folder, {s["step"]: s["metrics"] for s in content["steps"]})
    return {
        "name": row["name"],
        "experiment": row["experiment"],
        "state": _state(folder, row["state"]),
        "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(row["started"])),
        "main_score": scores.get("score"),
    }


def _state(folder: Path, recorded: str) -> str:
    """A run that claims to be running while no process holds it was killed."""
    return "interrupted" if recorded == "running" and not is_running(folder) else recorded


def _paths(step: dict[str, Any]) -> list[str]:
    """Paths of a step's outputs; a missing one is marked."""
    paths = [output["path"] for output in step["outputs"].values()]
    return [path if Path(path).exists() else f"{path} (missing)" for path in paths]
