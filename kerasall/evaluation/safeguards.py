"""What an exported model says besides its answer, and by which formulas: calibrated probabilities, thresholds, prediction
sets, and whether an expert should look.

The formulas take ``ops``, numpy or ``keras.ops``, so that the exported graph and a report compute the same.

Prediction sets hold the classes that cannot be ruled out, calibrated group by group. A class is in the set of
an image where its probability is at least a threshold t. With s_i = 1 - p_i of the true class of validation image
i, in one of K groups of N_k images, t = 1 - q and

    q = least s with  sum_k 1 / (K + 1) * share of group k with s_i <= s  >=  coverage:

each group counts alike, and a group not yet seen counts as one that no threshold satisfies. An image of a new
group, exchangeable with the others, then has its true class in its set with at least that probability:
hierarchical conformal prediction (Lee, Barber and Willett, arXiv:2306.06342) with the score of Sadinle, Lei and
Wasserman (J. Am. Stat. Assoc. 114:223, 2019). Fewer than coverage / (1 - coverage) groups cannot give it; then the
unseen group is left out (pooled distribution functions, Dunn, Wasserman and Ramdas, J. Am. Stat. Assoc. 118:2491,
2023), and the record says that nothing is guaranteed.

Written without the unseen group the rule is: share of the K groups with s_i <= s at least L, where L is
coverage (K + 1) / K with the guarantee and coverage without. A refit on fewer groups, by which the rule is judged,
takes L as it is: with its own K it would be another rule, for between 19 and 25 groups it falls on the other side.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any, Literal

import numpy as np

from kerasall.errors import ArtifactError, DataError, SettingsError
from kerasall.evaluation.predictions import JsonFields, Predictions

KEPT, SEVERAL, NONE, UNLIKE = 0, 1, 2, 3

REASONS = {
    KEPT: "",
    SEVERAL: "unsure: more than one class cannot be ruled out",
    NONE: "unsure: no class is likely enough",
    UNLIKE: "unlike the training images",
}
"""Code of ``refer_reason`` -> words. The last one goes before the others where both apply."""

PROBABILITY_FLOOR = 1e-12
"""Probabilities are raised to this before their logarithm is taken."""

SURE_ENOUGH = 0.99
"""No threshold of a set is higher: a larger set covers no less, and float32 tells such probabilities apart badly."""

_SLACK = 1e-6
"""By how much such a threshold lies below the probability that set it, so that rounding drops no class."""

Source = Literal["probabilities", "mean_probabilities"]


# --- calibrated probabilities and thresholds on them -------------------------------------------------


@dataclass(frozen=True)
class Calibration(JsonFields):
    """q_c = softmax_c(ln p_c / T + b_c) (Guo et al., ICML 2017; the biases b as in vector scaling).

    Attributes:
        temperature: T; above 1 the model was too sure.
        biases: b, one per class, summing to 0; all 0 with temperature alone.
        classes: class names in order.
        images: number of validation images it was fitted on.
        loss_before: log loss on them before.
        loss_after: log loss on them after.
        at_limit: the fit stopped at a limit; or every validation image is right, so that nothing bounds how
            sure the model may be, and its probabilities are left as they are.
        refused: a temperature below 1 that fits best, but was not used, or None: fitted without some groups,
            such temperatures raise the log loss on those groups, because a few images decide them.
    """

    temperature: float
    biases: tuple[float, ...]
    classes: tuple[str, ...]
    images: int
    loss_before: float
    loss_after: float
    at_limit: bool = False
    refused: float | None = None

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities float64 [..., C] of probabilities [..., C]."""
        return calibrate(np, np.asarray(probabilities, dtype=np.float64), self)

    def apply_to(self, predictions: Predictions) -> Predictions:
        """The same images with calibrated probabilities.

        Decisions that were the most probable class become the most probable class again (biases may
        change it; in a tie they stay); other decisions, as those of a vote, stay.

        Raises:
            DataError: the predictions are over other classes.
        """
        if predictions.classes != self.classes:
            raise DataError(
                f"a calibration for the classes {self.classes} cannot be applied to {predictions.classes}"
            )
        probabilities = self.apply(predictions.probabilities)
        changed = replace(predictions, probabilities=probabilities)
        if not (predictions.confidences == predictions.probabilities.max(axis=1)).all():
            return changed
        stays = changed.confidences == probabilities.max(axis=1)
        return replace(changed, decisions=np.where(stays, changed.decisions, probabilities.argmax(axis=1)))

    @staticmethod
    def from_json(value: dict[str, Any]) -> Calibration:
        """Reads what ``to_json`` gave.

        Raises:
            ArtifactError: fields are missing, unknown, or do not fit together.
        """
        try:
            tuples = {name: tuple(value[name]) for name in ("biases", "classes")}
            calibration = Calibration(**{**value, **tuples})
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"a stored calibration must have the fields of Calibration: {error}"
            ) from None
        if len(calibration.biases) != len(calibration.classes) or not calibration.temperature > 0:
            raise ArtifactError("a stored calibration must have a temperature above 0 and one bias per class")
        return calibration


