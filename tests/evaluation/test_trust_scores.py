"""Referral: who is kept, who is not and why; net benefit; what the reports say of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_safeguards import fit, simulate

from kerasall.errors import SettingsError
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.cross_fitting import deal_parts
from kerasall.evaluation.curves import MACRO, precision_recall_curves, roc_curves
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.operating_points import decision_curve
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.safeguards import (
    NONE,
    UNLIKE,
    Safeguards,
    fit_prediction_sets,
    refer_reasons,
)
from kerasall.evaluation.trust_scores import score_referral, score_safeguards
from kerasall.report.pages.run import describe_shortfall
from kerasall.report.sections import calibration_section, refer_section, threshold_section


def test_worked_numbers_of_referral():
    """Ten images, two wrong: one of them among the two least sure, the other surest of all."""
    sure = np.array([0.95, 0.9, 0.88, 0.86, 0.84, 0.82, 0.8, 0.78, 0.6, 0.55])
    labels = np.array([1, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    names = np.arange(10).astype(str)
    predictions = Predictions(names, names, names, labels, np.stack([sure, 1 - sure], axis=1), ("hem", "all"))
    sets = replace(fit_prediction_sets(predictions, 0.5), threshold=0.7)
    members = sets.contains(predictions.probabilities)
    reasons = refer_reasons(np, members.sum(axis=1))
    scores = score_referral(Scorer(predictions, ["all"], resamples=200), members, reasons, sets)
    assert [kept.images for kept in scores.kept] == [10, 10, 9, 8]
    assert [kept.wrong for kept in scores.kept] == [2, 2, 2, 1]
    assert [kept.missed_malignant for kept in scores.kept] == [2, 2, 2, 1]
    assert scores.kept[3].accuracy.value == pytest.approx(7 / 8)
    assert scores.referred.value == pytest.approx(0.2)
    assert scores.reasons[NONE].value == pytest.approx(0.2)
    assert scores.caught == pytest.approx(0.5)
    assert scores.accuracy.value == pytest.approx(7 / 8)
    assert scores.sets.covered.value == pytest.approx(0.7)
    assert scores.sets.sizes == pytest.approx((0.2, 0.8, 0.0))
    assert scores.curve.y[0] == pytest.approx(0.8)


def test_net_benefit_by_hand():
    """Four malignant and six benign images; at 20% one miss counts as four false alarms."""
    score = np.array([0.9, 0.6, 0.3, 0.1, 0.5, 0.25, 0.15, 0.1, 0.05, 0.02])
    names = np.arange(10).astype(str)
    labels = (np.arange(10) >= 4).astype(int)
    predictions = Predictions(
        names, names, names, labels, np.stack([score, 1 - score], axis=1), ("all", "hem")
    )
    (found,) = decision_curve(Scorer(predictions, ["all"], resamples=200), [0.2])
    assert found.model.value == pytest.approx(3 / 10 - 2 / 10 * 0.25)
    assert found.all_called == pytest.approx(4 / 10 - 6 / 10 * 0.25)
    assert (found.missed, found.false_alarms, found.called) == (1, 2, 0.5)
    assert found.false_alarms_per_miss == pytest.approx(4)
    assert found.model.low < found.model.value < found.model.high
    assert found.over_all.value == pytest.approx(found.model.value - found.all_called)
    assert found.over_all.low < found.over_all.value < found.over_all.high
    assert not found.pays
    with pytest.raises(SettingsError, match="between 0 and 1"):
        decision_curve(Scorer(predictions, ["all"]), [0.0])


def test_intervals_of_shares_and_means_hold_their_value():
    predictions = simulate(40, 3)
    right = predictions.decisions == predictions.labels
    scorer = Scorer(predictions, resamples=200)
    share = scorer.share(right)
    assert share.value == pytest.approx(METRICS["accuracy"](predictions))
    assert share.low < share.value < share.high
    mean = scorer.mean(right.astype(float), 0, 1)
    assert mean.value == pytest.approx(share.value)
    assert mean.groups == 40
    nobody = scorer.share(np.zeros(len(predictions), bool))
    assert nobody.value == 0
    assert nobody.high > 0


def test_scored_labels_do_not_decide_what_is_referred_where_others_fitted_it():
    safeguards, scored = fit(simulate(30, 0)), simulate(30, 1)
    permuted = replace(scored, labels=np.roll(scored.labels, 500))
    first, second = (
        score_safeguards(Scorer(each, ["a", "b"], resamples=200), safeguards, None, {}, kind="test")
        for each in (scored, permuted)
    )
    assert (first.calibrated.probabilities == second.calibrated.probabilities).all()
    assert first.referral.referred.value == second.referral.referred.value
    assert [each.threshold for each in first.points] == [each.point.threshold for each in safeguards.points]
    assert first.calibration.cross_fitted is False


@pytest.mark.parametrize("groups", [18, 20, 24])
def test_the_rule_that_is_judged_is_the_one_that_is_exported(groups):
    """Means over 4 records. Where the refit made its own choices, of 20 groups 68% were referred and 93% by the
    exported rule, of 24 groups 92% and 82%."""
    shares = []
    for seed in range(4):
        predictions = simulate(groups, 100 + seed, images=12)
        calibration = fit_calibration(predictions)
        sets = fit_prediction_sets(calibration.apply_to(predictions), 0.95)
        safeguards = Safeguards(calibration, "probabilities", "out-of-fold", (), sets)
        scores = score_safeguards(
            Scorer(predictions, resamples=100), safeguards, None, {}, kind="out-of-fold"
        )
        found = scores.referral
        alone = sets.contains(calibration.apply(predictions.probabilities)).sum(axis=1) != 1
        assert found.exported == pytest.approx(alone.mean())
        assert (found.unguaranteed is not None) == sets.guaranteed == (groups >= 19)
        assert found.to_json()["referred_by_exported_rule"] == found.exported
        shares.append((found.exported, found.referred.value))
    exported, judged = np.mean(shares, axis=0)
    assert judged == pytest.approx(exported, abs=0.04)


def test_images_that_fitted_the_safeguards_are_judged_by_other_parts():
    predictions = simulate(40, 0)
    safeguards = fit(predictions, fitted_on="out-of-fold")
    distances = np.random.default_rng(0).gamma(9.0, 0.1, len(predictions))
    safeguards = replace(
        safeguards, domain=replace(safeguards.domain, limit=float(np.quantile(distances, 0.95)))
    )
    parts = deal_parts(predictions)
    folds = {f"fold_{k}": predictions.ids[parts == k].tolist() for k in range(5)}
    scorer = Scorer(predictions, ["a", "b"], resamples=200)
    scores = score_safeguards(scorer, safeguards, distances, folds, kind="out-of-fold")
    assert scores.calibration.cross_fitted
    assert scores.referral.sets.covered.value == pytest.approx(0.9, abs=0.04)
    assert scores.referral.reasons[UNLIKE].value == pytest.approx(0.05, abs=0.02)
    labels = predictions.labels.copy()
    labels[parts == 0] = np.roll(labels[parts == 0], 11)
    relabelled = scorer.of(replace(predictions, labels=labels))
    again = score_safeguards(relabelled, safeguards, distances, folds, kind="out-of-fold")
    same = again.calibrated.probabilities[parts == 0] == scores.calibrated.probabilities[parts == 0]
    assert same.all()
    # Images whose distance was not measured are not called unlike the training images.
    nowhere = np.full(len(predictions), np.nan)
    unmeasured = score_safeguards(
        replace(scorer, malignant=["a"]), safeguards, nowhere, folds, kind="out-of-fold"
    )
    assert UNLIKE not in unmeasured.referral.reasons


def test_the_mean_curve_is_the_mean_of_the_classes():
    predictions = simulate(40, 0)
    scorer = Scorer(predictions, resamples=100)
    for curves in (roc_curves(scorer), precision_recall_curves(scorer)):
        *classes, macro = curves
        assert [curve.label for curve in curves] == ["a", "b", "c", MACRO]
        assert macro.y == pytest.approx(np.mean([curve.y for curve in classes], axis=0))
        assert macro.area == pytest.approx(np.mean([curve.area for curve in classes]))
        assert (macro.band_low <= macro.y).all()
        assert (macro.y <= macro.band_high).all()
        assert macro.area_low < macro.area < macro.area_high
    assert roc_curves(scorer)[-1].area == pytest.approx(METRICS["roc_auc"](predictions))


def test_two_classes_have_the_malignant_one_alone():
    predictions = simulate(20, 0)
    scores = predictions.probabilities[:, 0]
    two = Predictions(
        predictions.ids, predictions.subjects, predictions.groups, (predictions.labels > 0).astype(int),
        np.stack([scores, 1 - scores], axis=1), ("all", "hem"),
    )  # fmt: skip
    assert [curve.label for curve in roc_curves(Scorer(two, ["all"], resamples=100))] == ["all"]
    assert [curve.label for curve in precision_recall_curves(Scorer(two, resamples=100))] == ["hem"]


@pytest.mark.parametrize("limit", [2.0, None])
def test_sections_tell_every_number_with_its_interval(limit):
    predictions = simulate(40, 0)
    safeguards = fit(predictions, limit)
    distances = None if limit is None else np.ones(len(predictions))
    scorer = Scorer(predictions, ["a", "b"], resamples=200)
    trust = score_safeguards(scorer, safeguards, distances, {}, kind="validation")
    sections = (
        calibration_section(trust.calibration),
        threshold_section(trust.points, trust.benefit, ["a", "b"], "Thresholds were chosen elsewhere."),
        refer_section(trust.referral, safeguards, malignant=True),
    )
    text = " ".join(f"{section.intro} {section.body}" for section in sections)
    assert {picture.src for section in sections for picture in section.pictures} == {
        "figures/reliability-before.svg", "figures/reliability-after.svg", "figures/decision-curve.svg",
        "figures/selective-accuracy.svg",
    }  # fmt: skip
    assert f"{100 * trust.calibration.after.reliability.error:.1f}%" in text
    assert "Wanted sensitivity" in text
    assert "Refers of the images that fitted it" in text
    shares = [f"{100 * share:.1f}%" for share in (trust.referral.unguaranteed, trust.referral.exported)]
    price = f"below 9 groups, the rule would refer {shares[0]} of these images, not {shares[1]}."
    assert price in " ".join(text.split())
    shortfall = describe_shortfall(trust.points[-1])
    count = int((predictions.labels != 2).sum())
    assert f"99.0% of {count:,} malignant images of 27 groups is expected to reach 96.4% (where" in shortfall
    slope = trust.calibration.after.recalibration["slope"]
    assert f"{slope.value:.3f}" in text
    assert f"{slope.low:.3f} to {slope.high:.3f}" in text
    for each in trust.benefit:
        assert f"{each.over_all.low:+.3f} to {each.over_all.high:+.3f}" in text
        assert each.over_all.value == pytest.approx(each.model.value - each.all_called)
    assert ("switched off" in text) is (limit is None)
    assert "by construction" in text
