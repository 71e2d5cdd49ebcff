"""Options that every command which runs an experiment takes, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
