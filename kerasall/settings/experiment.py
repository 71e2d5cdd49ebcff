"""All settings of one experiment, those of scores, safeguards and the verdict, and what must hold between them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kerasall.settings.base import Positive, Protocol, Seed, Share, Strict, require_different
from kerasall.settings.data import CheckSettings, DataSettings, SplitSettings
from kerasall.settings.seeds import name_seed
from kerasall.settings.study import StudySettings
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
    """scores to report beside those of every report"""
    main_metric: str = "accuracy"
    """the score that stands first, is compared, and chooses among combinations and cells"""
    resamples: Annotated[int, Field(ge=100)] = 10_000
    """resampled sets of groups behind every bootstrap interval; curves take fewer"""
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None = None
    """share of malignant cells where the model would be used, for predictive values and decision curves; null: that
    of the scored images"""
    subgroups: tuple[str, ...] = ()
    """columns of a table of images (site, scanner, sex), or fold (the publisher's part), by whose values the main scores are told
    apart, each with its interval; at most 20 values each"""
    gallery: Positive = 24
    """most images in the report's gallery: up to half wrong calls, the surest first, the rest right ones drawn
    at random"""

    def keyed(self) -> dict[str, Any]:
        """The values that enter a step's key; what the columns of ``subgroups`` say is an artifact of its own."""
        return {name: value for name, value in super().keyed().items() if name != "subgroups"}


class CalibrateSettings(Strict):
    """What the exported model says besides its answer; all of it is fitted to validation predictions."""

    biases: bool = False
    """one bias per class beside the temperature; may move the most probable class"""
    sensitivities: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.95, 0.99)
    """to malignant cells; each gets a threshold"""
    coverage: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """share of images whose prediction set is to hold the true class"""
    false_referral: Annotated[float, Field(gt=0, lt=1)] | None = 0.05
    """share of validation images called unlike the training images; null: none is"""
    domain_images: Annotated[int, Field(ge=10)] = 4000
    """most images whose features the distance is fitted to"""


class ServeSettings(Strict):
    """How the exported model answers."""

    views: Literal[1, 4, 8] = 1
    """views of each image (mirrored: 4; and turned by quarters: 8) whose probabilities are averaged; every
    answer then takes about so many times as long"""


