"""One trial of a designed experiment: trained with its own settings, scored on images that it did not fit.

A trial's folder holds, when it is done,

    result.json       its metrics; written last but one: a trial that has it is not trained again
    sums.json         SHA-256 of all these, without which none of them counts
    training.json     settings, histories, seconds
    epochs.json       metrics of every epoch, stage after stage
    predictions.npz   of the validation part or the held-out fold; selection.npz of the part ``selection``
    shifted_1.npz     of the scored images changed by the second level of the noise ``scored.preprocess``, and so on
    model.keras       of a confirmation run without folds

Trials that differ only in how they are scored share one training, which lies beside the project under ``trained``.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras_tuner.errors import FailedTrialError
from pydantic import TypeAdapter

from kerasall.components.classifier_training import ClassifierTraining
from kerasall.components.noise_runs import NoiseRuns, list_noise, select_rows
from kerasall.components.training_step import MODEL_FILE, decode_rows, hash_weights, without_optimizer
from kerasall.data.development import SELECTION, Development, Division
from kerasall.data.examples import read_attributes
from kerasall.data.pixel_cache import PixelCache
from kerasall.data.training_record import PROJECT, TrainingRecord
from kerasall.errors import ArtifactError
from kerasall.evaluation.metrics import find_metric, undefined_reason
from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.files import (
    atomic_path,
    read_json,
    read_object,
    sha256_of_file,
    sha256_of_json,
    write_json,
    write_text,
)
from kerasall.locks import locked
from kerasall.models.saving import save_model
from kerasall.pipeline.component import code_digest
from kerasall.preprocessing.augmentation import Augmentation
from kerasall.preprocessing.operations import Chain
from kerasall.settings import TrialSettings, TuneSettings
from kerasall.settings.factors import apply_levels, factor_levels
from kerasall.settings.noise import NoiseRun
from kerasall.settings.seeds import derive_seed
from kerasall.shown_text import tell
from kerasall.taguchi.trials import CONFIRMATION, Place, seed_of_place
from kerasall.taguchi.tuner import TrialRun
from kerasall.training.devices import choose_precision
from kerasall.training.history import History

FOLDERS = ("development", "scratch", "weights_folder", "cache_folder", "attributes")
"""What differs from host to host in a ``SearchJob``."""

RESULT = "result.json"
TRAINED = "trained"
"""In keys of what is kept: a training that several trials share."""
SUMS = "sums.json"
FINAL = "final.json"
"""File of a confirmation run with folds: histories of the model on all of them; written last."""

SHOWN = (
    "accuracy", "balanced_accuracy", "f1_weighted", "cohen_kappa", "roc_auc", "log_loss", "malignant_sensitivity",
)  # fmt: skip
"""Metrics of every trial beside the response."""


_DECIDING = (
    "kerasall.components.classifier_training", "kerasall.components.noise_runs", "kerasall.evaluation.metrics",
)  # fmt: skip
"""Modules whose code, with all that they import, decides what a trial gives; that of the analysis does not."""


@dataclass(frozen=True)
class SearchJob:
    """Everything a process of the search needs; the same on every host.

    Attributes:
        development: folder of the rows to develop on.
        scratch: folder that holds the project; outlives a kill.
        base: settings that no factor changes.
        tune: the experiment.
        inner_validation: share of a fold's training images on which its epochs are decided.
        seed: of the experiment.
        deterministic: bit-equal weights on the same machine.
        weights_folder: where pretrained weights lie, or None.
        cache_folder: decoded pixels and activations.
        attributes: folder of what a table says of the images, where noise divides them by it.
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
    attributes: Path | None = None

    @property
    def project(self) -> Path:
        """Folder of the oracle and its trials."""
        return self.scratch / PROJECT

    @property
    def levels(self) -> dict[str, tuple[Any, ...]]:
        """Key of a setting -> its levels as the settings read them."""
        return factor_levels(self.base, self.tune.factors)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it back."""
        return TypeAdapter(SearchJob).dump_python(self, mode="json")

    def read_said(self, data: Development) -> dict[str, np.ndarray]:
        """Column -> str [N], what a table says of each of the rows to develop on; empty where no noise asks."""
        return read_attributes(self.attributes, data.examples["id"].to_numpy()) if self.attributes else {}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SearchJob:
        """Reads what ``to_json`` gave."""
        return TypeAdapter(SearchJob).validate_python(values)


def settings_at(
    base: TrialSettings, levels: Mapping[str, Sequence[Any]], numbers: Iterable[int]
) -> TrialSettings:
    """Settings at a combination of level numbers, from 1; columns may repeat a factor's first levels.

    Args:
        base: settings that no factor changes.
        levels: key of a setting -> its levels, as ``kerasall.settings.factors.factor_levels`` gives them.
        numbers: of every factor's level.
    """
    pairs = zip(levels.items(), numbers, strict=True)
    return apply_levels(base, {key: values[(level - 1) % len(values)] for (key, values), level in pairs})


SHIFTED = "shifted_{number}.npz"
"""Predictions of scored images as a level of the noise ``scored.preprocess`` changes them; numbers from 1."""

KEPT = (
    "training.json", "epochs.json", "predictions.npz", "selection.npz", MODEL_FILE,
)  # fmt: skip
"""Files of a trial that the cache keeps beside the one that says it is done."""


def link_files(source: Path, destination: Path, last: str) -> bool:
    """Gives a finished trial a second folder, ``last`` at the end; whether there was one.

    Args:
        source: folder that holds ``last`` if the trial is finished.
        destination: folder.
        last: file that says so.
    """
    if not is_finished(source, last):
        return False
    destination.mkdir(parents=True, exist_ok=True)
    for name in (*_list_kept(source), last, SUMS):
        if (source / name).is_file():
            with atomic_path(destination / name) as temporary:
                link_file(source / name, temporary)
    return True


def seal(folder: Path, last: str) -> None:
    """Writes down what a finished trial's files are."""
    there = [name for name in (*_list_kept(folder), last) if (folder / name).is_file()]
    write_json(folder / SUMS, {name: sha256_of_file(folder / name) for name in there})


