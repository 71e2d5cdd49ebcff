"""Settings of scores, safeguards and the verdict."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kerasall.settings.base import Positive, Share, Strict


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
