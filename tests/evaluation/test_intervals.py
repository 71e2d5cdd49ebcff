"""Intervals: they hold the truth as often as they say, stay in range, and say what they rest on."""

from __future__ import annotations

import runpy
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from kerasall.errors import SettingsError
from kerasall.evaluation.intervals import (
    GROUPS,
    IMAGES,
    WILSON,
    Scorer,
    list_notes,
    ratio_interval,
    wilson_interval,
)
from kerasall.evaluation.metrics import METRICS, confusion_matrix, find_metric
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import (
    MOST_UNITS,
    Draws,
    Resampler,
    draw_weights,
    find_units,
    pairs_won,
    unit_counts,
)


def make_predictions(labels, groups, decisions, classes=2, probabilities=None, subjects=None) -> Predictions:
    count = len(labels)
    sure = np.full((count, classes), 0.2 / classes)
    sure[np.arange(count), decisions] += 0.8
    return Predictions(
        np.arange(count).astype(str),
        np.asarray(groups, dtype=str) if subjects is None else subjects,
        groups,
        labels,
        sure if probabilities is None else probabilities,
        tuple("abcdef"[:classes]),
        decisions,
    )


def simulate(seed: int, groups: int, classes: int = 2, spread=(2.5, 0.5), size: int = 80) -> Predictions:
    """Groups of one class each, uneven in size and accuracy."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(groups) % classes
    sizes = np.clip(np.exp(rng.normal(np.log(size), 1, groups)), 5, 750).astype(int)
    group = np.repeat(np.arange(groups), sizes)
    labels = kinds[group]
    right = rng.random(len(group)) < rng.beta(*spread, groups)[group]
    decisions = np.where(right, labels, (labels + rng.integers(1, classes, len(group))) % classes)
    mixed = 0.4 * rng.dirichlet(np.ones(classes), len(group)) + 0.6 * np.eye(classes)[decisions]
    return make_predictions(labels, group.astype(str), decisions, classes, mixed)


def coverage(groups: int, simulations: int, metrics=("accuracy", "balanced_accuracy", "f1_weighted")) -> dict:
    """Share of simulated data sets whose interval holds the truth; accuracy of a group is beta(2.5, 0.5)."""
    hits = dict.fromkeys(metrics, 0)
    share = 2.5 / 3
    truth = np.array([[share, 1 - share], [1 - share, share]])
    for seed in range(simulations):
        intervals = Scorer(simulate(seed, groups), resamples=500, seed=seed).intervals(metrics)
        for name, interval in intervals.items():
            hits[name] += interval.low <= METRICS[name].formula(truth, np.zeros(2, bool)) <= interval.high
    return {name: count / simulations for name, count in hits.items()}


def test_coverage_of_28_groups_in_few_simulations():
    # The seeds are fixed; plain percentiles hold the truth in 0.88 of these data sets.
    assert min(coverage(28, 120).values()) >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("groups", [28, 73])
def test_coverage_reaches_the_bar(groups):
    assert min(coverage(groups, 1000).values()) >= 0.93


@pytest.mark.parametrize("name", [n for n in METRICS if not n.startswith("malignant")])
@pytest.mark.parametrize("classes", [2, 4])
def test_ends_lie_in_range_around_the_value(name, classes):
    predictions = simulate(1, 24 * classes, classes)
    interval = Scorer(predictions, resamples=300).interval(name)
    assert interval.value == pytest.approx(METRICS[name](predictions))
    assert METRICS[name].lowest <= interval.low < interval.value < interval.high <= METRICS[name].highest
    assert (interval.method, interval.groups, interval.note) == (GROUPS, 24 * classes, "")


def test_weighted_scores_equal_scores_of_repeated_images():
    """Whole-number weights without unseen groups: the same as scoring each group's images repeatedly."""
    predictions = simulate(3, 9, 3, size=15)
    units, rng = find_units(predictions), np.random.default_rng(0)
    weights = rng.integers(1, 4, (5, 9)).astype(float)
    resampler = Resampler(predictions, units, Draws(weights, np.zeros((5, 3))), malignant=("b", "c"))
    for metric in METRICS.values():
        if metric.name == "malignant_called_benign":
            continue
        low, high = resampler.score(metric)
        assert low == pytest.approx(high)
        for draw, value in zip(weights, low, strict=True):
            rows = np.repeat(np.arange(len(predictions)), draw[units.rows].astype(int))
            repeated = Predictions(
                np.arange(len(rows)).astype(str), predictions.subjects[rows], predictions.groups[rows],
                predictions.labels[rows], predictions.probabilities[rows], predictions.classes,
                predictions.decisions[rows],
            )  # fmt: skip
            assert value == pytest.approx(metric(repeated, ("b", "c")), abs=1e-9), metric.name


