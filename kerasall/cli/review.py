"""The command ``kerasall review``. Heavy imports stand inside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def review(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a finished run, or its folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of review.html and review.csv; default runs/RUN/review.")
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
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")] = False,
) -> None:
    """List images whose labels an expert should look at again, as a page and a table to fill in."""
    from kerasall.files import atomic_path
    from kerasall.report.pages.review import PageFacts, to_table, write_review_page
    from kerasall.studies.review import find_run, make_overlays, read_reviewed_run

    run = read_reviewed_run(find_run(run_name))
    queue = run.build(at_least)
    shown, folder = queue.first(most), out or run.folder / "review"
    paths = dict(zip(run.record.images["id"], run.record.images["path"], strict=True))
    drawn = make_overlays(run.folder) if overlays and shown.items else None
    facts = PageFacts(run.title, run.model, most, paths, drawn)
    write_review_page(queue, folder / "review.html", facts)
    with atomic_path(folder / "review.csv") as temporary:
        to_table(shown).to_csv(temporary, index=False)
    if as_json:
        print(json.dumps(run.summarize(queue, folder), indent=2, ensure_ascii=False))
        return
    for line in run.describe(queue, shown):
        print(line)
    print(f"page:   {folder / 'review.html'}\ntable:  {folder / 'review.csv'}")
    print(f"then:   {run.next_command()}", file=sys.stderr)
