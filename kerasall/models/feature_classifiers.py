"""Classic classifiers of feature vectors: scikit-learn fits them, after standardisation or to features as they are.

A linear support vector machine and a perceptron can become layers of a Keras model
(``deep_features.build_feature_model``); the others would have to carry their training images along.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import log_expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from kerasall.errors import DataError, SettingsError, did_you_mean
from kerasall.evaluation.ensemble_rules import find_highest


@dataclass(frozen=True)
class Row:
    """One row of ``CLASSIFIERS``.

    Attributes:
        name: key in ``CLASSIFIERS``.
        title: words for a report.
        make: seed -> unfitted scikit-learn classifier.
        answer: "decisions" where it gives distances from a border, to which probabilities are fitted
            by Platt scaling, "probabilities" where it gives these.
        exportable: whether it can become layers of a Keras model.
    """

    name: str
    title: str
    make: Callable[[int], ClassifierMixin]
    answer: Literal["decisions", "probabilities"] = "probabilities"
    exportable: bool = False


def _linear_svm(seed: int) -> ClassifierMixin:
    # One class against the rest; for the hinge loss there is the dual solver only, which draws at random.
    return LinearSVC(C=1.0, loss="hinge", dual="auto", max_iter=5_000, random_state=seed)


def _rbf_svm(_: int) -> ClassifierMixin:
    return SVC(C=1.0, kernel="rbf", gamma="scale", break_ties=True)


def _mlp(seed: int) -> ClassifierMixin:
    return MLPClassifier(hidden_layer_sizes=(256,), activation="relu", max_iter=200, random_state=seed)


_ROWS = (
    Row("knn", "Five nearest neighbours", lambda _: KNeighborsClassifier(n_neighbors=5)),
    Row("linear_svm", "Linear SVM (C = 1, hinge)", _linear_svm, "decisions", exportable=True),
    Row("rbf_svm", "SVM with RBF kernel (C = 1)", _rbf_svm, "decisions"),
    Row("decision_tree", "Decision tree", lambda seed: DecisionTreeClassifier(random_state=seed)),
    Row("random_forest", "Random forest (100 trees)", lambda seed: RandomForestClassifier(random_state=seed)),
    Row("mlp", "Perceptron (256 hidden units)", _mlp, exportable=True),
)

CLASSIFIERS: dict[str, Row] = {row.name: row for row in _ROWS}
"""Every classifier of Hasanaath et al. by name."""


@dataclass(frozen=True, eq=False)
class PlattScaling:
    """Probabilities from decision values: P_c is sigmoid(slope_c d_c + offset_c), divided by their sum.

    Attributes:
        slopes: float64 [C].
        offsets: float64 [C].
    """

    slopes: np.ndarray
    offsets: np.ndarray

    def __call__(self, decisions: np.ndarray) -> np.ndarray:
        """Decision values [N, C] to probabilities [N, C]."""
        # A softmax of logarithms divides the sigmoids by their sum, also where all of them vanish.
        return softmax(log_expit(decisions * self.slopes + self.offsets), axis=1)


@dataclass(frozen=True, eq=False)
class FeatureClassifier:
    """A fitted classifier of feature vectors.

    Attributes:
        row: its row in ``CLASSIFIERS``.
        pipeline: the fitted ``StandardScaler`` (which may leave features as they are) and classifier.
        classes: number C of classes.
        platt: for rows that answer with decisions.
        notes: what a report should say of the fit, for example that it did not converge.
    """

    row: Row
    pipeline: Pipeline
    classes: int
    platt: PlattScaling | None = None
    notes: tuple[str, ...] = ()

    def decide(self, features: np.ndarray) -> np.ndarray:
        """Decision values float64 [N, C] of features [N, D], for rows that answer with decisions."""
        return _one_per_class(self.pipeline.decision_function(np.asarray(features, np.float64)))

    def predict(self, features: np.ndarray, malignant: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float64 [N, C] and decided class indices int64 [N] of features [N, D]; in a tie a malignant one.

        A support vector machine decides by its decision values. Platt scaling can shift the border,
        so the decided class need not be the most probable one.
        """
        if self.platt is not None:
            decisions = self.decide(features)
            return self.platt(decisions), find_highest(np, decisions, malignant)
        probabilities = self.pipeline.predict_proba(np.asarray(features, np.float64))
        return probabilities, find_highest(np, probabilities, malignant)


