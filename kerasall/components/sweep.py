"""SweepTrainer: frozen backbones x optimizers x numbers of epochs, every cell scored, one exported.

One run of the largest number of epochs gives all smaller ones as checkpoints on its way, as long as
nothing in it depends on where it ends; and a frozen backbone gives the same activations in every epoch,
so every image passes it once for all optimizers, folds and epochs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np

from kerasall.components.classifier_training import PREDICTION_BATCH, STORE_SECONDS, ClassifierTraining
from kerasall.components.combinations import CellScore, choose_cell, make_table, score_cell
from kerasall.components.divisions import Division, describe_choice, divide, make_predictions, name_scored
from kerasall.data.development import (
    PREDICTIONS,
    SELECTION,
    SELECTION_PREDICTIONS,
    Development,
    development_rows,
    read_development,
    write_facts,
)
from kerasall.data.input_pipeline import FeatureBatches, prediction_batches
from kerasall.data.pixel_cache import PixelCache, decode_pixels
from kerasall.errors import SettingsError
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.predictions import Predictions, concatenate, write_predictions
from kerasall.files import atomic_path, sha256_of_file, write_json
from kerasall.models.backbones import get_backbone
from kerasall.models.classifier import freeze, split_at
from kerasall.models.prediction import predict_probabilities
from kerasall.models.saving import save_model
from kerasall.models.weights import resolve_weights
from kerasall.pipeline.component import Input, Output, Scratch, Unkeyed, component
from kerasall.preprocessing.operations import Chain
from kerasall.settings import (
    BackboneSettings,
    EvaluateSettings,
    HeadSettings,
    ModelSettings,
    OptimizerSettings,
    SweepSettings,
    TrainSettings,
)
from kerasall.training import fit as training
from kerasall.training.history import EpochRow, History
from kerasall.training.precision import choose_precision, computing_in

Cell = tuple[str, str, int]
"""Names of backbone and optimizer, number of epochs."""


def describe_outside(
    sweep: SweepSettings | None, train: TrainSettings, deterministic: bool, weights_folder: Path | None
) -> list[str | None]:
    """Content of every backbone's pretrained weights, and what this device computes in: others give another result.

    Raises:
        SettingsError: the experiment has no sweep.
    """
    if sweep is None:
        raise SettingsError(
            "this pipeline needs the setting sweep, but it is null: state backbones, optimizers and epochs, as in "
            "configs/optimizer_sweep.yaml"
        )
    rows = sweep.backbones
    paths = [resolve_weights(get_backbone(r.backbone), r.alpha, r.weights, weights_folder) for r in rows]
    hashes = [None if path is None else sha256_of_file(path) for path in paths]
    return [*hashes, choose_precision(train.precision, deterministic).name]


@component(fingerprint=describe_outside)
def sweep_trainer(
    development: Annotated[Path, Input("Development")],
    sweep: SweepSettings,
    head: HeadSettings,
    train: TrainSettings,
    evaluate: EvaluateSettings,
    seed: int,
    deterministic: bool,
    trained: Annotated[Path, Output("Model")],
    record: Annotated[Path, Output("TrainingRecord")],
    scratch: Annotated[Path, Scratch()],
    weights_folder: Annotated[Path | None, Unkeyed()],
    cache_folder: Annotated[Path, Unkeyed()],
) -> dict[str, Any]:
    """Trains one head per backbone, optimizer and fold, scores it at every wanted number of epochs.

    Cells are scored on the validation part, out of fold, or (in a faithful copy) on the part
    ``selection``. With folds the exported cell is trained once more on all rows.
    """
    begun = time.monotonic()
    data = read_development(development)
    pixels = decode_pixels(
        data.examples["path"].tolist(), Chain.from_json(data.preprocess), cache_folder / "pixels",
        memory_bytes=int(train.memory_gib * 2**30), keys=data.examples["sha256"].tolist(), limits=data.limits,
    )  # fmt: skip
    places = Places(scratch, weights_folder, cache_folder)
    results: dict[Cell, Predictions] = {}
    histories: dict[tuple[str, str], list[History]] = {}
    for row in sweep.backbones:
        heads = build_heads(row, head, data, pixels, train, seed, deterministic, places)
        for optimizer in sweep.optimizers:
            found, histories[row.name, optimizer.name] = heads.sweep(
                optimizer, sweep.epochs, scratch / row.name
            )
            results |= {(row.name, optimizer.name, epochs): each for epochs, each in found.items()}
        del heads
        keras.backend.clear_session()

    scores = {cell: score_cell(each, data.facts, evaluate, seed) for cell, each in results.items()}
    chosen = choose_cell(scores, data.facts, evaluate) if sweep.chosen is None else _named(sweep)
    row = next(row for row in sweep.backbones if row.name == chosen[0])
    optimizer = next(each for each in sweep.optimizers if each.name == chosen[1])
    heads = build_heads(row, head, data, pixels, train, seed, deterministic, places)
    model = heads.finish(optimizer, chosen[2], scratch / row.name)

    save_model(model, trained / "model.keras")
    write_json(trained / "preprocess.json", data.preprocess)
    write_facts(data.facts, trained)
    write_predictions(results[chosen], record / PREDICTIONS)
    if SELECTION in data.split.parts:
        write_predictions(heads.predict(data.rows_of(SELECTION)), record / SELECTION_PREDICTIONS)
    described = _describe(chosen, scores, histories, data, evaluate, named=sweep.chosen is not None)
    described |= {"parameters": model.count_params(), "seconds": round(time.monotonic() - begun, 1)}
    described["classes"] = heads.training.count_classes(development_rows(data))
    write_json(record / "training.json", described)
    metrics = {"cells": len(scores), "exported": described["model"], "parameters": model.count_params()}
    del model, heads
    keras.backend.clear_session()
    return metrics


@dataclass(frozen=True)
class Places:
    """Folders of this machine."""

    scratch: Path
    weights: Path | None
    cache: Path


def build_heads(
    row: BackboneSettings,
    head: HeadSettings,
    data: Development,
    pixels: PixelCache,
    train: TrainSettings,
    seed: int,
    deterministic: bool,
    places: Places,
) -> Heads:
    """Builds a frozen backbone with its head, and passes every image through the backbone once."""
    settings = ModelSettings(backbone=row.backbone, alpha=row.alpha, weights=row.weights, head=head)
    base = HeadTraining(
        data, pixels, settings, train, None, seed, deterministic, places.weights, places.cache
    )
    model = base.build(row.name)
    freeze(model)
    suffix = split_at(model)[1]
    return Heads(base, row.name, model, suffix, base.pass_once(row.name, model), read_state(suffix))


class HeadTraining(ClassifierTraining):
    """Training of heads on stored activations, with checkpoints."""

    def pass_once(self, name: str, model: keras.Model) -> np.ndarray:
        """Pooled features of all images, in the precision of ``train``; the heads are trained and scored on them."""
        self.say_caution()
        with computing_in(self.precision):
            # Layers keep the dtype policy under which they were made; the model that is kept is float32.
            network = model if self.precision.policy == "float32" else self.build(name)
            freeze(network)
            return self._activations(split_at(network)[0])

    def fit_head(
        self,
        suffix: keras.Model,
        activations: np.ndarray,
        optimizer: OptimizerSettings,
        division: Division,
        checkpoints: Sequence[int],
        folder: Path,
    ) -> History:
        """Trains to the last checkpoint; the head's weights at each are written into ``folder``.

        The rows of the division that are held out are watched, and decide nothing.
        """
        last = max(checkpoints)
        stage = self.train.stages[0].model_copy(update={"optimizer": optimizer, "epochs": last})
        settings = replace(self._stage_settings(stage, None), restore_best=False, accumulate=1)
        seed = self._seed_of(f"{division.name}/{stage.name}")
        rows, weights = self.balance(division.fitted), self._sample_weights(division.fitted)
        targets = np.asarray(keras.utils.to_categorical(self.data.labels, len(self.data.facts.labels)))

        def train_batches(epoch: int) -> Any:
            return FeatureBatches(
                activations, targets, batch_size=self.train.batch_size, indices=rows, shuffle=(seed, epoch),
                sample_weights=weights,
            )  # fmt: skip

        def watched_batches() -> Any:
            return FeatureBatches(
                activations, targets, batch_size=PREDICTION_BATCH, indices=division.held_out
            )

        def keep_checkpoint(model: keras.Model, row: EpochRow) -> None:
            if row.epoch in checkpoints:
                write_state(read_state(model), checkpoint(folder, row.epoch))

        return training.fit(
            suffix, train_batches, watched_batches if len(division.held_out) else None, settings,
            folder / "state", label=f"{folder.parent.name} {optimizer.name} {division.name}",
            on_epoch=keep_checkpoint, deterministic=self.deterministic, seed=seed, store_seconds=STORE_SECONDS,
            fingerprint={"precision": self.precision.name},
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Heads:
    """One backbone's activations and the head that is trained on them again and again.

    Attributes:
        training: settings, rows and seeds.
        name: of the backbone.
        model: backbone and head; shares the head's variables with ``suffix``.
        suffix: the head alone.
        activations: pooled features of all rows, float32 [N, D].
        initial: the head's state from which every training begins.
    """

    training: HeadTraining
    name: str
    model: keras.Model
    suffix: keras.Model
    activations: np.ndarray
    initial: list[np.ndarray]

    def sweep(
        self, optimizer: OptimizerSettings, epochs: Sequence[int], scratch: Path
    ) -> tuple[dict[int, Predictions], list[History]]:
        """Predictions of every held-out row after each number of epochs, and a history per division."""
        parts: dict[int, list[Predictions]] = {count: [] for count in sorted(epochs)}
        histories = []
        for division in divide(self.training.data):
            folder = scratch / f"{optimizer.name}_{division.name}"
            histories.append(self._fit(optimizer, division, sorted(epochs), folder))
            for count, found in parts.items():
                write_variables(self.suffix, read_checkpoint(checkpoint(folder, count)))
                found.append(self.predict(division.held_out))
        return {count: concatenate(found) for count, found in parts.items()}, histories

    def finish(self, optimizer: OptimizerSettings, epochs: int, scratch: Path) -> keras.Model:
        """The model of one cell: that of a holdout split as it was scored, else trained on all folds."""
        data = self.training.data
        if data.split.folds:
            everything = Division("final", development_rows(data), np.array([], np.int64))
            folder = scratch / f"{optimizer.name}_final"
            self._fit(optimizer, everything, [epochs], folder)
        else:
            folder = scratch / f"{optimizer.name}_{divide(data)[0].name}"
        write_variables(self.suffix, read_checkpoint(checkpoint(folder, epochs)))
        return self.model

    def predict(self, rows: np.ndarray) -> Predictions:
        """Predictions for the given rows by the head as it is now."""
        batches = prediction_batches(self.activations, batch_size=PREDICTION_BATCH, indices=rows)
        return make_predictions(self.training.data, rows, predict_probabilities(self.suffix, batches))

    def _fit(
        self, optimizer: OptimizerSettings, division: Division, epochs: Sequence[int], folder: Path
    ) -> History:
        write_variables(self.suffix, self.initial)
        return self.training.fit_head(self.suffix, self.activations, optimizer, division, epochs, folder)


def checkpoint(folder: Path, epochs: int) -> Path:
    """Where a head's weights after so many epochs are kept."""
    return folder / f"after_{epochs:04d}.npz"


