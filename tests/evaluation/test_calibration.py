"""Temperature scaling: it finds what was put in, and changes nothing that it should not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import t

from kerasall.errors import ArtifactError, DataError
from kerasall.evaluation.calibration import fit_calibration, recalibrate, reliability
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.safeguards import Calibration


def distorted(
    temperature: float, biases=(0.0, 0.0, 0.0), count=20_000, seed=0, decisions=None
) -> Predictions:
    """Labels drawn from true probabilities; the stated ones need ``temperature`` and ``biases`` to match."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(count, len(biases)))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (true.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    stated = np.exp((np.log(true) - np.asarray(biases)) * temperature)
    names = np.arange(count).astype(str)
    return Predictions(
        names,
        names,
        names,
        labels,
        stated / stated.sum(axis=1, keepdims=True),
        tuple("abc"[: len(biases)]),
        decisions,
    )


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_recovered(temperature):
    calibration = fit_calibration(distorted(temperature))
    assert calibration.temperature == pytest.approx(temperature, rel=0.03)
    assert calibration.biases == (0.0, 0.0, 0.0)
    assert not calibration.at_limit


def test_known_biases_are_recovered():
    biases = (0.8, -0.5, -0.3)
    calibration = fit_calibration(distorted(1.7, biases), biases=True)
    assert calibration.temperature == pytest.approx(1.7, rel=0.03)
    assert calibration.biases == pytest.approx(biases, abs=0.06)
    assert sum(calibration.biases) == pytest.approx(0, abs=1e-12)


def test_calibration_lowers_loss_and_error_on_other_images():
    calibration = fit_calibration(distorted(2.5, seed=1, count=3000))
    test = distorted(2.5, seed=2, count=5000)
    calibrated = calibration.apply_to(test)
    assert METRICS["log_loss"](calibrated) < METRICS["log_loss"](test) - 0.1
    assert reliability(Scorer(test)).error > 0.08
    assert reliability(Scorer(calibrated)).error < 0.03
    assert calibration.loss_after < calibration.loss_before


def test_temperature_alone_changes_no_decision():
    test = distorted(3.0, count=500)
    calibrated = fit_calibration(test).apply_to(test)
    assert (calibrated.decisions == test.decisions).all()
    assert calibrated.probabilities.sum(axis=1) == pytest.approx(1)
    assert METRICS["accuracy"](calibrated) == METRICS["accuracy"](test)


def test_biases_move_decisions_but_not_those_of_a_vote():
    validation = distorted(1.0, (1.5, -1.0, -0.5), count=4000)
    calibration = fit_calibration(validation, biases=True)
    moved = calibration.apply_to(validation)
    assert (moved.decisions == moved.probabilities.argmax(axis=1)).all()
    assert METRICS["accuracy"](moved) > METRICS["accuracy"](validation)
    votes = np.random.default_rng(0).integers(0, 3, 4000)
    voted = distorted(1.0, (1.5, -1.0, -0.5), count=4000, decisions=votes)
    assert (calibration.apply_to(voted).decisions == votes).all()


def test_one_wrong_image_is_no_reason_to_be_surer_and_many_are():
    names = np.arange(256).astype(str)
    groups = np.array([f"subject {n % 14}" for n in range(256)])
    labels = np.arange(256) % 2
    stated = np.where(np.eye(2)[labels] > 0, 0.9, 0.1)
    stated[100] = stated[100, ::-1] * [0.6, 1.4] / (stated[100, ::-1] * [0.6, 1.4]).sum()
    few = Predictions(names, groups, groups, labels, stated, ("a", "b"))
    calibration = fit_calibration(few)
    assert (calibration.temperature, calibration.loss_after) == (1.0, calibration.loss_before)
    assert calibration.refused == pytest.approx(0.42, abs=0.01)
    many = fit_calibration(distorted(0.4, count=2000))
    assert many.refused is None
    assert many.temperature == pytest.approx(0.4, rel=0.15)


def test_zero_probabilities_and_all_right_images_stay_finite():
    names = np.arange(4).astype(str)
    labels = np.array([0, 1, 0, 1])
    sure = Predictions(names, names, names, labels, np.eye(2)[labels] * 0.8 + 0.1, ("a", "b"))
    calibration = fit_calibration(sure)
    # Four right images are no reason to be surer than the model was.
    assert calibration.at_limit
    assert calibration.temperature == 1.0
    assert calibration.apply(sure.probabilities) == pytest.approx(sure.probabilities)
    fitted = fit_calibration(distorted(2.0, count=500))
    assert np.isfinite(fitted.apply(np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))).all()


def test_it_depends_on_labels_and_not_on_the_order_of_images():
    validation = distorted(2.0, count=1000)
    shuffled = validation.take(np.random.default_rng(0).permutation(1000))
    assert fit_calibration(shuffled).temperature == pytest.approx(
        fit_calibration(validation).temperature, rel=1e-5
    )
    permuted = Predictions(
        validation.ids, validation.subjects, validation.groups, np.roll(validation.labels, 1),
        validation.probabilities, validation.classes,
    )  # fmt: skip
    assert fit_calibration(permuted).temperature > 3 * fit_calibration(validation).temperature


