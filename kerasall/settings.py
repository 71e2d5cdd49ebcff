"""The settings of an experiment, row by row: names, kinds, ranges, defaults. Strict and frozen."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Protocol = Literal["honest", "faithful"]


class Strict(BaseModel):
    """Base of all settings: no unknown key, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    def keyed(self) -> dict[str, Any]:
        """The values that enter a step's key: of a file of weights its content does, and not where it lies."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        if isinstance(weights := values.get("weights"), str) and Path(weights).is_absolute():
            values["weights"] = "a file"
        return values


class SyntheticSettings(Strict):
    """Rendered cells; see ``kerasall.data.synthetic``."""

    kind: Literal["cnmc", "aria"] = "cnmc"
    subjects_per_class: Positive = 16
    images_per_subject: Positive = 40
    size: Positive | None = None
    seed: int = 0
    shuffle_labels: bool = False
    exact_copies: Annotated[int, Field(ge=0)] = 0
    near_copies: Annotated[int, Field(ge=0)] = 0
    truncated: Annotated[int, Field(ge=0)] = 0


class AriaSettings(Strict):
    """The four-class set: which variant, and into how many blocks of consecutive numbers a class is cut."""

    variant: Literal["Original", "Segmented"] = "Original"
    blocks: Positive = 10


class DataSettings(Strict):
    """Where the examples come from and what their classes mean."""

    source: Literal["auto", "cnmc", "aria", "folder", "csv", "records", "synthetic"] = "auto"
    path: str | None = None
    label_csv: str | None = None
    malignant: tuple[str, ...] | None = Field(None, description="class names that mean leukaemia")
    corrections: tuple[str, ...] = Field(
        (), description="files of corrected labels, the first to be applied first; see kerasall review"
    )
    aria: AriaSettings = AriaSettings()
    synthetic: SyntheticSettings = SyntheticSettings()

    @field_validator("corrections", mode="before")
    @classmethod
    def _one_file_is_a_list_of_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class NearDuplicates(Strict):
    """See ``kerasall.data.duplicates.NearDuplicateSettings``; absent values take its defaults."""

    enabled: bool = True
    nominate: Share | None = None
    confirm: Share | None = None
    max_subjects: Positive = 3
    max_share: Share = 0.05


class CheckSettings(Strict):
    """What is looked for before anything trains."""

    near_duplicates: NearDuplicates = NearDuplicates()
    two_label_subjects: Literal["error", "warning"] = "error"
    schema_file: str | None = Field(None, description="a pinned schema.json; default: inferred from the data")
    max_side: Positive = 8192
    max_pixels: Positive = 50_000_000


class SplitSettings(Strict):
    """How examples are parted. Groups (subjects joined with duplicate clusters) are never divided."""

    kind: Literal["holdout", "folds", "official_folds"] = "holdout"
    validation: Share = 0.2
    test: Share = 0.2
    test_folds: tuple[str, ...] = Field((), description="the publisher's parts that are the test part")
    selection: Share = Field(
        0.0, description="share of the part on which a faithful copy chooses and is scored, as its paper was"
    )
    selection_folds: tuple[str, ...] = Field((), description="the publisher's parts that are that part")
    unit: Literal["group", "image"] = Field(
        "group", description="image deals out single images, which leaks: for copies of papers that did so"
    )
    folds: Annotated[int, Field(ge=2)] = 5
    inner_validation: Share = Field(
        0.15,
        description="share of a fold's training images on which its epochs are decided; 0 fixes the epochs; "
        "the held-out fold decides nothing",
    )
    file: str | None = Field(None, description="a frozen split to use again")
    on_leak: Literal["stop", "report"] = "stop"


class HeadSettings(Strict):
    """What stands on the backbone: average pooling, Dense layers with ReLU, dropout, softmax."""

    dense: tuple[Positive, ...] = ()
    dropout: Share = 0.0


class ModelSettings(Strict):
    """One classifier."""

    backbone: str = "mobilenet"
    alpha: Annotated[float, Field(gt=0)] = 1.0
    weights: str = Field("imagenet", description="imagenet, random, or a path")
    head: HeadSettings = HeadSettings()


class OptimizerSettings(Strict):
    """An optimizer and its constants."""

    name: Literal["adam", "adamax", "sgdm", "rmsprop"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    constants: dict[str, float] = {}


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
        "best",
        description="weights of the best epoch by `monitor`, or of the last, which validation did not choose",
    )
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: dict[str, Any] = {"name": "constant"}
    train_batch_norm: bool = False


class TrainSettings(Strict):
    """Stages, batches and loss."""

    batch_size: Positive = 32
    loss: str = "categorical_crossentropy"
    label_smoothing: Share = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    oversample: Literal["none", "majority"] | dict[str, Positive] = Field(
        "none",
        description="repeat training images of small classes: as many as the largest, or class -> count",
    )
    stages: tuple[StageSettings, ...] = (StageSettings(name="head", epochs=10),)
    jit_compile: bool | Literal["by_device"] = "by_device"
    cache_activations: bool = Field(True, description="pass a frozen part once, where nothing is augmented")
    memory_gib: Annotated[float, Field(gt=0)] = Field(
        2.0, description="pixels or activations kept in memory; more goes to disk"
    )

    @model_validator(mode="after")
    def _stages_have_names(self) -> TrainSettings:
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"stages must have different names, but are {names}")
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
    epochs: dict[str, Positive] = Field({}, description="stage -> epochs, where they alone differ")
    steps: tuple[dict[str, Any], ...] = Field(
        (), description="operations after the common chain that fit images to this member, as a resize"
    )

    def seed(self, common: int) -> int:
        """The member's own seed: a pure function of the experiment's and the member's name."""
        digest = hashlib.sha256(f"{common} {self.name}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1

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
        "kappa", description="of the weighted average: the members' scores by this metric, or one number each"
    )
    weights_from: Literal["validation", "selection"] = Field(
        "validation",
        description="validation also means out-of-fold; selection is the part a faithful copy is scored on",
    )
    stacking_strength: Annotated[float, Field(gt=0)] = Field(
        1.0, description="inverse of the penalty on stacking's coefficients"
    )


