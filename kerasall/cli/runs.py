"""The commands ``kerasall runs`` and ``kerasall status``. Heavy imports stand inside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from kerasall.cli.console import JsonOption, print_found


def runs(as_json: JsonOption = False) -> None:
    """List the runs, newest first."""
    from kerasall.studies.finished_run import list_runs

    rows = list_runs()
    lines = [f"{r['name']:<28} {r['state']:<12} {r['started']}  {r['main_score'] or ''}" for r in rows]
    print_found(as_json, rows, lambda: lines or "No runs yet. Begin with: kerasall run demo")


def status(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, or its folder.")],
    as_json: JsonOption = False,
) -> None:
    """Show the steps of a run, what they left, and what is missing."""
    from kerasall.studies.finished_run import Run

    found = Run.find(run_name).describe()
    print_found(as_json, found, lambda: _describe(found))


def _describe(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['name']}: {found['state']}" + (f" ({found['error']})" if found["error"] else "")
    for step in found["steps"]:
        yield f"  {step['step']:<18} {step['state']:<9} {step['seconds']:8.1f} s  {', '.join(step['paths'])}"
    for label, path in found["results"].items():
        yield f"{label}: {path}"
