"""How the probabilities of several members become one answer: the rules, each written once, and what is fitted for
them (weights, stacking) on predictions that the members did not train on.

A formula takes the module whose operations it shall use, ``numpy`` for stored predictions or
``keras.ops`` for the graph of an ensemble, so that a report and a served model follow one text.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from kerasall.errors import DataError, ModelError, SettingsError, did_you_mean
from kerasall.evaluation.metrics import METRICS, malignant_mask, undefined_reason
from kerasall.evaluation.predictions import Predictions

TIE = 1e-6
"""Probabilities closer than this count as equal, so that rounding in float32 decides nothing."""

FLOOR = 1e-7
"""The smallest probability whose logarithm stacking takes."""

WEIGHT_METRICS = {"f1": "f1_weighted", "auc": "roc_auc", "kappa": "cohen_kappa", "accuracy": "accuracy"}
"""Name of a weighting -> row of ``METRICS`` that gives it (Mondal et al. 2021, section 4.1.3)."""

Operations = Any  # the module numpy, or keras.ops
Tensor = Any  # an array of numpy, or a tensor or symbolic tensor of Keras
Formula = Callable[[Operations, Tensor, Any, Sequence[int]], Tensor]
"""(operations, members [N, M, C], weights or stacking or None, indices of malignant classes) -> probabilities [N, C]."""


@dataclass(frozen=True, eq=False)
class Stacking:
    """A logistic regression over the log probabilities of M members.

    Attributes:
        kernel: float [M * C, C]; row k * C + j weighs ln P_jk.
        bias: float [C].
    """

    kernel: np.ndarray
    bias: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", np.asarray(self.kernel, dtype=np.float64))
        object.__setattr__(self, "bias", np.asarray(self.bias, dtype=np.float64))


@dataclass(frozen=True)
class Rule:
    """One row of ``RULES``.

    Attributes:
        name: key in ``RULES``.
        title: words for a report.
        equation: of member k, class j: P_jk is a probability, P'_j the ensemble's.
        formula: the same as a function.
        parameter: what the rule needs besides the members: "weights", one positive number a member;
            "stacking", a ``Stacking``; or "" for nothing.
    """

    name: str
    title: str
    equation: str
    formula: Formula
    parameter: Literal["", "weights", "stacking"] = ""


def count_votes(ops: Operations, members: Tensor, malignant: Sequence[int] = ()) -> Tensor:
    """How many members find each class the most probable: [N, M, C] -> whole numbers [N, C].

    A member that finds several classes equally probable votes for a malignant one of them, else for the first.
    """
    classes = np.arange(members.shape[-1], dtype=np.int32)
    chosen = ops.expand_dims(find_highest(ops, members, malignant), -1)
    return ops.sum(ops.where(ops.equal(chosen, classes), 1, 0), axis=-2)


def find_highest(ops: Operations, scores: Tensor, malignant: Sequence[int] = ()) -> Tensor:
    """Index of the highest score, of equal ones the first malignant, else the first: [..., C] -> whole numbers [...].

    Between calling an image malignant and missing it, it is called. Not ``argmax`` of the scores: Keras' looks at the
    bits of floating-point numbers, for which ONNX and OpenVINO have no operation.

    >>> find_highest(np, np.array([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3]]), malignant=[1]).tolist()
    [1, 0]
    """
    highest = ops.greater_equal(scores, ops.max(scores, axis=-1, keepdims=True))
    return ops.argmax(ops.where(highest, _preference(scores, malignant), 0), axis=-1)


def _preference(scores: Tensor, malignant: Sequence[int]) -> np.ndarray:
    return np.where(np.isin(np.arange(scores.shape[-1]), malignant), 2, 1).astype(np.int32)


def mean_probabilities(ops: Operations, members: Tensor) -> Tensor:
    """The members' mean: [N, M, C] -> [N, C]. Curves of a majority vote are drawn from it."""
    return ops.mean(members, axis=-2)


def decide(ops: Operations, probabilities: Tensor, means: Tensor, malignant: Sequence[int] = ()) -> Tensor:
    """Index of the most probable class [N]; ties go to the highest mean, then to a malignant class, then to the first.

    Args:
        ops: the operations to use.
        probabilities: of the ensemble, [N, C].
        means: of the members, [N, C]. In proportion to their sums, so that a tied majority vote is
            broken by summed probability.
        malignant: indices of the malignant classes: between calling an image malignant and missing it, it is called.
    """
    tied = ops.where(_highest(ops, probabilities), means, -1.0)
    return ops.argmax(ops.where(_highest(ops, tied), _preference(tied, malignant), 0), axis=-1)


