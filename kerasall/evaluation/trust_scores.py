"""What the safeguards of an exported model are worth on the scored images, none of which fitted them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kerasall.errors import DataError
from kerasall.evaluation.calibration import CalibrationScores, fit_calibration, score_calibration
from kerasall.evaluation.cross_fitting import cross_fit, deal_parts, number_folds
from kerasall.evaluation.curves import BandedCurve, keep_surest, selective_accuracy
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.metrics import malignant_mask
from kerasall.evaluation.operating_points import (
    NetBenefit,
    Prevalence,
    ScoredPoint,
    collapse,
    cross_collapse,
    decision_curve,
    predictive_values,
    score_point,
)
from kerasall.evaluation.predictions import JsonFields, Predictions
from kerasall.evaluation.safeguards import (
    KEPT,
    NONE,
    REASONS,
    SEVERAL,
    UNLIKE,
    PredictionSets,
    Safeguards,
    fit_prediction_sets,
    group_quantile,
    refer_reasons,
)

IMPOSSIBLE = "cannot happen: probabilities sum to 1"
"""Of a reason that the threshold of the sets leaves to no image."""

SHARES = (0.0, 0.05, 0.1, 0.2)
"""Shares referred at which the accuracy on the rest is told."""


@dataclass(frozen=True)
class Kept(JsonFields):
    """The images that are left when the least sure share of all is referred."""

    referred: float
    images: int
    wrong: int
    missed_malignant: int
    accuracy: Interval


@dataclass(frozen=True, eq=False)
class SetScores:
    """Prediction sets on the scored images.

    Attributes:
        sets: as the exported model has them.
        covered: share of images whose set holds the true class.
        by_class: class -> the same.
        sizes: share of images with no, one, ... all C classes in their set.
    """

    sets: PredictionSets
    covered: Interval
    by_class: dict[str, Interval]
    sizes: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            **self.sets.to_json(),
            "measured_coverage": self.covered.to_json(),
            "measured_coverage_by_class": {name: each.to_json() for name, each in self.by_class.items()},
            "share_by_size": list(self.sizes),
        }


@dataclass(frozen=True, eq=False)
class ReferScores:
    """The refer band on the scored images.

    Attributes:
        sets: prediction sets.
        curve: accuracy on the rest against the share referred, least sure first.
        kept: the same at ``SHARES``.
        referred: share of images that the exported model's rule refers; of images that fitted it, the same rule
            fitted to the other parts.
        reasons: code of ``REASONS`` -> share of images.
        accuracy: on the images that the rule keeps; None where it keeps none.
        caught: share of the wrong answers that are referred; None where there is none.
        exported: share of the images that fitted it that the exported rule refers; None where others are scored.
        unguaranteed: the same without the unseen group in the prediction sets, that is, without their guarantee;
            None also where they have none.
    """

    sets: SetScores
    curve: BandedCurve
    kept: tuple[Kept, ...]
    referred: Interval
    reasons: dict[int, Interval]
    accuracy: Interval | None
    caught: float | None
    exported: float | None = None
    unguaranteed: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "prediction_sets": self.sets.to_json(),
            "accuracy_by_share_referred": [each.to_json() for each in self.kept],
            "referred": self.referred.to_json(),
            "reasons": {REASONS[code]: each.to_json() for code, each in self.reasons.items()},
            "accuracy_of_kept": self.accuracy and self.accuracy.to_json(),
            "share_of_wrong_answers_referred": self.caught,
            "referred_by_exported_rule": self.exported,
            "referred_without_guarantee": self.unguaranteed,
        }


@dataclass(frozen=True, eq=False)
class TrustScores:
    """Everything a report says of the safeguards.

    Attributes:
        safeguards: as the exported model has them.
        raw: the scored images with the probabilities that are calibrated.
        calibrated: the same images and decisions, calibrated by other images.
        calibration: reliability before and after.
        points: thresholds for wanted sensitivities; none where the malignant classes are unknown.
        benefit: net benefit over thresholds, likewise.
        referral: prediction sets and what is referred.
        prevalence: that predictive values and ``benefit`` hold for; None: that of the scored images.
        own: ``positive`` and ``negative`` predictive value of the model's own calls there; none without a prevalence.
    """

    safeguards: Safeguards
    raw: Predictions
    calibrated: Predictions
    calibration: CalibrationScores
    points: tuple[ScoredPoint, ...]
    benefit: tuple[NetBenefit, ...]
    referral: ReferScores
    prevalence: Prevalence | None = None
    own: Mapping[str, Interval | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "calibration": self.calibration.to_json(),
            "operating_points": [each.to_json() for each in self.points],
            "decision_curve": [each.to_json() for each in self.benefit],
            "referral": self.referral.to_json(),
            "prevalence": self.prevalence and self.prevalence.to_json(),
            "predictive_values": {name: each and each.to_json() for name, each in self.own.items()},
        }


def score_safeguards(
    scorer: Scorer,
    safeguards: Safeguards,
    distances: np.ndarray | None,
    folds: Mapping[str, Sequence[str]],
    *,
    kind: str,
    prevalence: Prevalence | None = None,
) -> TrustScores:
    """Scores the safeguards on images that did not fit them.

    Where the scored images are those that fitted them, every image is judged by what the other folds
    fit (or, without folds, five parts of whole groups).

    Args:
        scorer: of N scored images with the probabilities that are calibrated and the model's decisions.
        safeguards: of the exported model.
        distances: of the images to the training images [N], NaN where they were not measured; or None.
        folds: fold -> ids of its images; empty where there are none.
        kind: what the scored images are: test, out-of-fold, validation or selection.
        prevalence: that predictive values and net benefit are told for.
    """
    raw, parts = scorer.predictions, None
    if kind == safeguards.fitted_on:
        parts = number_folds(raw, folds) if folds else deal_parts(raw)
    probabilities, members, limits = _answers(raw, safeguards, distances, parts)
    calibrated = scorer.of(replace(raw, probabilities=probabilities))
    referral = score_referral(calibrated, members, _reasons(members, distances, limits), safeguards.sets)
    if parts is not None:
        referral = replace(referral, **_refer_fitted(raw, safeguards, distances))
    return TrustScores(
        safeguards,
        raw,
        calibrated.predictions,
        score_calibration(
            scorer, calibrated.predictions, safeguards.calibration, safeguards.fitted_on,
            cross_fitted=parts is not None,
        ),
        _score_points(scorer, calibrated, safeguards, parts, prevalence),
        _score_benefit(calibrated, prevalence),
        referral,
        prevalence,
        _own_values(scorer, prevalence),
    )  # fmt: skip


def _reasons(members: np.ndarray, distances: np.ndarray | None, limits: np.ndarray | None) -> np.ndarray:
    known = None if distances is None else np.where(np.isnan(distances), -np.inf, distances)
    return refer_reasons(np, members.sum(axis=1), known, limits)


def _refer_fitted(
    raw: Predictions, safeguards: Safeguards, distances: np.ndarray | None
) -> dict[str, float | None]:
    """Share of the images that fitted the exported rule that it refers, with and without the guarantee of its sets."""
    rules = {"exported": safeguards}
    if safeguards.sets.guaranteed:
        calibrated, without = safeguards.calibration.apply_to(raw), replace(safeguards.sets, guaranteed=False)
        rules["unguaranteed"] = replace(safeguards, sets=fit_prediction_sets(calibrated, like=without))
    shares = {}
    for name, rule in rules.items():
        _, members, limits = _answers(raw, rule, distances, None)
        shares[name] = float((_reasons(members, distances, limits) != KEPT).mean())
    return shares


def _answers(
    raw: Predictions, safeguards: Safeguards, distances: np.ndarray | None, parts: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Calibrated probabilities [N, C], prediction sets bool [N, C] and limits of the distance [N] or None."""
    domain = safeguards.domain if distances is not None else None
    if parts is None:
        probabilities = safeguards.calibration.apply(raw.probabilities)
        limits = None if domain is None else np.full(len(raw), domain.limit)
        return probabilities, safeguards.sets.contains(probabilities), limits

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        fitting = raw.take(others)
        calibration = fit_calibration(fitting, like=safeguards.calibration)
        sets = fit_prediction_sets(calibration.apply_to(fitting), like=safeguards.sets)
        probabilities = calibration.apply(raw.probabilities[inside])
        limit = np.inf
        if domain is not None and distances is not None:
            measured = others & ~np.isnan(distances)
            names, share = raw.group_names[measured], 1 - domain.false_referral
            limit = group_quantile(distances[measured], names, share, unseen_group=False)
        return np.column_stack([probabilities, sets.contains(probabilities), np.full(inside.sum(), limit)])

    found, classes = cross_fit(parts, answer), len(raw.classes)
    limits = None if domain is None else found[:, -1]
    return found[:, :classes], found[:, classes : 2 * classes] > 0, limits


