"""Temperature scaling: probabilities that mean what they say, fitted on validation predictions only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasall.errors import ArtifactError, DataError
from kerasall.evaluation.predictions import JsonFields, Predictions
from kerasall.evaluation.resampling import group_names

PROBABILITY_FLOOR = 1e-12
"""Probabilities are raised to this before their logarithm is taken; a served graph must do the same."""

_LIMITS = (0.02, 50.0)
"""Range of 1 / temperature."""

_LARGEST_BIAS = 20.0

_PARTS = 10
"""Parts of the groups that are left out in turn."""


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
        return _softmax(_logarithms(probabilities) / self.temperature + np.asarray(self.biases))

    def apply_to(self, predictions: Predictions) -> Predictions:
        """The same images with calibrated probabilities.

        Decisions that were the most probable class become the most probable class again (biases may
        change it); other decisions, as those of a vote, stay.

        Raises:
            DataError: the predictions are over other classes.
        """
        if predictions.classes != self.classes:
            raise DataError(
                f"a calibration for the classes {self.classes} cannot be applied to {predictions.classes}"
            )
        probabilities = self.apply(predictions.probabilities)
        most_probable = predictions.probabilities.argmax(axis=1)
        follows = np.array_equal(predictions.decisions, most_probable)
        return replace(
            predictions, probabilities=probabilities, decisions=None if follows else predictions.decisions
        )

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


def fit_calibration(validation: Predictions, *, biases: bool = False) -> Calibration:
    """Fits the temperature, and biases if wanted, by least log loss.

    The loss is convex in 1 / T and b, so the fit has one answer. A model is made surer of itself (T below 1)
    only where that also lowers the log loss on groups that were left out of the fit.

    Args:
        validation: predictions that are not the test's; out-of-fold ones are good.
        biases: also fit one bias per class; needs images of every class.

    Raises:
        DataError: no images, or a class without images where biases are wanted.
    """
    counts = np.bincount(validation.labels, minlength=len(validation.classes))
    if len(validation) == 0 or (biases and (counts == 0).any()):
        raise DataError(
            "calibration needs validation images, with biases of every class, but the counts are "
            f"{dict(zip(validation.classes, counts.tolist(), strict=True))}"
        )
    logarithms, labels = _logarithms(validation.probabilities), validation.labels
    free = len(validation.classes) if biases else 0
    before = _loss_and_slope(np.ones(1), logarithms, labels)[0]
    nothing = (0.0,) * len(validation.classes)
    unmoved = Calibration(1.0, nothing, validation.classes, len(validation), before, before)
    if (validation.probabilities.argmax(axis=1) == labels).all():
        return replace(unmoved, at_limit=True)
    fitted = _minimize(logarithms, labels, np.r_[1.0, np.zeros(free)])
    if fitted[0] > 1 and not _helps_others(logarithms, labels, group_names(validation), fitted):
        return replace(unmoved, refused=float(1 / fitted[0]))
    offsets = fitted[1:] - fitted[1:].mean() if free else np.zeros(len(validation.classes))
    edges = [abs(fitted[0] - limit) < 1e-6 for limit in _LIMITS]
    at_limit = any(edges) or bool((np.abs(fitted[1:]) > _LARGEST_BIAS - 1e-6).any())
    after = _loss_and_slope(fitted, logarithms, labels)[0]
    return Calibration(
        float(1 / fitted[0]), tuple(offsets.tolist()), validation.classes, len(validation), before, after, at_limit,
    )  # fmt: skip


def _minimize(
    logarithms: np.ndarray, labels: np.ndarray, start: np.ndarray, tolerance: float = 1e-14
) -> np.ndarray:
    """(1 / T, b_1 ..) of the least log loss."""
    from scipy.optimize import minimize  # a third of a second to import

    return minimize(
        _loss_and_slope,
        start,
        args=(logarithms, labels),
        jac=True,
        method="L-BFGS-B",
        bounds=[_LIMITS] + [(-_LARGEST_BIAS, _LARGEST_BIAS)] * (len(start) - 1),
        options={"maxiter": 1000, "ftol": tolerance, "gtol": 1e-9},
    ).x


def _helps_others(logarithms: np.ndarray, labels: np.ndarray, groups: np.ndarray, fitted: np.ndarray) -> bool:
    """Whether fits without a part of the groups lower the log loss on that part, over all parts."""
    rows = np.unique(groups, return_inverse=True)[1]
    parts = rows % min(_PARTS, rows.max() + 1)
    if not parts.any():
        return False
    loss = 0.0
    for part in np.unique(parts):
        out = parts == part
        parameters = _minimize(logarithms[~out], labels[~out], fitted, tolerance=1e-9)
        loss += out.sum() * _loss_and_slope(parameters, logarithms[out], labels[out])[0]
    return loss < len(labels) * _loss_and_slope(np.ones(1), logarithms, labels)[0]


def _loss_and_slope(
    parameters: np.ndarray, logarithms: np.ndarray, labels: np.ndarray
) -> tuple[float, np.ndarray]:
    """Log loss and its gradient at (1 / T, b_1 .. b_C), or at (1 / T) alone."""
    logits = parameters[0] * logarithms
    if len(parameters) > 1:
        logits = logits + parameters[1:]
    probabilities, rows = _softmax(logits), np.arange(len(labels))
    loss = -np.log(np.maximum(probabilities[rows, labels], 1e-300)).mean()
    residuals = probabilities.copy()
    residuals[rows, labels] -= 1
    slope = np.r_[(residuals * logarithms).sum(axis=1).mean(), residuals.mean(axis=0)]
    return float(loss), slope[: len(parameters)]


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), PROBABILITY_FLOOR))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
