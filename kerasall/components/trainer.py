"""Trainer: one classifier, on one validation part or by cross-validation over the folds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np

from kerasall.components.classifier_training import ClassifierTraining
from kerasall.components.training_step import decode_rows, hash_weights, without_optimizer, write_model
from kerasall.data.development import SELECTION, Division, read_development
from kerasall.data.training_record import TrainingRecord
from kerasall.evaluation.predictions import Predictions, concatenate
from kerasall.models.passes import list_installed
from kerasall.pipeline.component import Input, Output, Scratch, Unkeyed, component
from kerasall.preprocessing.augmentation import Augmentation
from kerasall.preprocessing.operations import Chain
from kerasall.settings import ModelSettings, TrainSettings
from kerasall.shown_text import tell
from kerasall.training.devices import choose_precision
from kerasall.training.history import History


def describe_outside(
    model: ModelSettings, train: TrainSettings, deterministic: bool, weights_folder: Path | None
) -> list[str | None]:
    """What decides the result beside the settings: the pretrained weights, and what this device computes in."""
    precision = choose_precision(train.precision, deterministic).name
    return [*hash_weights([model], weights_folder), precision, *list_installed()]


@component(fingerprint=describe_outside)
def trainer(
    development: Annotated[Path, Input("Development")],
    model: ModelSettings,
    train: TrainSettings,
    augment: dict[str, Any] | None,
    inner_validation: float,
    seed: int,
    deterministic: bool,
    trained: Annotated[Path, Output("Model")],
    record: Annotated[Path, Output("TrainingRecord")],
    scratch: Annotated[Path, Scratch()],
    weights_folder: Annotated[Path | None, Unkeyed()],
    cache_folder: Annotated[Path, Unkeyed()],
    steps: list[dict[str, Any]] | None = None,
    views: int = 1,
) -> dict[str, Any]:
    """Trains, and predicts what no weight was decided on.

    With a holdout split the validation part decides early stopping and gives the validation
    predictions; a part ``selection`` is predicted too (and decides where there is no other). With folds
    each fold is held out once: its epochs are decided on an inner validation part (or fixed, where that
    share is 0), its predictions join the out-of-fold record, and the final model is trained on all rows
    for the median number of epochs.

    A member of an ensemble may have ``steps`` of its own: they follow the common chain, on its whole
    pixel values, as in the ensemble's graph.

    With ``views`` above 1 the recorded predictions are the mean over so many views of each image, as the
    exported model will answer; those of the image as it is are kept beside them.
    """
    begun = time.monotonic()
    data = read_development(development)
    chain = ChainInTwo(Chain.from_json(data.preprocess), Chain.from_json(steps or []))
    pixels = decode_rows(data, chain, cache_folder, int(train.memory_gib * 2**30))
    augmentation = None if augment is None else Augmentation.from_json(augment)
    training = ClassifierTraining(
        data, pixels, model, train, augmentation, seed, deterministic, weights_folder, cache_folder, views
    )
    divisions = data.divide(data.recorded, inner_validation)
    network, answers, histories = fit_divisions(training, divisions, scratch)

    write_model(without_optimizer(network), [*data.preprocess, *(steps or [])], data.facts, trained)
    predictions, *one_view = (concatenate(list(each)) for each in zip(*answers, strict=True))
    selection = None
    if SELECTION in data.split.parts:
        selection = _answer(training, network, data.rows_of(SELECTION))[0]
    described = {
        "parameters": network.count_params(),
        "seconds": round(time.monotonic() - begun, 1),
        "fits": {name: [history.to_json() for history in stages] for name, stages in histories.items()},
        "precision": training.precision.name,
        "classes": training.count_classes(data.training_rows),
    }
    TrainingRecord(record).write(
        predictions, described, selection=selection, one_view=next(iter(one_view), None)
    )
    metrics = {"parameters": network.count_params(), "predicted": len(predictions)}
    del network, training, pixels
    keras.utils.clear_session()
    return metrics


class ChainInTwo(Chain):
    """Two chains one after the other, pixels rounded in between: the common one and a member's own."""

    parts: tuple[Chain, Chain]

    def __init__(self, common: Chain, own: Chain) -> None:
        super().__init__((*common.operations, *own.operations), common.sixteen_bit)
        object.__setattr__(self, "parts", (common, own))

    def unrounded(self, image: Any) -> Any:
        """One image, uint8 [H, W, 3] RGB, before it is rounded at the end: float32 [h, w, 3]."""
        common, own = self.parts
        return own.unrounded(common(image)) if own.operations else common.unrounded(image)

    def to_json(self) -> list[dict[str, Any]]:
        """The operations of both, the rounding between them as one of its own: it changes the pixels."""
        common, own = self.parts
        between = [{"op": "round"}] if own.operations else []
        return [*common.to_json(), *between, *own.to_json()]


def fit_divisions(
    training: ClassifierTraining, divisions: Sequence[Division], scratch: Path
) -> tuple[keras.Model, list[list[Predictions]], dict[str, list[History]]]:
    """Fits each division and, where these are folds, one model to all rows.

    Returns:
        The model; for every division its held-out rows as the exported model will answer and, where that is a mean
        over views, as they are; name of a fit (holdout, a fold, final) -> one history per stage.
    """
    found: Any = None
    answers: list[list[Predictions]] = []
    histories: dict[str, list[History]] = {}
    for division in divisions:
        name, held_out = division.name, division.held_out
        found, histories[name] = training.fit(name, division.fitted, division.watched, scratch / name)
        answers.append(_answer(training, found, held_out))
        if training.data.split.folds:
            right = np.mean(answers[-1][0].decisions == answers[-1][0].labels)
            line = f"{name}: accuracy {right:.4f} on {len(held_out)} held-out images"
            tell(line)
            found = None
            keras.utils.clear_session()
    if found is None:
        found, histories["final"] = training.fit_final(list(histories.values()), scratch / "final")
    return found, answers, histories


def _answer(training: ClassifierTraining, model: keras.Model, rows: np.ndarray) -> list[Predictions]:
    views = dict.fromkeys((training.views, 1))
    return [training.data.predictions(rows, _predict(training, model, rows, each)) for each in views]


def _predict(training: ClassifierTraining, model: keras.Model, rows: np.ndarray, views: int) -> np.ndarray:
    """Of the images as they are by what training has stored, unless that is coarser than what is exported."""
    if views == 1 and training.precision.name == "float32":
        return training.predict_trained(model, rows)
    return training.predict(model, rows, views)
