"""One trial of a designed experiment: trained with its own settings, scored on images that it did not fit.

A trial's folder holds, when it is done,

    result.json       its metrics; written last: a trial that has it is not trained again
    training.json     settings, histories, seconds
    epochs.json       metrics of every epoch, stage after stage
    predictions.npz   of the validation part or the held-out fold; selection.npz of the part ``selection``
    model.keras       of a confirmation run without folds
"""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras_tuner.errors import FailedTrialError

from kerasall.components.classifier_training import ClassifierTraining
from kerasall.components.divisions import make_predictions
from kerasall.components.trainer import fold_rows
from kerasall.data.development import (
    PREDICTIONS,
    SELECTION,
    SELECTION_PREDICTIONS,
    Development,
    development_rows,
)
from kerasall.data.pixel_cache import PixelCache
from kerasall.evaluation.metrics import find_metric, undefined_reason
from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.files import read_json, write_json, write_text
from kerasall.models.saving import save_model
from kerasall.preprocessing.augmentation import Augmentation
from kerasall.settings import TrialSettings, TuneSettings
from kerasall.settings.factors import apply_levels
from kerasall.taguchi.trials import CONFIRMATION
from kerasall.taguchi.tuner import TrialRun
from kerasall.training.history import History

RESULT = "result.json"
TRAINING = "training.json"
MODEL = "model.keras"

SHOWN = (
    "accuracy", "balanced_accuracy", "f1_weighted", "cohen_kappa", "roc_auc", "log_loss", "malignant_sensitivity",
)  # fmt: skip
"""Metrics of every trial beside the response."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Positions of the rows that a trial fits, watches while it trains (none: fixed epochs), and is scored on."""

    fitted: np.ndarray
    watched: np.ndarray | None
    scored: np.ndarray


