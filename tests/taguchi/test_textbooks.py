"""The analysis of variance equals statsmodels' on published experiments, and what their books print."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from textbook_data import (
    CONNECTOR,
    CONNECTOR_ETA,
    CONNECTOR_MEANS,
    FILTRATION,
    FILTRATION_EFFECTS,
    GLUCOSE,
    GLUCOSE_COLUMNS,
    OPTIMIZERS,
    PHADKE_L9_ETA,
    PHADKE_L18_COLUMNS,
    PHADKE_L18_ETA,
    PHADKE_L18_MEANS,
    REACTOR,
    REACTOR_EFFECTS,
    RESNET_ETA,
    TILE_MEANS,
    TILES,
    array_table,
    factorial_table,
    resnet_table,
)

from kerasall.taguchi.analysis import analyze
from kerasall.taguchi.design import plan
from kerasall.taguchi.effects import lenth_margin


def statsmodels_table(table, response, names=None) -> tuple[pd.DataFrame, object]:
    """Type II table of main effects; ``names`` replaces level numbers, merging equal ones."""
    frame = pd.DataFrame(point(table, names))
    formula = "response ~ " + " + ".join(f"C({name})" for name in frame)
    fitted = ols(formula, frame.assign(response=response)).fit()
    return anova_lm(fitted, typ=2).rename(
        index=lambda name: name.removeprefix("C(_").removesuffix(")")
    ), fitted


def point(table, names=None) -> dict[str, list]:
    """The table with names that cannot be taken for functions of the formula."""
    return {
        f"_{factor}": [(names or {}).get(factor, {}).get(level, level) for level in column]
        for factor, column in table.items()
    }


def assert_equal(found, expected: pd.DataFrame) -> None:
    assert {row.factor for row in found.anova.rows} == set(expected.index) - {"Residual"}
    for row in found.anova.rows:
        line = expected.loc[row.factor]
        assert row.df == line["df"]
        np.testing.assert_allclose(
            [row.sum_of_squares, row.f, row.p], line[["sum_sq", "F", "PR(>F)"]].astype(float), rtol=1e-8
        )
    np.testing.assert_allclose(
        found.anova.error.sum_of_squares, expected.loc["Residual", "sum_sq"], rtol=1e-8
    )
    assert found.anova.error.df == expected.loc["Residual", "df"]


CASES = {
    "Phadke, polysilicon, L18 with two spare columns": (
        lambda: array_table("L18(2^1 3^7)", PHADKE_L18_COLUMNS),
        PHADKE_L18_ETA,
    ),
    "Hamada and Wu, blood glucose, L18 of mixed levels": (
        lambda: array_table("L18(2^1 3^7)", GLUCOSE_COLUMNS),
        GLUCOSE,
    ),
    "Montgomery, filtration rate, 4 of the 15 columns of L16": (lambda: factorial_table("ABCD"), FILTRATION),
    "Box, Hunter and Hunter, reactor, 5 of the 31 columns of L32": (
        lambda: factorial_table("ABCDE"),
        REACTOR,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_statsmodels(case):
    make_table, response = CASES[case]
    table = make_table()
    found = analyze(table, response, signal="mean")
    expected, fitted = statsmodels_table(table, response)
    assert_equal(found, expected)
    best = pd.DataFrame(point({name: [level] for name, level in found.best_levels.items()}))
    interval = fitted.get_prediction(best).summary_frame(alpha=0.05)
    best_point = found.prediction
    np.testing.assert_allclose(
        [best_point.value, best_point.low, best_point.high],
        interval[["mean", "mean_ci_lower", "mean_ci_upper"]].to_numpy()[0],
        rtol=1e-8,
    )
    np.testing.assert_allclose(
        [best_point.confirmation_low, best_point.confirmation_high],
        interval[["obs_ci_lower", "obs_ci_upper"]].to_numpy()[0],
        rtol=1e-8,
    )


@pytest.mark.parametrize("case", CASES)
def test_equal_to_statsmodels_when_factors_are_pooled(case):
    make_table, response = CASES[case]
    table = make_table()
    found = analyze(table, response, signal="mean", pool=["B", "C"])
    kept = {name: column for name, column in table.items() if name not in ("B", "C")}
    expected, fitted = statsmodels_table(kept, response)
    assert_equal(found, expected)
    best = pd.DataFrame(point({name: [found.best_levels[name]] for name in kept}))
    assert found.prediction.value == pytest.approx(fitted.predict(best)[0])
    assert {row.factor for row in found.anova.pooled} == {"B", "C"}


def test_phadkes_polysilicon_prints_these_averages_and_sums():
    found = analyze(array_table("L18(2^1 3^7)", PHADKE_L18_COLUMNS), PHADKE_L18_ETA, signal="mean")
    for name, printed in PHADKE_L18_MEANS.items():
        assert found.response_table[name] == pytest.approx(printed, abs=0.006)
    rows = {row.factor: row for row in found.anova.rows}
    assert [rows[n].sum_of_squares for n in "ABCDE"] == pytest.approx([4427, 3416, 1030, 372, 378], abs=1)
    assert [round(rows[n].f, 1) for n in "ABC"] == [27.3, 21.1, 6.4]
    assert found.anova.error.sum_of_squares == pytest.approx(405, abs=1)
    assert found.anova.error.df == 5


def test_phadkes_l9_pools_two_factors_into_the_error():
    """Saturated at first; with settling time and cleaning pooled F is 12.25 and 4.75, and -8.33 dB predicted."""
    table = array_table("L9(3^4)", "ABCD")
    assert analyze(table, PHADKE_L9_ETA, signal="mean").anova.saturated
    found = analyze(table, PHADKE_L9_ETA, signal="mean", pool="half")
    assert [row.sum_of_squares for row in found.anova.rows] == pytest.approx([2450, 950])
    assert [row.f for row in found.anova.rows] == pytest.approx([12.25, 4.75])
    assert {row.factor: round(row.sum_of_squares) for row in found.anova.pooled} == {"C": 350, "D": 50}
    assert (found.anova.error.sum_of_squares, found.anova.error.df) == (pytest.approx(400), 4)
    assert found.prediction.value == pytest.approx(-8.33, abs=0.005)
    assert any("Pooled into the error: C, D" in text for text in found.warnings)


def test_hamada_and_wus_model_explains_the_glucose_readings():
    """Their B linear, BH linear by quadratic and BH quadratic by quadratic fit far better than main effects do."""
    table = array_table("L18(2^1 3^7)", GLUCOSE_COLUMNS)
    linear, quadratic = np.array([-1, 0, 1]), np.array([1, -2, 1])
    b, h = table["B"] - 1, table["H"] - 1
    design = np.column_stack([np.ones(18), linear[b], linear[b] * quadratic[h], quadratic[b] * quadratic[h]])
    residual = GLUCOSE - design @ np.linalg.lstsq(design, GLUCOSE)[0]
    assert 1 - residual @ residual / ((GLUCOSE - GLUCOSE.mean()) ** 2).sum() == pytest.approx(
        0.855, abs=0.005
    )
    assert any("No factor is significant" in text for text in analyze(table, GLUCOSE, signal="mean").warnings)


@pytest.mark.parametrize(
    ("names", "response", "printed"),
    [("ABCD", FILTRATION, FILTRATION_EFFECTS), ("ABCDE", REACTOR, REACTOR_EFFECTS)],
)
def test_factorials_give_the_printed_effects(names, response, printed):
    assert analyze(factorial_table(names), response, signal="mean").effects == pytest.approx(printed)


def test_the_half_normal_plot_of_the_filtration_rate_shows_the_five_active_effects():
    """Montgomery's A, AC, AD, D and C; an orthonormal effect is his effect times the root of 4 runs."""
    found = analyze(factorial_table("ABCD"), FILTRATION, signal="mean").half_normal_effects()
    margin = lenth_margin(
        [effect for _, effect in found]
    )  # those of the error, which have no name, among them
    effects = dict(found)
    active = {name for name, effect in effects.items() if name and abs(effect) > margin}
    assert active == {"A", "A×C", "A×D", "D", "C"}
    assert abs(effects["A"]) == pytest.approx(21.625 * 2)
    assert abs(effects["A×C"]) == pytest.approx(18.125 * 2)


