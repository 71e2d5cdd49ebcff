"""Figures of how a measure is spread over classes and over subjects."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from kerasall.evaluation.data_figures import NAMED_SUBJECTS
from kerasall.evaluation.figure_style import INK, STYLE, WRONG, color_of, show_legend


@matplotlib.rc_context(STYLE)
def draw_spread_by_class(axes: Axes, values: Mapping[str, np.ndarray], measure: str) -> str:
    """One row a class: line from the 1st to the 99th percentile, bar over the middle half, dot at the median.

    Args:
        axes: where to draw.
        values: class -> float [N] of its images, in class order; empty ones leave their row empty.
        measure: what is measured, for the axis.

    Returns:
        Alternative text with every class's median and middle half.
    """
    words = []
    for row, (name, found) in enumerate(values.items()):
        if not len(found):
            continue
        low, left, middle, right, high = np.percentile(found, (1, 25, 50, 75, 99))
        axes.hlines(row, low, high, color=color_of(row), linewidth=1.2)
        axes.hlines(row, left, right, color=color_of(row), linewidth=9, alpha=0.45)
        axes.plot([middle], [row], "o", color=color_of(row), markersize=6, markeredgecolor="white")
        words.append(f"{name} {middle:.4g} ({left:.4g} to {right:.4g})")
    axes.set_yticks(range(len(values)), list(values))
    axes.set(xlabel=measure, ylim=(len(values) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    return f"{measure} by class, median and middle half of the images: {'; '.join(words)}."


@matplotlib.rc_context(STYLE)
def draw_spread_by_subject(
    axes: Axes,
    values: Mapping[str, np.ndarray],
    labels: Mapping[str, str],
    classes: Sequence[str],
    measure: str,
    odd: Collection[str] = (),
) -> str:
    """Every subject's median and middle four fifths, in the order of the medians, coloured by class.

    Args:
        axes: where to draw.
        values: subject -> float [N] of its images, at least one each.
        labels: subject -> class.
        classes: names in class order, which choose the colours.
        measure: what is measured, for the axis.
        odd: subjects to ring and name.

    Returns:
        Alternative text with the range of the medians and the odd subjects.
    """
    order = sorted(values, key=lambda name: (float(np.median(values[name])), name))
    colors = {name: color_of(index) for index, name in enumerate(classes)}
    for rank, name in enumerate(order):
        low, middle, high = np.percentile(values[name], (10, 50, 90))
        axes.hlines(rank, low, high, color=colors[labels[name]], linewidth=1, alpha=0.5)
        axes.plot([middle], [rank], "o", color=colors[labels[name]], markersize=4.5, markeredgecolor="white")
        if name in odd:
            axes.plot([middle], [rank], "o", markersize=9, markerfacecolor="none", markeredgecolor=WRONG)
            if len(order) > NAMED_SUBJECTS:
                _name_odd(axes, name, middle, rank, len(order))
    axes.set_yticks(*(([], []) if len(order) > NAMED_SUBJECTS else (range(len(order)), order)))
    axes.set(xlabel=measure, ylim=(-1, len(order)))
    axes.grid(axis="y", visible=False)
    for name, color in colors.items():
        axes.plot([], [], "o", color=color, label=name)
    show_legend(
        axes, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(len(colors), 4), handlelength=1
    )
    medians = [float(np.median(values[name])) for name in order]
    ringed = [f"{name} {np.median(values[name]):.4g}" for name in order if name in odd]
    return f"{measure} of {len(order)} subjects: medians from {min(medians):.4g} to {max(medians):.4g}. " + (
        f"Unlike the rest: {'; '.join(ringed)}." if ringed else "None is unlike the rest."
    )


def _name_odd(axes: Axes, name: str, x: float, rank: int, count: int) -> None:
    below = rank < count / 2
    axes.annotate(
        name, (x, rank), (8, 6 if below else -6), textcoords="offset points", fontsize=8, color=INK,
        va="bottom" if below else "top",
    )  # fmt: skip
