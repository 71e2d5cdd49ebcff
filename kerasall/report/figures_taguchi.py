"""Figures of designed experiments: main effects, interactions, half-normal plot of effects.

As in the other figures: computed values are drawn on the Axes given, and the alternative text is returned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from scipy.special import ndtri

from kerasall.paths import shorten_name
from kerasall.report.figures_style import (
    GUIDE,
    INK,
    MUTED,
    STYLE,
    color_of,
    dash_of,
    figure_to_svg,
    new_figure,
    plot_text,
    plot_texts,
    show_legend,
)
from kerasall.report.format import reword_levels
from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.effects import Interaction, lenth_margin

_LABEL_HEIGHT, _LETTER_WIDTH = 0.055, 0.019
"""Of a label in a drawing, in shares of the drawing's height and width."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_INTERACTIONS = 6
_FEWEST_EFFECTS = 3


@matplotlib.rc_context(STYLE)
def draw_main_effects(
    axes: Axes,
    response_table: Mapping[str, Sequence[float | None]],
    level_names: Mapping[str, Sequence[str]] | None = None,
    ratio: str = "mean S/N ratio (dB)",
    grand_mean: float | None = None,
) -> str:
    """Mean ratio at each level, one stroke a factor, beside one another on one scale; best levels filled.

    Args:
        axes: where to draw.
        response_table: factor -> mean at each level; None where a level was never run.
        level_names: factor -> names of its levels; their numbers where absent.
        ratio: what the means are of, for the axis.
        grand_mean: mean of all rows, drawn dashed.

    Returns:
        Alternative text with each factor's best level and effect.
    """
    names = {factor: (level_names or {}).get(factor) for factor in response_table}
    start, ticks, labels, parts = 0, [], [], []
    if grand_mean is not None:
        axes.axhline(grand_mean, **GUIDE)
    for index, (factor, means) in enumerate(response_table.items()):
        x = start + np.arange(len(means))
        y = np.array([np.nan if mean is None else mean for mean in means], dtype=np.float64)
        texts = names[factor] or [str(level + 1) for level in range(len(means))]
        best = int(np.nanargmax(y))
        axes.plot(x, y, color=color_of(index), marker="o", markerfacecolor="white", markersize=5)
        axes.plot(x[best], y[best], color=color_of(index), marker="o", markersize=7)
        axes.annotate(
            plot_text(factor), (float(x.mean()), 1), (0, 4), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", color=color_of(index), fontsize=8.5, weight="bold",
        )  # fmt: skip
        ticks += list(x)
        labels += plot_texts(texts)
        start += len(means) + 1
        effect = float(np.nanmax(y) - np.nanmin(y))
        parts.append(f"{factor}: best level {texts[best]} at {y[best]:.2f}, effect {effect:.2f}")
    crowded = len(labels) > 8 or max(map(len, labels)) * len(labels) > 30
    axes.set_xticks(ticks, plot_texts(labels, 1000), rotation=90 if crowded else 0)
    axes.set(ylabel=plot_text(ratio), xlim=(-0.8, start - 1.2))
    axes.grid(False, axis="x")
    return "Main effects. " + "; ".join(parts) + "."


