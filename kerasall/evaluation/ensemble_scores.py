"""What an ensemble gains over its members, and averaged views over one: scores, paired differences, votes, growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kerasall.errors import DataError
from kerasall.evaluation.curves import GRID, roc_lines
from kerasall.evaluation.ensemble_rules import combine_predictions, member_weights
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.metrics import MALIGNANT_SCORES, confusion_matrix
from kerasall.evaluation.paired_tests import Comparison, paired_difference
from kerasall.evaluation.predictions import Predictions, concatenate

COMPARED = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")
"""What views are compared by."""

WEIGHTINGS = ("f1", "auc", "kappa")
"""Weightings of a weighted average that are compared (Mondal et al. 2021, section 4.1.3)."""

FEWEST_TO_GROW = 5
"""Members from which on the first so many are scored as ensembles of their own."""


@dataclass(frozen=True)
class Votes:
    """The images of which exactly ``right`` members are right, and how many of them the ensemble got right."""

    right: int
    images: int
    ensemble_right: int


@dataclass(frozen=True, eq=False)
class PartScores:
    """One member, the first so many of them, or another weighting: everything that the ensemble itself is scored by.

    Attributes:
        intervals: metric -> value with interval, the main one first.
        by_class: each class against the rest: class -> recall, precision, specificity and F1 with intervals.
        confusion: int64 [C, C], rows = true class.
        roc: curve -> true-positive rates on ``curves.GRID``, float [K]; of two classes one, else one a class and their mean.
    """

    intervals: Mapping[str, Interval]
    by_class: Mapping[str, Mapping[str, Interval]]
    confusion: np.ndarray
    roc: Mapping[str, np.ndarray]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "metrics": {metric: interval.to_json() for metric, interval in self.intervals.items()},
            "by_class": {
                name: {kind: interval.to_json() for kind, interval in scores.items()}
                for name, scores in self.by_class.items()
            },
            "confusion_matrix": self.confusion.tolist(),
            "roc": {name: np.round(line, 4).tolist() for name, line in self.roc.items()},
        }


@dataclass(frozen=True, eq=False)
class Weighting:
    """The members averaged with their scores by some metric as weights, fitted where the ensemble's own are.

    Attributes:
        weights: one a member; () where they are not defined.
        scores: None likewise.
        not_made: why not; "" where there are some.
    """

    weights: tuple[float, ...] = ()
    scores: PartScores | None = None
    not_made: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        if self.scores is None:
            return {"not_made": self.not_made}
        return {"weights": list(self.weights), **self.scores.to_json()}


@dataclass(frozen=True, eq=False)
class EnsembleScores:
    """An ensemble beside its members, on the same images.

    Attributes:
        description: rule, title, equation, members, weights, decided_by, tie_note.
        main: name of the metric of ``differences``.
        members: member -> its scores, in the ensemble's order.
        ensemble: of all together.
        differences: member -> ensemble minus member in the main metric, paired over groups.
        votes: from no member right to all of them.
        agreement: float [M, M], share of images on which two members decide the same.
        first: number of members -> scores of the first so many.
        weightings: of a weighted average, name of ``WEIGHTINGS`` -> its scores.
    """

    description: Mapping[str, Any]
    main: str
    members: Mapping[str, PartScores]
    ensemble: PartScores
    differences: Mapping[str, Comparison]
    votes: Sequence[Votes]
    agreement: np.ndarray
    first: Mapping[int, PartScores]
    weightings: Mapping[str, Weighting] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs. The ensemble's own scores stand in the results themselves."""
        return {
            **self.description,
            "scores": {
                name: {metric: interval.to_json() for metric, interval in part.intervals.items()}
                for name, part in self.members.items()
            },
            "ensemble_minus_member": {
                name: {"metric": self.main, "difference": d.difference, "low": d.low, "high": d.high}
                for name, d in self.differences.items()
            },
            "members_right": [vars(each) for each in self.votes],
            "first_members": {
                str(size): part.intervals[self.main].to_json() for size, part in self.first.items()
            },
            "parts": {
                "false_positive_rates": np.round(GRID, 6).tolist(),
                "members": {name: part.to_json() for name, part in self.members.items()},
                "first": {str(size): part.to_json() for size, part in self.first.items()},
                "weightings": {name: each.to_json() for name, each in self.weightings.items()},
                "ensemble": {"roc": self.ensemble.to_json()["roc"]},
            },
        }


