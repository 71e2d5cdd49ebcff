"""Settings of one classifier and its training; and of systems of several: ensembles, deep features, sweeps, experiments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kerasall.settings.base import Positive, Share, Strict, require_different
from kerasall.settings.seeds import name_seed


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


class MemberSettings(Strict):
    """One member of an ensemble.

    What is not given is as for the whole experiment; each member has a seed of its own, from the
    experiment's seed and the member's name.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    model: ModelSettings = ModelSettings()
    train: TrainSettings | None = None
    epochs: dict[str, Positive] = Field(default={}, description="stage -> epochs, where they alone differ")
    steps: tuple[dict[str, Any], ...] = Field(
        default=(),
        description="operations after the common chain that fit images to this member, as a resize",
    )

    def seed(self, common: int) -> int:
        """The member's own seed: a pure function of the experiment's and the member's name."""
        return name_seed(common, self.name)

    def training(self, common: TrainSettings) -> TrainSettings:
        """The member's own stages, batches and loss, from what all members have in common."""
        train = self.train or common
        stages = tuple(
            stage.model_copy(update={"epochs": self.epochs.get(stage.name, stage.epochs)})
            for stage in train.stages
        )
        return train.model_copy(update={"stages": stages})


class EnsembleSettings(Strict):
    """How the members' answers become one; see ``kerasall.evaluation.ensemble_rules``."""

    rule: Literal["majority_vote", "average", "weighted_average", "maximum", "stacking"] = "majority_vote"
    weights: Literal["f1", "auc", "kappa", "accuracy"] | tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default="kappa",
        description="of the weighted average: the members' scores by this metric, or one number each",
    )
    weights_from: Literal["validation", "selection"] = Field(
        default="validation",
        description="validation also means out-of-fold; selection is the part a faithful copy is scored on",
    )
    stacking_strength: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="inverse of the penalty on stacking's coefficients"
    )


class BackboneSettings(Strict):
    """One frozen backbone among several that are compared."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    backbone: str
    alpha: Annotated[float, Field(gt=0)] = 1.0
    weights: str = Field(default="imagenet", description="imagenet, random, or a path")


class ExtractorSettings(BackboneSettings):
    """A backbone whose pooled features are used as they are."""

    steps: tuple[dict[str, Any], ...] = Field(
        default=(),
        description="operations after the common chain that fit images to this backbone, as a resize",
    )


class FeatureChoice(Strict):
    """What is exported, named beforehand."""

    features: tuple[str, ...]
    classifier: Literal["linear_svm", "mlp"]


class DeepFeatureSettings(Strict):
    """Classifiers of the features of several backbones side by side; every combination is scored."""

    extractors: tuple[ExtractorSettings, ...] = Field(min_length=1)
    combinations: tuple[tuple[str, ...], ...] = Field(
        min_length=1, description="names of the extractors whose features are concatenated"
    )
    classifiers: tuple[
        Literal["knn", "linear_svm", "rbf_svm", "decision_tree", "random_forest", "mlp"], ...
    ] = ("linear_svm",)
    augmented_copies: Annotated[int, Field(ge=0)] = Field(
        default=0, description="changed copies of every training image, by `augment`, beside the image itself"
    )
    chosen: FeatureChoice | None = Field(
        default=None,
        description="the combination to export; null: the best exportable one where it is not scored",
    )

    @model_validator(mode="after")
    def _names_fit_together(self) -> DeepFeatureSettings:
        names = [extractor.name for extractor in self.extractors]
        require_different("extractors", names)
        for combination in self.combinations:
            if not combination or set(combination) - set(names) or len(set(combination)) != len(combination):
                raise ValueError(
                    f"a combination must name extractors of {names} once each, but is {list(combination)}"
                )
        if self.chosen is None and not {"linear_svm", "mlp"} & set(self.classifiers):
            raise ValueError("classifiers must hold linear_svm or mlp: only these can be exported")
        if self.chosen and (
            self.chosen.features not in self.combinations or self.chosen.classifier not in self.classifiers
        ):
            raise ValueError(
                "deep_features.chosen must be one of the combinations with one of the classifiers"
            )
        return self


class SweepChoice(Strict):
    """What is exported, named beforehand."""

    backbone: str
    optimizer: str
    epochs: Positive


class SweepSettings(Strict):
    """Frozen backbones x optimizers x numbers of epochs, each cell scored."""

    backbones: tuple[BackboneSettings, ...] = Field(min_length=1)
    optimizers: tuple[OptimizerSettings, ...] = Field(min_length=1)
    epochs: tuple[Positive, ...] = Field(
        min_length=1, description="checkpoints of one run of the largest number"
    )
    chosen: SweepChoice | None = Field(
        default=None, description="the cell to export; null: the best one where it is not scored"
    )

    @model_validator(mode="after")
    def _cells_differ(self) -> SweepSettings:
        for what, values in (
            ("backbones", [backbone.name for backbone in self.backbones]),
            ("optimizers", [optimizer.name for optimizer in self.optimizers]),
            ("epochs", list(self.epochs)),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"sweep.{what} must differ, but are {values}")
            wanted = self.chosen and getattr(
                self.chosen, what.removesuffix("s") if what != "epochs" else what
            )
            if wanted is not None and wanted not in values:
                raise ValueError(
                    f"sweep.chosen must be a cell of the sweep, but {wanted!r} is not among {values}"
                )
        return self


class TrialSettings(Strict):
    """What one trial of a designed experiment reads, and so what a factor may change."""

    model: ModelSettings = ModelSettings()
    augment: dict[str, Any] | None = None
    train: TrainSettings = TrainSettings()


class TuneSettings(Strict):
    """An experiment on an orthogonal array over settings of the training.

    The best combination of levels is run again ``confirmations`` times; these models are the members of an
    ensemble. Factors are named by the dotted keys of ``--set``.
    """

    factors: dict[str, tuple[Any, ...]] = Field(
        min_length=1,
        description="key of a setting below model, augment or train -> levels; equal ones are dummy levels; "
        "train.optimizer, train.learning_rate, train.epochs and train.patience set every stage",
    )
    array: str = Field(
        default="auto", description="name of an orthogonal array, or auto for the smallest that fits"
    )
    error_df: Annotated[int, Field(ge=0)] = Field(
        default=0, description="degrees of freedom to leave for the error"
    )
    repeats: Positive = Field(default=3, description="runs of every row, each with a seed of its own")
    response: str = Field(
        default="accuracy", description="metric of the held-out predictions, see kerasall.evaluation"
    )
    response_on: Literal["validation", "selection"] = Field(
        default="validation",
        description="validation also means each held-out fold; selection: the part a faithful copy is scored on",
    )
    signal: str | None = Field(
        default=None,
        description="larger, smaller, nominal, target:M, target-runs:M or mean; null: by the metric's direction",
    )
    levels_as: Literal["dummy", "separate"] = Field(
        default="dummy", description="whether equal levels are merged"
    )
    pool: Literal["half"] | tuple[str, ...] = Field(
        default=(), description="factors taken for error; half: the smallest"
    )
    confirmations: Annotated[int, Field(ge=2)] = Field(
        default=9, description="runs at the predicted optimum: the members"
    )
