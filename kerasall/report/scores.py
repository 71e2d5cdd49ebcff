"""Sections about scores: all scores, confusion and ROC, gallery, subjects.

Every function takes computed values and returns a ``Section``; none computes a score. The summary
is in ``report_summary``; training, data, protocol and provenance in ``report_background``. A report
is put together as

    Report(title, subtitle, protocol, facts, results, sections=(summary_section(...), ...))
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from kerasall.evaluation.intervals import wilson_interval
from kerasall.report.data_figures import GalleryImage, SubjectCount, draw_subject_accuracy
from kerasall.report.document import (
    Block,
    Cell,
    Column,
    FigureBlock,
    Gallery,
    GalleryItem,
    Heading,
    Section,
    Table,
    Tone,
    Width,
)
from kerasall.report.figure_style import figure_to_svg, new_figure
from kerasall.report.format import Score, format_value
from kerasall.report.score_figures import (
    Curve,
    draw_confusion_matrix,
    draw_fold_scores,
    draw_precision_recall,
    draw_roc_curves,
)

_THUMBNAIL_SIDE = 192


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class against the rest."""

    name: str
    images: int
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class FoldScores:
    """Scores of one held-out fold: label -> share in [0, 1]."""

    name: str
    images: int
    groups: int
    scores: Mapping[str, float] = field(default_factory=dict)


def figure_block(
    name: str, figure: Figure, alt: str, caption: str = "", width: Width = "half"
) -> FigureBlock:
    """The figure as an SVG block at ``figures/<name>.svg``."""
    return FigureBlock(f"figures/{name}.svg", alt, caption, width, figure_to_svg(figure))


def scores_section(
    scores: Sequence[Score],
    per_class: Sequence[ClassScores],
    folds: Sequence[FoldScores] = (),
    main: Score | None = None,
    method: str = "",
    notes: Sequence[str] = (),
) -> Section:
    """All scores with intervals, one row a class, and the folds of a cross-validation.

    Args:
        scores: over all classes.
        per_class: each class against the rest; all with the same labels of scores.
        folds: held-out folds, or empty.
        main: pooled score drawn beside the folds; its label must be among the folds' scores.
        method: one sentence on how the intervals were made.
        notes: below the first table, for example that few groups make intervals too narrow.
    """
    rows = tuple((Cell(s.label, s.meaning), s.text, s.interval or None) for s in scores)
    columns = (Column("Score"), Column("Value", "right"), Column("95% interval", "right"))
    blocks: list[Block] = [
        Table("Scores over all classes", columns, rows, tuple(notes)),
        _class_table(per_class),
    ]
    if folds:
        blocks.append(_fold_table(folds))
    if folds and main is not None:
        figure, axes = new_figure(height=3.0)
        alt = draw_fold_scores(
            axes[0, 0],
            [f.name for f in folds],
            [f.scores[main.label] for f in folds],
            main.value,
            main.low,
            main.high,
        )
        caption = f"{main.label}: each fold while it was held out, and all folds together."
        blocks.append(figure_block("folds", figure, alt, caption))
    return Section("scores", "Scores", method, tuple(blocks))


def _class_table(classes: Sequence[ClassScores]) -> Table:
    labels = [score.label for score in classes[0].scores]
    columns = (Column("Class"), Column("Images", "right"), *(Column(label, "right") for label in labels))
    rows = tuple((c.name, f"{c.images:,}", *(Cell(s.text, s.interval) for s in c.scores)) for c in classes)
    return Table("Each class against the rest", columns, rows)


def _fold_table(folds: Sequence[FoldScores]) -> Table:
    labels = list(folds[0].scores)
    names = ("Images", "Groups", *labels)
    columns = (Column("Fold"), *(Column(name, "right") for name in names))
    rows = tuple(
        (f.name, f"{f.images:,}", f"{f.groups:,}", *(format_value(f.scores[label]) for label in labels))
        for f in folds
    )
    return Table("Folds, each while held out", columns, rows, width="half")


