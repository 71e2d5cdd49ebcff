"""Sections of a report on scores: the summary, the intervals, the folds, the members, the confusion."""

from __future__ import annotations

from typing import Any

import numpy as np

from kerasall.components.evidence import Evidence, count_missed
from kerasall.components.record_tables import describe_training
from kerasall.components.report_words import (
    SCORED,
    describe_model,
    describe_refit,
    describe_split,
    describe_stages,
)
from kerasall.evaluation.curves import BandedCurve
from kerasall.evaluation.ensemble_section import ensemble_section
from kerasall.evaluation.figures import Curve
from kerasall.evaluation.macro_curves import precision_recall_curves, roc_curves
from kerasall.evaluation.metrics import (
    METRICS,
    confusion_matrix,
    find_metric,
    per_class_table,
)
from kerasall.evaluation.report_document import Section
from kerasall.evaluation.report_sections import ClassScores, FoldScores, confusion_section, scores_section
from kerasall.evaluation.report_summary import MissedMalignant, Score, Verdict, summary_section

PERCENT = {"accuracy", "balanced_accuracy", "malignant_sensitivity", "malignant_specificity"}
"""Metrics that read as percentages; the others read as plain numbers."""

MEANINGS = {
    "accuracy": "share of images given the right class",
    "balanced_accuracy": "mean of the classes' sensitivities; large classes count no more than small ones",
    "f1_weighted": "balance of sensitivity and precision, weighted by the images of each class",
    "f1_macro": "the same, every class counting alike",
    "cohen_kappa": "agreement beyond what chance alone would give; 1 is perfect",
    "mcc": "correlation of true and called classes; 0 is guessing",
    "roc_auc": "chance that an image of a class gets a higher probability for it than another image",
    "log_loss": "punishes confident wrong calls; 0 is perfect, lower is better",
    "malignant_sensitivity": "share of malignant images called malignant, whatever their subtype",
    "malignant_specificity": "share of benign images called benign",
}


def read_score(evidence: Evidence, name: str) -> Score:
    """One metric with its interval, as the report shows it."""
    interval = evidence.intervals[name]
    low, high = interval.low, interval.high
    chance = 1 / len(evidence.facts.labels) if name == "balanced_accuracy" else None
    title = find_metric(name, evidence.facts.labels).title
    return Score(title, interval.value, low, high, name in PERCENT, MEANINGS.get(name, ""), chance)


def make_summary(evidence: Evidence, main: Score) -> Section:
    """The first section: what was trained on what, the main score, the verdict."""
    counts = evidence.examples["label"].value_counts()
    classes = ", ".join(f"{label} ({counts.get(label, 0):,})" for label in evidence.facts.labels)
    missed = None
    if evidence.facts.malignant:
        count = count_missed(evidence.predictions, evidence.facts.malignant)
        missed = MissedMalignant(
            count.called_benign,
            count.total,
            read_score(evidence, "malignant_sensitivity"),
            read_score(evidence, "malignant_specificity"),
        )
    groups = evidence.intervals[evidence.settings.evaluate.main_metric].groups
    return summary_section(
        trained=describe_training(evidence.training)
        or f"{describe_model(evidence.settings)}, {evidence.training['parameters']:,} parameters, trained in "
        f"{describe_stages(evidence.settings)}.{describe_refit(evidence)}",
        data=f"{len(evidence.examples):,} images: {classes}.",
        split=f"Scored on {SCORED[evidence.scored]} ({len(evidence.predictions):,} images). {describe_split(evidence)}",
        main=main,
        resampled=f"{groups} {evidence.group_kind}",
        verdict=Verdict(evidence.blessed, tuple(evidence.criteria)),
        missed=missed,
        others=(read_score(evidence, "balanced_accuracy"),)
        if main.label != METRICS["balanced_accuracy"].title
        else (),
        data_notes=evidence.facts.notes,
        protocol=evidence.settings.protocol,
    )


def make_scores(evidence: Evidence, main: Score) -> Section:
    """Every metric with its interval, the classes and the held-out folds."""
    names = list(evidence.intervals)
    notes = sorted({interval.note for interval in evidence.intervals.values() if interval.note})
    folds = [
        FoldScores(f["fold"], f["images"], f["groups"], {main.label: f["score"]})
        for f in score_folds(evidence)
    ]
    groups = evidence.intervals[names[0]].groups
    return scores_section(
        [read_score(evidence, name) for name in names],
        _per_class(evidence),
        folds,
        main if folds else None,
        method=f"Intervals resample {groups} {evidence.group_kind}: images of one group resemble each other, so "
        "single images would make them far too narrow.",
        notes=notes,
    )


def _per_class(evidence: Evidence) -> list[ClassScores]:
    rows = []
    for _, row in per_class_table(evidence.predictions).iterrows():
        scores = (
            Score("Sensitivity", row["recall"]),
            Score("Precision", row["precision"]),
            Score("Specificity", row["specificity"]),
            Score("F1", row["f1"], percent=False),
        )
        rows.append(ClassScores(row["class"], int(row["images"]), scores))
    return rows


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


def make_ensemble(evidence: Evidence) -> list[Section]:
    """The members beside the ensemble; nothing for one classifier."""
    if evidence.ensemble is None:
        return []
    chosen = evidence.settings.ensemble.weights_from == "selection" and bool(
        evidence.ensemble.description["decided_by"]
    )
    return [ensemble_section(evidence.ensemble, evidence.facts.labels, PERCENT, chosen)]


def make_confusion(evidence: Evidence) -> Section:
    """The confusion of the classes, their ROC and precision-recall curves with bands."""
    options = {"resamples": min(evidence.settings.evaluate.resamples, 1000), "seed": evidence.settings.seed}
    predictions, malignant = evidence.curves, evidence.facts.malignant
    precision_recall = precision_recall_curves(predictions, malignant, **options)
    counts = np.bincount(predictions.labels, minlength=len(predictions.classes)) / len(predictions)
    of_class = dict(zip(predictions.classes, counts.tolist(), strict=True))
    return confusion_section(
        confusion_matrix(evidence.predictions),
        evidence.facts.labels,
        evidence.facts.malignant,
        roc=_as_drawn(roc_curves(predictions, malignant, **options)),
        precision_recall=_as_drawn(precision_recall),
        prevalences=[of_class[curve.label] for curve in precision_recall if curve.label in of_class],
    )


def _as_drawn(curves: list[BandedCurve]) -> list[Curve]:
    return [Curve(**vars(curve)) for curve in curves]