def test_effects_of_one_degree_hold_all_the_variation():
    for make_table, response in CASES.values():
        effects = analyze(make_table(), response, signal="mean").half_normal_effects()
        assert len(effects) == len(response) - 1
        total = ((response - response.mean()) ** 2).sum()
        assert sum(effect**2 for _, effect in effects) == pytest.approx(total)


@pytest.mark.parametrize("left_out", [(0,), (3,), (8, 1)])
def test_unbalanced_dummy_designs_are_solved_by_least_squares(left_out):
    """Paper 000 without some rows, its factors A and B of two levels: no longer orthogonal."""
    kept = [row for row in range(9) if row not in left_out]
    table = {name: column[kept] for name, column in resnet_table().items() if name != "D"}
    levels = {"A": OPTIMIZERS, "B": ["60", "60", "70"]}
    found = analyze(table, RESNET_ETA[kept], signal="mean", levels=levels)
    names = {"A": {1: "adam", 2: "sgdm", 3: "adam"}, "B": {1: "60", 2: "60", 3: "70"}}
    expected, fitted = statsmodels_table(table, RESNET_ETA[kept], names)
    assert_equal(found, expected)
    best = pd.DataFrame(point({name: [level] for name, level in found.best_levels.items()}, names))
    interval = fitted.get_prediction(best).summary_frame()
    assert found.prediction.value == pytest.approx(interval["mean"][0])
    assert found.prediction.low == pytest.approx(interval["mean_ci_lower"][0])
    assert any("not orthogonal" in text for text in found.warnings)
    by_model = fitted.params["C(_A)[T.sgdm]"]
    assert found.response_table["A"][1] - found.response_table["A"][0] == pytest.approx(by_model)