def fit_feature_classifier(
    name: str,
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    folds: np.ndarray | None = None,
    seed: int = 0,
    standardise: bool = True,
) -> FeatureClassifier:
    """Fits a classifier of ``CLASSIFIERS`` to features.

    Args:
        name: key in ``CLASSIFIERS``.
        features: float [N, D].
        labels: class indices [N] in [0, classes).
        classes: number C of classes.
        folds: number of the fold of each image [N], groups never in two. Needed by rows that answer
            with decisions: Platt scaling is fitted on the decisions for held-out folds, since those
            for images of the training are too sure of themselves.
        seed: of all that is drawn at random; the same seed gives the same classifier.
        standardise: give every feature mean 0 and variance 1 first; a constant one stays at 0.

    Raises:
        SettingsError: an unknown classifier; the message names the nearest.
        DataError: lengths that differ, features that are not finite, a class without images (in all,
            or outside one of the folds), or missing folds.
    """
    if name not in CLASSIFIERS:
        cure = did_you_mean(name, CLASSIFIERS, "choose one of these")
        raise SettingsError(
            f"the classifier must be one of {', '.join(CLASSIFIERS)}, but is {name!r}: {cure}"
        )
    row, features, labels = CLASSIFIERS[name], np.asarray(features, np.float64), np.asarray(labels)
    _check(features, labels, classes)
    pipeline = make_pipeline(StandardScaler(with_mean=standardise, with_std=standardise), row.make(seed))
    platt = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said in the notes instead
        if row.answer == "decisions":
            platt = _fit_platt(pipeline, features, labels, classes, folds)
        pipeline.fit(features, labels)
    return FeatureClassifier(row, pipeline, classes, platt, _notes(row, pipeline[-1]))


def _notes(row: Row, fitted: Any) -> tuple[str, ...]:
    limit = getattr(fitted, "max_iter", -1)
    rounds = np.max(getattr(fitted, "n_iter_", 0))
    return (f"{row.title}: stopped after {rounds} rounds without converging",) if rounds >= limit > 0 else ()


def _check(features: np.ndarray, labels: np.ndarray, classes: int) -> None:
    if features.ndim != 2 or labels.shape != (len(features),):
        raise DataError(
            f"features must be [images, length] with one label each, but are {list(features.shape)} with "
            f"{list(labels.shape)} labels"
        )
    if not np.isfinite(features).all():
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))[:3].tolist()
        raise DataError(f"features must be finite, but are not in rows {bad}: compute them again")
    require_classes(labels, classes, "the training images")


def require_classes(labels: np.ndarray, classes: int, where: str) -> None:
    """Raises ``DataError`` where a class has no image."""
    found = np.unique(labels).tolist()
    if found != list(range(classes)):
        raise DataError(f"{where} must hold classes {list(range(classes))}, but hold {found}")


def _fit_platt(
    pipeline: Pipeline, features: np.ndarray, labels: np.ndarray, classes: int, folds: np.ndarray | None
) -> PlattScaling:
    if folds is None or np.shape(folds) != labels.shape or len(np.unique(folds)) < 2 or np.min(folds) < 0:
        raise DataError(
            "the probabilities of a support vector machine must be fitted on held-out folds: give the number "
            "of the fold, from 0, of every image, at least two folds in all"
        )
    for fold in np.unique(folds):
        require_classes(labels[folds != fold], classes, f"the images outside fold {fold}")
    held_out: Any = cross_val_predict(
        pipeline, features, labels, cv=PredefinedSplit(folds), method="decision_function"
    )
    decisions = _one_per_class(held_out)
    lines = [_fit_sigmoid(decisions[:, index], labels == index) for index in range(classes)]
    return PlattScaling(*np.array(lines).T)


def _fit_sigmoid(decisions: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Slope and offset of most likelihood, with Platt's (1999) smoothed targets instead of 0 and 1."""
    count = positive.sum()
    targets = np.where(positive, (count + 1) / (count + 2), 1 / (len(positive) - count + 2))
    # A target between 0 and 1 is an image that is there twice, once in each class, with these weights.
    twice, truth = np.concatenate([decisions, decisions])[:, None], np.repeat([1, 0], len(decisions))
    spread = decisions.std() or 1.0
    model: Any = LogisticRegression(C=np.inf, max_iter=1_000, tol=1e-8)
    model.fit(twice / spread, truth, sample_weight=np.concatenate([targets, 1 - targets]))
    return float(model.coef_[0, 0] / spread), float(model.intercept_[0])


def _one_per_class(decisions: np.ndarray) -> np.ndarray:
    """Two classes share one border: a distance to its one side is minus the distance to the other."""
    return np.stack([-decisions, decisions], axis=1) if decisions.ndim == 1 else decisions