def is_finished(folder: Path, last: str) -> bool:
    """Whether a trial's files are there and are what it left; of others a line tells, and they are not taken."""
    if not (folder / last).is_file():
        return False
    try:
        sums = read_object(folder / SUMS)
        there = {name for name in (*_list_kept(folder), last) if os.path.lexists(folder / name)}
        if sums.keys() == there and all(sha256_of_file(folder / name) == sums[name] for name in there):
            return True
        fault = "it was changed"
    except (ArtifactError, OSError) as error:
        fault = str(error)
    tell(f"what the trial in {folder} left is not taken, as {fault}")
    for name in (*_list_kept(folder), last, SUMS):
        (folder / name).unlink(missing_ok=True)
    return False


def _list_kept(folder: Path) -> list[str]:
    return [*KEPT, *sorted(path.name for path in folder.glob(SHIFTED.format(number="*")))]


def link_file(source: Path, destination: Path) -> None:
    """The same file at a second place; a copy where the disk does not offer that."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


@dataclass(eq=False)
class TrialTraining:
    """What all trials of a search have in common; called with a trial, it trains it.

    Attributes:
        job: of the search.
        data: the rows to develop on.
    """

    job: SearchJob
    data: Development

    def __call__(self, run: TrialRun) -> dict[str, float]:
        """Trains a trial, or goes on with it; returns its metrics, the response among them."""
        self._make_once(run, self._train_or_score)
        return read_json(run.folder / RESULT)

    def _make_once(self, run: TrialRun, make: Callable[[TrialRun], None], what: str = RESULT) -> None:
        if not is_finished(run.folder, RESULT):
            kept = self._kept_folder(run, what)
            if not link_files(kept, run.folder, RESULT):
                make(run)
                seal(run.folder, RESULT)
                link_files(run.folder, kept, RESULT)
        shutil.rmtree(run.folder / "fit", ignore_errors=True)

    def _train_or_score(self, run: TrialRun) -> None:
        """Trains a trial; or scores it anew where another noise run has the same training."""
        if not self.noise.shares_training(run.noise):
            self._train(run)
            return
        first = self.noise.first_alike(run.noise)
        name = f"{run.row}-{run.repeat}-{run.fold}-{first}"
        own = replace(run, trial_id=name, noise=first, folder=self.job.scratch / "trained" / name)
        own.folder.mkdir(parents=True, exist_ok=True)
        waiting = lambda: tell(f"trial {run.trial_id} waits for another that has the same training")  # noqa: E731
        with locked(own.folder / "lock", waiting):
            self._make_once(own, self._train, TRAINED)
        run.folder.mkdir(parents=True, exist_ok=True)
        for kept in filter(lambda kept: (own.folder / kept).is_file(), _list_kept(own.folder)):
            with atomic_path(run.folder / kept) as temporary:
                link_file(own.folder / kept, temporary)
        write_json(run.folder / RESULT, self._score_again(run, read_json(own.folder / RESULT)))

    def _score_again(self, run: TrialRun, trained: Mapping[str, float]) -> dict[str, float]:
        """The metrics of a trial by what its training has left: of the images, and as changed, as its noise says."""
        noise, selection = self.noise.of(run.noise), self.job.tune.response_on == SELECTION
        number = self.noise.shifts.index(noise.shift)
        name = (
            SHIFTED.format(number=number) if number else "selection.npz" if selection else "predictions.npz"
        )
        found = read_predictions(run.folder / name)
        rows = select_rows(self.data, self.data.rows(list(found.ids)), noise.columns, self.said)
        kept = np.isin(found.ids, self.data.examples["id"].to_numpy()[rows])
        told = {name: value for name, value in trained.items() if name.startswith("training_")}
        return self._score(found.take(kept)) | told

    @cached_property
    def noise(self) -> NoiseRuns:
        """What is trained and scored under every run of the outer array."""
        runs = list_noise(self.job.base, self.job.tune)
        return NoiseRuns(self.data, runs, self.job.cache_folder, lambda: self.pixels)

    @cached_property
    def said(self) -> dict[str, np.ndarray]:
        """What a table says of each of the rows to develop on, by column."""
        return self.job.read_said(self.data)

    @cached_property
    def pixels(self) -> PixelCache:
        """Decoded images of all rows, shared by all trials; made when the first of them needs them."""
        return self.decode(int(self.job.base.train.memory_gib * 2**30))

    @cached_property
    def divisions(self) -> list[Division]:
        """Rows of a trial by its fold; the one of a holdout split."""
        return self.divide(NoiseRun())

    def divide(self, noise: NoiseRun) -> list[Division]:
        """The same where noise deals the images anew."""
        return self.noise.data_under(noise).divide(self.data.recorded, self.job.inner_validation)

    def decode(self, memory_bytes: int) -> PixelCache:
        """Decoded images; with 0 bytes of memory they are stored on disk, for several processes."""
        return decode_rows(
            self.data, Chain.from_json(self.data.preprocess), self.job.cache_folder, memory_bytes
        )

    def training(self, run: TrialRun) -> ClassifierTraining:
        """The training of a trial's classifier."""
        settings, noise = self._settings_of(run), self.noise.of(run.noise)
        augmentation = None if settings.augment is None else Augmentation.from_json(settings.augment)
        return ClassifierTraining(
            self.noise.data_under(noise), self.noise.pixels_of(settings, noise), settings.model, settings.train, augmentation,
            self._seed_of(run), self.job.deterministic, self.job.weights_folder, self.job.cache_folder,
        )  # fmt: skip

    def _seed_of(self, run: TrialRun) -> int:
        """The trial's own; of trials with the same training one, and where noise names the seed one for all rows."""
        noise = self.noise.of(run.noise)
        if noise.seed is not None:
            return derive_seed(noise.seed, 0, self._count_repeat(run), run.fold)
        if not run.noise:
            return run.seed
        first = self.noise.first_alike(run.noise)
        return seed_of_place(self.job.seed, Place(run.row, run.repeat, run.fold, first))

    def _count_repeat(self, run: TrialRun) -> int:
        """Number of a repeat, those of the confirmation after those of the rows: it must not run what has been run."""
        return run.repeat + (self.job.tune.repeats if run.row == CONFIRMATION else 0)

    def finish_folds(self, run: TrialRun, fits: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """One model on all folds for the folds' median epochs, with what it predicts of the part ``selection``.

        Args:
            run: a trial of the confirmation run: its levels and seed.
            fits: fold -> histories of the run's trials, as JSON.
            folder: gets the model; what was finished there is not trained again.

        Returns:
            The histories as JSON.
        """
        kept = self._kept_folder(run, FINAL)
        if not is_finished(folder, FINAL) and not link_files(kept, folder, FINAL):
            training = self.training(run)
            histories = [[History.from_json(each) for each in stages] for stages in fits.values()]
            model, made = training.fit_final(histories, folder / "fit")
            save_model(without_optimizer(model), folder / MODEL_FILE)
            TrainingRecord(folder).write(None, selection=self._predict_selection(training, model))
            write_json(folder / FINAL, {"final": [history.to_json() for history in made]})
            seal(folder, FINAL)
            shutil.rmtree(folder / "fit", ignore_errors=True)
            link_files(folder, kept, FINAL)
            del model, training
            keras.utils.clear_session()
        return read_json(folder / FINAL)

    @cached_property
    def _common(self) -> dict[str, Any]:
        """What decides the results of all trials: rows, preprocessing, response, code. No word of their analysis."""
        job, table = self.job, self.data.examples
        return {
            "rows": table.drop(columns="path", errors="ignore").astype(str).to_numpy().tolist(),
            "split": self.data.split.table.astype(str).to_numpy().tolist(),
            "classes": [self.data.facts.labels, self.data.facts.malignant],
            "preprocess": [
                self.data.preprocess,
                self.data.stated,
            ],  # as fitted here, and as it is fitted anew under noise
            "response": [job.tune.response, job.tune.response_on],
            "inner_validation": job.inner_validation,
            "deterministic": job.deterministic,
            "code": [*map(code_digest, _DECIDING), sha256_of_file(__file__)],
            "versions": [keras.__version__, np.__version__],
        }

    def _kept_folder(self, run: TrialRun, what: str) -> Path:
        """Where the cache keeps a finished trial: by its own settings, so that another analysis trains none again."""
        settings = self._settings_of(run)
        own = {
            "settings": settings.model_dump(mode="json"),
            "weights": hash_weights([settings.model], self.job.weights_folder),
            "precision": choose_precision(settings.train.precision, self.job.deterministic).name,
            "seed": self._seed_of(run),
            "fold": run.fold,
            "confirmation": run.row == CONFIRMATION,
            "what": what,
        }
        if run.noise:
            noise = self.noise.of(run.noise)
            own["noise"] = [noise.trained, self.noise.shifts]
            if what != TRAINED:
                said = {name: self.said[name].tolist() for name in noise.columns}
                own["noise"] += [noise.shift, noise.columns, said]
        return self.job.cache_folder / "trials" / sha256_of_json(self._common | own)

    def _settings_of(self, run: TrialRun) -> TrialSettings:
        settings, noise = (
            settings_at(self.job.base, self.job.levels, run.levels.values()),
            self.noise.of(run.noise),
        )
        return apply_levels(settings, noise.settings) if noise.settings else settings

    def _train(self, run: TrialRun) -> None:
        begun, folds, noise = time.monotonic(), self.data.split.folds, self.noise.of(run.noise)
        settings = self._settings_of(run)
        division = (self.divisions if noise.deal is None else self.divide(noise))[run.fold - 1]
        training = self.training(run)
        # Weights and batches are drawn from seed and name: of a seed that is noise the same in all rows.
        name = (
            f"trial {run.trial_id}"
            if noise.seed is None
            else f"repeat {self._count_repeat(run)} fold {run.fold}"
        )
        model, histories = training.fit(name, division.fitted, division.watched, run.folder / "fit")
        predictions = self._predict(training, model, division.held_out)
        selection = None if folds else self._predict_selection(training, model)
        if run.row == CONFIRMATION and not folds:
            save_model(without_optimizer(model), run.folder / MODEL_FILE)
        described = {
            "parameters": model.count_params(),
            "seconds": round(time.monotonic() - begun, 1),
            "fits": {division.name: [history.to_json() for history in histories]},
            "classes": training.count_classes(division.fitted),
            "settings": settings.model_dump(mode="json"),
        }
        TrainingRecord(run.folder).write(predictions, described, selection=selection)
        rows_scored = (
            self.data.rows_of(SELECTION) if self.job.tune.response_on == SELECTION else division.held_out
        )
        for number, shift in enumerate(self.noise.shifts[1:], start=1):
            changed = replace(training, pixels=self.noise.pixels_of(settings, noise, shift))
            write_predictions(
                self._predict(changed, model, rows_scored), run.folder / SHIFTED.format(number=number)
            )
        names = ("loss", "accuracy", "val_loss", "val_accuracy")
        rows = [row for history in histories for row in history.epochs]
        known = [{n: getattr(row, n) for n in names if getattr(row, n) is not None} for row in rows]
        write_text(run.folder / "epochs.json", json.dumps(known))
        scored = selection if self.job.tune.response_on == SELECTION else predictions
        assert scored is not None
        last = histories[-1].best
        told = {"training_loss": last.loss, "training_accuracy": last.accuracy}
        told = {name: value for name, value in told.items() if np.isfinite(value)}
        write_json(run.folder / RESULT, self._score(scored) | told)
        del model, training
        keras.utils.clear_session()

    def _predict(self, training: ClassifierTraining, model: keras.Model, rows: np.ndarray) -> Predictions:
        return self.data.predictions(rows, training.predict_trained(model, rows))

    def _predict_selection(self, training: ClassifierTraining, model: keras.Model) -> Predictions | None:
        if SELECTION not in self.data.split.parts:
            return None
        return self._predict(training, model, self.data.rows_of(SELECTION))

    def _score(self, predictions: Predictions) -> dict[str, float]:
        """The response first, then what else is defined.

        Raises:
            FailedTrialError: the response is not defined; to train again would not help.
        """
        malignant, classes = self.data.facts.malignant, self.data.facts.labels
        response = find_metric(self.job.tune.response, classes)
        if reason := undefined_reason(response, predictions, malignant):
            raise FailedTrialError(f"the response {response.name} must have a value, but has none: {reason}")
        names = [response.name, *(name for name in SHOWN if name != response.name)]
        scores = {name: float(find_metric(name, classes)(predictions, malignant)) for name in names}
        return {name: value for name, value in scores.items() if np.isfinite(value)}