def read_state(model: keras.Model) -> list[np.ndarray]:
    """Weights of a head, and the state of its dropout."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]


def write_variables(model: keras.Model, state: Sequence[np.ndarray]) -> None:
    """Gives a head the state that ``read_state`` took."""
    for variable, value in zip(model.variables, state, strict=True):
        variable.assign(value)


def write_state(state: Sequence[np.ndarray], path: Path) -> None:
    """Writes a head's state, atomically."""
    with atomic_path(path) as temporary:
        np.savez(temporary, *state)


def read_checkpoint(path: Path) -> list[np.ndarray]:
    """Reads what ``write_state`` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]


def _named(sweep: SweepSettings) -> Cell:
    assert sweep.chosen is not None
    return sweep.chosen.backbone, sweep.chosen.optimizer, sweep.chosen.epochs


def _describe(
    chosen: Cell,
    scores: Mapping[Cell, CellScore],
    histories: Mapping[tuple[str, str], list[History]],
    data: Development,
    evaluate: EvaluateSettings,
    *,
    named: bool,
) -> dict[str, Any]:
    """Content of training.json: what is exported, every score, curves, and the table for the report."""
    cells = list(scores)
    fitted = {
        cell: float(np.mean([history.epochs[cell[2] - 1].accuracy for history in histories[cell[:2]]]))
        for cell in cells
    }
    metric = find_metric(evaluate.main_metric, data.facts.labels).title
    table = make_table(
        f"Backbones, optimizers and epochs, scored on {name_scored(data)} images",
        ("Backbone", "Optimizer", "Epochs", "Training accuracy"),
        [((*cell, f"{fitted[cell]:.4f}"), scores[cell]) for cell in cells],
        data.facts, evaluate, chosen=cells.index(chosen),
        notes=[
            describe_choice(data, metric.lower(), named=named),
            "Training accuracy is that of an epoch's images while the weights moved. All numbers of epochs are "
            "checkpoints of one run.",
        ],
    )  # fmt: skip
    return {
        "model": f"Head of {chosen[0]}, trained with {chosen[1]} for {chosen[2]} epochs",
        "how": "the frozen network's activations stored, the head alone trained"
        + (", in the end on all images; the score is that of the folds' heads" if data.split.folds else ""),
        "curves": {"Trained": "the head alone, in one run for all numbers of epochs", "Kept": "nothing by its curve"},
        "fits": {f"{name} {optimizer}": [_mean_history(each)] for (name, optimizer), each in histories.items()},
        "runs": {f"{n} {o}": [history.to_json() for history in each] for (n, o), each in histories.items()},
        "chosen": {"backbone": chosen[0], "optimizer": chosen[1], "epochs": chosen[2]},
        "combinations": [
            {
                "backbone": cell[0], "optimizer": cell[1], "epochs": cell[2], "training_accuracy": fitted[cell],
                **scores[cell].to_json(),
            }
            for cell in cells
        ],
        "tables": [table],
    }  # fmt: skip


def _mean_history(histories: Sequence[History]) -> dict[str, Any]:
    """One curve for the report: the mean of the folds' ones."""
    first = histories[0].to_json()
    rows = [history.to_json()["epochs"] for history in histories]
    keys = ("loss", "accuracy", "val_loss", "val_accuracy")
    first["epochs"] = [
        same[0] | {key: float(np.mean([row[key] for row in same])) for key in keys}
        for same in zip(*rows, strict=True)
    ]
    return first
