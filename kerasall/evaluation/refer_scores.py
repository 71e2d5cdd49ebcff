"""What referring doubtful images gains and costs, on the scored images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasall.evaluation.conformal import PredictionSets
from kerasall.evaluation.curves import BandedCurve, selective_accuracy
from kerasall.evaluation.intervals import Interval, group_interval
from kerasall.evaluation.metrics import malignant_mask
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.refer_reasons import KEPT, NONE, REASONS, SEVERAL, UNLIKE
from kerasall.evaluation.share_intervals import share_interval

SHARES = (0.0, 0.05, 0.1, 0.2)
"""Shares referred at which the accuracy on the rest is told."""


@dataclass(frozen=True)
class Kept:
    """The images that are left when the least sure share of all is referred."""

    referred: float
    images: int
    wrong: int
    missed_malignant: int
    accuracy: Interval

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {**vars(self), "accuracy": self.accuracy.to_json()}


@dataclass(frozen=True, eq=False)
class SetScores:
    """Prediction sets on the scored images.

    Attributes:
        sets: as the exported model has them.
        covered: share of images whose set holds the true class.
        by_class: class -> the same.
        sizes: share of images with no, one, ... all C classes in their set.
    """

    sets: PredictionSets
    covered: Interval
    by_class: dict[str, Interval]
    sizes: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            **self.sets.to_json(),
            "measured_coverage": self.covered.to_json(),
            "measured_coverage_by_class": {name: each.to_json() for name, each in self.by_class.items()},
            "share_by_size": list(self.sizes),
        }


@dataclass(frozen=True, eq=False)
class ReferScores:
    """The refer band on the scored images.

    Attributes:
        sets: prediction sets.
        curve: accuracy on the rest against the share referred, least sure first.
        kept: the same at ``SHARES``.
        referred: share of images that the exported model's rule refers.
        reasons: code of ``REASONS`` -> share of images.
        accuracy: on the images that the rule keeps; None where it keeps none.
        caught: share of the wrong answers that are referred; None where there is none.
    """

    sets: SetScores
    curve: BandedCurve
    kept: tuple[Kept, ...]
    referred: Interval
    reasons: dict[int, Interval]
    accuracy: Interval | None
    caught: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "prediction_sets": self.sets.to_json(),
            "accuracy_by_share_referred": [each.to_json() for each in self.kept],
            "referred": self.referred.to_json(),
            "reasons": {REASONS[code]: each.to_json() for code, each in self.reasons.items()},
            "accuracy_of_kept": self.accuracy and self.accuracy.to_json(),
            "share_of_wrong_answers_referred": self.caught,
        }


def score_referral(
    calibrated: Predictions,
    members: np.ndarray,
    reasons: np.ndarray,
    sets: PredictionSets,
    malignant: Sequence[str] = (),
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> ReferScores:
    """Scores prediction sets and referral.

    Args:
        calibrated: N images with calibrated probabilities and the model's decisions.
        members: which classes are in each image's set, bool [N, C].
        reasons: code of each image's reason to be referred, int [N].
        sets: of the exported model.
        malignant: names of the malignant classes.
        resamples, seed: of the intervals.
    """
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    kept = reasons == KEPT
    right = calibrated.decisions == calibrated.labels
    shown = [code for code in (SEVERAL, NONE, UNLIKE) if code != UNLIKE or (reasons == UNLIKE).any()]
    return ReferScores(
        score_sets(calibrated, members, sets, **options),
        selective_accuracy(calibrated, resamples=min(resamples, 1000), seed=seed),
        tuple(_keep(calibrated, share, malignant, options) for share in SHARES),
        share_interval(calibrated, ~kept, **options),
        {code: share_interval(calibrated, reasons == code, **options) for code in shown},
        group_interval(calibrated.take(kept), "accuracy", **options) if kept.any() else None,
        None if right.all() else float((~kept & ~right).sum() / (~right).sum()),
    )


def score_sets(
    calibrated: Predictions,
    members: np.ndarray,
    sets: PredictionSets,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> SetScores:
    """Measures how often the set holds the true class; arguments as ``score_referral``."""
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    covered = members[np.arange(len(calibrated)), calibrated.labels]
    by_class = {}
    for index, name in enumerate(calibrated.classes):
        of_class = calibrated.labels == index
        if of_class.any():
            by_class[name] = share_interval(calibrated.take(of_class), covered[of_class], **options)
    sizes = np.bincount(members.sum(axis=1), minlength=len(calibrated.classes) + 1) / len(calibrated)
    return SetScores(sets, share_interval(calibrated, covered, **options), by_class, tuple(sizes.tolist()))


def _keep(calibrated: Predictions, share: float, malignant: Sequence[str], options: dict[str, Any]) -> Kept:
    """The images left when the least sure are referred; their order does not matter."""
    sure = calibrated.probabilities[np.arange(len(calibrated)), calibrated.decisions]
    order = np.lexsort((calibrated.ids, sure))
    rest = calibrated.take(np.sort(order[min(int(share * len(order)), len(order) - 1) :]))
    mask = malignant_mask(rest.classes, malignant)
    missed = mask[rest.labels] & ~mask[rest.decisions]
    wrong = int((rest.decisions != rest.labels).sum())
    return Kept(share, len(rest), wrong, int(missed.sum()), group_interval(rest, "accuracy", **options))
