"""The command ``kerasall run``. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kerasall.cli import console
from kerasall.errors import SettingsError
from kerasall.shown_text import show


def run(
    config: Annotated[
        Path, typer.Argument(help="YAML file of the experiment, or the name of one of `kerasall configs`.")
    ],
    data: console.DataOption = None,
    weights: console.WeightsOption = None,
    malignant: console.MalignantOption = None,
    subject: console.SubjectOption = None,
    label: console.LabelOption = None,
    set_: console.SetOption = None,
    name: console.NameOption = None,
    force: console.ForceOption = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only print what every network will cost.")] = False,
    smoke: console.SmokeOption = False,
    repeats: Annotated[
        int, typer.Option(min=1, help="Train so many times on one split, with other seeds; show the spread.")
    ] = 1,
    learning_curve: Annotated[
        bool,
        typer.Option(
            "--learning-curve", help="Train on 1/8, 1/4, 1/2 and all of the training groups; draw the scores."
        ),
    ] = False,
) -> None:
    """Run an experiment, or go on with it, or find that all of it is at hand."""
    from kerasall.runtime import quiet_tensorflow
    from kerasall.studies.experiment import run_experiment, settle

    stated = console.data_overrides(malignant, subject, label, set_)
    options: dict[str, Any] = {"data": data, "weights": weights, "overrides": stated, "name": name}
    # What a mistyped command would stumble over is found before TensorFlow takes its seconds.
    settings, runs, folder = settle(config, **options, writes=not (plan or smoke))
    if plan or smoke:
        console.print_plan(settings, str(config), runs, folder, smoke)
        return
    if learning_curve and repeats > 1:
        raise SettingsError("--learning-curve and --repeats must not stand together, but do: choose one")
    options["force"] = force
    with quiet_tensorflow():
        if learning_curve:
            from kerasall.report.pages.series import describe_curve
            from kerasall.studies.series import run_learning_curve

            curve, page = run_learning_curve(config, **options)
            show(*describe_curve(curve), f"{'report:':<14} {page}")
        elif repeats > 1:
            from kerasall.report.pages.series import describe_repeats
            from kerasall.studies.series import run_repeats

            done = run_repeats(config, repeats, **options)
            show(*describe_repeats(done.scores), f"{'report:':<14} {done.page}")
        else:
            console.print_outcome(run_experiment(config, **options))
