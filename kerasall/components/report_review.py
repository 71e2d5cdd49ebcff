"""Sections of a report on labels, and the record that a review is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kerasall.components.ensembler import MEMBERS
from kerasall.components.evidence import Evidence
from kerasall.components.report_scores import PERCENT
from kerasall.components.statistics_gen import read_duplicates
from kerasall.components.trainer import PREDICTIONS
from kerasall.data.label_corrections import CorrectionFile, read_corrections
from kerasall.data.splits import Split
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.predictions import read_predictions
from kerasall.evaluation.report_document import Section
from kerasall.evaluation.report_summary import format_value
from kerasall.evaluation.review import build_queue
from kerasall.evaluation.review_record import ReviewRecord, ReviewSource
from kerasall.evaluation.review_section import (
    LEFT_OUT,
    CorrectedFile,
    CorrectedLabel,
    ScoreBefore,
    corrections_section,
    review_section,
)

if TYPE_CHECKING:
    from kerasall.components.evaluator import Scored


def review_sources(scored: Scored, record: Path, split: Split) -> list[ReviewSource]:
    """Predictions by models that had not seen the images: the scored ones, then the Trainer's record.

    Args:
        scored: what the Evaluator scores.
        record: folder of the TrainingRecord.
        split: without the test part.
    """
    first = ReviewSource(scored.kind, scored.predictions, scored.members)
    kind = "out-of-fold" if split.folds else "validation" if "validation" in split.parts else "selection"
    if kind == scored.kind:
        return [first]
    members = {name: read_predictions(record / MEMBERS / name / PREDICTIONS) for name in scored.members}
    return [first, ReviewSource(kind, read_predictions(record / PREDICTIONS), members)]


def make_review_record(
    images: pd.DataFrame,
    classes: tuple[str, ...],
    sources: list[ReviewSource],
    statistics: Path,
    frozen_split: Path,
) -> ReviewRecord:
    """What a review needs, from the artifacts of a run.

    Args:
        images: all examples that were used, with group and part.
        classes: names in class order.
        sources: predictions by models that had not seen the images; the scored ones first.
        statistics, frozen_split: folders of these artifacts.
    """
    label = dict(zip(images["id"], images["label"], strict=True))
    _, near = read_duplicates(statistics)
    # An image may be in no part (a copy of a published test image): it is not looked at.
    known = [[name for name in group if name in label] for group in near]
    contradictions = [group for group in known if len({label[name] for name in group}) > 1]
    decided = [each.id for file in read_corrections(frozen_split) for each in file.corrections]
    return ReviewRecord(classes, sources, images, contradictions, sorted(set(decided) & set(label)))


def make_review(evidence: Evidence) -> list[Section]:
    """The head of the review queue."""
    if evidence.review is None:
        return []
    return [review_section(build_queue(evidence.review), evidence.settings.experiment)]


def make_corrections(evidence: Evidence) -> list[Section]:
    """Every corrected label; nothing where none was corrected."""
    files = read_corrections(evidence.split_folder)
    if not files:
        return []
    shown = [
        CorrectedFile(file.name, file.sha256, _list_changes(file), file.count("confirmed")) for file in files
    ]
    score = score_before(evidence, files)
    frozen = evidence.settings.split.file is not None
    return [corrections_section(shown, evidence.predictions.ids.tolist(), evidence.scored, score, frozen)]


def _list_changes(file: CorrectionFile) -> list[CorrectedLabel]:
    return [
        CorrectedLabel(
            each.id, each.label, LEFT_OUT if each.kind == "excluded" else each.corrected_label, each.part,
            each.reviewer, each.comment,
        )
        for each in file.corrections
        if each.kind != "confirmed"
    ]  # fmt: skip


def score_before(evidence: Evidence, files: list[CorrectionFile]) -> ScoreBefore | None:
    """The main score of the scored images on the labels before all corrections; None if none of them changed."""
    first = {each.id: each.label for file in reversed(files) for each in file.corrections}
    predictions = evidence.predictions
    before = [first.get(name, "") for name in predictions.ids]
    index = {name: number for number, name in enumerate(predictions.classes)}
    labels = np.asarray(
        [index.get(old, now) for old, now in zip(before, predictions.labels, strict=True)], np.int64
    )
    if np.array_equal(labels, predictions.labels):
        return None
    name = evidence.settings.evaluate.main_metric
    metric = find_metric(name, predictions.classes)
    scored = evidence.curves if metric.needs_probabilities else predictions
    values = [metric(record, evidence.facts.malignant) for record in (replace(scored, labels=labels), scored)]
    before_words, after_words = (format_value(float(value), name in PERCENT) for value in values)
    return ScoreBefore(metric.title, before_words, after_words)
