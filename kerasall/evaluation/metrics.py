"""The scores of kerasall: one table, every row read from ``Predictions`` alone.

Most rows are functions of the confusion matrix and take whole stacks of matrices, so that an interval
can score thousands of resamples at once. A score that is not defined, because a class is absent from
the labels, say, is None with a reason and never a silent zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from kerasall.errors import SettingsError, near_names
from kerasall.evaluation import confusion_scores as of_matrix
from kerasall.evaluation.confusion_scores import CONDITIONS, PER_CLASS, Formula, OfClasses
from kerasall.evaluation.predictions import Predictions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Metric:
    """One row of ``METRICS``.

    Exactly one of ``formula``, ``losses`` and ``ranking`` is given.

    Attributes:
        name: key in tables and JSON.
        title: words for a report.
        equation: definition; n_ij counts images of class i decided as j, p_ic is the probability of
            class c for image i, y_ic is 1 for the true class and else 0.
        direction: whether a higher or a lower value is better.
        lowest: least possible value.
        highest: greatest possible value; infinity where there is none.
        requires: keys of ``CONDITIONS`` that must hold for the value to be defined.
        formula: value from confusion matrices.
        trials: for a plain proportion, the number of images in its denominator, from the matrices.
        counted: likewise of another score, where its denominator leaves images out; None: all count.
        losses: float [N] whose mean is the value, from predictions.
        ranking: how areas under ROC curves are averaged.
        limits: of ``losses``, the least and the greatest value that each image can have, float [N] both.
    """

    name: str
    title: str
    equation: str
    direction: Literal["higher", "lower"] = "higher"
    lowest: float = 0.0
    highest: float = 1.0
    requires: tuple[str, ...] = ()
    formula: Formula | None = None
    trials: Formula | None = None
    counted: Formula | None = None
    losses: Callable[[Predictions], np.ndarray] | None = None
    ranking: Literal["macro", "weighted", "malignant"] | None = None
    limits: Callable[[Predictions], tuple[np.ndarray, np.ndarray]] | None = None

    @property
    def needs_probabilities(self) -> bool:
        """True where decisions alone do not give the value."""
        return self.formula is None

    def __call__(self, predictions: Predictions, malignant: Sequence[str] = ()) -> float:
        """The value on ``predictions``, or NaN where it is not defined (see ``undefined_reason``).

        Args:
            predictions: N images.
            malignant: names of the classes that mean disease.
        """
        mask = malignant_mask(predictions.classes, malignant)
        if undefined_reason(self, predictions, malignant):
            return float("nan")
        if self.formula is not None:
            return float(self.formula(confusion_matrix(predictions).astype(float), mask))
        if self.losses is not None:
            return float(self.losses(predictions).mean())
        scores, positive = ranking_tasks(self, predictions, mask)
        shares = ranking_shares(self, positive.sum(axis=1))
        # A class without images has weight zero, and no area to weigh.
        return sum(
            share * area_under_roc(of_class, is_class)
            for share, of_class, is_class in zip(shares.tolist(), scores, positive, strict=True)
            if share > 0
        )


def confusion_matrix(predictions: Predictions) -> np.ndarray:
    """Counts of decisions: int64 [C, C], rows = true class, columns = decided class."""
    classes = len(predictions.classes)
    cells = predictions.labels * classes + predictions.decisions
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


# --- values of the probabilities ---------------------------------------------------------------------


def _log_losses(predictions: Predictions) -> np.ndarray:
    smallest = np.finfo(np.float64).eps  # the clip of scikit-learn's log_loss
    return -np.log(np.clip(predictions.of_truth, smallest, 1 - smallest))


def _brier_losses(predictions: Predictions) -> np.ndarray:
    truth = np.eye(len(predictions.classes))[predictions.labels]
    squares = (predictions.probabilities - truth) ** 2
    return squares[:, 1] if len(predictions.classes) == 2 else squares.sum(axis=1)


def area_under_roc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Share of (positive, other) pairs ranked rightly, a tie counting one half (Mann-Whitney).

    Args:
        scores: float [N], higher for the positive class.
        positive: bool [N], with at least one True and one False.

    >>> area_under_roc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]  # equal scores share their mean rank
    count = int(positive.sum())
    won = ranks[positive].sum() - count * (count + 1) / 2
    return float(won / (count * (len(scores) - count)))


def ranking_tasks(
    metric: Metric, predictions: Predictions, malignant: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The binary questions behind a ranking metric: scores float [K, N] and positive bool [K, N].

    Two classes make one question (class 1 against class 0), more make one a class.
    """
    probabilities, labels = predictions.probabilities, predictions.labels
    if metric.ranking == "malignant":
        return probabilities[:, malignant].sum(axis=1)[None], malignant[labels][None]
    classes = np.array([1]) if len(predictions.classes) == 2 else np.arange(len(predictions.classes))
    return probabilities.T[classes], labels == classes[:, None]