def test_pairs_won_sum_to_the_area():
    predictions = simulate(4, 12)
    units, positive = find_units(predictions), predictions.labels == 1
    scores = np.round(predictions.probabilities[:, 1], 1)  # ties
    area = pairs_won(scores, positive, units).sum() / (positive.sum() * (~positive).sum())
    assert area == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_clopper_pearson_is_the_case_of_one_unseen_group_and_all_or_nothing_groups():
    """The theory behind the unseen group: 30 groups of one class, 27 wholly right, 3 wholly wrong."""
    groups = np.repeat(np.arange(30), 20)
    decisions = (groups >= 27).astype(int)
    predictions = make_predictions(np.zeros(600, int), groups.astype(str), decisions)
    units = find_units(predictions)
    low, high = Resampler(predictions, units, draw_weights(units, 100_000, 0, unseen=1.0)).score(
        METRICS["accuracy"]
    )
    expected = betaincinv(27, 4, 0.025), betaincinv(28, 3, 0.975)
    assert np.quantile(low, 0.025) == pytest.approx(expected[0], abs=0.004)
    assert np.quantile(high, 0.975) == pytest.approx(expected[1], abs=0.004)


@pytest.mark.parametrize("classes", [1, 2])
def test_the_grid_of_the_benchmark_simulates_these_intervals(classes):
    """Its groups are counts alone, many data sets at a time; the ends are those of the package."""
    grid = SimpleNamespace(
        **runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "interval_coverage.py"))
    )
    cell = grid.Cell(4, 0.8, "clustered", True, classes)
    rights, sizes = cell.draw(3)
    low, high = grid.grid_ends(rights, sizes, cell.strata, 400, seed=5)["ours"]
    for row, (right, size) in enumerate(zip(rights.astype(int), sizes.astype(int), strict=True)):
        labels = np.repeat(cell.strata, size)
        names = np.repeat([f"{k:03d}" for k in range(len(size))], size)
        decided = np.concatenate([np.arange(n) < r for r, n in zip(right, size, strict=True)])
        predictions = make_predictions(labels, names, np.where(decided, labels, 1 - labels))
        found = Scorer(predictions, resamples=400, seed=5).interval("accuracy")
        assert (found.low, found.high) == pytest.approx((low[row], high[row]), abs=1e-12)


def test_order_of_images_does_not_matter_and_the_seed_decides():
    predictions = simulate(5, 20)
    shuffled = predictions.take(np.random.default_rng(0).permutation(len(predictions)))
    first = Scorer(predictions, seed=3).interval("f1_weighted")
    second = Scorer(shuffled, seed=3).interval("f1_weighted")
    assert (second.low, second.high) == pytest.approx((first.low, first.high), abs=1e-12)
    assert Scorer(predictions, seed=3).interval("f1_weighted") == first
    assert Scorer(predictions, seed=4).interval("f1_weighted").low != first.low


def test_neither_the_order_of_groups_nor_their_images_matter():
    """Groups under other names are drawn in another order: no end moves by more than another seed moves it."""
    predictions = simulate(5, 40)
    names = ["accuracy", "f1_macro", "cohen_kappa", "roc_auc", "brier", "precision:b"]
    renamed = np.array([f"{9_999 - int(name)}" for name in predictions.groups])
    other = replace(predictions, subjects=renamed, groups=renamed)
    shuffled = other.take(np.random.default_rng(1).permutation(len(other)))
    first, second, third = (Scorer(each).intervals(names) for each in (predictions, other, shuffled))
    for name in names:
        width = first[name].high - first[name].low
        assert (third[name].low, third[name].high) == pytest.approx(
            (second[name].low, second[name].high), abs=1e-12
        )
        assert second[name].low == pytest.approx(first[name].low, abs=0.06 * width), name
        assert second[name].high == pytest.approx(first[name].high, abs=0.06 * width), name


