"""The command ``kerasall train``. Heavy imports stand inside it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kerasall.cli import console
from kerasall.shown_text import show

if TYPE_CHECKING:
    from kerasall.studies.finished_run import Run


def train(
    path: Annotated[Path, typer.Argument(help="Folder or table of images.")],
    malignant: console.MalignantOption = None,
    subject: console.SubjectOption = None,
    label: console.LabelOption = None,
    columns: console.ColumnsOption = None,
    source: console.SourceOption = "auto",
    preset: console.PresetOption = "auto",
    weights: console.WeightsOption = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the experiment and its config; default from the path.")
    ] = None,
    set_: console.SetOption = None,
    force: console.ForceOption = False,
) -> None:
    """From your images to a model with a report, in one command and without a config: `init` and `run`."""
    from kerasall.studies.start import train as start

    result = start(
        path, console.split_words(malignant), subject=subject, label=label,
        columns=console.split_pairs(columns, "--columns"), source=source, preset=preset, weights=weights, name=name,
        overrides=set_ or [], force=force, spell=lambda file: console.spell("run", file, weights=weights),
        say=console.note,
    )  # fmt: skip
    console.print_outcome(result)
    show(f"{'config:':<14} {result.record['experiment']}.yaml")
    _print_next(result)


def _print_next(run: Run) -> None:
    """What works next: the run's own name is enough; predicting and serving need a model that was pushed."""
    words = [("explain", run.name, "IMAGES"), ("review", run.name)]
    if run.saved_model:
        words = [("predict", run.name, "IMAGES"), ("serve", run.name), *words]
    extra = "" if find_spec("uvicorn") else "  # needs: pip install 'kerasall[web]'"
    console.note("next:")
    for each in words:
        console.note(f"  {console.spell(*each)}{extra if each[0] == 'serve' else ''}")
    if not run.saved_model:
        console.note(f"  {run.force_command}  # push it all the same, to predict with it; its card says so")
    console.note(console.RESEARCH_ONLY)
