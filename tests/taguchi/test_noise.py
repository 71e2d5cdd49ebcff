"""Crossed designs: textbooks to their printed digits, every analysis by hand, and what cannot be analysed says why."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from command_line import invoke
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from textbook_data import (
    CONNECTOR,
    CONNECTOR_ETA,
    CONNECTOR_NOISE,
    PULP,
    SPRING,
    SPRING_MEAN_MODEL,
    SPRING_MEANS,
    SPRING_VARIANCES,
    array_table,
    factorial_table,
)

from kerasall.errors import DataError, SettingsError
from kerasall.report.figures_taguchi import draw_analysis
from kerasall.report.taguchi import describe_analysis
from kerasall.taguchi.analysis import analyze
from kerasall.taguchi.arrays import load_array
from kerasall.taguchi.design import plan

CONNECTOR_TABLE = array_table("L9(3^4)", "ABCD")
OUTER = {name: load_array("L8(2^7)").table[:, place] for name, place in CONNECTOR_NOISE.items()}


def spring_table() -> dict[str, np.ndarray]:
    """A, B, C in Yates' order and D = ABC."""
    table = factorial_table("ABC")
    signs = np.prod([2 * column - 3 for column in table.values()], axis=0)
    return table | {"D": (signs + 3) // 2}


def spring_runs() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Responses [8, 6], the two oils of a repeat beside one another, and the oil of each column."""
    return SPRING.transpose(0, 2, 1).reshape(8, 6), {"E": np.tile([1, 2], 3)}


def single_runs(table, responses, noise) -> pd.DataFrame:
    rows, columns = np.indices(responses.shape)
    named = {name: np.asarray(column)[rows.ravel()] for name, column in table.items()}
    named |= {name: np.asarray(column)[columns.ravel()] for name, column in noise.items()}
    return pd.DataFrame(
        {f"_{name}": column for name, column in named.items()} | {"response": responses.ravel()}
    )


def expected_anova(table, responses, noise) -> pd.DataFrame:
    terms = [f"C(_{name})" for name in (*table, *noise)]
    terms += [f"C(_{a}):C(_{b})" for a in table for b in noise]
    lines = anova_lm(
        ols("response ~ " + " + ".join(terms), single_runs(table, responses, noise)).fit(), typ=2
    )
    return lines.set_axis([re.sub(r"C\(_(\w+)\)", r"\1", name).replace(":", "×") for name in lines.index])


def assert_anova(found, expected: pd.DataFrame) -> None:
    assert {row.factor for row in found.anova.rows} == set(expected.index) - {"Residual"}
    for row in found.anova.rows:
        line = expected.loc[row.factor]
        assert row.df == line["df"]
        given = line[["sum_sq", "F", "PR(>F)"]].astype(float)
        np.testing.assert_allclose([row.sum_of_squares, row.f, row.p], given, rtol=1e-7, atol=1e-12)
    assert found.anova.error.df == expected.loc["Residual", "df"]


def test_the_leaf_spring_prints_these_means_variances_and_models():
    responses, noise = spring_runs()
    table = spring_table()
    np.testing.assert_allclose(responses.mean(axis=1), SPRING_MEANS, atol=0.0051)
    np.testing.assert_allclose(responses.var(axis=1, ddof=1), SPRING_VARIANCES, atol=0.00051)
    # The book fits its models to means and variances as it rounded them; single runs differ from these in the last digit.
    for given, crossed, slack in ((SPRING_MEANS, None, 0.0), (responses, noise, 0.0021)):
        found = analyze(table, given, signal="mean", noise=crossed)
        assert found.model.response.mean() == pytest.approx(7.63, abs=0.0051)
        effects = {name: (high - low) / 2 for name, (low, high) in found.response_table.items()}
        for name, printed in SPRING_MEAN_MODEL.items():
            assert effects[name] == pytest.approx(printed, abs=slack + (0.0051 if name == "A" else 0.00051))
    for variances, slack in ((SPRING_VARIANCES, 0.0), (responses.var(axis=1, ddof=1), 0.006)):
        low, high = analyze(table, np.log(variances), signal="mean").response_table["B"]
        assert (low + high) / 2 == pytest.approx(-3.74, abs=0.0051)
        assert (high - low) / 2 == pytest.approx(-1.09, abs=slack + 0.0051)


def test_the_leaf_spring_is_steadier_the_longer_it_is_heated():
    """B decides how much the oil's temperature matters: the book's only effect on the variance."""
    responses, noise = spring_runs()
    found = analyze(spring_table(), responses, signal="nominal", noise=noise)
    ratio = 10 * np.log10(responses.mean(axis=1) ** 2 / responses.var(axis=1, ddof=1))
    np.testing.assert_allclose(found.signal_to_noise, ratio)
    assert found.noise
    assert found.raw
    assert found.noise.decides_most == "B"
    assert found.noise.steadiest["B"] == 2
    assert found.best_levels["B"] == 2
    assert found.noise.rank_interactions(found.raw.anova)[0] == ("B", "E")
    oil = SPRING.mean(axis=2)  # [rows, oils]
    by_hand = [[oil[spring_table()["B"] == b, e].mean() for e in range(2)] for b in (1, 2)]
    np.testing.assert_allclose(found.noise.means["B", "E"], by_hand)
    moved = (
        np.abs(oil[:, 0] - oil[:, 1]) / 2
    )  # with two noise runs a row's root mean square is half their distance
    heated = [np.sqrt((moved[spring_table()["B"] == b] ** 2).mean()) for b in (1, 2)]
    np.testing.assert_allclose(found.noise.sensitivity["B"], heated)
    assert found.noise.effects["E"].deviation == pytest.approx(np.sqrt((moved**2).mean()))
    assert found.noise.average is None  # nominal asks for no largest mean
    assert_anova(found.raw, expected_anova(spring_table(), responses, noise))


def test_the_connector_across_its_noise_equals_statsmodels_and_lawsons_three_interactions_lead():
    """J. Lawson, Design and Analysis of Experiments with R, chapter 12, keeps A×G, D×E and D×F of settings x noise."""
    found = analyze(CONNECTOR_TABLE, CONNECTOR, noise=OUTER)
    assert found.signal_to_noise == pytest.approx(CONNECTOR_ETA, abs=6e-4)
    assert found.raw
    assert found.noise
    assert_anova(found.raw, expected_anova(CONNECTOR_TABLE, CONNECTOR, OUTER))
    assert found.raw.anova.error.df == 71 - 8 - 3 - 24
    leading = found.noise.rank_interactions(found.raw.anova)[:3]
    assert set(leading) == {("A", "G"), ("D", "E"), ("D", "F")}
    time = CONNECTOR[:, OUTER["E"] == 1].mean(), CONNECTOR[:, OUTER["E"] == 2].mean()
    assert found.noise.effects["E"].means == pytest.approx(time)
    assert found.noise.effects["E"].worst == 1
    assert found.noise.hurts_most == "E"


def test_what_is_predicted_across_the_noise_is_the_mean_over_its_runs():
    """Of an orthogonal design: grand mean plus each setting's effect; and the interval with the error of single runs."""
    found = analyze(CONNECTOR_TABLE, CONNECTOR, noise=OUTER, confirmation=CONNECTOR[4].tolist())
    assert found.raw
    assert found.noise
    assert found.noise.average
    best, grand = found.best_levels, CONNECTOR.mean()
    effects = [CONNECTOR[CONNECTOR_TABLE[name] == level].mean() - grand for name, level in best.items()]
    there, error = found.raw.prediction, found.raw.anova.error
    assert there.value == pytest.approx(grand + sum(effects))
    half = stats.t.ppf(0.975, error.df) * np.sqrt(
        error.mean_square * 9 / 72
    )  # 1 + 8 degrees of freedom of 72 runs
    assert [there.low, there.high] == pytest.approx([there.value - half, there.value + half])
    assert there.confirmed == pytest.approx(CONNECTOR[4].mean())
    robust, average = found.noise.robust, found.noise.average
    assert robust.levels == best
    assert (robust.mean, robust.mean_low) == (pytest.approx(there.value), pytest.approx(there.low))
    means = {
        name: [CONNECTOR[column == level].mean() for level in (1, 2, 3)]
        for name, column in CONNECTOR_TABLE.items()
    }
    assert average.levels == {name: int(np.argmax(found)) + 1 for name, found in means.items()}


def test_the_robust_choice_differs_from_the_average_one_where_a_setting_decides_about_noise():
    """Level 2 of A is a little worse on average and does not feel the noise; differences by hand."""
    table = factorial_table("AB")
    noise = {"N": np.array([1, 2, 3])}
    slope = np.where(table["A"] == 1, 6.0, 0.0)[:, None] * np.array([-1, 0, 1])
    responses = 10.0 + np.where(table["A"] == 1, 0.1, 0.0)[:, None] + table["B"][:, None] + slope
    responses = responses + np.random.default_rng(0).normal(0, 0.02, responses.shape)
    found = analyze(table, responses, noise=noise)
    assert found.noise
    assert found.noise.average
    assert found.noise.difference
    assert (found.noise.robust.levels["A"], found.noise.average.levels["A"]) == (2, 1)
    effect = responses[table["A"] == 2].mean() - responses[table["A"] == 1].mean()
    assert found.noise.difference.mean == pytest.approx(effect)
    assert found.noise.difference.mean_low < effect < found.noise.difference.mean_high < 0
    assert found.noise.robust.worst > found.noise.average.worst
    assert found.noise.average.spread == pytest.approx(6 * np.sqrt(2 / 3), rel=0.02)
    text = describe_analysis(found)
    assert "The least sensitive is" in text or "the least sensitive is A = 2" in text
    assert "differs from the best on average in A = 2 in place of 1" in text
    assert "do not tell from chance" not in text
    figures = draw_analysis(found)
    assert "The noise matters least at A = 2." in figures["robustness_1_A_N"][1]


def test_repeats_of_one_noise_run_are_no_noise():
    """Two repeats in one order; an outer array that is not whole in a row is refused or left out."""
    both = np.column_stack([CONNECTOR, CONNECTOR + 0.1])
    twice = {name: np.tile(column, 2) for name, column in OUTER.items()}
    found = analyze(CONNECTOR_TABLE, both, noise=twice)
    assert found.noise
    assert found.noise.runs == 8
    one = analyze(CONNECTOR_TABLE, CONNECTOR, noise=OUTER)
    assert one.noise
    assert found.noise.effects["F"].means == pytest.approx(np.array(one.noise.effects["F"].means) + 0.05)
    hole = both.copy()
    hole[2, 3] = np.nan
    assert analyze(CONNECTOR_TABLE, hole, noise=twice).noise
    hole[2, 11] = np.nan
    with pytest.raises(DataError, match="under each of the 8 noise runs, but row 3 lack"):
        analyze(CONNECTOR_TABLE, hole, noise=twice)
    left = analyze(CONNECTOR_TABLE, hole, noise=twice, partial=True)
    assert np.isnan(left.signal_to_noise[2])


def test_a_row_that_failed_once_under_a_harsh_noise_has_no_easier_test():
    """The repeat that is left stands for both: in the ratio as in the means by which the best on average is found."""
    table, noise = factorial_table("AB"), {"N": np.tile([1, 2], 2)}
    responses = np.array([[9.0, 3.0, 9.1, 3.1]] * 3 + [[8.9, 2.9, 8.9, 2.9]])
    responses[3, 3] = np.nan  # worse everywhere, and absent once where it is worst
    found = analyze(table, responses, noise=noise)
    whole = analyze(table, np.where(np.isnan(responses), 2.9, responses), noise=noise)
    np.testing.assert_allclose(found.signal_to_noise, whole.signal_to_noise)
    assert found.noise
    assert whole.noise
    assert found.noise.average
    assert whole.noise.average
    assert found.noise.average.levels == whole.noise.average.levels
    assert any("Rows have 3 to 4 responses" in text for text in found.warnings)


def split_plot(chance: float, rng: np.random.Generator) -> np.ndarray:
    """Responses [9, 9] on L9 of which nothing matters: three trainings a row, each scored under three shifts."""
    return 20 + np.tile(rng.normal(0, chance, (9, 3)), 3) + rng.normal(0, 1, (9, 9))


SHIFTS = {"shift": np.repeat([1, 2, 3], 3), "deal": np.tile([1, 2, 3], 3)}


def test_runs_that_share_a_training_are_tested_as_a_split_plot():
    """What is trained is judged by means over each training, what is scored alone by what is left inside trainings."""
    table = array_table("L9(3^4)", "ABC")
    responses = split_plot(1.0, np.random.default_rng(5))
    found = analyze(table, responses, noise=SHIFTS, scored_alone=["shift"], confirmation=[20.0] * 9)
    assert found.raw
    assert found.noise
    means = responses.reshape(9, 3, 3).mean(axis=1)  # of every training
    between = expected_anova(table, means, {"deal": np.array([1, 2, 3])})
    every = expected_anova(table, responses, SHIFTS)
    own, own_df = 3 * between.loc["Residual", "sum_sq"], between.loc["Residual", "df"]
    inside = (every.loc["Residual", "sum_sq"] - own) / (every.loc["Residual", "df"] - own_df)
    assert (own_df, found.raw.anova.error.df) == (6, 40)
    assert found.raw.anova.error.mean_square == pytest.approx(inside)
    rows = {row.factor: row for row in found.raw.anova.rows}
    trainings = rows.pop("between trainings")
    assert (trainings.sum_of_squares, trainings.df, trainings.p) == (pytest.approx(own), 6, None)
    for name, row in rows.items():
        if "shift" in name:
            assert row.f == pytest.approx(row.mean_square / inside)
            assert row.p == pytest.approx(stats.f.sf(row.f, row.df, 40))
        else:
            assert [row.f, row.p] == pytest.approx(between.loc[name, ["F", "PR(>F)"]].tolist())
    shares = [row.corrected_contribution_percent for row in (*found.raw.anova.rows, found.raw.anova.error)]
    assert sum(shares) == pytest.approx(100)
    # Intervals of means over the noise runs: 1 + 6 degrees of freedom of 81 runs, or of 27 means of trainings.
    there = found.raw.prediction
    half = stats.t.ppf(0.975, 6) * np.sqrt(own / 6 * 7 / 81)
    assert there.high - there.value == pytest.approx(half)
    assert there.confirmation_high - there.value == pytest.approx(
        stats.t.ppf(0.975, 6) * np.sqrt(own / 6 * (7 / 81 + 1 / 9))
    )
    assert found.noise.robust.mean_high - found.noise.robust.mean == pytest.approx(half)
    assert "are tested against the error between trainings (6 degrees of freedom)" in describe_analysis(found)


def test_a_textbook_split_plot_is_analysed_by_the_command(tmp_path):
    """A batch of pulp is made once and cooked at four temperatures: the method is judged by batches, 4 degrees of freedom."""
    places = np.indices(PULP.shape).reshape(3, -1) + 1
    table = pd.DataFrame(
        dict(zip(["noise:temperature", "day", "pulp"], places, strict=True)) | {"y1": PULP.ravel()}
    )
    table.to_csv(tmp_path / "pulp.csv", index=False)
    options = ("taguchi", "analyze", tmp_path / "pulp.csv", "--signal", "mean", "--json")
    found = json.loads(invoke(*options, "--scored-alone", "temperature").stdout)["raw"]
    batches = PULP.mean(axis=0)  # [days, methods]
    rest = batches - batches.mean(0) - batches.mean(1)[:, None] + batches.mean()
    error = 4 * (rest**2).sum() / 4
    rows = {row["factor"]: row for row in found["anova"]}
    assert rows["between trainings"]["df"] == 4
    assert rows["between trainings"]["mean_square"] == pytest.approx(error)
    method = 12 * ((batches.mean(0) - batches.mean()) ** 2).sum() / 2
    assert rows["pulp"]["f"] == pytest.approx(method / error)
    assert rows["pulp"]["p"] == pytest.approx(stats.f.sf(method / error, 2, 4))
    assert (round(rows["pulp"]["f"], 2), rows["pulp"]["p"] < 0.05, found["error"]["df"]) == (7.08, True, 12)
    assert rows["temperature"]["f"] == pytest.approx(
        rows["temperature"]["mean_square"] / found["error"]["mean_square"]
    )
    # As if every sample were a batch of its own, the method would look far surer than three batches of it can say.
    alike = {row["factor"]: row for row in json.loads(invoke(*options).stdout)["raw"]["anova"]}
    assert alike["pulp"]["p"] < rows["pulp"]["p"] / 5
    with pytest.raises(SettingsError, match="scored_alone must name noise factors, but method is none"):
        invoke(*options, "--scored-alone", "noise:temperature,method")


def test_settings_that_do_nothing_are_not_called_significant_because_trainings_are_scored_often():
    """Nominally 5 in 100; with every score a run of its own it was 34, where a training's chance is as large as a score's."""
    rng, table = np.random.default_rng(1), array_table("L9(3^4)", "ABC")

    def share(**options) -> float:
        found = [analyze(table, split_plot(1.0, rng), noise=SHIFTS, **options).raw for _ in range(40)]
        return float(
            np.mean([row.p <= 0.05 for raw in found for row in raw.anova.rows if row.factor in "ABC"])
        )

    assert share(scored_alone=["shift"]) < 0.12
    assert share() > 0.2  # the canary


def test_one_training_a_row_leaves_nothing_to_test_a_setting_with():
    """Four settings fill L9, and three scores of each row say nothing of another training."""
    responses = split_plot(1.0, np.random.default_rng(5))[:, ::3]
    found = analyze(CONNECTOR_TABLE, responses, noise={"shift": np.array([1, 2, 3])}, scored_alone=["shift"])
    assert found.raw
    assert found.noise
    rows = {row.factor: row for row in found.raw.anova.rows}
    assert rows["A"].p is None
    assert rows["shift"].p is None  # with all its interactions it takes every degree of freedom inside
    assert found.raw.prediction.low is None
    assert found.noise.robust.mean_low is None
    assert not any("has an error to test with" in text for text in found.warnings)
    with pytest.raises(SettingsError, match="scored_alone must name noise factors, but A is none"):
        analyze(CONNECTOR_TABLE, CONNECTOR, noise=OUTER, scored_alone=["A"])


def test_a_signal_that_sees_no_spread_is_not_said_to_choose_the_most_robust():
    """Omega, the default of scores between 0 and 1, sees means alone: level 1 of A is better by little and spreads most."""
    table, noise = factorial_table("AB"), {"N": np.array([1, 2, 3])}
    slope = np.where(table["A"] == 1, 0.2, 0.0)[:, None] * np.array([-1, 0, 1])
    responses = 0.7 + np.where(table["A"] == 1, 0.01, 0.0)[:, None] + 0.02 * table["B"][:, None] + slope
    for signal, level in (("omega", 1), ("mean", 1), ("target:1", 1), ("target-runs:1", 2), ("larger", 2)):
        found = analyze(table, responses, noise=noise, signal=signal)
        assert found.best_levels["A"] == level
        text = describe_analysis(found)
        assert ("looks at the mean over the noise runs alone" in text) == (level == 1)
        assert ("most robust combination" in text) == (level == 2)
        assert ("ratio: the most robust" in text) == (level == 2)


def test_a_difference_in_sensitivity_that_may_be_chance_is_called_so():
    chance = np.random.default_rng(3).normal(20, 1, (9, 8))
    text = describe_analysis(analyze(CONNECTOR_TABLE, chance, noise=OUTER))
    assert "No setting interacts with a noise factor" in text
    assert "a difference that these runs do not tell from chance" in text


def test_a_confirmation_is_made_under_every_noise():
    with pytest.raises(DataError, match="under each of the 8 noise runs, but has 3 responses"):
        analyze(CONNECTOR_TABLE, CONNECTOR, noise=OUTER, confirmation=[20.0, 21.0, 22.0])


def test_an_analysis_without_noise_says_nothing_of_it():
    assert "noise" not in analyze(CONNECTOR_TABLE, CONNECTOR).to_json()


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"A": OUTER["E"]}, "a noise factor must not be called 'A', as a setting is"),
        ({"E": OUTER["E"][:5]}, "for each of 8 columns of responses, but has 5"),
        (
            {"E": np.ones(8, int)},
            "at two levels at least, and at every level from 1 on, but was at one alone",
        ),
        ({"E": np.where(OUTER["E"] == 2, 3, 1)}, "level 2 never"),
        ({"E": OUTER["E"], "F": OUTER["E"]}, "the same"),
    ],
)
def test_noise_that_cannot_be_analysed(noise, message):
    with pytest.raises((DataError, SettingsError), match=re.escape(message)):
        analyze(CONNECTOR_TABLE, CONNECTOR, noise=noise)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"a": [1, 2]}, "a noise factor must not be called 'a', as a setting has that name"),
        ({"site:1": [1, 2]}, "as a colon ends the word before it"),
        ({"site": ["x"]}, "noise factor site must have at least two different levels"),
        ({"site": ["x", "y", "x"]}, "the levels of noise factor site must all differ"),
        ({"row": [1, 2]}, "a noise factor must not be called 'row'"),
    ],
)
def test_noise_that_cannot_be_planned(noise, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        plan({"a": [1, 2], "b": [1, 2]}, noise=noise)


def test_an_outer_array_takes_the_place_of_all_combinations():
    factors, noise = {"a": [1, 2], "b": [1, 2]}, {name: [0, 1] for name in "uvw"}
    assert len(plan(factors, noise=noise).noise.levels) == 8
    outer = plan(factors, noise=noise, noise_array="auto").noise
    assert (outer.array, len(outer.levels)) == ("L4(2^3)", 4)


def test_a_crossed_plan_is_filled_in_and_analysed(tmp_path):
    """The connector, through the command line; lines in any order."""
    out = tmp_path / "connector.csv"
    levels = [
        "--factors",
        "A=1,2,3 B=1,2,3 C=1,2,3 D=1,2,3",
        "--noise",
        "E=24,120",
        "--noise",
        "F=72,150",
        "--noise",
        "G=25,75",
    ]
    done = invoke("taguchi", "plan", *levels, "--array", "L9", "--out", out, "--json")
    planned = json.loads(done.stdout)
    assert (planned["noise"]["array"], planned["noise"]["rows"]) == ("every", 8)
    table = pd.read_csv(out)
    assert list(table.columns) == ["row", *"ABCD", "noise:E", "noise:F", "noise:G", "y1"]
    rows = {levels: row for row, levels in enumerate(zip(*CONNECTOR_TABLE.values(), strict=True))}
    runs = {levels: run for run, levels in enumerate(zip(*OUTER.values(), strict=True))}
    lines = table.itertuples(index=False)
    table["y1"] = [CONNECTOR[rows[tuple(line[1:5])], runs[tuple(line[5:8])]] for line in lines]
    table.sample(frac=1, random_state=0).to_csv(out, index=False)
    found = json.loads(invoke("taguchi", "analyze", out, "--levels", "E=24,120", "--json").stdout)
    assert sorted(found["signal_to_noise"]) == pytest.approx(sorted(CONNECTOR_ETA), abs=6e-4)
    assert found["noise"]["hurts_most"] == "E"
    text = invoke("taguchi", "analyze", out, "--levels", "E=24,120").stdout
    assert "The noise that hurts most is E" in text
    assert "its worst level is 24" in text
    frame = analyze(pd.read_csv(out), levels={"E": [24, 120]})
    assert frame.noise
    assert frame.noise.factors["E"] == ("24", "120")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,1,5", "1,2,6", "2,1,5"], "but 1 are missing, first that with noise:N 2 of the row with A 2"),
        (["1,1,5", "1,1,6", "2,1,5", "2,2,3"], "but lines 1 and 2 below the names are the same (noise:N 1)"),
        (["1,1,5", "1,2,6", "2,1,5", "2,2"], "line 5 must hold a cell for each of 3 columns, but holds 2"),
        (["1,1,5", "1,1,6"], "are the same"),
        (["1,1,5", "2,1,6"], "but was at one alone"),
    ],
)
def test_a_crossed_table_that_is_not_whole_says_what_is_wrong(lines, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["A,noise:N,y1", *lines]), encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)):
        analyze(path)
