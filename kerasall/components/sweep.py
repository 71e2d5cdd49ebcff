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

from kerasall.components.classifier_training import PREDICTION_BATCH, ClassifierTraining, stage_settings
from kerasall.components.combinations import Comparison, compare_cells, show_share
from kerasall.components.training_step import decode_rows, hash_weights, write_model
from kerasall.data.development import SELECTION, Division, read_development
from kerasall.data.input_pipeline import prediction_batches
from kerasall.data.training_record import TrainingRecord
from kerasall.errors import SettingsError
from kerasall.evaluation.predictions import Predictions, concatenate
from kerasall.files import atomic_path
from kerasall.models.classifier import freeze, split_at
from kerasall.models.passes import list_installed
from kerasall.models.prediction import predict_probabilities
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
from kerasall.training.devices import choose_precision, computing_in
from kerasall.training.history import EpochRow, History

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
            "this pipeline needs the setting sweep, but it is null: state backbones, optimizers and epochs, as "
            "`kerasall configs optimizer_sweep` shows"
        )
    hashes = hash_weights(sweep.backbones, weights_folder)
    return [*hashes, choose_precision(train.precision, deterministic).name, *list_installed()]


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
    chain = Chain.from_json(data.preprocess)
    pixels = decode_rows(data, chain, cache_folder, int(train.memory_gib * 2**30))
    training = ClassifierTraining(
        data, pixels, ModelSettings(head=head), train.model_copy(update={"devices": 1}), None, seed, deterministic,
        weights_folder, cache_folder,
    )  # fmt: skip
    results: dict[Cell, Predictions] = {}
    histories: dict[tuple[str, str], list[History]] = {}
    for row in sweep.backbones:
        heads = build_heads(training, row)
        for optimizer in sweep.optimizers:
            found, histories[row.name, optimizer.name] = heads.sweep(
                optimizer, sweep.epochs, scratch / row.name
            )
            results |= {(row.name, optimizer.name, epochs): each for epochs, each in found.items()}
        del heads
        keras.utils.clear_session()

    named: Cell | None = sweep.chosen and (sweep.chosen.backbone, sweep.chosen.optimizer, sweep.chosen.epochs)
    compared = compare_cells(results, data, evaluate, seed, named)
    chosen = compared.chosen
    row = next(row for row in sweep.backbones if row.name == chosen[0])
    optimizer = next(each for each in sweep.optimizers if each.name == chosen[1])
    heads = build_heads(training, row)
    model = heads.finish(optimizer, chosen[2], scratch / row.name)

    write_model(model, data.preprocess, data.facts, trained)
    selection = heads.predict(data.rows_of(SELECTION)) if SELECTION in data.split.parts else None
    described = _describe(compared, histories) | {
        "parameters": model.count_params(),
        "seconds": round(time.monotonic() - begun, 1),
        "classes": training.count_classes(data.training_rows),
    }
    same = data.recorded == data.compared
    kept = results[chosen] if same else heads.predict(data.rows_of(data.recorded))
    TrainingRecord(record).write(kept, described, selection=selection)
    metrics = {"cells": len(results), "exported": described["model"], "parameters": model.count_params()}
    del model, heads
    keras.utils.clear_session()
    return metrics


def build_heads(training: ClassifierTraining, row: BackboneSettings) -> Heads:
    """Builds a frozen backbone with its head, and passes every image through the backbone once.

    Args:
        training: whose head goes onto the backbone.
        row: the backbone.
    """
    head = training.model.head
    settings = ModelSettings(backbone=row.backbone, alpha=row.alpha, weights=row.weights, head=head)
    training = replace(training, model=settings)
    model = training.build(row.name)
    freeze(model)
    suffix = split_at(model)[1]
    return Heads(training, row.name, model, suffix, pool_once(training, row.name, model), read_state(suffix))


