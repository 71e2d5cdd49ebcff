from __future__ import annotations

import numpy as np
import pytest

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.ensemble_rules import (
    WEIGHT_METRICS,
    combine_predictions,
    member_weights,
    stacking_coefficients,
)
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.predictions import Predictions


def from_matrix(matrix) -> Predictions:
    """Predictions whose confusion matrix this is, certain of each decision."""
    matrix = np.asarray(matrix)
    truth, decided = (np.repeat(axis.ravel(), matrix.ravel()) for axis in np.indices(matrix.shape))
    ids = np.arange(len(truth)).astype(str)
    return Predictions(ids, ids, ids, truth, np.eye(len(matrix))[decided], ("hem", "all")[: len(matrix)])


def noisy(seed: int, noise: float, classes: int = 2, images: int = 600) -> Predictions:
    """A member that sees one common truth through its own noise."""
    labels = np.arange(images) % classes
    random = np.random.default_rng(seed)
    scores = 2.0 * np.eye(classes)[labels] + noise * random.normal(size=(images, classes))
    powers = np.exp(scores)
    ids = np.arange(images).astype(str)
    return Predictions(ids, ids, ids, labels, powers / powers.sum(1, keepdims=True), tuple("abcd"[:classes]))


XCEPTION = [[557, 91], [173, 1046]]
WEN_KAPPA = [[539, 109], [82, 1137]]


def test_printed_kappa_weight_of_xception_from_its_confusion_matrix():
    """Mondal et al. 2021, Table 6 (left) gives the weight .697 printed for Xception; (right) gives .772."""
    assert member_weights([from_matrix(XCEPTION)], "kappa").round(3).tolist() == [0.697]
    assert member_weights([from_matrix(WEN_KAPPA)], "kappa").round(3).tolist() == [0.772]


@pytest.mark.parametrize(("metric", "printed"), [("f1", 0.860), ("accuracy", 0.859)])
def test_printed_scores_of_xception(metric, printed):
    """Table 4, Xception at 300 x 300: WFS .860, ACC .859."""
    assert member_weights([from_matrix(XCEPTION)], metric)[0] == pytest.approx(printed, abs=5e-4)


def test_auc_of_certain_decisions_is_the_mean_of_two_recalls():
    expected = (557 / 648 + 1046 / 1219) / 2
    assert member_weights([from_matrix(XCEPTION)], "auc")[0] == pytest.approx(expected)


@pytest.mark.parametrize("metric", WEIGHT_METRICS)
def test_a_better_member_weighs_more(metric):
    assert WEIGHT_METRICS[metric] in METRICS
    weights = member_weights([noisy(0, 3.0), noisy(1, 1.0)], metric)
    assert 0 < weights[0] < weights[1] < 1


def test_what_cannot_be_weighted_is_refused():
    good = noisy(0, 1.0)
    with pytest.raises(SettingsError, match="did you mean 'kappa'"):
        member_weights([good], "kapa")
    upside_down = noisy(1, 1.0)
    upside_down = Predictions(
        good.ids, good.ids, good.ids, good.labels, upside_down.probabilities[:, ::-1], good.classes
    )
    with pytest.raises(DataError, match=r"member 2 has -0\.\d+: leave them out"):
        member_weights([good, upside_down], "kappa")
    with pytest.raises(DataError, match="only where it is defined, but no image is labelled"):
        member_weights([good.take(good.labels == 0)], "auc")
    with pytest.raises(DataError, match="other ids"):
        member_weights([good, good.take(np.arange(10))], "f1")
    with pytest.raises(DataError, match="at least one"):
        member_weights([], "f1")


@pytest.mark.parametrize("classes", [2, 3])
def test_stacking_trusts_the_better_member_and_beats_the_average(classes):
    fitted = stacking_coefficients([noisy(0, 4.0, classes), noisy(1, 1.0, classes)])
    assert fitted.kernel.shape == (2 * classes, classes)
    diagonal = np.diag(fitted.kernel[:classes]), np.diag(fitted.kernel[classes:])
    assert (np.abs(diagonal[1]) > np.abs(diagonal[0])).all()
    fresh = [noisy(2, 4.0, classes), noisy(3, 1.0, classes)]
    loss = METRICS["log_loss"]
    stacked = loss(combine_predictions(fresh, "stacking", stacking=fitted))
    assert stacked < loss(combine_predictions(fresh, "average")) - 0.05


@pytest.mark.parametrize("classes", [2, 3])
def test_stacking_gives_the_probabilities_of_the_fitted_regression(classes):
    from sklearn.linear_model import LogisticRegression

    members = [noisy(0, 2.0, classes), noisy(1, 1.0, classes), noisy(2, 1.5, classes)]
    inputs = np.log(np.concatenate([each.probabilities for each in members], axis=1))
    oracle = LogisticRegression(C=0.5, max_iter=10_000).fit(inputs, members[0].labels).predict_proba(inputs)
    found = combine_predictions(members, "stacking", stacking=stacking_coefficients(members, 0.5))
    np.testing.assert_allclose(found.probabilities, oracle, atol=1e-9)


def test_stacking_of_certain_members_stays_finite():
    fitted = stacking_coefficients([from_matrix(XCEPTION), from_matrix(XCEPTION)])
    assert np.isfinite(fitted.kernel).all()


def test_what_cannot_be_stacked_is_refused():
    good = noisy(0, 1.0, 3)
    with pytest.raises(DataError, match="none is labelled c"):
        stacking_coefficients([good.take(good.labels < 2)] * 2)
    with pytest.raises(SettingsError, match="greater than 0"):
        stacking_coefficients([good, good], strength=0)
