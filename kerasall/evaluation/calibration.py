"""Temperature scaling, fitted on validation predictions only, and whether it made probabilities mean what they say.

Does a probability of 0.8 mean right in 80% of cases? Bins and the expected calibration error answer that on images
that did not fit the calibration, before and after it. So do intercept and slope of the logistic regression of being
malignant on the logit of its probability.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit, stdtrit

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.metrics import malignant_mask
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import draw_weights
from kerasall.evaluation.safeguards import PROBABILITY_FLOOR, Calibration, softmax

PROPER = ("brier", "log_loss")
"""Scores that only honest probabilities make best."""

_LIMITS = (0.02, 50.0)
"""Range of 1 / temperature."""

_LARGEST_BIAS = 20.0

_PARTS = 10
"""Parts of the groups that are left out in turn."""


def fit_calibration(
    validation: Predictions, *, biases: bool = False, like: Calibration | None = None
) -> Calibration:
    """Fits the temperature, and biases if wanted, by least log loss.

    The loss is convex in 1 / T and b, so the fit has one answer. A model is made surer of itself (T below 1)
    only where that also lowers the log loss on groups that were left out of the fit.

    Args:
        validation: predictions that are not the test's; out-of-fold ones are good.
        biases: also fit one bias per class; needs images of every class.
        like: of more images, whose choices are taken instead of made again, so that it is judged and not another
            one: biases or none, and whether the model may be made surer.

    Raises:
        DataError: no images, or a class without images where biases are wanted.
    """
    biases = biases if like is None else any(like.biases)
    counts = np.bincount(validation.labels, minlength=len(validation.classes))
    if len(validation) == 0 or (biases and (counts == 0).any()):
        raise DataError(
            "calibration needs validation images, with biases of every class, but the counts are "
            f"{dict(zip(validation.classes, counts.tolist(), strict=True))}"
        )
    logarithms, labels = np.log(np.maximum(validation.probabilities, PROBABILITY_FLOOR)), validation.labels
    free = len(validation.classes) if biases else 0
    before = _loss_and_slope(np.ones(1), logarithms, labels)[0]
    nothing = (0.0,) * len(validation.classes)
    unmoved = Calibration(1.0, nothing, validation.classes, len(validation), before, before)
    if (validation.probabilities.argmax(axis=1) == labels).all():
        return replace(unmoved, at_limit=True)
    fitted = _minimize(logarithms, labels, np.r_[1.0, np.zeros(free)])
    groups = validation.group_names
    if fitted[0] > 1 and not (
        _helps_others(logarithms, labels, groups, fitted) if like is None else biases or like.temperature < 1
    ):
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
    probabilities, rows = softmax(np, logits), np.arange(len(labels))
    loss = -np.log(np.maximum(probabilities[rows, labels], 1e-300)).mean()
    residuals = probabilities.copy()
    residuals[rows, labels] -= 1
    slope = np.r_[(residuals * logarithms).sum(axis=1).mean(), residuals.mean(axis=0)]
    return float(loss), slope[: len(parameters)]


# --- how sure and how often right --------------------------------------------------------------------


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in bins of equal width.

    Attributes:
        confidences: float [B], mean probability of the decided class; NaN in an empty bin.
        accuracies: float [B], share decided rightly; NaN in an empty bin.
        counts: int [B], images.
        error: expected calibration error, sum_b n_b / N |accuracy_b - confidence_b|.
        error_low: lower end of its interval over groups, corrected for the error's upward bias.
        error_high: upper end.
        noise_floor: the error expected of perfectly calibrated probabilities on as many independent images.
    """

    confidences: np.ndarray
    accuracies: np.ndarray
    counts: np.ndarray
    error: float
    error_low: float
    error_high: float
    noise_floor: float