@matplotlib.rc_context(STYLE)
def draw_interaction(
    axes: Axes, means: np.ndarray, first: str, second: str, first_levels: Sequence[str],
    second_levels: Sequence[str], ratio: str = "mean S/N ratio (dB)",
) -> str:  # fmt: skip
    """Mean ratio at each pair of levels; parallel lines mean that the two factors do not interact.

    Args:
        axes: where to draw.
        means: float [levels of first, levels of second]; nan where a pair was not run.
        first: factor along x.
        second: factor of the lines.
        first_levels: names.
        second_levels: names.
        ratio: what the means are of, for the axis.

    Returns:
        Alternative text with the best pair and how far the lines are from parallel.
    """
    means = np.asarray(means, dtype=np.float64)
    for index, name in enumerate(second_levels):
        style: dict[str, Any] = {
            "color": color_of(index),
            "linestyle": dash_of(index),
            "label": plot_text(name),
        }
        marker = _MARKERS[index % len(_MARKERS)]
        axes.plot(range(len(first_levels)), means[:, index], marker=marker, markersize=5, **style)
    width = max(10, 42 // len(first_levels))  # letters that fit beside one another
    axes.set_xticks(range(len(first_levels)), plot_texts(first_levels, width=width))
    axes.set(xlabel=plot_text(first), ylabel=plot_text(ratio), xlim=(-0.2, len(first_levels) - 0.35))
    show_legend(axes, title=plot_text(second), title_fontsize=8, loc="best", framealpha=0.5)
    row, column = (int(place) for place in np.unravel_index(int(np.nanargmax(means)), means.shape))
    return (
        f"Interaction of {first} and {second}: largest mean {means[row, column]:.2f} at {first} = "
        f"{first_levels[row]}, {second} = {second_levels[column]}; {_parallelism(means)}."
    )


def _parallelism(means: np.ndarray) -> str:
    if np.isnan(means).any():
        return "not every pair was run"
    additive = means.mean(axis=1, keepdims=True) + means.mean(axis=0, keepdims=True) - means.mean()
    return f"the means depart from parallel lines by up to {np.abs(means - additive).max():.2f}"


@matplotlib.rc_context(STYLE)
def draw_half_normal(
    axes: Axes, effects: Sequence[tuple[str, float]], margin: float | None = None, labelled: int = 4
) -> str:
    """Sizes of single-degree effects against half-normal quantiles; noise alone lies on a line through 0.

    Args:
        axes: where to draw.
        effects: (name, effect) of equal variance; an empty name marks the error's.
        margin: effects beyond it stand out from noise, for example Lenth's; drawn dashed.
        labelled: this many of the largest are named, and all beyond the margin.

    Returns:
        Alternative text that names the largest effects.

    Source: C. Daniel, Use of half-normal plots in interpreting factorial two-level experiments,
    Technometrics 1:311 (1959).
    """
    ordered = sorted(effects, key=lambda effect: abs(effect[1]))
    sizes = np.array([abs(effect) for _, effect in ordered])
    x = half_normal_quantiles(len(sizes))
    error = np.array([not name for name, _ in ordered])
    axes.scatter(x[~error], sizes[~error], s=26, color=color_of(0), label="effects", zorder=3)
    if error.any():
        style = {"facecolor": "white", "edgecolor": MUTED, "zorder": 3}
        axes.scatter(x[error], sizes[error], s=26, label="error", **style)
    if margin is not None:
        axes.axhline(margin, color=color_of(1), linestyle=(0, (4, 3)), linewidth=1.2, label="margin of error")
    named = [i for i in range(len(sizes)) if not error[i]]
    shown = [i for i in named if i in named[-labelled:] or (margin is not None and sizes[i] > margin)]
    right, top = 1.4 * x[-1], max(sizes.max(), margin or 0) * 1.12 or 1
    places = [_place_label(x[i] / right, sizes[i] / top, plot_text(ordered[i][0])) for i in reversed(shown)]
    for (start, _, name), height in zip(places, _heights_of_labels(places), strict=True):
        axes.text(
            start, height, plot_text(name), va="center", fontsize=8, color=INK, transform=axes.transAxes
        )
    axes.set(xlabel="half-normal quantile", ylabel="size of effect", xlim=(0, right), ylim=(0, top))
    show_legend(axes, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0)
    text = ", ".join(f"{ordered[i][0]} ({sizes[i]:.2f})" for i in reversed(shown))
    count = 0 if margin is None else int((sizes[named] > margin).sum())
    beyond = "" if margin is None else f"; {count} lie beyond the margin of {margin:.2f}"
    return f"Half-normal plot of {len(sizes)} effects; largest: {text}{beyond}."


def _place_label(x: float, y: float, text: str) -> tuple[float, float, str]:
    """A label right of its point, or above it where the drawing is not wide enough."""
    left, room = x + 0.015, 1 - _LETTER_WIDTH * len(text)
    return (left, y, text) if left <= room else (max(room, 0), y + 0.8 * _LABEL_HEIGHT, text)


def _heights_of_labels(places: Sequence[tuple[float, float, str]]) -> list[float]:
    """Heights at which labels right of their points, the largest first, do not run into one another.

    Right of a point and below it there is no other, for the points rise: a label may move down.

    Args:
        places: (left end, height, text) of each, in shares of the drawing.
    """
    found: list[float] = []
    for place, (left, height, text) in enumerate(places):
        end = left + _LETTER_WIDTH * len(text)
        taken = [other for (start, _, _), other in zip(places[:place], found, strict=True) if start < end]
        for other in sorted(taken, reverse=True):
            if abs(height - other) < _LABEL_HEIGHT:
                height = other - _LABEL_HEIGHT
        found.append(height)
    return found


def half_normal_quantiles(count: int) -> np.ndarray:
    """Half-normal quantiles of (i - 0.5) / count, float [count], ascending.

    >>> half_normal_quantiles(3).round(3)
    array([0.21 , 0.674, 1.383])
    """
    return ndtri(0.5 + (np.arange(count) + 0.5) / (2 * count))


def draw_analysis(analysis: Analysis, interactions: int = _INTERACTIONS) -> dict[str, tuple[bytes, str]]:
    """Draws an analysis.

    Args:
        analysis: what ``analyze`` found.
        interactions: draws at most this many interactions, the declared ones first. Where none can be estimated,
            that of the two largest factors is drawn, marked as aliased.

    Returns:
        File stem -> figure (SVG) and its alternative text, in order.
    """
    unit = analysis.signal.signal.unit
    ratio = f"mean S/N ratio ({unit})" if unit else "mean response"
    levels = sum(len(means) for means in analysis.response_table.values())
    figure, axes = new_figure(width=max(4.2, 0.3 * levels))
    mean = float(analysis.model.response.mean())
    names = reword_levels(analysis.level_names)
    text = draw_main_effects(axes, analysis.response_table, names, ratio, mean)
    figures = {"main_effects": (figure, text)}
    effects = analysis.half_normal_effects()
    if len(effects) >= _FEWEST_EFFECTS:
        figure, axes = new_figure()
        text = draw_half_normal(axes, effects, lenth_margin([effect for _, effect in effects]))
        figures["half_normal"] = (figure, text)
    found = analysis.interactions()
    declared = {term.name for term in analysis.model.crossed}
    drawn = [i for i in found if str(i) in declared]  # what they are aliased with was taken for nothing
    drawn += [i for i in found if i.estimable and i not in drawn][: max(0, interactions - len(drawn))]
    for interaction in drawn or _of_largest_factors(analysis, found):
        first, second = interaction.factors
        figure, axes = new_figure()
        means = analysis.interaction_means(first, second)
        text = draw_interaction(axes, means, first, second, names[first], names[second], ratio)
        stem = re.sub(r"\W+", "_", f"interaction {first} {second}")
        stem = shorten_name(stem)
        stem += f"_{len(figures)}" * any(each.endswith(stem) for each in figures)
        if not interaction.estimable and str(interaction) not in declared:
            axes.set_title("Aliased: slopes may be another effect's", fontsize=9)
            text, stem = f"{text} Aliased with {', '.join(interaction.aliased_with)}.", f"aliased_{stem}"
        figures[stem] = (figure, text)
    figures |= _draw_noise(analysis, interactions)
    return {stem: (figure_to_svg(figure), text) for stem, (figure, text) in figures.items()}


def _draw_noise(analysis: Analysis, most: int) -> dict[str, tuple[Any, str]]:
    """Mean response of each setting under each noise, those that interact most first; none without noise factors."""
    if analysis.noise is None or analysis.raw is None:
        return {}
    figures = {}
    names = reword_levels(analysis.level_names | analysis.noise.factors)
    for number, pair in enumerate(analysis.noise.rank_interactions(analysis.raw.anova)[:most], start=1):
        setting, noise = pair
        figure, axes = new_figure()
        means, lines = analysis.noise.means[pair].T, names[setting]
        text = draw_interaction(axes, means, noise, setting, names[noise], lines, "mean response")
        flattest = int(np.nanargmin(np.ptp(means, axis=0)))
        stem = shorten_name(f"robustness_{number}_" + re.sub(r"\W+", "_", f"{setting} {noise}"))
        figures[stem] = (figure, f"{text} The noise matters least at {setting} = {lines[flattest]}.")
    return figures


def _of_largest_factors(analysis: Analysis, found: Sequence[Interaction]) -> list[Interaction]:
    """The interaction of the two factors of the largest effects; none unless every pair of levels was run."""
    largest = set(sorted(analysis.ranks, key=lambda name: analysis.ranks[name])[:2])
    return [i for i in found if set(i.factors) == largest and i.complete and i.aliased_with]
