"""Comparisons of models against statsmodels, definitions and simulated nulls."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import cochrans_q
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from kerasall.errors import DataError
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.paired_tests import cochran_q, flip_p_value, holm, repeated_difference, sign_flips
from kerasall.evaluation.paired_tests import paired_difference as difference_of
from kerasall.evaluation.predictions import Predictions


def simulate_models(seed, models=2, groups=28, skill=(0.8, 0.8), digits=6) -> list[Predictions]:
    """Models that find the same groups hard, each group also having an effect of its own on each model."""
    rng = np.random.default_rng(seed)
    sizes = np.clip(np.exp(rng.normal(np.log(50), 1, groups)), 5, 300).astype(int)
    group = np.repeat(np.arange(groups), sizes)
    labels, hardness = group % 2, rng.normal(0, 0.8, groups)
    records = []
    for model in range(models):
        margin = (
            skill[model] * 2 + (hardness + rng.normal(0, 0.6, groups))[group] + rng.logistic(size=len(group))
        )
        positive = np.round(1 / (1 + np.exp(-np.where(labels == 1, margin, -margin))), digits)
        names = group.astype(str)
        probabilities = np.stack([1 - positive, positive], axis=1)
        records.append(
            Predictions(
                np.arange(len(group)).astype(str), names, names, labels, probabilities, ("hem", "all")
            )
        )
    return records


def paired_difference(first: Predictions, second: Predictions, metric: str):
    return difference_of(Scorer(first), second, metric)


def ungrouped(record: Predictions) -> Predictions:
    return replace(record, subjects=np.full(len(record), ""), groups=np.full(len(record), ""))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("named", [False, True])
def test_with_one_image_a_group_it_is_mcnemars_exact_test(seed, named):
    first, second = (ungrouped(record) for record in simulate_models(seed))
    if named:
        first, second = (
            replace(record, subjects=record.ids, groups=record.ids) for record in (first, second)
        )
    right = [r.labels == r.decisions for r in (first, second)]
    table = [
        [(right[0] & right[1]).sum(), (right[0] & ~right[1]).sum()],
        [(~right[0] & right[1]).sum(), (~right[0] & ~right[1]).sum()],
    ]
    ours = sign_flips(first, second)
    assert ours.p_value == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, rel=1e-9)
    assert ours.test == "McNemar, exact"
    assert ours.statistic == table[0][1] - table[1][0]
    assert ours.difference == pytest.approx(right[0].mean() - right[1].mean())
    assert ("independent" in ours.note) is not named


def test_published_numbers():
    """Fisher, The Design of Experiments, section 21: Darwin's 15 pairs of maize give 1,726 of 32,768 flips."""
    maize = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])
    assert flip_p_value(maize) == 1726 / 32768
    # Armitage and Berry 1994, p. 127: of 50 specimens 12 grew on the first medium only, 2 on the second only.
    assert flip_p_value(np.array([1] * 12 + [-1] * 2 + [0] * 36)) == pytest.approx(0.0129, abs=5e-5)


@pytest.mark.parametrize("seed", range(6))
def test_flips_equal_an_enumeration_of_all_of_them(seed):
    rng = np.random.default_rng(seed)
    net = rng.integers(-4 - 20 * (seed % 2), 6 + 20 * (seed % 2), 9)
    sums = [abs(np.dot(signs, net)) for signs in itertools.product((-1, 1), repeat=len(net))]
    assert flip_p_value(net) == pytest.approx(np.mean(np.array(sums) >= abs(net.sum())), rel=1e-12)
    assert flip_p_value(rng.permutation(net)) == flip_p_value(net) == flip_p_value(-net)


def test_many_groups_of_one_image_are_no_burden():
    net = np.repeat([1, -1], [30_400, 30_000])
    assert flip_p_value(net) == pytest.approx(binomtest(30_400, 60_400).pvalue, rel=1e-8)
    assert flip_p_value(np.zeros(5, int)) == 1


def test_few_groups_say_which_p_value_cannot_come_out():
    first, second = simulate_models(3, groups=4, skill=(3.0, 0.1))
    found = sign_flips(first, second)
    assert found.p_value == 0.125
    assert "differ in 4 groups: no p-value below 0.125 can come out" in found.note
    assert sign_flips(*simulate_models(3)).note == ""
    assert sign_flips(first, first).p_value == 1


@pytest.mark.parametrize("models", [2, 5])
def test_cochran_q_equals_statsmodels(models):
    records = simulate_models(1, models, skill=(0.8, 0.7, 0.8, 0.9, 0.8))
    expected = cochrans_q(np.stack([r.labels == r.decisions for r in records], axis=1).astype(int))
    ours = cochran_q(records)
    assert (ours.statistic, ours.p_value) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_holm_equals_statsmodels(seed):
    values = np.random.default_rng(seed).random(6) ** 3
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])
    assert holm([]) == []


