"""A designed experiment's search as any process sees it: alone, as chief with workers, or as one of these.

    python -m kerasall.components.trial_search JOB.json

runs a worker: KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT say which, and where its chief is.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import keras_tuner
import numpy as np

from kerasall.components.noise_runs import deal_under, list_noise, select_rows
from kerasall.components.trial_training import FOLDERS, SearchJob, TrialTraining
from kerasall.components.trial_workers import ClusterWorkers, LocalWorkers, list_gpus
from kerasall.data.development import SELECTION, Development, read_development
from kerasall.data.training_record import PROJECT
from kerasall.errors import KerasallError, SettingsError
from kerasall.evaluation.metrics import find_metric
from kerasall.files import read_json, write_json
from kerasall.ray_cluster import count_cpus, find_host, joined
from kerasall.settings import TrialSettings, TuneSettings
from kerasall.settings.factors import as_choices, factor_levels, label_factors
from kerasall.settings.noise import is_scored_alone, is_trial_setting, noise_levels
from kerasall.shown_text import tell, tell_fault
from kerasall.taguchi.design import CROSS, read_pair
from kerasall.taguchi.oracle import TaguchiOracle, chief_address, serve_oracle
from kerasall.taguchi.signal_to_noise import check_range, default_signal, parse_signal
from kerasall.taguchi.tuner import TaguchiTuner

JOB = "job.json"
"""File in a running search's scratch folder from which workers start."""

_MODULE = "kerasall.components.trial_search"
_WAIT_SECONDS = 600.0


def make_oracle(job: SearchJob, data: Development) -> TaguchiOracle:
    """The oracle of a search over these rows."""
    find_metric(job.tune.response, data.facts.labels)
    return plan_oracle(job.base, job.tune, len(data.split.folds) or None, job.seed, count_scored(job, data))


def count_scored(job: SearchJob, data: Development) -> int:
    """Images behind every response of an analysis: those of the scored part, or of all held-out folds.

    Where noise divides them by a column, the fewest that a noise run scores.

    Raises:
        SettingsError: a noise divides them by a column or a value that is not there, or not in every part that is scored.
    """
    parts = (SELECTION,) if job.tune.response_on == SELECTION else data.split.folds or ("validation",)
    counts, said = [], job.read_said(data)
    for run in list_noise(job.base, job.tune):
        dealt = deal_under(data, run)
        scored = (select_rows(dealt, dealt.rows_of(part), run.columns, said) for part in parts)
        counts.append(sum(map(len, scored)))
    return min(counts)


def plan_oracle(
    base: TrialSettings,
    tune: TuneSettings,
    folds: int | None = None,
    seed: int = 0,
    images: int | None = None,
) -> TaguchiOracle:
    """The oracle of an experiment; factors go by their short names, see ``label_factors``.

    Args:
        base, tune: of the experiment.
        folds: number of held-out folds, or None.
        seed: of the experiment.
        images: behind every response; None before the split is drawn.

    Raises:
        SettingsError: a factor or number cannot be used, no array fits, or the signal contradicts the response.
    """
    # A score of one class, "recall:ALL", waits for the classes; its range does not.
    metric = find_metric(tune.response, (tune.response.partition(":")[2],))
    signal = tune.signal or default_signal(metric.direction, metric.lowest, metric.highest)
    check_range(parse_signal(signal), tune.response, metric.lowest, metric.highest)
    bounds = [end if np.isfinite(end) else None for end in (metric.lowest, metric.highest)]
    levels = factor_levels(base, tune.factors)
    noise = noise_levels(base, tune)
    labels = label_all(levels, noise)
    pool = tune.pool if isinstance(tune.pool, str) else [label_term(name, labels) for name in tune.pool]
    without = {labels[key]: values for key, values in read_without(base, tune).items()}
    alone = [labels[key] for key in noise if is_scored_alone(key)]
    return TaguchiOracle(
        keras_tuner.Objective(tune.response, "max" if metric.direction == "higher" else "min"),
        {labels[key]: as_choices(values) for key, values in levels.items()},
        array=tune.array,
        repeats=tune.repeats,
        folds=folds,
        seed=seed,
        confirmations=tune.confirmations,
        signal=signal,
        error_df=tune.error_df,
        interactions=[
            "*".join(labels[key] for key in read_pair(pair, list(levels))) for pair in tune.interactions
        ],
        without=without,
        noise={labels[key]: as_choices(values) for key, values in noise.items()},
        noise_array=tune.noise_array,
        retry_failed=True,  # whoever starts the search again wants it to end
        analysis={"levels_as": tune.levels_as, "pool": pool, "images": images, "bounds": bounds}
        | ({"scored_alone": alone} if alone else {}),
    )


def label_all(factors: Iterable[str], noise: Iterable[str]) -> dict[str, str]:
    """Key of a factor or of noise -> the short name it goes by, see ``label_factors``; of noise that is no setting of a trial
    the key itself."""
    keys = [*factors, *filter(is_trial_setting, noise)]
    return label_factors(keys) | {key: key for key in noise if not is_trial_setting(key)}


