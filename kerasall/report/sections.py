"""Sections that several pages share: figures are drawn here, words stand in the templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kerasall.decoding import Limits, SixteenBit, decode, read_image_bytes
from kerasall.evaluation.calibration import CalibrationScores
from kerasall.evaluation.curves import BandedCurve
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.operating_points import NetBenefit, Prevalence, ScoredPoint
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.safeguards import REASONS, Safeguards
from kerasall.evaluation.subject_calls import FEW_SUBJECTS, SENSITIVITY, SPECIFICITY, SubjectCalls
from kerasall.evaluation.trust_scores import ReferScores
from kerasall.report.evidence import FITTED, ONE_GROUP
from kerasall.report.figures_data import (
    NAMED_SUBJECTS,
    GalleryImage,
    SubjectCount,
    draw_counts,
    draw_subject_accuracy,
    draw_subject_shares,
)
from kerasall.report.figures_scores import (
    draw_confusion_matrix,
    draw_decision_curve,
    draw_precision_recall,
    draw_reliability,
    draw_roc_curves,
    draw_selective_accuracy,
)
from kerasall.report.page import Section, draw_picture, encode_picture, render_section

_TITLES = {name: METRICS[name].title for name in ("brier", "log_loss")}


def confusion_section(
    matrix: np.ndarray, scored: Predictions, malignant: Sequence[str], roc: Sequence[BandedCurve],
    precision_recall: Sequence[BandedCurve], called: Mapping[str, Any] | None = None,
) -> Section | None:  # fmt: skip
    """Confusion matrix, ROC and precision-recall curves.

    Args:
        matrix: int [C, C], true classes down, called classes across.
        scored: the images that the curves are of.
        malignant: names of the malignant classes.
        roc, precision_recall: curves of the classes.
        called: a table of what each class was called: columns, rows, notes; or None.
    """
    classes = scored.classes
    shares = dict(zip(classes, np.bincount(scored.labels, minlength=len(classes)) / len(scored), strict=True))
    prevalences = [float(shares[curve.label]) for curve in precision_recall if curve.label in shares]
    side = min(3.1 + 0.24 * max(len(classes) - 2, 0), 5.6)
    curves = precision_recall and draw_picture(
        "precision-recall", draw_precision_recall, precision_recall, prevalences, height=3.8
    )
    return render_section(
        "confusion",
        matrix=draw_picture("confusion", draw_confusion_matrix, matrix, classes, malignant, height=side),
        roc=roc and draw_picture("roc", draw_roc_curves, roc, height=3.8), precision_recall=curves,
        malignant=bool(malignant), called=called,
    )  # fmt: skip


def calibration_section(found: CalibrationScores | None) -> Section | None:
    """Reliability before and after temperature scaling, and what was fitted to what."""
    sides = {} if found is None else {
        "before": ("The model's own probabilities", found.before), "after": ("Calibrated probabilities", found.after),
    }  # fmt: skip
    pictures = {
        name: draw_picture(f"reliability-{name}", draw_reliability, side.reliability, height=4.1, of=title)
        for name, (title, side) in sides.items()
    }
    fitted_on = FITTED[found.fitted_on] if found else ""
    return render_section("calibration", found=found, fitted_on=fitted_on, titles=_TITLES, **pictures)


def threshold_section(
    points: Sequence[ScoredPoint],
    benefit: Sequence[NetBenefit],
    malignant: Sequence[str],
    chosen_on: str,
    prevalence: Prevalence | None = None,
    own: Mapping[str, Interval | None] | None = None,
) -> Section | None:
    """Thresholds for wanted sensitivities, and the net benefit over thresholds.

    Args:
        points: scored on images that did not choose their thresholds.
        benefit: ascending thresholds.
        malignant: names of the malignant classes.
        chosen_on: one sentence on which images chose the thresholds.
        prevalence: that predictive values and net benefit hold for; None: that of the scored images.
        own: predictive values of the model's own calls there.
    """
    curve = benefit and draw_picture("decision-curve", draw_decision_curve, benefit, height=3.6)
    return render_section(
        "thresholds",
        points=points,
        benefit=benefit,
        curve=curve,
        malignant=malignant,
        chosen_on=chosen_on,
        prevalence=prevalence,
        own=own,
    )


def refer_section(
    found: ReferScores | None, safeguards: Safeguards | None, malignant: bool, subject_kind: str = "none"
) -> Section | None:
    """Accuracy against the share referred, what the exported rule refers, and the prediction sets.

    Args:
        found: on the scored images.
        safeguards: of the exported model.
        malignant: whether classes are named so.
        subject_kind: what the images are grouped by that fitted them: subject, block or none.
    """
    curve = found and draw_picture("selective-accuracy", draw_selective_accuracy, found.curve)
    return render_section(
        "refer",
        found=found,
        safeguards=safeguards,
        curve=curve,
        malignant=malignant,
        reasons=REASONS,
        one_group=ONE_GROUP[subject_kind],
    )


def choose_gallery(predictions: Predictions, count: int, seed: int) -> list[int]:
    """Rows to show: up to half wrong calls, the surest first, the rest right calls drawn at random."""
    sure = predictions.probabilities[np.arange(len(predictions)), predictions.decisions]
    wrong = np.flatnonzero(predictions.decisions != predictions.labels)
    right = np.flatnonzero(predictions.decisions == predictions.labels)
    shown = wrong[np.argsort(-sure[wrong], kind="stable")][: count // 2]
    drawn = np.random.default_rng(seed).permutation(right)[: count - len(shown)]
    return [*shown.tolist(), *sorted(drawn.tolist())]


def show_images(
    predictions: Predictions, rows: Sequence[int], paths: Mapping[str, str], limits: Limits,
    sixteen_bit: SixteenBit, voters: int = 0, unnamed: Sequence[str] = (),
) -> list[GalleryImage]:  # fmt: skip
    """The images of some rows, decoded.

    Args:
        predictions: with the model's decisions.
        rows: which of them.
        paths: id -> file.
        limits: on the size of images.
        sixteen_bit: what becomes of 16-bit samples.
        voters: how many members voted; 0 for one classifier.
        unnamed: by row, what stands for a subject that has no name.
    """
    decisions, classes = np.asarray(predictions.decisions), predictions.classes
    images = []
    for row in rows:
        path, called = paths[predictions.ids[row]], decisions[row]
        pixels = decode(read_image_bytes(path, limits), limits, path, sixteen_bit=sixteen_bit)
        images.append(
            GalleryImage(
                id=predictions.ids[row], pixels=pixels,
                true=classes[predictions.labels[row]], called=classes[called],
                probability=float(predictions.probabilities[row, called]),
                subject=str(predictions.subjects[row] or (unnamed[row] if len(unnamed) else "")), voters=voters,
            )
        )  # fmt: skip
    return images


def gallery_section(images: Sequence[GalleryImage], malignant: Sequence[str]) -> Section | None:
    """Pictures of wrong and right calls, titles red or green.

    Args:
        images: of ``choose_gallery``; wrong ones are shown first, each kind in the order given.
        malignant: names of the malignant classes; a malignant cell called benign is marked.
    """
    pictures = {}
    for number, image in enumerate(images, start=1):
        alt = f"Cell {image.id}: true class {image.true}, called {image.called}, {image.sure}"
        pictures[image.id] = encode_picture(f"gallery-{number:02d}", alt, image.pixels)
    return render_section("gallery", images=images, pictures=pictures, malignant=malignant)


def count_right(predictions: Predictions) -> list[SubjectCount]:
    """Right calls and images of every subject and class."""
    right = predictions.decisions == predictions.labels
    table = pd.DataFrame({"subject": predictions.subjects, "label": predictions.labels, "right": right})
    counts = table.groupby(["subject", "label"])["right"].agg(["sum", "size"])
    return [
        SubjectCount(str(subject), predictions.classes[label], int(right), int(total))
        for (subject, label), (right, total) in zip(counts.index, counts.to_numpy(), strict=True)
    ]


def subject_section(
    subjects: Sequence[SubjectCount], classes: Sequence[str], kind: str, note: str = ""
) -> Section | None:
    """Accuracy of every subject (or block), worst first, as a plot and a table.

    Args:
        subjects: one entry a subject and class.
        classes: names in class order.
        kind: what a subject is called, in the singular: ``subject`` or ``block``.
        note: one sentence on what a subject is here.
    """
    ordered = sorted(subjects, key=lambda each: (each.accuracy, each.name))
    height = 1.4 + 0.2 * len(ordered) if len(ordered) <= NAMED_SUBJECTS else 3.9
    picture = draw_picture("subjects", draw_subject_accuracy, ordered, classes, kind, height=height)
    return render_section("subjects", subjects=ordered, picture=picture, kind=kind, note=note)


def subject_calls_section(calls: SubjectCalls | str) -> Section | None:
    """Whole subjects called by their share of malignant cells, or why they are not."""
    if isinstance(calls, str):
        return render_section("subject_calls", calls=calls)
    truth, called = calls.subjects.malignant, calls.called
    height = min(1.5 + 0.2 * len(truth), 4.6) if len(truth) <= NAMED_SUBJECTS else 3.9
    tiles = [
        ("Subjects called rightly", (called == truth).sum(), len(truth), "Accuracy", calls.scores["accuracy"]),
        ("Malignant subjects missed", (truth & ~called).sum(), truth.sum(), "Sensitivity", calls.scores[SENSITIVITY]),
        ("False alarms", (called & ~truth).sum(), (~truth).sum(), "Specificity", calls.scores[SPECIFICITY]),
    ]  # fmt: skip
    picture = draw_picture("subject-calls", draw_subject_shares, calls, height=height)
    return render_section(
        "subject_calls", calls=calls, tiles=tiles, picture=picture, fitted_on=FITTED[calls.fitted_on], few=FEW_SUBJECTS
    )  # fmt: skip


def count_images(
    labels: pd.Series, parts: pd.Series, classes: Sequence[str], order: Sequence[str]
) -> np.ndarray:
    """Images of each of the C classes in each of the P parts, int [C, P]; both are one entry an image."""
    counts = pd.crosstab(labels, parts)
    return counts.reindex(index=list(classes), columns=list(order), fill_value=0).to_numpy()


def data_section(
    classes: Sequence[str], parts: Sequence[str], images: np.ndarray, subjects: np.ndarray | None, kind: str,
    **found: Any,
) -> Section | None:  # fmt: skip
    """Counts by class and part, sizes, anomalies, duplicates.

    Args:
        classes, parts: C and P names.
        images: int [C, P], images of each class in each part.
        subjects: int [C, P], subjects (or blocks) likewise; None where unknown.
        kind: what a subject is called, in the singular.
        found: fingerprint; sizes (size -> images); errors and warnings (with a message each); duplicates (sentences).
    """
    height = 1.3 + 0.34 * len(classes)
    return render_section(
        "data", classes=list(classes), parts=list(parts), images=images, subjects=subjects, kind=kind,
        picture=draw_picture("counts", draw_counts, classes, parts, images, height=height), **found,
    )  # fmt: skip
