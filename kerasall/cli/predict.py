"""The command ``kerasall predict``. Heavy imports stand inside it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
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
    read_cluster,
    show_progress,
)
from kerasall.errors import DataError, SettingsError, count_of
from kerasall.paths import runs_folder
from kerasall.studies.finished_run import Run

if TYPE_CHECKING:
    from kerasall.serving.batch import Answering, Tally
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
        help=".csv or .jsonl file, or .parquet folder of parts, or the address of a folder of parts such as "
        "s3://BUCKET/scores.csv; files it holds are passed over. Default: CSV on standard output.",
    ),
]
_Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="auto|HOST:PORT",
        callback=read_cluster,
        help="Predict on a Ray cluster (extra ray), into a folder of parts; auto: this machine's own cores.",
    ),
]
_Workers = Annotated[
    int | None,
    typer.Option(min=1, help="With --cluster: processes, each with a model; default one a core."),
]
_PartRows = Annotated[
    int,
    typer.Option(min=1, help="Rows of a part, where predictions are a folder of parts; a kill costs one."),
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
    cluster: _Cluster = None,
    workers: _Workers = None,
    part_rows: _PartRows = 5_000,
) -> None:
    """Predict images, one row a file, going on where the output ends; exit status 1 if any failed.

    Files that failed before are tried again.
    """
    from kerasall.serving.addresses import match_images
    from kerasall.serving.image_files import ImageNames

    choice = choose_runtime(runtime, precision)
    if not images and manifest is None:
        raise DataError("images must be named by paths, folders, patterns or --manifest, but none are")
    names = ImageNames(
        tuple(images or ()), manifest, match_images, tell=cache(note)
    )  # names are listed twice, and told once
    if excel and (cluster is not None or not (out or ".csv").lower().endswith(".csv")):
        raise SettingsError(
            "--excel is for one CSV file, but another kind is asked for: leave it out, or --cluster"
        )
    if cluster is not None and not choice.is_plain:
        raise SettingsError(
            "--runtime and --precision go without --cluster, where each process has one core, and they take all: leave "
            "one out"
        )
    if cluster is None and workers is not None:
        raise SettingsError(
            "--workers goes with --cluster, but no cluster is given: add --cluster auto for this machine"
        )
    if cluster is not None and out is None:
        raise SettingsError(
            "with --cluster predictions are written to a folder of parts: give --out FOLDER.csv"
        )
    task = _Task(model, names, out, overwrite, batch_size, max_side, max_pixels, excel, part_rows)
    tally = task.run_here(choice) if cluster is None else task.run_on_cluster(cluster, workers)
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
    excel: bool
    part_rows: int

    def run_here(self, runtime: RuntimeChoice) -> Tally:
        from kerasall.decoding import with_limits
        from kerasall.serving.batch import Tally, predict_files
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
            advance = _telling_parity(predictor, show)
            if self.out is not None:
                return self._go_on(predictor, advance)
            told = {"batch_size": self.batch_size, "advance": advance, "excel": self.excel}
            return Tally(total, 0, predict_files(predictor, self.names, sys.stdout, **told))

    def run_on_cluster(self, cluster: str, workers: int | None) -> Tally:
        from kerasall.serving.cluster import Scoring, on_cluster
        from kerasall.serving.predictor import describe_verdict

        total = sum(1 for _ in self.names)
        self._prepare_output(parts=True)
        folder = Run.find(self.model).pushed
        note(describe_verdict(folder))
        scoring = Scoring(folder.absolute(), Path.cwd(), self.batch_size, self.max_side, self.max_pixels)
        with on_cluster(scoring, cluster, workers, note) as model, show_progress(total) as advance:
            return self._go_on(model, advance, parts=True)

    def _go_on(
        self, model: Predictor | Answering, advance: Callable[[int], None], parts: bool = False
    ) -> Tally:
        from kerasall.serving.batch import resume_predictions
        from kerasall.serving.table_files import clear_table

        assert self.out is not None
        try:
            if self.overwrite:  # not before the model, and the cluster, are there to make it anew
                clear_table(self.out)
            return resume_predictions(
                model, self.names, self.out, batch_size=self.batch_size, advance=advance, excel=self.excel,
                parts=parts, part_rows=self.part_rows,
            )  # fmt: skip
        except KeyboardInterrupt:
            again = "without --overwrite " if self.overwrite else ""
            raise KeyboardInterrupt(
                f"stopped; rows in {self.out} are kept, and the same command {again}goes on from there"
            ) from None

    def _prepare_output(self, parts: bool = False) -> None:
        from kerasall.serving.table_files import require_destination

        if self.out is None:
            if isinstance(sys.stdout, io.TextIOWrapper):  # a table is UTF-8 wherever it goes
                sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
            return
        require_destination(self.out, parts and not self.overwrite)


def _telling_parity(predictor: Predictor, advance: Callable[[int], None]) -> Callable[[int], None]:
    told = False

    def step(count: int) -> None:
        nonlocal told
        advance(count)
        if not told and (line := predictor.describe_parity()):
            note(f"compared with TensorFlow in float32: {line}")
            told = True

    return step
