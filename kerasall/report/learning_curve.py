"""Learning curves: the score against the number of training groups, on the same images throughout."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.learning_curve import LearningCurve
from kerasall.evaluation.metrics import find_metric
from kerasall.report.document import (
    Alert,
    Cell,
    Check,
    Code,
    Column,
    Fact,
    Protocol,
    Report,
    Section,
    Table,
    figure_block,
)
from kerasall.report.figure_style import MUTED, STYLE, color_of, new_figure, percent_axis, show_legend
from kerasall.report.format import difference_words, format_value, is_percent


def make_curve_report(
    curve: LearningCurve, *, title: str, scored: str, group_kind: str, protocol: Protocol, command: str
) -> Report:
    """The page of a learning curve.

    Args:
        curve: scored points.
        title: of the experiment.
        scored: what the images are, in words.
        group_kind: what was counted, in the plural.
        protocol: honest or faithful.
        command: that made the page.
    """
    figure, axes = new_figure(height=3.4)
    alt = draw_learning_curve(axes[0, 0], curve, group_kind)
    caption = "Bars: 95% intervals over groups of the scored images. They do not know the luck of which groups were taken."
    limits = Alert(
        "note",
        "What the curve does not say",
        items=tuple(
            map(
                Check,
                (
                    "One random order of the training groups was taken; another would give another curve.",
                    "Settings were not tuned anew for each share; epochs were decided anew where validation decides them.",
                    "More patients of the same laboratory are not patients of another one.",
                ),
            )
        ),
    )
    section = Section(
        "curve",
        f"Score against training {group_kind}",
        f"Scored on {scored}, the same images at every point. {describe_last_step(curve)}",
        (figure_block("learning-curve", figure, alt, caption), _table(curve, group_kind), limits),
    )
    runs = Section("provenance", "How to make it again", blocks=(Code(command, "Command"),))
    return Report(
        title=f"{title}: learning curve",
        subtitle="The same settings on nested shares of the training groups.",
        protocol=protocol,
        facts=(Fact("Points", str(len(curve.points))), Fact("Main score", _title(curve))),
        results=curve.to_json(),
        sections=(section, runs),
    )


def _title(curve: LearningCurve) -> str:
    return find_metric(curve.metric, curve.points[0].trained.predictions.classes).title


def _words(metric: str, found: Interval) -> tuple[str, str]:
    percent = is_percent(metric)
    if found.value is None or found.low is None:
        return format_value(found.value, percent), found.note or "no interval"
    return format_value(
        found.value, percent
    ), f"{format_value(found.low, percent)} to {format_value(found.high, percent)}"


def _table(curve: LearningCurve, group_kind: str) -> Table:
    names = list(curve.points[0].scores)
    classes = curve.points[0].trained.predictions.classes
    columns = (
        Column(f"Training {group_kind}"), Column("Images", "right"),
        *(Column(find_metric(name, classes).title, "right") for name in names), Column("Gain", "right"), Column("Run"),
    )  # fmt: skip
    rows = []
    for point in curve.points:
        gain = Cell(*difference_words(curve.metric, point.gain)) if point.gain else None
        rows.append(
            (
                Cell(f"{point.trained.groups:,.1f}".removesuffix(".0"), f"{100 * point.trained.share:g}%"),
                f"{point.trained.images:,.0f}",
                *(Cell(*_words(name, point.scores[name])) for name in names),
                gain,
                point.trained.run,
            )
        )
    note = f"Gain: {_title(curve)} less that of the row above, on the same images, with its 95% interval over groups."
    return Table("Every point", columns, tuple(rows), (note,))


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
    classes = curve.points[0].trained.predictions.classes
    for number, name in enumerate(curve.points[0].scores):
        found = [point.scores[name] for point in curve.points]
        values, lows, highs = (
            np.array([getattr(each, end) for each in found], float) for end in ("value", "low", "high")
        )
        shift = groups * 1.02 ** (number - 0.5)  # bars of two metrics must not cover each other
        axes.vlines(shift, lows, highs, color=color_of(number), linewidth=2, alpha=0.45)
        axes.plot(
            shift, values, "o-", color=color_of(number), markersize=5, label=find_metric(name, classes).title
        )
    axes.set_xscale("log")
    axes.set_xticks(groups, [f"{count:,.0f}" for count in groups])
    axes.minorticks_off()
    axes.tick_params(axis="x", colors=MUTED)
    axes.set(xlabel=f"training {group_kind}")
    if all(is_percent(name) for name in curve.points[0].scores):
        percent_axis(axes.yaxis)
    show_legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    shown = "; ".join(
        f"{point.trained.groups:,.0f}: {' '.join(_words(curve.metric, point.scores[curve.metric]))}"
        for point in curve.points
    )
    return f"{_title(curve)} against training {group_kind}. {shown}."


def describe_curve(curve: LearningCurve) -> list[str]:
    """Lines for a terminal."""
    lines = [f"{'groups':>8} {'images':>8}  {curve.metric}"]
    for point in curve.points:
        value, ends = _words(curve.metric, point.scores[curve.metric])
        lines.append(f"{point.trained.groups:8,.1f} {point.trained.images:8,.0f}  {value} ({ends})")
    return [*lines, describe_last_step(curve)]


def describe_last_step(curve: LearningCurve) -> str:
    """What the last step says, in one sentence."""
    gain = curve.points[-1].gain
    if gain is None or gain.difference is None or gain.low is None or gain.high is None:
        return "Whether more training groups would help cannot be told from these."
    value, ends = difference_words(curve.metric, gain)
    step = f"The last step brought {value} ({ends})"
    better = (
        1
        if find_metric(curve.metric, curve.points[0].trained.predictions.classes).direction == "higher"
        else -1
    )
    if min(better * gain.low, better * gain.high) > 0:
        return f"{step}: the curve still rises, and more subjects should help."
    return f"{step}: an interval that holds 0 shows no gain, and does not show that there is none."
