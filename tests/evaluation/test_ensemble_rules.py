from __future__ import annotations

import numpy as np
import pytest

from kerasall.errors import DataError, ModelError, SettingsError
from kerasall.evaluation.ensemble_rules import (
    RULES,
    Stacking,
    combine,
    combine_predictions,
    count_votes,
    find_highest,
    tie_note,
)
from kerasall.evaluation.predictions import Predictions


def record(probabilities, labels=None, ids=None) -> Predictions:
    probabilities = np.asarray(probabilities, float)
    count, classes = probabilities.shape
    ids = ids if ids is not None else [f"image {i}" for i in range(count)]
    labels = labels if labels is not None else np.zeros(count, int)
    return Predictions(ids, ids, ids, labels, probabilities, tuple("abcdef"[:classes]))


def rows(*members):
    """One image: each member's probabilities of it."""
    return [np.array([member]) for member in members]


def test_equation_1_of_mondal_on_worked_numbers():
    # Weights printed for kappa. By hand: class Hem = 1.6303 / 3.273
    members = rows([0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5])
    found, decided = combine(members, "weighted_average", [0.665, 0.697, 0.657, 0.644, 0.610])
    np.testing.assert_allclose(found, [[0.498106, 0.501894]], atol=5e-7)
    assert decided.tolist() == [1]
    assert combine(members, "average")[1].tolist() == [0]  # the plain mean .5 ties, the first class has it


def test_weights_count_only_in_proportion():
    members = rows([0.9, 0.1], [0.4, 0.6])
    for factor in (1, 1000):
        found, _ = combine(members, "weighted_average", [factor, 3 * factor])
        np.testing.assert_allclose(found, [[0.525, 0.475]])
    np.testing.assert_allclose(
        combine(members, "weighted_average", [2, 2])[0], combine(members, "average")[0]
    )


def test_vote_counts_members_not_confidence():
    found, decided = combine(rows([0.51, 0.49], [0.51, 0.49], [0.01, 0.99]), "majority_vote")
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3]])
    assert decided.tolist() == [0]


@pytest.mark.parametrize(
    ("members", "shares", "decided"),
    [
        (([0.6, 0.4], [0.1, 0.9]), [0.5, 0.5], 1),  # 1:1, sums .7 and 1.3
        (([0.9, 0.1], [0.4, 0.6]), [0.5, 0.5], 0),
        (([0.6, 0.4], [0.4, 0.6]), [0.5, 0.5], 0),  # sums equal as well: the first class
        (([0.3, 0.7], [0.7, 0.3]), [0.5, 0.5], 0),
        (([0.5, 0.3, 0.2], [0.1, 0.5, 0.4], [0.0, 0.4, 0.6]), [1 / 3] * 3, 1),  # sums .6 1.2 1.2
        (([0.4, 0.35, 0.25], [0.1, 0.2, 0.7]), [0.5, 0, 0.5], 2),
        # class 1 has the highest sum (1.14) but no vote, so it cannot win the tie of 0 (.93) and 2 (.93)
        (([0.55, 0.45, 0.0], [0.0, 0.45, 0.55]), [0.5, 0, 0.5], 0),
        (([0.5, 0.5], [0.5, 0.5]), [1, 0], 0),  # a member without a favourite votes for its first class
    ],
)
def test_ties_of_a_vote(members, shares, decided):
    found, decision = combine(rows(*members), "majority_vote")
    np.testing.assert_allclose(found, [shares])
    assert decision.tolist() == [decided]


