"""The pages of one experiment run several times: the spread over seeds, the score against the number of training groups."""

from __future__ import annotations

from dataclasses import dataclass

from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.repeats import DDOF, LearningCurve, RepeatedScores
from kerasall.report.figures_comparison import draw_learning_curve, draw_repeats
from kerasall.report.format import (
    Score,
    difference_words,
    format_length,
    format_value,
    interval_words,
    is_percent,
    title_of,
)
from kerasall.report.page import Page, draw_picture, render_section

_MOST_TILES = 3
"""More models than this are not all told above the fold: the last one, the system itself, is."""


@dataclass(frozen=True)
class Background:
    """What the page says besides the scores.

    Attributes:
        title, subtitle: of the experiment.
        protocol: honest or faithful.
        scored: what the images are, in words.
        group_kind: what the intervals resample, in the plural.
        runs: repetition -> what it trained, in words.
        command: that made the page.
        weaknesses: of the experiment.
    """

    title: str
    subtitle: str
    protocol: str
    scored: str
    group_kind: str
    runs: dict[str, str]
    command: str = ""
    weaknesses: tuple[str, ...] = ()


def make_repeats_page(scores: RepeatedScores, background: Background) -> Page:
    """The page of repetitions; ``results`` holds the JSON form of the scores."""
    main, title = scores.main, title_of(scores.main, scores.classes)
    rows = {model: spreads[main] for model, spreads in scores.spreads.items()}
    told = list(rows.items()) if len(rows) <= _MOST_TILES else list(rows.items())[-1:]
    tiles = [
        (
            Score(f"{model}, mean", spread.mean, spread.low, spread.high, is_percent(main)),
            format_length(main, spread.deviation),
        )
        for model, spread in told
    ]
    shared = {
        "s": scores, "title_": title, "groups": groups_words(scores, background), "level": f"{100 * scores.confidence:g}%",
        "length": format_length, "ddof": DDOF,
    }  # fmt: skip
    return Page(
        title=f"{background.title}: {len(scores.repetitions)} repetitions",
        subtitle=background.subtitle,
        protocol=background.protocol,
        facts={
            "Repetitions": str(len(scores.repetitions)),
            "Images": f"{scores.images:,}",
            "Groups": f"{scores.groups:,}" if scores.known_groups else "not known",
            "Main score": title,
        },
        results=scores.to_json(),
        sections=(
            render_section(
                "repeats_summary", **shared, tiles=tiles, meanings=describe_spread(scores, background), b=background
            ),
            render_section(
                "repeats_main", **shared,
                picture=draw_picture("repeats", draw_repeats, rows, title, main, height=1.15 + 0.55 * len(rows)),
            ),
            render_section(
                "repeats_scores", **shared, titles={metric: title_of(metric, scores.classes) for metric in scores.metrics}
            ),
            render_section("repeats_runs", s=scores, b=background),
        ),
    )  # fmt: skip


def describe_spread(scores: RepeatedScores, background: Background) -> list[str]:
    """What may and what may not be read from the spread: sentences for page and terminal."""
    name, count = list(scores.spreads)[-1], len(scores.repetitions)
    spread = scores.spreads[name][scores.main]
    found = [
        "All repetitions share one split, and are scored on the same images. Only the seeds of training differ: first "
        "weights, order of batches, augmentation, repeated images.",
        f"The spread over seeds is not the uncertainty over {background.group_kind}. The interval below each mean resamples "
        f"{groups_words(scores, background)}; {count} trainings on the same ones say nothing about others.",
    ]
    if spread.mean is not None and spread.lowest == spread.highest:
        found.append(f"{name} scores the same in every repetition: no seed changes its decisions.")
    elif spread.mean is not None:
        seeds, groups = (
            format_length(scores.main, None if low is None or high is None else high - low)
            for low, high in ((spread.lowest, spread.highest), (spread.low, spread.high))
        )
        found.append(
            f"{name}: the repetitions lie within {seeds} of one another, the interval over groups is {groups} wide. "
            "Another system's score must differ by more than both before it is better."
        )
    found.append(
        "Quote the mean. Which repetition would be highest was not known before; it is highest on these images, by "
        "chance, and taking it would choose on the scored images."
    )
    return found


def describe_repeats(scores: RepeatedScores) -> list[str]:
    """Lines for a terminal: mean, standard deviation and range of the main score per model."""
    main, width = scores.main, max(map(len, scores.spreads))
    lines = [f"{title_of(main, scores.classes)} over {len(scores.repetitions)} repetitions:"]
    for model, spreads in scores.spreads.items():
        spread = spreads[main]
        if spread.mean is None:
            lines.append(f"  {model:<{width}}  not defined in every repetition")
            continue
        mean, low, high = (format_value(v, is_percent(main)) for v in (spread.mean, spread.low, spread.high))
        seeds = f"standard deviation {format_length(main, spread.deviation)} over seeds"
        lines.append(f"  {model:<{width}}  mean {mean}, {seeds}, interval over groups {low} to {high}")
    return lines


def groups_words(scores: RepeatedScores, background: Background) -> str:
    """What the intervals resample, with its number."""
    if not scores.known_groups:
        return f"{scores.groups:,} single images, as no group is known"
    return f"{scores.groups:,} {background.group_kind}"


def make_curve_page(curve: LearningCurve, background: Background) -> Page:
    """The page of a learning curve; of the experiment's description, runs and weaknesses it says nothing."""
    classes = curve.classes
    main = title_of(curve.metric, classes)
    return Page(
        title=f"{background.title}: learning curve",
        subtitle="The same settings on nested shares of the training groups.",
        protocol=background.protocol,
        facts={"Points": str(len(curve.points)), "Main score": main},
        results=curve.to_json(),
        sections=(
            render_section(
                "curve",
                c=curve, main=main, scored=background.scored, kind=background.group_kind, last_step=describe_last_step(curve),
                titles={name: title_of(name, classes) for name in curve.points[0].scores},
                picture=draw_picture("learning-curve", draw_learning_curve, curve, background.group_kind),
            ),
            render_section("provenance", command=background.command, settings="", environment={}),
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
    classes = curve.classes
    better = 1 if find_metric(curve.metric, classes).direction == "higher" else -1
    if min(better * gain.low, better * gain.high) > 0:
        return f"{step}: the curve still rises, and more subjects should help."
    return f"{step}: an interval that holds 0 shows no gain, and does not show that there is none."
