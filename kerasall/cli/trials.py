"""The command ``kerasall trials``. Heavy imports stand inside it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from kerasall.cli.console import JsonOption, note, print_found, require_place


def trials(
    place: Annotated[
        str,
        typer.Argument(metavar="RUN|FOLDER", help="Name of a run, or a folder with a keras-tuner project."),
    ],
    sort: Annotated[
        str,
        typer.Option(
            metavar="COLUMN", help="Order of the table; objective puts the best first, -COLUMN turns it."
        ),
    ] = "trial",
    out: Annotated[
        Path | None,
        typer.Option(
            callback=require_place,
            help="Folder for trials.csv and trials.html; default the run's, or FOLDER.",
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the trials for tensorboard --logdir DIR.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show every trial of a designed experiment: as a table here, in trials.csv, and on a page, trials.html."""
    from kerasall.csv_tables import write_csv
    from kerasall.runtime import quiet_tensorflow
    from kerasall.studies.finished_run import choose_out, find_trials

    found = find_trials(place)
    folder = choose_out(found, out)
    with quiet_tensorflow():
        from kerasall.report.pages.trials import write_trial_page
        from kerasall.report.taguchi import describe_trials
        from kerasall.taguchi.trial_events import list_trials, sort_trials, write_events

        listing = list_trials(found.project)
    table = sort_trials(listing.table, sort, listing.design.direction)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print_found(as_json, listing.to_json(table), lambda: describe_trials(listing, table, width))
    write_csv(listing.table, folder / "trials.csv")
    write_trial_page(folder / "trials.html", listing, found.title)
    note(f"table: {folder / 'trials.csv'}")
    note(f"page: {folder / 'trials.html'}")
    if tensorboard is not None:
        note(f"TensorBoard: tensorboard --logdir {write_events(listing, tensorboard)}")