def reliability(scorer: Scorer, bins: int = 15) -> Reliability:
    """Calibration of the decided class's probability (Guo et al., ICML 2017, with 15 bins as there).

    Raises:
        DataError: no images.
        SettingsError: no bins.
    """
    predictions = scorer.predictions
    if len(predictions) == 0 or bins < 1:
        kind = DataError if len(predictions) == 0 else SettingsError
        raise kind(
            f"calibration needs images and bins, but there are {len(predictions)} images and {bins} bins"
        )
    sure, right = predictions.confidences, predictions.right
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    gaps = np.bincount(place, weights=right - sure, minlength=bins)
    error = float(np.abs(gaps).sum() / len(sure))
    low, high = _error_interval(scorer, place, right - sure, error, bins)
    rng, order = np.random.default_rng(scorer.seed), np.argsort(sure)  # that of the images does not matter
    noise = [
        np.bincount(place[order], weights=(rng.random(len(sure)) < sure[order]) - sure[order], minlength=bins)
        for _ in range(200)
    ]
    with np.errstate(invalid="ignore"):
        mean_sure, share_right = (
            np.bincount(place, weights=values, minlength=bins) / counts for values in (sure, right)
        )
    noise_floor = float(np.abs(noise).sum() / len(sure) / 200)
    return Reliability(mean_sure, share_right, counts, error, low, high, noise_floor)


def _error_interval(scorer: Scorer, place, gaps, error: float, bins: int) -> tuple[float, float]:
    units = scorer.units
    draws = draw_weights(units, scorer.resamples, scorer.seed, unseen=0)
    sums = np.zeros((len(units.sizes), bins))
    np.add.at(sums, (units.rows, place), gaps)
    errors = np.abs(draws.units @ sums).sum(axis=1) / (draws.units @ units.sizes)
    # Noise adds to absolute gaps, in each draw as much again as in the images themselves.
    bias, (low, high) = errors.mean() - error, scorer.quantile_ends(errors, errors)
    return float(np.clip(low - 2 * bias, 0, error)), float(np.clip(high - 2 * bias, error, 1))


# --- intercept and slope -----------------------------------------------------------------------------

SANDWICH = "Student's t, standard errors over groups"
SANDWICH_OF_IMAGES = "Student's t, standard errors over single images (groups unknown)"


