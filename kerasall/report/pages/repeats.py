"""The page of repetitions: means with their spread over seeds, and what that spread does not say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import matplotlib
from matplotlib.axes import Axes

from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.repeats import DDOF, RepeatedScores, Spread
from kerasall.report.figure_style import INK, MUTED, STYLE, color_of, percent_axis, show_legend
from kerasall.report.format import Score, format_value, is_percent
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
    main, title = scores.main, title_of(scores, scores.main)
    rows = {model: spreads[main] for model, spreads in scores.spreads.items()}
    draw = partial(draw_repeats, rows=rows, title=title, metric=main)
    shared = {
        "s": scores, "title_": title, "groups": groups_words(scores, background), "level": f"{100 * scores.confidence:g}%",
        "length": show_length, "ddof": DDOF,
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
                "repeats_summary",
                **shared,
                tiles=[
                    (
                        Score(f"{model}, mean", spread.mean, spread.low, spread.high, is_percent(main)),
                        show_length(main, spread.deviation),
                    )
                    for model, spread in (
                        list(rows.items()) if len(rows) <= _MOST_TILES else list(rows.items())[-1:]
                    )
                ],
                meanings=describe_spread(scores, background),
                b=background,
            ),
            render_section(
                "repeats_main",
                **shared,
                picture=draw_picture("repeats", draw, height=1.15 + 0.55 * len(rows)),
            ),
            render_section(
                "repeats_scores",
                **shared,
                titles={metric: title_of(scores, metric) for metric in scores.metrics},
            ),
            render_section("repeats_runs", s=scores, b=background),
        ),
    )


def describe_spread(scores: RepeatedScores, background: Background) -> list[str]:
    """What may and what may not be read from the spread: sentences for page and terminal."""
    name, count = list(scores.spreads)[-1], len(scores.repetitions)
    spread = scores.spreads[name][scores.main]
    found = [
        "All repetitions share one split, and are scored on the same images. Only the seeds of training differ: first "
        "weights, order of batches, augmentation, repeated images.",
        "The spread over seeds is not the uncertainty over patients. The interval below each mean resamples "
        f"{groups_words(scores, background)}; {count} trainings on the same patients say nothing about others.",
    ]
    if spread.mean is not None and spread.lowest == spread.highest:
        found.append(f"{name} scores the same in every repetition: no seed changes its decisions.")
    elif spread.mean is not None:
        seeds, patients = (
            show_length(scores.main, None if low is None or high is None else high - low)
            for low, high in ((spread.lowest, spread.highest), (spread.low, spread.high))
        )
        found.append(
            f"{name}: the repetitions lie within {seeds} of one another, the interval over groups is {patients} wide. "
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
    lines = [f"{title_of(scores, main)} over {len(scores.repetitions)} repetitions:"]
    for model, spreads in scores.spreads.items():
        spread = spreads[main]
        if spread.mean is None:
            lines.append(f"  {model:<{width}}  not defined in every repetition")
            continue
        mean, low, high = (format_value(v, is_percent(main)) for v in (spread.mean, spread.low, spread.high))
        seeds = f"standard deviation {show_length(main, spread.deviation)} over seeds"
        lines.append(f"  {model:<{width}}  mean {mean}, {seeds}, interval over groups {low} to {high}")
    return lines


def groups_words(scores: RepeatedScores, background: Background) -> str:
    """What the intervals resample, with its number."""
    if not scores.known_groups:
        return f"{scores.groups:,} single images, as no group is known"
    return f"{scores.groups:,} {background.group_kind}"


def title_of(scores: RepeatedScores, metric: str) -> str:
    """Words for a metric."""
    return find_metric(metric, scores.classes).title


def show_length(metric: str, length: float | None) -> str:
    """A difference: in percentage points, or plain."""
    if length is None:
        return "–"
    return f"{100 * length:.1f} points" if is_percent(metric) else f"{length:.3f}"


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
    for place, (model, spread) in enumerate(rows.items()):
        _draw_row(axes, place, model, spread, metric)
    axes.set(xlabel=title, ylim=(len(rows) - 0.45, -0.75), yticks=[])
    axes.margins(x=0.06)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    if is_percent(metric):
        percent_axis(axes.xaxis)
    show_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.32 / (0.4 + 0.2 * len(rows))), ncols=3)
    return f"{title} of every repetition. " + "; ".join(
        f"{model} {', '.join(format_value(value, is_percent(metric)) for value in spread.values)}"
        for model, spread in rows.items()
    )


def _draw_row(axes: Axes, place: int, model: str, spread: Spread, metric: str) -> None:
    def label(text: str) -> str | None:
        return text if place == 0 else None

    if spread.low is not None and spread.high is not None:
        ends = [spread.low, spread.high]
        axes.plot(
            ends, [place] * 2, color=MUTED, linewidth=6, alpha=0.25, label=label("interval over groups")
        )
    values = [value for value in spread.values if value is not None]
    axes.plot(
        values,
        [place] * len(values),
        "o",
        color=color_of(0),
        markersize=5,
        alpha=0.6,
        label=label("repetition"),
    )
    text = "–"
    if spread.mean is not None:
        axes.plot(
            [spread.mean], [place], "|", color=INK, markersize=15, markeredgewidth=1.8, label=label("mean")
        )
        text = f"{format_value(spread.mean, is_percent(metric))} ± {show_length(metric, spread.deviation)}"
    options = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "va": "bottom",
        "fontsize": 8.5,
    }
    axes.annotate(model, (0, place), (0, 9), ha="left", weight="bold", **options)
    axes.annotate(text, (1, place), (0, 9), ha="right", **options)