def confusion_section(
    matrix: np.ndarray,
    classes: Sequence[str],
    malignant: Sequence[str] = (),
    roc: Sequence[Curve] = (),
    precision_recall: Sequence[Curve] = (),
    prevalences: Sequence[float] = (),
) -> Section:
    """Confusion matrix, ROC and precision-recall figures.

    Args:
        matrix: int [C, C], true classes down, called classes across.
        classes: C names.
        malignant: names of the malignant classes.
        roc: curves of the classes (see ``draw_roc_curves``).
        precision_recall: curves of the classes (see ``draw_precision_recall``).
        prevalences: shares of the precision-recall curves' classes.
    """
    side = 3.1 + 0.24 * max(len(classes) - 2, 0)
    figure, axes = new_figure(height=min(side, 5.6))
    alt = draw_confusion_matrix(axes[0, 0], matrix, classes, malignant)
    caption = "Counts, and the percentage of each true class (rows add up to 100%)."
    caption += " Outlined in red: malignant cells called benign." if malignant else ""
    blocks = [figure_block("confusion", figure, alt, caption)]
    if roc:
        figure, axes = new_figure(height=3.8)
        alt = draw_roc_curves(axes[0, 0], roc)
        caption = "ROC: the closer a curve comes to the upper left corner, the better; the dashed diagonal is guessing. Shaded: 95% intervals over groups."
        blocks.append(figure_block("roc", figure, alt, caption))
    if precision_recall:
        figure, axes = new_figure(height=3.8)
        alt = draw_precision_recall(axes[0, 0], precision_recall, prevalences)
        caption = "Precision and recall; dotted lines show the precision of guessing. Shaded: 95% intervals over groups."
        blocks.append(figure_block("precision-recall", figure, alt, caption))
    return Section("confusion", "Which classes are mistaken for which", blocks=tuple(blocks))


def gallery_section(
    images: Sequence[GalleryImage], malignant: Sequence[str] = (), choice: str = ""
) -> Section:
    """Pictures of wrong and right calls, titles red or green.

    Args:
        images: what to show; wrong ones are shown first, each kind in the order given.
        malignant: names of the malignant classes; a malignant cell called benign is marked.
        choice: one sentence on how the pictures were chosen.
    """
    blocks: list[Block] = []
    items = [_gallery_item(image, number, malignant) for number, image in enumerate(images, start=1)]
    for right, title in ((False, "Wrong calls"), (True, "Right calls")):
        chosen = tuple(item for item, image in zip(items, images, strict=True) if image.right is right)
        if chosen:
            blocks += [Heading(title), Gallery(chosen)]
    meaning = "The percentage is the model's probability for its call."
    if any(image.voters for image in images):
        meaning = "Below it stands how many members voted for the call."
    intro = f"Each title reads: true class → class called by the model. {meaning}"
    return Section("gallery", "Right and wrong calls to look at", f"{intro} {choice}".strip(), tuple(blocks))


def _gallery_item(image: GalleryImage, number: int, malignant: Sequence[str]) -> GalleryItem:
    sure = f"{format_value(image.probability)} sure"
    if image.voters:
        sure = f"{round(image.probability * image.voters)} of {image.voters} votes"
    text = "\n".join(part for part in (sure, image.subject) if part)
    if image.true in malignant and image.called not in malignant and malignant:
        text = f"malignant called benign\n{text}"
    alt = f"Cell {image.id}: true class {image.true}, called {image.called}, {sure}"
    tone: Tone = "good" if image.right else "bad"
    return GalleryItem(
        f"figures/gallery-{number:02d}.jpg", alt, image.title, text, tone, _thumbnail(image.pixels)
    )


def _thumbnail(pixels: np.ndarray) -> bytes:
    """JPEG of at most 192 pixels a side: some 8 kB, so that a page of 24 stays light."""
    picture = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=86)
    return buffer.getvalue()


def subject_section(
    subjects: Sequence[SubjectCount], classes: Sequence[str], kind: str = "subject", note: str = ""
) -> Section:
    """Accuracy of every subject (or block), worst first, as a plot and a table.

    Args:
        subjects: one entry a subject and class.
        classes: names in class order.
        kind: what a subject is called, in the singular: ``subject`` or ``block``.
        note: one sentence on what a subject is here.
    """
    ordered = sorted(subjects, key=lambda s: (s.accuracy, s.name))
    named = len(ordered) <= 24
    figure, axes = new_figure(height=1.4 + 0.2 * len(ordered) if named else 3.9)
    alt = draw_subject_accuracy(axes[0, 0], ordered, classes, kind)
    caption = (
        f"A good score over all images can hide a {kind} on which the model fails; the worst stand first."
    )
    columns = (
        Column(kind.capitalize()),
        Column("Class"),
        Column("Right", "right"),
        Column("Accuracy", "right"),
    )
    rows = tuple((s.name, s.label, f"{s.right:,} of {s.total:,}", _accuracy_cell(s)) for s in ordered)
    table = Table(
        f"Accuracy of each {kind}, worst first", columns, rows, (_WITHIN,), tall=len(rows) > 16, width="half"
    )
    return Section(
        "subjects",
        f"Every {kind}, worst first",
        note,
        (figure_block("subjects", figure, alt, caption), table),
    )


_WITHIN = "Below each accuracy: its 95% interval (Wilson), which knows the images of this one alone."


def _accuracy_cell(subject: SubjectCount) -> Cell:
    tone: Tone = "bad" if subject.accuracy < 0.5 else ""
    low, high = wilson_interval(subject.right, subject.total)
    words = f"{format_value(low)} to {format_value(high)}"
    return Cell(format_value(subject.accuracy), words, tone, subject.accuracy)
