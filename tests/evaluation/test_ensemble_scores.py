"""An ensemble beside its members: worked numbers, and the section that shows them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from page_tables import read_tables, texts

from kerasall.evaluation.ensemble_rules import RULES, combine_predictions
from kerasall.evaluation.ensemble_scores import agreement, count_right, for_curves, score_ensemble
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.predictions import Predictions
from kerasall.report.page import render_section

LABELS = [0, 0, 1, 1]
SURE = {0: [0.9, 0.1], 1: [0.2, 0.8]}


def calling(calls: list[int], labels=LABELS) -> Predictions:
    names = [f"i{number}" for number in range(len(calls))]
    return Predictions(names, names, names, labels, np.array([SURE[call] for call in calls]), ("all", "hem"))


MEMBERS = {
    "one": calling([0, 0, 1, 1]),
    "two": calling([0, 1, 0, 1]),
    "three": calling([0, 1, 0, 0]),
}


def described(rule: str, weights=None) -> dict:
    row = RULES[rule]
    return {
        "rule": rule, "title": row.title, "equation": row.equation, "members": list(MEMBERS),
        "weights": weights, "decided_by": "", "tie_note": "",
    }  # fmt: skip


def scored(rule="majority_vote", members=MEMBERS, weights=None):
    ensemble = combine_predictions(list(members.values()), rule, weights)
    metrics = ["accuracy", "roc_auc"]
    return score_ensemble(Scorer(ensemble, resamples=100), members, described(rule, weights), metrics)


def test_votes_count_how_many_members_are_right_on_each_image():
    ensemble = combine_predictions(list(MEMBERS.values()), "majority_vote")
    votes = count_right(ensemble, list(MEMBERS.values()))
    # Image 0 by all three, image 3 by two, images 1 and 2 by one: the vote is right on the first two.
    assert [(v.right, v.images, v.ensemble_right) for v in votes] == [
        (0, 0, 0),
        (1, 2, 0),
        (2, 1, 1),
        (3, 1, 1),
    ]


def test_agreement_is_the_share_of_equal_calls():
    expected = [[1, 0.5, 0.25], [0.5, 1, 0.75], [0.25, 0.75, 1]]
    np.testing.assert_allclose(agreement(list(MEMBERS.values())), expected)


def test_scores_of_members_and_their_paired_differences():
    found = scored()
    assert {name: each["accuracy"].value for name, each in found.members.items()} == {
        "one": 1.0,
        "two": 0.5,
        "three": 0.25,
    }
    assert found.ensemble["accuracy"].value == 0.5
    assert found.differences["one"].difference == pytest.approx(-0.5)
    assert found.differences["three"].difference == pytest.approx(0.25)
    json.dumps(found.to_json(), allow_nan=False)


def test_curves_of_a_vote_come_from_mean_probabilities_and_decisions_from_the_vote():
    members = list(MEMBERS.values())
    ensemble = combine_predictions(members, "majority_vote")
    curves = for_curves(ensemble, members, "majority_vote")
    np.testing.assert_allclose(curves.probabilities, np.mean([m.probabilities for m in members], axis=0))
    np.testing.assert_array_equal(curves.decisions, ensemble.decisions)
    assert scored().ensemble["roc_auc"].value == pytest.approx(METRICS["roc_auc"](curves))
    average = combine_predictions(members, "average")
    assert for_curves(average, members, "average") is average


def test_growth_is_shown_from_five_members_in_the_given_order():
    assert scored().first == {}
    five = MEMBERS | {"four": calling([0, 0, 1, 1]), "five": calling([0, 0, 1, 1])}
    found = scored(members=five)
    assert {size: interval.value for size, interval in found.first.items()} == {3: 0.5, 5: 1.0}


def test_growing_ensembles_are_of_the_first_and_odd_members():
    """Nine voters whose vote changes its mind at the fourth: as in Chen et al. 2021, the first k vote."""
    nine = {f"m{k}": calling([0, 0, 1, 1] if k < 3 else [1, 1, 0, 0]) for k in range(9)}
    values = {size: found.value for size, found in scored(members=nine).first.items()}
    assert values == {3: 1.0, 5: 1.0, 7: 0.0, 9: 0.0}
    eight = dict(list(nine.items())[:8])
    assert list(scored("average", eight).first) == [3, 5, 7]
    weighted = scored("weighted_average", dict(list(nine.items())[:5]), [1, 1, 2, 9, 9]).first
    assert {size: found.value for size, found in weighted.items()} == {3: 1.0, 5: 0.0}


@pytest.mark.parametrize(
    ("rule", "weights"), [("majority_vote", None), ("weighted_average", [0.5, 0.3, 0.2])]
)
def test_the_section_holds_every_member_and_warns_of_weights_from_the_scored_images(rule, weights):
    found = scored(rule, weights=weights)
    section = render_section(
        "ensemble", found=found, titles={name: name for name in found.ensemble}, mean_agreement=0.5, chosen_on_scored=bool(weights)
    )  # fmt: skip
    rows = texts(read_tables(section.body)["Members and ensemble"])[1:]
    assert [row[0] for row in rows] == [*MEMBERS, "ensemble"]
    assert ("Weights chosen on the scored images" in section.body) is bool(weights)
    assert ("0.500" in [row[1] for row in rows]) is bool(weights)
