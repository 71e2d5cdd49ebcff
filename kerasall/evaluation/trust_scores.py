"""What the safeguards of an exported model are worth on the scored images, none of which fitted them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasall.errors import DataError
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.conformal import fit_prediction_sets, group_quantile
from kerasall.evaluation.cross_fitting import cross_fit, deal_parts, number_folds
from kerasall.evaluation.intervals import Scorer, as_scorer
from kerasall.evaluation.operating_points import (
    NetBenefit,
    ScoredPoint,
    collapse,
    cross_collapse,
    decision_curve,
    score_point,
)
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.refer import ReferScores, Safeguards, refer_reasons, score_referral
from kerasall.evaluation.reliability import CalibrationScores, score_calibration
from kerasall.evaluation.resampling import group_names


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
    """

    safeguards: Safeguards
    raw: Predictions
    calibrated: Predictions
    calibration: CalibrationScores
    points: tuple[ScoredPoint, ...]
    benefit: tuple[NetBenefit, ...]
    referral: ReferScores

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "calibration": self.calibration.to_json(),
            "operating_points": [each.to_json() for each in self.points],
            "decision_curve": [each.to_json() for each in self.benefit],
            "referral": self.referral.to_json(),
        }


def score_safeguards(
    scored: Scorer | Predictions,
    safeguards: Safeguards,
    distances: np.ndarray | None,
    folds: Mapping[str, Sequence[str]],
    malignant: Sequence[str] = (),
    *,
    kind: str,
    **options: Any,
) -> TrustScores:
    """Scores the safeguards on images that did not fit them.

    Where the scored images are those that fitted them, every image is judged by what the other folds
    fit (or, without folds, five parts of whole groups).

    Args:
        scored: N scored images with the probabilities that are calibrated and the model's decisions.
        safeguards: of the exported model.
        distances: of the images to the training images [N], NaN where they were not measured; or None.
        folds: fold -> ids of its images; empty where there are none.
        malignant: names of the malignant classes, where ``scored`` is no scorer; and so the options.
        kind: what the scored images are: test, out-of-fold, validation or selection.
    """
    scorer = as_scorer(scored, malignant, **options)
    raw, parts = scorer.predictions, None
    if kind == safeguards.fitted_on:
        parts = number_folds(raw, folds) if folds else deal_parts(raw)
    probabilities, members, limits = _answers(raw, safeguards, distances, parts)
    calibrated = scorer.of(replace(raw, probabilities=probabilities))
    known = None if distances is None else np.where(np.isnan(distances), -np.inf, distances)
    reasons = refer_reasons(np, members.sum(axis=1), known, limits)
    return TrustScores(
        safeguards,
        raw,
        calibrated.predictions,
        score_calibration(
            scorer, calibrated.predictions, safeguards.calibration, safeguards.fitted_on,
            cross_fitted=parts is not None,
        ),
        _score_points(scorer, calibrated, safeguards, parts),
        _score_benefit(calibrated),
        score_referral(calibrated, members, reasons, safeguards.sets),
    )  # fmt: skip


def _answers(
    raw: Predictions, safeguards: Safeguards, distances: np.ndarray | None, parts: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Calibrated probabilities [N, C], prediction sets bool [N, C] and limits of the distance [N] or None."""
    domain = safeguards.domain if distances is not None else None
    if parts is None:
        probabilities = safeguards.calibration.apply(raw.probabilities)
        limits = None if domain is None else np.full(len(raw), domain.limit)
        return probabilities, safeguards.sets.contains(probabilities), limits
    biases = any(safeguards.calibration.biases)

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        fitting = raw.take(others)
        calibration = fit_calibration(fitting, biases=biases)
        sets = fit_prediction_sets(calibration.apply_to(fitting), safeguards.sets.coverage)
        probabilities = calibration.apply(raw.probabilities[inside])
        limit = np.inf
        if domain is not None and distances is not None:
            measured = others & ~np.isnan(distances)
            names, share = group_names(raw)[measured], 1 - domain.false_referral
            limit = group_quantile(distances[measured], names, share, unseen_group=False)
        return np.column_stack([probabilities, sets.contains(probabilities), np.full(inside.sum(), limit)])

    found, classes = cross_fit(parts, answer), len(raw.classes)
    limits = None if domain is None else found[:, -1]
    return found[:, :classes], found[:, classes : 2 * classes] > 0, limits


def _score_points(
    scorer: Scorer, calibrated: Scorer, safeguards: Safeguards, parts: np.ndarray | None
) -> tuple[ScoredPoint, ...]:
    biases, scored = any(safeguards.calibration.biases), []
    for wanted, point in ((each.wanted, each.point) for each in safeguards.points):
        try:
            if parts is None:
                called = collapse(calibrated.predictions, scorer.malignant, point.threshold)
            else:
                called = cross_collapse(scorer.predictions, scorer.malignant, wanted, parts, biases=biases)
        except DataError:  # a part leaves images of one kind only
            return ()
        scored.append(score_point(scorer.of(called), wanted, point.threshold))
    return tuple(scored)


def _score_benefit(calibrated: Scorer) -> tuple[NetBenefit, ...]:
    if not calibrated.malignant:
        return ()
    try:
        return tuple(decision_curve(calibrated))
    except DataError:  # scored images of one kind only
        return ()
