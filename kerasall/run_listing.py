"""What the runs folder holds, in words: for ``kerasall runs`` and ``status``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from kerasall.errors import ArtifactError
from kerasall.files import read_json
from kerasall.paths import runs_folder
from kerasall.pipeline.metadata import MetadataStore
from kerasall.pipeline.runner import RunPlaces, RunResult, is_running


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
    evaluated = metrics.get("Evaluator", {})
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
