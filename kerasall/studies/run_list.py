"""All runs in rows, and how far a live one is: from run.json, report.json and the step's own notes alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerasall.errors import ArtifactError, SettingsError
from kerasall.files import read_object
from kerasall.pipeline.runner import PROGRESS
from kerasall.studies.finished_run import Run, all_runs

ORDERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "started": lambda row: 0,
    "score": lambda row: (row["score"] is None, -(row["score"] or 0)),
    "name": lambda row: row["name"],
    "data": lambda row: (row["data"], row["name"]),
}
"""What runs may be sorted by -> what is compared; of equal ones the newest comes first."""


UNREADABLE = "unreadable"
"""State of a run whose record or numbers cannot be read."""


def list_runs(order: str = "started") -> list[dict[str, Any]]:
    """One row a run: name, experiment, state, started, main_score, data, source, labels, malignant, backbone, metric,
    scored, score, low, high, blessed, fault. What a run does not tell (yet) is None, or empty.

    A run whose record or numbers cannot be read is a row too: its state is ``unreadable``, its fault says why.

    Args:
        order: key of ``ORDERS``; the newest, or the best, first.

    Raises:
        SettingsError: there is no such order.
    """
    if order not in ORDERS:
        raise SettingsError(
            f"runs must be sorted by one of {', '.join(ORDERS)}, but by {order!r} was asked for"
        )
    newest = sorted(all_runs(), key=_begin_of, reverse=True)
    return sorted(map(_describe_run, newest), key=ORDERS[order])


def _begin_of(run: Run) -> float:
    return 0 if run.record_fault else run.record.get("started") or 0


_NOTHING: dict[str, Any] = {
    "experiment": None, "started": "", "main_score": None, "data": "", "source": None, "labels": [], "malignant": [],
    "backbone": "", "metric": None, "scored": None, "score": None, "low": None, "high": None, "blessed": None,
}  # fmt: skip


def _describe_run(run: Run) -> dict[str, Any]:
    fault = run.record_fault or run.numbers_fault
    if run.record_fault:
        return {"name": run.name, "state": UNREADABLE, **_NOTHING, "fault": fault}
    settings, results = run.settings, {} if fault else run.numbers.get("results") or {}
    data, started = settings.get("data") or {}, run.record.get("started")
    metric = (settings.get("evaluate") or {}).get("main_metric")
    found = results.get("metrics", {}).get(metric, {})
    return {
        "name": run.name, "experiment": run.record.get("experiment"), "state": UNREADABLE if fault else run.state,
        "started": "" if started is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(started)),
        "main_score": run.results.get("score"),
        "data": data.get("path") or data.get("source") or "", "source": data.get("source"),
        "labels": results.get("labels", []), "malignant": results.get("malignant", []),
        "backbone": "+".join(_backbones(settings)), "metric": metric, "scored": results.get("scored"),
        "score": found.get("value"), "low": found.get("low"), "high": found.get("high"),
        "blessed": results.get("blessed"), "fault": fault,
    }  # fmt: skip


def _backbones(settings: dict[str, Any]) -> list[str]:
    """Names of the backbones that an experiment trains or takes features from, each once."""
    features, sweep = settings.get("deep_features") or {}, settings.get("sweep") or {}
    members = [member["model"] for member in settings.get("members") or []]
    rows = members or features.get("extractors") or sweep.get("backbones") or [settings.get("model") or {}]
    return list(dict.fromkeys(row["backbone"] for row in rows if "backbone" in row))


def read_progress(run: Run) -> dict[str, Any]:
    """How far a run is that has not ended well.

    Returns:
        ``at``: step, number, steps, since, of the step that is or was at work, or None; and of a live run ``process``
        and ``host``, and ``progress``: what the step says of itself (``note_progress``), or None.
    """
    found: dict[str, Any] = {"at": run.record.get("at")}
    if run.state == "running":
        found |= {key: run.record.get(key) for key in ("process", "host", "started")}
        found["progress"] = _read_notes(run.folder / PROGRESS)
    return found


def _read_notes(file: Path) -> dict[str, Any] | None:
    try:
        found = read_object(file)
    except ArtifactError:  # the step has nothing to say, or has just ended
        return None
    return found if isinstance(found.get("doing"), str) else None
