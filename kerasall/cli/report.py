"""The command ``kerasall report``. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kerasall.cli.console import JsonOption, print_found, require_place


def report(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a finished run, or its folder.")],
    checklist: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="claim, tripod, stard or stard-ai; repeat it for several."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            callback=require_place, help="Folder of checklist_NAME.html and .md; default the run's."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fill in a reviewers' checklist from a run, as a page and as Markdown: what it knows, and what the authors must state."""
    from kerasall.published.checklists import read_checklist
    from kerasall.studies.checklists.filled import fill_in
    from kerasall.studies.finished_run import Run

    names = dict.fromkeys(checklist)
    for name in names:  # a wrong name writes nothing
        read_checklist(name)
    run = Run.find(run_name)
    filled = [fill_in(run, name, out) for name in names]
    for each in filled:
        each.write()

    def lines() -> list[str]:
        return [
            line
            for each in filled
            for line in (*each.describe(), f"page:     {each.files[0]}", f"markdown: {each.files[1]}")
        ]

    print_found(as_json, [each.to_json() for each in filled], lines)
