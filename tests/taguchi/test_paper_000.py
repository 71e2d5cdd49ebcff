"""Chen et al. (2021): tables 6 and 8 to the printed digits, and what they hide."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from textbook_data import OPTIMIZERS, RESNET_ACCURACY, RESNET_CONFIRMATION, RESNET_ETA, resnet_table

from kerasall.report.taguchi import describe_analysis
from kerasall.taguchi.analysis import analyze

TABLE_6 = {
    "A": [13.2862, 10.8125, 12.8563],
    "B": [12.4006, 12.7940, 11.7603],
    "C": [11.8722, 12.0397, 13.0432],
    "D": [13.4306, 12.6837, 10.8407],
}
TABLE_6_EFFECTS = {"A": 2.4737, "B": 1.0337, "C": 1.1710, "D": 2.5898}
TABLE_8 = {
    "A": (10.4812, 5.2406, 41.62),
    "B": (1.6333, 0.8167, 6.49),
    "C": (2.4063, 1.2031, 9.56),
    "D": (10.6617, 5.3309, 42.34),
}


def _analyze(levels_as: str, responses=RESNET_ACCURACY, signal="target:1"):
    return analyze(
        resnet_table(),
        responses,
        signal=signal,
        levels={"A": OPTIMIZERS},
        levels_as=levels_as,
        confirmation=RESNET_CONFIRMATION if signal != "mean" else None,
    )


def test_tables_6_and_8_from_the_accuracies_to_the_printed_digits():
    found = _analyze("separate").to_json()
    for name, printed in TABLE_6.items():
        assert [f"{mean:.4f}" for mean in found["response_table"][name]] == [f"{m:.4f}" for m in printed]
        assert f"{found['effects'][name]:.4f}" == f"{TABLE_6_EFFECTS[name]:.4f}"
    assert found["best_levels"] == {"A": 1, "B": 2, "C": 3, "D": 1}
    assert found["ranks"] == {"D": 1, "A": 2, "C": 3, "B": 4}
    for row in found["anova"]:
        square, variance, share = TABLE_8[row["factor"]]
        assert f"{row['sum_of_squares']:.4f}" == f"{square:.4f}"
        assert f"{row['mean_square']:.4f}" == f"{variance:.4f}"
        assert f"{row['contribution_percent']:.2f}" == f"{share:.2f}"
        assert (row["df"], row["f"], row["p"]) == (2, None, None)
    assert f"{found['total']['sum_of_squares']:.4f}" == "25.1825"
    assert (found["error"]["df"], found["total"]["df"]) == (0, 8)


@pytest.mark.parametrize("responses", [RESNET_ETA, 1 - 10 ** (-RESNET_ETA / 20)])
def test_the_printed_ratios_give_them_too_but_for_the_last_digit(responses):
    signal = "mean" if responses is RESNET_ETA else "target:1"
    found = _analyze("separate", responses, signal)
    for row in found.anova.rows:
        assert row.sum_of_squares == pytest.approx(TABLE_8[row.factor][0], abs=3e-4)
        assert row.contribution_percent == pytest.approx(TABLE_8[row.factor][2], abs=0.006)
    for name, printed in TABLE_6.items():
        assert found.response_table[name] == pytest.approx(printed, abs=1.01e-4)


def test_separate_levels_leave_nothing_to_test_with():
    found = _analyze("separate")
    assert found.prediction.value == pytest.approx(15.60, abs=0.005)
    assert (found.prediction.low, found.prediction.high) == (None, None)
    assert found.prediction.confirmed == pytest.approx(14.94, abs=0.005)
    text = describe_analysis(found)
    assert "saturated" in text
    assert "no factor is significant at 0.05" in text
    assert "The table of the raw responses has an error to test with" in text
    assert "Factor A has equal levels (1, 3)" in text
    assert "15.599 dB" in text


def test_the_dummy_level_gives_a_degree_of_freedom_to_the_error():
    found = _analyze("dummy")
    rows = {row.factor: row for row in found.anova.rows}
    assert (rows["A"].df, found.anova.error.df) == (1, 1)
    assert found.anova.error.sum_of_squares == pytest.approx(0.2773, abs=5e-5)
    assert {n: (round(r.f, 1), round(r.p, 2)) for n, r in rows.items()} == {
        "A": (36.8, 0.10),
        "D": (19.2, 0.16),
        "C": (4.3, 0.32),
        "B": (2.9, 0.38),
    }
    assert found.response_table["A"][0] == found.response_table["A"][2]
    assert found.best_levels["A"] == 1
    assert found.prediction.value == pytest.approx(15.38, abs=0.005)
    assert found.prediction.low < 14.94 < found.prediction.high
    assert found.prediction.confirmed_as_predicted
    text = describe_analysis(found)
    assert "No factor is significant at 0.05: the smallest p is 0.104 (A)" in text
    assert "Confirmed there: 14.936 dB, inside the 8.157 to 22.611 expected of the mean of 9 runs" in text
    assert (
        "predicted: like a mean 0.1701 off the target, confirmed: like a mean 0.1791 off the target" in text
    )
    assert "It counts on A, B, C, D, not significant here" in text


def test_the_27_raw_accuracies_tell_what_9_ratios_cannot():
    """19 degrees of freedom for the error; F 319, 22, 39 and 152, as statsmodels has them."""
    found = _analyze("dummy")
    assert found.raw is not None
    rows = np.repeat(np.arange(9), 3)
    frame = pd.DataFrame({f"_{name}": column[rows] for name, column in resnet_table().items()})
    frame["_A"] = frame["_A"].replace({3: 1})
    formula = "y ~ " + " + ".join(f"C({name})" for name in frame)
    fitted = ols(formula, frame.assign(y=RESNET_ACCURACY.ravel())).fit()
    expected = anova_lm(fitted, typ=2)
    for row in found.raw.anova.rows:
        line = expected.loc[f"C(_{row.factor})"]
        assert [row.sum_of_squares, row.df, row.f, row.p] == pytest.approx(
            list(line[["sum_sq", "df", "F", "PR(>F)"]])
        )
    assert [round(row.f) for row in found.raw.anova.rows] == [319, 22, 39, 152]
    assert (found.raw.anova.error.df, found.raw.between_df) == (19, 1)
    assert found.raw.anova.error.sum_of_squares == pytest.approx(expected.loc["Residual", "sum_sq"])
    best = pd.DataFrame({f"_{name}": [level] for name, level in found.best_levels.items()})
    interval = fitted.get_prediction(best).summary_frame().iloc[0]
    there = found.raw.prediction
    assert [there.value, there.low, there.high] == pytest.approx(
        list(interval[["mean", "mean_ci_lower", "mean_ci_upper"]])
    )
    per_run = found.raw.anova.error.mean_square  # mean_se^2 is MS_error / n_eff
    width = stats.t.ppf(0.975, 19) * np.sqrt(interval["mean_se"] ** 2 + per_run / 9)
    assert there.confirmation_high - there.value == pytest.approx(width)
    text = describe_analysis(found)
    assert "of the raw responses, against run-to-run noise alone" in text
    assert "18 degrees of freedom inside rows, 1 between them" in text
    assert "0.8209 confirmed, outside the 0.8365 to 0.8614 expected of the mean of 9 runs" in text
    assert _analyze("dummy", RESNET_ACCURACY.mean(axis=1)).raw is None


def test_shares_add_up_before_and_after_the_noise_is_taken_off():
    found = _analyze("dummy")
    lines = [*found.anova.rows, found.anova.error]
    assert sum(row.contribution_percent for row in lines) == pytest.approx(100)
    assert sum(row.corrected_contribution_percent for row in lines) == pytest.approx(100)
    a = found.anova.rows[0]
    assert a.corrected_contribution_percent == pytest.approx(100 * (10.2039 - 0.2773) / 25.1825, abs=0.01)