def _score_points(
    scorer: Scorer,
    calibrated: Scorer,
    safeguards: Safeguards,
    parts: np.ndarray | None,
    prevalence: Prevalence | None,
) -> tuple[ScoredPoint, ...]:
    calibration, scored = safeguards.calibration, []
    for wanted, point in ((each.wanted, each.point) for each in safeguards.points):
        try:
            if parts is None:
                called = collapse(calibrated.predictions, scorer.malignant, point.threshold)
            else:
                called = cross_collapse(scorer.predictions, scorer.malignant, wanted, parts, calibration)
        except DataError:  # a part leaves images of one kind only
            return ()
        scored.append(score_point(scorer.of(called), wanted, point.threshold, prevalence))
    return tuple(scored)


def _own_values(scorer: Scorer, prevalence: Prevalence | None) -> dict[str, Interval | None]:
    mask = malignant_mask(scorer.predictions.classes, scorer.malignant)[scorer.predictions.labels]
    if prevalence is None or mask.all() or not mask.any():
        return {}
    return predictive_values(scorer, prevalence)


def _score_benefit(calibrated: Scorer, prevalence: Prevalence | None) -> tuple[NetBenefit, ...]:
    if not calibrated.malignant:
        return ()
    try:
        return tuple(decision_curve(calibrated, prevalence=prevalence))
    except DataError:  # scored images of one kind only
        return ()


