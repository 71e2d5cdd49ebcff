"""The command line. Heavy imports stand inside the commands, so that --help answers at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from kerasall import __version__, repeat_cli
from kerasall.compare_cli import compare
from kerasall.data_cli import data_app
from kerasall.errors import KerasallError, SettingsError
from kerasall.evaluate_cli import evaluate
from kerasall.explain_cli import explain
from kerasall.export_cli import export
from kerasall.predict_cli import predict
from kerasall.review_cli import review
from kerasall.run_options import DataOption, ForceOption, NameOption, SetOption, SmokeOption, WeightsOption
from kerasall.serve_cli import serve
from kerasall.taguchi_cli import taguchi_app
from kerasall.trials_cli import trials
from kerasall.tune_cli import tune

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
    from kerasall.experiment import run_experiment, settle

    # What a mistyped command would stumble over is found before TensorFlow takes its seconds.
    settings, *_ = settle(config, data=data, weights=weights, overrides=set_ or [], name=name)
    if plan or smoke:
        print_plan(settings, smoke)
        return
    if learning_curve:
        if repeats > 1:
            raise SettingsError("--learning-curve and --repeats must not stand together, but do: choose one")
        from kerasall.learning_curve import run_and_print

        with quiet_tensorflow():
            run_and_print(config, data=data, weights=weights, overrides=set_ or [], name=name, force=force)
        return
    if repeats > 1:
        with quiet_tensorflow():
            repeat_cli.run_and_print(
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
    from kerasall.components.example_validator import check_source, nothing_to_check
    from kerasall.data_cli import check_with_card

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
    from kerasall.run_listing import list_runs

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
    from kerasall.run_listing import describe_run

    found = describe_run(run_name)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print(f"{found['name']}: {found['state']}" + (f" ({found['error']})" if found["error"] else ""))
    for step in found["steps"]:
        print(f"  {step['step']:<18} {step['state']:<9} {step['seconds']:8.1f} s  {', '.join(step['paths'])}")
    for label, path in found["results"].items():
        print(f"{label}: {path}")


def print_plan(settings, smoke: bool) -> None:
    with quiet_tensorflow():
        from kerasall.planning import count_images, format_plan, plan_experiment

        images = count_images(settings)
    _note(f"images: {'unknown (give --data)' if images is None else f'{images:,}'}")
    print(format_plan(plan_experiment(settings, smoke)))
    _note("Memory and hours are estimates; hours are for every image passed once per epoch on this machine.")


def print_outcome(result) -> None:
    """The last lines of a run: score, verdict, where its results lie."""
    from kerasall.run_listing import summarize_result

    for label, value in summarize_result(result).items():
        print(f"{label + ':':<14} {value}")


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


def _note(line: str) -> None:
    print(line, file=sys.stderr)


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Imports TensorFlow without the lines its libraries write before their log level can be set.

    Only the import is silenced, and only its C++ lines: an error is raised as ever.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" not in sys.modules and "KERASALL_VERBOSE" not in os.environ:
        sys.stderr.flush()
        kept = os.dup(2)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
            # Each fold is a network of its own, so each traces anew: that is meant, not a fault.
            tf.get_logger().setLevel("ERROR")
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nothing)
    yield


if __name__ == "__main__":
    main()
