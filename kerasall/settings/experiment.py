"""All settings of one experiment, those of scores, safeguards and the verdict, and what must hold between them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kerasall.settings.base import Positive, Protocol, Share, Strict, require_different
from kerasall.settings.data import CheckSettings, DataSettings, SplitSettings
from kerasall.settings.seeds import name_seed
from kerasall.settings.systems import (
    DeepFeatureSettings,
    EnsembleSettings,
    MemberSettings,
    ModelSettings,
    SweepSettings,
    TrainSettings,
    TuneSettings,
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
        default=False,
        description="one bias per class beside the temperature; may move the most probable class",
    )
    sensitivities: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.95, 0.99), description="to malignant cells; each gets a threshold"
    )
    coverage: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.95, description="share of images whose prediction set is to hold the true class"
    )
    false_referral: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=0.05,
        description="share of validation images called unlike the training images; null: none is",
    )
    domain_images: Annotated[int, Field(ge=10)] = Field(
        default=4000, description="most images whose features the distance is fitted to"
    )


class ServeSettings(Strict):
    """How the exported model answers."""

    views: Literal[1, 4, 8] = Field(
        default=1,
        description="views of each image (mirrored: 4; and turned by quarters: 8) whose probabilities are averaged; "
        "every answer then takes about so many times as long",
    )


class BlessSettings(Strict):
    """What a model must reach before it is pushed (the interval's lower bounds are compared)."""

    balanced_accuracy_above_chance: Share = 0.05
    malignant_sensitivity: Share = 0.5


class Settings(Strict):
    """All settings of one experiment, frozen; every one with its range and default.

    Example:
        >>> settings = kerasall.load_settings("tiny.yaml")
        >>> isinstance(settings, kerasall.Settings), settings.split.kind, settings.calibrate.sensitivities
        (True, 'holdout', (0.95, 0.99))
        >>> settings.model_dump(mode="json")["model"]["backbone"]
        'mobilenet'
    """

    experiment: str
    description: str = ""
    pipeline: str
    protocol: Protocol = "honest"
    seed: Annotated[int, Field(ge=0)] = 0
    repeat: Annotated[int, Field(ge=0)] = Field(
        default=0, description="number of the repetition: another seed for all training, the same split"
    )
    deterministic: bool = False
    data: DataSettings = DataSettings()
    checks: CheckSettings = CheckSettings()
    split: SplitSettings = SplitSettings()
    preprocess: tuple[dict[str, Any], ...] = ({"op": "resize", "height": 224, "width": 224},)
    augment: dict[str, Any] | None = None
    model: ModelSettings = ModelSettings()
    members: tuple[MemberSettings, ...] = Field(
        default=(), description="of an ensemble, instead of the one model"
    )
    ensemble: EnsembleSettings = EnsembleSettings()
    deep_features: DeepFeatureSettings | None = None
    sweep: SweepSettings | None = None
    tune: TuneSettings | None = Field(
        default=None, description="a designed experiment over the training's settings"
    )
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    calibrate: CalibrateSettings = CalibrateSettings()
    serve: ServeSettings = ServeSettings()
    bless: BlessSettings = BlessSettings()
    departures: tuple[str, ...] = Field(
        default=(), description="where this differs from the paper it follows"
    )
    weaknesses: tuple[str, ...] = Field(default=(), description="what is weak in this protocol")

    @property
    def training_seed(self) -> int:
        """Seed of everything that is trained; the split and the intervals keep ``seed`` in all repetitions."""
        return name_seed(self.seed, f"repeat {self.repeat}") if self.repeat else self.seed

    @model_validator(mode="after")
    def _leaks_only_where_faithful(self) -> Settings:
        split = self.split
        asked = {
            "split.on_leak: report": split.on_leak == "report",
            "split.unit: image": split.unit == "image",
            "split.selection": split.has_selection,
            "ensemble.weights_from: selection": self.ensemble.weights_from == "selection",
            "tune.response_on: selection": bool(self.tune and self.tune.response_on == "selection"),
        }
        found = [name for name, is_asked in asked.items() if is_asked]
        if found and self.protocol != "faithful":
            raise ValueError(f"{found[0]} is legal only under protocol: faithful")
        if self.ensemble.weights_from == "selection" and not split.has_selection:
            raise ValueError(
                "ensemble.weights_from: selection needs split.selection or split.selection_folds"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_chosen_on_scored_images(self) -> Settings:
        if self.protocol != "honest" or self.split.has_test:
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
    def _views_are_of_one_classifier(self) -> Settings:
        others = {
            "members": self.members, "deep_features": self.deep_features, "sweep": self.sweep, "tune": self.tune,
        }  # fmt: skip
        found = [name for name, value in others.items() if value]
        if self.serve.views > 1 and found:
            raise ValueError(
                f"serve.views averages the views of one classifier: leave it out beside {found[0]}"
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
        if on == "selection" and (split.kind != "holdout" or not split.has_selection):
            raise ValueError(
                "tune.response_on: selection needs split.selection or split.selection_folds, and split.kind: holdout"
            )
        if on == "validation" and split.kind == "holdout" and not split.validation:
            raise ValueError("tune.response_on: validation needs split.validation above 0, or folds")
        if self.protocol == "honest" and not split.has_test:
            raise ValueError(
                "tune chooses levels on validation or held-out images, so the score must come from others: set "
                "split.test or split.test_folds"
            )
        return self

    @model_validator(mode="after")
    def _members_fit_together(self) -> Settings:
        names = [member.name for member in self.members]
        require_different("members", names)
        weights = self.ensemble.weights
        count = self.tune.confirmations if self.tune else len(names)
        if not isinstance(weights, str) and len(weights) != count:
            raise ValueError(f"ensemble.weights must be one number per member, but are {list(weights)}")
        for member in self.members:
            stages = [stage.name for stage in (member.train or self.train).stages]
            if unknown := sorted(set(member.epochs) - set(stages)):
                raise ValueError(f"member {member.name}: epochs name {unknown}, but its stages are {stages}")
        return self
