"""Sections of a report on single images and subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from kerasall.components.evidence import Evidence
from kerasall.decoding import decode, read_image_bytes
from kerasall.evaluation.data_figures import GalleryImage, SubjectCount
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.report_document import Section
from kerasall.evaluation.report_sections import gallery_section, subject_section
from kerasall.evaluation.subject_calls import SubjectCalls
from kerasall.evaluation.subject_calls_section import no_subject_calls_section, subject_calls_section


def make_gallery(evidence: Evidence) -> Section:
    """Images with their true and called class."""
    predictions = evidence.predictions
    chosen = choose_gallery(predictions, evidence.settings.evaluate.gallery, evidence.settings.seed)
    paths = dict(zip(evidence.examples["id"], evidence.examples["path"], strict=True))
    limits = evidence.development.limits
    decisions = np.asarray(predictions.decisions)
    vote = evidence.ensemble and evidence.ensemble.description["rule"] == "majority_vote"
    voters = len(evidence.ensemble.members) if evidence.ensemble and vote else 0
    images = []
    for row in chosen:
        name = predictions.ids[row]
        path = Path(paths[name])
        images.append(
            GalleryImage(
                id=name,
                pixels=decode(read_image_bytes(path, limits), limits, str(path)),
                true=predictions.classes[predictions.labels[row]],
                called=predictions.classes[decisions[row]],
                probability=float(predictions.probabilities[row, decisions[row]]),
                subject=predictions.subjects[row],
                voters=voters,
            )
        )
    choice = "Shown are the wrong calls the model was surest of, and right calls drawn at random."
    return gallery_section(images, evidence.facts.malignant, choice)


def choose_gallery(predictions: Predictions, count: int, seed: int) -> list[int]:
    """Rows to show: up to half wrong calls, the surest first, the rest right calls drawn at random."""
    sure = predictions.probabilities[np.arange(len(predictions)), predictions.decisions]
    wrong = np.flatnonzero(predictions.decisions != predictions.labels)
    right = np.flatnonzero(predictions.decisions == predictions.labels)
    shown = wrong[np.argsort(-sure[wrong], kind="stable")][: count // 2]
    drawn = np.random.default_rng(seed).permutation(right)[: count - len(shown)]
    return [*shown.tolist(), *sorted(drawn.tolist())]


def make_subjects(evidence: Evidence) -> list[Section]:
    """Right calls subject by subject; nothing where no subject is known."""
    if evidence.facts.subject_kind == "none":
        return []
    predictions = evidence.predictions
    right = predictions.decisions == predictions.labels
    table = pd.DataFrame({"subject": predictions.subjects, "label": predictions.labels, "right": right})
    counts = table.groupby(["subject", "label"])["right"].agg(["sum", "size"])
    subjects = [
        SubjectCount(str(subject), predictions.classes[label], int(right), int(total))
        for (subject, label), (right, total) in zip(counts.index, counts.to_numpy(), strict=True)
    ]
    note = "; ".join(evidence.facts.notes) if evidence.facts.subject_kind == "block" else ""
    return [subject_section(subjects, evidence.facts.labels, evidence.facts.subject_kind, note)]


def make_subject_calls(evidence: Evidence) -> list[Section]:
    """Whole subjects called by their share of malignant cells, or why they are not."""
    calls = evidence.subject_calls
    if isinstance(calls, SubjectCalls):
        return [subject_calls_section(calls)]
    return [no_subject_calls_section(calls)] if calls else []