def test_a_brier_score_of_two_classes_has_no_end_above_one():
    labels, names = np.repeat([0, 1], 20), np.repeat(np.arange(8), 5).astype(str)
    sure = make_predictions(labels, names, 1 - labels, probabilities=np.eye(2)[1 - labels])
    found = Scorer(sure, resamples=200).interval("brier")
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 1


def test_f1_tells_the_groups_that_its_denominator_holds():
    """3 groups of b, one more called b; 29 that have nothing to do with it."""
    labels, groups = np.repeat([1, 0], [30, 300]), np.repeat(np.arange(33), 10).astype(str)
    found = Scorer(
        make_predictions(labels, groups, np.where(groups == "32", 1, labels)), ("b",), resamples=200
    )
    f1 = found.interval("f1:b")
    assert f1.groups == 4
    assert "only 4 groups have images of b or called b: the interval is rough" in f1.note
    assert found.interval("f1:a").groups == 30


def test_scores_of_images_apart_have_a_distance_with_an_interval():
    here, there = simulate(5, 20), simulate(6, 40)
    there = replace(
        there, groups=np.char.add("other ", there.groups), subjects=np.char.add("other ", there.subjects)
    )
    one, two = Scorer(here, resamples=2000), Scorer(there, resamples=2000)
    far, back = one.distance_from(two, "accuracy"), two.distance_from(one, "accuracy")
    value = one.interval("accuracy").value - two.interval("accuracy").value
    assert (far.value, far.groups, far.method) == (pytest.approx(value), 60, GROUPS)
    assert far.low < value < far.high
    assert (-back.high, -back.low) == pytest.approx((far.low, far.high), abs=0.02)
    widths = [each.interval("accuracy").high - each.interval("accuracy").low for each in (one, two)]
    assert max(widths) < far.high - far.low < sum(widths)
    shared = one.distance_from(one, "accuracy")
    assert (shared.value, shared.low, shared.note) == (
        0.0,
        None,
        "some groups have images among both: no interval",
    )
    nothing = Scorer(here.take(here.labels == 0), resamples=200).distance_from(two, "balanced_accuracy")
    assert (nothing.value, nothing.note) == (None, "one of the scores is not defined")


def test_a_resampled_interval_is_wider_than_one_of_images():
    predictions = simulate(6, 28)
    grouped = Scorer(predictions).interval("accuracy")
    alone = np.arange(len(predictions)).astype(str)
    ungrouped = make_predictions(
        predictions.labels, alone, predictions.decisions, subjects=np.full(len(predictions), "")
    )
    single = Scorer(ungrouped).interval("accuracy")
    assert single.method == WILSON
    assert "groups are unknown" in single.note
    assert (single.low, single.high) == pytest.approx(
        proportion_confint(
            (predictions.labels == predictions.decisions).sum(), len(predictions), method="wilson"
        )
    )
    assert grouped.high - grouped.low > 3 * (single.high - single.low)
    kappa = Scorer(ungrouped).interval("cohen_kappa")
    assert kappa.method == IMAGES
    assert kappa.low < kappa.value < kappa.high


def test_wilson_of_31_in_32_and_of_all_in_all():
    assert wilson_interval(31, 32) == pytest.approx(proportion_confint(31, 32, method="wilson"))
    assert wilson_interval(32, 32) == pytest.approx(proportion_confint(32, 32, method="wilson"))
    assert wilson_interval(0, 5)[0] == 0.0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=6),
        min_size=2,
        max_size=9,
    ),
    st.integers(0, 10_000),
    st.integers(1, 2),
)
def test_one_more_error_raises_no_end(groups, which, step):
    """Groups of images (label, decision), of one class or several; a right image is decided wrongly."""
    labels, decisions = (np.array([image[k] for group in groups for image in group]) for k in (0, 1))
    right = np.flatnonzero(labels == decisions)
    if not len(right):
        return
    names = np.repeat(np.arange(len(groups)), [len(group) for group in groups]).astype(str)
    wrong = decisions.copy()
    wrong[right[which % len(right)]] = (labels[right[which % len(right)]] + step) % 3
    kinds = ("recall", "precision", "specificity", "f1")
    metrics = [
        "accuracy",
        "malignant_sensitivity",
        "malignant_specificity",
        *MACRO,
        *(f"{kind}:{c}" for kind in kinds for c in "abc"),
    ]
    before, after = (
        Scorer(make_predictions(labels, names, each, 3), ("b",), resamples=200).intervals(metrics)
        for each in (decisions, wrong)
    )
    for metric in metrics:
        if before[metric].value is not None and after[metric].value is not None:
            assert after[metric].low <= before[metric].low + 1e-12, metric
            assert after[metric].high <= before[metric].high + 1e-12, metric


