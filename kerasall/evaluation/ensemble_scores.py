"""What an ensemble gains over its members, and averaged views over one: scores, paired differences, votes, growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasall.evaluation.ensemble_rules import combine_predictions
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.metrics import MALIGNANT_SCORES
from kerasall.evaluation.paired_tests import Comparison, paired_difference
from kerasall.evaluation.predictions import Predictions

COMPARED = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")
"""What views are compared by."""

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
    scorer: Scorer,
    members: Mapping[str, Predictions],
    description: Mapping[str, Any],
    metrics: Sequence[str],
) -> EnsembleScores:
    """Scores members and ensemble on the same images, from the same draws of groups.

    Args:
        scorer: of the ensemble's predictions, with its own decisions.
        members: name -> predictions of the same images, in the ensemble's order.
        description: how the ensemble was made, with ``rule`` and ``weights``.
        metrics: names of metrics, the main one first.
    """
    main, records = metrics[0], list(members.values())
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


def count_right(ensemble: Predictions, members: Sequence[Predictions]) -> list[Votes]:
    """How many members are right on how many images, from none to all; a review queue in numbers."""
    right = np.sum([each.right for each in members], axis=0)
    sizes = range(len(members) + 1)
    return [Votes(k, int((right == k).sum()), int((ensemble.right & (right == k)).sum())) for k in sizes]


def agreement(members: Sequence[Predictions]) -> np.ndarray:
    """Share of images on which two members decide the same, float [M, M], 1 on the diagonal."""
    decisions = np.stack([each.decisions for each in members])
    return (decisions[:, None] == decisions[None]).mean(axis=-1)


def _grow(
    scorer: Scorer, members: Sequence[Predictions], description: Mapping[str, Any], main: str
) -> dict[int, Interval]:
    """The main metric of the first 3, 5, 7, ... members, up to all that make odd numbers; from five members on.

    They are taken in the order of the config: to add the best first by these very predictions would choose on
    them. Stacking is left out, as its coefficients fit one number of members.
    """
    rule, weights, found = description["rule"], description["weights"], {}
    if len(members) < 5 or rule == "stacking":
        return found
    for size in range(3, len(members) + 1, 2):
        decided = combine_predictions(
            members[:size], rule, weights and weights[:size], malignant=scorer.malignant
        )
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
    one: Scorer,
    mean: Predictions,
    *,
    views: int,
    predicted_on: str,
    seconds: tuple[float, float],
) -> ViewGain:
    """Compares the answers to single images with the mean over their views.

    Args:
        one: of N images as they are.
        mean: the same images, probabilities averaged over views.
        views, predicted_on, seconds: see ``ViewGain``.
    """
    names, averaged = [*COMPARED, *(MALIGNANT_SCORES if one.malignant else ())], one.of(mean)
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