# --- prediction sets and referral --------------------------------------------------------------------


def score_referral(
    scorer: Scorer, members: np.ndarray, reasons: np.ndarray, sets: PredictionSets
) -> ReferScores:
    """Scores prediction sets and referral.

    Args:
        scorer: of N images with calibrated probabilities and the model's decisions.
        members: which classes are in each image's set, bool [N, C].
        reasons: code of each image's reason to be referred, int [N].
        sets: of the exported model.
    """
    calibrated, kept = scorer.predictions, reasons == KEPT
    right = calibrated.right
    shown = [code for code in (SEVERAL, NONE, UNLIKE) if code != UNLIKE or (reasons == UNLIKE).any()]
    return ReferScores(
        score_sets(scorer, members, sets),
        selective_accuracy(replace(scorer, resamples=min(scorer.resamples, 1000))),
        tuple(_keep(scorer, *each) for each in zip(SHARES, keep_surest(calibrated, SHARES), strict=True)),
        scorer.share(~kept),
        {code: _share_of_reason(scorer, reasons == code, sets, code) for code in shown},
        scorer.of(calibrated.take(kept)).interval("accuracy") if kept.any() else None,
        None if right.all() else float((~kept & ~right).sum() / (~right).sum()),
    )


def _share_of_reason(scorer: Scorer, mask: np.ndarray, sets: PredictionSets, code: int) -> Interval:
    """Share of the images, without an interval where the exported rule leaves nothing that it could be of."""
    if mask.any() or not sets.excludes(code, len(scorer.predictions.classes)):
        return scorer.share(mask)
    return Interval(0.0, None, None, scorer.confidence, "", scorer.units.groups, IMPOSSIBLE)


def score_sets(scorer: Scorer, members: np.ndarray, sets: PredictionSets) -> SetScores:
    """Measures how often the set holds the true class; arguments as ``score_referral``."""
    calibrated = scorer.predictions
    covered = members[np.arange(len(calibrated)), calibrated.labels]
    by_class = {}
    for index, name in enumerate(calibrated.classes):
        of_class = calibrated.labels == index
        if of_class.any():
            by_class[name] = scorer.of(calibrated.take(of_class)).share(covered[of_class])
    sizes = np.bincount(members.sum(axis=1), minlength=len(calibrated.classes) + 1) / len(calibrated)
    return SetScores(sets, scorer.share(covered), by_class, tuple(sizes.tolist()))


def _keep(scorer: Scorer, referred: float, kept: np.ndarray) -> Kept:
    rest = scorer.of(scorer.predictions.take(kept))
    labels, decisions = rest.predictions.labels, rest.predictions.decisions
    mask = malignant_mask(rest.predictions.classes, scorer.malignant)
    missed = int((mask[labels] & ~mask[decisions]).sum())
    wrong = int((~rest.predictions.right).sum())
    return Kept(referred, len(labels), wrong, missed, rest.interval("accuracy"))