MACRO = (
    "balanced_accuracy",
    "recall_weighted",
    "recall_macro",
    "f1_macro",
    "f1_weighted",
    "specificity_macro",
)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(0, 10_000), st.integers(1, 3))
def test_one_more_error_raises_no_end_of_agreement_beyond_chance(seed, which, step):
    """Kappa and MCC of four classes; the count of missed malignant images never falls."""
    predictions = simulate(seed, 9, 4, spread=(8.0, 2.0), size=12)
    right = np.flatnonzero(predictions.right)
    row, wrong = right[which % len(right)], predictions.decisions.copy()
    wrong[row] = (wrong[row] + step) % 4
    names = ["cohen_kappa", "mcc", "malignant_called_benign"]
    before, after = (
        Scorer(replace(predictions, decisions=each), ("b", "c"), resamples=200).intervals(names)
        for each in (predictions.decisions, wrong)
    )
    for name in names:
        sign = -1 if name == "malignant_called_benign" else 1
        if sign * after[name].value <= sign * before[name].value:
            assert sign * after[name].low <= sign * before[name].low + 1e-12, name
            assert sign * after[name].high <= sign * before[name].high + 1e-12, name


@pytest.mark.parametrize("missed", [1, 3, 40, 100])
def test_a_miss_never_blesses_three_perfect_groups(missed):
    """3 malignant groups of 40: with 0 of 120 missed the lower end is what three groups can show, and no more below."""
    labels, groups = np.repeat([1, 0], [120, 1200]), np.repeat(np.arange(33), 40).astype(str)
    decisions = labels.copy()
    perfect = Scorer(make_predictions(labels, groups, decisions), ("b",)).interval("malignant_sensitivity")
    decisions[np.arange(missed) * 120 // missed] = 0
    found = Scorer(make_predictions(labels, groups, decisions), ("b",)).interval("malignant_sensitivity")
    # 1 - the 97.5% point of beta(1/2, 3): the unseen half group's share.
    assert perfect.low == pytest.approx(1 - betaincinv(0.5, 3, 0.975), abs=0.02)
    assert found.low < perfect.low


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(0, 10_000), st.floats(0.01, 0.9))
def test_a_worse_probability_improves_no_end(seed, which, share):
    predictions = simulate(seed, 7, 2, size=8)
    row, worse = which % len(predictions), predictions.probabilities.copy()
    moved = share * worse[row, predictions.labels[row]]
    worse[row, predictions.labels[row]] -= moved
    worse[row, 1 - predictions.labels[row]] += moved
    before, after = (
        Scorer(replace(predictions, probabilities=each), ("b",), resamples=200).intervals(
            ["roc_auc", "log_loss", "brier"]
        )
        for each in (predictions.probabilities, worse)
    )
    for name, sign in (("roc_auc", -1), ("log_loss", 1), ("brier", 1)):
        assert sign * (after[name].low - before[name].low) >= -1e-12, name
        assert sign * (after[name].high - before[name].high) >= -1e-12, name


@pytest.mark.parametrize(
    "name", ["accuracy", "balanced_accuracy", "f1_macro", "cohen_kappa", "mcc", "roc_auc"]
)
def test_all_right_gives_a_lower_end_that_an_unseen_group_could_reach(name):
    labels = np.repeat([0, 1], 300)
    predictions = make_predictions(labels, np.repeat(np.arange(30), 20).astype(str), labels)
    interval = Scorer(predictions).interval(name)
    assert interval.value == interval.high == 1.0
    assert 0.7 < interval.low < 0.97  # the rule of three on 30 groups gives 0.90
    assert "no group has a fault" in interval.note


