"""Scores: equal to scikit-learn's, to printed tables, and honest where nothing is defined."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from kerasall.errors import SettingsError
from kerasall.evaluation.metrics import (
    METRICS,
    confusion_matrix,
    find_metric,
    per_class_table,
    undefined_reason,
)
from kerasall.evaluation.predictions import Predictions


def make_predictions(labels, probabilities, classes=None, decisions=None) -> Predictions:
    count = len(labels)
    names = np.array([f"i{i}" for i in range(count)], dtype=str)
    classes = classes or tuple(f"c{i}" for i in range(np.shape(probabilities)[1]))
    return Predictions(names, names, names, labels, probabilities, tuple(classes), decisions)


def score(predictions: Predictions, malignant=()) -> dict[str, float | None]:
    values = {name: metric(predictions, malignant) for name, metric in METRICS.items()}
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def from_matrix(matrix, classes) -> Predictions:
    """Predictions, certain of their decision, that give the matrix (rows = truth)."""
    cells = np.repeat(np.arange(np.size(matrix)), np.ravel(matrix))
    labels, decisions = cells // len(classes), cells % len(classes)
    return make_predictions(labels, np.eye(len(classes))[decisions], classes)


def random_predictions(seed: int, classes: int, digits: int) -> Predictions:
    """Skewed random probabilities; few digits make many ties."""
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(classes), rng.choice(classes, 300, p=rng.dirichlet(np.full(classes, 3.0)))]
    raw = (
        np.round(rng.dirichlet(np.ones(classes), len(labels)) + 0.3 * np.eye(classes)[labels], digits) + 0.01
    )
    return make_predictions(labels, raw / raw.sum(axis=1, keepdims=True))


def sklearn_scores(p: Predictions) -> dict[str, float]:
    y, d, q = p.labels, p.decisions, p.probabilities
    positive = q[:, 1] if q.shape[1] == 2 else q
    many = {} if q.shape[1] == 2 else {"multi_class": "ovr"}
    return {
        "accuracy": sk.accuracy_score(y, d),
        "balanced_accuracy": sk.balanced_accuracy_score(y, d),
        "cohen_kappa": sk.cohen_kappa_score(y, d),
        "mcc": sk.matthews_corrcoef(y, d),
        "roc_auc": sk.roc_auc_score(y, positive, average="macro", **many),
        "roc_auc_weighted": sk.roc_auc_score(y, positive, average="weighted", **many),
        "log_loss": sk.log_loss(y, q),
        "brier": sk.brier_score_loss(y, positive),
        **{
            f"{name}_{average}": function(y, d, average=average)
            for name, function in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score))
            for average in ("macro", "weighted")
        },
    }  # fmt: skip


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("digits", [1, 8])
@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_scikit_learn(seed, classes, digits):
    predictions = random_predictions(seed, classes, digits)
    ours = score(predictions)
    for name, expected in sklearn_scores(predictions).items():
        assert ours[name] == pytest.approx(expected, abs=1e-9), name
    assert (
        confusion_matrix(predictions) == sk.confusion_matrix(predictions.labels, predictions.decisions)
    ).all()


def test_per_class_table_equals_scikit_learn():
    predictions = random_predictions(7, 4, 2)
    table = per_class_table(predictions)
    expected = sk.precision_recall_fscore_support(predictions.labels, predictions.decisions)
    for name, values in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        assert table[name].to_numpy(float) == pytest.approx(values, abs=1e-12)
    for c, row in table.iterrows():
        wrong = predictions.labels != c
        assert row["specificity"] == pytest.approx((predictions.decisions[wrong] != c).mean())
        assert row["roc_auc"] == pytest.approx(sk.roc_auc_score(~wrong, predictions.probabilities[:, c]))
    assert find_metric("f1:c2", predictions.classes)(predictions) == pytest.approx(table["f1"][2])


def test_malignant_scores_collapse_to_two_classes():
    predictions = random_predictions(3, 4, 3)
    malignant = ("c1", "c3")
    truth, called = np.isin(predictions.labels, [1, 3]), np.isin(predictions.decisions, [1, 3])
    ours = score(predictions, malignant)
    assert ours["malignant_sensitivity"] == pytest.approx(sk.recall_score(truth, called))
    assert ours["malignant_specificity"] == pytest.approx(sk.recall_score(~truth, ~called))
    assert ours["malignant_called_benign"] == (truth & ~called).sum()
    summed = predictions.probabilities[:, [1, 3]].sum(axis=1)
    assert ours["malignant_roc_auc"] == pytest.approx(sk.roc_auc_score(truth, summed), abs=1e-9)


def test_decisions_count_and_not_the_most_probable_class():
    labels, probabilities = [0, 1], [[0.9, 0.1], [0.8, 0.2]]
    voted = make_predictions(labels, probabilities, decisions=[0, 1])
    assert score(voted)["accuracy"] == 1.0
    assert score(make_predictions(labels, probabilities))["accuracy"] == 0.5


def undefined_reasons(predictions: Predictions, malignant: tuple[str, ...]) -> dict[str, str]:
    reasons = {name: undefined_reason(metric, predictions, malignant) for name, metric in METRICS.items()}
    return {name: reason for name, reason in reasons.items() if reason}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([0, 0, 0, 1, 6]), min_size=9, max_size=9), st.sets(st.integers(0, 2)))
def test_a_value_is_none_exactly_where_a_reason_is_given(cells, malignant):
    """On any 3 x 3 matrix, zeros and empty ones included: no warning, no NaN, no unexplained None."""
    predictions = (
        from_matrix(np.array(cells), ("a", "b", "c"))
        if sum(cells)
        else make_predictions([], np.empty((0, 3)), ("a", "b", "c"))
    )
    names = tuple(np.array(["a", "b", "c"])[sorted(malignant)])
    values, reasons = score(predictions, names), undefined_reasons(predictions, names)
    assert {name for name, value in values.items() if value is None} == set(reasons)
    for name, value in values.items():
        assert value is None or METRICS[name].lowest - 1e-12 <= value <= METRICS[name].highest + 1e-12


def test_absent_class_is_named_and_never_a_silent_zero():
    predictions = from_matrix([[5, 1, 0], [2, 4, 0], [0, 0, 0]], ("benign", "early", "pro"))
    values, reasons = score(predictions, ("early", "pro")), undefined_reasons(predictions, ("early", "pro"))
    assert values["balanced_accuracy"] is None
    assert reasons["balanced_accuracy"] == "no image is labelled pro"
    assert values["roc_auc"] is None
    assert values["f1_weighted"] == pytest.approx(
        sk.f1_score(predictions.labels, predictions.decisions, average="weighted")
    )
    recall = find_metric("recall:pro", predictions.classes)
    assert np.isnan(recall(predictions))
    assert "denominator" in undefined_reason(recall, predictions)
    assert per_class_table(predictions)["recall"].isna().tolist() == [False, False, True]


def test_unknown_names_are_answered_with_near_ones():
    with pytest.raises(SettingsError, match="balanced_accuracy"):
        find_metric("balanced_acuracy", ("a", "b"))
    with pytest.raises(SettingsError, match="malignant"):
        score(random_predictions(0, 2, 3), malignant=("ALL",))


# Chen et al. 2021, Tables 9, 11, 13 and 15 (ALL called ALL, Normal called ALL, ALL called Normal, Normal called
# Normal) against Tables 10, 12, 14 and 16 (accuracy, precision, recall, specificity, F1 of the class ALL).
# No misprint in these tables: all 65 values follow from the matrices to the last printed digit.
TAGUCHI_MODELS = {
    "8249": ((1095, 203, 124, 445), (0.8249, 0.8436, 0.8983, 0.6867, 0.8701)),
    "8184": ((1047, 167, 172, 481), (0.8184, 0.8624, 0.8589, 0.7423, 0.8607)),
    "8452": ((1114, 184, 105, 464), (0.8452, 0.8582, 0.9139, 0.7160, 0.8852)),
    "8125": ((1078, 209, 141, 439), (0.8125, 0.8376, 0.8843, 0.6775, 0.8603)),
    "8061": ((1030, 173, 189, 475), (0.8061, 0.8562, 0.8450, 0.7330, 0.8505)),
    "8281": ((1114, 216, 105, 432), (0.8281, 0.8376, 0.9139, 0.6667, 0.8741)),
    "8307": ((1090, 187, 129, 461), (0.8307, 0.8536, 0.8942, 0.7114, 0.8734)),
    "8002": ((1032, 186, 187, 462), (0.8002, 0.8473, 0.8466, 0.7130, 0.8469)),
    "8216": ((1099, 213, 120, 435), (0.8216, 0.8377, 0.9016, 0.6713, 0.8684)),
    "ensemble of 3": ((1104, 182, 115, 466), (0.8409, 0.8585, 0.9057, 0.7191, 0.8814)),
    "ensemble of 5": ((1100, 173, 119, 475), (0.8436, 0.8641, 0.9024, 0.7330, 0.8828)),
    "ensemble of 7": ((1116, 176, 103, 472), (0.8506, 0.8638, 0.9155, 0.7284, 0.8889)),
    "ensemble of 9": ((1118, 177, 101, 471), (0.8511, 0.8633, 0.9171, 0.7269, 0.8894)),
}


@pytest.mark.parametrize("model", TAGUCHI_MODELS)
def test_tables_of_the_taguchi_paper(model):
    (all_all, normal_all, all_normal, normal_normal), printed = TAGUCHI_MODELS[model]
    predictions = from_matrix([[all_all, all_normal], [normal_all, normal_normal]], ("ALL", "Normal"))
    assert len(predictions) == 1867
    names = ("accuracy", "precision:ALL", "recall:ALL", "specificity:ALL", "f1:ALL")
    for name, expected in zip(names, printed, strict=True):
        value = find_metric(name, predictions.classes)(predictions)
        assert value == pytest.approx(expected, abs=5.0001e-5), name


def test_weighted_f1_of_the_taguchi_paper_is_not_its_printed_f1():
    predictions = from_matrix([[1118, 101], [177, 471]], ("ALL", "Normal"))
    assert score(predictions)["f1_weighted"] == pytest.approx(0.8487, abs=5e-5)


def test_matrices_of_the_kappa_weighted_paper():
    """Mondal et al. 2021, Table 6 with the printed scores and kappa weights, positive class ALL."""
    # Misprints: balanced accuracy of the ensemble 0.883, the matrix gives 0.8823; recall of Hem by VGG-16
    # 70.9%, its count gives 481 / 648 = 74.2%.
    xception = score(from_matrix([[557, 91], [173, 1046]], ("hem", "all")), ("all",))
    assert xception["cohen_kappa"] == pytest.approx(0.697, abs=5e-4)
    assert xception["accuracy"] == pytest.approx(0.859, abs=5e-4)
    assert xception["balanced_accuracy"] == pytest.approx(0.859, abs=5e-4)
    ensemble = score(from_matrix([[539, 109], [82, 1137]], ("hem", "all")), ("all",))
    assert ensemble["f1_weighted"] == pytest.approx(0.8972, abs=5e-5)
    assert ensemble["cohen_kappa"] == pytest.approx(0.772, abs=5e-4)
    assert ensemble["balanced_accuracy"] == pytest.approx(0.8823, abs=5e-5)
    assert ensemble["malignant_called_benign"] == 82


def test_scores_provoke_no_warning_on_one_class_alone():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = score(from_matrix([[7, 0], [0, 0]], ("a", "b")), ("b",))
    assert values["accuracy"] == 1.0
    assert values["cohen_kappa"] is None
