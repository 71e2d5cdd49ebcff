"""What members of an ensemble are worth: weights and stacking, from predictions they did not train on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.ensemble_rules import Stacking, require_same_images, stacking_inputs
from kerasall.evaluation.metrics import METRICS, undefined_reason
from kerasall.evaluation.predictions import Predictions

WEIGHT_METRICS: dict[str, str] = {
    "f1": "f1_weighted",
    "auc": "roc_auc",
    "kappa": "cohen_kappa",
    "accuracy": "accuracy",
}
"""Name of a weighting -> row of ``METRICS`` that gives it (Mondal et al. 2021, section 4.1.3)."""


def member_weights(members: Sequence[Predictions], metric: str) -> np.ndarray:
    """Scores of the members as weights for the weighted average.

    Give validation or out-of-fold predictions. Weights from the test part choose on it; the published
    system did so, and only its faithful copy may.

    Args:
        members: M records of the same images.
        metric: key in ``WEIGHT_METRICS``.

    Returns:
        float64 [M], each greater than 0.

    Raises:
        SettingsError: an unknown metric; the message names the nearest.
        DataError: other images in one record, or a score that is undefined or not greater than 0.
    """
    if metric not in WEIGHT_METRICS:
        near = get_close_matches(metric, WEIGHT_METRICS, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"weights must be one of {', '.join(WEIGHT_METRICS)}, but are {metric!r}{hint}")
    require_same_images(members)
    row = METRICS[WEIGHT_METRICS[metric]]
    if reason := undefined_reason(row, members[0]):
        raise DataError(f"members can be weighted by {metric} only where it is defined, but {reason}")
    weights = np.array([row(each) for each in members])
    worthless = [f"member {k} has {weight:.3f}" for k, weight in enumerate(weights, 1) if not weight > 0]
    if worthless:
        raise DataError(
            f"members weighted by {metric} must score above 0, but {', '.join(worthless)}: leave them out, or use "
            "another rule"
        )
    return weights


def stacking_coefficients(members: Sequence[Predictions], strength: float = 1.0) -> Stacking:
    """Fits a logistic regression from the members' log probabilities to the labels.

    Give validation or out-of-fold predictions, as for ``member_weights``.

    Args:
        members: at least two records of the same images.
        strength: inverse of the L2 penalty on the coefficients; scikit-learn's ``C``.

    Returns:
        Coefficients for the rule "stacking".

    Raises:
        SettingsError: ``strength`` is not greater than 0.
        DataError: other images in one record, a class without images, or no convergence.
    """
    if not strength > 0:
        raise SettingsError(f"the strength of stacking must be greater than 0, but is {strength}")
    require_same_images(members)
    classes, labels = members[0].classes, members[0].labels
    absent = [name for index, name in enumerate(classes) if index not in labels]
    if absent:
        raise DataError(f"stacking needs images of every class, but none is labelled {', '.join(absent)}")
    inputs = stacking_inputs(np, np.stack([each.probabilities for each in members], axis=1))
    model: Any = LogisticRegression(C=strength, max_iter=10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(inputs, labels)
        except ConvergenceWarning as warning:
            raise DataError(f"stacking must converge, but did not: lower its strength ({warning})") from None
    if len(classes) == 2:  # one score for class 1; half of it for and half against gives the same softmax
        return Stacking(
            np.concatenate([-model.coef_, model.coef_]).T / 2, np.r_[-model.intercept_, model.intercept_] / 2
        )
    return Stacking(model.coef_.T, model.intercept_)
