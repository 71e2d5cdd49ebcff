"""The section on subjects: who is called malignant by the share of malignant cells, and how often rightly."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from kerasall.evaluation.intervals import Interval, wilson_interval
from kerasall.evaluation.subject_calls import FEW_SUBJECTS, SENSITIVITY, SPECIFICITY, SubjectCalls
from kerasall.report.data_figures import NAMED_SUBJECTS
from kerasall.report.document import Alert, Block, Cell, Column, Range, Scores, ScoreTile, Section, Table
from kerasall.report.figure_style import INK, MUTED, STYLE, color_of, new_figure, percent_axis, show_legend
from kerasall.report.format import format_value
from kerasall.report.scores import figure_block
from kerasall.report.trust import FITTED

ID, TITLE = "subject-calls", "Calling whole subjects"
_INTRO = (
    "A subject is called malignant when at least a certain share of its cells is called malignant. "
    "Nobody's leukaemia is diagnosed by such a share alone."
)
_COLORS = {False: color_of(0), True: color_of(1)}


def subject_calls_section(calls: SubjectCalls) -> Section:
    """Scores over subjects with intervals, a plot of every subject's share, and the table.

    Args:
        calls: subjects called by thresholds that other subjects chose.
    """
    figure, axes = new_figure(height=min(1.5 + 0.2 * len(calls.subjects), 4.6) if _named(calls) else 3.9)
    alt = draw_subject_shares(axes[0, 0], calls)
    caption = (
        "Share of each subject's cells that is called malignant, with its 95% interval (Wilson, over the "
    )
    caption += "subject's own cells). Crosses: subjects called wrongly."
    blocks: list[Block] = [
        Scores(_tiles(calls)), *_cautions(calls), figure_block(ID, figure, alt, caption), _table(calls)
    ]  # fmt: skip
    return Section(ID, TITLE, f"{_INTRO} {describe_threshold(calls)}", tuple(blocks))


def no_subject_calls_section(why: str) -> Section:
    """Says why subjects are not called."""
    return Section(ID, TITLE, _INTRO, (Alert("note", "Subjects are not called here", why),))


def describe_threshold(calls: SubjectCalls) -> str:
    """From which share on a subject is called malignant, and who chose it."""
    positive, other = calls.fitting
    words = (
        f"The share, {format_value(calls.threshold)} for new subjects, was chosen on {FITTED[calls.fitted_on]} "
        f"({positive} malignant and {other} other subjects) for the highest sensitivity plus specificity"
    )
    if calls.cross_fitted:
        low, high = calls.thresholds.min(), calls.thresholds.max()
        between = format_value(low) if low == high else f"{format_value(low)} to {format_value(high)}"
        return (
            f"{words}. Each subject is scored with a share ({between}) that the other parts' subjects chose."
        )
    return f"{words}; none of these subjects is scored here."


def _tiles(calls: SubjectCalls) -> tuple[ScoreTile, ...]:
    truth, called = calls.subjects.malignant, calls.called
    missed, alarms = int((truth & ~called).sum()), int((called & ~truth).sum())
    return (
        _tile("Subjects called rightly", int((called == truth).sum()), len(truth), calls.scores["accuracy"]),
        _tile(
            "Malignant subjects missed", missed, int(truth.sum()), calls.scores[SENSITIVITY], "Sensitivity"
        ),
        _tile("False alarms", alarms, int((~truth).sum()), calls.scores[SPECIFICITY], "Specificity"),
    )


def _tile(label: str, count: int, total: int, found: Interval, name: str = "Accuracy") -> ScoreTile:
    if found.value is None or found.low is None or found.high is None:
        return ScoreTile(label, f"{count} of {total}", f"{name}: {found.note or 'not defined'}.")
    detail = f"{name} {format_value(found.value)}, 95% interval {format_value(found.low)} to {format_value(found.high)} "
    detail += f"over {found.groups} groups of subjects."
    scale = Range(found.value, found.low, found.high)
    return ScoreTile(label, f"{count} of {total}", detail, range=scale)


def _cautions(calls: SubjectCalls) -> list[Alert]:
    found = []
    if min(calls.fitting) < FEW_SUBJECTS:
        found.append(
            f"The threshold rests on {calls.fitting[0]} malignant and {calls.fitting[1]} other subjects: another few "
            "could move it far."
        )
    mixed = int(calls.subjects.mixed.sum())
    if mixed:
        found.append(f"{mixed} subjects have images of both kinds; each counts as malignant.")
    few = int((calls.subjects.images < FEW_SUBJECTS).sum())
    if few:
        found.append(f"{few} subjects have fewer than {FEW_SUBJECTS} images: their shares are hardly known.")
    auc = calls.scores["accuracy"]
    if auc.note:
        found.append(f"Intervals: {auc.note}.")
    return [Alert("warning", "Read with care", " ".join(found))] if found else []


def _named(calls: SubjectCalls) -> bool:
    return len(calls.subjects) <= NAMED_SUBJECTS


def _table(calls: SubjectCalls) -> Table:
    columns = (Column("Subject"), Column("Share called malignant", "right"), Column("Subject is called"))
    rows = []
    for row in sorted(calls.to_rows(), key=lambda each: (each["right"], -each["share"], each["subject"])):
        within = f"{row['called_malignant']:,} of {row['images']:,}; {format_value(row['low'])} to {format_value(row['high'])}"
        called = f"{'✓' if row['right'] else '✗'} {_word(row['called'])}"
        rows.append(
            (
                Cell(row["subject"], f"in truth {_word(row['malignant'])}"),
                Cell(format_value(row["share"]), within, share=row["share"]),
                Cell(called, tone="" if row["right"] else "bad"),
            )
        )
    return Table("Every subject, wrong calls first", columns, tuple(rows), tall=len(rows) > 12, width="half")


def _word(malignant: bool) -> str:
    return "malignant" if malignant else "benign"


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
    )
    for kind in (False, True):
        for good, marker in ((True, "o"), (False, "X")):
            ranks = np.flatnonzero((subjects.malignant[order] == kind) & (right[order] == good))
            if len(ranks):
                _draw_group(axes, ranks, subjects.shares[order], ends[order], _COLORS[kind], marker)
    low, high = calls.thresholds.min(), calls.thresholds.max()
    if high - low > 1e-9:
        axes.axvspan(low, high, color=MUTED, alpha=0.16, linewidth=0)
    axes.axvline(calls.threshold, color=INK, linestyle=(0, (3, 2)), linewidth=1)
    _dress(axes, [str(name) for name in subjects.names[order]])
    wrong = [f"{subjects.names[i]} {100 * subjects.shares[i]:.1f}%" for i in order if not right[i]]
    return (
        f"Share of cells called malignant for {len(subjects)} subjects; called malignant from "
        f"{100 * calls.threshold:.1f}%. "
        + (f"Called wrongly: {'; '.join(wrong)}." if wrong else "None called wrongly.")
    )


def _draw_group(
    axes: Axes, ranks: np.ndarray, shares: np.ndarray, ends: np.ndarray, color: str, marker: str
) -> None:
    axes.hlines(ranks, ends[ranks, 0], ends[ranks, 1], color=color, linewidth=1.2, alpha=0.6)
    size = 6 if marker == "o" else 8
    axes.plot(
        shares[ranks],
        ranks,
        marker,
        color=color,
        markersize=size,
        markeredgecolor="white",
        markeredgewidth=0.6,
    )


def _dress(axes: Axes, names: Sequence[str]) -> None:
    if len(names) <= NAMED_SUBJECTS:
        axes.set_yticks(range(len(names)), names)
    else:
        axes.set_yticks([])
        axes.set_ylabel("subjects by share")
    for kind, color in _COLORS.items():
        axes.plot([], [], "o", color=color, label=f"in truth {_word(kind)}")
    axes.plot([], [], color=INK, linestyle=(0, (3, 2)), linewidth=1, label="called malignant from here")
    axes.set(xlim=(-0.03, 1.03), xlabel="share of cells called malignant")
    axes.margins(y=0.04)
    percent_axis(axes.xaxis)
    axes.grid(axis="y", visible=False)
    show_legend(axes, loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, handlelength=1.2)
