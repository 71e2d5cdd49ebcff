"""Figures of scores side by side, with their intervals: systems, repetitions, shares of the training groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.repeats import LearningCurve, Spread
from kerasall.report.figures_style import (
    INK,
    MARK,
    MUTED,
    STYLE,
    color_of,
    dash_of,
    legend_above,
    percent_axis,
    plot_text,
    show_legend,
)
from kerasall.report.format import format_length, format_value, interval_words, is_percent


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
    axes: Axes, rows: Sequence[ForestRow], title: str, reference: float | None = None, percent: bool = True,
    bounds: tuple[float, float] | None = None,
) -> str:  # fmt: skip
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
        color = INK if row.color is None else color_of(row.color)
        if row.value is not None:
            if row.low is not None and row.high is not None:
                ends, places = [row.low, row.high], [place, place]
                axes.plot(ends, places, color=color, linewidth=2)
                axes.plot(ends, places, "|", color=color, markersize=8, markeredgewidth=1.6)
            axes.plot([row.value], [place], "o", color=color, markersize=6.5)
        _write_above(axes, place, row.label, row.text, 7, color)
    if reference is not None:
        style: dict[str, Any] = MARK | {"color": MUTED}
        axes.axvline(reference, **style)
    _set_lines(axes, len(rows), title, percent)
    _set_range(axes, rows, reference, bounds)
    described = "; ".join(f"{row.label} {row.text}" for row in rows)
    return f"{title} with intervals. {described}."


def _write_above(axes: Axes, place: int, label: str, text: str, rise: float, color: str = INK) -> None:
    """Label and value above a line, over its whole width: long names need no margin on a phone."""
    options: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    options |= {"va": "bottom", "fontsize": 8.5}
    axes.annotate(plot_text(label), (0, place), (0, rise), ha="left", color=color, weight="bold", **options)
    axes.annotate(plot_text(text), (1, place), (0, rise), ha="right", color=INK, **options)


def _set_lines(axes: Axes, count: int, title: str, percent: bool) -> None:
    """One line a value, from top to bottom, with nothing beside it."""
    axes.set(xlabel=plot_text(title, 120), ylim=(count - 0.45, -0.75), yticks=[])
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    if percent:
        percent_axis(axes.xaxis)


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


@matplotlib.rc_context(STYLE)
def draw_repeats(axes: Axes, rows: dict[str, Spread], title: str, metric: str) -> str:
    """One line a model: a dot per repetition, a tick at the mean, a bar for the interval over groups.

    Args:
        axes: where to draw.
        rows: model -> spread, from top to bottom.
        title: what the values are.
        metric: its name, which says whether it reads as a percentage.

    Returns:
        Alternative text with every value.
    """
    percent = is_percent(metric)
    for place, (model, spread) in enumerate(rows.items()):
        bar, dot, tick = ("interval over groups", "repetition", "mean") if place == 0 else (None, None, None)
        if spread.low is not None and spread.high is not None:
            axes.plot([spread.low, spread.high], [place] * 2, color=MUTED, linewidth=6, alpha=0.25, label=bar)
        values = [value for value in spread.values if value is not None]
        axes.plot(values, [place] * len(values), "o", color=color_of(0), markersize=5, alpha=0.6, label=dot)
        text = "–"
        if spread.mean is not None:
            axes.plot([spread.mean], [place], "|", color=INK, markersize=15, markeredgewidth=1.8, label=tick)
            text = f"{format_value(spread.mean, percent)} ± {format_length(metric, spread.deviation)}"
        _write_above(axes, place, model, text, 9)
    _set_lines(axes, len(rows), title, percent)
    axes.margins(x=0.06)
    show_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.32 / (0.4 + 0.2 * len(rows))), ncols=3)
    return f"{title} of every repetition. " + "; ".join(
        f"{model} {', '.join(format_value(value, percent) for value in spread.values)}"
        for model, spread in rows.items()
    )


@matplotlib.rc_context(STYLE)
def draw_learning_curve(axes: Axes, curve: LearningCurve, group_kind: str = "groups") -> str:
    """Every metric with its interval against the number of training groups, on a logarithmic axis.

    Args:
        axes: where to draw.
        curve: at least one point.
        group_kind: what is counted, in the plural.

    Returns:
        Alternative text with every value of the main metric.
    """
    groups = np.array([point.trained.groups for point in curve.points])
    for number, name in enumerate(curve.points[0].scores):
        found = [point.scores[name] for point in curve.points]
        values, lows, highs = (
            np.array([getattr(each, end) for each in found], float) for end in ("value", "low", "high")
        )
        shift = groups * 1.02 ** (number - 0.5)  # bars of two metrics must not cover each other
        axes.vlines(shift, lows, highs, color=color_of(number), linewidth=2, alpha=0.45)
        label = plot_text(find_metric(name, curve.classes).title)
        axes.plot(shift, values, "o-", color=color_of(number), markersize=5, label=label)
    axes.set_xscale("log")
    axes.set_xticks(groups, [f"{count:,.0f}" for count in groups])
    axes.minorticks_off()
    axes.tick_params(axis="x", colors=MUTED)
    axes.set(xlabel=f"training {plot_text(group_kind)}")
    if all(is_percent(name) for name in curve.points[0].scores):
        percent_axis(axes.yaxis)
    legend_above(axes, 2)
    shown = "; ".join(
        f"{point.trained.groups:,.0f}: {' '.join(interval_words(curve.metric, point.scores[curve.metric]))}"
        for point in curve.points
    )
    return f"{find_metric(curve.metric, curve.classes).title} against training {group_kind}. {shown}."


@matplotlib.rc_context(STYLE)
def draw_scores_by_epochs(
    axes: Axes, runs: Mapping[str, Mapping[int, Mapping[str, Any]]], title: str, percent: bool = True
) -> str:
    """A score at every number of epochs, one line a run, with its intervals.

    Args:
        axes: where to draw.
        runs: name of a run -> number of epochs -> value, low and high, each a number or None.
        title: what the values are.
        percent: whether they read as percentages.

    Returns:
        Alternative text with every value.
    """
    widest = max((epochs for points in runs.values() for epochs in points), default=1)
    for number, (name, points) in enumerate(runs.items()):
        epochs = np.array(sorted(points), float)
        values, lows, highs = (
            np.array([points[int(each)][end] for each in epochs], float) for end in ("value", "low", "high")
        )
        shift = epochs + widest * 0.006 * (number - (len(runs) - 1) / 2)  # bars must not cover one another
        axes.vlines(shift, lows, highs, color=color_of(number), linewidth=2, alpha=0.35)
        style = {"color": color_of(number), "linestyle": dash_of(number), "marker": "o", "markersize": 4}
        axes.plot(shift, values, **style, label=plot_text(name))
    axes.set(xlabel="epochs", ylabel=plot_text(title))
    if percent:
        percent_axis(axes.yaxis)
    legend_above(axes, 2)
    shown = (
        f"{name}: "
        + ", ".join(f"{count} {format_value(points[count]['value'], percent)}" for count in sorted(points))
        for name, points in runs.items()
    )
    return f"{title} by number of epochs. " + "; ".join(shown) + "."
