"""Arguments and options that several commands take, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelArgument = Annotated[
    str,
    typer.Argument(metavar="SAVEDMODEL_OR_RUN", help="A pushed SavedModel or a run, by its name or folder."),
]
DataOption = Annotated[Path | None, typer.Option(help="Folder or table of images; overrides data.path.")]
WeightsOption = Annotated[Path | None, typer.Option(help="Folder of ImageNet weights (KERASALL_WEIGHTS).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting.")
]
NameOption = Annotated[str | None, typer.Option(help="Name of the run; default the config's stem.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Push a model that was not blessed; its card says so.")
]
SmokeOption = Annotated[
    bool, typer.Option("--smoke", help="As --plan, with one step of every stage at batch 2.")
]
SourceOption = Annotated[str, typer.Option(help="auto, cnmc, aria, folder, csv or records.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]
