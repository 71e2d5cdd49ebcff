"""A designed experiment's search as any process sees it: alone, as chief, or as one of its workers.

    python -m kerasall.components.trial_search JOB.json

runs a worker: KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT say which, and where its chief is.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import keras_tuner

from kerasall.components.trial_training import TrialTraining
from kerasall.data.development import Development, read_development
from kerasall.data.pixel_cache import PixelCache, decode_pixels
from kerasall.errors import KerasallError
from kerasall.evaluation.metrics import find_metric
from kerasall.files import read_json, write_json
from kerasall.preprocessing.operations import Chain
from kerasall.settings import TrialSettings, TuneSettings
from kerasall.settings.factors import as_choices, factor_levels, label_factors
from kerasall.taguchi.oracle import TaguchiOracle
from kerasall.taguchi.tuner import TaguchiTuner, TrialRun

JOB = "job.json"
"""File in a running search's scratch folder from which workers start."""

PROJECT = "project"
"""Folder of keras-tuner: the oracle's state and one folder a trial."""

_WAIT_SECONDS = 600.0


@dataclass(frozen=True)
class SearchJob:
    """Everything a process of the search needs; the same on every host.

    Attributes:
        development: folder of the rows to develop on.
        scratch: folder that holds the project; outlives a kill.
        base: settings that no factor changes.
        tune: the experiment.
        inner_validation, seed, deterministic: as for ``TrialTraining``.
        weights_folder: where pretrained weights lie, or None.
        cache_folder: decoded pixels and activations.
    """

    development: Path
    scratch: Path
    base: TrialSettings
    tune: TuneSettings
    inner_validation: float
    seed: int
    deterministic: bool
    weights_folder: Path | None
    cache_folder: Path

    @property
    def project(self) -> Path:
        """Folder of the oracle and its trials."""
        return self.scratch / PROJECT

    @property
    def levels(self) -> dict[str, tuple[Any, ...]]:
        """Key of a setting -> its levels as the settings read them."""
        return factor_levels(self.base, self.tune.factors)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``read_job`` reads it back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {name: values[name].model_dump(mode="json") for name in ("base", "tune")}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def write_job(job: SearchJob, address: str) -> Path:
    """Writes what workers start from, and where their chief is; returns the file."""
    path = job.scratch / JOB
    write_json(path, {"job": job.to_json(), "address": address})
    return path


def read_job(path: Path) -> SearchJob:
    """Reads what ``write_job`` wrote."""
    values = read_json(path)["job"]
    folders = ("development", "scratch", "weights_folder", "cache_folder")
    values |= {name: Path(values[name]) for name in folders if values[name] is not None}
    values["base"] = TrialSettings.model_validate(values["base"])
    values["tune"] = TuneSettings.model_validate(values["tune"])
    return SearchJob(**values)


def make_oracle(job: SearchJob, data: Development) -> TaguchiOracle:
    """The oracle of a search over these rows."""
    response = find_metric(job.tune.response, data.facts.labels)
    return plan_oracle(job.base, job.tune, response.direction, len(data.split.folds) or None, job.seed)


def plan_oracle(
    base: TrialSettings, tune: TuneSettings, direction: str, folds: int | None = None, seed: int = 0
) -> TaguchiOracle:
    """The oracle of an experiment; factors go by their short names, see ``label_factors``.

    Args:
        base, tune: of the experiment.
        direction: of its response, ``higher`` or ``lower``, whichever is better.
        folds: number of held-out folds, or None.
        seed: of the experiment.

    Raises:
        SettingsError: a factor or number cannot be used, no array fits, or the signal contradicts the response.
    """
    levels = factor_levels(base, tune.factors)
    labels = label_factors(list(levels))
    pool = tune.pool if isinstance(tune.pool, str) else [labels.get(name, name) for name in tune.pool]
    return TaguchiOracle(
        keras_tuner.Objective(tune.response, "max" if direction == "higher" else "min"),
        {labels[key]: as_choices(values) for key, values in levels.items()},
        array=tune.array,
        repeats=tune.repeats,
        folds=folds,
        seed=seed,
        confirmations=tune.confirmations,
        signal=tune.signal,
        error_df=tune.error_df,
        retry_failed=True,  # whoever starts the search again wants it to end
        analysis={"levels_as": tune.levels_as, "pool": pool},
    )


class Trials:
    """Trains trials one after another; decodes the images when the first of them needs them."""

    def __init__(self, job: SearchJob, data: Development) -> None:
        self._job, self._data = job, data
        self._training: TrialTraining | None = None

    def __call__(self, run: TrialRun) -> dict[str, float]:
        return self.training(run)

    @property
    def training(self) -> TrialTraining:
        """What all trials have in common."""
        if self._training is None:
            job = self._job
            pixels = decode(job, self._data, int(job.base.train.memory_gib * 2**30))
            self._training = TrialTraining(
                self._data, pixels, job.base, job.tune, job.levels, job.inner_validation,
                job.deterministic, job.weights_folder, job.cache_folder,
            )  # fmt: skip
        return self._training