@pytest.mark.parametrize(
    ("members", "malignant", "decided"),
    [
        (([0.6, 0.4], [0.4, 0.6]), [1], 1),  # votes and sums are equal: rather call than miss
        (([0.6, 0.4], [0.4, 0.6]), [0], 0),
        (([0.6, 0.4], [0.45, 0.55]), [1], 0),  # the sum decides first
        (([0.5, 0.5], [0.5, 0.5]), [1], 1),  # each member votes for the malignant class
        (([0.5, 0.5], [0.5, 0.5], [0.5, 0.5]), [1], 1),
        (([0.5, 0.5], [0.6, 0.4]), [1], 0),  # one vote each, and the sum decides
        (([0.5, 0.5], [0.5, 0.5], [0.9, 0.1]), [1], 1),  # two votes of three are the tied members'
        (([0.4, 0.4, 0.2], [0.4, 0.4, 0.2]), [2], 0),  # class 2 is not among the tied
        (([0.2, 0.4, 0.4], [0.2, 0.4, 0.4]), [2], 2),
        (
            ([0.0, 0.5, 0.5], [0.5, 0.5, 0.0]),
            [2],
            2,
        ),  # the first member votes for class 2, the second for class 0
        (([0.5, 0.2, 0.3], [0.1, 0.6, 0.3], [0.3, 0.1, 0.6]), [1, 2], 2),  # sums .9 .9 1.2
        (
            ([0.5, 0.2, 0.3], [0.2, 0.5, 0.3], [0.3, 0.3, 0.4]),
            [1, 2],
            1,
        ),  # all equal: the first malignant one
    ],
)
def test_a_full_tie_goes_to_a_malignant_class(members, malignant, decided):
    assert combine(rows(*members), "majority_vote", malignant=malignant)[1].tolist() == [decided]


def test_a_voter_without_a_favourite_votes_for_a_malignant_class():
    members = np.array([[[0.5, 0.5], [0.2, 0.8]], [[0.5, 0.5], [0.5, 0.5]]])
    assert count_votes(np, members).tolist() == [[1, 1], [2, 0]]
    assert count_votes(np, members, [1]).tolist() == [[0, 2], [0, 2]]
    assert find_highest(np, np.array([[0.3, 0.35, 0.35], [0.4, 0.4, 0.2]]), [1, 2]).tolist() == [1, 1]


def test_rounding_in_float32_decides_no_tie():
    """.1 + .2 is not .3 to a computer: equal sums added in any order fall to the first class."""
    pairs = np.random.default_rng(0).uniform(0.5, 1, (500, 2)).astype(np.float32)
    first, second = pairs.T
    members = [
        np.stack(pair, 1)
        for pair in ((first, 1 - first), (second, 1 - second), (1 - first, first), (1 - second, second))
    ]
    sums = np.sum(members, axis=0)
    assert (sums[:, 1] > sums[:, 0]).any()  # rounding alone would call these for class 1
    assert not combine(members, "majority_vote")[1].any()
    assert not combine(members, "average")[1].any()


def test_maximum_on_worked_numbers():
    found, decided = combine(rows([0.7, 0.2, 0.1], [0.1, 0.6, 0.3]), "maximum")
    np.testing.assert_allclose(found, [[0.7 / 1.6, 0.6 / 1.6, 0.3 / 1.6]])
    assert decided.tolist() == [0]


def test_a_tied_maximum_goes_to_the_higher_mean():
    _, decided = combine(rows([0.8, 0.2], [0.2, 0.8], [0.45, 0.55]), "maximum")
    assert decided.tolist() == [1]


def test_stacking_on_worked_numbers():
    # Only member 2 counts, twice: P' is its odds squared. (.8 / .2)^2 = 16 -> 16 / 17
    kernel = np.zeros((4, 2))
    kernel[2, 0] = kernel[3, 1] = 2
    found, _ = combine(rows([0.1, 0.9], [0.8, 0.2]), "stacking", stacking=Stacking(kernel, [0, 0]))
    np.testing.assert_allclose(found, [[16 / 17, 1 / 17]])
    shifted, _ = combine(rows([0.1, 0.9], [0.8, 0.2]), "stacking", stacking=Stacking(kernel, [0, np.log(16)]))
    np.testing.assert_allclose(shifted, [[0.5, 0.5]])