def _highest(ops: Operations, scores: Tensor) -> Tensor:
    return ops.greater_equal(scores, ops.subtract(ops.max(scores, axis=-1, keepdims=True), TIE))


def _vote_shares(ops: Operations, members: Tensor, _: None, malignant: Sequence[int]) -> Tensor:
    return ops.divide(count_votes(ops, members, malignant), members.shape[-2])


def _average(ops: Operations, members: Tensor, _: None, __: Sequence[int]) -> Tensor:
    return mean_probabilities(ops, members)


def _weighted_average(ops: Operations, members: Tensor, weights: np.ndarray, _: Sequence[int]) -> Tensor:
    shares = np.asarray((weights / weights.sum())[:, None], dtype=members.dtype)
    return ops.sum(ops.multiply(members, shares), axis=-2)


def _maximum(ops: Operations, members: Tensor, _: None, __: Sequence[int]) -> Tensor:
    peaks = ops.max(members, axis=-2)
    return ops.divide(peaks, ops.sum(peaks, axis=-1, keepdims=True))


def stacking_inputs(ops: Operations, members: Tensor) -> Tensor:
    """What stacking is fitted on: log probabilities, member after member, [N, M, C] -> [N, M * C]."""
    flat = ops.reshape(members, (-1, members.shape[-2] * members.shape[-1]))
    return ops.log(ops.maximum(flat, FLOOR))


def _stacking(ops: Operations, members: Tensor, stacking: Stacking, _: Sequence[int]) -> Tensor:
    kernel, bias = (np.asarray(each, dtype=members.dtype) for each in (stacking.kernel, stacking.bias))
    scores = ops.add(ops.matmul(stacking_inputs(ops, members), kernel), bias)
    powers = ops.exp(ops.subtract(scores, ops.max(scores, axis=-1, keepdims=True)))
    return ops.divide(powers, ops.sum(powers, axis=-1, keepdims=True))


_ROWS = (
    Rule("majority_vote", "Majority vote", "P'_j = share of members whose largest P_jk is class j", _vote_shares),
    Rule("average", "Average", "P'_j = sum_k P_jk / M", _average),
    Rule("weighted_average", "Weighted average", "P'_j = sum_k W_k P_jk / sum_k W_k (Mondal et al. 2021, Eq. 1)",
         _weighted_average, "weights"),
    Rule("maximum", "Maximum", "P'_j = max_k P_jk / sum_i max_k P_ik", _maximum),
    Rule("stacking", "Stacking", "P' = softmax(bias + sum_ki kernel_ki ln P_ik)", _stacking, "stacking"),
)  # fmt: skip

RULES: dict[str, Rule] = {row.name: row for row in _ROWS}
"""Every rule by name."""


def check_rule(
    rule: str,
    members: int,
    classes: int,
    weights: Sequence[float] | np.ndarray | None = None,
    stacking: Stacking | None = None,
) -> tuple[Rule, Any]:
    """The row of ``rule`` and its checked parameter: weights float64 [M], a ``Stacking`` or None.

    Raises:
        SettingsError: an unknown rule (the message names the nearest), or weights or a stacking that
            are missing, not asked for, or do not fit.
        ModelError: fewer than two members.
    """
    if rule not in RULES:
        cure = did_you_mean(rule, RULES, "choose one of these")
        raise SettingsError(f"the ensemble's rule must be one of {', '.join(RULES)}, but is {rule!r}: {cure}")
    if members < 2:
        raise ModelError(
            f"an ensemble must have at least 2 members, but has {members}: add members, or use the model alone"
        )
    row = RULES[rule]
    given = {"weights": weights, "stacking": stacking}
    for name, value in given.items():
        if (value is not None) != (row.parameter == name):
            need, found = ("take no", "some were given") if value is not None else ("have", "none were given")
            raise SettingsError(f"the rule {rule!r} must {need} {name}, but {found}")
    if row.parameter == "weights":
        return row, _check_weights(np.asarray(weights, dtype=np.float64), members)
    if stacking is not None:
        _check_stacking(stacking, members, classes)
    return row, stacking


def _check_weights(weights: np.ndarray, members: int) -> np.ndarray:
    if weights.shape != (members,):
        raise SettingsError(
            f"there must be one weight per member ({members}), but there are {weights.tolist()}"
        )
    if not np.isfinite(weights).all() or weights.min() <= 0:
        raise SettingsError(
            f"weights must be finite and greater than 0, but are {weights.tolist()}: leave out a member that "
            "deserves no weight"
        )
    return weights


