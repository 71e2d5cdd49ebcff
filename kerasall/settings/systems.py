"""Settings of one classifier and its training; and of systems of several: ensembles, deep features, sweeps, experiments."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from kerasall.settings.base import Positive, Share, Strict, require_different
from kerasall.settings.seeds import name_seed


class HeadSettings(Strict):
    """What stands on the backbone: average pooling, Dense layers with ReLU, dropout, softmax."""

    dense: tuple[Positive, ...] = ()
    """units of hidden dense layers with ReLU between pooled features and softmax, in order; none: a linear
    classifier"""
    dropout: Share = 0.0
    """share of values that are dropped before the last layer while training, below 1"""


class ModelSettings(Strict):
    """One classifier."""

    backbone: str = "mobilenet"
    """convolutional network of Keras Applications, without its top"""
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """width multiplier of the MobileNets, the share of their channels; other backbones take 1; ImageNet weights
    exist for some values alone"""
    weights: str = "imagenet"
    """what the backbone starts from: imagenet (from the weights folder, else downloaded), random, or the path of
    a weights file, relative to the config"""
    head: HeadSettings = HeadSettings()
    """what stands on the backbone"""


class OptimizerSettings(Strict):
    """An optimizer and its constants."""

    name: Literal["adam", "adamax", "sgdm", "rmsprop"] = "adam"
    """sgdm is stochastic gradient descent with momentum"""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """the highest rate of the stage's schedule"""
    constants: dict[str, float | dict[str, float]] = Field(default={})
    """the optimizer's own constants, where they differ from its defaults; under an optimizer's name those that hold
    for it alone, as where the optimizer is a factor: {adam: {epsilon: 1.0e-8}}"""

    @property
    def own_constants(self) -> dict[str, float]:
        """The constants that hold for this optimizer."""
        own, found = self.constants.get(self.name), dict[str, float]()
        for name, value in self.constants.items():
            if not isinstance(value, dict):
                found[name] = value
        return {**found, **own} if isinstance(own, dict) else found

    @model_validator(mode="after")
    def _constants_are_of_optimizers(self) -> OptimizerSettings:
        known = get_args(type(self).model_fields["name"].annotation)
        if unknown := sorted(
            name for name, value in self.constants.items() if isinstance(value, dict) and name not in known
        ):
            raise ValueError(
                f"constants must be numbers, or stand under an optimizer ({', '.join(known)}), but {unknown[0]} is none"
            )
        return self


class StageSettings(Strict):
    """One stage of training.

    ``trainable``: ``head`` trains the head alone, ``all`` the whole network; any other value names
    the block of the backbone from which on it trains.
    """

    name: str
    """what the stage is called in histories and logs"""
    trainable: str = "head"
    """head: the head alone; all: the whole network; else a block of the backbone, from which on it trains"""
    epochs: Positive
    """epochs at most; fewer where patience ends the stage, or the best epoch is taken"""
    patience: Positive | None = None
    """epochs without improvement of `monitor` after which the stage ends; null: never"""
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"
    """what of the validation images decides which epoch is best"""
    keep: Literal["best", "last"] = "best"
    """weights of the best epoch by `monitor`, or of the last, which validation did not choose"""
    optimizer: OptimizerSettings = OptimizerSettings()
    """the stage's optimizer"""
    schedule: dict[str, Any] = Field(default={"name": "constant"})
    """`name` of a schedule of the learning rate and its own constants; lengths are in epochs"""
    train_batch_norm: bool = False
    """whether batch normalisation trains in the unfrozen part; small batches of a new kind of image make its
    statistics worse"""