def recalibrate(scorer: Scorer) -> dict[str, Interval]:
    """Calibration intercept and slope of the malignant probability (Cox, Biometrika 45:562, 1958).

    Of logit P(malignant) = a + b logit p the slope is b: below 1 the probabilities are too extreme, above 1 too
    timid. The intercept is a where b is held at 1 (calibration in the large): above 0 they are too low on the
    whole. Standard errors are a sandwich over groups, with G / (G - 1) (N - 1) / (N - k) for few of them, held
    against Student's t with G - 1 degrees of freedom.

    Returns:
        ``intercept`` and ``slope``; nothing where no class is known to be malignant, all images or none are, or
        there is only one group. The slope is None where no number fits best, for p tells the classes apart
        without an error or is the same for all.
    """
    predictions = scorer.predictions
    groups = np.unique(predictions.group_names, return_inverse=True)[1]
    mask = malignant_mask(predictions.classes, scorer.malignant)
    truth = mask[predictions.labels]
    if truth.all() or not truth.any() or not groups.any():
        return {}
    p = np.clip(predictions.probabilities[:, mask].sum(axis=1), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    given, ones = logit(p), np.ones(len(p))
    spread = min(given[truth].max(), given[~truth].max()) - max(given[truth].min(), given[~truth].min())
    slope = _fit_logistic(np.stack([ones, given], axis=1), 0 * given, truth, groups) if spread > 0 else None
    intercept = _fit_logistic(ones[:, None], given, truth, groups)
    return {"intercept": _with_interval(scorer, intercept), "slope": _with_interval(scorer, slope)}


def _with_interval(scorer: Scorer, fitted: tuple[float, float] | None) -> Interval:
    groups, method = scorer.units.groups, SANDWICH if scorer.groups_known else SANDWICH_OF_IMAGES
    if fitted is None:
        reason = "the probability tells the classes apart without an error, or is the same for all"
        return Interval(None, None, None, scorer.confidence, method, groups, reason)
    value, width = fitted[0], float(stdtrit(groups - 1, 0.5 + scorer.confidence / 2)) * fitted[1]
    return Interval(value, value - width, value + width, scorer.confidence, method, groups)


def _fit_logistic(
    design: np.ndarray, offset: np.ndarray, truth: np.ndarray, groups: np.ndarray
) -> tuple[float, float] | None:
    """Last coefficient [K] of the logistic regression with its standard error over groups."""
    from scipy.optimize import minimize

    def loss(weights: np.ndarray) -> float:
        margins = offset + design @ weights
        return float(np.logaddexp(0, np.where(truth, -margins, margins)).mean())

    def slope(weights: np.ndarray) -> np.ndarray:
        return design.T @ (expit(offset + design @ weights) - truth) / len(truth)

    def curvature(weights: np.ndarray) -> np.ndarray:
        chance = expit(offset + design @ weights)
        return (design * (chance * (1 - chance))[:, None]).T @ design / len(truth)

    start = np.zeros(design.shape[1])
    weights = minimize(loss, start, jac=slope, hess=curvature, method="trust-exact", options={"gtol": 1e-9}).x
    residuals = (truth - expit(offset + design @ weights))[:, None] * design
    sums = np.stack([np.bincount(groups, weights=column) for column in residuals.T], axis=1)
    bread = np.linalg.inv(curvature(weights) * len(truth))
    count, (images, free) = len(sums), design.shape
    few = count / (count - 1) * (images - 1) / (images - free)
    covariance = few * bread @ (sums.T @ sums) @ bread
    return float(weights[-1]), float(np.sqrt(covariance[-1, -1]))


@dataclass(frozen=True, eq=False)
class Believed:
    """Calibration of one set of probabilities.

    Attributes:
        reliability: bins and expected calibration error of the decided class's probability.
        scores: name of ``PROPER`` -> interval.
        recalibration: ``intercept`` and ``slope`` of the malignant probability; empty where they cannot be had.
    """

    reliability: Reliability
    scores: dict[str, Interval]
    recalibration: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        found = self.reliability
        error = {"value": found.error, "low": found.error_low, "high": found.error_high}
        return {
            "expected_calibration_error": error
            | {"bins": len(found.counts), "noise_floor": found.noise_floor},
            **{name: interval.to_json() for name, interval in self.scores.items()},
            **{f"calibration_{name}": interval.to_json() for name, interval in self.recalibration.items()},
        }


@dataclass(frozen=True, eq=False)
class CalibrationScores:
    """The model's own probabilities and the calibrated ones on the scored images.

    Attributes:
        calibration: what the exported model applies.
        fitted_on: what it was fitted to: validation, out-of-fold or selection predictions.
        cross_fitted: the scored images are those it was fitted to, so that each one's calibrated
            probabilities come from a fit to the other folds.
        before: of the model's own probabilities.
        after: of the calibrated ones.
    """

    calibration: Calibration
    fitted_on: str
    cross_fitted: bool
    before: Believed
    after: Believed

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "temperature": self.calibration.temperature,
            "biases": list(self.calibration.biases),
            "fitted_on": self.fitted_on,
            "fitted_images": self.calibration.images,
            "at_limit": self.calibration.at_limit,
            "refused": self.calibration.refused,
            "cross_fitted": self.cross_fitted,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


def believe(scorer: Scorer, bins: int = 15) -> Believed:
    """Measures how often the decided class is right against its probability, in ``bins`` of equal width."""
    return Believed(reliability(scorer, bins), scorer.intervals(PROPER), recalibrate(scorer))


def score_calibration(
    scorer: Scorer, calibrated: Predictions, calibration: Calibration, fitted_on: str, *, cross_fitted: bool
) -> CalibrationScores:
    """Compares calibrated probabilities with the model's own, of the same images.

    Args:
        scorer: of the model's own probabilities.
        calibrated: the same images and decisions, calibrated by images that are not themselves.
        calibration: what the exported model applies.
        fitted_on: what that was fitted to.
        cross_fitted: see ``CalibrationScores``.
    """
    before, after = believe(scorer), believe(scorer.of(calibrated))
    return CalibrationScores(calibration, fitted_on, cross_fitted, before, after)
