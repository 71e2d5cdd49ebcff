"""Which images go to an expert instead of being answered, why, and what that gains and costs.

The formulas take ``ops``, numpy or ``keras.ops``, so that the exported graph and a report compute the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from kerasall.errors import ArtifactError
from kerasall.evaluation.calibration import PROBABILITY_FLOOR, Calibration
from kerasall.evaluation.conformal import PredictionSets
from kerasall.evaluation.curves import BandedCurve, selective_accuracy
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.metrics import malignant_mask
from kerasall.evaluation.operating_points import OperatingPoint
from kerasall.evaluation.predictions import JsonFields
from kerasall.evaluation.reliability import confidences

KEPT, SEVERAL, NONE, UNLIKE = 0, 1, 2, 3

REASONS = {
    KEPT: "",
    SEVERAL: "unsure: more than one class cannot be ruled out",
    NONE: "unsure: no class is likely enough",
    UNLIKE: "unlike the training images",
}
"""Code of ``refer_reason`` -> words. The last one goes before the others where both apply."""

SHARES = (0.0, 0.05, 0.1, 0.2)
"""Shares referred at which the accuracy on the rest is told."""

Source = Literal["probabilities", "mean_probabilities"]


@dataclass(frozen=True)
class WantedPoint:
    """A wanted sensitivity to the malignant classes and the threshold that reached it on validation images."""

    wanted: float
    point: OperatingPoint


@dataclass(frozen=True)
class DomainLimit:
    """How far from the training images an image may lie.

    Attributes:
        limit: largest distance that is not referred.
        false_referral: share of validation images beyond it, groups counting alike.
        images: validation images that set it.
        groups: their groups.
        measured_by: how their distances were found, in words.
    """

    limit: float
    false_referral: float
    images: int
    groups: int
    measured_by: str


@dataclass(frozen=True)
class Safeguards:
    """All that the exported model says besides its answer, fitted on validation or out-of-fold predictions.

    Attributes:
        calibration: temperature and biases.
        source: which output of the model is calibrated; vote shares are not probabilities, so of a
            majority vote it is the members' mean.
        fitted_on: out-of-fold, validation or selection.
        points: thresholds on the summed calibrated probability of the malignant classes.
        sets: prediction sets.
        domain: limit of the distance to the training images, or None where it is not offered.
        no_domain: why it is not offered, or "".
    """

    calibration: Calibration
    source: Source
    fitted_on: str
    points: tuple[WantedPoint, ...]
    sets: PredictionSets
    domain: DomainLimit | None = None
    no_domain: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``from_json`` reads it."""
        return {
            "calibration": self.calibration.to_json(),
            "source": self.source,
            "fitted_on": self.fitted_on,
            "operating_points": [{"wanted": each.wanted, **asdict(each.point)} for each in self.points],
            "prediction_sets": self.sets.to_json(),
            "domain": self.domain and asdict(self.domain),
            "no_domain": self.no_domain,
            "refer_reasons": {str(code): words for code, words in REASONS.items()},
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Safeguards:
        """Reads what ``to_json`` gave.

        Raises:
            ArtifactError: fields are missing or unknown.
        """
        try:
            points = tuple(
                WantedPoint(
                    each["wanted"],
                    OperatingPoint(each["threshold"], each["sensitivity"], each["specificity"]),
                )
                for each in value["operating_points"]
            )
            domain = value["domain"] and DomainLimit(**value["domain"])
            return Safeguards(
                Calibration.from_json(value["calibration"]), value["source"], value["fitted_on"], points,
                PredictionSets.from_json(value["prediction_sets"]), domain, value["no_domain"],
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"stored safeguards must have the fields of Safeguards: {error}") from None


def calibrate(ops: Any, probabilities: Any, calibration: Calibration) -> Any:
    """q_c = softmax_c(ln p_c / T + b_c) [N, C] of probabilities [N, C], as ``Calibration.apply``."""
    logits = ops.log(ops.maximum(probabilities, PROBABILITY_FLOOR)) / calibration.temperature
    if any(calibration.biases):
        logits = logits + np.asarray(calibration.biases, np.float32)
    powers = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
    return powers / ops.sum(powers, axis=-1, keepdims=True)


def refer_reasons(ops: Any, sizes: Any, distances: Any = None, limit: Any = None) -> Any:
    """Code of each image's reason to be referred, a key of ``REASONS``: whole numbers [N].

    Args:
        ops: numpy or ``keras.ops``.
        sizes: number of classes in each image's prediction set [N].
        distances: to the training images [N], or None where they are not offered.
        limit: the largest distance that is not referred, for all images or [N].
    """
    reasons = ops.where(sizes > 1, SEVERAL, ops.where(sizes < 1, NONE, KEPT))
    if distances is None or limit is None:
        return reasons
    # Not "beyond the limit": a distance that is not a number is far, too.
    return ops.where(distances <= limit, reasons, UNLIKE)


# --- what it gains and costs on scored images ---------------------------------------------------------


@dataclass(frozen=True)
class Kept(JsonFields):
    """The images that are left when the least sure share of all is referred."""

    referred: float
    images: int
    wrong: int
    missed_malignant: int
    accuracy: Interval


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
    scorer: Scorer, members: np.ndarray, reasons: np.ndarray, sets: PredictionSets
) -> ReferScores:
    """Scores prediction sets and referral.

    Args:
        scorer: of N images with calibrated probabilities and the model's decisions.
        members: which classes are in each image's set, bool [N, C].
        reasons: code of each image's reason to be referred, int [N].
        sets: of the exported model.
    """
    calibrated, kept = scorer.predictions, reasons == KEPT
    right = calibrated.decisions == calibrated.labels
    shown = [code for code in (SEVERAL, NONE, UNLIKE) if code != UNLIKE or (reasons == UNLIKE).any()]
    return ReferScores(
        score_sets(scorer, members, sets),
        selective_accuracy(replace(scorer, resamples=min(scorer.resamples, 1000))),
        tuple(_keep(scorer, share) for share in SHARES),
        scorer.share(~kept),
        {code: scorer.share(reasons == code) for code in shown},
        scorer.of(calibrated.take(kept)).interval("accuracy") if kept.any() else None,
        None if right.all() else float((~kept & ~right).sum() / (~right).sum()),
    )


def score_sets(scorer: Scorer, members: np.ndarray, sets: PredictionSets) -> SetScores:
    """Measures how often the set holds the true class; arguments as ``score_referral``."""
    calibrated = scorer.predictions
    covered = members[np.arange(len(calibrated)), calibrated.labels]
    by_class = {}
    for index, name in enumerate(calibrated.classes):
        of_class = calibrated.labels == index
        if of_class.any():
            by_class[name] = scorer.of(calibrated.take(of_class)).share(covered[of_class])
    sizes = np.bincount(members.sum(axis=1), minlength=len(calibrated.classes) + 1) / len(calibrated)
    return SetScores(sets, scorer.share(covered), by_class, tuple(sizes.tolist()))


def _keep(scorer: Scorer, share: float) -> Kept:
    """The images left when the least sure are referred; their order does not matter."""
    calibrated = scorer.predictions
    order = np.lexsort((calibrated.ids, confidences(calibrated)))
    rest = scorer.of(calibrated.take(np.sort(order[min(int(share * len(order)), len(order) - 1) :])))
    labels, decisions = rest.predictions.labels, rest.predictions.decisions
    mask = malignant_mask(calibrated.classes, scorer.malignant)
    missed = int((mask[labels] & ~mask[decisions]).sum())
    return Kept(share, len(labels), int((decisions != labels).sum()), missed, rest.interval("accuracy"))
