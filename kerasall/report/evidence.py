"""What one evaluation found: everything a report and a card are made of.

The numbers of report.json and the card beside the model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall import __version__
from kerasall.data.development import Development, Facts
from kerasall.evaluation.ensemble_scores import EnsembleScores, ViewGain, for_curves
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import confusion_matrix, find_metric
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.review import ReviewRecord
from kerasall.evaluation.subject_calls import SubjectCalls
from kerasall.evaluation.trust_scores import TrustScores
from kerasall.report.taguchi import analysis_of
from kerasall.settings import Settings


def score_folds(evidence: Evidence) -> list[dict[str, Any]]:
    """The main metric on each held-out fold; empty where there are none."""
    if evidence.scored != "out-of-fold":
        return []
    metric = find_metric(evidence.settings.evaluate.main_metric, evidence.facts.labels)
    development = evidence.development
    part = dict(zip(development.examples["id"], development.examples["part"], strict=True))
    parts = np.asarray([part[name] for name in evidence.predictions.ids])
    folds = []
    for fold in development.split.folds:
        held_out = evidence.predictions.take(parts == fold)
        groups = len(np.unique(held_out.groups))
        score = metric(held_out, evidence.facts.malignant)
        folds.append({"fold": fold, "images": len(held_out), "groups": groups, "score": score})
    return folds


@dataclass(frozen=True, eq=False)
class Scored:
    """What is scored.

    Attributes:
        kind: what the images are: test, out-of-fold, validation or selection.
        predictions: of the model.
        members: of an ensemble, name -> predictions of the same images; empty for one classifier.
        ensemble: how the ensemble was made, or None.
        distances: of the images to the training images [N], where the exported model was asked.
    """

    kind: str
    predictions: Predictions
    members: dict[str, Predictions] = field(default_factory=dict)
    ensemble: dict[str, Any] | None = None
    distances: np.ndarray | None = None

    @property
    def curves(self) -> Predictions:
        """Predictions whose probabilities curves are drawn from; see ``for_curves``."""
        if self.ensemble is None:
            return self.predictions
        return for_curves(self.predictions, list(self.members.values()), self.ensemble["rule"])


GROUP_KINDS = {"subject": "groups of patients", "block": "blocks of images", "none": "groups of images"}

"""Kind of subject -> what intervals resample, in the plural."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything a report is made of; ``subject_calls`` is a sentence where subjects cannot be called."""

    scored: str
    predictions: Predictions
    intervals: dict[str, Interval]
    criteria: list[tuple[str, bool]]
    facts: Facts
    development: Development
    test: pd.DataFrame
    split_folder: Path
    statistics: dict[str, Any]
    anomalies: dict[str, Any]
    training: dict[str, Any]
    settings: Settings
    command: str
    curves: Predictions
    ensemble: EnsembleScores | None = None
    tuning: dict[str, Any] | None = None
    review: ReviewRecord | None = None
    trust: TrustScores | None = None
    subject_calls: SubjectCalls | str = ""
    views: ViewGain | None = None

    @property
    def blessed(self) -> bool:
        """Whether every criterion is met."""
        return all(met for _, met in self.criteria)

    @property
    def group_kind(self) -> str:
        """What the intervals resample, in the plural."""
        return GROUP_KINDS[self.facts.subject_kind]

    @property
    def examples(self) -> pd.DataFrame:
        """All rows that were used, with their part."""
        return pd.concat([self.development.examples, self.test], ignore_index=True)


@dataclass(frozen=True)
class Missed:
    """Malignant images called benign, out of all malignant ones."""

    called_benign: int
    total: int


def count_missed(predictions: Predictions, malignant: tuple[str, ...]) -> Missed:
    """Counts malignant images decided as a benign class."""
    matrix = confusion_matrix(predictions)
    is_malignant = np.isin(predictions.classes, malignant)
    rows = matrix[is_malignant]
    return Missed(int(rows[:, ~is_malignant].sum()), int(rows.sum()))


def make_results(evidence: Evidence) -> dict[str, Any]:
    """The numbers of report.json, for programs."""
    missed = count_missed(evidence.predictions, evidence.facts.malignant)
    calls = evidence.subject_calls
    return {
        "scored": evidence.scored,
        "images": len(evidence.predictions),
        "labels": list(evidence.facts.labels),
        "malignant": list(evidence.facts.malignant),
        "metrics": {name: interval.to_json() for name, interval in evidence.intervals.items()},
        "confusion_matrix": confusion_matrix(evidence.predictions).tolist(),
        "malignant_called_benign": missed.called_benign if evidence.facts.malignant else None,
        "malignant_images": missed.total if evidence.facts.malignant else None,
        "folds": score_folds(evidence),
        "blessed": evidence.blessed,
        "ensemble": evidence.ensemble.to_json() if evidence.ensemble else None,
        "views": evidence.views.to_json() if evidence.views else None,
        "tuning": analysis_of(evidence.tuning),
        "trust": evidence.trust.to_json() if evidence.trust else None,
        "subject_calls": calls.to_json() if isinstance(calls, SubjectCalls) else {"not_made": calls},
        "criteria": [{"criterion": text, "met": met} for text, met in evidence.criteria],
        "fingerprint": evidence.facts.fingerprint,
    }


def make_card(evidence: Evidence) -> dict[str, Any]:
    """What stands beside the pushed model, for people and programs."""
    return {
        "schema_version": 1,
        "experiment": evidence.settings.experiment,
        "description": evidence.settings.description,
        "intended_use": "Research use only: not a diagnostic device.",
        "kerasall_version": __version__,
        "model": _model_json(evidence),
        "preprocess": evidence.development.preprocess,
        "limits": asdict(evidence.development.limits),
        "data": {"source": evidence.facts.source, "notes": list(evidence.facts.notes)},
        "safeguards": evidence.trust.safeguards.to_json() if evidence.trust else None,
        "results": make_results(evidence),
    }


def _model_json(evidence: Evidence) -> Any:
    """The classifier's settings, those of every member with the rule that joins them, or what a search chose."""
    settings = evidence.settings
    if settings.deep_features or settings.sweep:
        return {key: evidence.training[key] for key in ("model", "chosen") if key in evidence.training}
    if not settings.members:
        return settings.model.model_dump(mode="json")
    members = {member.name: member.model.model_dump(mode="json") for member in settings.members}
    return {"ensemble": settings.ensemble.model_dump(mode="json"), "members": members}
