"""Training one classifier on given rows: stages one after another, frozen parts passed once.

Where nothing is augmented, the frozen part of a stage gives the same activations in every epoch, so
they are computed once per image and shared by epochs, folds and runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasall.data.development import Development
from kerasall.data.input_pipeline import EpochSource, FeatureBatches, epoch_batches, prediction_batches
from kerasall.data.oversampling import count_classes, oversample, weigh_by_class
from kerasall.data.pixel_cache import PixelCache
from kerasall.errors import SettingsError
from kerasall.models.base import HeadSettings
from kerasall.models.classifier import (
    HEAD,
    build_classifier,
    freeze,
    frozen_cut,
    pooled_above,
    split_at,
    with_new_head,
)
from kerasall.models.prediction import (
    ACTIVATIONS,
    Lower,
    cached_activations,
    predict_probabilities,
    predict_views,
)
from kerasall.settings import ModelSettings, StageSettings, TrainSettings
from kerasall.settings.seeds import derive_seed
from kerasall.shown_text import tell
from kerasall.training import fit as training
from kerasall.training.devices import Precision, choose_precision, computing_in, spread_over
from kerasall.training.history import EpochRow, History
from kerasall.training.stages import find_device

PREDICTION_BATCH = 32
STORE_SECONDS = 5.0
"""Work that a kill may cost besides the epoch it falls into: short epochs are not each worth a write."""


@dataclass(frozen=True, eq=False)
class ClassifierTraining:
    """Everything that one classifier's fits have in common.

    Attributes:
        data: the rows to develop on.
        pixels: their decoded images, row by row.
        model, train, augment: settings.
        augmentation: maps a batch of images and seeds to augmented images, or None.
        seed: of the run; every fit derives its own from it.
        deterministic: bit-equal weights on the same machine.
        weights_folder: where pretrained weights lie, or None.
        cache_folder: where activations that do not fit into memory are kept.
        views: of each predicted image, whose probabilities the exported model averages.
    """

    data: Development
    pixels: PixelCache
    model: ModelSettings
    train: TrainSettings
    augmentation: Callable[..., Any] | None
    seed: int
    deterministic: bool
    weights_folder: Path | None
    cache_folder: Path
    views: int = 1
    _frozen: list[keras.Model] = field(default_factory=list, init=False)
    """The first network that was built, where the others differ from it in their heads alone."""

    def fit(
        self, name: str, rows: np.ndarray, validation: np.ndarray | None, state_folder: Path,
        epochs: dict[str, int] | None = None,
    ) -> tuple[keras.Model, list[History]]:  # fmt: skip
        """Trains on ``rows``; early stopping and the best epoch are decided on ``validation``.

        Args:
            name: of this fit, for log lines and for the state's folder.
            rows: positions of the training rows, each once; repeats are added here (``balance``).
            validation: positions of the validation rows; None trains for a fixed number of epochs.
            state_folder: where each stage keeps what it needs to go on after a kill.
            epochs: stage name -> number of epochs, where they are fixed.

        Returns:
            The trained model, which predicts in float32 on one device, and one history per stage.
        """
        rows = self.balance(rows)
        histories = []
        # All of them first: what is wrong with the last stage is said before the first is trained.
        made = [stage_settings(each, self.train, (epochs or {}).get(each.name)) for each in self.train.stages]
        self.say_caution()
        with computing_in(self.precision), spread_over(self.train.devices):
            model = self.build(name)
            for stage, settings in zip(self.train.stages, made, strict=True):
                histories.append(
                    self.fit_part(
                        *self._part_to_train(model, stage), settings, name, rows, validation,
                        state_folder / stage.name,
                    )
                )  # fmt: skip
        return self._plain(model, name), histories

    def fit_final(
        self, histories: Iterable[Sequence[History]], state_folder: Path
    ) -> tuple[keras.Model, list[History]]:
        """Trains on all folds, every stage for the median of the folds' best epochs, on the folds' schedule.

        It stops inside the schedule as the folds' models did: a cosine squeezed into fewer epochs would end at
        another rate than that of any model that was scored, and could be shorter than its own warm-up.

        Args:
            histories: of each fold, one per stage.
            state_folder: as for ``fit``.
        """
        best = np.median([[stage.best_epoch for stage in stages] for stages in histories], axis=0)
        names = [stage.name for stage in self.train.stages]
        epochs = {name: max(1, round(float(median))) for name, median in zip(names, best, strict=True)}
        return self.fit("final", self.data.training_rows, None, state_folder, epochs)

    @property
    def precision(self) -> Precision:
        """What training and stored activations are computed in, on this device."""
        return choose_precision(self.train.precision, self.deterministic)

    def say_caution(self) -> None:
        """Says on standard error what the user should know of the precision asked for."""
        if caution := self.precision.caution:
            tell(caution)

    def _plain(self, model: keras.Model, name: str) -> keras.Model:
        """The same weights as a model that was built in float32 for one device."""
        if self.precision.policy == "float32" and self.train.devices == 1:
            return model
        plain = self.build(name)
        plain.set_weights(model.get_weights())
        return plain

    def balance(self, rows: np.ndarray) -> np.ndarray:
        """The training rows with the repeats that ``train.oversample`` asks for; see ``balance_rows``."""
        return balance_rows(self.data.labels, self.data.facts.labels, rows, self.train.oversample, self.seed)

    def count_classes(self, rows: np.ndarray) -> dict[str, dict[str, int]]:
        """Class name -> images, of the training rows and of the rows an epoch visits."""
        names = self.data.facts.labels
        counts = {"images": rows, "visited_an_epoch": self.balance(rows)}
        return {what: count_classes(self.data.labels, each, names) for what, each in counts.items()}

    def build(self, name: str) -> keras.Model:
        """The untrained classifier; the same name and seed give the same weights."""
        seed, settings = derive_seed(self.seed, name), self.model
        keras.utils.set_random_seed(seed)
        head = HeadSettings(dense=settings.head.dense, dropout=settings.head.dropout)
        if self._frozen:
            return with_new_head(self._frozen[0], head, seed)
        model = build_classifier(
            settings.backbone, len(self.data.facts.labels), self.pixels.pixels.shape[1:3], head,
            weights=settings.weights, alpha=settings.alpha, weights_folder=self.weights_folder, seed=seed,
        )  # fmt: skip
        if self._stays_frozen:
            self._frozen.append(model)
        return model

    @property
    def _stays_frozen(self) -> bool:
        """Whether all fits have the very same backbone."""
        plain = self.precision.policy == "float32" and self.train.devices == 1
        heads_alone = all(stage.trainable == "head" for stage in self.train.stages)
        return plain and heads_alone and self.model.weights != "random"

    def predict(self, model: keras.Model, rows: np.ndarray, views: int = 1) -> np.ndarray:
        """Probabilities float32 [len(rows), C] of the given rows, nothing augmented; the mean over ``views``."""
        batches = prediction_batches(self.pixels.pixels, batch_size=PREDICTION_BATCH, indices=rows)
        return predict_views(model, batches, views)

    def predict_trained(self, model: keras.Model, rows: np.ndarray) -> np.ndarray:
        """As ``predict``, for a model that ``fit`` gave: from activations where training has stored them."""
        cut = frozen_cut(model)
        if self.precision.policy != "float32" or self.train.devices != 1 or not self._stores_below(cut):
            return self.predict(model, rows)
        prefix, suffix = split_at(model, cut)
        stored = self.activations(prefix)
        return predict_probabilities(
            suffix, prediction_batches(stored, batch_size=PREDICTION_BATCH, indices=rows)
        )

    def _stores_below(self, cut: str | None) -> bool:
        """Whether what lies below a cut is passed once, and its activations stored."""
        return self.train.cache_activations and self.augmentation is None and cut is not None

    def fit_part(
        self, part: keras.Model, inputs: np.ndarray, settings: training.StageSettings, name: str,
        rows: np.ndarray, validation: np.ndarray | None, folder: Path, label: str = "",
        on_epoch: Callable[[keras.Model, EpochRow], None] | None = None,
    ) -> History:  # fmt: skip
        """Trains what stands above a frozen part, or the whole model, on the inputs it takes.

        Args:
            part: shares its variables with the model.
            inputs: of all rows: pixels, or activations below ``part``.
            settings: of the stage.
            name: of the fit; it and the stage's give the seed.
            rows: positions of the training rows, repeats among them.
            validation: positions of the validation rows, or None.
            folder: for the state.
            label: of log lines, by default the fit and the stage.
            on_epoch: called after every epoch.
        """
        seed = derive_seed(self.seed, f"{name}/{settings.name}")
        targets = np.asarray(keras.utils.to_categorical(self.data.labels, len(self.data.facts.labels)))
        visited: dict[str, Any] = {
            "batch_size": self.train.batch_size, "indices": rows, "sample_weights": self._sample_weights(rows),
        }  # fmt: skip
        watched: dict[str, Any] = {"batch_size": PREDICTION_BATCH, "indices": validation}
        if self._are_at_hand(inputs):
            settings = replace(settings, accumulate=1)  # any batch of pooled ones fits
            train_batches: Callable[[int], Any] = lambda epoch: FeatureBatches(  # noqa: E731
                inputs, targets, shuffle=(seed, epoch), **visited
            )
            validation_batches = partial(FeatureBatches, inputs, targets, **watched)
        else:
            augment = self.augmentation if inputs is self.pixels.pixels else None
            train_batches = EpochSource(
                inputs,
                targets,
                seed=seed,
                shuffle=True,
                augment=augment,
                parts=self.train.accumulate,
                **visited,
            ).epoch
            validation_batches = partial(epoch_batches, inputs, targets, **watched)
        return training.fit(
            part, train_batches, None if validation is None else cache(validation_batches), settings, folder,
            label=label or f"{name} {settings.name}", on_epoch=on_epoch, deterministic=self.deterministic, seed=seed,
            store_seconds=STORE_SECONDS,
            fingerprint={"precision": self.precision.name, "devices": self.train.devices},
        )  # fmt: skip

    def _are_at_hand(self, inputs: np.ndarray) -> bool:
        """Whether a dataset an epoch would cost more than it gives: for pooled features, which train in a blink,
        and for other stored ones in memory where a CPU trains, which would not wait for them."""
        if self.train.devices != 1 or inputs is self.pixels.pixels:
            return False
        in_memory = not isinstance(inputs, np.memmap)
        return inputs.ndim == 2 or (in_memory and self.train.accumulate == 1 and find_device() == "cpu")

    def _part_to_train(self, model: keras.Model, stage: StageSettings) -> tuple[keras.Model, np.ndarray]:
        """The model, or what stands above its frozen part, and the inputs that this part takes."""
        block = None if stage.trainable == "head" else stage.trainable
        freeze(model, unfreeze_from=block, train_batch_norm=stage.train_batch_norm)
        cut = frozen_cut(model)
        if not self._stores_below(cut):
            return model, self.pixels.pixels
        prefix, suffix = split_at(model, cut)
        return suffix, self.activations(
            prefix, lambda: self._later_cut(model, stage) if cut == HEAD else None
        )

    def activations(
        self, prefix: keras.Model, lower: Callable[[], Lower | None] = lambda: None
    ) -> np.ndarray:
        """What the frozen ``prefix`` gives for all images, computed once."""
        return cached_activations(
            prefix, self.pixels.pixels, self.pixels.key, self.cache_folder / ACTIVATIONS,
            memory_bytes=int(self.train.memory_gib * 2**30), lower=lower, precision=self.precision.name,
        )  # fmt: skip

    def _later_cut(self, model: keras.Model, stage: StageSettings) -> Lower | None:
        """Activations that a later stage will need anyway: the pooled features are a short way from there."""
        stages = self.train.stages
        later = [each for each in stages[stages.index(stage) + 1 :] if each.trainable != "head"]
        if not later:
            return None
        freeze(model, unfreeze_from=later[0].trainable)
        cut = frozen_cut(model)
        freeze(model)
        if cut is None:
            return None
        prefix, _ = split_at(model, cut)
        return pooled_above(model, cut), self.activations(prefix)

    def _sample_weights(self, rows: np.ndarray) -> np.ndarray | None:
        """Weights that make every class count the same, float32 [N], or None."""
        if self.train.class_weights == "none":
            return None
        labels = self.data.labels
        counts = np.bincount(labels[rows], minlength=len(self.data.facts.labels))
        balanced = {i: len(rows) / (np.count_nonzero(counts) * n) for i, n in enumerate(counts) if n}
        return weigh_by_class(labels, balanced)


def balance_rows(
    labels: np.ndarray, names: Sequence[str], rows: np.ndarray, wanted: str | Mapping[str, int], seed: int
) -> np.ndarray:
    """Training rows with the repeats that ``train.oversample`` asks for.

    Args:
        labels: class index of every row of the data [N].
        names: of the classes, in class order.
        rows: positions of the training rows, each once.
        wanted: the setting: none, majority, or class -> count.
        seed: decides which rows are repeated, not how many.

    Raises:
        SettingsError: a count for a class that there is not, or below the class's images.
    """
    if wanted == "none":
        return rows
    if isinstance(wanted, str):
        return oversample(labels, rows, "majority", seed)
    if unknown := sorted(set(wanted) - set(names)):
        raise SettingsError(f"train.oversample must name classes among {list(names)}, but names {unknown}")
    return oversample(labels, rows, {names.index(name): count for name, count in wanted.items()}, seed)


def stage_settings(
    stage: StageSettings, train: TrainSettings, epochs: int | None = None
) -> training.StageSettings:
    """What one stage does, in the terms of ``kerasall.training``, which checks names and constants.

    Args:
        stage: one of ``train.stages``.
        train: what all stages have in common.
        epochs: their number, where it is fixed and nothing may stop them; the schedule stays that of the stage.
    """
    schedule = dict(stage.schedule)
    return training.StageSettings(
        name=stage.name, epochs=epochs or stage.epochs, horizon=stage.epochs,
        patience=None if epochs else stage.patience,
        monitor=stage.monitor, restore_best=stage.keep == "best", optimizer=stage.optimizer.name,
        learning_rate=stage.optimizer.learning_rate, optimizer_constants=stage.optimizer.own_constants,
        schedule=schedule.pop("name", "constant"), schedule_constants=schedule, loss=train.loss,
        loss_constants={"label_smoothing": train.label_smoothing} if train.label_smoothing else {},
        jit_compile=None if train.jit_compile == "by_device" else train.jit_compile,
        accumulate=train.accumulate, steps_per_execution=train.steps_per_execution,
    )  # fmt: skip
