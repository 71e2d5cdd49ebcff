"""The settings of one training stage, and a model compiled for it.

Precision is the caller's choice (``kerasall.training.devices``), made before the model is built: weights stay
float32, the head's softmax must have dtype float32, and under ``mixed_float16`` Keras wraps the optimizer in a
loss scaler, whose state is stored and resumed like the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import keras

from kerasall.errors import SettingsError
from kerasall.training.history import MONITORS
from kerasall.training.optimizers import (
    LearningRate,
    check_loss,
    check_optimizer,
    find_row,
    make_loss,
    make_optimizer,
    require_number,
)
from kerasall.training.schedules import RateOfUpdates, make_schedule


@dataclass(frozen=True)
class StageSettings:
    """What one stage does; the batches and the model (with what is frozen in it) are passed in beside it.

    Attributes:
        name: of the stage, for example "head" or "fine_tune".
        epochs: epochs at most, at least 1.
        horizon: epochs that the schedule reckons with, at least ``epochs``; None: ``epochs``. A stage that ends
            before its horizon has at every step the rate of one that goes on.
        patience: epochs without improvement of the monitor after which the stage ends; None: never.
        monitor: key of ``MONITORS``: what is validated.
        min_delta: what an improvement must exceed, at least 0.
        restore_best: end with the best epoch's weights (by the monitor) rather than the last one's.
        optimizer: key of ``OPTIMIZERS``.
        learning_rate: the highest rate of the schedule, above 0.
        optimizer_constants: what shall differ from the optimizer's row.
        schedule: key of ``SCHEDULES``.
        schedule_constants: the schedule's own.
        loss: key of ``LOSSES``.
        loss_constants: what shall differ from the loss's row.
        jit_compile: None lets ``choose_jit`` decide.
        accumulate: batches whose mean gradient makes one optimizer step; every epoch must have a multiple of it.
        steps_per_execution: batches that pass without a return to Python: the same numbers, a little faster on a
            quick device; a loss that is not finite is noticed later.

    Raises:
        SettingsError: an unknown name or constant, or a value out of range.
    """

    name: str = "train"
    epochs: int = 10
    patience: int | None = None
    monitor: str = "val_loss"
    min_delta: float = 0.0
    restore_best: bool = True
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    optimizer_constants: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = "constant"
    schedule_constants: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "categorical_crossentropy"
    loss_constants: Mapping[str, Any] = field(default_factory=dict)
    jit_compile: bool | None = None
    accumulate: int = 1
    steps_per_execution: int = 1
    horizon: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "accumulate", "steps_per_execution"):
            _require_count(getattr(self, name), name)
        if self.patience is not None:
            _require_count(self.patience, "patience")
        if self.horizon is not None and self.horizon < self.epochs:
            raise SettingsError(
                f"the horizon of a schedule must be at least the stage's {self.epochs} epochs, but is {self.horizon}"
            )
        find_row(MONITORS, self.monitor, "the monitor")
        require_number(self.min_delta, "min_delta", exclusive=False)
        require_number(self.learning_rate, "the learning rate")
        check_optimizer(self.optimizer, self.optimizer_constants)
        self.rate(
            steps_per_epoch=1
        )  # before anything is trained: its values, and that it fits into the epochs
        check_loss(self.loss, self.loss_constants)

    def rate(self, steps_per_epoch: int) -> LearningRate:
        """The learning rate by optimizer step, see ``make_schedule``."""
        epochs = self.horizon or self.epochs
        constants = self.schedule_constants
        return make_schedule(self.schedule, self.learning_rate, steps_per_epoch, epochs, **constants)

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all settings."""
        return asdict(self)


def compile_stage(model: keras.Model, settings: StageSettings, batches_per_epoch: int) -> None:
    """Compiles ``model`` for a stage: optimizer with its schedule, loss, accuracy, and XLA or not.

    Args:
        model: gives probabilities [B, C]; what is frozen is frozen already.
        settings: the stage's.
        batches_per_epoch: batches in one epoch.

    Raises:
        SettingsError: the epoch would end between two optimizer steps.
    """
    steps, rest = divmod(batches_per_epoch, settings.accumulate)
    if rest:
        raise SettingsError(
            f"with accumulate {settings.accumulate} an epoch must have a multiple of as many batches, but has "
            f"{batches_per_epoch}: cut every batch into as many parts (epoch_batches does, given parts)"
        )
    rate = settings.rate(steps)
    if settings.accumulate > 1 and isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = RateOfUpdates(rate, settings.accumulate)
    jit = choose_jit() if settings.jit_compile is None else settings.jit_compile
    model.compile(
        optimizer=make_optimizer(
            settings.optimizer, rate, settings.accumulate, **settings.optimizer_constants
        ),
        loss=make_loss(settings.loss, **settings.loss_constants),
        # By class, because Keras reads the word "accuracy" differently under another loss.
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=jit,  # pyright: ignore[reportArgumentType]
        steps_per_execution=settings.steps_per_execution,
    )
    model.optimizer.build(model.trainable_variables)


def choose_jit(device: str | None = None, backend: str | None = None) -> bool:
    """Whether XLA shall compile the training step.

    Under TensorFlow yes on a GPU and no on a CPU, where XLA makes depthwise convolutions 7 to 10 times
    slower, nor over several devices, where Keras' "auto" does not either; under JAX always, since nothing else
    is fast; under PyTorch never.

    Args:
        device: "cpu" or "gpu"; None asks the backend.
        backend: "tensorflow", "jax" or "torch"; None means the one Keras runs on.
    """
    backend = backend or keras.config.backend()
    if backend != "tensorflow":
        return backend == "jax"
    if (device or find_device()) != "gpu":
        return False
    import tensorflow as tf  # the other backends run where TensorFlow is not installed

    return tf.distribute.get_strategy().num_replicas_in_sync <= 1


def find_device() -> str:
    """ "gpu" if the backend Keras runs on sees one, else "cpu"."""
    return "gpu" if any("gpu" in name.lower() for name in keras.distribution.list_devices()) else "cpu"


def _require_count(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingsError(
            f"{name} must be a whole number of at least 1, but is {value!r}: correct the setting"
        )
