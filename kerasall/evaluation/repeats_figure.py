"""The figure of repetitions: every score as a dot, with mean and interval."""

from __future__ import annotations

import matplotlib
from matplotlib.axes import Axes

from kerasall.evaluation.comparison_wording import is_percent
from kerasall.evaluation.figure_style import INK, MUTED, STYLE, color_of, percent_axis, show_legend
from kerasall.evaluation.repeats import Spread
from kerasall.evaluation.repeats_wording import show_length, show_score


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
        f"{model} {', '.join(show_score(metric, value) for value in spread.values)}"
        for model, spread in rows.items()
    )


def _draw_row(axes: Axes, place: int, model: str, spread: Spread, metric: str) -> None:
    first = place == 0
    if spread.low is not None and spread.high is not None:
        label = "interval over groups" if first else None
        axes.plot([spread.low, spread.high], [place] * 2, color=MUTED, linewidth=6, alpha=0.25, label=label)
    values = [value for value in spread.values if value is not None]
    label = "repetition" if first else None
    axes.plot(values, [place] * len(values), "o", color=color_of(0), markersize=5, alpha=0.6, label=label)
    if spread.mean is not None:
        label = "mean" if first else None
        axes.plot([spread.mean], [place], "|", color=INK, markersize=15, markeredgewidth=1.8, label=label)
    options = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "va": "bottom",
        "fontsize": 8.5,
    }
    text = (
        "–"
        if spread.mean is None
        else f"{show_score(metric, spread.mean)} ± {show_length(metric, spread.deviation)}"
    )
    axes.annotate(model, (0, place), (0, 9), ha="left", weight="bold", **options)
    axes.annotate(text, (1, place), (0, 9), ha="right", **options)
