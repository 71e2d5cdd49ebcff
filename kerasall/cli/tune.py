"""The command ``kerasall tune``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasall.cli import console
from kerasall.errors import SettingsError
from kerasall.shown_text import show

if TYPE_CHECKING:
    from kerasall.settings import Settings


def tune(
    config: Annotated[Path, typer.Argument(help="YAML file, or name, of an experiment that states tune.")],
    data: console.DataOption = None,
    weights: console.WeightsOption = None,
    malignant: console.MalignantOption = None,
    subject: console.SubjectOption = None,
    label: console.LabelOption = None,
    set_: console.SetOption = None,
    name: console.NameOption = None,
    force: console.ForceOption = False,
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            help="Processes that share the trials; 0: one after another, or with --cluster one for each core.",
        ),
    ] = 0,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT",
            callback=console.read_cluster,
            help="Start them on a Ray cluster (extra ray); auto: on this machine's own cores.",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only print the runs, and what every network will cost.")
    ] = False,
    smoke: console.SmokeOption = False,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FACTOR=LEVEL",
            help="Go on without a level that always fails: its rows are neither run nor analysed; repeat it.",
        ),
    ] = None,
) -> None:
    """Run a designed experiment over settings, and the ensemble of the runs that confirm its optimum.

    With keras-tuner's KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT in the environment,
    this is the chief or a worker of a search on several hosts.
    """
    from kerasall.runtime import quiet_tensorflow
    from kerasall.studies.experiment import run_experiment, settle

    stated = console.data_overrides(malignant, subject, label, set_) + read_without(without or [])
    options: dict[str, Any] = {"data": data, "weights": weights, "overrides": stated, "name": name}
    settings, runs, folder = settle(config, **options, writes=not (plan or smoke))
    if settings.tune is None:
        raise SettingsError(
            f"{config} must state tune with its factors, but does not: see `kerasall run` for others"
        )
    if plan or smoke:
        console.print_plan(settings, str(config), runs, folder, smoke, first=lambda: print_runs(settings))
        return
    with quiet_tensorflow():
        from kerasall.components.trial_search import role_of_process

        if role_of_process() == "worker":
            join_search(config, runs.artifacts, options)
            return
        result = run_experiment(config, force=force, workers=workers, cluster=cluster or "", **options)
    console.print_outcome(result)
    show(f"{'trials:':<14} {result.folder / 'trials.html'}")


def read_without(given: list[str]) -> list[str]:
    """The override that the options --without stand for; none for none."""
    from kerasall.settings.yaml_text import write_line

    found: dict[str, list[str]] = {}
    for text in given:
        key, equals, level = text.partition("=")
        if not equals or not key.strip() or not level.strip():
            raise SettingsError(f"--without must be written FACTOR=LEVEL, but is {text!r}")
        found.setdefault(key.strip(), []).append(level.strip())
    return [f"tune.without={write_line(found)}"] if found else []


def print_runs(settings: Settings) -> None:
    """Prints the array, its runs, and what they can and cannot tell."""
    from kerasall.runtime import quiet_tensorflow

    with quiet_tensorflow():
        from kerasall.components.trial_search import plan_oracle
        from kerasall.components.tuner import require_tune
        from kerasall.report.taguchi import describe_plan
        from kerasall.settings.factors import trial_settings

        tune = require_tune(settings)
        folds = settings.split.folds if settings.split.kind == "folds" else None
        oracle = plan_oracle(trial_settings(settings), tune, folds)
    design = oracle.design
    console.show_block(describe_plan(design.plan, **oracle.counting))
    if without := ", ".join(f"{name} = {v}" for name, values in oracle.without.items() for v in values):
        show(f"Without {without}: the rows at it are left out.")
    each = f" in each of {folds} folds" if folds else ""
    if design.plan.noise:
        each = f" under each of {len(design.noise_runs)} noise runs{each}"
    show(
        f"Every run {tune.repeats} times{each}, then {tune.confirmations} at the predicted optimum: "
        f"{oracle.max_trials} trials.",
        "",
    )


def join_search(config: Path, artifacts: Path, options: dict[str, Any]) -> None:
    """Runs trials for the chief that the environment names, until there are none left.

    Args:
        config: YAML file; it must give the same settings as the chief's.
        artifacts: folder of the runs' artifacts, on a disk that the chief shares.
        options: of ``settle``.
    """
    from kerasall.components.trial_search import find_job, run_worker
    from kerasall.components.trial_training import SearchJob
    from kerasall.settings.factors import trial_settings
    from kerasall.studies.experiment import settle
    from kerasall.taguchi.oracle import chief_address

    settings, _, weights = settle(config, **options)
    assert settings.tune is not None
    like = SearchJob(
        Path(), Path(), trial_settings(settings), settings.tune, settings.split.inner_validation,
        settings.training_seed, settings.deterministic, weights, Path(),
    )  # fmt: skip
    console.note(f"{os.environ['KERASTUNER_TUNER_ID']} looks for its chief at {chief_address()}")
    run_worker(find_job(artifacts, like, chief_address()))
