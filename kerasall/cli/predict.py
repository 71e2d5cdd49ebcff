"""The command ``kerasall predict``. Heavy imports stand inside it."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kerasall.cli.console import (
    RESEARCH_ONLY,
    ExcelOption,
    MaxPixelsOption,
    MaxSideOption,
    ModelArgument,
    note,
    show_progress,
)
from kerasall.errors import DataError, SettingsError, count_of
from kerasall.paths import runs_folder
from kerasall.studies.finished_run import Run

if TYPE_CHECKING:
    from kerasall.serving.batch import Tally
    from kerasall.serving.image_files import ImageNames
    from kerasall.serving.predictor import Predictor
    from kerasall.serving.runtimes import RuntimeChoice

RUNNERS = ("direct", "flink", "spark", "dataflow")

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
_Images = Annotated[
    list[str] | None, typer.Argument(metavar="[PATH...]", help="Image files, folders, patterns.")
]
_Manifest = Annotated[
    Path | None,
    typer.Option(
        help="File that lists images: one path a line, or a table (CSV, Excel, Parquet, JSONL) with a column path."
    ),
]
_Out = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help=".csv or .jsonl file, or .parquet folder; files it holds are passed over. "
        "Default: CSV on standard output.",
    ),
]
_Runner = Annotated[
    str | None, typer.Option(help=f"Predict with Apache Beam: {', '.join(RUNNERS)} (extra beam).")
]
_PartFiles = Annotated[
    int, typer.Option(min=1, help="With --runner: files of one job; a kill costs the job it hits.")
]
_BeamOptions = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY[=VALUE]", help="With --runner: an option of Beam's or the runner's; repeat it."
    ),
]


def predict(
    model: ModelArgument,
    images: _Images = None,
    manifest: _Manifest = None,
    out: _Out = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin the output anew.")] = False,
    excel: ExcelOption = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per call of the model.")] = 32,
    max_side: MaxSideOption = None,
    max_pixels: MaxPixelsOption = None,
    runtime: RuntimeOption = "tensorflow",
    precision: PrecisionOption = "float32",
    runner: _Runner = None,
    workers: Annotated[int, typer.Option(min=1, help="With --runner: processes, each with a model.")] = 1,
    part_files: _PartFiles = 10_000,
    beam_option: _BeamOptions = None,
) -> None:
    """Predict images, one row a file, going on where the output ends; exit status 1 if any failed.

    Files that failed before are tried again.
    """
    from kerasall.serving.image_files import ImageNames

    choice = choose_runtime(runtime, precision)
    if not images and manifest is None:
        raise DataError("images must be named by paths, folders, patterns or --manifest, but none are")
    names = ImageNames(
        tuple(images or ()), manifest, tell=cache(note)
    )  # names are listed twice, and told once
    if excel and (runner is not None or not (out or ".csv").lower().endswith(".csv")):
        raise SettingsError(
            "--excel is for one CSV file, but another kind is asked for: leave it out, or --runner"
        )
    task = _Task(model, names, out, overwrite, batch_size, max_side, max_pixels, excel)
    if runner is not None:
        _require_runner(runner, choice)
        tally = task.run_with_beam(runner, workers, part_files, tuple(beam_option or ()))
    elif workers > 1 or beam_option:
        raise SettingsError(
            "--workers and --beam-option go with --runner, but no runner is given: add --runner direct"
        )
    else:
        tally = task.run_here(choice)
    passed = tally.held - tally.again
    held = f", {passed} of them passed over" if passed else ""
    held += f", {tally.again} that failed before tried again" if tally.again else ""
    note(
        f"{count_of(tally.files, 'file')}{held}, {tally.failed} failed{f'; predictions: {out}' if out else ''}"
    )
    note(RESEARCH_ONLY)
    if tally.failed:
        raise typer.Exit(1)


def choose_runtime(name: str, precision: str) -> RuntimeChoice:
    """The runtime of that name, which keeps converted networks beside the runs.

    Raises:
        SettingsError: there is no such runtime or precision, or its extra is missing.
    """
    from kerasall.serving.runtimes import RuntimeChoice

    return RuntimeChoice(name, precision, runs_folder() / "runtimes")


def note_model(folder: Path, runtime: RuntimeChoice) -> None:
    """Says which model answers, whether it was blessed, and what computes, where that was asked for."""
    from kerasall.serving.predictor import describe_verdict

    note(describe_verdict(folder))
    if not runtime.is_default:
        note(f"runtime {runtime.describe()}")


@dataclass(frozen=True)
class _Task:
    """What is to be predicted, and where to."""

    model: str
    names: ImageNames
    out: str | None
    overwrite: bool
    batch_size: int
    max_side: int | None
    max_pixels: int | None
    excel: bool = False

    def run_here(self, runtime: RuntimeChoice) -> Tally:
        from kerasall.decoding import with_limits
        from kerasall.serving.batch import Tally, predict_files, resume_predictions
        from kerasall.serving.predictor import Predictor

        # What matches nothing is found before TensorFlow takes its seconds.
        total = sum(1 for _ in self.names)
        self._prepare_output()
        predictor = Predictor(Run.find(self.model).pushed, runtime=runtime)
        predictor.limits = with_limits(predictor.limits, self.max_side, self.max_pixels)
        note_model(predictor.folder, runtime)
        if why := predictor.describe_start():
            note(why)
        with show_progress(total) as show:
            told = {"batch_size": self.batch_size, "advance": _telling_parity(predictor, show)}
            told["excel"] = self.excel
            if self.out is not None:
                try:
                    return resume_predictions(predictor, self.names, self.out, **told)
                except KeyboardInterrupt:
                    again = "without --overwrite " if self.overwrite else ""
                    raise KeyboardInterrupt(
                        f"stopped; rows in {self.out} are kept, and the same command {again}goes on from there"
                    ) from None
            return Tally(total, 0, predict_files(predictor, self.names, sys.stdout, **told))

    def _prepare_output(self) -> None:
        from kerasall.serving.image_files import is_remote
        from kerasall.serving.prediction_tables import require_destination

        if self.out is None:
            if isinstance(sys.stdout, io.TextIOWrapper):  # a table is UTF-8 wherever it goes
                sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
            return
        if is_remote(self.out):
            raise DataError(
                f"{self.out} is on another file system, which only --runner can write to: give a local path"
            )
        out = require_destination(self.out)
        if self.overwrite and out.exists():
            _remove(out)

    def run_with_beam(self, runner: str, workers: int, part_files: int, options: tuple[str, ...]) -> Tally:
        from kerasall.runtime import quiet_tensorflow

        if self.out is None:
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

        folder = Run.find(self.model).pushed
        names = replace(self.names, match_remote=match_images)
        total = sum(1 for _ in names)
        note(describe_verdict(folder))
        out = self.out if is_remote(self.out) else os.path.abspath(self.out)
        job = BeamJob(
            str(folder), out, runner, workers, self.batch_size, self.max_side, self.max_pixels, options
        )
        with quiet_tensorflow(), show_progress(total) as advance:
            return predict_with_beam(
                job, names, part_files=part_files, overwrite=self.overwrite, advance=advance
            )


def _require_runner(runner: str, runtime: RuntimeChoice) -> None:
    if runner not in RUNNERS:
        raise SettingsError(f"the runner must be one of {', '.join(RUNNERS)}, but is {runner!r}")
    if not runtime.is_plain:
        raise SettingsError(
            "--runtime and --precision go without --runner, but both are given: leave one out"
        )


def _telling_parity(predictor: Predictor, advance: Callable[[int], None]) -> Callable[[int], None]:
    told = False

    def step(count: int) -> None:
        nonlocal told
        advance(count)
        if not told and (line := predictor.describe_parity()):
            note(f"compared with TensorFlow in float32: {line}")
            told = True

    return step


def _remove(out: Path) -> None:
    if not out.is_dir():
        out.unlink()
    elif all(path.name.endswith(".parquet") for path in out.iterdir()):
        shutil.rmtree(out)
    else:
        raise DataError(f"{out} must hold nothing but Parquet parts to be overwritten: give another name")