def test_few_groups_and_lone_groups_are_noted():
    few = Scorer(simulate(7, 12)).interval("accuracy")
    assert "fewer than 20 groups (12): the interval is rough" in few.note
    labels = np.r_[np.zeros(200, int), np.ones(10, int)]
    groups = np.r_[np.repeat(np.arange(20), 10), np.full(10, 99)].astype(str)
    rng = np.random.default_rng(0)
    lone = make_predictions(labels, groups, np.where(rng.random(210) < 0.8, labels, 1 - labels))
    interval = Scorer(lone).interval("balanced_accuracy")
    assert "only one group of b" in interval.note
    # Nothing is known of how such groups differ, so the interval is wide.
    assert interval.high - interval.low > 0.15


def test_each_figure_counts_the_groups_in_its_denominator():
    """3 malignant groups beside 30 benign ones; one benign group is called malignant."""
    labels, groups = np.repeat([1, 0], [30, 300]), np.repeat(np.arange(33), 10).astype(str)
    decisions = np.where(groups == "32", 1, labels)
    scorer = Scorer(make_predictions(labels, groups, decisions), ("b",), resamples=200)
    found = scorer.intervals(
        ["accuracy", "balanced_accuracy", "malignant_sensitivity", "recall:a", "precision:b"]
    )
    assert {name: each.groups for name, each in found.items()} == {
        "accuracy": 33, "balanced_accuracy": 33, "malignant_sensitivity": 3, "recall:a": 30, "precision:b": 4,
    }  # fmt: skip
    assert "only 3 groups have images of b: the interval is rough" in found["malignant_sensitivity"].note
    assert "only 4 groups have images called b" in found["precision:b"].note
    assert "few groups (3 of b)" in found["balanced_accuracy"].note
    assert (found["accuracy"].note, found["recall:a"].note) == ("", "")
    notes = list_notes(found.values())
    assert len(notes) == len(set(notes)) >= 4
    assert scorer.by_class()["b"]["precision"] == found["precision:b"]


def test_blocks_of_file_numbers_are_no_patients():
    found = Scorer(simulate(1, 40), resamples=200, blocks=True).interval("accuracy")
    assert "no patient is named" in found.note


def test_an_undefined_score_has_no_interval_but_a_reason():
    predictions = simulate(8, 6, 2)
    only = predictions.take(predictions.labels == 0)
    interval = Scorer(only).interval("balanced_accuracy")
    assert (interval.value, interval.low, interval.high) == (None, None, None)
    assert "no image is labelled b" in interval.note
    empty = predictions.take(np.zeros(len(predictions), bool))
    assert Scorer(empty).interval("accuracy").note == "there are no images"


def test_malignant_called_benign_counts_images():
    predictions = simulate(9, 40, 4)
    malignant = ("b", "c", "d")
    both = Scorer(predictions, malignant).intervals(["malignant_sensitivity", "malignant_called_benign"])
    missed, share = both["malignant_called_benign"], both["malignant_sensitivity"]
    images = np.isin(predictions.labels, [1, 2, 3]).sum()
    assert missed.value == (np.isin(predictions.labels, [1, 2, 3]) & (predictions.decisions == 0)).sum()
    assert missed.low == np.floor(images * (1 - share.high))
    assert missed.low <= missed.value <= missed.high <= images
    assert Scorer(predictions, malignant).interval("malignant_sensitivity") == share


def test_scores_of_one_class_have_intervals():
    predictions = simulate(10, 30, 3)
    intervals = Scorer(predictions).intervals(["recall:a", "precision:b", "f1:c", "specificity:a"])
    for name, interval in intervals.items():
        assert 0 <= interval.low < find_metric(name, predictions.classes)(predictions) < interval.high <= 1


def test_subjects_with_several_classes_and_blank_groups_are_resampled():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 600)
    groups = np.where(rng.random(600) < 0.1, "", np.char.add("s", rng.integers(0, 25, 600).astype(str)))
    predictions = make_predictions(labels, groups, np.where(rng.random(600) < 0.8, labels, 0), 3)
    interval = Scorer(predictions).interval("f1_macro")
    assert interval.groups == 25 + 1  # whose the others are nobody knows
    assert interval.low < interval.value < interval.high


