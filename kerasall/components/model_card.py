"""The numbers of report.json and the card beside the model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kerasall import __version__
from kerasall.components.evidence import Evidence, count_missed
from kerasall.components.report_scores import score_folds
from kerasall.components.tuning_record import analysis_of
from kerasall.evaluation.metrics import confusion_matrix
from kerasall.evaluation.subject_calls import SubjectCalls


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