def decode(job: SearchJob, data: Development, memory_bytes: int) -> PixelCache:
    """Decoded images of all rows; with 0 bytes of memory they are stored on disk, for several processes."""
    return decode_pixels(
        data.examples["path"].tolist(), Chain.from_json(data.preprocess), job.cache_folder / "pixels",
        memory_bytes=memory_bytes, keys=data.examples["sha256"].tolist(), limits=data.limits,
    )  # fmt: skip


def make_tuner(job: SearchJob, data: Development, trials: Trials) -> TaguchiTuner:
    """The tuner of this process; the environment says whether it is alone, chief or worker."""
    return TaguchiTuner(
        make_oracle(job, data), run=trials, directory=str(job.scratch), project_name=PROJECT
    )  # fmt: skip


def search(job: SearchJob, data: Development, trials: Trials) -> TaguchiTuner:
    """Runs every trial that is not finished, in this process or as a worker.

    Raises:
        KerasallError: too many trials failed in a row, or a worker finds no chief.
    """
    tuner = make_tuner(job, data, trials)
    try:
        tuner.search()
    except keras_tuner.errors.FatalError as error:
        raise KerasallError(f"the search must go on, but a trial says: {error}") from error
    return tuner


def check_experiment(base: TrialSettings, tune: TuneSettings) -> None:
    """Refuses an experiment that cannot be planned, before the classes are known.

    Raises:
        SettingsError: as ``plan_oracle``, or the response is no metric; naming the nearest.
    """
    plan_oracle(base, tune, direction_of(tune.response))


def direction_of(response: str) -> str:
    """Whether a metric is better ``higher`` or ``lower``, before the classes are known."""
    # A score of one class, "recall:ALL", waits for the classes; all of these are better when higher.
    return "higher" if ":" in response else find_metric(response, ()).direction


def role_of_process() -> Literal["alone", "chief", "worker"]:
    """This process' part in a search, as the environment says.

    Raises:
        KerasallError: some of keras-tuner's three variables are set and others are not.
    """
    names = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
    given = [name for name in names if os.environ.get(name)]
    if not given:
        return "alone"
    if len(given) < len(names):
        missing = [name for name in names if name not in given]
        raise KerasallError(
            f"a distributed search needs {', '.join(names)}, but {', '.join(missing)} is not set: set it, or unset "
            f"{', '.join(given)}"
        )
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"  # keras-tuner's own rule


def address_of_chief() -> str:
    """Where the chief listens, as the environment says."""
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"


def find_job(artifacts: Path, like: SearchJob, address: str, wait_seconds: float = _WAIT_SECONDS) -> Path:
    """The running search of the same experiment in a shared runs folder, as its chief wrote it down.

    Args:
        artifacts: folder of the runs' artifacts.
        like: its settings must be the same; its folders do not count.
        address: of the chief.
        wait_seconds: how long to look.

    Raises:
        KerasallError: there is none.
    """
    wanted = _without_folders(like.to_json())
    until = time.monotonic() + wait_seconds
    while True:
        for path in sorted(artifacts.glob(f"*/*/.scratch/{JOB}"), key=lambda p: -p.stat().st_mtime):
            found = read_json(path)
            if found["address"] == address and _without_folders(found["job"]) == wanted:
                return path
        if time.monotonic() > until:
            raise KerasallError(
                f"a chief of this experiment must have begun its search below {artifacts}, but none at {address} has: "
                "start the same command there with KERASTUNER_TUNER_ID=chief, with the same settings and "
                "KERASALL_RUNS on a shared disk"
            )
        time.sleep(1)


def _without_folders(job: dict[str, Any]) -> dict[str, Any]:
    folders = ("development", "scratch", "weights_folder", "cache_folder")
    return {name: value for name, value in job.items() if name not in folders}


def run_worker(path: Path) -> None:
    """Runs trials for a chief until there are none left."""
    job = read_job(path)
    data = read_development(job.development)
    search(job, data, Trials(job, data))


def end_with(parent: int) -> None:
    """Ends this process when its parent is gone: a chief that was killed cannot stop its workers."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> None:
    """Runs a worker of the job that a file describes; a second argument is the process to end with."""
    if len(arguments) > 1:
        end_with(int(arguments[1]))
    try:
        run_worker(Path(arguments[0]))
    except KerasallError as error:
        print(f"kerasall: error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