def test_many_groups_are_bundled_without_changing_the_interval_much():
    predictions = simulate(11, 3 * MOST_UNITS, 3, size=5)
    units = find_units(predictions)
    assert len(units.sizes) <= MOST_UNITS + 3
    assert units.groups == 3 * MOST_UNITS
    assert unit_counts(predictions, units).sum(axis=0) == pytest.approx(confusion_matrix(predictions))
    interval = Scorer(predictions).interval("accuracy")
    by_group = [
        (predictions.labels == predictions.decisions)[predictions.groups == g]
        for g in np.unique(predictions.groups)
    ]
    rights, sizes = np.array([b.sum() for b in by_group]), np.array([len(b) for b in by_group])
    residuals = rights - interval.value * sizes
    standard_error = np.sqrt((residuals**2).sum()) / sizes.sum()
    assert interval.high - interval.low == pytest.approx(3.92 * standard_error, rel=0.15)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=40),
    st.sampled_from(sorted(METRICS)),
)
def test_any_record_gives_an_interval_or_a_reason(images, name):
    """No warning, no NaN, value between the ends, on tiny and lopsided records too."""
    labels, decisions, groups = (np.array(column) for column in zip(*images, strict=True))
    predictions = make_predictions(labels, groups.astype(str), decisions, 3)
    interval = Scorer(predictions, ("b",), resamples=100).interval(name)
    if interval.value is None:
        assert interval.note.startswith("not defined")
    else:
        assert (
            METRICS[name].lowest <= interval.low <= interval.value <= interval.high <= METRICS[name].highest
        )


def test_settings_out_of_range_are_refused():
    refuse = partial(Scorer, simulate(0, 5))
    with pytest.raises(SettingsError, match="confidence"):
        refuse(confidence=95)
    with pytest.raises(SettingsError, match="resamples"):
        refuse(resamples=10)


def test_ten_thousand_images_take_seconds():
    predictions = simulate(12, 100, 4, size=70)
    started = time.perf_counter()
    Scorer(predictions, ("b",)).intervals(list(METRICS))
    assert time.perf_counter() - started < 10  # about 1 s on an idle core


def test_a_scorer_of_other_classes_forgets_the_malignant_ones_and_keeps_the_rest():
    scorer = Scorer(simulate(0, 8, 3), ("b",), resamples=200, seed=7, confidence=0.9)
    other = scorer.of(simulate(1, 8, 2))
    assert (other.malignant, other.resamples, other.seed, other.confidence) == ((), 200, 7, 0.9)
    assert scorer.of(simulate(1, 8, 3)).malignant == ("b",)


def test_metrics_of_probabilities_read_the_graded_record():
    decided = simulate(2, 20)
    graded = replace(decided, probabilities=decided.probabilities[:, ::-1])
    found = Scorer(decided, resamples=200, graded=graded).intervals(["roc_auc", "accuracy", "log_loss"])
    alone = Scorer(graded, resamples=200)
    assert list(found) == ["roc_auc", "accuracy", "log_loss"]
    assert found["roc_auc"] == alone.interval("roc_auc")
    assert found["log_loss"] == alone.interval("log_loss")
    assert found["accuracy"] == Scorer(decided, resamples=200).interval("accuracy")


def test_draws_are_kept_and_cannot_be_written_to():
    units = find_units(simulate(3, 12))
    draws = draw_weights(units, 100, 0)
    assert draw_weights(find_units(simulate(3, 12)), 100, 0) is draws
    assert draw_weights(units, 100, 1) is not draws
    with pytest.raises(ValueError, match="read-only"):
        draws.units[0] = 0


def test_a_ratio_of_right_images_over_images_has_the_interval_of_the_accuracy():
    found = simulate(3, 12)
    own = found.take(found.labels == 0)
    right = (own.decisions == own.labels).astype(float)
    expected = Scorer(own, seed=0).interval("accuracy")
    ratio = ratio_interval(right, np.ones(len(right)), list(own.group_names))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx(
        (expected.value, expected.low, expected.high), abs=1e-9
    )
    assert (ratio.groups, ratio.note) == (expected.groups, expected.note)


def test_a_ratio_counts_large_images_more_and_has_no_ends_without_groups():
    ratio = ratio_interval(np.array([1.0, 90]), np.array([10.0, 100]), ["a", "b"])
    assert ratio.value == pytest.approx(91 / 110)
    assert ratio.low < 0.1 < 0.9 < ratio.high <= 1
    alone = ratio_interval(np.array([1.0, 90]), np.array([10.0, 100]), ["a", "a"])
    assert (alone.value, alone.low, alone.high, alone.groups) == (pytest.approx(91 / 110), None, None, 1)
    assert ratio_interval(np.zeros(2), np.zeros(2), ["a", "b"]).value is None