@dataclass(frozen=True, eq=False)
class TrialTraining:
    """What all trials have in common; called with a trial, it trains it.

    Attributes:
        data: the rows to develop on.
        pixels: their decoded images, shared by all trials.
        base: settings that no factor changes.
        tune: the experiment.
        levels: key of a setting -> its levels, as ``kerasall.settings.factors.factor_levels`` gives them.
        inner_validation: share of a fold's training images on which its epochs are decided.
        deterministic: bit-equal weights on the same machine.
        weights_folder: where pretrained weights lie, or None.
        cache_folder: of this machine.
    """

    data: Development
    pixels: PixelCache
    base: TrialSettings
    tune: TuneSettings
    levels: dict[str, tuple[Any, ...]]
    inner_validation: float
    deterministic: bool
    weights_folder: Path | None
    cache_folder: Path

    def __call__(self, run: TrialRun) -> dict[str, float]:
        """Trains a trial, or goes on with it; returns its metrics, the response among them."""
        if not (run.folder / RESULT).is_file():
            self._train(run)
        shutil.rmtree(run.folder / "fit", ignore_errors=True)
        return read_json(run.folder / RESULT)

    def rows_of(self, fold: int) -> Rows:
        """Rows of a trial; ``fold`` counts from 1 and matters only where there are folds."""
        data = self.data
        if folds := data.split.folds:
            fitted, inner, held_out = fold_rows(data, folds[fold - 1], self.inner_validation, data.split.seed)
            return Rows(fitted, inner if len(inner) else None, held_out)
        watched = data.rows_of("validation" if "validation" in data.split.parts else SELECTION)
        scored = data.rows_of(SELECTION) if self.tune.response_on == SELECTION else watched
        return Rows(data.rows_of("train"), watched, scored)

    def settings_at(self, levels: Sequence[int]) -> TrialSettings:
        """Settings at a combination of level numbers, from 1; columns may repeat a factor's first levels."""
        chosen = {
            key: values[(level - 1) % len(values)]
            for (key, values), level in zip(self.levels.items(), levels, strict=True)
        }
        return apply_levels(self.base, chosen)

    def training(self, settings: TrialSettings, seed: int) -> ClassifierTraining:
        """The training of one classifier with given settings."""
        augmentation = None if settings.augment is None else Augmentation.from_json(settings.augment)
        return ClassifierTraining(
            self.data, self.pixels, settings.model, settings.train, augmentation, seed, self.deterministic,
            self.weights_folder, self.cache_folder,
        )  # fmt: skip

    def finish_folds(
        self, levels: Sequence[int], seed: int, fold_fits: dict[str, Any], scratch: Path
    ) -> dict[str, Any]:
        """One model on all folds for the folds' median epochs; ``scratch`` gets it and what it predicts.

        Args:
            levels: of the confirmation run.
            seed: of its training.
            fold_fits: fold -> histories of the run's trials, as JSON.
            scratch: where the training keeps its state.

        Returns:
            The histories as JSON.
        """
        training = self.training(self.settings_at(levels), seed)
        epochs = {
            stage.name: max(
                1, round(float(np.median([fits[i]["best_epoch"] for fits in fold_fits.values()])))
            )
            for i, stage in enumerate(training.train.stages)
        }
        model, histories = training.fit("final", development_rows(self.data), None, scratch / "fit", epochs)
        save_plain_model(model, scratch / MODEL)
        if SELECTION in self.data.split.parts:
            rows = self.data.rows_of(SELECTION)
            write_predictions(self._predict(training, model, rows), scratch / SELECTION_PREDICTIONS)
        del model, training
        release_memory()
        return {"final": [history.to_json() for history in histories]}

    def _train(self, run: TrialRun) -> None:
        begun = time.monotonic()
        settings = self.settings_at(list(run.levels.values()))
        training, rows = self.training(settings, run.seed), self.rows_of(run.fold)
        model, histories = training.fit(
            f"trial {run.trial_id}", rows.fitted, rows.watched, run.folder / "fit"
        )
        own = rows.scored if self.data.split.folds or rows.watched is None else rows.watched
        predicted = {PREDICTIONS: self._predict(training, model, own)}
        if SELECTION in self.data.split.parts and not self.data.split.folds:
            predicted[SELECTION_PREDICTIONS] = self._predict(training, model, self.data.rows_of(SELECTION))
        for name, predictions in predicted.items():
            write_predictions(predictions, run.folder / name)
        if run.row == CONFIRMATION and not self.data.split.folds:
            save_plain_model(model, run.folder / MODEL)
        described = {
            "parameters": model.count_params(),
            "seconds": round(time.monotonic() - begun, 1),
            "fits": {self._name_fit(run.fold): [history.to_json() for history in histories]},
            "classes": training.count_classes(rows.fitted),
            "settings": settings.model_dump(mode="json"),
        }
        write_json(run.folder / TRAINING, described)
        write_text(run.folder / "epochs.json", json.dumps(list_epochs(histories)))
        scored = SELECTION_PREDICTIONS if self.tune.response_on == SELECTION else PREDICTIONS
        write_json(run.folder / RESULT, self._score(read_predictions(run.folder / scored), histories))
        del model, training
        release_memory()

    def _name_fit(self, fold: int) -> str:
        return self.data.split.folds[fold - 1] if self.data.split.folds else "holdout"

    def _predict(self, training: ClassifierTraining, model: keras.Model, rows: np.ndarray) -> Predictions:
        return make_predictions(self.data, rows, training.predict_trained(model, rows))

    def _score(self, predictions: Predictions, histories: Sequence[History]) -> dict[str, float]:
        """The response first, then what else is defined.

        Raises:
            FailedTrialError: the response is not defined; to train again would not help.
        """
        malignant, classes = self.data.facts.malignant, self.data.facts.labels
        response = find_metric(self.tune.response, classes)
        if reason := undefined_reason(response, predictions, malignant):
            raise FailedTrialError(f"the response {response.name} must have a value, but has none: {reason}")
        names = [response.name, *(name for name in SHOWN if name != response.name)]
        scores = {name: float(find_metric(name, classes)(predictions, malignant)) for name in names}
        last = histories[-1].best
        scores |= {"training_loss": last.loss, "training_accuracy": last.accuracy}
        return {name: value for name, value in scores.items() if np.isfinite(value)}


def list_epochs(histories: Sequence[History]) -> list[dict[str, float]]:
    """Metrics of every epoch of all stages, in order."""
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    rows = [row for history in histories for row in history.epochs]
    return [{n: getattr(row, n) for n in names if getattr(row, n) is not None} for row in rows]


def save_plain_model(model: keras.Model, path: Path) -> None:
    """Saves a model without its optimizer, whose state doubles the file."""
    save_model(keras.Model(model.inputs[0], model.outputs[0], name=model.name), path)


def release_memory() -> None:
    """Gives back what models and traced functions hold."""
    keras.utils.clear_session(free_memory=True)
    gc.collect()