def test_two_dummy_factors_stay_orthogonal():
    levels = {"A": OPTIMIZERS, "B": ["60", "60", "70"]}
    found = analyze(resnet_table(), RESNET_ETA, signal="mean", levels=levels)
    assert not any("not orthogonal" in text for text in found.warnings)
    squares = sum(row.sum_of_squares for row in (*found.anova.rows, found.anova.error))
    assert squares == pytest.approx(found.anova.total.sum_of_squares)
    rows = np.isin(resnet_table()["B"], (1, 2))
    assert found.response_table["B"][:2] == pytest.approx([RESNET_ETA[rows].mean()] * 2)


def test_byrne_and_taguchis_connector_prints_these_ratios_and_its_two_factors_matter():
    """Saturated; with wall thickness and adhesive pooled, as its authors neglect them, statsmodels agrees."""
    table = array_table("L9(3^4)", "ABCD")
    assert analyze(table, CONNECTOR, signal="mean").signal_to_noise == pytest.approx(CONNECTOR_MEANS)
    found = analyze(table, CONNECTOR, signal="larger", pool=["B", "D"])
    assert found.signal_to_noise == pytest.approx(CONNECTOR_ETA, abs=6e-4)
    expected, fitted = statsmodels_table({name: table[name] for name in "AC"}, found.signal_to_noise)
    assert_equal(found, expected)
    assert {name for name, rank in found.ranks.items() if rank <= 2} == {"A", "C"}
    assert (found.best_levels["A"], found.best_levels["B"]) == (2, 2)
    best = pd.DataFrame(point({name: [found.best_levels[name]] for name in "AC"}))
    interval = fitted.get_prediction(best).summary_frame(alpha=0.05)
    assert [found.prediction.low, found.prediction.high] == pytest.approx(
        interval[["mean_ci_lower", "mean_ci_upper"]].to_numpy()[0]
    )


