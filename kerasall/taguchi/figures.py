"""An analysis as figures for reports: main effects, half-normal plot, estimable interactions."""

from __future__ import annotations

import re

from matplotlib.figure import Figure

from kerasall.evaluation.figure_style import new_figure
from kerasall.evaluation.taguchi_figures import draw_half_normal, draw_interaction, draw_main_effects
from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.effects import lenth_margin

_INTERACTIONS = 6
_FEWEST_EFFECTS = 3


def draw_analysis(analysis: Analysis, interactions: int = _INTERACTIONS) -> dict[str, tuple[Figure, str]]:
    """Draws an analysis.

    Args:
        analysis: what ``analyze`` found.
        interactions: draws at most this many interactions, of those that can be estimated.

    Returns:
        File stem -> figure and its alternative text, in order.
    """
    unit = analysis.signal.signal.unit
    ratio = f"mean S/N ratio ({unit})" if unit else "mean response"
    levels = sum(len(means) for means in analysis.response_table.values())
    figure, axes = new_figure(width=max(4.2, 0.3 * levels))
    mean = float(analysis.signal_to_noise.mean())
    text = draw_main_effects(axes[0, 0], analysis.response_table, analysis.level_names, ratio, mean)
    figures = {"main_effects": (figure, text)}
    effects = analysis.half_normal_effects()
    if len(effects) >= _FEWEST_EFFECTS:
        figure, axes = new_figure()
        text = draw_half_normal(axes[0, 0], effects, lenth_margin([effect for _, effect in effects]))
        figures["half_normal"] = (figure, text)
    estimable = [i.factors for i in analysis.interactions() if i.estimable]
    for first, second in estimable[:interactions]:
        figure, axes = new_figure()
        names = analysis.level_names
        means = analysis.interaction_means(first, second)
        text = draw_interaction(axes[0, 0], means, first, second, names[first], names[second], ratio)
        figures[re.sub(r"\W+", "_", f"interaction {first} {second}")] = (figure, text)
    return figures
