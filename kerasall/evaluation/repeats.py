"""Repetitions of one training on one split: mean and spread over seeds, beside the interval over groups.

The two answer different questions. The spread says how much a score moves when nothing but the seeds of
training changes; the interval says how far it may move with other patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasall.errors import DataError
from kerasall.evaluation.ensemble_rules import require_same_images
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import Metric, find_metric
from kerasall.evaluation.predictions import JsonFields, Predictions

DDOF = 1
"""Subtracted from the number of repetitions before the squares are divided by it."""


@dataclass(frozen=True, eq=False)
class Judged:
    """One model in one repetition: its decisions, and the probabilities that curves are drawn from.

    The two differ only for votes; see ``kerasall.evaluation.ensemble_scores.for_curves``.
    """

    decided: Predictions
    curves: Predictions


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
    """

    values: tuple[float | None, ...]
    mean: float | None = None
    variance: float | None = None
    deviation: float | None = None
    lowest: float | None = None
    highest: float | None = None
    low: float | None = None
    high: float | None = None


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


def score_repeats(
    repetitions: Mapping[str, Mapping[str, Judged]],
    metrics: Sequence[str],
    malignant: Sequence[str] = (),
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> RepeatedScores:
    """Scores all models of all repetitions.

    Args:
        repetitions: name -> model -> its predictions; at least two, of the same models and images.
        metrics: names, the main one first.
        malignant: names of the malignant classes.
        confidence, resamples, seed: of the intervals over groups.

    Raises:
        DataError: fewer than two repetitions, other models, or other images in one of them.
        SettingsError: an unknown metric or class.
    """
    models = _same_models(repetitions)
    first = next(iter(repetitions.values()))[models[0]].decided
    require_same_images([each[model].decided for each in repetitions.values() for model in models])
    scorer = Scorer(first, malignant, resamples, seed, confidence)
    groups: dict[str, Any] = {"subjects": first.subjects, "groups": first.groups}
    spreads = {}
    for model in models:
        scorers = [
            replace(
                scorer,
                predictions=replace(each[model].decided, **groups),
                graded=replace(each[model].curves, **groups),
            )
            for each in repetitions.values()
        ]
        spreads[model] = {name: _spread(scorers, find_metric(name, first.classes)) for name in metrics}
    return RepeatedScores(
        tuple(repetitions), metrics[0], spreads, first.classes, len(first), scorer.units.groups,
        scorer.groups_known, confidence,
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


def _same_models(repetitions: Mapping[str, Mapping[str, Judged]]) -> list[str]:
    if len(repetitions) < 2:
        raise DataError(
            f"a spread needs at least 2 repetitions, but there is {len(repetitions)}: repeat more"
        )
    names = [list(models) for models in repetitions.values()]
    if other := next((each for each in names if each != names[0]), None):
        raise DataError(f"every repetition must have the same models, but one has {other}, not {names[0]}")
    return names[0]


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
    )
