"""Prediction sets: worked numbers, and the stated coverage in simulated patients; reasons to refer, and what is stored."""

from __future__ import annotations

import numpy as np
import pytest

from kerasall.errors import ArtifactError, DataError, SettingsError
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.operating_points import operating_point
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.safeguards import (
    KEPT,
    NONE,
    SEVERAL,
    SURE_ENOUGH,
    UNLIKE,
    DomainLimit,
    Safeguards,
    WantedPoint,
    calibrate,
    fit_prediction_sets,
    group_quantile,
    refer_reasons,
)


def simulate(groups: int, seed: int, images: int | None = None, largest: int = 60) -> Predictions:
    """Patients whose difficulty differs, with uneven numbers of images."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, largest, groups) if images is None else np.full(groups, images)
    group = np.repeat(np.arange(groups), sizes)
    labels = (group % 3).astype(np.int64)
    shift = rng.gamma(2.0, 0.8, groups)[group]
    logits = rng.normal(size=(len(group), 3))
    logits[np.arange(len(group)), labels] += shift
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = group.astype(str)
    return Predictions(
        np.arange(len(group)).astype(str), names, names, labels, probabilities, ("a", "b", "c")
    )


def fit(predictions: Predictions, limit: float | None = 2.0, fitted_on: str = "validation") -> Safeguards:
    calibration = fit_calibration(predictions)
    calibrated = calibration.apply_to(predictions)
    return Safeguards(
        calibration, "probabilities", fitted_on,
        tuple(WantedPoint(each, operating_point(calibrated, ["a", "b"], each)) for each in (0.9, 0.99)),
        fit_prediction_sets(calibrated, 0.9),
        None if limit is None else DomainLimit(limit, 0.05, 500, 30, "validation images"),
        "" if limit else "switched off",
    )  # fmt: skip


def test_groups_count_alike_and_the_unseen_one_lies_above():
    values, groups = np.array([0.1, 0.2, 0.3, 0.9]), np.array(["a", "a", "a", "b"])
    # Weights 1/6, 1/6, 1/6, 1/2; with an unseen group 1/9, 1/9, 1/9, 1/3 and 1/3 at infinity.
    assert group_quantile(values, groups, 0.3, unseen_group=False) == 0.2
    assert group_quantile(values, groups, 0.51, unseen_group=False) == 0.9
    assert group_quantile(values, groups, 0.3, unseen_group=True) == 0.3
    assert group_quantile(values, groups, 0.6, unseen_group=True) == 0.9
    assert group_quantile(values, groups, 0.7, unseen_group=True) == np.inf


def test_single_images_give_split_conformal_prediction():
    """Groups of one image each: the ceil((n + 1) coverage)-th smallest score, as everywhere."""
    predictions = simulate(99, seed=1, images=1)
    scores = np.sort(1 - predictions.probabilities[np.arange(99), predictions.labels])
    sets = fit_prediction_sets(predictions, 0.8)
    assert sets.threshold == pytest.approx(1 - scores[80 - 1], abs=2e-6)
    assert sets.guaranteed


def test_stated_coverage_holds_for_new_patients_in_1000_simulated_sets():
    """Marginal coverage of a random image of one new patient; 1,000 sets of 30 patients each."""
    stated = np.array([0.8, 0.95])
    covered = np.empty((1000, 2))
    for seed in range(1000):
        everyone = simulate(31, seed, largest=30)
        new = everyone.groups == "30"
        others, asked = everyone.take(~new), everyone.take(new)
        true = asked.probabilities[np.arange(len(asked)), asked.labels]
        for column, coverage in enumerate(stated):
            sets = fit_prediction_sets(others, coverage)
            assert sets.guaranteed
            covered[seed, column] = (true >= sets.threshold).mean()
    found, error = covered.mean(axis=0), covered.std(axis=0) / np.sqrt(1000)
    assert (found >= stated - 2 * error).all()
    # Not by calling everything possible: at most what one more group may weigh above it.
    assert (found <= stated + 1 / 31 + 2 * error).all()


def test_too_few_groups_guarantee_nothing_and_say_so():
    sets = fit_prediction_sets(simulate(10, seed=0), 0.95)
    assert not sets.guaranteed
    assert 0 < sets.threshold < 1
    assert fit_prediction_sets(simulate(19, seed=0), 0.95).guaranteed


@pytest.mark.parametrize(("groups", "level"), [(18, 0.95), (19, 1.0), (20, 0.9975), (24, 0.9896), (95, 0.96)])
def test_the_level_is_the_rule_without_its_unseen_group(groups, level):
    """coverage (K + 1) / K with the guarantee, from 19 groups on at 95%: 0.95 * 21 / 20 = 0.9975."""
    predictions = simulate(groups, seed=2)
    sets = fit_prediction_sets(predictions, 0.95)
    assert sets.level == pytest.approx(level, abs=5e-5)
    assert (sets.guaranteed, sets.least_groups) == (groups >= 19, 19)
    names, scores = predictions.group_names, 1 - predictions.of_truth
    bound = group_quantile(scores, names, 0.95, unseen_group=sets.guaranteed)
    assert sets.threshold == pytest.approx(1 - bound, abs=2e-6)
    few = predictions.take(np.isin(names, np.unique(names)[:16]))
    refit = fit_prediction_sets(few, like=sets)
    assert (refit.groups, refit.guaranteed) == (16, sets.guaranteed)
    bound = group_quantile(1 - few.of_truth, few.group_names, sets.level, unseen_group=False)
    assert refit.threshold == pytest.approx(1 - bound, abs=2e-6)


def test_permuted_validation_labels_change_the_threshold():
    predictions = simulate(30, seed=0)
    permuted = Predictions(
        predictions.ids, predictions.subjects, predictions.groups, np.roll(predictions.labels, 1000),
        predictions.probabilities, predictions.classes,
    )  # fmt: skip
    assert fit_prediction_sets(permuted).threshold < fit_prediction_sets(predictions).threshold - 0.01


def test_no_threshold_is_higher_than_float32_can_tell():
    predictions = simulate(30, seed=0)
    sure = np.eye(3)[predictions.labels]
    perfect = Predictions(
        predictions.ids, predictions.subjects, predictions.groups, predictions.labels, sure, ("a", "b", "c")
    )
    assert fit_prediction_sets(perfect).threshold == pytest.approx(SURE_ENOUGH, abs=1e-5)


def test_mistakes_are_refused():
    with pytest.raises(SettingsError, match="coverage"):
        fit_prediction_sets(simulate(30, seed=0), 1.0)
    with pytest.raises(DataError, match="none"):
        fit_prediction_sets(simulate(30, seed=0).take(np.zeros(0, int)))


def test_reasons_and_which_goes_before_which():
    sizes, distances = np.array([1, 0, 2, 3, 1, 0, 1]), np.array([1.0, 1, 1, 1, 9, 9, np.nan])
    assert refer_reasons(np, sizes).tolist() == [KEPT, NONE, SEVERAL, SEVERAL, KEPT, NONE, KEPT]
    assert refer_reasons(np, sizes, distances, 2.0).tolist() == [KEPT, NONE, SEVERAL, SEVERAL] + 3 * [UNLIKE]


def test_the_formula_of_the_graph_is_the_calibration():
    predictions = simulate(30, 0)
    for biases in (False, True):
        calibration = fit_calibration(predictions, biases=biases)
        given = calibrate(np, predictions.probabilities, calibration)
        assert given == pytest.approx(calibration.apply(predictions.probabilities), abs=1e-6)


def test_safeguards_keep_their_json():
    for safeguards in (fit(simulate(30, 0)), fit(simulate(30, 0), limit=None)):
        assert Safeguards.from_json(safeguards.to_json()) == safeguards
    with pytest.raises(ArtifactError, match="fields"):
        Safeguards.from_json({"calibration": {}})
    with pytest.raises(ArtifactError, match="fields"):
        Safeguards.from_json(safeguards.to_json() | {"prediction_sets": {"coverage": 0.9}})
