"""The command ``kerasall compare``. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kerasall.cli.console import JsonOption, note, print_found, require_place, spell


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Names of runs, run folders, or predictions (.csv, .npz)."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            callback=require_place,
            help="Folder of report.html and report.json; default runs/comparisons/A_vs_B.",
        ),
    ] = None,
    members: Annotated[
        bool,
        typer.Option(
            "--members", help="Compare the members of RUN, of each where several are named, and the ensemble."
        ),
    ] = False,
    as_json: JsonOption = False,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", metavar="NAME", help="Main score; default that of the runs, else balanced_accuracy."
        ),
    ] = None,
    malignant: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="A malignant class, where no report says so; repeat it."),
    ] = None,
) -> None:
    """Compare systems on the images they share: scores, paired differences, tests, and a report."""
    from kerasall.evaluation.comparison import compare_systems
    from kerasall.report.pages.comparison import comparison_document, describe_comparison
    from kerasall.studies.comparison import read_members, read_systems, write_comparison
    from kerasall.studies.finished_run import Run

    found = compare_systems(read_members(runs) if members else read_systems(runs), metric, malignant)
    print_found(as_json, comparison_document(found), lambda: describe_comparison(found))
    command = spell(
        "compare", *runs, *(["--members"] if members else []), out=out, metric=metric, malignant=malignant
    )
    names = [f"{Run.find(run).name}_members" for run in runs] if members else ()
    note(f"report: {write_comparison(found, out, command, names)}")
