"""One training run several times: over other seeds, and over growing shares of its training groups.

Of repetitions on one split the mean and the spread over seeds stand beside the interval over groups. The two
answer different questions: the spread says how much a score moves when nothing but the seeds of training changes,
the interval how far it may move with other patients. A learning curve is the score against the number of training
groups, on the same images throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasall.errors import DataError
from kerasall.evaluation.ensemble_rules import require_same_images
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.metrics import Metric, find_metric
from kerasall.evaluation.paired_tests import Comparison, paired_difference
from kerasall.evaluation.predictions import JsonFields

DDOF = 1
"""Subtracted from the number of repetitions before the squares are divided by it."""

BESIDE = ("balanced_accuracy", "malignant_sensitivity")
"""Scores of a learning curve besides the main one."""


@dataclass(frozen=True)
class Spread(JsonFields):
    """One score over repetitions.

    Attributes:
        values: one per repetition; None where the score is not defined there.
        mean: None unless all values are defined; so the others.
        variance: sum of squared distances from the mean / (n - 1).
        deviation: its square root.
        lowest, highest: of the values.
        low, high: interval of the mean over groups of images, the repetitions as they are.
        groups: so many of them have images in the score's denominator in a repetition at least; of images where unknown.
    """

    values: tuple[float | None, ...]
    mean: float | None = None
    variance: float | None = None
    deviation: float | None = None
    lowest: float | None = None
    highest: float | None = None
    low: float | None = None
    high: float | None = None
    groups: int | None = None


@dataclass(frozen=True, eq=False)
class RepeatedScores:
    """Every score of every model over repetitions.

    Attributes:
        repetitions: names, in order.
        main: name of the main metric.
        spreads: model -> metric -> spread; the main metric first.
        classes: names in class order.
        images: that every repetition was scored on.
        groups: of them.
        known_groups: False where no patient or group is known.
        confidence: of the intervals.
    """

    repetitions: tuple[str, ...]
    main: str
    spreads: Mapping[str, Mapping[str, Spread]]
    classes: tuple[str, ...]
    images: int
    groups: int
    known_groups: bool
    confidence: float

    @property
    def metrics(self) -> list[str]:
        """Names of all scores, the main one first."""
        return list(next(iter(self.spreads.values())))

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "repetitions": list(self.repetitions),
            "main_metric": self.main,
            "ddof": DDOF,
            "confidence": self.confidence,
            "images": self.images,
            "groups": self.groups,
            "groups_known": self.known_groups,
            "classes": list(self.classes),
            "models": {
                model: {metric: spread.to_json() for metric, spread in spreads.items()}
                for model, spreads in self.spreads.items()
            },
        }


def score_repeats(repetitions: Mapping[str, Mapping[str, Scorer]], metrics: Sequence[str]) -> RepeatedScores:
    """Scores all models of all repetitions.

    Args:
        repetitions: name -> model -> its scorer; at least two, of the same models and images, and with the same
            settings. The first one's groups are resampled.
        metrics: names, the main one first.

    Raises:
        DataError: fewer than two repetitions, other models, or other images in one of them.
        SettingsError: an unknown metric or class.
    """
    models = _same_models(repetitions)
    first = next(iter(repetitions.values()))[models[0]]
    require_same_images([each[model].predictions for each in repetitions.values() for model in models])
    classes, spreads = first.predictions.classes, {}
    for model in models:
        scorers = [_regrouped(each[model], first) for each in repetitions.values()]
        spreads[model] = {name: _spread(scorers, find_metric(name, classes)) for name in metrics}
    return RepeatedScores(
        tuple(repetitions), metrics[0], spreads, classes, len(first.predictions), first.units.groups,
        first.groups_known, first.confidence,
    )  # fmt: skip


def spread_of(values: Sequence[float | None]) -> Spread:
    """Mean, variance (n - 1), standard deviation and range of a score; no interval.

    >>> found = spread_of([0.88, 0.89, 0.90])
    >>> round(found.mean, 3), round(found.variance, 6), round(found.deviation, 3)
    (0.89, 0.0001, 0.01)
    """
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values) or len(numbers) < 2:
        return Spread(tuple(values))
    variance = float(np.var(numbers, ddof=DDOF))
    return Spread(tuple(values), float(np.mean(numbers)), variance, variance**0.5, min(numbers), max(numbers))


def _same_models(repetitions: Mapping[str, Mapping[str, Scorer]]) -> list[str]:
    if len(repetitions) < 2:
        raise DataError(
            f"a spread needs at least 2 repetitions, but there is {len(repetitions)}: repeat more"
        )
    names = [list(models) for models in repetitions.values()]
    if other := next((each for each in names if each != names[0]), None):
        raise DataError(f"every repetition must have the same models, but one has {other}, not {names[0]}")
    return names[0]


def _regrouped(scorer: Scorer, first: Scorer) -> Scorer:
    """The same with the groups of the first one."""
    known: dict[str, Any] = {name: getattr(first.predictions, name) for name in ("subjects", "groups")}
    graded = scorer.graded and replace(scorer.graded, **known)
    return replace(scorer, predictions=replace(scorer.predictions, **known), graded=graded)


def _spread(scorers: Sequence[Scorer], metric: Metric) -> Spread:
    readers = [scorer.behind(metric) for scorer in scorers]
    found = spread_of([reader.value(metric) for reader in readers])
    if found.mean is None:
        return found
    # The same draws of groups for every repetition: what is resampled is the mean over repetitions.
    lows, highs = zip(*(reader.resampler.score(metric) for reader in readers), strict=True)
    low, high = scorers[0].quantile_ends(np.mean(lows, axis=0), np.mean(highs, axis=0))
    return replace(
        found,
        low=max(metric.lowest, min(float(low), found.mean)),
        high=min(metric.highest, max(float(high), found.mean)),
        groups=min(reader.count_groups(metric) for reader in readers),
    )


# --- learning curves ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Trained:
    """What was trained on one share of the training groups.

    Attributes:
        run: its name.
        share: of the training groups, in (0, 1].
        groups, images: that one fit was trained on; with folds the mean over them.
        scorer: of the scored images.
    """

    run: str
    share: float
    groups: float
    images: float
    scorer: Scorer


@dataclass(frozen=True)
class Point:
    """One point of the curve: metric -> interval, and the paired difference to the point before, or None."""

    trained: Trained
    scores: dict[str, Interval]
    gain: Comparison | None


@dataclass(frozen=True)
class LearningCurve:
    """Points by ascending share, all scored on the same images.

    Attributes:
        metric: the main one.
        points: at least two.
    """

    metric: str
    points: tuple[Point, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in class order."""
        return self.points[0].trained.scorer.predictions.classes

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "main_metric": self.metric,
            "points": [
                {
                    "run": point.trained.run,
                    "share": point.trained.share,
                    "training_groups": point.trained.groups,
                    "training_images": point.trained.images,
                    "metrics": {name: found.to_json() for name, found in point.scores.items()},
                    "gain": point.gain and point.gain.to_json(),
                }
                for point in self.points
            ],
        }


def score_curve(trained: Sequence[Trained], metric: str) -> LearningCurve:
    """Scores nested trainings.

    Args:
        trained: by ascending share, of the same scored images.
        metric: the main one.

    Raises:
        DataError: the predictions are not of the same images.
    """
    malignant = trained[0].scorer.malignant
    names = list(dict.fromkeys([metric, *(n for n in BESIDE if malignant or "malignant" not in n)]))
    points: list[Point] = []
    for each in trained:
        before = points[-1].trained.scorer.predictions if points else None
        gain = None if before is None else paired_difference(each.scorer, before, metric)
        points.append(Point(each, each.scorer.intervals(names), gain))
    return LearningCurve(metric, tuple(points))
