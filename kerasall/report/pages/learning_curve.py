"""The page of a learning curve: the score against the number of training groups."""

from __future__ import annotations

from functools import partial

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from kerasall.evaluation.learning_curve import LearningCurve
from kerasall.evaluation.metrics import find_metric
from kerasall.report.figure_style import MUTED, STYLE, color_of, percent_axis, show_legend
from kerasall.report.format import difference_words, interval_words, is_percent
from kerasall.report.page import Page, draw_picture, render_section


def make_curve_page(
    curve: LearningCurve, *, title: str, scored: str, group_kind: str, protocol: str, command: str
) -> Page:
    """The page of a learning curve.

    Args:
        curve: scored points.
        title: of the experiment.
        scored: what the images are, in words.
        group_kind: what was counted, in the plural.
        protocol: honest or faithful.
        command: that made the page.
    """
    classes = curve.points[0].trained.predictions.classes
    draw = partial(draw_learning_curve, curve=curve, group_kind=group_kind)
    return Page(
        title=f"{title}: learning curve",
        subtitle="The same settings on nested shares of the training groups.",
        protocol=protocol,
        facts={"Points": str(len(curve.points)), "Main score": _title(curve)},
        results=curve.to_json(),
        sections=(
            render_section(
                "curve",
                c=curve, main=_title(curve), scored=scored, kind=group_kind, last_step=describe_last_step(curve),
                titles={name: find_metric(name, classes).title for name in curve.points[0].scores},
                picture=draw_picture("learning-curve", draw),
            ),
            render_section("provenance", command=command, settings="", environment={}),
        ),
    )  # fmt: skip


def _title(curve: LearningCurve) -> str:
    return find_metric(curve.metric, curve.points[0].trained.predictions.classes).title


def describe_curve(curve: LearningCurve) -> list[str]:
    """Lines for a terminal."""
    lines = [f"{'groups':>8} {'images':>8}  {curve.metric}"]
    for point in curve.points:
        found = point.scores[curve.metric]
        value, ends = interval_words(curve.metric, found)
        words = ends or found.note or "no interval"
        lines.append(f"{point.trained.groups:8,.1f} {point.trained.images:8,.0f}  {value} ({words})")
    return [*lines, describe_last_step(curve)]


def describe_last_step(curve: LearningCurve) -> str:
    """What the last step says, in one sentence."""
    gain = curve.points[-1].gain
    if gain is None or gain.difference is None or gain.low is None or gain.high is None:
        return "Whether more training groups would help cannot be told from these."
    value, ends = difference_words(curve.metric, gain)
    step = f"The last step brought {value} ({ends})"
    classes = curve.points[0].trained.predictions.classes
    better = 1 if find_metric(curve.metric, classes).direction == "higher" else -1
    if min(better * gain.low, better * gain.high) > 0:
        return f"{step}: the curve still rises, and more subjects should help."
    return f"{step}: an interval that holds 0 shows no gain, and does not show that there is none."


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
        label = find_metric(name, classes).title
        axes.plot(shift, values, "o-", color=color_of(number), markersize=5, label=label)
    axes.set_xscale("log")
    axes.set_xticks(groups, [f"{count:,.0f}" for count in groups])
    axes.minorticks_off()
    axes.tick_params(axis="x", colors=MUTED)
    axes.set(xlabel=f"training {group_kind}")
    if all(is_percent(name) for name in curve.points[0].scores):
        percent_axis(axes.yaxis)
    show_legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    shown = "; ".join(
        f"{point.trained.groups:,.0f}: {' '.join(interval_words(curve.metric, point.scores[curve.metric]))}"
        for point in curve.points
    )
    return f"{_title(curve)} against training {group_kind}. {shown}."
