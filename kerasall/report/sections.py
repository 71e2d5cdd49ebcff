"""Sections that several pages share: figures are drawn here, words stand in the templates."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from kerasall.evaluation.curves import BandedCurve
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.operating_points import NetBenefit, ScoredPoint
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.refer import REASONS, ReferScores, Safeguards
from kerasall.evaluation.reliability import Believed, CalibrationScores
from kerasall.evaluation.subject_calls import FEW_SUBJECTS, SENSITIVITY, SPECIFICITY, SubjectCalls
from kerasall.report.data_figures import (
    NAMED_SUBJECTS,
    GalleryImage,
    SubjectCount,
    draw_counts,
    draw_subject_accuracy,
    draw_subject_shares,
)
from kerasall.report.evidence import FITTED
from kerasall.report.page import Picture, Section, draw_picture, render_section
from kerasall.report.score_figures import (
    draw_confusion_matrix,
    draw_decision_curve,
    draw_precision_recall,
    draw_reliability,
    draw_roc_curves,
    draw_selective_accuracy,
)

_THUMBNAIL_SIDE = 192
_TITLES = {name: METRICS[name].title for name in ("brier", "log_loss")}


def confusion_section(
    matrix: np.ndarray,
    scored: Predictions,
    malignant: Sequence[str],
    roc: Sequence[BandedCurve],
    precision_recall: Sequence[BandedCurve],
    called: Mapping[str, Any] | None = None,
) -> Section | None:
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
    return render_section(
        "confusion",
        matrix=draw_picture(
            "confusion", lambda axes: draw_confusion_matrix(axes, matrix, classes, malignant), side
        ),
        roc=draw_picture("roc", partial(draw_roc_curves, curves=roc), 3.8) if roc else None,
        precision_recall=draw_picture(
            "precision-recall", partial(draw_precision_recall, curves=precision_recall, prevalences=prevalences), 3.8
        )
        if precision_recall else None,
        malignant=bool(malignant), called=called,
    )  # fmt: skip


def calibration_section(found: CalibrationScores | None) -> Section | None:
    """Reliability before and after temperature scaling, and what was fitted to what."""
    pictures = {} if found is None else {
        name: _draw_reliability(name, title, side)
        for name, title, side in (
            ("before", "The model's own probabilities", found.before), ("after", "Calibrated probabilities", found.after)
        )
    }  # fmt: skip
    fitted_on = FITTED[found.fitted_on] if found else ""
    return render_section("calibration", found=found, fitted_on=fitted_on, titles=_TITLES, **pictures)


def _draw_reliability(name: str, title: str, side: Believed) -> Picture:
    bins = side.reliability
    picture = draw_picture(
        f"reliability-{name}",
        lambda axes: draw_reliability(axes, bins.confidences, bins.accuracies, bins.counts, bins.error),
        height=4.1,
    )
    return replace(picture, alt=f"{title}. {picture.alt}")


def threshold_section(
    points: Sequence[ScoredPoint], benefit: Sequence[NetBenefit], malignant: Sequence[str], chosen_on: str
) -> Section | None:
    """Thresholds for wanted sensitivities, and the net benefit over thresholds.

    Args:
        points: scored on images that did not choose their thresholds.
        benefit: ascending thresholds.
        malignant: names of the malignant classes.
        chosen_on: one sentence on which images chose the thresholds.
    """
    curve = (
        draw_picture("decision-curve", partial(draw_decision_curve, benefit=benefit), 3.6)
        if benefit
        else None
    )
    return render_section(
        "thresholds", points=points, benefit=benefit, curve=curve, malignant=malignant, chosen_on=chosen_on
    )


def refer_section(
    found: ReferScores | None, safeguards: Safeguards | None, malignant: bool
) -> Section | None:
    """Accuracy against the share referred, what the exported rule refers, and the prediction sets."""
    picture = None
    if found is not None:
        c = found.curve
        picture = draw_picture(
            "selective-accuracy",
            lambda axes: draw_selective_accuracy(axes, c.x, c.y, c.band_low, c.band_high),
        )
    return render_section(
        "refer", found=found, safeguards=safeguards, curve=picture, malignant=malignant, reasons=REASONS
    )


def gallery_section(images: Sequence[GalleryImage], malignant: Sequence[str], choice: str) -> Section | None:
    """Pictures of wrong and right calls, titles red or green.

    Args:
        images: what to show; wrong ones are shown first, each kind in the order given.
        malignant: names of the malignant classes; a malignant cell called benign is marked.
        choice: one sentence on how the pictures were chosen.
    """
    pictures = {
        image.id: Picture(
            f"figures/gallery-{number:02d}.jpg",
            f"Cell {image.id}: true class {image.true}, called {image.called}, {image.sure}",
            encode_thumbnail(image.pixels, _THUMBNAIL_SIDE),
        )
        for number, image in enumerate(images, start=1)
    }
    return render_section("gallery", images=images, pictures=pictures, malignant=malignant, choice=choice)


def encode_thumbnail(pixels: np.ndarray, side: int, quality: int = 86) -> bytes:
    """JPEG of uint8 [H, W, 3], its longer side at most ``side`` pixels: some 8 kB, so that a page stays light."""
    picture = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


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
    picture = draw_picture(
        "subjects", lambda axes: draw_subject_accuracy(axes, ordered, classes, kind), height
    )
    return render_section("subjects", subjects=ordered, picture=picture, kind=kind, note=note)


def subject_calls_section(calls: SubjectCalls | str) -> Section | None:
    """Whole subjects called by their share of malignant cells, or why they are not."""
    if isinstance(calls, str):
        return render_section("subject_calls", calls=calls, tiles=(), picture=None, fitted_on="", few=0)
    truth, called = calls.subjects.malignant, calls.called
    height = min(1.5 + 0.2 * len(truth), 4.6) if len(truth) <= NAMED_SUBJECTS else 3.9
    tiles = [
        ("Subjects called rightly", (called == truth).sum(), len(truth), "Accuracy", calls.scores["accuracy"]),
        ("Malignant subjects missed", (truth & ~called).sum(), truth.sum(), "Sensitivity", calls.scores[SENSITIVITY]),
        ("False alarms", (called & ~truth).sum(), (~truth).sum(), "Specificity", calls.scores[SPECIFICITY]),
    ]  # fmt: skip
    picture = draw_picture("subject-calls", partial(draw_subject_shares, calls=calls), height)
    return render_section(
        "subject_calls",
        calls=calls,
        tiles=tiles,
        picture=picture,
        fitted_on=FITTED[calls.fitted_on],
        few=FEW_SUBJECTS,
    )


def data_section(
    classes: Sequence[str],
    parts: Sequence[str],
    images: np.ndarray,
    subjects: np.ndarray | None,
    kind: str,
    **words: Any,
) -> Section | None:
    """Counts by class and part, sizes, anomalies, duplicates.

    Args:
        classes, parts: C and P names.
        images: int [C, P], images of each class in each part.
        subjects: int [C, P], subjects (or blocks) likewise; None where unknown.
        kind: what a subject is called, in the singular.
        words: facts (label -> value), errors and warnings (messages), duplicates (sentences).
    """
    picture = draw_picture(
        "counts", lambda axes: draw_counts(axes, classes, parts, images), 1.3 + 0.34 * len(classes)
    )
    return render_section(
        "data", classes=list(classes), parts=list(parts), images=images, subjects=subjects, kind=kind, picture=picture, **words
    )  # fmt: skip