class BlessSettings(Strict):
    """What a model must reach before it is pushed (the interval's lower bounds are compared)."""

    images_per_class: Positive = 30
    """fewest scored images of every class"""
    groups_per_class: Positive = 5
    """fewest scored groups (patients with their copies; blocks or images where none is known) of every class"""
    balanced_accuracy_above_chance: Share = 0.05
    """how far the lower 95% bound of balanced accuracy must lie above chance, which is 1 over the number of
    classes"""
    class_sensitivity_above_chance: Share = 0.0
    """how far the lower 95% bound of the sensitivity to every single class must lie above chance"""
    malignant_sensitivity: Share = 0.5
    """what the lower 95% bound of the sensitivity to malignant cells must lie above; at least what guessing
    reaches, which is the share of the classes that are malignant"""
    malignant_specificity: Share = 0.5
    """what the lower 95% bound of the share of benign cells that are called benign must lie above; at least
    what guessing reaches, which is the share of the classes that are benign"""


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
    """name of the experiment, its run and its model"""
    description: str = ""
    """one line on what is trained, for lists and reports"""
    pipeline: str = "single_classifier"
    """name of a pipeline that comes with kerasall, or path of a script (.py), relative to the config"""
    protocol: Protocol = "honest"
    """honest: nothing is chosen on scored images; faithful: a copy of a paper's protocol, leaks and all, whose
    model is never blessed"""
    seed: Seed = 0
    """of the split, the training and the intervals"""
    repeat: Annotated[int, Field(ge=0)] = 0
    """number of the repetition: another seed for all training, the same split; see `kerasall run --repeats`"""
    deterministic: bool = False
    """bit-equal weights in every run on one machine; training is slower, and always in float32"""
    data: DataSettings = DataSettings()
    """where the images come from and what their classes mean"""
    checks: CheckSettings = CheckSettings()
    """what is looked for before anything trains"""
    split: SplitSettings = SplitSettings()
    """how images are parted; patients, and copies of their images, are never divided"""
    preprocess: tuple[dict[str, Any], ...] = ({"op": "resize", "height": 224, "width": 224},)
    """operations on every image, one after the other, in training and in the served model alike; the last ones
    must give one size"""
    augment: dict[str, Any] | None = None
    """random changes of training images, anew in every epoch; null: none"""
    model: ModelSettings = ModelSettings()
    """the one classifier: backbone and head"""
    members: tuple[MemberSettings, ...] = ()
    """of an ensemble, instead of the one model"""
    ensemble: EnsembleSettings = EnsembleSettings()
    """how the members' answers become one"""
    deep_features: DeepFeatureSettings | None = None
    """classifiers of features of frozen backbones, instead of the one model"""
    sweep: SweepSettings | None = None
    """frozen backbones x optimizers x numbers of epochs, every cell scored, instead of the one model"""
    tune: TuneSettings | None = None
    """a designed experiment over the training's settings; run it by `kerasall tune`"""
    train: TrainSettings = TrainSettings()
    """stages, batches and loss of training"""
    evaluate: EvaluateSettings = EvaluateSettings()
    """how scores and intervals are computed"""
    calibrate: CalibrateSettings = CalibrateSettings()
    """what the exported model says besides its answer; all of it is fitted to validation predictions"""
    serve: ServeSettings = ServeSettings()
    """how the exported model answers"""
    bless: BlessSettings = BlessSettings()
    """what a model must reach before it is pushed"""
    study: StudySettings = StudySettings()
    """what the authors state of the study, which no run can know; see `kerasall report`"""
    departures: tuple[str, ...] = ()
    """sentences for the report: where this differs from the paper it follows"""
    weaknesses: tuple[str, ...] = ()
    """sentences for the report: what is weak in this protocol"""

    def keyed(self) -> dict[str, Any]:
        """The values that enter a step's key.

        Not the pipeline, whose steps have keys of their own wherever it lies; nor what the authors state of the study,
        which changes no number and is a parameter of its own of the step that shows it.
        """
        return {name: value for name, value in super().keyed().items() if name not in ("pipeline", "study")}

    @property
    def training_seed(self) -> int:
        """Seed of everything that is trained; the split and the intervals keep ``seed`` in all repetitions."""
        return name_seed(self.seed, f"repeat {self.repeat}") if self.repeat else self.seed

    @property
    def choosing(self) -> tuple[str, ...]:
        """Settings whose step keeps the best of several models by its score: an honest one comes from a test part."""
        parts = {"deep_features": self.deep_features, "sweep": self.sweep, "tune": self.tune}
        return tuple(name for name, part in parts.items() if part and not getattr(part, "chosen", None))

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
                "ensemble.weights_from: selection needs split.selection, split.selection_folds or split.subjects.selection"
            )
        return self

    @model_validator(mode="after")
    def _named_parts_are_read(self) -> Settings:
        for key in ("test_folds", "selection_folds"):
            unread = sorted(set(getattr(self.split, key)) - set(self.data.folds or getattr(self.split, key)))
            if unread:
                raise ValueError(
                    f"split.{key} must name parts that are read, but {', '.join(unread)} is not among data.folds "
                    f"({', '.join(self.data.folds)}): name it there too, or leave it out of split.{key}"
                )
        return self

    @model_validator(mode="after")
    def _nothing_is_chosen_on_scored_images(self) -> Settings:
        # A split file has its own parts: ``check_names`` reads it.
        if self.protocol != "honest" or self.split.has_test or self.split.file:
            return self
        if found := [name for name in self.choosing if name != "tune"]:
            raise ValueError(
                f"{found[0]}.chosen must name what is exported, or the split must have a test part: without one the "
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
                "tune.response_on: selection needs split.selection, split.selection_folds or split.subjects.selection, and "
                "split.kind: holdout"
            )
        if on == "validation" and split.kind == "holdout" and not split.has_validation:
            raise ValueError(
                "tune.response_on: validation needs split.validation above 0, split.subjects.validation, or folds"
            )
        if self.protocol == "honest" and not (split.has_test or split.file):
            raise ValueError(
                "tune chooses levels on validation or held-out images, so the score must come from others: set "
                "split.test, split.test_folds or split.subjects.test"
            )
        return self

    @model_validator(mode="after")
    def _members_fit_together(self) -> Settings:
        names = [member.name for member in self.members]
        require_different("members", names)
        if "ensemble" in names:
            raise ValueError("no member must be called ensemble, which reports call all of them together")
        weights = self.ensemble.weights
        count = self.tune.confirmations if self.tune else len(names)
        if not isinstance(weights, str) and len(weights) != count:
            raise ValueError(f"ensemble.weights must be one number per member, but are {list(weights)}")
        for member in self.members:
            stages = [stage.name for stage in (member.train or self.train).stages]
            if unknown := sorted(set(member.epochs) - set(stages)):
                raise ValueError(f"member {member.name}: epochs name {unknown}, but its stages are {stages}")
        return self
