"""Scores of subgroups: each is the score of its images alone, with an interval over its own groups, or none."""

from __future__ import annotations

import numpy as np
import pytest

from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.subgroups import FEWEST_GROUPS, score_subgroups

METRICS = ["accuracy", "malignant_sensitivity", "roc_auc"]


def make_scorer(groups: int = 24, images: int = 8) -> tuple[Scorer, np.ndarray]:
    """Images of two classes, and the site of each: of each patient one, the first half of them A."""
    draws, count = np.random.default_rng(3), groups * images
    patients = np.repeat(np.arange(groups), images)
    labels = patients % 2
    shares = np.clip(draws.normal(np.where(labels == 0, 0.65, 0.35), 0.2), 0.01, 0.99)
    names = np.array([f"p{n:02d}" for n in patients])
    record = Predictions(
        [f"{n}" for n in range(count)],
        names,
        names,
        labels,
        np.stack([shares, 1 - shares], 1),
        ("ALL", "HEM"),
    )
    return Scorer(record, ["ALL"], resamples=400, seed=1), np.where(patients < groups // 2, "A", "B")


def test_a_subgroup_is_scored_as_its_images_alone_would_be():
    scorer, sites = make_scorer()
    (found,) = score_subgroups(scorer, {"site": sites}, METRICS)
    assert [row.value for row in found.rows] == ["A", "B"]
    for row in found.rows:
        alone = scorer.of(scorer.predictions.take(sites == row.value)).intervals(METRICS)
        assert row.intervals == alone
        assert row.groups == 12
        assert row.too_few == ""
    assert sum(row.images for row in found.rows) == len(scorer.predictions)


def test_its_interval_is_over_its_own_groups_and_wider_than_that_of_all():
    scorer, sites = make_scorer()
    (found,) = score_subgroups(scorer, {"site": sites}, ["accuracy"])
    whole = scorer.interval("accuracy")
    assert whole.groups == 24
    for row in found.rows:
        assert row.intervals["accuracy"].groups == 12
        assert row.intervals["accuracy"].high - row.intervals["accuracy"].low > whole.high - whole.low


def test_too_few_groups_have_a_value_but_no_interval_and_it_is_said():
    scorer, _ = make_scorer()
    first = np.char.add("p0", [f"{n}" for n in range(FEWEST_GROUPS - 1)])
    sites = np.where(np.isin(scorer.predictions.groups, first), "small", "large")
    (found,) = score_subgroups(scorer, {"site": sites}, ["accuracy"])
    large, small = found.rows
    assert small.intervals["accuracy"].value is not None
    assert small.intervals["accuracy"].low is small.intervals["accuracy"].high is None
    assert "too few" in small.intervals["accuracy"].note
    assert "no interval" in small.too_few
    assert large.too_few == ""
    assert large.intervals["accuracy"].low is not None


def test_what_is_not_known_is_a_subgroup_of_its_own_and_stands_last():
    scorer, sites = make_scorer()
    (found,) = score_subgroups(scorer, {"site": np.where(sites == "A", "", "Z")}, ["accuracy"])
    assert [row.value for row in found.rows] == ["Z", ""]


def test_a_score_that_is_not_defined_in_a_subgroup_is_none_and_not_zero():
    scorer, _ = make_scorer()
    classes = np.array(scorer.predictions.classes)[scorer.predictions.labels]
    (found,) = score_subgroups(scorer, {"class": classes}, METRICS)
    benign = found.rows[1]
    assert benign.value == "HEM"
    assert benign.intervals["malignant_sensitivity"].value is None
    assert "not defined" in benign.intervals["malignant_sensitivity"].note
    assert benign.intervals["accuracy"].value == pytest.approx(
        np.mean((scorer.predictions.decisions == 1)[scorer.predictions.labels == 1])
    )


def test_areas_of_a_vote_are_those_of_its_graded_probabilities():
    scorer, sites = make_scorer()
    votes = np.eye(2)[scorer.predictions.decisions]
    graded = scorer.predictions
    voting = Scorer(
        Predictions(graded.ids, graded.subjects, graded.groups, graded.labels, votes, graded.classes),
        ["ALL"], resamples=200, graded=graded,
    )  # fmt: skip
    (found,) = score_subgroups(voting, {"site": sites}, ["roc_auc"])
    of_votes = voting.of(voting.predictions.take(sites == "A")).intervals(["roc_auc"])["roc_auc"].value
    of_graded = scorer.of(graded.take(sites == "A")).intervals(["roc_auc"])["roc_auc"].value
    assert found.rows[0].intervals["roc_auc"].value == of_graded != of_votes