def _check_stacking(stacking: Stacking, members: int, classes: int) -> None:
    shapes = stacking.kernel.shape, stacking.bias.shape
    if shapes != ((members * classes, classes), (classes,)):
        raise SettingsError(
            f"stacking {members} members over {classes} classes must have a kernel "
            f"[{members * classes}, {classes}] and a bias [{classes}], but has {list(shapes)}"
        )
    if not (np.isfinite(stacking.kernel).all() and np.isfinite(stacking.bias).all()):
        raise SettingsError("stacking must have finite coefficients, but some are not: fit it again")


def tie_note(rule: str, members: int, classes: int) -> str:
    """What a report and a card say of ties; "" where the rule does not vote or no tie can be.

    An even number of voters is allowed, and so are more than two classes, where odd numbers tie too.
    """
    if rule != "majority_vote" or (members % 2 and classes == 2):
        return ""
    why = f"{members} members voting on {classes} classes can tie"
    cure = "" if members % 2 else "; an odd number of members ties less often"
    return (
        f"{why}: a tie goes to the class with the highest summed probability, then to a malignant class, then to the "
        f"first{cure}"
    )


def combine(
    members: Sequence[np.ndarray],
    rule: str,
    weights: Sequence[float] | np.ndarray | None = None,
    stacking: Stacking | None = None,
    malignant: Sequence[int] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Combines stored probabilities as the ensemble's graph combines its members'.

    Args:
        members: M arrays [N, C].
        rule: key in ``RULES``.
        weights: M positive numbers, for the weighted average.
        stacking: for stacking.
        malignant: indices of the malignant classes, which have the last word in a tie.

    Returns:
        probabilities float64 [N, C] (of a majority vote the vote shares) and decided class indices
        int64 [N]. The two can differ in their favourite where ``decide`` broke a tie.

    Raises:
        SettingsError: see ``check_rule``.
        ModelError: fewer than two members, or members of different shapes.

    >>> combine([np.array([[0.9, 0.1]]), np.array([[0.4, 0.6]])], "weighted_average", [1.0, 3.0])
    (array([[0.525, 0.475]]), array([0]))
    """
    arrays = [np.asarray(each, dtype=np.float64) for each in members]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
        raise ModelError(f"members must give arrays of one shape [images, classes], but give {shapes}")
    row, parameter = check_rule(rule, len(arrays), shapes[0][1] if shapes else 0, weights, stacking)
    stacked = np.stack(arrays, axis=1)
    probabilities = row.formula(np, stacked, parameter, malignant)
    return probabilities, decide(np, probabilities, mean_probabilities(np, stacked), malignant)


def combine_predictions(
    members: Sequence[Predictions],
    rule: str,
    weights: Sequence[float] | np.ndarray | None = None,
    stacking: Stacking | None = None,
    malignant: Sequence[str] = (),
) -> Predictions:
    """``combine`` on records of the same images; the record holds the ensemble's decisions. ``malignant`` are names.

    Raises:
        DataError: the records are not of the same images, labels and classes in one order.
    """
    require_same_images(members)
    chances, named = [each.probabilities for each in members], malignant_mask(members[0].classes, malignant)
    probabilities, decisions = combine(chances, rule, weights, stacking, np.flatnonzero(named).tolist())
    return replace(members[0], probabilities=probabilities, decisions=decisions)


def require_same_images(members: Sequence[Predictions]) -> None:
    """Checks that all records are of the same images, labels and classes in one order.

    Raises:
        DataError: there is no record, or one differs from the first.
    """
    if not members:
        raise DataError("at least one member's predictions are needed, but none were given")
    first = members[0]
    for number, other in enumerate(members[1:], 2):
        for name in ("classes", "ids", "labels"):
            if not np.array_equal(getattr(first, name), getattr(other, name)):
                raise DataError(
                    f"members must predict the same images in one order, but member {number} has other {name} than "
                    "member 1: predict all members on one split"
                )


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
        cure = did_you_mean(metric, WEIGHT_METRICS, "choose one of these")
        raise SettingsError(f"weights must be one of {', '.join(WEIGHT_METRICS)}, but are {metric!r}: {cure}")
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
    from sklearn.exceptions import ConvergenceWarning  # a second to import, and needed to fit only
    from sklearn.linear_model import LogisticRegression

    inputs = stacking_inputs(np, np.stack([each.probabilities for each in members], axis=1))
    model: Any = LogisticRegression(C=strength, max_iter=10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(inputs, labels)
        except ConvergenceWarning as warning:
            raise DataError(f"stacking must converge, but did not: lower its strength ({warning})") from None
    if len(classes) == 2:  # one score for class 1; half of it for and half against gives the same softmax
        kernel = np.concatenate([-model.coef_, model.coef_]).T / 2
        return Stacking(kernel, np.r_[-model.intercept_, model.intercept_] / 2)
    return Stacking(model.coef_.T, model.intercept_)
