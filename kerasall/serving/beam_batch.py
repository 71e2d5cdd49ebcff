"""The same predictions with Apache Beam's RunInference: sharded tables, dead letters, jobs that can be gone on with.

Names of files are cut into parts. Each part is one pipeline: names -> reshuffled over the workers -> RunInference,
which reads, checks and predicts files as ``predict_rows`` does -> shards. A part counts once its record is written,
after its shards; what a killed part left is removed. So a job goes on on any runner, and no file stands twice.

For ``out`` = folder/predictions.csv:
    folder/predictions-00001-00000-of-00002.csv   shards of part 1
    folder/predictions-dead-letter.jsonl          path and error of every file that failed
    folder/predictions.parts/                     records of the parts
"""

# Beam is an extra: without it there is nothing here to check types against.
# pyright: reportMissingImports=false

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from kerasall.decoding import Limits, read_image_bytes, with_limits
from kerasall.errors import DecodingError, SettingsError
from kerasall.files import sha256_of_file
from kerasall.serving.batch import Advance, Fresh, Tally, predict_rows
from kerasall.serving.beam_output import JobOutput, Part, pack, unpack, write_rows
from kerasall.serving.image_files import is_remote
from kerasall.serving.prediction_tables import Kind, Row, encode, list_columns
from kerasall.serving.predictor import Predictor

# Not "DirectRunner": it may choose a runner that fetches a program from the network.
RUNNERS = {
    "direct": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
}
_PARALLEL = {
    "direct": ("direct_running_mode=multi_processing", "direct_num_workers={}"),
    "flink": ("parallelism={}",),
    "spark": (),
    "dataflow": ("num_workers={}",),
}
"""Runner -> its options for a number of workers; Spark's is set where its cluster is."""

LOG_TAIL = 8_000
"""Bytes of the workers' log that are shown where a part fails."""


@dataclass(frozen=True)
class BeamJob:
    """What is to be predicted with, where to, and how.

    Attributes:
        model: folder of one version of a SavedModel, at the same path on every worker.
        out: ``.csv``, ``.jsonl`` or ``.parquet`` path, local or an address; shards lie beside it.
        runner: one of ``RUNNERS``.
        workers: processes; each loads the model.
        batch_size: files per call of the model.
        max_side: width and height of an image at most; None for the model's own limit.
        max_pixels: pixels of an image at most; None for the model's own limit.
        options: Beam's and the runner's own options, "key=value" or a flag's "key".
    """

    model: str
    out: str
    runner: str = "direct"
    workers: int = 1
    batch_size: int = 32
    max_side: int | None = None
    max_pixels: int | None = None
    options: tuple[str, ...] = ()


class SavedModelHandler(ModelHandler[str, Row, Predictor]):
    """Lets RunInference answer names of image files, as JSON strings, with packed rows."""

    def __init__(self, job: BeamJob) -> None:
        super().__init__(min_batch_size=job.batch_size, max_batch_size=job.batch_size)
        self._job = job

    def load_model(self) -> Predictor:
        """Loads the SavedModel once a process, after checking its hashes."""
        return load_predictor(self._job)

    def run_inference(
        self, batch: Sequence[str], model: Predictor, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Row]:
        """One row a file; a bad file's has an error."""
        return map(pack, predict_rows(model, [json.loads(name) for name in batch], read_anywhere))


def load_predictor(job: BeamJob) -> Predictor:
    """The job's model with the job's limits."""
    predictor = Predictor(job.model)
    predictor.limits = with_limits(predictor.limits, job.max_side, job.max_pixels)
    return predictor


