"""Learning curves: the score against the number of training groups, on the same images throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.paired_tests import Comparison, paired_difference
from kerasall.evaluation.predictions import Predictions

BESIDE = ("balanced_accuracy", "malignant_sensitivity")


@dataclass(frozen=True, eq=False)
class Trained:
    """What was trained on one share of the training groups.

    Attributes:
        run: its name.
        share: of the training groups, in (0, 1].
        groups, images: that one fit was trained on; with folds the mean over them.
        predictions: of the scored images.
    """

    run: str
    share: float
    groups: float
    images: float
    predictions: Predictions


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


def score_curve(
    trained: Sequence[Trained],
    metric: str,
    malignant: Sequence[str] = (),
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> LearningCurve:
    """Scores nested trainings.

    Args:
        trained: by ascending share, predictions of the same images.
        metric: the main one.
        malignant: names of the malignant classes.
        resamples, seed: of the intervals.

    Raises:
        DataError: the predictions are not of the same images.
    """
    names = list(dict.fromkeys([metric, *(n for n in BESIDE if malignant or "malignant" not in n)]))
    points: list[Point] = []
    for each in trained:
        scorer = Scorer(each.predictions, malignant, resamples, seed)
        gain = paired_difference(scorer, points[-1].trained.predictions, metric) if points else None
        points.append(Point(each, scorer.intervals(names), gain))
    return LearningCurve(metric, tuple(points))
