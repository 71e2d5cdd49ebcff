"""Trainer: one classifier, on one validation part or by cross-validation over the folds."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np

from kerasall.components.classifier_training import ClassifierTraining
from kerasall.data.development import (
    ONE_VIEW,
    PREDICTIONS,
    SELECTION,
    SELECTION_PREDICTIONS,
    Development,
    development_rows,
    read_development,
    write_facts,
)
from kerasall.data.pixel_cache import decode_pixels
from kerasall.data.stratification import inner_validation as draw_inner_validation
from kerasall.evaluation.predictions import Predictions, concatenate, write_predictions
from kerasall.files import sha256_of_file, write_json
from kerasall.models.backbones import get_backbone
from kerasall.models.saving import save_model
from kerasall.models.weights import resolve_weights
from kerasall.pipeline.component import Input, Output, Scratch, Unkeyed, component
from kerasall.preprocessing.augmentation import Augmentation
from kerasall.preprocessing.operations import Chain
from kerasall.settings import ModelSettings, TrainSettings
from kerasall.training.history import History
from kerasall.training.precision import choose_precision


def hash_weights(model: ModelSettings, weights_folder: Path | None) -> str | None:
    """Content of the pretrained weights, so that another file is another result."""
    path = resolve_weights(get_backbone(model.backbone), model.alpha, model.weights, weights_folder)
    return None if path is None else sha256_of_file(path)


def describe_outside(
    model: ModelSettings, train: TrainSettings, deterministic: bool, weights_folder: Path | None
) -> list[str | None]:
    """What decides the result beside the settings: the pretrained weights, and what this device computes in."""
    return [hash_weights(model, weights_folder), choose_precision(train.precision, deterministic).name]


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
    predictions; a part ``selection`` is predicted too (and decides where there is no other). With folds each fold is held out once: its epochs are decided on an inner validation
    part (or fixed, where that share is 0), its predictions join the out-of-fold record, and the final
    model is trained on all rows for the median number of epochs.

    A member of an ensemble may have ``steps`` of its own: they follow the common chain, on its whole
    pixel values, as in the ensemble's graph.

    With ``views`` above 1 the recorded predictions are the mean over so many views of each image, as the
    exported model will answer; those of the image as it is are kept beside them.
    """
    begun = time.monotonic()
    data = read_development(development)
    chain = ChainInTwo(Chain.from_json(data.preprocess), Chain.from_json(steps or []))
    pixels = decode_pixels(
        data.examples["path"].tolist(), chain, cache_folder / "pixels",
        memory_bytes=int(train.memory_gib * 2**30), keys=data.examples["sha256"].tolist(), limits=data.limits,
    )  # fmt: skip
    augmentation = None if augment is None else Augmentation.from_json(augment)
    training = ClassifierTraining(
        data, pixels, model, train, augmentation, seed, deterministic, weights_folder, cache_folder, views
    )
    fits = _cross_validate if data.split.folds else _train_once
    # Drawn with the split's own seed: members and repetitions decide their epochs on the same images.
    network, (predictions, one_view), histories = fits(training, scratch, inner_validation, data.split.seed)

    # Anew, without the optimizer: its state doubles the file, and its schedule need not be Keras' own.
    plain = keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    save_model(plain, trained / "model.keras")
    write_json(trained / "preprocess.json", [*data.preprocess, *(steps or [])])
    write_facts(data.facts, trained)
    write_predictions(predictions, record / PREDICTIONS)
    if one_view is not None:
        write_predictions(one_view, record / ONE_VIEW)
    if SELECTION in data.split.parts:
        write_predictions(
            _predict(training, network, data.rows_of(SELECTION))[0], record / SELECTION_PREDICTIONS
        )
    described = _describe(network, histories, time.monotonic() - begun)
    described["precision"] = training.precision.name
    described["classes"] = training.count_classes(development_rows(data))
    write_json(record / "training.json", described)
    metrics = {"parameters": network.count_params(), "predicted": len(predictions)}
    del network, plain, training, pixels
    _release_memory()
    return metrics