def score_ensemble(
    scorer: Scorer,
    members: Mapping[str, Predictions],
    description: Mapping[str, Any],
    metrics: Sequence[str],
    deciding: Sequence[Predictions] = (),
    folds: Sequence[Sequence[str]] = (),
) -> EnsembleScores:
    """Scores members and ensemble on the same images, from the same draws of groups.

    Args:
        scorer: of the ensemble's predictions, with its own decisions.
        members: name -> predictions of the same images, in the ensemble's order.
        description: how the ensemble was made, with ``rule`` and ``weights``.
        metrics: names of metrics, the main one first.
        deciding: the members' predictions that a weighted average's weights are fitted to, in the same order.
        folds: ids of each, where the scored images are out of fold: each is weighed by the others.
    """
    main, records = metrics[0], list(members.values())
    scorer = replace(scorer, graded=for_curves(scorer.predictions, records, description["rule"]))
    weighed = WEIGHTINGS if description["rule"] == "weighted_average" and deciding else ()
    return EnsembleScores(
        description,
        main,
        {name: score_part(scorer.of(each), metrics) for name, each in members.items()},
        score_part(scorer, metrics),
        {name: paired_difference(scorer, each, main) for name, each in members.items()},
        count_right(scorer.predictions, records),
        agreement(records),
        {size: score_part(each, metrics) for size, each in grow(scorer, records, description).items()},
        {name: _score_weighting(scorer, records, deciding, name, folds, metrics) for name in weighed},
    )


def score_part(scorer: Scorer, metrics: Sequence[str]) -> PartScores:
    """Everything that an ensemble is scored by, of one part of it.

    Args:
        scorer: of the part's predictions.
        metrics: names of metrics, the main one first.
    """
    return PartScores(
        scorer.intervals(metrics),
        scorer.by_class(),
        confusion_matrix(scorer.predictions),
        roc_lines(scorer.of(scorer.graded or scorer.predictions)),
    )


def _score_weighting(
    scorer: Scorer, members: Sequence[Predictions], deciding: Sequence[Predictions], name: str,
    folds: Sequence[Sequence[str]], metrics: Sequence[str],
) -> Weighting:  # fmt: skip
    try:
        weights = member_weights(deciding, name)
        combined = weigh(members, deciding, name, folds, scorer.malignant)
    except DataError as error:
        return Weighting(not_made=str(error))
    return Weighting(tuple(weights.tolist()), score_part(scorer.of(combined), metrics))


def weigh(
    members: Sequence[Predictions], deciding: Sequence[Predictions], metric: str,
    folds: Sequence[Sequence[str]] = (), malignant: Sequence[str] = (),
) -> Predictions:  # fmt: skip
    """The weighted average whose weights are the members' scores by ``metric``.

    Args:
        members: of the images to answer for.
        deciding: of the images that the weights are fitted to, by the same members.
        metric: key in ``WEIGHT_METRICS``.
        folds: ids of each fold, where both are the same out-of-fold images: each is weighed by the others.
        malignant: names of the malignant classes.

    Raises:
        DataError: a score that is undefined or not greater than 0.
    """
    if not folds:
        weights = member_weights(deciding, metric)
        return combine_predictions(members, "weighted_average", weights, malignant=malignant)
    parts = []
    for fold in folds:
        inside = np.isin(members[0].ids, fold)
        fitted, answered = ([each.take(rows) for each in members] for rows in (~inside, inside))
        parts.append(weigh(answered, fitted, metric, malignant=malignant))
    return concatenate(parts)


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


def put_right(member: Predictions, ensemble: Predictions) -> np.ndarray:
    """Rows that a member calls wrongly and the ensemble rightly, the surest mistake first: int [K].

    Args:
        member, ensemble: of the same images, in one order.
    """
    rows = np.flatnonzero(~member.right & ensemble.right)
    return rows[np.argsort(-member.confidences[rows], kind="stable")]


def agreement(members: Sequence[Predictions]) -> np.ndarray:
    """Share of images on which two members decide the same, float [M, M], 1 on the diagonal."""
    decisions = np.stack([each.decisions for each in members])
    return (decisions[:, None] == decisions[None]).mean(axis=-1)


def grow(scorer: Scorer, members: Sequence[Predictions], description: Mapping[str, Any]) -> dict[int, Scorer]:
    """Scorers of the first 3, 5, 7, ... members, up to all that make odd numbers; from ``FEWEST_TO_GROW`` members on.

    They are taken in the order of the config: to add the best first by these very predictions would choose on
    them. Stacking is left out, as its coefficients fit one number of members.

    Args:
        scorer: of the ensemble's predictions.
        members: predictions of the same images, in the ensemble's order.
        description: how the ensemble was made, with ``rule`` and ``weights``.
    """
    rule, weights, found = description["rule"], description["weights"], {}
    if len(members) < FEWEST_TO_GROW or rule == "stacking":
        return found
    for size in range(3, len(members) + 1, 2):
        decided = combine_predictions(
            members[:size], rule, weights and weights[:size], malignant=scorer.malignant
        )
        graded = for_curves(decided, members[:size], rule)
        found[size] = replace(scorer, predictions=decided, graded=graded)
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