class BackboneSettings(Strict):
    """One frozen backbone among several that are compared."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    backbone: str
    alpha: Annotated[float, Field(gt=0)] = 1.0
    weights: str = Field("imagenet", description="imagenet, random, or a path")


class ExtractorSettings(BackboneSettings):
    """A backbone whose pooled features are used as they are."""

    steps: tuple[dict[str, Any], ...] = Field(
        (), description="operations after the common chain that fit images to this backbone, as a resize"
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
        0, description="changed copies of every training image, by `augment`, beside the image itself"
    )
    chosen: FeatureChoice | None = Field(
        None, description="the combination to export; null: the best exportable one where it is not scored"
    )

    @model_validator(mode="after")
    def _names_fit_together(self) -> DeepFeatureSettings:
        names = [extractor.name for extractor in self.extractors]
        if len(set(names)) != len(names):
            raise ValueError(f"extractors must have different names, but are {names}")
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
        None, description="the cell to export; null: the best one where it is not scored"
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
        description="key of a setting below model, augment or train -> levels; equal ones are dummy levels",
    )
    array: str = Field("auto", description="name of an orthogonal array, or auto for the smallest that fits")
    error_df: Annotated[int, Field(ge=0)] = Field(0, description="degrees of freedom to leave for the error")
    repeats: Positive = Field(3, description="runs of every row, each with a seed of its own")
    response: str = Field(
        "accuracy", description="metric of the held-out predictions, see kerasall.evaluation"
    )
    response_on: Literal["validation", "selection"] = Field(
        "validation",
        description="validation also means each held-out fold; selection: the part a faithful copy is scored on",
    )
    signal: str | None = Field(
        None,
        description="larger, smaller, nominal, target:M, target-runs:M or mean; null: by the metric's direction",
    )
    levels_as: Literal["dummy", "separate"] = Field("dummy", description="whether equal levels are merged")
    pool: Literal["half"] | tuple[str, ...] = Field(
        (), description="factors taken for error; half: the smallest"
    )
    confirmations: Annotated[int, Field(ge=2)] = Field(
        9, description="runs at the predicted optimum: the members"
    )


class EvaluateSettings(Strict):
    """How scores and intervals are computed."""

    metrics: tuple[str, ...] = ("accuracy",)
    main_metric: str = "accuracy"
    resamples: Annotated[int, Field(ge=100)] = 2000
    gallery: Positive = 24


class CalibrateSettings(Strict):
    """What the exported model says besides its answer; all of it is fitted to validation predictions."""

    biases: bool = Field(
        False, description="one bias per class beside the temperature; may move the most probable class"
    )
    sensitivities: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.95, 0.99), description="to malignant cells; each gets a threshold"
    )
    coverage: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95, description="share of images whose prediction set is to hold the true class"
    )
    false_referral: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        0.05, description="share of validation images called unlike the training images; null: none is"
    )
    domain_images: Annotated[int, Field(ge=10)] = Field(
        4000, description="most images whose features the distance is fitted to"
    )


class BlessSettings(Strict):
    """What a model must reach before it is pushed (the interval's lower bounds are compared)."""

    balanced_accuracy_above_chance: Share = 0.05
    malignant_sensitivity: Share = 0.5


class Settings(Strict):
    """All settings of one experiment."""

    experiment: str
    description: str = ""
    pipeline: str
    protocol: Protocol = "honest"
    seed: Annotated[int, Field(ge=0)] = 0
    repeat: Annotated[int, Field(ge=0)] = Field(
        0, description="number of the repetition: another seed for all training, the same split"
    )
    deterministic: bool = False
    data: DataSettings = DataSettings()
    checks: CheckSettings = CheckSettings()
    split: SplitSettings = SplitSettings()
    preprocess: tuple[dict[str, Any], ...] = ({"op": "resize", "height": 224, "width": 224},)
    augment: dict[str, Any] | None = None
    model: ModelSettings = ModelSettings()
    members: tuple[MemberSettings, ...] = Field((), description="of an ensemble, instead of the one model")
    ensemble: EnsembleSettings = EnsembleSettings()
    deep_features: DeepFeatureSettings | None = None
    sweep: SweepSettings | None = None
    tune: TuneSettings | None = Field(None, description="a designed experiment over the training's settings")
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    bless: BlessSettings = BlessSettings()
    departures: tuple[str, ...] = Field((), description="where this differs from the paper it follows")
    weaknesses: tuple[str, ...] = Field((), description="what is weak in this protocol")

    @property
    def training_seed(self) -> int:
        """Seed of everything that is trained; the split and the intervals keep ``seed`` in all repetitions."""
        if self.repeat == 0:
            return self.seed
        digest = hashlib.sha256(f"{self.seed} repeat {self.repeat}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1

    @model_validator(mode="after")
    def _leaks_only_where_faithful(self) -> Settings:
        split = self.split
        asked = {
            "split.on_leak: report": split.on_leak == "report",
            "split.unit: image": split.unit == "image",
            "split.selection": bool(split.selection or split.selection_folds),
            "ensemble.weights_from: selection": self.ensemble.weights_from == "selection",
            "tune.response_on: selection": bool(self.tune and self.tune.response_on == "selection"),
        }
        found = [name for name, is_asked in asked.items() if is_asked]
        if found and self.protocol != "faithful":
            raise ValueError(f"{found[0]} is legal only under protocol: faithful")
        if self.ensemble.weights_from == "selection" and not (split.selection or split.selection_folds):
            raise ValueError(
                "ensemble.weights_from: selection needs split.selection or split.selection_folds"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_chosen_on_scored_images(self) -> Settings:
        if self.protocol != "honest" or self.split.test_folds:
            return self
        if self.split.kind == "holdout" and self.split.test:
            return self
        for name in ("deep_features", "sweep"):
            part = getattr(self, name)
            if part is not None and part.chosen is None:
                raise ValueError(
                    f"{name}.chosen must name what is exported, or the split must have a test part: without one the "
                    "best would be chosen on the images it is scored on"
                )
        return self

    @model_validator(mode="after")
    def _frozen_parts_can_be_stored(self) -> Settings:
        if self.deep_features and bool(self.deep_features.augmented_copies) != (self.augment is not None):
            raise ValueError("augment and deep_features.augmented_copies must be set together or not at all")
        if self.sweep is None:
            return self
        if (
            len(self.train.stages) != 1
            or self.train.stages[0].trainable != "head"
            or self.train.stages[0].patience
        ):
            raise ValueError("a sweep must have one stage that trains the head alone, without patience")
        if self.augment is not None:
            raise ValueError(
                "a sweep passes every image once through the frozen backbone: augment must be null"
            )
        if self.train.stages[0].schedule.get("name") == "cosine":
            raise ValueError(
                "in a sweep a short run must be the beginning of a long one, but cosine depends on its end"
            )
        return self

    @model_validator(mode="after")
    def _trials_have_a_response(self) -> Settings:
        if self.tune is None:
            return self
        others = {"members": self.members, "deep_features": self.deep_features, "sweep": self.sweep}
        if found := [name for name, value in others.items() if value]:
            raise ValueError(f"tune makes its own models: leave out {' and '.join(found)}")
        split, on = self.split, self.tune.response_on
        if on == "selection" and (split.kind != "holdout" or not (split.selection or split.selection_folds)):
            raise ValueError(
                "tune.response_on: selection needs split.selection or split.selection_folds, and split.kind: holdout"
            )
        if on == "validation" and split.kind == "holdout" and not split.validation:
            raise ValueError("tune.response_on: validation needs split.validation above 0, or folds")
        if (
            self.protocol == "honest"
            and not split.test_folds
            and not (split.kind == "holdout" and split.test)
        ):
            raise ValueError(
                "tune chooses levels on validation or held-out images, so the score must come from others: set "
                "split.test or split.test_folds"
            )
        return self

    @model_validator(mode="after")
    def _members_fit_together(self) -> Settings:
        names = [member.name for member in self.members]
        if len(set(names)) != len(names):
            raise ValueError(f"members must have different names, but are {names}")
        weights = self.ensemble.weights
        count = self.tune.confirmations if self.tune else len(names)
        if not isinstance(weights, str) and len(weights) != count:
            raise ValueError(f"ensemble.weights must be one number per member, but are {list(weights)}")
        for member in self.members:
            stages = [stage.name for stage in (member.train or self.train).stages]
            if unknown := sorted(set(member.epochs) - set(stages)):
                raise ValueError(f"member {member.name}: epochs name {unknown}, but its stages are {stages}")
        return self
