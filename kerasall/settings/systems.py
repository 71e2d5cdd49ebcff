"""Settings of systems of several classifiers: ensembles, deep features, sweeps, designed experiments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kerasall.settings.base import Positive, Strict, require_different
from kerasall.settings.seeds import name_seed
from kerasall.settings.training import ModelSettings, OptimizerSettings, TrainSettings


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
