"""What an external check found, its scores, and what must be said beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall.data.examples import Collection
from kerasall.errors import DataError
from kerasall.evaluation.class_mapping import ClassMapping
from kerasall.evaluation.intervals import FEW_GROUPS, RESAMPLES, Interval, Scorer, groups_known
from kerasall.evaluation.metrics import MALIGNANT_SCORES, confusion_matrix
from kerasall.evaluation.operating_points import ScoredPoint, collapse, score_point
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.safeguards import UNLIKE, Safeguards
from kerasall.evaluation.subject_calls import SubjectCalls, count_subjects, score_calls
from kerasall.evaluation.trust_scores import ReferScores, score_referral
from kerasall.report.format import Score, format_value, over_groups, score_of
from kerasall.report.page import render_sentences

SCORED, MAPPED_OUT, SEEN, BESIDE_SEEN, UNREADABLE = (
    "scored", "class left out", "seen by the model", "of a group the model has seen", "not readable",
)  # fmt: skip
"""What became of an image, in words."""

WANTED = ("balanced_accuracy", "accuracy", "f1_macro", "cohen_kappa", "mcc", "roc_auc", "log_loss")
COMPARED = (*MALIGNANT_SCORES, "balanced_accuracy", "accuracy", "roc_auc")
"""Metrics shown beside those of the model's own evaluation, where both have them."""


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """A model with what is known of it.

    Attributes:
        name: of its run or its folder.
        folder: of the SavedModel.
        card: what its training found; empty where there is none.
        seen: SHA-256 -> part of the images it has seen; None where that was not written down.
    """

    name: str
    folder: Path
    card: Mapping[str, Any]
    seen: Mapping[str, str] | None

    @property
    def results(self) -> Mapping[str, Any]:
        """The scores of its own evaluation."""
        return self.card.get("results") or {}

    @property
    def source(self) -> str | None:
        """Kind of source of its training images; None where unknown."""
        return (self.card.get("data") or {}).get("source")

    @property
    def malignant(self) -> tuple[str, ...]:
        """Its malignant classes; empty where unknown."""
        return tuple(self.results.get("malignant") or ())

    @property
    def blessed(self) -> bool | None:
        """Whether it passed the checks for export on its own data; None where unknown."""
        return (self.card.get("blessing") or self.results).get("blessed")

    @property
    def safeguards(self) -> Safeguards | None:
        """Calibration, thresholds and prediction sets; None where the card holds none."""
        stored = self.card.get("safeguards")
        return Safeguards.from_json(stored) if stored else None

    @property
    def subject_threshold(self) -> float | None:
        """Share of malignant cells from which it calls a subject malignant; None where it does not."""
        return (self.results.get("subject_calls") or {}).get("threshold")


@dataclass(frozen=True, eq=False)
class ExternalCheck:
    """A model's answers to foreign images.

    Attributes:
        model: that answered.
        labels: its classes.
        collection: the images, as their source names them.
        mapping: of their classes.
        table: one row an image: id, path, label (theirs), subject, group, fate (``SCORED`` or why not),
            error; then for the readable ones called (the model's class) and refer_reason (a code, -1 where
            the model does not say).
        anomalies: what ``kerasall check`` says of the images.
        answers: of the scored images, over the model's own classes; labels are all 0.
        scored: the same over the scored classes.
        calibrated: with calibrated probabilities, likewise; None where the model does not calibrate.
        members: prediction sets over the scored classes, bool [N, scored classes], or None.
        reasons: code of each scored image's reason to be referred, int [N], or None.
    """

    model: JudgedModel
    labels: tuple[str, ...]
    collection: Collection
    mapping: ClassMapping
    table: pd.DataFrame
    anomalies: Mapping[str, Any]
    answers: Predictions
    scored: Predictions
    calibrated: Predictions | None
    members: np.ndarray | None
    reasons: np.ndarray | None

    @property
    def same_source(self) -> bool:
        """Whether the images come from a source of the same name as the training images."""
        return self.model.source == self.collection.source

    def count(self, fate: str) -> int:
        """Images with this fate."""
        return int((self.table["fate"] == fate).sum())

    @property
    def theirs(self) -> np.ndarray:
        """Class of each scored image as its source names it, str [N]."""
        return self.table.loc[self.table["fate"] == SCORED, "label"].to_numpy(str)


