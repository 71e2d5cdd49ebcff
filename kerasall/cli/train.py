"""The command ``kerasall train``. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kerasall.cli import console


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
    print(f"{'config:':<14} {result.record['experiment']}.yaml")
    _print_next(result.name)


def _print_next(run: str) -> None:
    """What a person does next with a model: the run's own name is enough, pushed or not."""
    console.note("next:")
    for words in (("predict", run, "IMAGES"), ("serve", run), ("explain", run, "IMAGES"), ("review", run)):
        console.note(f"  {console.spell(*words)}")
    console.note(console.RESEARCH_ONLY)
