"""The command ``kerasall predict``. Heavy imports stand inside it."""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kerasall.cli.options import ModelArgument
from kerasall.errors import DataError, SettingsError
from kerasall.studies.finished_run import Run

if TYPE_CHECKING:
    from kerasall.serving.batch import Tally
    from kerasall.serving.image_files import ImageNames
    from kerasall.serving.predictor import Predictor
    from kerasall.serving.runtimes import RuntimeChoice

RuntimeOption = Annotated[
    str,
    typer.Option(
        help="tensorflow, openvino (extra openvino) or onnxruntime (extra onnx); compared with TensorFlow."
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="float32; auto: bfloat16 where the CPU gains from it and answers hold; bfloat16: always."
    ),
]
RUNNERS = ("direct", "flink", "spark", "dataflow")
LOG_SECONDS = 60
"""How often a line tells of the progress where there is no terminal for a bar."""


def predict(
    model: ModelArgument,
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH...]", help="Image files, folders, patterns.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="File that lists images: one path a line, or CSV or JSONL with a field path."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help=".csv or .jsonl file, or .parquet folder; files it holds are passed over. "
            "Default: CSV on standard output.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin the output anew.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per call of the model.")] = 32,
    max_side: Annotated[
        int | None, typer.Option(min=1, help="Largest width or height; default: the model's.")
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Most pixels in all; default: the model's.")
    ] = None,
    runtime: RuntimeOption = "tensorflow",
    precision: PrecisionOption = "float32",
    runner: Annotated[
        str | None, typer.Option(help=f"Predict with Apache Beam: {', '.join(RUNNERS)} (extra beam).")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="With --runner: processes, each with a model.")] = 1,
    part_files: Annotated[
        int, typer.Option(min=1, help="With --runner: files of one job; a kill costs the job it hits.")
    ] = 10_000,
    beam_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY[=VALUE]", help="With --runner: an option of Beam's or the runner's; repeat it."
        ),
    ] = None,
) -> None:
    """Predict images, one row a file, going on where the output ends; exit status 1 if any failed."""
    from kerasall.serving.image_files import ImageNames

    choice = choose_runtime(runtime, precision)
    if not images and manifest is None:
        raise DataError("images must be named by paths, folders, patterns or --manifest, but none are")
    names = ImageNames(tuple(images or ()), manifest)
    if runner is not None:
        _require_runner(runner)
        if not choice.is_plain:
            raise SettingsError(
                "--runtime and --precision go without --runner, but both are given: leave one out"
            )
        tally = _predict_with_beam(
            model, names, out, overwrite, runner=runner, workers=workers, part_files=part_files,
            options=beam_option or [], batch_size=batch_size, max_side=max_side, max_pixels=max_pixels,
        )  # fmt: skip
    else:
        if workers > 1 or beam_option:
            raise SettingsError(
                "--workers and --beam-option go with --runner, but no runner is given: add --runner direct"
            )
        tally = _predict_here(model, names, out, overwrite, batch_size, max_side, max_pixels, choice)
    held = f", {tally.held} of them passed over" if tally.held else ""
    _note(f"{tally.files} files{held}, {tally.failed} failed{f'; predictions: {out}' if out else ''}")
    _note("Research use only: not a diagnostic device.")
    if tally.failed:
        raise typer.Exit(1)


def _predict_here(
    model: str,
    names: ImageNames,
    out: str | None,
    overwrite: bool,
    batch_size: int,
    max_side: int | None,
    max_pixels: int | None,
    runtime: RuntimeChoice,
) -> Tally:
    from kerasall.decoding import with_limits
    from kerasall.runtime import quiet_tensorflow
    from kerasall.serving.batch import Tally, predict_files, resume_predictions
    from kerasall.serving.image_files import is_remote
    from kerasall.serving.prediction_tables import require_destination
    from kerasall.serving.predictor import Predictor, describe_verdict

    total = sum(1 for _ in names)  # what matches nothing is found before TensorFlow takes its seconds
    if out is not None:
        if is_remote(out):
            raise DataError(
                f"{out} is on another file system, which only --runner can write to: give a local path"
            )
        _clear(require_destination(out), overwrite)
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with quiet_tensorflow():
        predictor = Predictor(Run.find(model).pushed, runtime=runtime)
    predictor.limits = with_limits(predictor.limits, max_side, max_pixels)
    _note(describe_verdict(predictor.folder))
    if not runtime.is_default:
        _note(f"runtime {runtime.describe()}")
    with show_progress(total) as show:
        advance = _telling_parity(predictor, show)
        if out is not None:
            return resume_predictions(predictor, names, out, batch_size=batch_size, advance=advance)
        failed = predict_files(predictor, names, sys.stdout, batch_size=batch_size, advance=advance)
    return Tally(total, 0, failed)


