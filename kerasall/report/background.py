"""Sections about what stands behind the scores: training, data, protocol, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from kerasall.report.data_figures import TrainingRun, draw_counts, draw_training_curves
from kerasall.report.document import (
    Alert,
    Block,
    Check,
    Code,
    Column,
    Fact,
    Heading,
    KeyValues,
    Level,
    List,
    Section,
    Table,
    Width,
)
from kerasall.report.figure_style import new_figure
from kerasall.report.scores import figure_block


@dataclass(frozen=True)
class Stage:
    """One stage of training: its settings, and the curves of its runs (one a fold)."""

    name: str
    settings: Mapping[str, str]
    runs: tuple[TrainingRun, ...]


@dataclass(frozen=True)
class DataFacts:
    """What is known of the images.

    Attributes:
        classes: C names.
        parts: P names of parts or folds.
        images: int [C, P], images of each class in each part.
        subjects: int [C, P], subjects (or blocks) likewise; None where unknown.
        subject_kind: what a subject is called, in the singular.
        facts: label -> value, for example sizes, formats, fingerprint.
        errors: messages of validation errors.
        warnings: messages of validation warnings.
        duplicates: sentences on duplicates and how they were grouped.
    """

    classes: Sequence[str]
    parts: Sequence[str]
    images: np.ndarray
    subjects: np.ndarray | None = None
    subject_kind: str = "subject"
    facts: Mapping[str, str] = field(default_factory=dict)
    errors: Sequence[str] = ()
    warnings: Sequence[str] = ()
    duplicates: Sequence[str] = ()


@dataclass(frozen=True)
class Step:
    """One step of the pipeline: ``state`` is ``run`` or ``cached``, ``key`` what its output is stored by."""

    name: str
    key: str
    state: str
    seconds: float | None = None


def training_section(stages: Sequence[Stage], note: str = "") -> Section:
    """Settings and curves of each stage.

    Args:
        stages: in the order they were trained.
        note: one sentence, for example which epoch's weights were kept.
    """
    blocks: list[Block] = []
    captions = _CURVES if any(len(r.validation_loss) for stage in stages for r in stage.runs) else _UNWATCHED
    for number, stage in enumerate(stages, start=1):
        blocks += [Heading(stage.name), _pairs(stage.settings)]
        for measure in ("loss", "accuracy"):
            if any(len(getattr(run, measure)) for run in stage.runs):
                figure, axes = new_figure(height=3.3)
                alt = f"{stage.name}. {draw_training_curves(axes[0, 0], stage.runs, measure)}"
                blocks.append(figure_block(f"training-{number}-{measure}", figure, alt, captions[measure]))
    intro = f"How the model learned. {note}".strip()
    return Section("training", "Training", intro, tuple(blocks))


_CURVES = {
    "loss": "Loss. A validation loss that rises while the training loss falls means learning by heart.",
    "accuracy": "Accuracy. Rings mark the epochs whose weights were kept.",
}
_UNWATCHED = {
    "loss": "Loss on the images trained on: it cannot show learning by heart.",
    "accuracy": "Accuracy on the images trained on.",
}
"""Captions of curves without a validation line."""


def data_section(data: DataFacts) -> Section:
    """Counts by class and part, sizes, anomalies, duplicates."""
    images = np.asarray(data.images, dtype=np.int64)
    figure, axes = new_figure(height=1.3 + 0.34 * len(data.classes))
    alt = draw_counts(axes[0, 0], data.classes, data.parts, images)
    blocks: list[Block] = [
        _count_table(data, images),
        figure_block("counts", figure, alt, "Images of each class and where they were used."),
        _pairs(data.facts, "half"),
        *_anomalies(data),
    ]
    if data.duplicates:
        blocks += [Heading("Duplicates"), List(tuple(data.duplicates))]
    return Section("data", "The images", "What the model was trained and tested on.", tuple(blocks))


def _count_table(data: DataFacts, images: np.ndarray) -> Table:
    columns = (Column("Class"), *(Column(part, "right") for part in data.parts), Column("All", "right"))
    rows = [
        (name, *(f"{n:,}" for n in (*row, row.sum()))) for name, row in zip(data.classes, images, strict=True)
    ]
    total = images.sum(axis=0)
    rows.append(("All", *(f"{n:,}" for n in (*total, total.sum()))))
    caption = "Images"
    if data.subjects is not None:
        subjects = np.asarray(data.subjects, dtype=np.int64)
        rows = [_beside(row, line) for row, line in zip(rows, [*subjects, subjects.sum(axis=0)], strict=True)]
        caption = f"Images, and {data.subject_kind}s in brackets"
    return Table(caption, columns, tuple(rows))


def _beside(cells: Sequence[str], subjects: np.ndarray) -> tuple[str, ...]:
    counts = (*subjects, subjects.sum())
    return (cells[0], *(f"{cell} ({count:,})" for cell, count in zip(cells[1:], counts, strict=True)))


def _anomalies(data: DataFacts) -> list[Alert]:
    alerts = []
    kinds: tuple[tuple[Level, str, Sequence[str]], ...] = (
        ("bad", "error", data.errors),
        ("warning", "warning", data.warnings),
    )
    for level, name, messages in kinds:
        if messages:
            title = f"{len(messages)} {name}{'' if len(messages) == 1 else 's'} about the data"
            alerts.append(Alert(level, title, items=tuple(map(Check, messages))))
    return alerts or [Alert("good", "No anomalies were found in the data")]


def weakness_section(weaknesses: Sequence[str], departures: Sequence[str] = ()) -> Section:
    """What weakens the evidence, and where the run departs from the paper it follows.

    Args:
        weaknesses: sentences; every protocol has some, so at least one is expected.
        departures: sentences on what was done otherwise than in the paper, and why.
    """
    blocks: list[Block] = [List(tuple(weaknesses))]
    if departures:
        blocks += [Heading("Departures from the paper"), List(tuple(departures))]
    return Section("weaknesses", "What weakens this evidence", _WEAK, tuple(blocks))


_WEAK = "Read this before you quote a score."


def provenance_section(
    command: str,
    settings: str,
    steps: Sequence[Step] = (),
    environment: Mapping[str, str] | None = None,
) -> Section:
    """How to make this report again: command, settings, steps, environment.

    Args:
        command: the command line.
        settings: the resolved settings as YAML.
        steps: lineage, in the order of the pipeline.
        environment: label -> value: versions, seed, device, time, peak memory.
    """
    blocks: list[Block] = [Code(command, "Command")]
    if environment:
        blocks += [Heading("Environment"), _pairs(environment)]
    if steps:
        columns = (Column("Step"), Column("State"), Column("Time", "right"), Column("Key"))
        rows = tuple((step.name, step.state, _duration(step.seconds), step.key[:12]) for step in steps)
        note = "A cached step was taken from an earlier run with the same inputs, settings and code."
        blocks.append(Table("Steps", columns, rows, (note,)))
    blocks.append(Code(settings, "Settings, resolved"))
    return Section("provenance", "How to make it again", blocks=tuple(blocks))


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _pairs(values: Mapping[str, str], width: Width = "full") -> KeyValues:
    return KeyValues(tuple(Fact(label, value) for label, value in values.items()), width=width)
