"""Tuner: a designed experiment over settings of the training, and the models that confirm its optimum."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from kerasall.components.trainer import hash_weights
from kerasall.components.trial_record import write_search
from kerasall.components.trial_search import (
    SearchJob,
    Trials,
    address_of_chief,
    check_experiment,
    decode,
    make_tuner,
    role_of_process,
    search,
    write_job,
)
from kerasall.components.trial_training import MODEL, TRAINING
from kerasall.components.trial_workers import LocalWorkers, chief_environment, list_gpus
from kerasall.data.development import (
    MEMBERS_FILE,
    PREDICTIONS,
    SELECTION_PREDICTIONS,
    Development,
    read_development,
)
from kerasall.errors import KerasallError, SettingsError
from kerasall.evaluation.predictions import concatenate, read_predictions, write_predictions
from kerasall.files import read_json, write_json
from kerasall.pipeline.component import Input, Output, Scratch, Unkeyed, component
from kerasall.preprocessing.augmentation import Augmentation
from kerasall.settings import MemberSettings, Settings, TrialSettings, TuneSettings
from kerasall.settings.factors import apply_levels, as_choices, factor_levels, trial_settings
from kerasall.taguchi.design import plan
from kerasall.taguchi.oracle import serve_oracle
from kerasall.taguchi.signal_to_noise import parse_signal
from kerasall.taguchi.stored_oracle import FINISHED
from kerasall.taguchi.tuner import TaguchiTuner, TrialRun
from kerasall.training.precision import choose_precision
from kerasall.training.stages import StageSettings


def require_tune(settings: Settings) -> TuneSettings:
    """The experiment that the settings state, every row of it tried as settings before anything trains.

    Raises:
        SettingsError: there is none, no array fits its factors, or a row's settings cannot be used.
    """
    tune = settings.tune
    if tune is None:
        raise SettingsError(
            "this pipeline needs the setting tune, but it is null: state factors with their levels, as in "
            "configs/taguchi_resnet101_vote.yaml"
        )
    check_experiment(trial_settings(settings), tune)
    if parse_signal(tune.signal or "larger").signal.needs_repeats and tune.repeats < 2:
        raise SettingsError(
            f"tune.signal {tune.signal} needs tune.repeats of at least 2, but they are {tune.repeats}"
        )
    if unknown := sorted(set(() if isinstance(tune.pool, str) else tune.pool) - set(tune.factors)):
        raise SettingsError(
            f"tune.pool must name factors, but {', '.join(unknown)} is none: {', '.join(tune.factors)}"
        )
    for row in settings_of_rows(settings):
        _try_settings(row)
    return tune


def settings_of_rows(settings: Settings) -> list[TrialSettings]:
    """What every row of the array trains with.

    Raises:
        SettingsError: no array fits the factors, or a row's settings cannot be used together.
    """
    assert settings.tune is not None
    base, tune = trial_settings(settings), settings.tune
    levels = factor_levels(base, tune.factors)
    made = plan({key: as_choices(values) for key, values in levels.items()}, tune.array, tune.error_df)
    return [
        apply_levels(
            base, {k: v[(level - 1) % len(v)] for (k, v), level in zip(levels.items(), row, strict=True)}
        )
        for row in made.levels
    ]


def _try_settings(settings: TrialSettings) -> None:
    """Names and constants that are only words in the settings are looked up."""
    if settings.augment is not None:
        Augmentation.from_json(settings.augment)
    for stage in settings.train.stages:
        schedule = dict(stage.schedule)
        StageSettings(
            optimizer=stage.optimizer.name, optimizer_constants=stage.optimizer.constants,
            schedule=schedule.pop("name", "constant"), schedule_constants=schedule, loss=settings.train.loss,
        )  # fmt: skip


def hash_factor_weights(
    base: TrialSettings, tune: TuneSettings, weights_folder: Path | None
) -> list[str | None]:
    """Content of the pretrained weights of every network among the levels."""
    levels = {k: v for k, v in factor_levels(base, tune.factors).items() if k.startswith("model.")}
    found: dict[str, str | None] = {}
    for combination in itertools.product(*levels.values()):
        model = apply_levels(base, dict(zip(levels, combination, strict=True))).model
        key = f"{model.backbone} {model.alpha} {model.weights}"
        if key not in found:
            found[key] = hash_weights(model, weights_folder)
    return list(found.values())


def describe_outside(
    base: TrialSettings, tune: TuneSettings, deterministic: bool, weights_folder: Path | None
) -> list[str | None]:
    """What decides the result beside the settings: pretrained weights, and what this device computes in."""
    precision = choose_precision(base.train.precision, deterministic)
    return [*hash_factor_weights(base, tune, weights_folder), precision.name]


@component(fingerprint=describe_outside)
def tuner(
    development: Annotated[Path, Input("Development")],
    base: TrialSettings,
    tune: TuneSettings,
    inner_validation: float,
    seed: int,
    deterministic: bool,
    models: Annotated[Path, Output("Models")],
    records: Annotated[Path, Output("TrainingRecords")],
    results: Annotated[Path, Output("Search")],
    scratch: Annotated[Path, Scratch()],
    weights_folder: Annotated[Path | None, Unkeyed()],
    cache_folder: Annotated[Path, Unkeyed()],
    workers: Annotated[int, Unkeyed()] = 0,
) -> dict[str, Any]:
    """Runs every row of the array as often as asked, then the best combination again: those are the members.

    The response is a metric of the validation part or of each held-out fold; a faithful copy may take it
    from the part ``selection``, as its paper did from the test part. No test image is known here. Every
    trial is a folder of its own below the scratch folder; a search that was killed goes on from there.
    With ``workers`` this process hands trials out to so many processes on this machine; with keras-tuner's
    variables in the environment, to processes on any host.
    """
    job = SearchJob(
        development, scratch, base, tune, inner_validation, seed, deterministic, weights_folder, cache_folder
    )
    data = read_development(development)
    trials = Trials(job, data)
    if workers or role_of_process() == "chief":
        searched = _search_with_workers(job, data, trials, workers)
    else:
        searched = search(job, data, trials)
    runs = confirmation_runs(searched)
    members = collect_members(job, data, trials, runs, models, records)
    write_search(searched, job, data, members, results)
    found = searched.analyze()
    return {
        "trials": len(searched.taguchi_oracle.trials),
        "array": searched.taguchi_oracle.design.plan.array,
        "best_levels": searched.taguchi_oracle.design.settings_of(found.best_levels),
        "predicted": found.prediction.value,
        "confirmed": found.prediction.confirmed,
    }


def _search_with_workers(job: SearchJob, data: Development, trials: Trials, count: int) -> TaguchiTuner:
    decode(job, data, 0)  # once, on disk, for all of them
    given = address_of_chief() if role_of_process() == "chief" else None
    with chief_environment(given) as address:
        tuner = make_tuner(job, data, trials)
        oracle = tuner.taguchi_oracle
        if not oracle.remaining_trials():
            return tuner
        oracle.save()
        path = write_job(job, address)
        # -I would hide the folder of a checkout from the workers; -u keeps their logs up to date.
        command = [
            sys.executable,
            "-u",
            "-m",
            "kerasall.components.trial_search",
            str(path),
            str(os.getpid()),
        ]
        workers = LocalWorkers(
            command, count, job.scratch / "logs", lambda: len(oracle.end_order), list_gpus() if count else ()
        )
        print(f"chief at {address}, {count} workers here; job: {path}", file=sys.stderr, flush=True)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                serve_oracle(oracle, watch=workers.watch)
        except BaseException:
            workers.end(seconds=0)
            raise
        workers.end()
        return tuner


def confirmation_runs(tuner: TaguchiTuner) -> list[list[TrialRun]]:
    """The trials at the predicted optimum: one list of folds for every run that ended well.

    Raises:
        KerasallError: fewer than two runs did.
    """
    oracle = tuner.taguchi_oracle
    found: dict[int, list[TrialRun]] = {}
    for trial in oracle.trials.values():
        run = tuner.describe_run(trial)
        if run.row == "confirmation" and trial.status == FINISHED[0]:
            found.setdefault(run.repeat, []).append(run)
    folds = oracle.design.folds or 1
    whole = [
        sorted(runs, key=lambda run: run.fold) for _, runs in sorted(found.items()) if len(runs) == folds
    ]
    if len(whole) < 2:
        raise KerasallError(
            f"at least 2 confirmation runs must end well, but {len(whole)} of {oracle.confirmations} did: look at "
            f"their messages in {Path(tuner.project_dir)} and run the same command again"
        )
    return whole


def collect_members(
    job: SearchJob,
    data: Development,
    trials: Trials,
    runs: Sequence[Sequence[TrialRun]],
    models: Path,
    records: Path,
) -> list[MemberSettings]:
    """Models and records of the confirmation runs, one folder each, as the Ensembler takes them.

    With folds a run's held-out predictions are joined, and its model is trained once more on all rows.
    """
    members = []
    for number, folds in enumerate(runs, start=1):
        name = f"model_{number}"
        trained = [read_json(run.folder / TRAINING) for run in folds]
        settings = TrialSettings.model_validate(trained[0]["settings"])
        members.append(MemberSettings(name=name, model=settings.model, train=settings.train))
        record = {**trained[0], "seconds": round(sum(each["seconds"] for each in trained), 1)}
        record["fits"] = {fold: history for each in trained for fold, history in each["fits"].items()}
        source = folds[0].folder
        if data.split.folds:
            source = job.scratch / name
            record["fits"] |= _finish(trials, folds, record["fits"], source)
        (models / name).mkdir(parents=True)
        (records / name).mkdir(parents=True)
        _link(source / MODEL, models / name / MODEL)
        parts = [read_predictions(run.folder / PREDICTIONS) for run in folds]
        write_predictions(concatenate(parts), records / name / PREDICTIONS)
        if (source / SELECTION_PREDICTIONS).is_file():
            _link(source / SELECTION_PREDICTIONS, records / name / SELECTION_PREDICTIONS)
        write_json(records / name / TRAINING, record)
    write_json(models / MEMBERS_FILE, [member.model_dump(mode="json") for member in members])
    return members


def _finish(
    trials: Trials, folds: Sequence[TrialRun], fits: Mapping[str, Any], scratch: Path
) -> dict[str, Any]:
    done = scratch / "final.json"
    if not done.is_file():
        levels = list(folds[0].levels.values())
        write_json(done, trials.training.finish_folds(levels, folds[0].seed, dict(fits), scratch))
        shutil.rmtree(scratch / "fit", ignore_errors=True)
    return read_json(done)


def _link(source: Path, destination: Path) -> None:
    """The same file at a second place; a copy where the disk does not offer that."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
