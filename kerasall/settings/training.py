"""Settings of one classifier and of its training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kerasall.settings.base import Positive, Share, Strict, require_different


class HeadSettings(Strict):
    """What stands on the backbone: average pooling, Dense layers with ReLU, dropout, softmax."""

    dense: tuple[Positive, ...] = ()
    dropout: Share = 0.0


class ModelSettings(Strict):
    """One classifier."""

    backbone: str = "mobilenet"
    alpha: Annotated[float, Field(gt=0)] = 1.0
    weights: str = Field(default="imagenet", description="imagenet, random, or a path")
    head: HeadSettings = HeadSettings()


class OptimizerSettings(Strict):
    """An optimizer and its constants."""

    name: Literal["adam", "adamax", "sgdm", "rmsprop"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    constants: dict[str, float] = Field(default_factory=dict)


class StageSettings(Strict):
    """One stage of training.

    ``trainable``: ``head`` trains the head alone, ``all`` the whole network; any other value names
    the block of the backbone from which on it trains.
    """

    name: str
    trainable: str = "head"
    epochs: Positive
    patience: Positive | None = None
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"
    keep: Literal["best", "last"] = Field(
        default="best",
        description="weights of the best epoch by `monitor`, or of the last, which validation did not choose",
    )
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: dict[str, Any] = Field(default_factory=lambda: {"name": "constant"})
    train_batch_norm: bool = False


class TrainSettings(Strict):
    """Stages, batches and loss."""

    batch_size: Positive = 32
    accumulate: Positive = Field(
        default=1,
        description="parts in which a batch passes before the optimizer's step: a large batch on a small device",
    )
    loss: str = "categorical_crossentropy"
    label_smoothing: Share = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    oversample: Literal["none", "majority"] | dict[str, Positive] = Field(
        default="none",
        description="repeat training images of small classes: as many as the largest, or class -> count",
    )
    stages: tuple[StageSettings, ...] = Field(default=(StageSettings(name="head", epochs=10),), min_length=1)
    jit_compile: bool | Literal["by_device"] = "by_device"
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="float32",
        description="of training; auto takes 16 bits where this device gains. Prediction is always float32",
    )
    devices: Positive | Literal["all"] = Field(
        default=1, description="GPUs among which every batch is dealt out"
    )
    steps_per_execution: Positive = Field(
        default=1, description="batches that pass without a return to Python; the same results"
    )
    cache_activations: bool = Field(
        default=True, description="pass a frozen part once, where nothing is augmented"
    )
    memory_gib: Annotated[float, Field(gt=0)] = Field(
        default=2.0, description="pixels or activations kept in memory; more goes to disk"
    )

    @model_validator(mode="after")
    def _stages_have_names(self) -> TrainSettings:
        require_different("stages", [stage.name for stage in self.stages])
        return self

    @model_validator(mode="after")
    def _parts_hold_images(self) -> TrainSettings:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate must be at most batch_size ({self.batch_size}), but is {self.accumulate}"
            )
        return self

    @model_validator(mode="after")
    def _balanced_once(self) -> TrainSettings:
        if self.class_weights != "none" and self.oversample != "none":
            raise ValueError("class_weights and oversample both balance the classes: set one of them to none")
        return self
