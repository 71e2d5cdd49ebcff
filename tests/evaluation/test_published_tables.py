"""Scores, votes and weights against the tables that the five papers print, misprints named.

Beside it: tables 9 to 16 of Chen et al. in test_metrics.py, their designed experiment in
tests/taguchi/test_paper_000.py, Mondal's cycle and Fata's decay in tests/training/test_schedules.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from kerasall.evaluation.ensemble_rules import combine_predictions, member_weights, tie_note
from kerasall.evaluation.ensemble_scores import count_right
from kerasall.evaluation.intervals import wilson_interval
from kerasall.evaluation.metrics import METRICS, find_metric
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.repeats import spread_of


def from_matrix(matrix, classes: tuple[str, ...]) -> Predictions:
    """Predictions whose confusion matrix this is (rows = truth), certain of each decision."""
    matrix = np.asarray(matrix)
    truth, decided = (np.repeat(axis.ravel(), matrix.ravel()) for axis in np.indices(matrix.shape))
    ids = np.arange(len(truth)).astype(str)
    return Predictions(ids, ids, ids, truth, np.eye(len(matrix))[decided], classes)


def values(predictions: Predictions, *names: str) -> list[float]:
    return [find_metric(name, predictions.classes)(predictions) for name in names]


# --- Chen et al. 2021: nine votes on the preliminary test set of C-NMC ----------------------------

WRONG_VOTES = {
    "ALL": {5: 24, 6: 10, 7: 16, 8: 15, 9: 36},
    "Normal": {5: 30, 6: 27, 7: 24, 8: 29, 9: 67},
}
"""Table 17: class -> members wrong -> images."""

WRONG_CALLS = {
    "ALL": (1219, [124, 172, 105, 141, 189, 105, 129, 187, 120]),
    "Normal": (648, [203, 167, 184, 209, 173, 216, 187, 186, 213]),
}
"""Table 15: class -> images, and wrong calls of each of the nine models."""


def wrong_pattern(name: str) -> np.ndarray:
    """Which of nine members are wrong on which image, bool [images, 9], with all sums of both tables."""
    images, totals = WRONG_CALLS[name]
    left = np.array(totals)
    counts = [count for count, number in WRONG_VOTES[name].items() for _ in range(number)]
    spare = sum(totals) - sum(counts)
    others = images - len(counts)
    counts += [spare // others + (k < spare % others) for k in range(others)]
    pattern = np.zeros((images, 9), bool)
    for row, count in enumerate(sorted(counts, reverse=True)):
        chosen = np.argsort(-left, kind="stable")[:count]
        pattern[row, chosen] = True
        left[chosen] -= 1
    assert (left == 0).all()
    return pattern


def test_nine_votes_that_are_wrong_as_in_table_17_give_the_matrix_of_table_15():
    wrong = np.concatenate([wrong_pattern("ALL"), wrong_pattern("Normal")])
    truth = np.repeat([0, 1], [1219, 648])
    ids = np.arange(1867).astype(str)
    members = [
        Predictions(
            ids, ids, ids, truth, np.eye(2)[np.where(wrong[:, k], 1 - truth, truth)], ("ALL", "Normal")
        )
        for k in range(9)
    ]
    accuracies = [np.mean(each.decisions == truth) for each in members]
    printed = [0.8249, 0.8184, 0.8452, 0.8125, 0.8061, 0.8281, 0.8307, 0.8002, 0.8216]
    np.testing.assert_allclose(accuracies, printed, atol=5.001e-5)
    vote = combine_predictions(members, "majority_vote")
    assert METRICS["accuracy"](vote) == pytest.approx(0.8511, abs=5.001e-5)
    assert [int(((vote.decisions != truth) & (truth == k)).sum()) for k in (0, 1)] == [101, 177]
    right = {each.right: each.images for each in count_right(vote, members)}
    for wrong_members in range(5, 10):
        expected = WRONG_VOTES["ALL"][wrong_members] + WRONG_VOTES["Normal"][wrong_members]
        assert right[9 - wrong_members] == expected
    assert sum(each.ensemble_right for each in count_right(vote, members)) == 1867 - 278
    assert tie_note("majority_vote", 9, 2) == ""


# --- Mondal et al. 2021: Tables 4 and 6 at 300 pixels ---------------------------------------------

MONDAL = {
    "vgg16": ((481, 1108), (0.849, 0.851, 0.849, 0.851, 0.826), 0.665),
    "xception": ((557, 1046), (0.865, 0.859, 0.860, 0.859, 0.859), 0.697),
    "mobilenet": ((516, 1058), (0.845, 0.843, 0.844, 0.843, 0.832), 0.657),
    "inception_resnet_v2": ((514, 1048), (0.839, 0.837, 0.838, 0.837, 0.827), 0.644),
    "densenet121": ((442, 1106), (0.827, 0.829, 0.826, 0.829, 0.795), 0.610),
    "kappa ensemble": ((539, 1137), (0.897, 0.898, 0.897, 0.898, 0.883), None),
}
"""Images called rightly (Hem of 648, ALL of 1,219; section 5 and Table 6); Table 4's weighted precision,
weighted recall, weighted F1, accuracy and balanced accuracy; the printed weight."""

MISPRINT = {
    ("kappa ensemble", "balanced_accuracy"): 0.8823,
    ("inception_resnet_v2", "balanced_accuracy"): 0.8265,  # printed as the mean of .793 and .860
}
"""Printed values that the counts do not give, and what they give."""

COLUMNS = ("precision_weighted", "recall_weighted", "f1_weighted", "accuracy", "balanced_accuracy")


def mondal(name: str) -> Predictions:
    (hem, leukemia), _, _ = MONDAL[name]
    return from_matrix([[hem, 648 - hem], [1219 - leukemia, leukemia]], ("hem", "all"))


@pytest.mark.parametrize("name", MONDAL)
def test_all_of_mondals_table_4_follows_from_the_printed_counts(name):
    for column, found, printed in zip(COLUMNS, values(mondal(name), *COLUMNS), MONDAL[name][1], strict=True):
        if (name, column) in MISPRINT:
            assert found == pytest.approx(MISPRINT[name, column], abs=5e-5)
            assert abs(found - printed) > 5e-4
        else:
            assert found == pytest.approx(printed, abs=5.2e-4), column  # .8655 is printed as .865


def test_mondals_weights_are_the_members_kappa_on_the_test_set_itself():
    members = [name for name in MONDAL if MONDAL[name][2] is not None]
    found = member_weights([mondal(name) for name in members], "kappa")
    assert found.round(3).tolist() == [MONDAL[name][2] for name in members]


def test_shares_printed_beside_mondals_counts():
    """All but one: 481 of 648 are 74.2%, not 70.9%."""
    printed = {
        "vgg16": (70.9, 90.9), "xception": (86.0, 85.8), "mobilenet": (79.6, 86.8),
        "inception_resnet_v2": (79.3, 86.0), "densenet121": (68.2, 90.7), "kappa ensemble": (83.2, 93.3),
    }  # fmt: skip
    wrong = {}
    for name, shares in printed.items():
        for label, share in zip(("hem", "all"), shares, strict=True):
            found = 100 * values(mondal(name), f"recall:{label}")[0]
            if abs(found - share) > 0.051:
                wrong[name, label] = round(found, 1)
    assert wrong == {("vgg16", "hem"): 74.2}


def test_mondals_variances_can_only_be_squared_percentage_points():
    """Table 5: mean .886 and "variance 0.71%" of five runs, of which the best had .897.

    A variance of .0071 would mean steps of .084 between runs; .71 squared points mean .0084.
    """
    best_less_mean = 0.897 - 0.886
    deviation = (0.71 * 1e-4) ** 0.5
    assert best_less_mean / deviation == pytest.approx(1.31, abs=0.01)  # the best of five: 1.16 expected
    # Five values of that mean, variance and maximum exist, and this package gives the same figures back.
    rest = _four_values(0.897, 0.886, 0.71e-4)
    found = spread_of([0.897, *rest])
    assert found.mean == pytest.approx(0.886)
    assert 1e4 * found.variance == pytest.approx(0.71)
    assert found.highest == 0.897


def _four_values(best: float, mean: float, variance: float) -> list[float]:
    """Two pairs, symmetric about the mean that is left for them."""
    centre = (5 * mean - best) / 4
    left = 4 * variance - (best - mean) ** 2 - 4 * (centre - mean) ** 2
    step = (left / 4) ** 0.5
    return [centre - step, centre - step, centre + step, centre + step]


# --- Samyuktha et al. 2024: one batch of 32 -------------------------------------------------------


def test_samyukthas_ensemble_is_31_of_32_images():
    """Accuracy 96.87, precision 97.91, recall 95.83, F1 96.64 (macro averages, cut off): one batch.

    One image of a class of 6 is called another class of 11, whichever sizes the others have.
    """
    for third in range(1, 15):
        matrix = [[5, 1, 0, 0], [0, 11, 0, 0], [0, 0, third, 0], [0, 0, 0, 15 - third]]
        batch = from_matrix(matrix, ("a", "b", "c", "d"))
        found = values(batch, "accuracy", "precision_macro", "recall_macro", "f1_macro")
        assert [int(1e4 * value) / 100 for value in found] == [96.87, 97.91, 95.83, 96.64]
    assert wilson_interval(31, 32) == pytest.approx((0.843, 0.994), abs=5e-4)


# --- Hasanaath et al.: Table 5 --------------------------------------------------------------------

HASANAATH = {
    "k-nearest neighbours": ((95, 66), (0.8491, 0.8308, 0.8146, 0.8218)),
    "linear SVM": ((54, 36), (0.9157, 0.9077, 0.8956, 0.9013)),
    "RBF SVM": ((95, 18), (0.8941, 0.9066, 0.8475, 0.8691)),
    "decision tree": ((107, 116), (0.7910, 0.7589, 0.7625, 0.7606)),
    "random forest": ((89, 53), (0.8669, 0.8543, 0.8323, 0.8418)),
}
"""Table 5: accuracy, precision, recall, F1 of the trio. The counts (normal called ALL, ALL called normal)
are the only ones, with 339 normal images of 1,067, that give all four: a stratified tenth."""


@pytest.mark.parametrize("name", HASANAATH)
def test_hasanaaths_table_5_holds_macro_averages_of_1067_images(name):
    (normal_wrong, all_wrong), printed = HASANAATH[name]
    matrix = [[728 - all_wrong, all_wrong], [normal_wrong, 339 - normal_wrong]]
    found = values(
        from_matrix(matrix, ("ALL", "normal")), "accuracy", "precision_macro", "recall_macro", "f1_macro"
    )
    assert found == pytest.approx(printed, abs=5.2e-5)


def test_no_accuracy_of_hasanaaths_table_6_is_a_share_of_that_test_part():
    """With augmentation .9163 and so on: no count of 1,067 images gives any of them."""
    for printed in (0.8485, 0.9163, 0.8948, 0.7905, 0.8673):
        assert abs(round(1067 * printed) / 1067 - printed) > 5.5e-5
    for _, (printed, *_) in HASANAATH.values():
        assert abs(round(1067 * printed) / 1067 - printed) < 5.1e-5


# --- Fata et al. 2023: Tables 3 to 6 --------------------------------------------------------------


def test_fatas_split_is_four_fifths_cut_off():
    assert (int(0.8 * 10_661), 10_661 - int(0.8 * 10_661)) == (8_528, 2_133)


def test_averages_of_fatas_tables():
    """ "Totals" of recall, precision and F1 over eight numbers of epochs; misprint: a recall of .80, not .81."""
    recall, precision, f1 = (
        [0.76, 0.81, 0.82, 0.79, 0.82, 0.81, 0.81, 0.81],
        [0.86, 0.84, 0.85, 0.86, 0.84, 0.83, 0.87, 0.87],
        [0.79, 0.82, 0.82, 0.82, 0.83, 0.82, 0.83, 0.84],
    )
    assert [round(float(np.mean(column)), 2) for column in (recall, precision, f1)] == [0.80, 0.85, 0.82]
