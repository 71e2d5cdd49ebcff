"""The command ``kerasall tables``. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kerasall.cli.console import ExcelOption, JsonOption, note, print_found, require_place


def tables(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a finished run, or its folder.")],
    paper: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The paper: its pipeline's name, or an author; default that of the run's own pipeline.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(callback=require_place, help="Folder of tables.html and tables.csv; default the run's."),
    ] = None,
    maps: Annotated[
        bool, typer.Option(help="Draw heat maps where the paper shows them; loads TensorFlow.")
    ] = True,
    excel: ExcelOption = False,
    as_json: JsonOption = False,
) -> None:
    """Set every table and figure of a paper beside a run: published, ours, interval, as a page and a table."""
    from kerasall.studies.finished_run import Run
    from kerasall.studies.tables.side_by_side import PAGE, TABLE, choose_paper, set_beside

    run = Run.find(run_name)
    found = set_beside(run, choose_paper(run, paper), out, maps)
    found.write(excel)
    files = [f"page:   {found.folder / PAGE}", f"table:  {found.folder / TABLE}"]
    print_found(as_json, found.to_json(), lambda: [*found.describe(), *files])
    if not as_json:
        note("Not the paper's images, patients or seeds: a difference is no error by itself.")