@pytest.mark.parametrize("metric", ["accuracy", "f1_weighted", "roc_auc", "log_loss", "recall:all"])
def test_paired_difference_of_any_metric(metric):
    better, worse = simulate_models(3, groups=60, skill=(1.6, 0.6))
    forward, backward = paired_difference(better, worse, metric), paired_difference(worse, better, metric)
    assert forward.p_value < 0.01
    assert forward.low <= forward.difference <= forward.high
    assert (forward.low > 0) != (forward.high < 0)
    assert (backward.low, backward.high) == pytest.approx((-forward.high, -forward.low))
    assert backward.p_value == pytest.approx(forward.p_value)


def test_a_repeated_difference_is_the_mean_over_the_repetitions():
    first, second, third = simulate_models(7, models=3, skill=(1.2, 0.9, 0.6))
    scorer = Scorer(first)
    once = repeated_difference(scorer, [(first, second)], "roc_auc")
    assert once == paired_difference(first, second, "roc_auc")
    assert vars(repeated_difference(scorer, [(first, second)] * 3, "roc_auc")) == pytest.approx(vars(once))
    pairs = [(first, second), (first, third)]
    both = repeated_difference(scorer, pairs, "accuracy")
    single = [paired_difference(*pair, "accuracy") for pair in pairs]
    assert both.difference == pytest.approx(np.mean([each.difference for each in single]))
    # Of plain proportions the mean over repetitions is a mean over images: the jackknife by hand.
    gain = np.mean([a.right.astype(float) - b.right for a, b in pairs], axis=0)
    names, variance = np.unique(first.groups), 0.0
    for stratum in (0, 1):
        values = np.array([gain[first.groups != name].mean() for name in names if int(name) % 2 == stratum])
        variance += (len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum()
    assert both.statistic == pytest.approx(both.difference / np.sqrt(variance))


def test_luck_of_single_repetitions_falls_away():
    """Two equally good ways, each with noise of its own on every image: the mean of ten repetitions is known better."""
    rng, (truth, _) = np.random.default_rng(3), simulate_models(8, groups=40)

    def repeat() -> Predictions:
        decided = np.where(rng.random(len(truth)) < 0.1, 1 - truth.labels, truth.labels)
        return replace(truth, probabilities=np.eye(2)[decided], decisions=decided)

    pairs = [(repeat(), repeat()) for _ in range(10)]
    one, ten = (repeated_difference(Scorer(truth), each, "accuracy") for each in (pairs[:1], pairs))
    assert ten.low < 0 < ten.high
    assert ten.high - ten.low < 0.6 * (one.high - one.low)


def test_tests_over_groups_keep_their_level_where_mcnemar_does_not():
    """Equal models, 28 uneven groups, 300 data sets: 5% of rejections are allowed, 8% is within chance."""
    pairs = [simulate_models(seed) for seed in range(300)]
    by_flips = np.mean([sign_flips(*pair).p_value <= 0.05 for pair in pairs])
    by_group = np.mean([paired_difference(*pair, "accuracy").p_value <= 0.05 for pair in pairs])
    by_image = np.mean([sign_flips(*map(ungrouped, pair)).p_value <= 0.05 for pair in pairs])
    assert by_group <= 0.08
    assert 0.02 <= by_flips <= 0.08
    assert by_image > 0.2


def test_a_paired_interval_is_narrower_than_the_spread_of_groups():
    first, second = simulate_models(4, groups=40)
    same = paired_difference(first, first, "accuracy")
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    other = paired_difference(first, second, "accuracy")
    assert 0 < other.high - other.low < 0.15


def test_order_of_images_does_not_matter():
    first, second = simulate_models(5)
    shuffled = second.take(np.random.default_rng(0).permutation(len(second)))
    assert paired_difference(first, shuffled, "accuracy") == paired_difference(first, second, "accuracy")
    assert sign_flips(first, shuffled) == sign_flips(first, second)
    renamed = [replace(r, groups=np.char.add("z", np.char.zfill(r.groups, 4))) for r in (first, second)]
    assert sign_flips(*renamed) == sign_flips(first, second)
    turned = sign_flips(second, first)
    assert (turned.p_value, turned.statistic) == (
        sign_flips(first, second).p_value,
        -sign_flips(first, second).statistic,
    )


def test_records_of_other_images_are_refused():
    first, second = simulate_models(6)
    with pytest.raises(DataError, match="same images"):
        sign_flips(first, second.take(np.arange(5)))
    relabelled = Predictions(
        second.ids, second.subjects, second.groups, 1 - second.labels, second.probabilities, second.classes
    )
    with pytest.raises(DataError, match="labels"):
        paired_difference(first, relabelled, "accuracy")


def test_too_few_groups_give_no_p_value_and_say_why():
    first, second = simulate_models(8, groups=2)
    comparison = paired_difference(first, second, "accuracy")
    assert comparison.p_value is None
    assert "no class has two groups" in comparison.note
    assert "fewer than 20 groups" in paired_difference(*simulate_models(8, groups=12), "accuracy").note
    only = [record.take(record.labels == 0) for record in simulate_models(8)]
    assert paired_difference(*only, "balanced_accuracy").note.startswith("not defined")