def label_term(name: str, labels: Mapping[str, str]) -> str:
    """A factor's or an interaction's short name, of one by the settings' keys."""
    return CROSS.join(labels.get(key.strip(), key.strip()) for key in name.split("*"))


def read_without(base: TrialSettings, tune: TuneSettings) -> dict[str, list[Any]]:
    """The levels to do without as the oracle's factors hold them, by the keys of the settings.

    Raises:
        SettingsError: a key is no factor, or a value none of its levels.
    """
    found: dict[str, list[Any]] = {}
    levels = factor_levels(base, tune.factors)
    for key, values in tune.without.items():
        if key not in levels:
            raise SettingsError(f"tune.without must name factors, but {key} is none: {', '.join(levels)}")
        (read,) = factor_levels(base, {key: values}).values()
        known = as_choices(levels[key])
        if wrong := [value for value in read if value not in levels[key]]:
            raise SettingsError(
                f"tune.without must name levels of {key}, but {wrong[0]!r} is none: {', '.join(map(str, levels[key]))}"
            )
        found[key] = [known[levels[key].index(value)] for value in read]
    return found


def search(training: TrialTraining) -> TaguchiTuner:
    """Runs every trial that is not finished, in this process; the environment says whether for a chief.

    Raises:
        KerasallError: too many trials failed in a row, or a worker finds no chief.
    """
    tuner = _make_tuner(training)
    try:
        tuner.search()
    except keras_tuner.errors.FatalError as error:
        raise KerasallError(f"the search must go on, but a trial says: {error}") from error
    return tuner


def search_with_workers(training: TrialTraining, count: int, cluster: str = "") -> TaguchiTuner:
    """Hands out every trial that is not finished, as chief.

    Args:
        training: of the trials; its images are decoded here.
        count: of workers on this machine, or on the cluster; others may come from elsewhere.
        cluster: where Ray starts the workers, see ``kerasall.ray_cluster.joined``; they run trials as all others do.

    Raises:
        KerasallError: a worker dies again and again, or there is no such cluster.
    """
    job = training.job
    training.decode(0)  # once, on disk, for all of them
    with ExitStack() as opened:
        ray = opened.enter_context(joined(cluster, count or None)) if cluster else None
        given = chief_address() if role_of_process() == "chief" else None
        if ray is not None:
            given, cores = given or _free_address(find_host(ray)), count_cpus(ray)
            count = count or cores or 1
            if not cores:
                tell("the cluster has no core yet: workers start when a host with some joins it")
        address = opened.enter_context(chief_environment(given))
        tuner = _make_tuner(training)
        oracle = tuner.taguchi_oracle
        if not oracle.remaining_trials():
            return tuner
        oracle.save()
        path = write_job(job, address)
        command = ["-u", "-m", _MODULE, str(path.absolute())]  # -u keeps their logs up to date
        options = (command, count, job.scratch / "logs", lambda: len(oracle.end_order))
        workers = (
            ClusterWorkers(ray, *options) if ray else LocalWorkers(*options, list_gpus() if count else ())
        )
        tell(f"chief at {address}, {count} workers {'on the cluster' if ray else 'here'}; job: {path}")
        try:
            with contextlib.redirect_stdout(sys.stderr):
                serve_oracle(oracle, watch=workers.watch)
        except BaseException:
            workers.end(seconds=0)
            raise
        workers.end()
        return tuner


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


def write_job(job: SearchJob, address: str) -> Path:
    """Writes what workers start from, and where their chief is; returns the file."""
    path = job.scratch / JOB
    write_json(path, {"job": job.to_json(), "address": address})
    return path


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


def run_worker(path: Path) -> None:
    """Runs trials for a chief, as ``write_job`` wrote it down, until there are none left."""
    job = SearchJob.from_json(read_json(path)["job"])
    search(TrialTraining(job, read_development(job.development)))


@contextmanager
def chief_environment(address: str | None = None) -> Iterator[str]:
    """Makes this process the chief of a search; yields its address.

    Args:
        address: ``host:port``; None listens on this machine alone, at a free port.
    """
    ip, _, port = (address or _free_address("127.0.0.1")).rpartition(":")
    given = {"KERASTUNER_TUNER_ID": "chief", "KERASTUNER_ORACLE_IP": ip, "KERASTUNER_ORACLE_PORT": port}
    former = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield f"{ip}:{port}"
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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
        tell_fault(f"kerasall: error: {error}")
        sys.exit(1)


def _make_tuner(training: TrialTraining) -> TaguchiTuner:
    """The tuner of this process; the environment says whether it is alone, chief or worker."""
    oracle = make_oracle(training.job, training.data)
    return TaguchiTuner(oracle, run=training, directory=str(training.job.scratch), project_name=PROJECT)


def _without_folders(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name not in FOLDERS}


def _free_address(host: str) -> str:
    with socket.socket() as free:
        free.bind((host, 0))
        return f"{host}:{free.getsockname()[1]}"


if __name__ == "__main__":
    main(sys.argv[1:])
