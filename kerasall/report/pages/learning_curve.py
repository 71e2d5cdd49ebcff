"""The page of a learning curve: the score against the number of training groups."""

from __future__ import annotations

from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.repeats import LearningCurve
from kerasall.report.figures_comparison import draw_learning_curve
from kerasall.report.format import difference_words, interval_words, title_of
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
    main = title_of(curve.metric, curve.classes)
    return Page(
        title=f"{title}: learning curve",
        subtitle="The same settings on nested shares of the training groups.",
        protocol=protocol,
        facts={"Points": str(len(curve.points)), "Main score": main},
        results=curve.to_json(),
        sections=(
            render_section(
                "curve",
                c=curve, main=main, scored=scored, kind=group_kind, last_step=describe_last_step(curve),
                titles={name: title_of(name, curve.classes) for name in curve.points[0].scores},
                picture=draw_picture("learning-curve", draw_learning_curve, curve, group_kind),
            ),
            render_section("provenance", command=command, settings="", environment={}),
        ),
    )  # fmt: skip


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
    better = 1 if find_metric(curve.metric, curve.classes).direction == "higher" else -1
    if min(better * gain.low, better * gain.high) > 0:
        return f"{step}: the curve still rises, and more subjects should help."
    return f"{step}: an interval that holds 0 shows no gain, and does not show that there is none."
