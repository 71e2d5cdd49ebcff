"""The command line: every command in a file of its own, with heavy imports inside, so that --help answers at once."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Annotated, Any

import typer
import typer.core

from kerasall.cli.compare import compare
from kerasall.cli.configs import configs
from kerasall.cli.console import speak_utf8
from kerasall.cli.data import check, data_app
from kerasall.cli.evaluate import evaluate
from kerasall.cli.explain import explain
from kerasall.cli.export import export
from kerasall.cli.init import init
from kerasall.cli.interrupts import STOPPED, stopping_safely
from kerasall.cli.predict import predict
from kerasall.cli.report import report
from kerasall.cli.review import review
from kerasall.cli.run import run
from kerasall.cli.runs import runs, status
from kerasall.cli.segment import segment
from kerasall.cli.serve import serve
from kerasall.cli.settings import settings
from kerasall.cli.tables import tables
from kerasall.cli.taguchi import taguchi_app
from kerasall.cli.train import train
from kerasall.cli.trials import trials
from kerasall.cli.tune import tune
from kerasall.errors import KerasallError
from kerasall.files import explain_os_error
from kerasall.shown_text import show, tell_fault
from kerasall.version import __version__

_IN_ORDER_OF_USE = (
    check, segment, init, train, configs, settings, run, tune, runs, status, trials, compare, review, tables, report,
    explain, evaluate, predict, serve, export,
)  # fmt: skip


class _Commands(typer.core.TyperGroup):
    """Lists commands as they are met in the course of a study; groups of commands come last."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*(command.__name__ for command in _IN_ORDER_OF_USE), "data", "taguchi"]

    def invoke(self, ctx: Any) -> Any:
        """Here, because whoever called would take a KeyboardInterrupt for his own and say less."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            tell_fault(f"kerasall: {str(stop) or 'stopped'}")
            raise SystemExit(STOPPED) from None


app = typer.Typer(
    name="kerasall",
    cls=_Commands,
    help="Train, compare, trust and serve image classifiers for acute lymphoblastic leukaemia. "
    "Research use only: not a diagnostic device.\n\n"
    "Begin with `kerasall train IMAGES --malignant NAME`, or step by step with `check`, `init` and `run`; then `predict` "
    "and `serve`. The commands stand in the order of a study.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _command in _IN_ORDER_OF_USE:
    app.command()(_command)
app.add_typer(data_app)
app.add_typer(taguchi_app)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        show(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Entry point: errors that a user can cure are printed without a traceback."""
    speak_utf8()
    # At its end Python looks through every object for circles, which of TensorFlow's takes it a second, for nothing.
    atexit.register(gc.freeze)
    try:
        with stopping_safely():
            app(arguments)
    except KerasallError as error:
        tell_fault(f"kerasall: error: {error}")
        sys.exit(1)
    except OSError as error:
        tell_fault(f"kerasall: error: {explain_os_error(error)}")
        sys.exit(1)
    except KeyboardInterrupt:  # before the command began
        sys.exit(STOPPED)


def run_script() -> None:
    """What a pipeline script does when it is started itself: ``kerasall run`` with the same arguments."""
    main(["run", *sys.argv[1:]])


if __name__ == "__main__":
    main()
