"""An analysis as figures for reports: main effects, half-normal plot, interactions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from matplotlib.figure import Figure

from kerasall.evaluation.figure_style import new_figure
from kerasall.evaluation.taguchi_figures import draw_half_normal, draw_interaction, draw_main_effects
from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.effects import Interaction, lenth_margin

_INTERACTIONS = 6
_FEWEST_EFFECTS = 3


def draw_analysis(analysis: Analysis, interactions: int = _INTERACTIONS) -> dict[str, tuple[Figure, str]]:
    """Draws an analysis.

    Args:
        analysis: what ``analyze`` found.
        interactions: draws at most this many interactions, of those that can be estimated. Where none can,
            that of the two largest factors is drawn, marked as aliased.

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
    found = analysis.interactions()
    drawn = [i for i in found if i.estimable][:interactions]
    for interaction in drawn or _of_largest_factors(analysis, found):
        first, second = interaction.factors
        figure, axes = new_figure()
        names = analysis.level_names
        means = analysis.interaction_means(first, second)
        text = draw_interaction(axes[0, 0], means, first, second, names[first], names[second], ratio)
        stem = re.sub(r"\W+", "_", f"interaction {first} {second}")
        if not interaction.estimable:
            axes[0, 0].set_title("Aliased: slopes may be another effect's", fontsize=9)
            text, stem = f"{text} Aliased with {', '.join(interaction.aliased_with)}.", f"aliased_{stem}"
        figures[stem] = (figure, text)
    return figures


def _of_largest_factors(analysis: Analysis, found: Sequence[Interaction]) -> list[Interaction]:
    """The interaction of the two factors of the largest effects; none unless every pair of levels was run."""
    largest = set(sorted(analysis.ranks, key=lambda name: analysis.ranks[name])[:2])
    return [i for i in found if set(i.factors) == largest and i.complete and i.aliased_with]