def test_taguchi_and_wus_tiles_have_these_averages_and_this_optimum():
    table = array_table("L8(2^7)", "ABCDEFG")
    found = analyze(table, -TILES, signal="mean")
    for name, averages in TILE_MEANS.items():
        assert found.response_table[name] == pytest.approx([-mean for mean in averages])
    assert "".join(f"{name}{level}" for name, level in found.best_levels.items()) == "A1B2C2D1E2F1G2"
    assert found.anova.saturated
    pooled = analyze(table, -TILES, signal="mean", pool=["B", "C", "D"])
    expected, _ = statsmodels_table({name: table[name] for name in "AEFG"}, -TILES)
    assert_equal(pooled, expected)


def type_two(table, response, pairs, names=None) -> tuple[pd.DataFrame, object]:
    """statsmodels' type II table with interactions, lines named as kerasall names them."""
    frame = pd.DataFrame(point(table, names))
    terms = [f"C({name})" for name in frame] + [f"C(_{a}):C(_{b})" for a, b in pairs]
    fitted = ols("response ~ " + " + ".join(terms), frame.assign(response=response)).fit()
    lines = anova_lm(fitted, typ=2)
    short = [re.sub(r"C\(_(\w+)\)", r"\1", name).replace(":", "×") for name in lines.index]
    return lines.set_axis(short), fitted


def test_montgomerys_filtration_rate_with_its_two_interactions():
    """His final model is A, C, D, AC, AD; main effects alone would choose the high level of C."""
    table, pairs = factorial_table("ABCD"), ["A*C", "A*D"]
    found = analyze(table, FILTRATION, signal="mean", interactions=pairs, pool=["B"])
    kept = {name: column for name, column in table.items() if name != "B"}
    expected, fitted = type_two(kept, FILTRATION, ["AC", "AD"])
    assert_equal(found, expected)
    assert [round(row.f, 1) for row in found.anova.rows] == [95.9, 20.0, 43.8, 67.3, 56.7]
    assert (found.best_levels["A"], found.best_levels["C"], found.best_levels["D"]) == (2, 1, 2)
    assert analyze(table, FILTRATION, signal="mean").best_levels["C"] == 2
    there = found.prediction
    assert there.value == pytest.approx(70.0625 + (21.625 - 9.875 + 14.625 + 18.125 + 16.625) / 2)
    best = pd.DataFrame(point({name: [found.best_levels[name]] for name in kept}))
    interval = fitted.get_prediction(best).summary_frame().iloc[0]
    assert [there.low, there.high, there.confirmation_low] == pytest.approx(
        list(interval[["mean_ci_lower", "mean_ci_upper", "obs_ci_lower"]])
    )
    assert {
        row.factor
        for row in analyze(
            table, FILTRATION, signal="mean", interactions=pairs, pool=["B", "A*C"]
        ).anova.pooled
    } == {"B", "A×C"}
    assert found.half_normal_effects()


@pytest.mark.parametrize("left_out", [(), (4,), (0, 13)])
def test_interactions_at_three_levels_equal_statsmodels_in_unbalanced_tables_too(left_out):
    made = plan({"A": [1, 2, 3], "B": ["x", "y", "x"], "C": [1, 2, 3]}, "L27", interactions=["A*B", "B*C"])
    kept = [row for row in range(27) if row not in left_out]
    table = {name: column[kept] for name, column in made.table().items()}
    rng = np.random.default_rng(3)
    response = rng.normal(size=(len(kept), 2)) + (table["A"] == table["B"])[:, None] + table["C"][:, None]
    levels = {name: list(values) for name, values in made.factors.items()}
    found = analyze(table, response, signal="mean", levels=levels, interactions=["A*B", "B*C"])
    expected, _ = type_two(table, response.mean(axis=1), ["AB", "BC"], {"B": {1: "x", 2: "y", 3: "x"}})
    assert_equal(found, expected)
    rows = np.repeat(np.arange(len(kept)), 2)
    single = {name: column[rows] for name, column in table.items()}
    expected, _ = type_two(single, response.ravel(), ["AB", "BC"], {"B": {1: "x", 2: "y", 3: "x"}})
    assert_equal(found.raw, expected)
