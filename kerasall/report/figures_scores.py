"""Figures of scores: confusion matrix, curves, calibration, folds.

Every ``draw_`` function draws computed values on the Axes it is given and returns the alternative
text of what it drew, so that the picture and its description cannot part. Figures of subjects,
data and training are in ``figures_data``; style and export in ``figures_style``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from kerasall.evaluation.calibration import Reliability
from kerasall.evaluation.curves import BandedCurve
from kerasall.evaluation.operating_points import NetBenefit
from kerasall.report.figures_style import (
    BAND,
    GUIDE,
    INK,
    SMALL,
    STYLE,
    WRONG,
    color_of,
    dash_of,
    percent_axis,
    plot_text,
    plot_texts,
    show_legend,
    square_of_shares,
)
from kerasall.report.format import Score

_BLUES = LinearSegmentedColormap.from_list("share", ["#f4f7fa", "#d3e6f3", "#6aaed6", "#1f6ea8", "#0b3c63"])


@matplotlib.rc_context(STYLE)
def draw_confusion_matrix(
    axes: Axes, matrix: np.ndarray, classes: Sequence[str], malignant: Sequence[str] = (), small: bool = False
) -> str:
    """Counts and row percentages; cells of malignant images called benign are outlined in red.

    Args:
        axes: where to draw.
        matrix: int [C, C]; entry [i, j] counts images of class i called class j.
        classes: C names in class order.
        malignant: names among ``classes``; empty draws no outline.
        small: one of many side by side, without words at its axes.

    Returns:
        Alternative text: right and most common wrong call of each class.
    """
    matrix = np.asarray(matrix, dtype=np.int64)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    count = len(classes)
    edges = np.arange(count + 1) - 0.5
    axes.pcolormesh(edges, edges, shares, cmap=_BLUES, vmin=0, vmax=1, edgecolors="white", linewidth=2)
    size = float(np.clip(27 / count, 6, 9.5) if small else np.clip(34 / count, 5.5, 11))
    for row, column in np.ndindex(matrix.shape):
        _write_cell(axes, row, column, int(matrix[row, column]), float(shares[row, column]), size)
    _outline_missed(axes, classes, malignant)
    totals, room = matrix.sum(axis=1), 22 if small else 44
    shown = plot_texts(classes, 10) if small else plot_texts(classes)
    axes.set_xticks(range(count), shown, rotation=0 if max(map(len, shown)) * count < room else 40)
    named = [f"{plot_text(name)}\nn = {total:,}" for name, total in zip(shown, totals, strict=True)]
    axes.set_yticks(range(count), shown if small else named)
    axes.set(ylim=(count - 0.5, -0.5))
    if not small:
        axes.set(xlabel="called by the model", ylabel="true class")
    axes.grid(False)
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    return _describe_matrix(matrix, classes)


def _write_cell(axes: Axes, row: int, column: int, count: int, share: float, size: float) -> None:
    color = _readable_on(_BLUES(share))
    options: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "color": color}
    place = (column, row)
    axes.annotate(f"{count:,}", place, (0, 1), va="bottom", fontsize=size, weight="bold", **options)
    axes.annotate(f"{100 * share:.1f}%", place, (0, -2), va="top", fontsize=0.82 * size, **options)


def _readable_on(ground: tuple[float, ...]) -> str:
    """White or black, whichever has a contrast of at least 4.5 on the ground (WCAG 2.2, 1.4.3)."""
    channels = np.asarray(ground[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "white"


def _outline_missed(axes: Axes, classes: Sequence[str], malignant: Sequence[str]) -> None:
    if not malignant:
        return
    for row, true in enumerate(classes):
        for column, called in enumerate(classes):
            if true in malignant and called not in malignant:
                corner = (column - 0.46, row - 0.46)
                axes.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=WRONG, linewidth=1.6))


def _describe_matrix(matrix: np.ndarray, classes: Sequence[str]) -> str:
    parts = [f"Confusion matrix of {matrix.sum():,} images in {len(classes)} classes."]
    for index, name in enumerate(classes):
        wrong = matrix[index].copy()
        wrong[index] = 0
        total = matrix[index].sum()
        part = f"{name}: {matrix[index, index]:,} of {total:,} right"
        if wrong.any():
            part += f", most often taken for {classes[int(wrong.argmax())]} ({wrong.max():,})"
        parts.append(part + ".")
    return " ".join(parts)


@matplotlib.rc_context(STYLE)
def draw_roc_curves(axes: Axes, curves: Sequence[BandedCurve], bands: bool = True) -> str:
    """True positive rate (y) against false positive rate (x), one curve a class, chance dashed.

    Returns:
        Alternative text with the area of each curve.
    """
    axes.plot([0, 1], [0, 1], **GUIDE)
    _draw_curves(axes, curves, "AUC", bands)
    axes.set(xlabel="false positive rate (1 − specificity)", ylabel="true positive rate (sensitivity)")
    show_legend(axes, loc="lower right")
    return _describe_curves("ROC curves", curves, "AUC")


def roc_lines_height(curves: int) -> float:
    """Inches that ``draw_roc_lines`` needs for so many curves, whose names stand below one another."""
    return 4.0 + 0.2 * curves


@matplotlib.rc_context(STYLE)
def draw_roc_lines(axes: Axes, curves: Sequence[BandedCurve]) -> str:
    """ROC curves of several models without bands, named below the panel; the last, which joins the others, is drawn thick.

    Returns:
        Alternative text with the area of each curve.
    """
    axes.plot([0, 1], [0, 1], **GUIDE)
    _draw_curves(axes, curves, "AUC", bands=False)
    axes.lines[-1].set(color=INK, linestyle="-", linewidth=2.6)
    axes.set(xlabel="false positive rate (1 − specificity)", ylabel="true positive rate (sensitivity)")
    show_legend(axes, loc="upper left", bbox_to_anchor=(-0.02, -0.14))
    return _describe_curves("ROC curves", curves, "AUC")


@matplotlib.rc_context(STYLE)
def draw_precision_recall(
    axes: Axes, curves: Sequence[BandedCurve], prevalences: Sequence[float] = ()
) -> str:
    """Precision (y) against recall (x), one curve a class.

    Args:
        axes: where to draw.
        curves: x is recall, y precision, area the average precision.
        prevalences: share of each curve's class, drawn dotted: the precision of guessing.

    Returns:
        Alternative text with the average precision of each curve.
    """
    for index, prevalence in enumerate(prevalences):
        axes.axhline(prevalence, color=color_of(index), linestyle=(0, (1, 3)), linewidth=1)
    _draw_curves(axes, curves, "AP")
    axes.set(xlabel="recall (sensitivity)", ylabel="precision")
    show_legend(axes, loc="lower left")
    return _describe_curves("Precision-recall curves", curves, "average precision")


def _draw_curves(axes: Axes, curves: Sequence[BandedCurve], name: str, bands: bool = True) -> None:
    for index, curve in enumerate(curves):
        color = color_of(index)
        if bands:
            axes.fill_between(curve.x, curve.band_low, curve.band_high, color=color, **BAND)
        axes.plot(
            curve.x,
            curve.y,
            color=color,
            linestyle=dash_of(index),
            label=plot_text(_curve_words(curve, name), 72),
        )
    square_of_shares(axes, xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))


def _curve_words(curve: BandedCurve, name: str) -> str:
    """For example ``pro: AUC 0.998 (0.996 to 0.999)``; ``name`` is what the area is called."""
    if curve.area is None:
        return curve.label
    text = f"{curve.label}: {name} {curve.area:.3f}"
    if curve.area_low is None or curve.area_high is None:
        return text
    return f"{text} ({curve.area_low:.3f} to {curve.area_high:.3f})"


def _describe_curves(title: str, curves: Sequence[BandedCurve], name: str) -> str:
    return f"{title}. " + "; ".join(_curve_words(curve, name) for curve in curves) + "."


@matplotlib.rc_context(STYLE)
def draw_reliability(axes: Axes, bins: Reliability) -> str:
    """Share right against mean confidence by bins; on the diagonal, 80% sure means 80% right.

    Args:
        axes: where to draw.
        bins: their confidences, accuracies and counts; empty ones are left out. A dot's area follows its images.

    Returns:
        Alternative text with each bin.
    """
    kept = bins.counts > 0
    x, y, n = bins.confidences[kept], bins.accuracies[kept], bins.counts[kept]
    axes.plot([0, 1], [0, 1], label="perfectly calibrated", **GUIDE)
    axes.vlines(x, np.minimum(x, y), np.maximum(x, y), color=color_of(1), linewidth=1.4, alpha=0.7)
    axes.plot(x, y, color=color_of(0), linewidth=1.2)
    areas = 14 + 130 * n / n.max(initial=1)
    axes.scatter(x, y, s=areas, color=color_of(0), alpha=0.85, linewidth=0, label="bin; area = images")
    axes.set(xlabel="mean probability of the called class", ylabel="share right")
    square_of_shares(axes, xlim=(0, 1.02), ylim=(0, 1.04))
    title = f"Expected calibration error {100 * bins.error:.1f}%"
    axes.set_title(plot_text(title))
    show_legend(axes, loc="upper left")
    words = (
        f"{100 * a:.0f}% sure, {100 * b:.0f}% right ({c:,} images)" for a, b, c in zip(x, y, n, strict=True)
    )
    return f"Reliability diagram. {title}. {'; '.join(words)}."


@matplotlib.rc_context(STYLE)
def draw_selective_accuracy(axes: Axes, curve: BandedCurve) -> str:
    """Accuracy on the images kept (y) against the share referred to an expert (x), least sure first.

    Returns:
        Alternative text with the accuracy at 0, 5, 10 and 20% referred, where within the curve.
    """
    referred, accuracy = np.asarray(curve.x, dtype=float), np.asarray(curve.y, dtype=float)
    axes.fill_between(referred, curve.band_low, curve.band_high, color=color_of(0), **BAND)
    axes.plot(referred, accuracy, color=color_of(0))
    marks = [share for share in (0.0, 0.05, 0.1, 0.2) if referred.min() <= share <= referred.max()]
    values = np.interp(marks, referred, accuracy)
    axes.plot(marks, values, "o", color=color_of(0), markersize=5)
    for share, value in zip(marks, values, strict=True):
        axes.annotate(f"{100 * value:.1f}%", (share, value), (4, -11), **SMALL)
    axes.set(xlabel="share referred to an expert", ylabel="accuracy on the rest")
    percent_axis(axes.xaxis, axes.yaxis)
    points = "; ".join(f"{100 * s:.0f}% referred: {100 * v:.1f}%" for s, v in zip(marks, values, strict=True))
    return f"Accuracy on the images kept against the share referred to an expert. {points}."


@matplotlib.rc_context(STYLE)
def draw_fold_scores(axes: Axes, names: Sequence[str], values: Sequence[float], pooled: Score) -> str:
    """One dot a fold, the pooled score as a line and its interval as a band; shares in [0, 1].

    Returns:
        Alternative text with every fold's score.
    """
    if pooled.low is not None and pooled.high is not None:
        axes.axhspan(
            pooled.low, pooled.high, color=color_of(0), alpha=0.12, linewidth=0, label="95% interval"
        )
    if pooled.value is not None:
        label = f"all folds: {100 * pooled.value:.1f}%"
        axes.axhline(pooled.value, color=color_of(0), linewidth=1.2, label=label)
    axes.plot(range(len(values)), values, "o", color=color_of(1), markersize=7, label="one fold")
    for index, value in enumerate(values):
        axes.annotate(f"{100 * value:.1f}%", (index, value), (0, 7), ha="center", **SMALL)
    axes.set_xticks(range(len(names)), plot_texts(names))
    axes.set(xlim=(-0.5, len(names) - 0.3))
    axes.margins(y=0.35)
    percent_axis(axes.yaxis)
    axes.grid(axis="x", visible=False)
    show_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)
    scores = "; ".join(f"{n} {100 * v:.1f}%" for n, v in zip(names, values, strict=True))
    return f"Score of each held-out fold. {scores}."


@matplotlib.rc_context(STYLE)
def draw_decision_curve(axes: Axes, benefit: Sequence[NetBenefit]) -> str:
    """Net benefit of the model, of calling all and of calling none, against the threshold.

    Args:
        axes: where to draw.
        benefit: at ascending thresholds.

    Returns:
        Alternative text with every threshold.
    """
    thresholds, called = [each.threshold for each in benefit], [each.all_called for each in benefit]
    # As numbers, so that an interval that is not defined is NaN, which leaves a gap.
    values, lows, highs = (
        np.array([getattr(each.model, end) for each in benefit], float) for end in ("value", "low", "high")
    )
    axes.fill_between(thresholds, lows, highs, color=color_of(0), **BAND)
    axes.plot(thresholds, values, "o-", color=color_of(0), markersize=4, label="the model")
    axes.plot(thresholds, called, "--", color=color_of(1), label="calling every cell")
    axes.axhline(0, label="calling none", **GUIDE)
    axes.set_xscale("log")
    axes.set_xticks(thresholds, [f"{100 * each:g}%" for each in thresholds])
    axes.minorticks_off()
    lowest, highest = np.nanmin([0.0, *lows]), np.nanmax([0.0, *highs])
    axes.set_ylim(lowest - 0.12 * (highest - lowest) - 0.02, highest + 0.08 * (highest - lowest) + 0.02)
    axes.set(xlabel="threshold on the malignant probability", ylabel="net benefit")
    show_legend(axes, loc="center left")
    shown = "; ".join(
        f"at {100 * e.threshold:g}% {e.model.value:.3f}, calling every cell {e.all_called:.3f}"
        for e in benefit
    )
    return f"Net benefit against the threshold. {shown}."
