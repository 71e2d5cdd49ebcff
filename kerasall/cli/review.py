"""The command ``kerasall review``. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kerasall.cli.console import ExcelOption, JsonOption, note, print_found, require_place


def review(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a finished run, or its folder.")],
    out: Annotated[
        Path | None,
        typer.Option(
            callback=require_place, help="Folder of review.html and review.csv; default runs/RUN/review."
        ),
    ] = None,
    at_least: Annotated[
        int | None,
        typer.Option(
            "--at-least",
            metavar="K",
            help="Members that must get an image wrong; default more than half. For one classifier 1 takes every mistake.",
        ),
    ] = None,
    most: Annotated[
        int, typer.Option("--most", min=1, metavar="N", help="Images on the page and in the table.")
    ] = 200,
    overlays: Annotated[
        bool, typer.Option(help="Show where the exported model sees its call; loads TensorFlow.")
    ] = True,
    excel: ExcelOption = False,
    as_json: JsonOption = False,
) -> None:
    """List images whose labels an expert should look at again, as a page and a table to fill in."""
    from kerasall.studies.finished_run import Run
    from kerasall.studies.review import review_run

    found = review_run(Run.find(run_name), at_least, most, out)
    found.write(overlays, excel)
    files = [f"page:   {found.folder / 'review.html'}", f"table:  {found.folder / 'review.csv'}"]
    print_found(as_json, found.to_json(), lambda: [*found.describe(), *files])
    if not as_json:
        note(f"then:   {found.next_command()}")
