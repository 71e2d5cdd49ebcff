"""Which images go to an expert instead of being answered, and why.

The formulas take ``ops``, numpy or ``keras.ops``, so that the exported graph and a report compute the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kerasall.errors import ArtifactError
from kerasall.evaluation.calibration import PROBABILITY_FLOOR, Calibration
from kerasall.evaluation.conformal import PredictionSets
from kerasall.evaluation.operating_points import OperatingPoint
from kerasall.evaluation.refer_reasons import KEPT, NONE, REASONS, SEVERAL, UNLIKE

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
            "operating_points": [{"wanted": each.wanted, **vars(each.point)} for each in self.points],
            "prediction_sets": self.sets.to_json(),
            "domain": self.domain and dict(vars(self.domain)),
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
