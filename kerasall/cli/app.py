"""The command line. Heavy imports stand inside the commands, so that --help answers at once.

What ``kerasall run --repeats`` prints.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from kerasall import __version__
from kerasall.cli.compare import compare
from kerasall.cli.console import print_outcome, print_plan
from kerasall.cli.data import data_app
from kerasall.cli.evaluate import evaluate
from kerasall.cli.explain import explain
from kerasall.cli.export import export
from kerasall.cli.options import DataOption, ForceOption, NameOption, SetOption, SmokeOption, WeightsOption
from kerasall.cli.predict import predict
from kerasall.cli.review import review
from kerasall.cli.serve import serve
from kerasall.cli.taguchi import taguchi_app
from kerasall.cli.trials import trials
from kerasall.cli.tune import tune
from kerasall.errors import KerasallError, SettingsError
from kerasall.runtime import quiet_tensorflow


def run_repeats_and_print(config: Path, count: int, **options: Any) -> None:
    """Runs the repetitions and prints mean and spread of every model, and where the page lies."""
    from kerasall.report.pages.repeats import describe_repeats
    from kerasall.studies.repeats import run_repeats

    done = run_repeats(config, count, **options)
    for line in describe_repeats(done.scores):
        print(line)
    print(f"{'report:':<14} {done.page}")


_IN_ORDER_OF_USE = (
    "check", "run", "tune", "runs", "status", "trials", "compare", "review", "explain", "evaluate",
    "predict", "serve", "export", "data", "taguchi",
)  # fmt: skip


class _Commands(typer.core.TyperGroup):
    """Lists commands as they are met in the course of a study, not as they were registered."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_IN_ORDER_OF_USE.index)


app = typer.Typer(
    name="kerasall",
    cls=_Commands,
    help="Train, compare, trust and serve image classifiers for acute lymphoblastic leukaemia. "
    "Research use only: not a diagnostic device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(data_app)

app.add_typer(taguchi_app)

app.command()(predict)

app.command()(compare)

app.command()(evaluate)

app.command()(explain)

app.command()(export)

app.command()(tune)

app.command()(trials)

app.command()(review)

app.command()(serve)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors that a user can cure are printed without a traceback."""
    try:
        app(arguments)
    except KerasallError as error:
        print(f"kerasall: error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"kerasall: error: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("kerasall: stopped; the same command goes on where it was when called again", file=sys.stderr)
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="YAML file of the experiment.")],
    data: DataOption = None,
    weights: WeightsOption = None,
    set_: SetOption = None,
    name: NameOption = None,
    force: ForceOption = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only print what every network will cost.")] = False,
    smoke: SmokeOption = False,
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
    from kerasall.studies.experiment import run_experiment, settle

    # What a mistyped command would stumble over is found before TensorFlow takes its seconds.
    settings, *_ = settle(config, data=data, weights=weights, overrides=set_ or [], name=name)
    if plan or smoke:
        print_plan(settings, smoke)
        return
    if learning_curve:
        if repeats > 1:
            raise SettingsError("--learning-curve and --repeats must not stand together, but do: choose one")
        from kerasall.studies.learning_curve import run_and_print

        with quiet_tensorflow():
            run_and_print(config, data=data, weights=weights, overrides=set_ or [], name=name, force=force)
        return
    if repeats > 1:
        with quiet_tensorflow():
            run_repeats_and_print(
                config, repeats, data=data, weights=weights, overrides=set_ or [], name=name, force=force
            )
        return
    with quiet_tensorflow():
        result = run_experiment(
            config, data=data, weights=weights, overrides=set_ or [], name=name, force=force
        )
    print_outcome(result)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="Folder or table of images.")],
    source: Annotated[str, typer.Option(help="auto, cnmc, aria, folder, csv or records.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="PAGE.html", help="Also write a data card: one self-contained page."),
    ] = None,
) -> None:
    """Look at a data set before anything trains; exit status 1 if it holds errors."""
    from kerasall.cli.data import check_with_card
    from kerasall.components.example_validator import check_source, nothing_to_check

    try:
        result = check_source(source, path) if report is None else check_with_card(source, path, report)
    except KerasallError as error:
        if not as_json:
            raise
        result = nothing_to_check(str(error))
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        _print_check(result)
    if result["errors"]:
        raise typer.Exit(1)


@app.command()
def runs(
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")] = False,
) -> None:
    """List the runs, newest first."""
    from kerasall.studies.finished_run import list_runs

    rows = list_runs()
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        print("No runs yet. Begin with: kerasall run configs/demo.yaml")
    for row in rows:
        print(f"{row['name']:<28} {row['state']:<12} {row['started']}  {row['main_score'] or ''}")


@app.command()
def status(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")] = False,
) -> None:
    """Show the steps of a run, what they left, and what is missing."""
    from kerasall.studies.finished_run import describe_run

    found = describe_run(run_name)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print(f"{found['name']}: {found['state']}" + (f" ({found['error']})" if found["error"] else ""))
    for step in found["steps"]:
        print(f"  {step['step']:<18} {step['state']:<9} {step['seconds']:8.1f} s  {', '.join(step['paths'])}")
    for label, path in found["results"].items():
        print(f"{label}: {path}")


def _print_check(result: dict) -> None:
    print(f"{result['images']:,} images, {result['subjects']:,} subjects, source {result['source']}")
    for name, count in result["classes"].items():
        subjects = result["subjects_per_class"].get(name)
        print(f"  {name:<12} {count:>7,} images{f', {subjects:,} subjects' if subjects else ''}")
    print(
        f"duplicates: {result['exact_duplicate_groups']} exact groups "
        f"({result['cross_subject_duplicate_groups']} across subjects), {result['near_duplicate_groups']} near groups"
    )
    for note in result.get("notes", []):
        print(f"note: {note}")
    for kind in ("warnings", "errors"):
        for anomaly in result[kind]:
            print(f"{kind[:-1]}: {anomaly['message']}")
    print("no errors" if not result["errors"] else f"{len(result['errors'])} errors")


def run_script() -> None:
    """What a pipeline script does when it is started itself: ``kerasall run`` with the same arguments."""
    main(["run", *sys.argv[1:]])


if __name__ == "__main__":
    main()
