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
from kerasall.evaluation.operating_points import (
    Prevalence,
    decision_curve,
    predictive_values,
    score_point,
)
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.safeguards import (
    NONE,
    SEVERAL,
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


@pytest.mark.parametrize(
    ("classes", "threshold", "impossible"),
    [
        (4, 0.22, {NONE}),  # the most probable of four has at least 25%
        (4, 0.26, set()),
        (4, 0.5, set()),
        (4, 0.51, {SEVERAL}),  # no two have more than a half
        (2, 0.49, {NONE}),
        (2, 0.51, {SEVERAL}),
    ],
)
def test_what_the_rule_makes_impossible_has_no_interval(classes, threshold, impossible):
    chances = np.random.default_rng(0).dirichlet(np.full(classes, 0.05), 60)
    names, labels = np.arange(60).astype(str), chances.argmax(axis=1)
    predictions = Predictions(
        names, np.repeat(names[:12], 5), names, labels, chances, tuple("abcd"[:classes])
    )
    sets = replace(fit_prediction_sets(predictions, 0.5), threshold=threshold)
    # Of every corner of what probabilities can be: all alike, two alike, one alone.
    corners = [np.full(classes, 1 / classes), np.r_[0.5, 0.5, np.zeros(classes - 2)], np.eye(classes)[0]]
    members = sets.contains(np.array(corners)).sum(axis=1)
    assert {code for code in (NONE, SEVERAL) if code not in refer_reasons(np, members)} == impossible
    found = score_referral(
        Scorer(predictions, resamples=200), np.eye(classes, dtype=bool)[labels], np.zeros(60, int), sets
    )
    assert {code for code, share in found.reasons.items() if share.high is None} == impossible
    assert all(share.value == 0 for share in found.reasons.values())
    words = str(refer_section(found, fit(simulate(20, 0)), False))
    assert words.count("cannot happen") == len(impossible)
    one = np.r_[True, np.zeros(59, bool)]  # what happened by another part's threshold is told
    for code in impossible:
        told = score_referral(
            Scorer(predictions, resamples=200), np.eye(classes, dtype=bool)[labels], one * code, sets
        )
        assert told.reasons[code].high > told.reasons[code].value > 0


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


@pytest.mark.parametrize(
    ("share", "positive", "negative"),
    [(0.5, 0.9, 0.9), (0.01, 0.009 / 0.108, 0.891 / 0.892), (0.9, 0.81 / 0.82, 0.09 / 0.18)],
)
def test_predictive_values_at_a_stated_prevalence(share, positive, negative):
    """Sensitivity and specificity 90% each: where 1% are malignant, 1 of 12 called so are."""
    labels = np.repeat([1, 0], 200)
    decisions = np.where(np.arange(400) % 10 == 0, 1 - labels, labels)
    groups, names = (np.arange(400) // 10).astype(str), np.arange(400).astype(str)
    called = Predictions(names, groups, groups, labels, np.eye(2)[decisions], ("negative", "positive"))
    scorer = Scorer(called, resamples=200)
    point = score_point(scorer, 0.95, 0.5, Prevalence(share, 0.5))
    assert (point.positive_value.value, point.negative_value.value) == pytest.approx((positive, negative))
    for found in (point.positive_value, point.negative_value):
        assert found.low < found.value < found.high
    alike = score_point(scorer, 0.95, 0.5, Prevalence(0.5, 0.5))
    assert alike.positive_value.value == pytest.approx(alike.precision.value)
    nobody = scorer.of(replace(called, decisions=np.zeros(400, int)))
    assert score_point(nobody, 0.95, 0.5, Prevalence(share, 0.5)).positive_value is None
    assert score_point(scorer, 0.95, 0.5).positive_value is None


@pytest.mark.parametrize("seed", range(4))
def test_one_more_error_raises_no_end_of_net_benefit_predictive_values_or_referral(seed):
    """A malignant image is believed less, or a benign one more; what was kept and right is wrong."""
    rng, predictions = np.random.default_rng(seed), simulate(9, seed, largest=12)
    row = int(rng.choice(np.flatnonzero(predictions.right)))
    malignant = predictions.labels[row] != 2
    chances = predictions.probabilities.copy()
    chances[row] = [0.001, 0.001, 0.998] if malignant else [0.998, 0.001, 0.001]
    wrong = replace(predictions, probabilities=chances, decisions=None)
    sick = Scorer(predictions, ["a", "b"], resamples=200), Scorer(wrong, ["a", "b"], resamples=200)
    ends = []
    for scorer in sick:
        found = [each.model for each in decision_curve(scorer)] + [
            each.over_all for each in decision_curve(scorer)
        ]
        elsewhere = decision_curve(scorer, prevalence=Prevalence(0.05, 0.6))
        found += [each.model for each in elsewhere] + [each.over_all for each in elsewhere]
        found += list(predictive_values(scorer, Prevalence(0.05, 0.6)).values())
        found += [scorer.share(scorer.predictions.right), scorer.interval("accuracy")]
        ends.append(np.array([(each.low, each.value, each.high) for each in found]))
    before, after = ends
    assert (after <= before + 1e-9).all()


def test_predictive_values_of_the_models_own_calls():
    """Of 100 malignant 90 and of 100 benign 80 are called rightly; where 10% are malignant 9 of 27 calls are right."""
    labels = np.repeat([0, 1], 100)
    decisions = np.where(np.r_[np.arange(100) < 90, np.arange(100) < 80], labels, 1 - labels)
    groups, names = (np.arange(200) // 10).astype(str), np.arange(200).astype(str)
    record = Predictions(names, groups, groups, labels, np.eye(2)[decisions], ("all", "hem"), decisions)
    found = predictive_values(Scorer(record, ["all"], resamples=500), Prevalence(0.1, 0.5))
    assert found["positive"].value == pytest.approx(0.09 / (0.09 + 0.18))
    assert found["negative"].value == pytest.approx(0.72 / (0.72 + 0.01))
    assert all(each.low < each.value < each.high for each in found.values())
    never = replace(record, decisions=np.ones(200, int))
    assert predictive_values(Scorer(never, ["all"], resamples=200), Prevalence(0.1, 0.5))["positive"] is None


def test_a_decision_curve_at_a_stated_prevalence():
    predictions = simulate(40, 0)
    scorer = Scorer(predictions, ["a"], resamples=200)
    own = float((predictions.labels == 0).mean())
    here, stated = decision_curve(scorer), decision_curve(scorer, prevalence=Prevalence(own, own))
    for one, other in zip(here, stated, strict=True):
        assert (other.model.value, other.all_called, other.over_all.value, other.called) == pytest.approx(
            (one.model.value, one.all_called, one.over_all.value, one.called)
        )
        assert (other.missed, other.false_alarms) == (one.missed, one.false_alarms)
    rare = decision_curve(scorer, prevalence=Prevalence(0.05, own))
    assert all(
        one.called_from > one.threshold for one in rare
    )  # fewer are malignant, so more must speak for it
    assert all(one.model.high <= 0.05 for one in rare)
    assert rare[-1].all_called == pytest.approx(0.05 - 0.95)
    assert all(one.over_all.low == pytest.approx(one.model.low - one.all_called) for one in rare)


def test_probabilities_move_with_the_prevalence():
    """80% among as many malignant as other images are odds of 4, and of 4 x 1/9 where one in ten is malignant."""
    moved = Prevalence(0.1, 0.5)
    odds = 80 / 20 * (0.1 / 0.9)
    assert moved.threshold_of(odds / (1 + odds)) == pytest.approx(0.8)
    assert Prevalence(0.3, 0.3).threshold_of(0.2) == pytest.approx(0.2)


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
    elsewhere = score_safeguards(
        scorer, safeguards, distances, {}, kind="validation", prevalence=Prevalence(0.05, 0.6)
    )
    assert trust.own == {}
    assert set(elsewhere.own) == {"positive", "negative"}
    assert elsewhere.to_json()["predictive_values"]["positive"]["value"] == elsewhere.own["positive"].value
    told = str(
        threshold_section(
            elsewhere.points, elsewhere.benefit, ["a", "b"], "", elsewhere.prevalence, elsewhere.own
        )
    )
    assert told.count("evaluate.prevalence") == 2
    assert f"{100 * elsewhere.own['negative'].value:.1f}%" in told
    assert f"{100 * elsewhere.own['negative'].low:.1f}%" in told
    assert "where 5.0% of cells are malignant" in told
    assert f"{100 * elsewhere.points[0].positive_value.value:.1f}%" in told
    assert "evaluate.prevalence states another" in text
    assert elsewhere.to_json()["prevalence"] == {"share": 0.05, "fitted": 0.6}
    for each in trust.benefit:
        assert f"{each.over_all.low:+.3f} to {each.over_all.high:+.3f}" in text
        assert each.over_all.value == pytest.approx(each.model.value - each.all_called)
    assert ("switched off" in text) is (limit is None)
    assert "by construction, for a new group of images like these" in text
    for kind, words in (("subject", "a new patient like"), ("block", "a new block of images like")):
        assert words in str(refer_section(trust.referral, safeguards, True, kind))