def test_json_keeps_it_exactly_and_refuses_what_it_is_not():
    calibration = fit_calibration(distorted(2.0, count=500), biases=True)
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration
    with pytest.raises(ArtifactError, match="temperature"):
        Calibration.from_json(calibration.to_json() | {"temperature": 0})
    with pytest.raises(ArtifactError, match="fields"):
        Calibration.from_json(calibration.to_json() | {"colour": 1})


def test_missing_images_and_other_classes_are_refused():
    validation = distorted(2.0, count=500)
    with pytest.raises(DataError, match="every class"):
        fit_calibration(validation.take(validation.labels != 1), biases=True)
    with pytest.raises(DataError, match="validation images"):
        fit_calibration(validation.take(np.zeros(500, bool)))
    with pytest.raises(DataError, match="classes"):
        fit_calibration(validation).apply_to(distorted(1.0, (0.0, 0.0), count=10))


# --- intercept and slope -----------------------------------------------------------------------------


def of_patients(count: int, sharpened: float, seed: int = 0) -> Predictions:
    """Two classes; the logit of the stated probability is ``sharpened`` times what it should be, less 0.5."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(count), rng.integers(1, 40, count))
    true = rng.normal(size=count)[patients] + rng.normal(size=len(patients))
    labels = (rng.random(len(true)) > 1 / (1 + np.exp(-true))).astype(int)
    stated = 1 / (1 + np.exp(0.5 - sharpened * true))
    names = patients.astype(str)
    return Predictions(
        np.arange(len(names)).astype(str), names, names, labels, np.stack([stated, 1 - stated], axis=1), ("all", "hem")
    )  # fmt: skip


@pytest.mark.parametrize(("count", "sharpened"), [(8, 1.0), (60, 2.0), (60, 0.5)])
def test_intercept_and_slope_equal_statsmodels_with_errors_over_groups(count, sharpened):
    record = of_patients(count, sharpened, seed=count)
    found = recalibrate(Scorer(record, ["all"]))
    truth, stated = (record.labels == 0).astype(float), record.probabilities[:, 0]
    logits = np.log(stated / (1 - stated))
    errors = {"cov_type": "cluster", "cov_kwds": {"groups": record.groups.astype(int)}}
    both = sm.GLM(truth, sm.add_constant(logits), family=sm.families.Binomial()).fit(tol=1e-12, **errors)
    alone = sm.GLM(truth, np.ones(len(truth)), offset=logits, family=sm.families.Binomial()).fit(
        tol=1e-12, **errors
    )
    wide = t.ppf(0.975, count - 1)
    for name, value, error in (
        ("slope", both.params[1], both.bse[1]),
        ("intercept", alone.params[0], alone.bse[0]),
    ):
        ours = found[name]
        assert ours.value == pytest.approx(value, abs=1e-6)
        assert ours.high - ours.low == pytest.approx(2 * wide * error, rel=1e-5)
        assert ours.groups == count


def test_a_slope_finds_how_much_too_sure_a_model_is():
    found = recalibrate(Scorer(of_patients(1000, 2.0), ["all"]))["slope"]
    assert found.low < 0.5 < found.high
    assert found.value == pytest.approx(0.5, abs=0.05)


def test_where_no_slope_fits_best_there_is_none():
    record = of_patients(30, 1.0)
    rightly = replace(record, labels=record.probabilities.argmax(axis=1), decisions=None)
    found = recalibrate(Scorer(rightly, ["all"]))
    assert found["slope"].value is None
    assert "without an error" in found["slope"].note
    assert np.isfinite(found["intercept"].value)
    assert recalibrate(Scorer(record)) == {}
    assert recalibrate(Scorer(record.take(record.labels == 0), ["all"])) == {}
    certain = np.eye(2)[record.labels]
    certain[:3] = 1 - certain[:3]
    assert np.isfinite(recalibrate(Scorer(replace(record, probabilities=certain), ["all"]))["slope"].value)


def test_a_refit_takes_the_choices_of_the_exported_calibration():
    """Temperatures below 1 that were refused stay refused on fewer images, and used ones are used, whatever these
    images would choose by themselves."""
    sharp, few = distorted(0.4, count=2000), distorted(0.4, count=12)
    used = fit_calibration(sharp)
    assert used.temperature < 1
    refused = replace(used, temperature=1.0, refused=used.temperature)
    for images in (sharp, few):
        assert fit_calibration(images, like=used).temperature < 1
        assert fit_calibration(images, like=refused).temperature == 1
        assert fit_calibration(images, like=refused).refused < 1
    assert fit_calibration(distorted(3.0, count=500), like=refused).temperature > 1
    biased = fit_calibration(distorted(2.0, count=500), biases=True)
    assert any(fit_calibration(distorted(2.0, count=400), like=biased).biases)
    assert not any(fit_calibration(distorted(2.0, count=400), biases=True, like=used).biases)
