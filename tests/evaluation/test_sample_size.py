"""Design effects and the groups an interval of a given width takes, beside published numbers and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.sample_size import LEAST_GROUPS, WIDTHS, measure_spread, plan_groups

# Weil (1970), as in Williams, Biometrics 31:949-952, 1975: pups that lived through lactation, of those alive at four days.
CONTROL = [
    (13, 13), (12, 12), (9, 9), (9, 9), (8, 8), (8, 8), (12, 13), (11, 12), (9, 10), (9, 10), (8, 9), (11, 13), (4, 5),
    (5, 7), (7, 10), (7, 10),
]  # fmt: skip
TREATED = [
    (12, 12), (11, 11), (10, 10), (9, 9), (10, 11), (9, 10), (9, 10), (8, 9), (8, 9), (4, 5), (7, 9), (4, 7), (5, 10),
    (3, 6), (3, 10), (0, 7),
]  # fmt: skip

NAMES = ("accuracy", "malignant_sensitivity", "malignant_specificity")


def spread_of(litters):
    right = np.concatenate([np.arange(size) < hits for hits, size in litters])
    groups = np.repeat([f"{n}" for n in range(len(litters))], [size for _, size in litters])
    return measure_spread("accuracy", right, groups)


@pytest.mark.parametrize(("litters", "printed"), [(CONTROL, 1.232495), (TREATED, 3.952861)])
def test_the_design_effect_is_that_of_rao_and_scotts_example(litters, printed):
    """Printed by the R package PF (rsb) for Table 1 of Rao and Scott 1992."""
    assert spread_of(litters).design_effect == pytest.approx(printed, abs=5e-7)


def test_the_groups_follow_from_the_variance():
    found = spread_of(TREATED)
    variance = found.design_effect * found.value * (1 - found.value) / found.images
    for width in WIDTHS:
        needed = found.groups_needed[f"{width:g}"]
        assert 2 * 1.959964 * np.sqrt(variance * found.groups / needed) <= width + 1e-9
        assert 2 * 1.959964 * np.sqrt(variance * found.groups / (needed - 1)) > width


def test_studies_of_that_size_have_intervals_of_that_width():
    """Patients whose shares vary as a beta distribution: of studies of the told size, p lies within half the width in 95%."""
    draws = np.random.default_rng(0)

    def study(patients: int) -> tuple[np.ndarray, np.ndarray]:
        shares, sizes = draws.beta(4, 1, patients), draws.integers(10, 40, patients)
        return draws.binomial(sizes, shares), sizes

    hits, sizes = study(3000)
    needed = spread_of(list(zip(hits, sizes, strict=True))).groups_needed["0.1"]
    between, within_patients = 4 / 150, 4 / 30  # variance of beta(4, 1), mean of p (1 - p)
    size = 24.5  # of 10 to 39 images
    spread = 1 + (30**2 - 1) / 12 / size**2  # mean square over the square of the mean
    told = (between * spread + within_patients / size) * (2 * 1.959964 / 0.1) ** 2
    assert needed == pytest.approx(told, rel=0.08)
    within = []
    for _ in range(2000):
        hits, sizes = study(needed)
        within.append(abs(hits.sum() / sizes.sum() - 0.8) < 0.05)
    assert np.mean(within) == pytest.approx(0.95, abs=0.02)


def test_groups_that_happen_to_agree_take_as_many_as_independent_images_would():
    found = spread_of([(9, 10)] * 10)
    assert found.design_effect == 0
    assert found.groups_needed["0.1"] == int(np.ceil(0.9 * 0.1 / 100 * 10 * (2 * 1.959964 / 0.1) ** 2))


@pytest.mark.parametrize(
    ("litters", "told"),
    [
        ([(5, 5)] * 8, "all images fare alike"),
        ([(0, 5)] * 8, "all images fare alike"),
        ([(4, 5)] * (LEAST_GROUPS - 1), "fewer than 5 groups"),
    ],
)
def test_nothing_is_promised_where_no_spread_is_seen(litters, told):
    found = spread_of(litters)
    assert found.design_effect is None
    assert found.groups_needed == {}
    assert told in found.note


def test_sensitivity_and_specificity_count_their_own_images_and_no_class_named_gives_accuracy_alone():
    draws = np.random.default_rng(1)
    groups = np.repeat([f"p{n:02d}" for n in range(20)], 6)
    labels = np.repeat(np.arange(20) % 2, 6)
    called = np.where(draws.random(120) < 0.8, labels, 1 - labels)
    record = Predictions(
        [f"{n}" for n in range(120)], groups, groups, labels, np.eye(2)[called], ("ALL", "HEM")
    )
    told = Scorer(record, ["ALL"], resamples=200).intervals(NAMES)
    accuracy, sensitivity, specificity = plan_groups(record, ["ALL"], told)
    assert (accuracy.images, sensitivity.images, specificity.images) == (120, 60, 60)
    assert sensitivity.value == np.mean(called[labels == 0] == 0)
    assert specificity.value == np.mean(called[labels == 1] == 1)
    assert [each.title for each in plan_groups(record, [], told)] == ["accuracy"]
    assert plan_groups(record, ["ALL", "HEM"], told) == (accuracy,)


def few_missed(copies: int) -> Predictions:
    """Eight patients of either class with 20 cells each, of which one malignant and five benign ones are called wrongly; repeated."""
    labels = np.tile(np.repeat([0, 1], 160), copies)
    wrong = np.zeros(320, bool)
    wrong[[7, 160, 161, 185, 230, 231]] = True
    called = np.where(np.tile(wrong, copies), 1 - labels, labels)
    groups = np.repeat([f"p{n:03d}" for n in range(16 * copies)], 20)
    ids = [f"{n}" for n in range(320 * copies)]
    return Predictions(ids, groups, groups, labels, np.eye(2)[called], ("ALL", "HEM"))


def test_no_number_of_patients_promises_less_than_the_run_itself_shows():
    """One missed cell of 160 shows next to no spread, but eight patients leave an interval of some 30 points all the same."""
    record = few_missed(1)
    told = Scorer(record, ["ALL"]).intervals(NAMES)
    for found, interval in zip(plan_groups(record, ["ALL"], told), told.values(), strict=True):
        assert interval.low is not None
        assert interval.high is not None
        for width in WIDTHS:
            wider = width > interval.high - interval.low
            assert wider == (found.groups_needed[f"{width:g}"] <= found.groups), (found, width)


def test_as_many_patients_as_are_told_have_an_interval_of_that_width():
    needed = [each.groups_needed["0.1"] for each in plan_groups(few_missed(1), ["ALL"], Scorer(few_missed(1), ["ALL"]).intervals(NAMES))]  # fmt: skip
    for found, groups in zip(NAMES, needed, strict=True):
        of_class = 16 if found == "accuracy" else 8
        below, above = groups // of_class, -(-groups // of_class)
        widths = [
            interval.high - interval.low
            for copies in (below, above + 1)
            for interval in [Scorer(few_missed(copies), ["ALL"], resamples=2000).interval(found)]
            if interval.high is not None and interval.low is not None
        ]
        assert widths[0] > 0.09
        assert widths[1] < 0.105