def pool_once(training: ClassifierTraining, name: str, model: keras.Model) -> np.ndarray:
    """Pooled features of all images, in the precision of ``train``; the heads are trained and scored on them."""
    training.say_caution()
    with computing_in(training.precision):
        # Layers keep the dtype policy under which they were made; the model that is kept is float32.
        network = model if training.precision.policy == "float32" else training.build(name)
        freeze(network)
        return training.activations(split_at(network)[0])


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

    training: ClassifierTraining
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
        histories, data = [], self.training.data
        for division in data.divide(data.compared):
            folder = scratch / f"{optimizer.name}_{division.name}"
            histories.append(self._fit(optimizer, division, sorted(epochs), folder))
            for count, found in parts.items():
                write_state(self.suffix, read_checkpoint(checkpoint(folder, count)))
                found.append(self.predict(division.held_out))
        return {count: concatenate(found) for count, found in parts.items()}, histories

    def finish(self, optimizer: OptimizerSettings, epochs: int, scratch: Path) -> keras.Model:
        """The model of one cell: that of a holdout split as it was scored, else trained on all folds."""
        data, name = self.training.data, "holdout"
        if data.split.folds:
            name = "final"
            everything = Division(name, data.training_rows, None, np.array([], np.int64))
            self._fit(optimizer, everything, [epochs], scratch / f"{optimizer.name}_{name}")
        write_state(self.suffix, read_checkpoint(checkpoint(scratch / f"{optimizer.name}_{name}", epochs)))
        return self.model

    def predict(self, rows: np.ndarray) -> Predictions:
        """Predictions for the given rows by the head as it is now."""
        batches = prediction_batches(self.activations, batch_size=PREDICTION_BATCH, indices=rows)
        return self.training.data.predictions(rows, predict_probabilities(self.suffix, batches))

    def _fit(
        self, optimizer: OptimizerSettings, division: Division, checkpoints: Sequence[int], folder: Path
    ) -> History:
        """Trains to the last checkpoint; the head's state at each is written into ``folder``.

        The rows of the division that are held out are watched, and decide nothing.
        """
        train, held_out = self.training.train, division.held_out
        stage = train.stages[0].model_copy(update={"optimizer": optimizer, "epochs": max(checkpoints)})

        def keep_checkpoint(model: keras.Model, row: EpochRow) -> None:
            if row.epoch in checkpoints:
                with atomic_path(checkpoint(folder, row.epoch)) as temporary:
                    np.savez(temporary, *read_state(model))

        write_state(self.suffix, self.initial)
        return self.training.fit_part(
            self.suffix, self.activations, replace(stage_settings(stage, train), restore_best=False), division.name,
            self.training.balance(division.fitted), held_out if len(held_out) else None, folder / "state",
            f"{folder.parent.name} {optimizer.name} {division.name}", keep_checkpoint,
        )  # fmt: skip


def checkpoint(folder: Path, epochs: int) -> Path:
    """Where a head's state after so many epochs is kept."""
    return folder / f"after_{epochs:04d}.npz"


def read_checkpoint(path: Path) -> list[np.ndarray]:
    """The state in such a file."""
    with np.load(path, allow_pickle=False) as arrays:
        return [arrays[f"arr_{number}"] for number in range(len(arrays.files))]


def read_state(model: keras.Model) -> list[np.ndarray]:
    """Weights of a head, and the state of its dropout."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]


def write_state(model: keras.Model, state: Sequence[np.ndarray]) -> None:
    """Gives a head the state that ``read_state`` took."""
    for variable, value in zip(model.variables, state, strict=True):
        variable.assign(value)


def _describe(
    compared: Comparison[Cell], histories: Mapping[tuple[str, str], list[History]]
) -> dict[str, Any]:
    """Content of training.json: what is exported, every score, curves, and the table for the report."""
    backbone, optimizer, epochs = compared.chosen
    names = ("backbone", "optimizer", "epochs")
    fitted = {
        cell: float(np.mean([history.epochs[cell[2] - 1].accuracy for history in histories[cell[:2]]]))
        for cell in compared.scores
    }
    folds = compared.data.split.folds
    described = compared.describe(
        "Backbones, optimizers and epochs",
        ("Backbone", "Optimizer", "Epochs", ">Training accuracy"),
        lambda cell: (*cell, f"{fitted[cell]:.4f}"),
        lambda cell: dict(zip(names, cell, strict=True)),
        {cell: {"training_accuracy": value} for cell, value in fitted.items()},
        [
            "Training accuracy is that of an epoch's images while the weights moved. All numbers of epochs are "
            "checkpoints of one run.",
        ],
    )
    described["tables"].append(_total(compared, fitted))
    return {
        "model": f"Head of {backbone}, trained with {optimizer} for {epochs} epochs",
        "how": "the frozen network's activations stored, the head alone trained"
        + (", in the end on the images of all folds; scores out of fold are those of the folds' heads" if folds else ""),
        "curves": {"Trained": "the head alone, in one run for all numbers of epochs", "Kept": "nothing by its curve"},
        "fits": {f"{name} {optimizer}": [_mean_history(each)] for (name, optimizer), each in histories.items()},
        "runs": {f"{n} {o}": [history.to_json() for history in each] for (n, o), each in histories.items()},
    } | described  # fmt: skip


def _total(compared: Comparison[Cell], fitted: Mapping[Cell, float]) -> dict[str, Any]:
    """Means over the numbers of epochs, for the report: what the paper calls totals."""
    cells: dict[tuple[str, str], list[Cell]] = {}
    for cell in compared.scores:
        cells.setdefault(cell[:2], []).append(cell)
    return {
        "caption": f"Means over {len(next(iter(cells.values())))} numbers of epochs, scored on {compared.data.compared} images",
        "columns": ["Backbone", "Optimizer", ">Training accuracy", *(f">{title}" for title in compared.metrics.values())],
        "rows": [
            [*names, f"{np.mean([fitted[cell] for cell in of_run]):.4f}"]
            + [show_share(compared.mean(metric, of_run)) for metric in compared.metrics]
            for names, of_run in cells.items()
        ],
        "notes": ["One run's checkpoints are no repetitions: the mean says how it did on the way, not how sure its end is."],
        "tall": False,
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
