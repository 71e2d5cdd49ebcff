"""What several commands take and print: arguments and options, notes, JSON, the lines of a run, the command line itself."""

from __future__ import annotations

import io
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasall.errors import SettingsError
from kerasall.files import require_writable
from kerasall.shown_text import json_text, show
from kerasall.shown_text import tell as note

if TYPE_CHECKING:
    from kerasall.pipeline.runner import RunPlaces
    from kerasall.settings import Settings
    from kerasall.studies.finished_run import Run

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
MaxSideOption = Annotated[
    int | None, typer.Option(min=1, help="Largest width or height; default: the model's.")
]
MaxPixelsOption = Annotated[int | None, typer.Option(min=1, help="Most pixels in all; default: the model's.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]

ExcelOption = Annotated[
    bool,
    typer.Option(
        "--excel", help="Begin the CSV with a byte order mark, so that Excel reads names with accents right."
    ),
]

MalignantOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[,NAME]", help="Classes that mean leukaemia (data.malignant)."),
]
SubjectOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="Where the patient stands: folder:N, column:NAME, pattern:REGEX with a group `subject`; none: it cannot "
        "be told (data.subject). Found out where it can be.",
    ),
]
LabelOption = Annotated[
    str | None, typer.Option(metavar="WHERE", help="Where the class stands, as for --subject (data.label).")
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        metavar="subject=NAME,...", help="Columns of a table with other names for path, label, subject, fold."
    ),
]
PresetOption = Annotated[
    str, typer.Option(help="quick, standard, fine_tune, or auto: by images, device and weights at hand.")
]

RESEARCH_ONLY = "Research use only: not a diagnostic device."
LOG_SECONDS = 60
"""How often a line tells of the progress where there is no terminal for a bar."""


def read_cluster(given: str | None) -> str | None:
    """The option ``--cluster``; another kind of address is refused before anything is read or run."""
    from kerasall.ray_cluster import require_address

    if given is not None:
        require_address(given)
    return given


def speak_utf8() -> None:
    """Takes names of files for UTF-8 whatever the locale says, and prints what a terminal cannot show as escapes.

    Under the locale C, or that of another encoding, Python would read names with accents as other names, and stop at the
    first letter that it cannot print. How names are read is settled when Python starts: so it is started once more.
    """
    if sys.executable and sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show_block(text: str) -> None:
    """Prints a text of kerasall's own lines, such as a table or a config, on standard output."""
    show(*text.split("\n"))


def print_found(as_json: bool, document: Any, lines: Callable[[], str | Iterable[str]]) -> None:
    """Prints what a command found, on standard output: one JSON document and nothing else, or words.

    Args:
        as_json: whether --json was given.
        document: what programs read; NaN and infinity are refused: JSON has none.
        lines: makes what people read.
    """
    if as_json:
        # What cannot be printed is written in JSON's own escapes.
        ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        show_block(json_text(document, ascii_only))
        return
    words = lines()
    show(*(words.split("\n") if isinstance(words, str) else words))


def require_place(path: Path | None) -> Path | None:
    """For options that name what a command writes: found at once where nothing can be written there."""
    if path is not None:
        require_writable(path, "the output")
    return path


def split_words(given: list[str] | None) -> tuple[str, ...]:
    """The names of an option that takes several: repeated, or with commas between."""
    return tuple(word.strip() for each in given or () for word in each.split(",") if word.strip())


def split_pairs(given: str | None, option: str) -> dict[str, str]:
    """The pairs of an option such as ``--columns subject=ID,path=File``.

    Raises:
        SettingsError: one is no pair.
    """
    pairs = [each.partition("=") for each in split_words([given or ""])]
    if wrong := [key for key, equals, value in pairs if not (key and equals and value)]:
        raise SettingsError(f"{option} must be key=NAME with commas between, but {wrong[0]!r} is none")
    return {key.strip(): value.strip() for key, _, value in pairs}


def data_overrides(
    malignant: list[str] | None, subject: str | None, label: str | None, given: list[str] | None = None
) -> list[str]:
    """The overrides that the options on the data stand for, before those of --set, which so have the last word."""
    from kerasall.settings.yaml_text import write_line

    stated = {"malignant": list(split_words(malignant)), "subject": subject, "label": label}
    return [f"data.{key}={write_line(value)}" for key, value in stated.items() if value] + (given or [])


def spell(*words: str | Path, **options: Any) -> str:
    """A command of kerasall as a person types it, for the page that it makes.

    Args:
        words: command and arguments.
        options: by name; None and what is empty is left out, a list is an option that is repeated.
    """
    spelled = ["kerasall", *map(str, words)]
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value] if value else []:
            spelled += [f"--{name}", str(each)]
    return shlex.join(spelled)


def print_plan(settings: Settings, where: str, runs: RunPlaces, weights: Path | None, smoke: bool,
    first: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Prints what every network of an experiment will cost, if a run would take its settings.

    Args:
        settings, where, runs, weights: as ``require_runnable``.
        smoke: run a step of every stage.
        first: prints what stands above.
    """
    from kerasall.runtime import quiet_tensorflow

    with quiet_tensorflow():
        from kerasall.studies.experiment import require_runnable
        from kerasall.studies.planned_fits import describe_split, plan_split
        from kerasall.studies.planning import format_plan, plan_experiment

        require_runnable(settings, where, runs, weights)
        first()
        planned = plan_split(settings)
    drawn, data = planned or (None, None)
    note(describe_split(drawn) if drawn else "images: unknown (give --data)")
    show_block(format_plan(plan_experiment(settings, data, smoke)))
    note(
        "Runs count every fold, repetition and training on all folds; steps are at most, for patience may stop a stage "
        "sooner. Memory and hours are estimates, hours for this machine."
    )


def print_outcome(run: Run) -> None:
    """The last lines of a run: score, verdict, where its results lie, and what sets it beside the paper it rebuilds."""
    from kerasall.studies.tables.side_by_side import describe_paper

    for label, value in {**run.results, **describe_paper(run)}.items():
        show(f"{label + ':':<14} {value}")


@contextmanager
def show_progress(total: int | None = None, doing: str = "predicting") -> Iterator[Callable[..., None]]:
    """Yields a function that counts files up: a bar with the time left, or a line a minute without a terminal.

    The function takes how many more are done and, where that was not known before, how many there are in all.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _LoggedProgress(total or 0).advance
        return
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda count, total=None: bar.update(task, advance=count, total=total)


class _LoggedProgress:
    """Tells the time left by the speed since it last spoke: files passed over at the start cost none."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._said, self._done_then = time.monotonic(), 0

    def advance(self, count: int, total: int | None = None) -> None:
        self._total = total or self._total
        self._done += count
        seconds = time.monotonic() - self._said
        if seconds < LOG_SECONDS:
            return
        speed = (self._done - self._done_then) / seconds
        left = max(self._total - self._done, 0) / speed
        note(
            f"{self._done:,} of {self._total:,} files, {speed:,.1f} a second, about {left / 60:,.1f} minutes left"
        )
        self._said, self._done_then = time.monotonic(), self._done
