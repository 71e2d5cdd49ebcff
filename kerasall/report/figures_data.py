"""Figures of images and subjects: counts, how a measure is spread, right calls; and the images of a gallery.

As in ``figures_scores``: every ``draw_`` function returns the alternative text of what it drew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from kerasall.evaluation.intervals import wilson_interval
from kerasall.evaluation.subject_calls import SubjectCalls
from kerasall.report.figures_style import (
    INK,
    MARK,
    MUTED,
    SMALL,
    STYLE,
    WRONG,
    color_of,
    legend_above,
    percent_axis,
    plot_text,
    plot_texts,
    row_axis,
)
from kerasall.report.format import format_value

NAMED_SUBJECTS = 24
"""Up to this many subjects are drawn as named bars; more become dots by rank."""

_TRUTH_COLORS = {False: color_of(0), True: color_of(1)}


@dataclass(frozen=True)
class SubjectCount:
    """How one subject (or block) fared: ``right`` of ``total`` images of class ``label``."""

    name: str
    label: str
    right: int
    total: int

    @property
    def accuracy(self) -> float:
        """Share right in [0, 1]; an empty subject counts as 0."""
        return self.right / self.total if self.total else 0.0


@dataclass(frozen=True)
class GalleryImage:
    """One image with what was called. ``pixels`` is uint8 [H, W, 3] RGB; ``probability`` of ``called``.

    Where ``voters`` is not 0, ``probability`` is the share of so many members that voted for ``called``.
    """

    id: str
    pixels: np.ndarray
    true: str
    called: str
    probability: float
    subject: str = ""
    voters: int = 0

    @property
    def right(self) -> bool:
        """Whether the call is the true class."""
        return self.true == self.called

    @property
    def sure(self) -> str:
        """How sure the model is of its call, or how many members voted for it."""
        if self.voters:
            return f"{round(self.probability * self.voters)} of {self.voters} votes"
        return f"{format_value(self.probability)} sure"

    @property
    def title(self) -> str:
        """For example ``✗ Benign → Early  81%``."""
        return f"{'✓' if self.right else '✗'} {self.true} → {self.called}"


@matplotlib.rc_context(STYLE)
def draw_subject_accuracy(
    axes: Axes, subjects: Sequence[SubjectCount], classes: Sequence[str], kind: str = "subject"
) -> str:
    """Accuracy of every subject, worst first, coloured by class: bars up to 24 subjects, then dots.

    Args:
        axes: where to draw.
        subjects: in any order; an empty list leaves the axes empty.
        classes: names in class order, which choose the colours.
        kind: what a subject is called, in the singular: ``subject``, ``block``.

    Returns:
        Alternative text with the range and the three worst subjects.
    """
    ordered = sorted(subjects, key=lambda s: (s.accuracy, s.name))
    colors = _colors_of(classes)
    pooled = sum(s.right for s in ordered) / max(sum(s.total for s in ordered), 1)
    draw = _draw_subject_bars if len(ordered) <= NAMED_SUBJECTS else _draw_subject_dots
    if ordered:
        draw(axes, ordered, colors, pooled)
        axes.set_title(f"{len(ordered):,} {plot_text(kind)}s", pad=24)
    worst = "; ".join(f"{s.name} ({s.label}) {s.right:,} of {s.total:,} right" for s in ordered[:3])
    accuracies = [s.accuracy for s in ordered] or [0.0]
    return (
        f"Accuracy of {len(ordered)} {kind}s, from {100 * min(accuracies):.1f}% to {100 * max(accuracies):.1f}%, "
        f"over all images {100 * pooled:.1f}%. Worst: {worst}."
    )


def _draw_subject_bars(
    axes: Axes, ordered: Sequence[SubjectCount], colors: Mapping[str, str], pooled: float
) -> None:
    for row, subject in enumerate(ordered):
        axes.barh(row, subject.accuracy, color=colors[subject.label], height=0.66)
        axes.text(1.01, row, f"{subject.right:,} / {subject.total:,}", va="center", fontsize=8, color=MUTED)
    axes.axvline(pooled, **MARK)
    row_axis(axes, [subject.name for subject in ordered], "share right (dashed: all images)")
    axes.set(xlim=(0, 1.16), xticks=[0, 0.25, 0.5, 0.75, 1])
    percent_axis(axes.xaxis)
    _class_legend(axes, colors)


def _draw_subject_dots(
    axes: Axes, ordered: Sequence[SubjectCount], colors: Mapping[str, str], pooled: float
) -> None:
    largest = max(subject.total for subject in ordered)
    for rank, subject in enumerate(ordered):
        area = 14 + 110 * subject.total / largest
        axes.scatter(rank, subject.accuracy, s=area, color=colors[subject.label], alpha=0.8, linewidth=0)
    axes.axhline(pooled, **MARK)
    spread = ordered[-1].accuracy - ordered[0].accuracy
    named = [0, *(r for r in (1, 2) if ordered[r].accuracy - ordered[r - 1].accuracy > 0.05 * spread)]
    for rank in named:  # names of near neighbours would overprint each other
        axes.annotate(plot_text(ordered[rank].name), (rank, ordered[rank].accuracy), (-3, -14), **SMALL)
    axes.set(xlabel="worst first (area = images; dashed: all images)", ylabel="share right", xticks=[])
    axes.margins(x=0.03, y=0.1)
    percent_axis(axes.yaxis)
    _class_legend(axes, colors)


def _colors_of(classes: Sequence[str]) -> dict[str, str]:
    return {name: color_of(index) for index, name in enumerate(classes)}


def _class_legend(axes: Axes, colors: Mapping[str, str]) -> None:
    for name, color in zip(plot_texts(colors), colors.values(), strict=True):
        axes.scatter([], [], s=40, color=color, label=plot_text(name))
    legend_above(axes, min(len(colors), 4), handlelength=1)


@matplotlib.rc_context(STYLE)
def draw_counts(
    axes: Axes, rows: Sequence[str], columns: Sequence[str], counts: np.ndarray, what: str = "images"
) -> str:
    """Stacked horizontal bars of counts.

    Args:
        axes: where to draw.
        rows: R names, one bar each (for example classes).
        columns: K names, one colour each (for example train, validation, test).
        counts: int [R, K].
        what: what is counted.

    Returns:
        Alternative text with every total.
    """
    counts = np.asarray(counts, dtype=np.int64).reshape(len(rows), len(columns))
    start, places = np.zeros(len(rows), dtype=np.int64), range(len(rows))
    for index, (column, number) in enumerate(zip(columns, counts.T, strict=True)):
        style = {"color": color_of(index), "height": 0.62, "edgecolor": "white"}
        axes.barh(places, number, left=start, label=plot_text(column), **style)
        start += number
    for row, total in enumerate(start):
        axes.annotate(f"{total:,}", (total, row), (4, 0), va="center", **SMALL)
    row_axis(axes, rows, what)
    axes.margins(x=0.14)
    if len(columns) > 1:
        legend_above(axes, min(len(columns), 5), handlelength=1)
    totals = "; ".join(f"{name}: {total:,}" for name, total in zip(rows, start, strict=True))
    return f"Number of {what}. {totals}."


@matplotlib.rc_context(STYLE)
def draw_spread_by_class(axes: Axes, values: Mapping[str, np.ndarray], measure: str) -> str:
    """One row a class: line from the 1st to the 99th percentile, bar over the middle half, dot at the median.

    Args:
        axes: where to draw.
        values: class -> float [N] of its images, in class order; empty ones leave their row empty.
        measure: what is measured, for the axis.

    Returns:
        Alternative text with every class's median and middle half.
    """
    words = []
    for row, (name, found) in enumerate(values.items()):
        if not len(found):
            continue
        low, left, middle, right, high = np.percentile(found, (1, 25, 50, 75, 99))
        axes.hlines(row, low, high, color=color_of(row), linewidth=1.2)
        axes.hlines(row, left, right, color=color_of(row), linewidth=9, alpha=0.45)
        axes.plot([middle], [row], "o", color=color_of(row), markersize=6, markeredgecolor="white")
        words.append(f"{name} {middle:.4g} ({left:.4g} to {right:.4g})")
    row_axis(axes, list(values), measure)
    return f"{measure} by class, median and middle half of the images: {'; '.join(words)}."


@matplotlib.rc_context(STYLE)
def draw_spread_by_subject(
    axes: Axes, values: Mapping[str, np.ndarray], labels: Mapping[str, str], classes: Sequence[str],
    measure: str, odd: Collection[str] = (),
) -> str:  # fmt: skip
    """Every subject's median and middle four fifths, in the order of the medians, coloured by class.

    Args:
        axes: where to draw.
        values: subject -> float [N] of its images, at least one each.
        labels: subject -> class.
        classes: names in class order, which choose the colours.
        measure: what is measured, for the axis.
        odd: subjects to ring and name.

    Returns:
        Alternative text with the range of the medians and the odd subjects.
    """
    medians = {name: float(np.median(found)) for name, found in values.items()}
    order = sorted(values, key=lambda name: (medians[name], name))
    colors, crowded = _colors_of(classes), len(order) > NAMED_SUBJECTS
    for rank, name in enumerate(order):
        low, middle, high = np.percentile(values[name], (10, 50, 90))
        axes.hlines(rank, low, high, color=colors[labels[name]], linewidth=1, alpha=0.5)
        axes.plot([middle], [rank], "o", color=colors[labels[name]], markersize=4.5, markeredgecolor="white")
        if name in odd:
            axes.plot([middle], [rank], "o", markersize=9, markerfacecolor="none", markeredgecolor=WRONG)
        if name in odd and crowded:
            rise, side = (6, "bottom") if rank < len(order) / 2 else (-6, "top")
            axes.annotate(plot_text(name), (middle, rank), (8, rise), color=INK, va=side, **SMALL)
    row_axis(axes, order, measure)
    axes.set_ylim(-1, len(order))
    if crowded:
        axes.set_yticks([])
    for name, color in zip(plot_texts(colors), colors.values(), strict=True):
        axes.plot([], [], "o", color=color, label=plot_text(name))
    legend_above(axes, min(len(colors), 4), handlelength=1)
    ringed = [f"{name} {medians[name]:.4g}" for name in order if name in odd]
    return (
        f"{measure} of {len(order)} subjects: medians from {medians[order[0]]:.4g} to {medians[order[-1]]:.4g}. "
        + (f"Unlike the rest: {'; '.join(ringed)}." if ringed else "None is unlike the rest.")
    )


@matplotlib.rc_context(STYLE)
def draw_subject_shares(axes: Axes, calls: SubjectCalls) -> str:
    """Every subject's share with its interval, by rank, coloured by truth, and the threshold.

    Args:
        axes: where to draw.
        calls: S subjects, at least one.

    Returns:
        Alternative text with the wrongly called subjects.
    """
    subjects, right = calls.subjects, calls.called == calls.subjects.malignant
    order = np.lexsort((subjects.names, subjects.shares))
    ends = np.array(
        [wilson_interval(int(c), int(n)) for c, n in zip(subjects.called, subjects.images, strict=True)]
    )[order]
    names, shares, malignant = subjects.names[order], subjects.shares[order], subjects.malignant[order]
    for kind, color in _TRUTH_COLORS.items():
        for good, marker, size in ((True, "o", 6), (False, "X", 8)):
            ranks = np.flatnonzero((malignant == kind) & (right[order] == good))
            if len(ranks):
                axes.hlines(ranks, *ends[ranks].T, color=color, linewidth=1.2, alpha=0.6)
                style = {"markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.6}
                axes.plot(shares[ranks], ranks, marker, color=color, **style)
    low, high = calls.thresholds.min(), calls.thresholds.max()
    if high - low > 1e-9:
        axes.axvspan(low, high, color=MUTED, alpha=0.16, linewidth=0)
    axes.axvline(calls.threshold, **MARK)
    _dress_shares(axes, names)
    wrong = [f"{subjects.names[i]} {100 * subjects.shares[i]:.1f}%" for i in order if not right[i]]
    return (
        f"Share of cells called malignant for {len(subjects)} subjects; called malignant from "
        f"{100 * calls.threshold:.1f}%. "
        + (f"Called wrongly: {'; '.join(wrong)}." if wrong else "None called wrongly.")
    )


def _dress_shares(axes: Axes, names: np.ndarray) -> None:
    if len(names) <= NAMED_SUBJECTS:
        axes.set_yticks(range(len(names)), plot_texts(names))
    else:
        axes.set(yticks=[], ylabel="subjects by share")
    for kind, color in _TRUTH_COLORS.items():
        axes.plot([], [], "o", color=color, label=f"in truth {'malignant' if kind else 'benign'}")
    axes.plot([], [], label="called malignant from here", **MARK)
    axes.set(xlim=(-0.03, 1.03), xlabel="share of cells called malignant")
    axes.margins(y=0.04)
    percent_axis(axes.xaxis)
    axes.grid(axis="y", visible=False)
    legend_above(axes, 2, 0.45, handlelength=1.2)
