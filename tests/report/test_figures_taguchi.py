"""Figures of designed experiments: what is drawn and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

from kerasall.report.figures_style import figure_to_svg, new_figure
from kerasall.report.figures_taguchi import (
    draw_analysis,
    draw_half_normal,
    draw_interaction,
    draw_main_effects,
    half_normal_quantiles,
)
from kerasall.taguchi.analysis import analyze

TABLE = {"A": [13.29, 10.81, 12.86], "B": [12.40, None, 11.76], "C": [1.0, 2.0]}


def _axes():
    figure, axes = new_figure()
    return figure, axes


def test_main_effects_draw_every_mean_and_mark_the_best():
    figure, axes = _axes()
    alt = draw_main_effects(axes, TABLE, {"A": ["adam", "sgdm", "adam"]}, grand_mean=11.0)
    strokes = [
        line for line in axes.lines if len(line.get_xdata()) > 2 or line.get_markerfacecolor() == "white"
    ]
    np.testing.assert_array_equal(strokes[0].get_ydata(), TABLE["A"])
    assert np.isnan(strokes[1].get_ydata()[1])
    best = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert best == [13.29, 12.40, 2.0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["adam", "sgdm", "adam", *"123", *"12"]
    assert [t.get_text() for t in axes.texts] == ["A", "B", "C"]
    assert "A: best level adam at 13.29, effect 2.48" in alt
    assert figure_to_svg(figure).startswith(b"<?xml")


def test_parallel_lines_do_not_interact():
    _, axes = _axes()
    alt = draw_interaction(axes, np.array([[1.0, 2.0], [3.0, 4.0]]), "A", "B", ["a1", "a2"], ["b1", "b2"])
    assert "largest mean 4.00 at A = a2, B = b2; the means depart from parallel lines by up to 0.00" in alt
    assert [list(line.get_ydata()) for line in axes.lines] == [[1, 3], [2, 4]]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["b1", "b2"]


def test_crossing_lines_and_gaps_are_told():
    crossing = draw_interaction(_axes()[1], np.array([[0.0, 1.0], [1.0, 0.0]]), "A", "B", "12", "12")
    assert "by up to 0.50" in crossing
    gap = draw_interaction(_axes()[1], np.array([[0.0, 1.0], [1.0, np.nan]]), "A", "B", "12", "12")
    assert "not every pair was run" in gap


def test_half_normal_plot_orders_sizes_and_names_what_stands_out():
    _, axes = _axes()
    effects = [("A", -9.0), ("B", 0.5), ("", 0.2), ("", -0.4), ("C", 0.1), ("D", 6.0)]
    alt = draw_half_normal(axes, effects, margin=2.0, labelled=1)
    points = np.concatenate([c.get_offsets() for c in axes.collections])
    assert sorted(points[:, 1]) == pytest.approx([0.1, 0.2, 0.4, 0.5, 6, 9])
    assert np.argsort(points[:, 0]).tolist() == np.argsort(points[:, 1]).tolist()
    assert {t.get_text() for t in axes.texts} == {"A", "D"}
    assert "largest: A (9.00), D (6.00); 2 lie beyond the margin of 2.00" in alt


def test_half_normal_plot_without_margin_names_the_largest():
    alt = draw_half_normal(_axes()[1], [("A", 3.0), ("B", -2.0), ("C", 1.0)], labelled=2)
    assert alt == "Half-normal plot of 3 effects; largest: A (3.00), B (2.00)."


def test_half_normal_quantiles_are_those_of_the_absolute_normal():
    rng = np.random.default_rng(0)
    sample = np.quantile(np.abs(rng.standard_normal(200_000)), (np.arange(10) + 0.5) / 10)
    np.testing.assert_allclose(half_normal_quantiles(10), sample, atol=0.02)


def test_an_analysis_becomes_figures_of_what_can_be_estimated():
    run = np.arange(8)
    table = {name: 1 + (run >> i & 1) for i, name in enumerate("ABC")}
    response = 10.0 * table["A"] * table["B"] + table["C"] + run / 10
    figures = draw_analysis(analyze(table, response, signal="mean"))
    assert list(figures) == [
        "main_effects", "half_normal", "interaction_A_B", "interaction_A_C", "interaction_B_C"
    ]  # fmt: skip
    again = draw_analysis(analyze(table, response, signal="mean"))
    assert figures == again
    assert all(svg.startswith(b"<?xml") for svg, _ in figures.values())


def test_where_all_are_aliased_one_interaction_is_drawn_and_says_so():
    table = {"A": [1, 1, 2, 2], "B": [1, 2, 1, 2], "C": [1, 2, 2, 1]}
    figures = draw_analysis(analyze(table, [1.0, 2, 4, 3]))
    assert list(figures) == ["main_effects", "half_normal", "aliased_interaction_A_C"]
    assert figures["aliased_interaction_A_C"][1].endswith("Aliased with B.")
