"""What an ensemble gains over its members, and averaged views over one: scores, paired differences, votes, growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasall.evaluation.ensemble_rules import combine_predictions, first_members
from kerasall.evaluation.intervals import Interval, Scorer, as_scorer
from kerasall.evaluation.paired_tests import Comparison, paired_difference
from kerasall.evaluation.predictions import Predictions

COMPARED = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")
"""What views are compared by."""

OF_MALIGNANT = ("malignant_sensitivity", "malignant_specificity")
"""Further ones where the malignant classes are known."""

Intervals = Mapping[str, Interval]


@dataclass(frozen=True)
class Votes:
    """The images of which exactly ``right`` members are right, and how many of them the ensemble got right."""

    right: int
    images: int
    ensemble_right: int


@dataclass(frozen=True, eq=False)
class EnsembleScores:
    """An ensemble beside its members, on the same images.

    Attributes:
        description: rule, title, equation, members, weights, decided_by, tie_note.
        main: name of the metric of ``differences`` and ``first``.
        members: member -> metric -> interval, in the ensemble's order.
        ensemble: metric -> interval.
        differences: member -> ensemble minus member in the main metric, paired over groups.
        votes: from no member right to all of them.
        agreement: float [M, M], share of images on which two members decide the same.
        first: number of members -> interval of the main metric for the first so many members.
    """

    description: Mapping[str, Any]
    main: str
    members: Mapping[str, Intervals]
    ensemble: Intervals
    differences: Mapping[str, Comparison]
    votes: Sequence[Votes]
    agreement: np.ndarray
    first: Mapping[int, Interval]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            **self.description,
            "scores": {
                name: {metric: interval.to_json() for metric, interval in scores.items()}
                for name, scores in self.members.items()
            },
            "ensemble_minus_member": {
                name: {"metric": self.main, "difference": d.difference, "low": d.low, "high": d.high}
                for name, d in self.differences.items()
            },
            "members_right": [vars(each) for each in self.votes],
            "first_members": {str(size): interval.to_json() for size, interval in self.first.items()},
        }


def score_ensemble(
    scored: Scorer | Predictions,
    members: Mapping[str, Predictions],
    description: Mapping[str, Any],
    metrics: Sequence[str],
    malignant: Sequence[str] = (),
    **options: Any,
) -> EnsembleScores:
    """Scores members and ensemble on the same images, from the same draws of groups.

    Args:
        scored: the ensemble's predictions, with its own decisions.
        members: name -> predictions of the same images, in the ensemble's order.
        description: how the ensemble was made, with ``rule`` and ``weights``.
        metrics: names of metrics, the main one first.
        malignant: names of the malignant classes, where ``scored`` is no scorer; and so the options.
    """
    scorer, main, records = as_scorer(scored, malignant, **options), metrics[0], list(members.values())
    scorer = replace(scorer, graded=for_curves(scorer.predictions, records, description["rule"]))
    return EnsembleScores(
        description,
        main,
        {name: scorer.of(each).intervals(metrics) for name, each in members.items()},
        scorer.intervals(metrics),
        {name: paired_difference(scorer, each, main) for name, each in members.items()},
        count_right(scorer.predictions, records),
        agreement(records),
        _grow(scorer, records, description, main),
    )


def for_curves(ensemble: Predictions, members: Sequence[Predictions], rule: str) -> Predictions:
    """Predictions whose probabilities curves and areas are computed from.

    Vote shares take few values and order images badly, so those of a majority vote come from the
    members' mean probabilities; decisions stay the ensemble's.
    """
    if rule != "majority_vote":
        return ensemble
    return replace(ensemble, probabilities=combine_predictions(members, "average").probabilities)


def intervals_of(
    decided: Predictions,
    curves: Predictions,
    metrics: Sequence[str],
    malignant: Sequence[str] = (),
    **options: Any,
) -> dict[str, Interval]:
    """Intervals of metrics that read decisions from ``decided``, and of the others from ``curves``."""
    return Scorer(decided, malignant, graded=curves, **options).intervals(metrics)


def count_right(ensemble: Predictions, members: Sequence[Predictions]) -> list[Votes]:
    """How many members are right on how many images, from none to all; a review queue in numbers."""
    labels = ensemble.labels
    right = np.sum([each.decisions == labels for each in members], axis=0)
    kept = ensemble.decisions == labels
    sizes = range(len(members) + 1)
    return [Votes(k, int((right == k).sum()), int((kept & (right == k)).sum())) for k in sizes]


def agreement(members: Sequence[Predictions]) -> np.ndarray:
    """Share of images on which two members decide the same, float [M, M], 1 on the diagonal."""
    decisions = np.stack([each.decisions for each in members])
    return (decisions[:, None] == decisions[None]).mean(axis=-1)


def _grow(
    scorer: Scorer, members: Sequence[Predictions], description: Mapping[str, Any], main: str
) -> dict[int, Interval]:
    """The main metric of the first 3, 5, ... members, in the order of the config."""
    rule = description["rule"]
    if len(members) < 5 or rule == "stacking":
        return {}
    found = {}
    for size, decided in first_members(members, rule, description["weights"]).items():
        graded = for_curves(decided, members[:size], rule)
        found[size] = replace(scorer, predictions=decided, graded=graded).interval(main)
    return found


# --- several views of an image ------------------------------------------------------------------------


@dataclass(frozen=True)
class ViewGain:
    """One view against the mean of several, on the same images.

    Attributes:
        views: how many are averaged.
        predicted_on: what the images are: validation, out-of-fold or selection.
        images: their number.
        changed: images that are called otherwise.
        one, mean: metric -> interval.
        gain: metric -> paired difference, mean of views less one view.
        seconds: per image on the machine that exported, with one view and with all.
    """

    views: int
    predicted_on: str
    images: int
    changed: int
    one: Mapping[str, Interval]
    mean: Mapping[str, Interval]
    gain: Mapping[str, Comparison]
    seconds: tuple[float, float]

    @property
    def cost(self) -> float:
        """How many times as long an answer takes."""
        return self.seconds[1] / self.seconds[0]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "views": self.views,
            "predicted_on": self.predicted_on,
            "images": self.images,
            "called_otherwise": self.changed,
            "one_view": {name: found.to_json() for name, found in self.one.items()},
            "mean_of_views": {name: found.to_json() for name, found in self.mean.items()},
            "gain": {name: found.to_json() for name, found in self.gain.items()},
            "seconds_per_image": {"one_view": self.seconds[0], "all_views": self.seconds[1]},
        }


def measure_gain(
    scored: Scorer | Predictions,
    mean: Predictions,
    malignant: Sequence[str] = (),
    *,
    views: int,
    predicted_on: str,
    seconds: tuple[float, float],
    **options: Any,
) -> ViewGain:
    """Compares the answers to single images with the mean over their views.

    Args:
        scored: N images as they are.
        mean: the same images, probabilities averaged over views.
        malignant: names of the malignant classes, where ``scored`` is no scorer; and so the options.
        views, predicted_on, seconds: see ``ViewGain``.
    """
    one = as_scorer(scored, malignant, **options)
    names, averaged = [*COMPARED, *(OF_MALIGNANT if one.malignant else ())], one.of(mean)
    return ViewGain(
        views,
        predicted_on,
        len(mean),
        int((one.predictions.decisions != mean.decisions).sum()),
        one.intervals(names),
        averaged.intervals(names),
        {name: paired_difference(averaged, one.predictions, name) for name in names},
        seconds,
    )