def choose_runtime(name: str, precision: str) -> RuntimeChoice:
    """The runtime of that name, which keeps converted networks beside the runs.

    Raises:
        SettingsError: there is no such runtime or precision, or its extra is missing.
    """
    from kerasall.paths import runs_folder
    from kerasall.serving.runtimes import RuntimeChoice

    return RuntimeChoice(name, precision, runs_folder() / "runtimes")


def _telling_parity(predictor: Predictor, advance: Callable[[int], None]) -> Callable[[int], None]:
    told = False

    def step(count: int) -> None:
        nonlocal told
        advance(count)
        if not told and (line := predictor.describe_parity()):
            _note(f"compared with TensorFlow in float32: {line}")
            told = True

    return step


def _clear(out: Path, overwrite: bool) -> None:
    if not overwrite or not out.exists():
        return
    if not out.is_dir():
        out.unlink()
    elif all(path.name.endswith(".parquet") for path in out.iterdir()):
        shutil.rmtree(out)
    else:
        raise DataError(f"{out} must hold nothing but Parquet parts to be overwritten: give another name")


def _require_runner(runner: str) -> None:
    if runner not in RUNNERS:
        raise SettingsError(f"the runner must be one of {', '.join(RUNNERS)}, but is {runner!r}")


def _predict_with_beam(
    model: str,
    names: ImageNames,
    out: str | None,
    overwrite: bool,
    *,
    runner: str,
    workers: int,
    part_files: int,
    options: list[str],
    batch_size: int,
    max_side: int | None,
    max_pixels: int | None,
) -> Tally:
    from kerasall.runtime import quiet_tensorflow

    if out is None:
        raise SettingsError("with --runner predictions are written to shards: give --out FOLDER/NAME.csv")
    try:
        from kerasall.serving.beam_batch import BeamJob, predict_with_beam
        from kerasall.serving.beam_output import match_images
        from kerasall.serving.image_files import is_remote
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"--runner needs the extra beam, but {error.name} is missing: pip install 'kerasall[beam]'"
        ) from None
    from kerasall.serving.predictor import describe_verdict

    folder = Run.find(model).pushed
    names = replace(names, match_remote=match_images)
    total = sum(1 for _ in names)
    _note(describe_verdict(folder))
    destination = out if is_remote(out) else os.path.abspath(out)
    job = BeamJob(str(folder), destination, runner, workers, batch_size, max_side, max_pixels, tuple(options))
    with quiet_tensorflow(), show_progress(total) as advance:
        return predict_with_beam(job, names, part_files=part_files, overwrite=overwrite, advance=advance)


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def show_progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that counts files up: a bar with the time left, or a line a minute without a terminal."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _LoggedProgress(total).advance
        return
    with Progress(
        *Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("predicting", total=total)
        yield lambda count: bar.advance(task, count)


class _LoggedProgress:
    """Tells the time left by the speed since it last spoke: files passed over at the start cost none."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._said, self._done_then = time.monotonic(), 0

    def advance(self, count: int) -> None:
        self._done += count
        seconds = time.monotonic() - self._said
        if seconds < LOG_SECONDS:
            return
        speed = (self._done - self._done_then) / seconds
        left = max(self._total - self._done, 0) / speed
        _note(
            f"{self._done:,} of {self._total:,} files, {speed:,.1f} a second, about {left / 60:,.1f} minutes left"
        )
        self._said, self._done_then = time.monotonic(), self._done