def ranking_shares(metric: Metric, positives: np.ndarray) -> np.ndarray:
    """Weight of each question in the mean, float [..., K], from the positives of each [..., K]."""
    weights = positives if metric.ranking == "weighted" else np.ones(np.shape(positives))
    return weights / weights.sum(axis=-1, keepdims=True)


def undefined_reason(metric: Metric, predictions: Predictions, malignant: Sequence[str] = ()) -> str:
    """Why ``metric`` has no value on ``predictions``; "" where it has one."""
    if len(predictions) == 0:
        return "there are no images"
    mask, matrix = malignant_mask(predictions.classes, malignant), confusion_matrix(predictions)
    reasons = (CONDITIONS[name](predictions.classes, matrix, mask) for name in metric.requires)
    if reason := next((reason for reason in reasons if reason), ""):
        return reason
    if metric.formula is not None and np.isnan(metric.formula(matrix.astype(float), mask)):
        return f"no image enters its denominator ({metric.equation})"
    return ""


def malignant_mask(classes: Sequence[str], malignant: Sequence[str]) -> np.ndarray:
    """Marks the malignant classes: bool [C].

    Raises:
        SettingsError: a name is not a class.
    """
    unknown = sorted({str(name) for name in malignant} - set(classes))
    if unknown:
        raise SettingsError(
            f"malignant classes must be among {', '.join(classes)}, but {', '.join(unknown)} is not: correct malignant"
        )
    return np.isin(np.asarray(classes, dtype=str), np.asarray(list(malignant), dtype=str))


# --- the table ---------------------------------------------------------------------------------------

_ALL = ("every class labelled",)

_ROWS = (
    Metric("accuracy", "Accuracy", "sum_i n_ii / N", formula=of_matrix.accuracy, trials=of_matrix.images),
    Metric("balanced_accuracy", "Balanced accuracy", "mean over classes of recall", requires=_ALL,
           formula=partial(of_matrix.macro, of_matrix.recall)),
    Metric("f1_weighted", "Weighted F1", "sum_c n_c F1_c / N",
           formula=partial(of_matrix.weighted, of_matrix.f1)),
    Metric("f1_macro", "Macro F1", "mean over classes of F1", requires=_ALL,
           formula=partial(of_matrix.macro, of_matrix.f1)),
    Metric("precision_weighted", "Weighted precision", "sum_c n_c precision_c / N",
           requires=("labelled classes decided",), formula=partial(of_matrix.weighted, of_matrix.precision)),
    Metric("precision_macro", "Macro precision", "mean over classes of precision",
           requires=(*_ALL, "every class decided"), formula=partial(of_matrix.macro, of_matrix.precision)),
    Metric("recall_weighted", "Weighted recall", "sum_c n_c recall_c / N (equals accuracy)",
           formula=partial(of_matrix.weighted, of_matrix.recall), trials=of_matrix.images),
    Metric("recall_macro", "Macro recall", "mean over classes of recall (equals balanced accuracy)",
           requires=_ALL, formula=partial(of_matrix.macro, of_matrix.recall)),
    Metric("specificity_macro", "Macro specificity", "mean over classes of specificity", requires=_ALL,
           formula=partial(of_matrix.macro, of_matrix.specificity)),
    Metric("cohen_kappa", "Cohen's kappa", "(p_o - p_e) / (1 - p_e), p_e = sum_c n_c. n_.c / N^2",
           lowest=-1.0, requires=("two classes at all",), formula=of_matrix.kappa),
    Metric("mcc", "Matthews correlation", "R_K of Gorodkin (2004); phi coefficient for two classes",
           lowest=-1.0, requires=("two classes labelled", "two classes decided"), formula=of_matrix.mcc),
    Metric("roc_auc", "ROC-AUC", "P(score of positive > score of other) + P(equal) / 2; more than two "
           "classes: mean over classes, one against the rest", requires=(*_ALL, "two classes labelled"),
           ranking="macro"),
    Metric("roc_auc_weighted", "Weighted ROC-AUC", "sum_c n_c AUC_c / N, one against the rest",
           requires=("two classes labelled",), ranking="weighted"),
    Metric("log_loss", "Log loss", "-mean_i ln p_i,truth, p clipped at 2.2e-16", "lower", highest=np.inf,
           losses=_log_losses),
    Metric("brier", "Brier score", "mean_i sum_c (p_ic - y_ic)^2; two classes: mean_i (p_i1 - y_i1)^2",
           "lower", highest=2.0, losses=_brier_losses),
    Metric("malignant_sensitivity", "Malignant sensitivity",
           "share of malignant images decided as any malignant class", requires=("malignant labelled",),
           formula=of_matrix.malignant_sensitivity, trials=of_matrix.malignant_images),
    Metric("malignant_specificity", "Malignant specificity",
           "share of benign images decided as any benign class", requires=("benign labelled",),
           formula=of_matrix.malignant_specificity, trials=of_matrix.benign_images),
    Metric("malignant_called_benign", "Malignant called benign",
           "number of malignant images decided as benign", "lower", highest=np.inf,
           requires=("malignant labelled",), formula=of_matrix.malignant_called_benign),
    Metric("malignant_roc_auc", "Malignant ROC-AUC", "ROC-AUC of the summed malignant probabilities",
           requires=("malignant labelled", "benign labelled"), ranking="malignant"),
)  # fmt: skip

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}
"""Every score by name. A new metric is one row here and a worked number in the tests."""

