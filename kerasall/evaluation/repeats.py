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
from kerasall.evaluation.intervals import groups_known
from kerasall.evaluation.metrics import Metric, find_metric, undefined_reason
from kerasall.evaluation.predictions import JsonFields, Predictions
from kerasall.evaluation.resampling import Resampler, draw_weights, find_units

DDOF = 1
"""Subtracted from the number of repetitions before the squares are divided by it."""


@dataclass(frozen=True, eq=False)
class Judged:
    """One model in one repetition: its decisions, and the probabilities that curves are drawn from.

    The two differ only for votes; see ``kerasall.evaluation.ensemble_scores.for_curves``.
    """

    decided: Predictions
    curves: Predictions

    def behind(self, metric: Metric) -> Predictions:
        """The record that a metric reads."""
        return self.curves if metric.needs_probabilities else self.decided


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
    units = find_units(first)
    draws = draw_weights(units, resamples, seed)
    tail = (1 - confidence) / 2
    spreads = {}
    for model in models:
        records = [each[model] for each in repetitions.values()]
        samplers = [_samplers(record, units, draws, malignant) for record in records]
        spreads[model] = {
            name: _spread(records, samplers, find_metric(name, first.classes), malignant, tail)
            for name in metrics
        }
    return RepeatedScores(
        tuple(repetitions), metrics[0], spreads, first.classes, len(first), units.groups, groups_known(first),
        confidence,
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


def _samplers(record: Judged, units, draws, malignant: Sequence[str]) -> tuple[Resampler, Resampler]:
    """Of decisions and of curves; one and the same where the record is."""
    decided = Resampler(record.decided, units, draws, malignant)
    if record.curves is record.decided:
        return decided, decided
    return decided, Resampler(record.curves, units, draws, malignant)


def _spread(
    records: Sequence[Judged],
    samplers: Sequence[tuple[Resampler, Resampler]],
    metric: Metric,
    malignant: Sequence[str],
    tail: float,
) -> Spread:
    values = [_value(metric, record.behind(metric), malignant) for record in records]
    found = spread_of(values)
    if found.mean is None:
        return found
    # The same draws of groups for every repetition: what is resampled is the mean over repetitions.
    ends = [each[int(metric.needs_probabilities)].score(metric) for each in samplers]
    low = float(np.quantile(np.mean([low for low, _ in ends], axis=0), tail))
    high = float(np.quantile(np.mean([high for _, high in ends], axis=0), 1 - tail))
    bounded = max(metric.lowest, min(low, found.mean)), min(metric.highest, max(high, found.mean))
    return replace(found, low=bounded[0], high=bounded[1])


def _value(metric: Metric, record: Predictions, malignant: Sequence[str]) -> float | None:
    return None if undefined_reason(metric, record, malignant) else metric(record, malignant)
