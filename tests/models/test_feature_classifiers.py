from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import PredefinedSplit

from kerasall.errors import DataError, SettingsError
from kerasall.models.feature_classifiers import CLASSIFIERS, PlattScaling, fit_feature_classifier


def clouds(classes: int = 2, images: int = 240, width: int = 12, seed: int = 0, distance: float = 1.2):
    """Overlapping clouds of points, of very different scales: features, labels, folds."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    centres = distance * np.random.default_rng(99).normal(size=(classes, width))
    features = (centres[labels] + 2 * random.normal(size=(images, width))) * np.logspace(-3, 3, width)
    return features.astype(np.float32), labels, np.arange(images) // 6 % 4


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_learns_and_gives_probabilities(name, classes):
    features, labels, folds = clouds(classes)
    fitted = fit_feature_classifier(name, features, labels, classes, folds)
    fresh, truth, _ = clouds(classes, seed=1)
    probabilities, decided = fitted.predict(fresh)
    assert probabilities.shape == (240, classes)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert np.mean(decided == truth) > 1 / classes + 0.2
    np.testing.assert_array_equal(decided, fitted.pipeline.predict(fresh.astype(float)))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_same_seed_gives_the_same_answers(name):
    features, labels, folds = clouds(images=120)
    first, second = (
        fit_feature_classifier(name, features, labels, 2, folds, seed=3).predict(features) for _ in range(2)
    )
    np.testing.assert_array_equal(first[0], second[0])


def test_only_linear_svm_and_perceptron_are_exportable():
    assert {name for name, row in CLASSIFIERS.items() if row.exportable} == {"linear_svm", "mlp"}


@pytest.mark.filterwarnings("ignore:Liblinear failed to converge")  # of scikit-learn's own fit
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["linear_svm", "rbf_svm"])
def test_platt_scaling_equals_that_of_scikit_learn(name, classes):
    features, labels, folds = clouds(classes)
    fitted = fit_feature_classifier(name, features, labels, classes, folds, seed=5)
    oracle = CalibratedClassifierCV(
        fitted.pipeline, method="sigmoid", cv=PredefinedSplit(folds), ensemble=False
    )
    expected = oracle.fit(features.astype(float), labels).predict_proba(features.astype(float))
    np.testing.assert_allclose(fitted.predict(features)[0], expected, atol=1e-4)


def test_probabilities_come_from_decisions_for_held_out_folds():
    """With more features than images every image of the training is beyond the margin; new ones are not."""
    random = np.random.default_rng(0)
    features, labels, folds = random.normal(size=(60, 200)), np.arange(60) % 2, np.arange(60) // 2 % 5
    fitted = fit_feature_classifier("linear_svm", features, labels, 2, folds)
    decisions = fitted.decide(features)
    assert np.mean(decisions.argmax(1) == labels) == 1
    own = np.abs(decisions[:, 1])
    assert own.min() > 0.99
    assert fitted.predict(features)[0].max(axis=1).mean() < 0.75  # though labels are pure chance


def test_the_label_is_the_decision_even_where_it_is_not_the_most_probable_class():
    features, labels, folds = clouds(images=300, distance=0.8)
    few = np.flatnonzero((labels == 0) | (np.arange(300) // 2 % 4 == 1))  # four times as many of class 0
    fitted = fit_feature_classifier("linear_svm", features[few], labels[few], 2, folds[few])
    probabilities, decided = fitted.predict(features)
    np.testing.assert_array_equal(decided, fitted.pipeline.predict(features.astype(float)))
    assert (decided != probabilities.argmax(axis=1)).any()


def test_platt_scaling_where_all_sigmoids_vanish():
    found = PlattScaling(np.ones(3), np.zeros(3))(np.array([[-1000.0, -1001.0, -2000.0]]))
    odds = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(found, [[odds, 1 - odds, 0]], atol=1e-12)


def test_separated_classes_keep_finite_probabilities():
    features, labels, folds = clouds(distance=50.0)
    probabilities, _ = fit_feature_classifier("linear_svm", features, labels, 2, folds).predict(features)
    assert np.isfinite(probabilities).all()
    assert 0.95 < probabilities[np.arange(240), labels].min() < 1


def test_a_fit_that_stops_early_says_so():
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(100, 2)), random.integers(0, 2, 100)
    assert "without converging" in fit_feature_classifier("mlp", features, labels, 2).notes[0]
    assert fit_feature_classifier("decision_tree", features, labels, 2).notes == ()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"name": "linear_svc"}, SettingsError, "did you mean 'linear_svm'"),
        ({"folds": None}, DataError, "held-out folds"),
        ({"folds": np.zeros(240, int)}, DataError, "at least two folds"),
        ({"folds": np.arange(240) % 2}, DataError, "outside fold 0 must hold classes"),
        ({"classes": 3}, DataError, r"must hold classes \[0, 1, 2\], but hold \[0, 1\]"),
        ({"labels": np.zeros(3, int)}, DataError, "one label each"),
        ({"features": np.full((240, 12), np.nan)}, DataError, r"not in rows \[0, 1, 2\]"),
    ],
)
def test_what_cannot_be_fitted_is_refused(changes, error, words):
    features, labels, folds = clouds()
    given = {"name": "linear_svm", "features": features, "labels": labels, "classes": 2, "folds": folds}
    with pytest.raises(error, match=words):
        fit_feature_classifier(**(given | changes))