SCORES = (
    "accuracy", "balanced_accuracy", "f1_weighted", "f1_macro", "cohen_kappa", "mcc", "roc_auc", "log_loss",
)  # fmt: skip
"""Scores of every evaluation and comparison."""

MALIGNANT_SCORES = ("malignant_sensitivity", "malignant_specificity")
"""Further ones where the malignant classes are known."""


def _of_one_class(of_classes: OfClasses, index: int, matrices: np.ndarray, _: np.ndarray) -> np.ndarray:
    return of_classes(matrices)[..., index]


def find_metric(name: str, classes: Sequence[str]) -> Metric:
    """A row of ``METRICS``, or the score of one class, written "recall:ALL".

    Raises:
        SettingsError: no such metric or class; the message names the nearest.
    """
    if name in METRICS:
        return METRICS[name]
    kind, _, of_class = name.partition(":")
    if kind in PER_CLASS and of_class in classes:
        index, (values, images, proportion) = list(classes).index(of_class), PER_CLASS[kind]
        counted = partial(_of_one_class, images, index)
        return Metric(
            name, f"{kind.capitalize()} of {of_class}", f"{kind} of class {of_class}",
            formula=partial(_of_one_class, values, index),
            trials=counted if proportion else None, counted=None if proportion else counted,
        )  # fmt: skip
    known = [*METRICS, *(f"{kind}:{label}" for kind in PER_CLASS for label in classes)]
    near = near_names(name, known, most=3) or known[:3]
    raise SettingsError(
        f"a metric must be one of METRICS or <score>:<class>, but is {name!r}: did you mean {near}?"
    )


def per_class_table(predictions: Predictions) -> pd.DataFrame:
    """One row per class: class, images, decided, precision, recall, specificity, f1, roc_auc.

    Values that are not defined are NaN: recall and f1 of a class without images (f1 only where it was
    never decided either), precision of a class never decided, roc_auc of a class without images or
    without others.
    """
    import pandas as pd

    matrix = confusion_matrix(predictions).astype(float)
    images, decided = matrix.sum(axis=1).astype(int), matrix.sum(axis=0).astype(int)
    columns = {name: of_classes(matrix) for name, (of_classes, *_) in PER_CLASS.items()}
    table = pd.DataFrame({"class": predictions.classes, "images": images, "decided": decided, **columns})
    table["roc_auc"] = [
        area_under_roc(predictions.probabilities[:, c], predictions.labels == c)
        if 0 < count < len(predictions) else np.nan
        for c, count in enumerate(images)
    ]  # fmt: skip
    return table