class ExternalScores:
    """Everything the report says, computed once."""

    def __init__(self, check: ExternalCheck, seed: int = 0):
        """Scores the answers of ``check``; ``seed`` is of the intervals."""
        self.check, self.malignant = check, check.mapping.malignant
        self.scorer = Scorer(check.scored, self.malignant, RESAMPLES, seed)
        names = [*(MALIGNANT_SCORES if self.malignant else ()), *WANTED]
        self.intervals = self.scorer.intervals(names)
        self.by_class = self.scorer.by_class()
        self.unlike = self._unlike()
        self.referral = self._referral()
        self.points = self._points()
        self.subjects = self._subjects()
        self.cautions = list_cautions(check, self.unlike)

    def _unlike(self) -> Interval | None:
        """Share of images that the model calls unlike its training images; None where it cannot tell."""
        check, safeguards = self.check, self.check.model.safeguards
        if check.reasons is None or safeguards is None or safeguards.domain is None:
            return None
        return self.scorer.share(check.reasons == UNLIKE)

    def _referral(self) -> ReferScores | None:
        check, safeguards = self.check, self.check.model.safeguards
        if check.calibrated is None or check.members is None or check.reasons is None or safeguards is None:
            return None
        scorer = self.scorer.of(check.calibrated)
        return score_referral(scorer, check.members, check.reasons, safeguards.sets)

    def _points(self) -> tuple[ScoredPoint, ...]:
        """What the model's own thresholds reach here."""
        safeguards, calibrated = self.check.model.safeguards, self.check.calibrated
        if safeguards is None or calibrated is None or not self.malignant:
            return ()
        found = []
        for each in safeguards.points:
            called = self.scorer.of(collapse(calibrated, self.malignant, each.point.threshold))
            found.append(score_point(called, each.wanted, each.point.threshold))
        return tuple(found)

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
            score_calls(self.scorer, subjects, thresholds),
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
            "by_class": {
                name: {kind: found.to_json() for kind, found in scores.items()}
                for name, scores in self.by_class.items()
            },
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
        names = COMPARED if same else MALIGNANT_SCORES
        return {name: own[name] for name in names if name in own and name in self.intervals}


def list_cautions(check: ExternalCheck, unlike: Interval | None) -> list[str]:
    """Sentences on what the scores cannot tell, the gravest first.

    Args:
        check: what was found.
        unlike: share of images that the model calls unlike its training images; None where it cannot tell.
    """
    present = set(check.scored.labels.tolist())
    decided, tested = count_parts((check.model.seen or {}).values())
    return render_sentences(
        "external_cautions",
        check=check, unlike=unlike and float((check.reasons == UNLIKE).mean()), decided=decided, tested=tested,
        seen=check.count(SEEN), beside=check.count(BESIDE_SEEN), mapped_out=check.count(MAPPED_OUT),
        unreadable=check.count(UNREADABLE),
        missing=[name for index, name in enumerate(check.mapping.classes) if index not in present],
        groups=len(np.unique(check.scored.group_names)), groups_known=groups_known(check.scored), few=FEW_GROUPS,
    )  # fmt: skip


def count_parts(parts: Iterable[str]) -> tuple[int, int]:
    """Images that decided something (trained, stopped or chose), and images that were scored as a test alone."""
    listed = list(parts)
    tested = sum(part == "test" for part in listed)
    return len(listed) - tested, tested


def read_external_score(scores: ExternalScores, name: str) -> Score:
    """One metric with its interval, as the report shows it."""
    return score_of(name, scores.intervals[name], scores.check.mapping.classes)


def describe_scores(scores: ExternalScores) -> list[str]:
    """Lines for a terminal: scores with intervals, what was left out, every caution."""
    check = scores.check
    lines = [f"{len(check.scored):,} of {len(check.table):,} images scored", *check.mapping.describe()]
    for name, found in scores.intervals.items():
        score = read_external_score(scores, name)
        lines.append(f"{name:<24} {score.text:<8} {over_groups(score) or found.note}")
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
