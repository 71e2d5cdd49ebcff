"""Figures of systems side by side: values or differences with their intervals, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes

from kerasall.report.figure_style import INK, MUTED, STYLE, color_of, percent_axis


@dataclass(frozen=True)
class ForestRow:
    """One line of a forest plot.

    Attributes:
        label: what the value is of.
        value: dot; None where it is not defined.
        low: left end of its interval, or None.
        high: right end.
        text: value and interval in words, beside the label's line.
        color: index of the colour (see ``color_of``); None for ink.
    """

    label: str
    value: float | None
    low: float | None
    high: float | None
    text: str
    color: int | None = None


@matplotlib.rc_context(STYLE)
def draw_forest(
    axes: Axes,
    rows: Sequence[ForestRow],
    title: str,
    reference: float | None = None,
    percent: bool = True,
    bounds: tuple[float, float] | None = None,
) -> str:
    """A dot with its interval a row, its value in words above the line.

    Args:
        axes: where to draw.
        rows: from top to bottom.
        title: what the values are; stands below the axis.
        reference: value of a dashed line, for example 0 for differences.
        percent: whether shares read as percentages.
        bounds: values that the axis need not go beyond, for example (0, 1).

    Returns:
        Alternative text with every row.
    """
    for place, row in enumerate(rows):
        _draw_row(axes, place, row)
    if reference is not None:
        axes.axvline(reference, color=MUTED, linestyle=(0, (3, 2)), linewidth=1)
    axes.set(xlabel=title, ylim=(len(rows) - 0.45, -0.75), yticks=[])
    _set_range(axes, rows, reference, bounds)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    if percent:
        percent_axis(axes.xaxis)
    described = "; ".join(f"{row.label} {row.text}" for row in rows)
    return f"{title} with intervals. {described}."


def _draw_row(axes: Axes, place: int, row: ForestRow) -> None:
    color = INK if row.color is None else color_of(row.color)
    if row.value is not None:
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], color=color, linewidth=2)
            axes.plot(
                [row.low, row.high], [place, place], "|", color=color, markersize=8, markeredgewidth=1.6
            )
        axes.plot([row.value], [place], "o", color=color, markersize=6.5)
    # Label and value stand above the line, over its whole width: long names need no margin on a phone.
    options = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "va": "bottom",
        "fontsize": 8.5,
    }
    axes.annotate(row.label, (0, place), (0, 7), ha="left", color=color, weight="bold", **options)
    axes.annotate(row.text, (1, place), (0, 7), ha="right", color=INK, **options)


def _set_range(
    axes: Axes, rows: Sequence[ForestRow], reference: float | None, bounds: tuple[float, float] | None
) -> None:
    """Keeps ends off the frame, but no further out than the values can be."""
    values = [v for row in rows for v in (row.value, row.low, row.high) if v is not None]
    values += [] if reference is None else [reference]
    if not values:
        return
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.05
    low, high = low - margin, high + margin
    if bounds is not None:
        edge = 0.015 * (high - low)
        low, high = max(low, bounds[0] - edge), min(high, bounds[1] + edge)
    axes.set_xlim(low, high)
