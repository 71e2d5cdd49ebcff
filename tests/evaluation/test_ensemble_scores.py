"""An ensemble beside its members: worked numbers, and the section that shows them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from page_tables import read_tables, texts

from kerasall.evaluation.curves import GRID, roc_curves, roc_lines
from kerasall.evaluation.ensemble_rules import RULES, WEIGHT_METRICS, combine_predictions, member_weights
from kerasall.evaluation.ensemble_scores import (
    WEIGHTINGS,
    agreement,
    count_right,
    for_curves,
    put_right,
    score_ensemble,
    weigh,
)
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import METRICS, confusion_matrix
from kerasall.evaluation.predictions import Predictions
from kerasall.report.page import render_section
from kerasall.report.pages.run_members import choose_beside, list_parts

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


def accuracies(parts) -> dict:
    return {key: part.intervals["accuracy"].value for key, part in parts.items()}


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
    assert {name: each.intervals["accuracy"].value for name, each in found.members.items()} == {
        "one": 1.0,
        "two": 0.5,
        "three": 0.25,
    }
    assert found.ensemble.intervals["accuracy"].value == 0.5
    assert found.differences["one"].difference == pytest.approx(-0.5)
    assert found.differences["three"].difference == pytest.approx(0.25)
    json.dumps(found.to_json(), allow_nan=False)


def test_curves_of_a_vote_come_from_mean_probabilities_and_decisions_from_the_vote():
    members = list(MEMBERS.values())
    ensemble = combine_predictions(members, "majority_vote")
    curves = for_curves(ensemble, members, "majority_vote")
    np.testing.assert_allclose(curves.probabilities, np.mean([m.probabilities for m in members], axis=0))
    np.testing.assert_array_equal(curves.decisions, ensemble.decisions)
    assert scored().ensemble.intervals["roc_auc"].value == pytest.approx(METRICS["roc_auc"](curves))
    average = combine_predictions(members, "average")
    assert for_curves(average, members, "average") is average


def test_growth_is_shown_from_five_members_in_the_given_order():
    assert scored().first == {}
    five = MEMBERS | {"four": calling([0, 0, 1, 1]), "five": calling([0, 0, 1, 1])}
    found = scored(members=five)
    assert accuracies(found.first) == {3: 0.5, 5: 1.0}


def test_growing_ensembles_are_of_the_first_and_odd_members():
    """Nine voters whose vote changes its mind at the fourth: as in Chen et al. 2021, the first k vote."""
    nine = {f"m{k}": calling([0, 0, 1, 1] if k < 3 else [1, 1, 0, 0]) for k in range(9)}
    assert accuracies(scored(members=nine).first) == {3: 1.0, 5: 1.0, 7: 0.0, 9: 0.0}
    eight = dict(list(nine.items())[:8])
    assert list(scored("average", eight).first) == [3, 5, 7]
    weighted = scored("weighted_average", dict(list(nine.items())[:5]), [1, 1, 2, 9, 9]).first
    assert accuracies(weighted) == {3: 1.0, 5: 0.0}


def unsure(seed: int, skill: float, count=60) -> Predictions:
    """Predictions of images of ten patients, right where chance and ``skill`` will."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) // 6 % 2
    malignant = np.clip(rng.normal(np.where(labels == 0, skill, 1 - skill), 0.25), 0.01, 0.99)
    ids, groups = [f"i{k}" for k in range(count)], [f"p{k // 6}" for k in range(count)]
    return Predictions(ids, groups, groups, labels, np.stack([malignant, 1 - malignant], 1), ("all", "hem"))


FIVE = {name: unsure(seed, 0.65 + seed / 40) for seed, name in enumerate("abcde")}


def scored_as_weighed(metric: str, **options):
    ensemble = weigh(list(FIVE.values()), list(FIVE.values()), metric, options.get("folds", ()))
    weights = member_weights(list(FIVE.values()), metric).tolist()
    metrics = ["accuracy", "f1_weighted", "roc_auc", "malignant_sensitivity"]
    return score_ensemble(
        Scorer(ensemble, ["all"], 100), FIVE, described("weighted_average", weights), metrics,
        deciding=list(FIVE.values()), **options,
    )  # fmt: skip


