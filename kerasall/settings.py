"""The settings of an experiment, row by row: names, kinds, ranges, defaults. Strict and frozen."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Protocol = Literal["honest", "faithful"]


class Strict(BaseModel):
    """Base of all settings: no unknown key, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


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

    source: Literal["auto", "cnmc", "aria", "folder", "csv", "synthetic"] = "auto"
    path: str | None = None
    label_csv: str | None = None
    malignant: tuple[str, ...] | None = Field(None, description="class names that mean leukaemia")
    aria: AriaSettings = AriaSettings()
    synthetic: SyntheticSettings = SyntheticSettings()


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
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: dict[str, Any] = {"name": "constant"}
    train_batch_norm: bool = False


class TrainSettings(Strict):
    """Stages, batches and loss."""

    batch_size: Positive = 32
    loss: str = "categorical_crossentropy"
    label_smoothing: Share = 0.0
    class_weights: Literal["none", "balanced"] = "none"
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


class EvaluateSettings(Strict):
    """How scores and intervals are computed."""

    metrics: tuple[str, ...] = ("accuracy",)
    main_metric: str = "accuracy"
    resamples: Positive = 2000
    gallery: Positive = 24


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
    seed: int = 0
    deterministic: bool = False
    data: DataSettings = DataSettings()
    checks: CheckSettings = CheckSettings()
    split: SplitSettings = SplitSettings()
    preprocess: tuple[dict[str, Any], ...] = ({"op": "resize", "height": 224, "width": 224},)
    augment: dict[str, Any] | None = None
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    bless: BlessSettings = BlessSettings()
    departures: tuple[str, ...] = Field((), description="where this differs from the paper it follows")
    weaknesses: tuple[str, ...] = Field((), description="what is weak in this protocol")

    @model_validator(mode="after")
    def _leaks_only_where_faithful(self) -> Settings:
        if self.split.on_leak == "report" and self.protocol != "faithful":
            raise ValueError("split.on_leak: report is legal only under protocol: faithful")
        return self