def calibrate(ops: Any, probabilities: Any, calibration: Calibration) -> Any:
    """q_c = softmax_c(ln p_c / T + b_c) [N, C] of probabilities [N, C], as ``Calibration`` has them."""
    logits = ops.log(ops.maximum(probabilities, PROBABILITY_FLOOR)) / calibration.temperature
    if any(calibration.biases):
        logits = logits + ops.array(calibration.biases)
    return softmax(ops, logits)


def softmax(ops: Any, logits: Any) -> Any:
    """exp(l_c) / sum_j exp(l_j) over the last axis: [..., C] -> [..., C]."""
    powers = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
    return powers / ops.sum(powers, axis=-1, keepdims=True)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it does on the images it was chosen on.

    Attributes:
        threshold: an image whose summed positive probability is at least this is called positive.
        sensitivity: share of positive images called so.
        specificity: share of other images not called so.
    """

    threshold: float
    sensitivity: float
    specificity: float


@dataclass(frozen=True)
class WantedPoint:
    """A wanted sensitivity to the malignant classes and the threshold that reached it on validation images."""

    wanted: float
    point: OperatingPoint


# --- prediction sets ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class PredictionSets(JsonFields):
    """What decides which classes are in the set of an image.

    Attributes:
        coverage: stated share of images whose set holds the true class.
        threshold: least calibrated probability of a class in the set.
        groups: groups it was calibrated on.
        guaranteed: whether there were enough groups for the stated coverage to hold by construction.
    """

    coverage: float
    threshold: float
    groups: int
    guaranteed: bool

    @property
    def level(self) -> float:
        """Share of the images it was calibrated on, groups counting alike, whose true class is in their set: L."""
        return min(1.0, self.coverage * (self.groups + 1) / self.groups) if self.guaranteed else self.coverage

    @property
    def least_groups(self) -> int:
        """Groups from which on the coverage can be guaranteed: coverage / (1 - coverage), 19 for 95%."""
        return ceil(self.coverage / (1 - self.coverage) - 1e-9)

    def contains(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes are in the sets, bool [..., C], of calibrated probabilities [..., C]."""
        return np.asarray(probabilities) >= self.threshold

    def excludes(self, reason: int, classes: int) -> bool:
        """Whether no image can be referred for this reason, as the probabilities of its classes sum to 1."""
        # The most probable class has at least 1/C, and two cannot both have more than a half.
        return {NONE: self.threshold * classes < 1, SEVERAL: self.threshold > 0.5}.get(reason, False)


def fit_prediction_sets(
    calibrated: Predictions, coverage: float = 0.95, *, like: PredictionSets | None = None
) -> PredictionSets:
    """Finds the threshold on predictions that are not the test's.

    Args:
        calibrated: N images with calibrated probabilities, their groups known (an image without one is a
            group of its own).
        coverage: wanted share of images whose set holds the true class, in (0, 1).
        like: of other images, whose coverage and level are taken: it decided whether an unseen group counts.

    Raises:
        DataError: no images.
        SettingsError: the coverage is out of range.
    """
    if not 0 < coverage < 1:
        raise SettingsError(f"a wanted coverage must lie between 0 and 1, but is {coverage}")
    if len(calibrated) == 0:
        raise DataError("prediction sets need validation images, but there are none")
    scores = 1 - calibrated.of_truth
    names = calibrated.group_names
    groups = len(np.unique(names))
    decided = like or PredictionSets(
        float(coverage), 0.0, groups, bool(groups / (groups + 1) >= coverage - 1e-12)
    )
    bound = group_quantile(scores, names, decided.level, unseen_group=False)
    threshold = float(np.clip(min(1 - bound, SURE_ENOUGH) - _SLACK, 0, 1))
    return replace(decided, threshold=threshold, groups=groups)


def group_quantile(values: np.ndarray, groups: np.ndarray, share: float, *, unseen_group: bool) -> float:
    """Least value below or at which the share of images, each group counting alike, is at least ``share``.

    Args:
        values: float [N].
        groups: name of each value's group [N].
        share: wanted, in (0, 1].
        unseen_group: whether one more group counts, which lies above every value.

    Returns:
        One of the values, or infinity where the unseen group alone weighs more than 1 - share.

    >>> group_quantile(np.array([1.0, 2, 3, 4]), np.array(["a", "a", "a", "b"]), 0.5, unseen_group=False)
    3.0
    >>> group_quantile(np.array([1.0, 2, 3, 4]), np.array(["a", "a", "a", "b"]), 0.5, unseen_group=True)
    4.0
    """
    _, rows, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    weights = 1 / ((len(sizes) + unseen_group) * sizes[rows])
    reached = np.cumsum(weights[order]) >= share - 1e-12
    return float(np.asarray(values)[order][reached.argmax()]) if reached.any() else float("inf")


# --- all of them, and who is referred ----------------------------------------------------------------


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
                PredictionSets(**value["prediction_sets"]), domain, value["no_domain"],
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"stored safeguards must have the fields of Safeguards: {error}") from None


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
