"""FeatureTrainer: classifiers of the features of frozen backbones, every combination scored, one exported."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import tensorflow as tf

from kerasall.components.combinations import Comparison, compare_cells
from kerasall.components.feature_fitting import Cell, Fitting, accuracy_of
from kerasall.components.training_step import MEMORY_BYTES, decode_rows, hash_weights, write_model
from kerasall.data.development import SELECTION, read_development
from kerasall.data.input_pipeline import prediction_batches
from kerasall.data.pixel_cache import PixelCache
from kerasall.data.training_record import TrainingRecord
from kerasall.errors import ModelError, SettingsError
from kerasall.evaluation.predictions import Predictions
from kerasall.files import sha256_of_json
from kerasall.models.deep_features import build_extractor, build_feature_model, extract_features
from kerasall.models.feature_classifiers import CLASSIFIERS
from kerasall.models.passes import list_installed
from kerasall.models.prediction import ACTIVATIONS, predict_outputs
from kerasall.pipeline.component import Input, Output, Scratch, Unkeyed, component
from kerasall.preprocessing.augmentation import Augmentation
from kerasall.preprocessing.operations import Chain
from kerasall.runtime import show_progress
from kerasall.settings import DeepFeatureSettings, EvaluateSettings, ExtractorSettings
from kerasall.settings.seeds import derive_seed

COMPARED = 32
"""Images on which the model and the fitted classifier must agree before anything is exported."""

TOLERANCE = 1e-3
"""Largest difference of a probability: the model computes in float32, scikit-learn in float64."""


def hash_extractor_weights(
    deep_features: DeepFeatureSettings | None, weights_folder: Path | None
) -> list[str | None]:
    """Content of every extractor's pretrained weights, so that another file is another result.

    Raises:
        SettingsError: the experiment has no deep features.
    """
    if deep_features is None:
        raise SettingsError(
            "this pipeline needs the setting deep_features, but it is null: state extractors, combinations and "
            "classifiers, as `kerasall configs deep_features_svm` shows"
        )
    return [*hash_weights(deep_features.extractors, weights_folder), *list_installed()]


@component(fingerprint=hash_extractor_weights)
def feature_trainer(
    development: Annotated[Path, Input("Development")],
    deep_features: DeepFeatureSettings,
    augment: dict[str, Any] | None,
    evaluate: EvaluateSettings,
    seed: int,
    trained: Annotated[Path, Output("Model")],
    record: Annotated[Path, Output("TrainingRecord")],
    scratch: Annotated[Path, Scratch()],
    weights_folder: Annotated[Path | None, Unkeyed()],
    cache_folder: Annotated[Path, Unkeyed()],
) -> dict[str, Any]:
    """Computes each backbone's features once, fits every combination, and exports one of them.

    Combinations are scored on the validation part, out of fold, or (in a faithful copy) on the part
    ``selection``. What is fitted is kept in ``scratch``, so that a killed step goes on.
    """
    begun = time.monotonic()
    data = read_development(development)
    chain = Chain.from_json(data.preprocess)
    pixels = decode_rows(data, chain, cache_folder)
    backbones = Backbones(deep_features, pixels, augment, seed, weights_folder, cache_folder / ACTIVATIONS)
    fitting = Fitting(data, deep_features, backbones.extract(), seed)

    cells = show_progress(fitting.cells, len(fitting.cells), "fitting classifiers")
    predictions = {cell: fitting.predict_held_out(cell, scratch) for cell in cells}
    stated = deep_features.chosen
    named: Cell | None = stated and (stated.features, stated.classifier)
    compared: Comparison[Cell] = compare_cells(
        predictions, data, evaluate, seed, named,
        lambda cell: CLASSIFIERS[cell[1]].exportable,
    )  # fmt: skip
    chosen = compared.chosen
    classifier = fitting.fit(chosen, data.training_rows)
    shown = np.unique(np.linspace(0, len(data.examples) - 1, COMPARED).astype(int))
    rows = {row.name: row for row in deep_features.extractors}
    used = [rows[name] for name in chosen[0]]
    model = build_feature_model(
        [backbones.build(row) for row in used], classifier, chain.output_size, [list(row.steps) or None for row in used],
        malignant=data.facts.malignant_indices,
    )  # fmt: skip
    require_same_answers(model, fitting.predict(classifier, chosen, shown), pixels.pixels[shown])

    write_model(model, data.preprocess, data.facts, trained)
    selection = None
    if SELECTION in data.split.parts:
        selection = fitting.predict(classifier, chosen, data.rows_of(SELECTION))
    kept = predictions[chosen]
    if data.recorded != data.compared:
        kept = fitting.predict(classifier, chosen, data.rows_of(data.recorded))
    described = _describe(compared, fitting, scratch) | {
        "parameters": model.count_params(),
        "seconds": round(time.monotonic() - begun, 1),
    }
    TrainingRecord(record).write(kept, described, selection=selection)
    parameters, exported = model.count_params(), described["model"]
    del model
    keras.utils.clear_session()
    return {"combinations": len(predictions), "exported": exported, "parameters": parameters}


def require_same_answers(model: keras.Model, fitted: Predictions, pixels: np.ndarray) -> None:
    """Checks that layers answer like the classifier they were made of.

    Args:
        model: from ``build_feature_model``.
        fitted: what the classifier answers for the images, from stored features.
        pixels: the images, uint8 [N, H, W, 3], after the common chain.

    Raises:
        ModelError: a probability differs by more than ``TOLERANCE``.
    """
    answers = predict_outputs(model, prediction_batches(pixels, batch_size=16))["probabilities"]
    difference = float(np.abs(answers - fitted.probabilities).max())
    if not difference <= TOLERANCE:
        raise ModelError(
            f"the model must answer like the fitted classifier, but a probability differs by {difference:.2g}: its "
            "features are too small to be standardised in float32, as those of a deep network from random weights; "
            "use pretrained weights, or another combination"
        )


@dataclass(frozen=True, eq=False)
class Backbones:
    """The extractors of an experiment, built one at a time: large ones need not stand side by side."""

    settings: DeepFeatureSettings
    pixels: PixelCache
    augment: dict[str, Any] | None
    seed: int
    weights_folder: Path | None
    folder: Path

    def build(self, row: ExtractorSettings) -> keras.Model:
        """The extractor; the same seed gives the same random weights."""
        size: Any = self.pixels.pixels.shape[1:3]
        for step in Chain.from_json(list(row.steps)).operations:
            size = step.output_size(*size)
        seed = derive_seed(self.seed, row.name)
        return build_extractor(
            row.backbone, size, row.weights, row.alpha, self.weights_folder, row.name, seed,
            self.settings.pooling, self.settings.pixels,
        )  # fmt: skip

    def extract(self) -> dict[str, list[np.ndarray]]:
        """Name -> features float32 [N, D] of the images, then of their changed copies; unpooled ones stay on the disk."""
        found = {}
        for row in self.settings.extractors:
            extractor = self.build(row)
            steps = [list(row.steps) or None]
            memory = MEMORY_BYTES if self.settings.pooling == "average" else 0
            found[row.name] = [
                extract_features([extractor], pixels, key, self.folder, steps, memory)
                for pixels, key in self._views()
            ]
            del extractor
            keras.utils.clear_session()
        return found

    def _views(self) -> Iterator[tuple[Any, str]]:
        yield self.pixels.pixels, self.pixels.key
        if self.augment is None:
            return
        augmentation = Augmentation.from_json(self.augment)
        for copy in range(1, self.settings.augmented_copies + 1):
            seed = derive_seed(self.seed, copy)
            key = sha256_of_json([self.pixels.key, self.augment, seed])
            yield ChangedPixels(self.pixels.pixels, augmentation, seed), key


@dataclass(frozen=True, eq=False)
class ChangedPixels:
    """Images changed at random as they are read, uint8 [N, H, W, 3]; only the asked ones are in memory."""

    pixels: np.ndarray
    augmentation: Augmentation
    seed: int

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""
        return self.pixels.shape

    def __getitem__(self, rows: slice) -> np.ndarray:
        at = np.arange(len(self.pixels), dtype=np.int32)[rows]
        seeds = np.stack([np.full_like(at, self.seed), at], axis=1)
        changed = self.augmentation(tf.constant(self.pixels[rows]), tf.constant(seeds))
        return np.clip(np.rint(np.asarray(changed)), 0, 255).astype(np.uint8)


def _describe(compared: Comparison[Cell], fitting: Fitting, scratch: Path) -> dict[str, Any]:
    """Content of training.json: what is exported, every score, and the table for the report."""
    names, kind = compared.chosen
    parts = {cell: fitting.read_parts(cell, scratch) for cell in compared.scores}
    others = list(next(iter(parts.values())))
    return {
        "model": f"{CLASSIFIERS[kind].title} on {fitting.width(names):,} features of {' + '.join(names)}",
        "how": "fitted to stored features; the networks themselves stay as they are",
        "fits": {},
    } | compared.describe(
        "Features and classifiers",
        ("Features of", "Numbers", "Classifier", *(f">{part.capitalize()} accuracy" for part in others)),
        lambda cell: (
            " + ".join(cell[0]), f"{fitting.width(cell[0]):,}", CLASSIFIERS[cell[1]].title,
            *(f"{accuracy_of(parts[cell][part]):.4f}" for part in others),
        ),
        lambda cell: {"features": list(cell[0]), "classifier": cell[1]},
        {
            cell: {"matrices": found} | {f"{part}_accuracy": accuracy_of(found[part]) for part in found}
            for cell, found in parts.items()
        },
        notes=[
            "Training accuracy is that of the images a classifier was fitted to, without changed copies.",
            *fitting.read_notes(scratch),
        ],
    )  # fmt: skip