def test_every_part_is_scored_by_all_that_the_ensemble_is_scored_by():
    found = scored_as_weighed("kappa")
    parts = [*found.members.values(), *found.first.values(), *(w.scores for w in found.weightings.values())]
    assert len(parts) == 5 + 2 + 3
    for part in parts:
        assert list(part.intervals) == list(found.ensemble.intervals)
        accuracy = np.trace(part.confusion) / part.confusion.sum()
        assert part.intervals["accuracy"].value == pytest.approx(accuracy)
        sensitivity = part.by_class["all"]["recall"]
        assert sensitivity == part.intervals["malignant_sensitivity"]
        assert np.trapezoid(part.roc["all"], GRID) == pytest.approx(part.intervals["roc_auc"].value, abs=0.01)
    np.testing.assert_array_equal(found.members["b"].confusion, confusion_matrix(FIVE["b"]))
    document = found.to_json()["parts"]
    assert document["members"]["b"]["confusion_matrix"] == found.members["b"].confusion.tolist()
    assert len(document["false_positive_rates"]) == len(document["first"]["3"]["roc"]["all"])
    assert document["ensemble"]["roc"] == document["first"]["5"]["roc"]
    json.dumps(document, allow_nan=False)


def test_the_lines_of_parts_are_the_curves_of_reports():
    scorer = Scorer(FIVE["c"], ["all"], 100)
    (curve,) = roc_curves(scorer)
    np.testing.assert_array_equal(roc_lines(scorer)["all"], curve.y)


@pytest.mark.parametrize("metric", WEIGHTINGS)
def test_the_weighting_of_the_ensemble_itself_gives_the_ensemble_and_all_five_of_five_too(metric):
    found = scored_as_weighed(metric)
    for other in (found.weightings[metric].scores, found.first[5]):
        assert other.intervals == found.ensemble.intervals
        np.testing.assert_array_equal(other.confusion, found.ensemble.confusion)
    expected = [METRICS[WEIGHT_METRICS[metric]](each) for each in FIVE.values()]
    assert found.weightings[metric].weights == pytest.approx(expected)
    assert scored("average", FIVE).weightings == {}


def test_out_of_fold_a_fold_is_weighed_by_the_others():
    members, folds = list(FIVE.values()), [[f"i{k}" for k in range(30)], [f"i{k}" for k in range(30, 60)]]
    found = weigh(members, members, "kappa", folds)
    first, second = (np.isin(members[0].ids, fold) for fold in folds)
    fitted = member_weights([each.take(second) for each in members], "kappa")
    expected = combine_predictions([each.take(first) for each in members], "weighted_average", fitted)
    np.testing.assert_allclose(found.probabilities[:30], expected.probabilities)
    assert not np.allclose(found.probabilities, weigh(members, members, "kappa").probabilities)


def test_a_weighting_that_is_not_defined_says_why():
    coin = calling([0, 1, 0, 1])  # no better than chance: a kappa of 0 is no weight
    members = MEMBERS | {"coin": coin}
    ensemble = combine_predictions(list(members.values()), "weighted_average", [1, 1, 1, 1])
    found = score_ensemble(
        Scorer(ensemble, resamples=100), members, described("weighted_average", [1, 1, 1, 1]), ["accuracy"],
        deciding=list(members.values()),
    )  # fmt: skip
    assert found.weightings["kappa"].scores is None
    assert "must score above 0" in found.weightings["kappa"].to_json()["not_made"]
    assert found.weightings["f1"].scores is not None


def test_a_page_shows_each_part_once_and_the_ensemble_last():
    """All five of five, and the members weighed as the ensemble weighs them, are the ensemble itself."""
    names = [part.name for part in list_parts(scored_as_weighed("auc"))]
    assert names == [*"abcde", "first 3", "weighed by f1", "weighed by kappa", "ensemble"]


def test_a_members_gallery_begins_with_what_the_ensemble_puts_right():
    member, ensemble = FIVE["a"], FIVE["e"]
    mended = put_right(member, ensemble).tolist()
    assert mended
    assert not member.right[mended].any()
    assert ensemble.right[mended].all()
    assert (np.diff(member.confidences[mended]) <= 0).all()
    shown = choose_beside(member, ensemble, 8, seed=0)
    assert shown[:4] == (mended + shown)[:4]
    assert len(shown) == 8
    assert member.right[shown[4:]].all()


@pytest.mark.parametrize(
    ("rule", "weights"), [("majority_vote", None), ("weighted_average", [0.5, 0.3, 0.2])]
)
def test_the_section_holds_every_member_and_warns_of_weights_from_the_scored_images(rule, weights):
    found = scored(rule, weights=weights)
    section = render_section(
        "ensemble", found=found, title_of_main="Accuracy", mean_agreement=0.5, chosen_on_scored=bool(weights)
    )  # fmt: skip
    rows = texts(read_tables(section.body)["Members and ensemble"])[1:]
    assert [row[0] for row in rows] == [*MEMBERS, "ensemble"]
    assert ("Weights chosen on the scored images" in section.body) is bool(weights)
    assert ("0.500" in [row[1] for row in rows]) is bool(weights)