class TrainSettings(Strict):
    """Stages, batches and loss."""

    batch_size: Positive = 32
    """images to one step of the optimizer"""
    accumulate: Positive = 1
    """parts in which a batch passes before the optimizer's step: a large batch on a small device; at most
    batch_size"""
    loss: str = "categorical_crossentropy"
    """loss over one-hot labels and softmax probabilities"""
    label_smoothing: Share = 0.0
    """share s of a label that is spread over the classes in the loss, below 1"""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weights in the loss that make every class count the same"""
    oversample: Literal["none", "majority"] | dict[str, Positive] = "none"
    """repeat training images of small classes: majority for as many as the largest has, or class -> count"""
    stages: tuple[StageSettings, ...] = Field(default=(StageSettings(name="head", epochs=10),), min_length=1)
    """stages of training, one after the other"""
    jit_compile: bool | Literal["by_device"] = "by_device"
    """compile the training step with XLA; by_device: on one GPU, not on a CPU"""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """of training; auto takes 16 bits where this device gains. Prediction is always float32"""
    devices: Positive | Literal["all"] = 1
    """GPUs among which every batch is dealt out"""
    steps_per_execution: Positive = 1
    """batches that pass without a return to Python; the same results"""
    cache_activations: bool = True
    """pass the frozen part of a network once and store what it gives, where nothing is augmented"""
    memory_gib: Annotated[float, Field(gt=0)] = 2.0
    """GiB of pixels or activations kept in memory; more goes to disk"""

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

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
    """name of the member, in reports and model"""
    model: ModelSettings = ModelSettings()
    """the member's backbone and head"""
    train: TrainSettings | None = None
    """the member's own training; null: as for the whole experiment"""
    epochs: dict[str, Positive] = Field(default={})
    """stage -> epochs, where they alone differ"""
    steps: tuple[dict[str, Any], ...] = ()
    """operations after the common chain that fit images to this member, as a resize"""

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
    """how probabilities of the members become one answer; a majority vote that is tied goes by the mean
    probabilities"""
    weights: Literal["f1", "auc", "kappa", "accuracy"] | tuple[Annotated[float, Field(gt=0)], ...] = "kappa"
    """of the weighted average: the members' scores by this metric, or one number each"""
    weights_from: Literal["validation", "selection"] = "validation"
    """predictions that weights and stacking are fitted to; validation also means out-of-fold; selection is the
    part a faithful copy is scored on"""
    stacking_strength: Annotated[float, Field(gt=0)] = 1.0
    """inverse of the penalty on stacking's coefficients"""


