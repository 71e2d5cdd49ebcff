"""Tuner: a designed experiment over settings of the training, and the models that confirm its optimum.

The artifact Search holds every response (``trials.csv``), the analysis, and the project of the oracle. Words and
pictures are ReportGen's: a reworded sentence must not run the trials again.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from kerasall.components.classifier_training import stage_settings
from kerasall.components.noise_runs import list_noise
from kerasall.components.training_step import MODEL_FILE, hash_weights
from kerasall.components.trial_search import (
    label_all,
    plan_oracle,
    read_without,
    role_of_process,
    search,
    search_with_workers,
)
from kerasall.components.trial_training import SearchJob, TrialTraining, link_file, settings_at
from kerasall.csv_tables import write_csv
from kerasall.data.development import SELECTION, Development, read_development
from kerasall.data.training_record import ANALYSIS, MEMBERS_FILE, PROJECT, TrainingRecord
from kerasall.errors import KerasallError, SettingsError
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.predictions import concatenate
from kerasall.files import atomic_path, write_json
from kerasall.models.passes import list_installed
from kerasall.pipeline.component import Input, Output, Scratch, Unkeyed, component
from kerasall.preprocessing.augmentation import Augmentation
from kerasall.preprocessing.operations import check_steps
from kerasall.settings import MemberSettings, Settings, TrialSettings, TuneSettings
from kerasall.settings.factors import apply_levels, as_choices, factor_levels, trial_settings
from kerasall.settings.noise import CHAIN, DEAL, SHIFT, is_trial_setting, noise_levels
from kerasall.taguchi.analysis import Analysis, describe_ratio
from kerasall.taguchi.design import NOISE, plan
from kerasall.taguchi.signal_to_noise import parse_signal
from kerasall.taguchi.stored_oracle import StoredOracle
from kerasall.taguchi.trial_events import list_trials
from kerasall.taguchi.trials import CONFIRMATION, FINISHED, Design
from kerasall.taguchi.tuner import TaguchiTuner, TrialRun
from kerasall.training.devices import choose_precision

TRIALS = "trials.csv"
"""File of a Search: one line a trial."""

_BULKY = shutil.ignore_patterns("*.keras", "*.h5", "fit", "tuner*.json", ".*")


def require_tune(settings: Settings) -> TuneSettings:
    """The experiment that the settings state, every row of it tried as settings before anything trains.

    Raises:
        SettingsError: there is none, no array fits its factors, or a row's settings cannot be used.
    """
    tune = settings.tune
    if tune is None:
        raise SettingsError(
            "this pipeline needs the setting tune, but it is null: state factors with their levels, as "
            "`kerasall configs taguchi_resnet101_vote` shows"
        )
    plan_oracle(trial_settings(settings), tune)
    if parse_signal(tune.signal or "mean").signal.needs_repeats and tune.repeats < 2 and not tune.noise:
        raise SettingsError(
            f"tune.signal {tune.signal} needs tune.repeats of at least 2, but they are {tune.repeats}"
        )
    if unknown := sorted(
        set(() if isinstance(tune.pool, str) else tune.pool) - {*tune.factors, *tune.interactions}
    ):
        raise SettingsError(
            f"tune.pool must name factors or declared interactions, but {', '.join(unknown)} is none: {', '.join(tune.factors)}"
        )
    require_noise(settings)
    for row in settings_of_rows(settings):
        if row.augment is not None:
            Augmentation.from_json(row.augment)
        for stage in row.train.stages:
            stage_settings(stage, row.train)
    return tune


def require_noise(settings: Settings) -> None:
    """Makes sure that the network is used under the first level of every noise.

    Raises:
        SettingsError: the first level is not what the experiment states, or a level cannot be used.
    """
    assert settings.tune is not None
    stated = {DEAL: settings.seed, CHAIN: list(settings.preprocess)}
    for key, levels in noise_levels(trial_settings(settings), settings.tune).items():
        first = list(levels[0]) if key == CHAIN else levels[0]
        if key in stated and first != stated[key]:
            raise SettingsError(
                f"the first level of tune.noise.{key} must be that under which the network is used, {stated[key]}, but is "
                f"{first}: put it first"
            )
        for level in levels if key in (CHAIN, SHIFT) else ():
            check_steps([*level, *(settings.preprocess if key == SHIFT else ())])


def settings_of_rows(settings: Settings) -> list[TrialSettings]:
    """What every row of the array that is run trains with.

    Raises:
        SettingsError: no array fits the factors, or a row's settings cannot be used together.
    """
    assert settings.tune is not None
    base, tune = trial_settings(settings), settings.tune
    levels = factor_levels(base, tune.factors)
    made = plan(
        {key: as_choices(values) for key, values in levels.items()},
        tune.array,
        tune.error_df,
        tune.interactions,
    )
    without = read_without(base, tune)
    wanted = [
        row for row in made.levels if not any(
            as_choices(values)[(level - 1) % len(values)] in without.get(key, ())
            for (key, values), level in zip(levels.items(), row, strict=True)
        )
    ]  # fmt: skip
    rows = [settings_at(base, levels, row) for row in wanted]
    for run in list_noise(base, tune):
        for row in rows:  # tried together, so that none fails when all others are trained
            apply_levels(row, run.settings)
    return rows


def describe_outside(
    base: TrialSettings, tune: TuneSettings, deterministic: bool, weights_folder: Path | None
) -> list[str | None]:
    """What decides the result beside the settings: pretrained weights, and what this device computes in.

    The weights are those of every network among the levels.
    """
    noise = {key: values for key, values in noise_levels(base, tune).items() if is_trial_setting(key)}
    varied = {**factor_levels(base, tune.factors), **noise}
    levels = {k: v for k, v in varied.items() if k.startswith("model.")}
    models = [
        apply_levels(base, dict(zip(levels, combination, strict=True))).model
        for combination in itertools.product(*levels.values())
    ]
    networks = {f"{model.backbone} {model.alpha} {model.weights}": model for model in models}
    hashes = hash_weights(networks.values(), weights_folder)
    return [*hashes, choose_precision(base.train.precision, deterministic).name, *list_installed()]


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
    cluster: Annotated[str, Unkeyed()] = "",
    attributes: Annotated[Path | None, Input("Attributes")] = None,
) -> dict[str, Any]:
    """Runs every row of the array as often as asked, then the best combination again: those are the members.

    The response is a metric of the validation part or of each held-out fold; a faithful copy may take it
    from the part ``selection``, as its paper did from the test part. Of test images nothing is known here but what
    a table says of them, where noise asks for it. Every
    trial is a folder of its own below the scratch folder; a search that was killed goes on from there.
    With ``workers`` this process hands trials out to so many processes on this machine, or on a Ray ``cluster``; with
    keras-tuner's variables in the environment, to processes on any host. ``attributes`` tells what noise divides the
    scored images by.
    """
    job = SearchJob(
        development, scratch, base, tune, inner_validation, seed, deterministic, weights_folder, cache_folder,
        attributes,
    )  # fmt: skip
    training = TrialTraining(job, read_development(development))
    alone = not (workers or cluster) and role_of_process() != "chief"
    searched = search(training) if alone else search_with_workers(training, workers, cluster)
    members = collect_members(training, confirmation_runs(searched), models, records)
    write_search(searched, training, members, results)
    found, design = searched.analyze(), searched.taguchi_oracle.design
    return {
        "trials": len(searched.taguchi_oracle.trials),
        "array": design.plan.array,
        "best_levels": design.settings_of(found.best_levels),
        "predicted": found.prediction.value,
        "confirmed": found.prediction.confirmed,
    }


def confirmation_runs(tuner: TaguchiTuner) -> list[list[TrialRun]]:
    """The trials at the predicted optimum, under the first level of every noise: one list of folds for every run that ended well.

    Raises:
        KerasallError: fewer than two runs did.
    """
    oracle = tuner.taguchi_oracle
    found: dict[int, list[TrialRun]] = {}
    for trial in oracle.trials.values():
        run = tuner.describe_run(trial)
        if run.row == CONFIRMATION and run.noise <= 1 and trial.status == FINISHED[0]:
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
    training: TrialTraining, runs: Sequence[Sequence[TrialRun]], models: Path, records: Path
) -> list[MemberSettings]:
    """Models and records of the confirmation runs, one folder each, as the Ensembler takes them.

    With folds a run's held-out predictions are joined, and its model is trained once more on all rows.
    """
    members = []
    for number, folds in enumerate(runs, start=1):
        name = f"model_{number}"
        for run in folds:
            training(
                run
            )  # it has ended: what it left is looked at once more, and made again where it was changed
        trials = [TrainingRecord(run.folder) for run in folds]
        told = [each.training for each in trials]
        settings = TrialSettings.model_validate(told[0]["settings"])
        steps = tuple(training.noise.steps_of(settings))
        members.append(MemberSettings(name=name, model=settings.model, train=settings.train, steps=steps))
        fits = {fold: history for each in told for fold, history in each["fits"].items()}
        source = folds[0].folder
        if training.data.split.folds:
            source = training.job.scratch / name
            fits |= training.finish_folds(folds[0], fits, source)
        (models / name).mkdir(parents=True)
        link_file(source / MODEL_FILE, models / name / MODEL_FILE)
        seconds = round(sum(each["seconds"] for each in told), 1)
        TrainingRecord(records / name).write(
            concatenate([each.predictions for each in trials]),
            {**told[0], "seconds": seconds, "fits": fits},
            selection=TrainingRecord(source).selection,
        )
    write_json(models / MEMBERS_FILE, [member.model_dump(mode="json") for member in members])
    return members


def write_search(
    tuner: TaguchiTuner, training: TrialTraining, members: Sequence[MemberSettings], folder: Path
) -> None:
    """Writes a Search artifact into an existing folder.

    Args:
        tuner: its search has ended.
        training: of its trials.
        members: what the confirmation runs became.
        folder: gets ``trials.csv``, ``analysis.json`` and ``project/``.
    """
    oracle, analysis, table = tuner.taguchi_oracle, tuner.analyze(), tuner.results()
    experiment = describe_experiment(oracle, analysis, training.job, training.data, table)
    experiment["members"] = [member.name for member in members]
    write_json(folder / ANALYSIS, analysis.to_json() | {"experiment": experiment})
    with atomic_path(folder / PROJECT) as temporary:
        shutil.copytree(training.job.project, temporary, ignore=_BULKY)
    write_csv(list_trials(folder / PROJECT).table, folder / TRIALS)


def describe_experiment(
    oracle: StoredOracle, analysis: Analysis, job: SearchJob, data: Development, table: pd.DataFrame
) -> dict[str, Any]:
    """What a report says of a search beyond the numbers of its analysis, as JSON."""
    design, labels = oracle.design, label_all(job.levels, job.tune.noise)
    metric = find_metric(design.objective, data.facts.labels)
    said = describe_ratio(analysis)
    return said | {
        "array": design.plan.array,
        "factors": [
            {"name": labels[key], "setting": key, "levels": list(analysis.level_names[labels[key]])}
            for key in job.levels
        ],
        "columns": design.plan.columns,
        "spare_columns": list(design.plan.spare_columns),
        "interactions": design.plan.to_json()["interactions"],
        "repeats": design.repeats,
        "folds": design.folds,
        "response": {"metric": metric.name, "title": metric.title, "direction": metric.direction},
        "scored_on": SELECTION if job.tune.response_on == SELECTION else data.recorded,
        # Only a validation part both watches the training and is scored; folds have an inner part for that.
        "epoch_chosen": job.tune.response_on == "validation"
        and not data.split.folds
        and any(stage.keep == "best" for stage in job.base.train.stages),
        "rows": list_rows(design, analysis, table),
        "confirmation": said["confirmation"] | {"responses": mean_responses(design, table, CONFIRMATION)},
        **({"noise": _describe_noise(oracle, job, labels)} if design.plan.noise else {}),
        "trials": len(table),
        "seconds": float(table["seconds"].sum()),
    }


def _describe_noise(oracle: StoredOracle, job: SearchJob, labels: Mapping[str, str]) -> dict[str, Any]:
    """The noise factors by name and setting, and what their runs share."""
    outer, runs = oracle.design.plan.noise, list_noise(job.base, job.tune)
    assert outer is not None
    return {
        "array": outer.array,
        "factors": [
            {
                "name": labels[key],
                "setting": key,
                "levels": [str(level) for level in outer.factors[labels[key]]],
            }
            for key in noise_levels(job.base, job.tune)
        ],
        "runs": [" / ".join(map(str, each.values())) for each in outer.settings()],
        "trainings": len({json.dumps(run.trained) for run in runs}),
    }


def list_rows(design: Design, analysis: Analysis, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Every row of the array: its levels, the responses of its repeats and noise runs (null: not finished), its ratio."""
    rows = []
    for number, (row, ratio) in enumerate(
        zip(design.plan.levels, analysis.signal_to_noise, strict=True), start=1
    ):
        names = {
            name: analysis.level_names[name][level - 1]
            for name, level in zip(design.plan.factors, row, strict=True)
        }
        found = mean_responses(design, table, number)
        rows.append(
            {
                "row": number,
                "levels": names,
                "responses": found,
                "ratio": None if np.isnan(ratio) else float(ratio),
            }
        )
    return rows


def mean_responses(design: Design, table: pd.DataFrame, row: int | str) -> list[float | None]:
    """Response of every repeat of a row, and noise run of it, the mean over its folds; null where a fold is missing."""
    own = table[table["row"] == row]
    count = int(own["repeat"].max() or 0) if row == CONFIRMATION else design.repeats
    runs = design.plan.noise.settings() if design.plan.noise else [{}]
    means = []
    for repeat, noise in itertools.product(range(1, count + 1), runs):
        chosen = own["repeat"] == repeat
        for name, value in noise.items():
            chosen &= own[f"{NOISE}{name}"] == value
        means.append(own.loc[chosen, "objective"].mean(skipna=False))
    return [None if np.isnan(mean) else float(mean) for mean in means]