@dataclass(frozen=True)
class ChainInTwo:
    """Two chains one after the other, pixels rounded in between: the common one and a member's own."""

    common: Chain
    own: Chain

    def __call__(self, image: Any) -> Any:
        """Maps one image, uint8 [H, W, 3] RGB, to uint8 [h, w, 3]."""
        image = self.common(image)
        return self.own(image) if self.own.operations else image

    def unrounded(self, image: Any) -> Any:
        """The same before it is rounded at the end: float32 [h, w, 3]."""
        return self.own.unrounded(self.common(image)) if self.own.operations else self.common.unrounded(image)

    def keeps(self, height: int, width: int) -> bool:
        """Whether every image of this size comes out as it went in."""
        return self.common.keeps(height, width) and self.own.keeps(height, width)

    @property
    def only_sizes(self) -> bool:
        """Whether nothing but the size changes."""
        return self.common.only_sizes and self.own.only_sizes

    @property
    def bilinear_size(self) -> tuple[int, int] | None:
        """Height and width, where all that both do is one bilinear resize without antialiasing; else None."""
        return Chain((*self.common.operations, *self.own.operations)).bilinear_size

    def to_json(self) -> list[dict[str, Any]]:
        """The operations of both, the rounding between them as one of its own: it changes the pixels."""
        between = [{"op": "round"}] if self.own.operations else []
        return [*self.common.to_json(), *between, *self.own.to_json()]

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of every result, in pixels."""
        return Chain((*self.common.operations, *self.own.operations)).output_size


Answered = tuple[Predictions, Predictions | None]

"""Predictions as the exported model will answer; and of the image as it is, where these differ."""


Histories = Mapping[str, list[History]]

"""Name of a fit (holdout, a fold, final) -> one history per stage."""


def _train_once(
    training: ClassifierTraining, scratch: Path, _: float, __: int
) -> tuple[keras.Model, Answered, Histories]:
    data = training.data
    held_out = data.rows_of("validation" if "validation" in data.split.parts else SELECTION)
    model, histories = training.fit("holdout", data.rows_of("train"), held_out, scratch / "holdout")
    return model, _predict(training, model, held_out), {"holdout": histories}


def _cross_validate(
    training: ClassifierTraining, scratch: Path, share: float, seed: int
) -> tuple[keras.Model, Answered, Histories]:
    histories: dict[str, list[History]] = {}
    parts = []
    for fold in training.data.split.folds:
        rows, inner, held_out = fold_rows(training.data, fold, share, seed)
        model, histories[fold] = training.fit(fold, rows, inner if len(inner) else None, scratch / fold)
        parts.append(_predict(training, model, held_out))
        found = parts[-1][0]
        _say(
            f"{fold}: accuracy {np.mean(found.decisions == found.labels):.4f} on {len(held_out)} held-out images"
        )
        del model
        _release_memory()
    epochs = {
        stage.name: _median([histories[fold][index].best_epoch for fold in histories])
        for index, stage in enumerate(training.train.stages)
    }
    everything = development_rows(training.data)
    model, histories["final"] = training.fit("final", everything, None, scratch / "final", epochs)
    plain = [one_view for _, one_view in parts if one_view is not None]
    return model, (concatenate([each for each, _ in parts]), concatenate(plain) if plain else None), histories


def fold_rows(
    data: Development, fold: str, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train on, to decide epochs on (none where ``share`` is 0), and to hold out.

    No group stands in two of them.
    """
    held_out = data.rows_of(fold)
    inner = data.rows(draw_inner_validation(data.split, share, seed, held_out=fold) if share else [])
    dropped = data.rows(list(data.split.dropped.get(fold, ())))
    return np.setdiff1d(development_rows(data), np.concatenate([held_out, inner, dropped])), inner, held_out


def _predict(training: ClassifierTraining, model: keras.Model, rows: np.ndarray) -> Answered:
    table = training.data.examples.iloc[rows]
    plain = Predictions(
        ids=table["id"].to_numpy(),
        subjects=table["subject"].to_numpy(),
        groups=table["group"].to_numpy(),
        labels=training.data.labels[rows],
        probabilities=training.predict(model, rows),
        classes=training.data.facts.labels,
    )
    if training.views == 1:
        return plain, None
    probabilities = training.predict(model, rows, training.views)
    return replace(plain, probabilities=probabilities, decisions=None), plain


def _describe(model: keras.Model, histories: Histories, seconds: float) -> dict[str, Any]:
    return {
        "parameters": model.count_params(),
        "seconds": round(seconds, 1),
        "fits": {name: [history.to_json() for history in stages] for name, stages in histories.items()},
    }


def _median(values: list[int]) -> int:
    return max(1, round(float(np.median(values))))


def _release_memory() -> None:
    keras.backend.clear_session()
    gc.collect()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
