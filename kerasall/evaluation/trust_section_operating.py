"""The section on thresholds: what finding nearly all malignant cells costs in false alarms."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from kerasall.evaluation.decision_curve import NetBenefit
from kerasall.evaluation.figure_style import MUTED, STYLE, color_of, new_figure, show_legend
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.operating_points import ScoredPoint
from kerasall.evaluation.report_document import Block, Cell, Column, Section, Table
from kerasall.evaluation.report_sections import figure_block
from kerasall.evaluation.report_summary import format_value


def operating_section(
    points: Sequence[ScoredPoint], benefit: Sequence[NetBenefit], malignant: Sequence[str], chosen_on: str
) -> Section:
    """Thresholds for wanted sensitivities, and the net benefit over thresholds.

    Args:
        points: scored on images that did not choose their thresholds.
        benefit: ascending thresholds.
        malignant: names of the malignant classes.
        chosen_on: one sentence on which images chose the thresholds.
    """
    blocks: list[Block] = [_point_table(points)] if points else []
    if benefit:
        figure, axes = new_figure(height=3.6)
        alt = draw_decision_curve(axes[0, 0], benefit)
        caption = "Net benefit in malignant cells found per image. Use the model only where its line is the highest."
        blocks += [figure_block("decision-curve", figure, alt, caption), _benefit_table(benefit)]
    together = " + ".join(malignant)
    return Section(
        "thresholds",
        "Finding nearly all malignant cells",
        "Where the line is drawn decides how many malignant cells are missed and how many benign ones are called "
        f"malignant. The probability is that of {together} taken together, calibrated. {chosen_on}",
        tuple(blocks),
    )


def _point_table(points: Sequence[ScoredPoint]) -> Table:
    columns = (
        Column("Wanted sensitivity"), Column("Called malignant from", "right"), Column("Sensitivity", "right"),
        Column("Specificity", "right"), Column("Missed", "right"), Column("False alarms", "right"),
    )  # fmt: skip
    rows = tuple(
        (
            format_value(each.wanted),
            _probability(each.threshold),
            interval_cell(each.sensitivity),
            interval_cell(each.specificity),
            Cell(f"{each.missed:,}", f"of {each.positives:,} malignant"),
            Cell(f"{each.false_alarms:,}", f"of {each.others:,} benign"),
        )
        for each in points
    )
    return Table("Thresholds for a wanted sensitivity, as reached on the scored images", columns, rows)


def interval_cell(found: Interval) -> Cell:
    """A share with its interval below it."""
    if found.value is None or found.low is None:
        return Cell("–")
    return Cell(format_value(found.value), f"{format_value(found.low)} to {format_value(found.high)}")


def _probability(threshold: float) -> str:
    """At least two digits that say something, also of small probabilities: 4.2%, 0.13%, 0.0021%."""
    digits = max(1, 1 - int(np.floor(np.log10(100 * threshold)))) if threshold > 0 else 1
    return f"{100 * threshold:.{min(digits, 6)}f}%"


def _benefit_table(benefit: Sequence[NetBenefit]) -> Table:
    columns = (
        Column("One miss is as bad as"), Column("Call from", "right"), Column("Missed", "right"),
        Column("False alarms", "right"), Column("Net benefit", "right"), Column("Calling all", "right"),
    )  # fmt: skip
    rows = tuple(
        (
            f"{each.false_alarms_per_miss:,.3g} false alarm{'s' if each.false_alarms_per_miss > 1 else ''}",
            format_value(each.threshold),
            f"{each.missed:,}",
            f"{each.false_alarms:,}",
            Cell(f"{each.model.value:.3f}", f"{each.model.low:.3f} to {each.model.high:.3f}"),
            f"{each.all_called:.3f}",
        )
        for each in benefit
    )
    note = "Net benefit: malignant cells found per image, less the false alarms at their price. Calling none has 0."
    return Table("What a threshold is worth", columns, rows, (note,))


@matplotlib.rc_context(STYLE)
def draw_decision_curve(axes: Axes, benefit: Sequence[NetBenefit]) -> str:
    """Net benefit of the model, of calling all and of calling none, against the threshold.

    Args:
        axes: where to draw.
        benefit: at ascending thresholds.

    Returns:
        Alternative text with every threshold.
    """
    thresholds = [each.threshold for each in benefit]
    values = np.array([each.model.value for each in benefit], float)
    # As numbers, so that an interval that is not defined is NaN, which leaves a gap.
    lows, highs = (np.array([getattr(each.model, end) for each in benefit], float) for end in ("low", "high"))
    axes.fill_between(thresholds, lows, highs, color=color_of(0), alpha=0.14, linewidth=0)
    axes.plot(thresholds, values, "o-", color=color_of(0), markersize=4, label="the model")
    axes.plot(
        thresholds, [e.all_called for e in benefit], "--", color=color_of(1), label="calling every cell"
    )
    axes.axhline(0, color=MUTED, linestyle=(0, (2, 3)), linewidth=1, label="calling none")
    axes.set_xscale("log")
    axes.set_xticks(thresholds, [f"{100 * each:g}%" for each in thresholds])
    axes.minorticks_off()
    lowest, highest = np.nanmin([0.0, *lows]), np.nanmax([0.0, *highs])
    axes.set_ylim(lowest - 0.12 * (highest - lowest) - 0.02, highest + 0.08 * (highest - lowest) + 0.02)
    axes.set(xlabel="threshold on the malignant probability", ylabel="net benefit")
    show_legend(axes, loc="center left")
    shown = "; ".join(
        f"at {100 * e.threshold:g}% {e.model.value:.3f}, calling every cell {e.all_called:.3f}"
        for e in benefit
    )
    return f"Net benefit against the threshold. {shown}."