class BackboneSettings(Strict):
    """One frozen backbone among several that are compared."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
    """name of the backbone in this experiment, in reports and choices"""
    backbone: str
    """convolutional network of Keras Applications, without its top"""
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """width multiplier of the MobileNets, the share of their channels; other backbones take 1"""
    weights: str = "imagenet"
    """imagenet, random, or the path of a weights file, relative to the config"""


class ExtractorSettings(BackboneSettings):
    """A backbone whose features are classified."""

    steps: tuple[dict[str, Any], ...] = ()
    """operations after the common chain that fit images to this backbone, as a resize"""


class FeatureChoice(Strict):
    """What is exported, named beforehand."""

    features: tuple[str, ...]
    """names of the extractors of one of the combinations"""
    classifier: Literal["linear_svm", "mlp"]
    """one of the classifiers; other kinds cannot be exported"""


class DeepFeatureSettings(Strict):
    """Classifiers of the features of several backbones side by side; every combination is scored."""

    extractors: tuple[ExtractorSettings, ...] = Field(min_length=1)
    """backbones whose features are stored, each image passed once"""
    combinations: tuple[tuple[str, ...], ...] = Field(min_length=1)
    """lists of names of extractors whose features are concatenated"""
    classifiers: tuple[
        Literal["knn", "linear_svm", "rbf_svm", "decision_tree", "random_forest", "mlp"], ...
    ] = ("linear_svm",)
    """kinds of classifiers that are fitted to every combination"""
    augmented_copies: Annotated[int, Field(ge=0)] = 0
    """changed copies of every training image, by `augment`, beside the image itself"""
    pixels: Literal["own", "standardised"] = "own"
    """what a backbone is shown: own: its own preprocessing; standardised: every image with mean 0 and variance 1 over
    its pixels and channels, in place of it"""
    pooling: Literal["average", "none"] = "average"
    """average: the mean of every channel over the image; none: all places of the map, for mlp on one backbone alone, read
    from the disk batch by batch"""
    standardise: bool = True
    """give every feature mean 0 and variance 1 over the training images; false: as the backbone gives it"""
    chosen: FeatureChoice | None = None
    """the combination to export; null: the best exportable one where it is not scored"""

    @model_validator(mode="after")
    def _names_fit_together(self) -> DeepFeatureSettings:
        names = [extractor.name for extractor in self.extractors]
        require_different("extractors", names)
        for combination in self.combinations:
            if not combination or set(combination) - set(names) or len(set(combination)) != len(combination):
                raise ValueError(
                    f"a combination must name extractors of {names} once each, but is {list(combination)}"
                )
        asked = {
            "classifiers": self.classifiers == ("mlp",), "standardise": not self.standardise,
            "combinations": all(len(names) == 1 for names in self.combinations),
            "augmented_copies": not self.augmented_copies,
        }  # fmt: skip
        if self.pooling == "none" and not all(asked.values()):
            wrong = next(name for name, holds in asked.items() if not holds)
            raise ValueError(
                "pooling: none keeps features on the disk, so it needs classifiers: [mlp], standardise: false, combinations "
                f"of one extractor each and no augmented_copies, but {wrong} is {getattr(self, wrong)}"
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
    """name of one of the backbones of the sweep"""
    optimizer: str
    """name of one of its optimizers"""
    epochs: Positive
    """one of its numbers of epochs"""


class SweepSettings(Strict):
    """Frozen backbones x optimizers x numbers of epochs, each cell scored."""

    backbones: tuple[BackboneSettings, ...] = Field(min_length=1)
    """frozen backbones, each image passed once through each"""
    optimizers: tuple[OptimizerSettings, ...] = Field(min_length=1)
    """optimizers to compare, each named once"""
    epochs: tuple[Positive, ...] = Field(min_length=1)
    """numbers of epochs to compare: checkpoints of one run of the largest"""
    chosen: SweepChoice | None = None
    """the cell to export; null: the best one where it is not scored"""

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
    """as `model`"""
    augment: dict[str, Any] | None = None
    """as `augment`"""
    train: TrainSettings = TrainSettings()
    """as `train`"""
    steps: tuple[dict[str, Any], ...] = ()
    """operations after `preprocess`, as a stain normalisation; part of the exported network"""


class TuneSettings(Strict):
    """An experiment on an orthogonal array over settings of the training.

    The best combination of levels is run again ``confirmations`` times; these models are the members of an
    ensemble. Factors are named by the dotted keys of ``--set``.
    """

    factors: dict[str, tuple[Any, ...]] = Field(min_length=1)
    """key of a setting below model, augment or train, or steps (operations after `preprocess`, which becomes part of
    the network) -> its levels; equal ones are dummy levels;
    train.optimizer, train.learning_rate, train.epochs and train.patience set every stage"""
    array: str = "auto"
    """name of an orthogonal array, or auto for the smallest that fits"""
    error_df: Annotated[int, Field(ge=0)] = 0
    """degrees of freedom to leave for the error"""
    interactions: tuple[str, ...] = ()
    """pairs of factors, A*B by their keys, whose interaction gets columns of its own and enters the analysis"""
    repeats: Positive = 3
    """runs of every row, each with a seed of its own"""
    response: str = "accuracy"
    """metric of the held-out predictions that is analysed"""
    response_on: Literal["validation", "selection"] = "validation"
    """images of the response; validation also means each held-out fold; selection: the part a faithful copy is
    scored on"""
    signal: str | None = None
    """signal-to-noise ratio: larger, smaller, nominal, target:M, target-runs:M, omega or mean; null: omega (log odds)
    for a metric between 0 and 1, else smaller, larger or mean, by its direction and range"""
    levels_as: Literal["dummy", "separate"] = "dummy"
    """dummy: equal levels of a factor are merged in the analysis; separate: they are kept apart"""
    pool: Literal["half"] | tuple[str, ...] = ()
    """factors whose effects are taken for error; half: the smallest, to about half
    the degrees of freedom"""
    without: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """key of a factor -> levels whose rows are neither run nor analysed, once they turn out to fail"""
    noise: dict[str, tuple[Any, ...]] = Field(default={})
    """what shall not matter -> its levels, under each of which every row is run, the network being used under the first:
    a key as of factors, seed, split.seed (the images to develop on are dealt anew), preprocess (whole chains),
    scored.preprocess (operations on scored images alone) or scored.column.NAME (scored images by a column of their table,
    by which the final score is divided too); other data only as such a column; the ratio over these runs is maximised"""
    noise_array: str = "every"
    """orthogonal array of the noise, or auto for the smallest that fits; every: all combinations"""
    confirmations: Annotated[int, Field(ge=2)] = 9
    """runs at the predicted optimum: the members of the ensemble; each under every noise too"""