def parameter_for(rule: str, members: int, classes: int) -> dict:
    random = np.random.default_rng(members)
    kinds = {
        "weights": {"weights": random.uniform(0.1, 1, members)},
        "stacking": {
            "stacking": Stacking(
                random.normal(size=(members * classes, classes)), random.normal(size=classes)
            )
        },
    }
    return kinds.get(RULES[rule].parameter, {})


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("classes", [2, 4])
def test_every_rule_gives_probabilities_and_keeps_unanimity(rule, classes):
    members = np.random.default_rng(1).dirichlet(np.ones(classes), (3, 1000))
    found, decided = combine(list(members), rule, **parameter_for(rule, 3, classes))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found.min() >= 0
    assert np.array_equal(found[np.arange(1000), decided], found.max(axis=1))
    if RULES[rule].parameter != "stacking":  # coefficients at will obey nobody
        agreed = np.all(members.argmax(-1) == members[0].argmax(-1), axis=0)
        assert agreed.any()
        assert np.array_equal(decided[agreed], members[0].argmax(-1)[agreed])


@pytest.mark.parametrize("rule", [rule for rule, row in RULES.items() if not row.parameter])
def test_the_order_of_members_does_not_matter(rule):
    members = list(np.random.default_rng(2).dirichlet(np.ones(3), (4, 100)))
    for first, second in zip(combine(members, rule), combine(members[::-1], rule), strict=True):
        np.testing.assert_allclose(first, second)


def test_no_images_give_no_answers():
    found, decided = combine([np.zeros((0, 3))] * 3, "majority_vote")
    assert found.shape == (0, 3)
    assert decided.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((2, "majority"), SettingsError, "did you mean 'majority_vote'"),
        ((1, "average"), ModelError, "at least 2 members, but has 1"),
        ((0, "average"), ModelError, "at least 2 members, but has 0"),
        ((2, "weighted_average"), SettingsError, "must have weights"),
        ((2, "majority_vote", [1, 2]), SettingsError, "must take no weights"),
        ((2, "weighted_average", [1, 2, 3]), SettingsError, r"one weight per member \(2\)"),
        ((2, "weighted_average", [1, 0]), SettingsError, "greater than 0"),
        ((2, "weighted_average", [1, -2]), SettingsError, "greater than 0"),
        ((2, "weighted_average", [1, np.nan]), SettingsError, "finite"),
        ((2, "stacking"), SettingsError, "must have stacking"),
        ((2, "stacking", None, Stacking(np.zeros((3, 2)), [0, 0])), SettingsError, r"a kernel \[4, 2\]"),
        (
            (2, "stacking", None, Stacking(np.full((4, 2), np.inf), [0, 0])),
            SettingsError,
            "finite coefficients",
        ),
    ],
)
def test_what_cannot_be_combined_is_refused(arguments, error, words):
    count, *rest = arguments
    with pytest.raises(error, match=words):
        combine([np.array([[0.4, 0.6]])] * count, *rest)


def test_members_of_other_shapes_are_refused():
    with pytest.raises(ModelError, match="one shape"):
        combine([np.ones((2, 2)), np.ones((3, 2))], "average")


def test_the_note_on_ties_is_said_only_where_ties_can_be():
    assert tie_note("majority_vote", 5, 2) == ""
    assert tie_note("average", 4, 2) == ""
    assert "highest summed probability" in tie_note("majority_vote", 3, 4)
    assert "odd number" not in tie_note("majority_vote", 3, 4)
    assert "odd number of members" in tie_note("majority_vote", 4, 2)


def test_a_record_of_votes_keeps_its_own_decisions():
    members = [record([[0.6, 0.4]]), record([[0.1, 0.9]])]
    found = combine_predictions(members, "majority_vote")
    np.testing.assert_allclose(found.probabilities, [[0.5, 0.5]])
    assert found.decisions.tolist() == [1]
    assert found.ids.tolist() == ["image 0"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (record([[0.6, 0.4]], ids=["x"]), "member 2 has other ids"),
        (record([[0.6, 0.4]], labels=[1]), "other labels"),
        (record([[0.6, 0.3, 0.1]]), "other classes"),
    ],
)
def test_records_of_other_images_are_refused(other, words):
    with pytest.raises(DataError, match=words):
        combine_predictions([record([[0.6, 0.4]]), other], "average")
