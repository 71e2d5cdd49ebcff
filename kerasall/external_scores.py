"""The scores of an external check, computed once for the page, the terminal and programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kerasall.components.report_scores import MEANINGS, PERCENT
from kerasall.errors import DataError
from kerasall.evaluation.intervals import Interval, group_intervals
from kerasall.evaluation.metrics import confusion_matrix, find_metric
from kerasall.evaluation.operating_points import ScoredPoint, collapse, score_point
from kerasall.evaluation.refer import UNLIKE
from kerasall.evaluation.refer_scores import ReferScores, score_referral
from kerasall.evaluation.report_summary import Score, format_value
from kerasall.evaluation.share_intervals import share_interval
from kerasall.evaluation.subject_calls import SubjectCalls, count_subjects, score_calls
from kerasall.external_cautions import list_cautions
from kerasall.external_check import SCORED, ExternalCheck

RESAMPLES = 2000
WANTED = ("balanced_accuracy", "accuracy", "f1_macro", "cohen_kappa", "mcc", "roc_auc", "log_loss")
MALIGNANT_METRICS = ("malignant_sensitivity", "malignant_specificity")
COMPARED = (*MALIGNANT_METRICS, "balanced_accuracy", "accuracy", "roc_auc")
"""Metrics shown beside those of the model's own evaluation, where both have them."""


class ExternalScores:
    """Everything the report says, computed once."""

    def __init__(self, check: ExternalCheck, seed: int = 0):
        """Scores the answers of ``check``; ``seed`` is of the intervals."""
        self.check, self.options = check, {"resamples": RESAMPLES, "seed": seed}
        self.malignant = check.mapping.malignant
        names = [*(MALIGNANT_METRICS if self.malignant else ()), *WANTED]
        self.intervals = group_intervals(check.scored, names, self.malignant, **self.options)
        self.unlike = self._unlike()
        self.referral = self._referral()
        self.points = self._points()
        self.subjects = self._subjects()
        self.cautions = list_cautions(check)

    def _unlike(self) -> Interval | None:
        """Share of images that the model calls unlike its training images; None where it cannot tell."""
        check, safeguards = self.check, self.check.model.safeguards
        if check.reasons is None or safeguards is None or safeguards.domain is None:
            return None
        return share_interval(check.scored, check.reasons == UNLIKE, **self.options)

    def _referral(self) -> ReferScores | None:
        check, safeguards = self.check, self.check.model.safeguards
        if check.calibrated is None or check.members is None or check.reasons is None or safeguards is None:
            return None
        return score_referral(
            check.calibrated, check.members, check.reasons, safeguards.sets, self.malignant, **self.options
        )

    def _points(self) -> tuple[ScoredPoint, ...]:
        """What the model's own thresholds reach here."""
        safeguards, calibrated = self.check.model.safeguards, self.check.calibrated
        if safeguards is None or calibrated is None or not self.malignant:
            return ()
        return tuple(
            score_point(
                collapse(calibrated, self.malignant, each.point.threshold), each.wanted, each.point.threshold,
                **self.options,
            )
            for each in safeguards.points
        )  # fmt: skip

    def _subjects(self) -> SubjectCalls | None:
        """Subjects called by the model's own threshold, where subjects are real."""
        check, threshold = self.check, self.check.model.subject_threshold
        if threshold is None or check.collection.subject_kind != "subject" or not self.malignant:
            return None
        try:
            subjects = count_subjects(check.scored, self.malignant)
        except DataError:
            return None
        own = check.model.results["subject_calls"]
        thresholds = np.full(len(subjects), threshold)
        return SubjectCalls(
            subjects, thresholds, threshold, own["fitted_on"],
            (own["fitting_malignant_subjects"], own["fitting_other_subjects"]), False,
            score_calls(subjects, thresholds, **self.options),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The numbers for programs."""
        check = self.check
        return {
            "model": str(check.model.folder),
            "data": str(check.collection.root),
            "source": check.collection.source,
            "mapping": dict(check.mapping.targets),
            "scored_classes": list(check.mapping.classes),
            "malignant": list(self.malignant),
            "images": len(check.table),
            "fates": {str(name): int(count) for name, count in check.table["fate"].value_counts().items()},
            "metrics": {name: found.to_json() for name, found in self.intervals.items()},
            "own_metrics": self.own_metrics,
            "confusion_matrix": confusion_matrix(check.scored).tolist(),
            "unlike_training_images": self.unlike and self.unlike.to_json(),
            "referral": self.referral and self.referral.to_json(),
            "operating_points": [each.to_json() for each in self.points],
            "subject_calls": self.subjects and self.subjects.to_json(),
            "cautions": self.cautions,
        }

    @property
    def own_metrics(self) -> dict[str, Mapping[str, Any]]:
        """Metrics of the model's own evaluation that mean the same here."""
        own = self.check.model.results.get("metrics") or {}
        same = not self.check.mapping.kinds
        names = COMPARED if same else MALIGNANT_METRICS
        return {name: own[name] for name in names if name in own and name in self.intervals}


def read_external_score(scores: ExternalScores, name: str) -> Score:
    """One metric with its interval, as the report shows it."""
    found = scores.intervals[name]
    chance = 1 / len(scores.check.mapping.classes) if name == "balanced_accuracy" else None
    title = find_metric(name, scores.check.mapping.classes).title
    return Score(title, found.value, found.low, found.high, name in PERCENT, MEANINGS.get(name, ""), chance)


def describe_scores(scores: ExternalScores) -> list[str]:
    """Lines for a terminal: scores with intervals, what was left out, every caution."""
    check = scores.check
    lines = [f"{len(check.scored):,} of {len(check.table):,} images scored", *check.mapping.describe()]
    for name, found in scores.intervals.items():
        score = read_external_score(scores, name)
        lines.append(f"{name:<24} {score.text:<8} {score.interval or found.note}")
    if scores.unlike is not None:
        lines.append(f"{'unlike training images':<24} {format_value(scores.unlike.value)}")
    return [*lines, *(f"caution: {each}" for each in scores.cautions)]


def predictions_table(check: ExternalCheck) -> pd.DataFrame:
    """One row an image: id, label (theirs), counts_as, subject, group, fate, called, the model's probability of
    every class, refer_reason (a code, -1 where unknown) and error."""
    table = check.table.drop(columns="path")
    table.insert(2, "counts_as", table["label"].map(dict(check.mapping.targets)))
    for index, name in enumerate(check.labels):
        values = pd.Series(check.answers.probabilities[:, index], index=table.index[table["fate"] == SCORED])
        table[f"p_{name}"] = values.reindex(table.index)
    return table