def read_anywhere(name: str, limits: Limits) -> bytes:
    """Reads a file from the local disk or, by its address, from any file system that Beam knows.

    Raises:
        DecodingError: unreadable or larger than the limits allow.
    """
    if not is_remote(name):
        return read_image_bytes(Path(name), limits)
    try:
        with FileSystems.open(name, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            data = file.read(limits.max_bytes + 1)
    except Exception as error:  # each file system has errors of its own
        raise DecodingError(f"{name} must be readable, but reading it failed: {error}") from None
    if len(data) > limits.max_bytes:
        raise DecodingError(f"{name} must have at most {limits.max_bytes:,} bytes, but has more: shrink it")
    return data


def predict_with_beam(
    job: BeamJob,
    names: Iterable[str],
    *,
    part_files: int = 10_000,
    overwrite: bool = False,
    advance: Advance = lambda count: None,
) -> Tally:
    """Predicts every file that the finished parts of ``job.out`` do not hold, part by part.

    Args:
        job: model, output and runner.
        names: image files, each once: local paths, or addresses that Beam's file systems know.
        part_files: files of one pipeline; what a kill costs at most.
        overwrite: remove what is there and begin anew.
        advance: told how many files were done or passed over.

    Raises:
        DataError: the output is of another kind or of another model.
        ArtifactError: no such model.
    """
    if "KERASALL_VERBOSE" not in os.environ:
        logging.getLogger().setLevel(logging.ERROR)
    predictor = load_predictor(job)
    columns = list_columns(predictor)
    record = {"model": sha256_of_file(predictor.folder / "manifest.json"), "columns": list(columns)}
    del predictor
    output = JobOutput(job.out, record)
    if job.runner != "direct":  # workers on other machines stand in other folders
        names = (name if is_remote(name) else os.path.abspath(name) for name in names)
    fresh = Fresh(names, output.open(overwrite), advance)
    waiting = iter(fresh)
    while chosen := list(islice(waiting, part_files)):
        part = output.begin_part(chosen)
        with _quiet_workers(job):
            run_pipeline(job, part, columns)
        output.finish_part(part)
        advance(len(chosen))
    return Tally(fresh.files, fresh.passed, output.write_dead_letters())


@contextmanager
def _quiet_workers(job: BeamJob) -> Iterator[None]:
    """Keeps what worker processes on this machine write to standard error for the case that a part fails.

    Beam tells them no level of logging: each writes hundreds of lines a part. Our own stream stays open.
    """
    if job.runner != "direct" or job.workers == 1 or "KERASALL_VERBOSE" in os.environ:
        yield
        return
    shown, stream = os.dup(2), sys.stderr
    with tempfile.TemporaryFile() as written, open(shown, "w", buffering=1, encoding="utf-8") as kept:
        if stream is sys.__stderr__:
            stream.flush()
            sys.stderr = kept
        os.dup2(written.fileno(), 2)
        try:
            yield
        except BaseException:
            written.seek(max(0, written.tell() - LOG_TAIL))
            kept.write(written.read().decode("utf-8", "replace"))
            raise
        finally:
            sys.stderr = stream
            os.dup2(shown, 2)


def run_pipeline(job: BeamJob, part: Part, columns: Mapping[str, Kind]) -> None:
    """Predicts the files of one part into its shards and dead letters; returns when all are written."""
    shards = job.workers if job.workers > 1 else 0  # 0: as the runner sees fit
    with beam.Pipeline(runner=RUNNERS[job.runner], options=make_options(job)) as pipeline:
        rows = (
            pipeline
            | "Names" >> beam.io.ReadFromText(part.names, compression_type=CompressionTypes.UNCOMPRESSED)
            | "Spread over workers" >> beam.Reshuffle()
            | "Predict" >> RunInference(SavedModelHandler(job))
        )
        _ = rows | "Write rows" >> write_rows(Path(job.out).suffix.lower(), part.shards, columns, shards)
        _ = (
            rows
            | "Failed" >> beam.Filter(lambda row: bool(unpack(row)["error"]))
            | "As dead letters" >> beam.Map(_dead_letter)
            | "Write dead letters"
            >> beam.io.WriteToText(
                part.dead_letters,
                num_shards=1,
                shard_name_template="",
                append_trailing_newlines=False,
                coder=beam.coders.BytesCoder(),
            )
        )


def make_options(job: BeamJob) -> PipelineOptions:
    """Options of the pipelines of a job.

    Raises:
        SettingsError: an option begins with dashes.
    """
    for option in job.options:
        if not option or option.startswith("-"):
            raise SettingsError(
                f"an option of Beam's must be KEY=VALUE or KEY, without dashes, but is {option!r}"
            )
    parallel = [option.format(job.workers) for option in _PARALLEL[job.runner]] if job.workers > 1 else []
    quiet = [] if "KERASALL_VERBOSE" in os.environ else ["default_sdk_harness_log_level=ERROR"]
    return PipelineOptions([f"--{option}" for option in (*quiet, *parallel, *job.options)])


def _dead_letter(row: Row) -> bytes:
    found = unpack(row)
    return encode(json.dumps({"path": found["path"], "error": found["error"]}, ensure_ascii=False) + "\n")
