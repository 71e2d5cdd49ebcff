"""Analysis: options, odd tables, and what is said of them."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textbook_data import FILTRATION, PHADKE_L18_COLUMNS, PHADKE_L18_ETA, array_table, factorial_table

from kerasall.errors import DataError, SettingsError
from kerasall.report.taguchi import describe_analysis
from kerasall.taguchi.analysis import analyze
from kerasall.taguchi.anova import predict_ratio
from kerasall.taguchi.arrays import ARRAYS, levels_of, load_array
from kerasall.taguchi.design import plan
from kerasall.taguchi.effects import lenth_margin

KEYS = [
    "signal_to_noise",
    "response_table",
    "effects",
    "ranks",
    "best_levels",
    "anova",
    "error",
    "total",
    "predicted",
    "warnings",
    "raw",
]
ANOVA_KEYS = ["factor", "sum_of_squares", "df", "mean_square", "f", "p", "contribution_percent"]


def _table(name: str = "L18(2^1 3^7)", columns: str = PHADKE_L18_COLUMNS):
    return array_table(name, columns)


def test_the_document_has_the_promised_keys():
    document = analyze(_table(), PHADKE_L18_ETA, signal="mean", pool=["F"]).to_json()
    assert list(document) == KEYS
    assert list(document["anova"][0]) == ANOVA_KEYS
    assert list(document["predicted"]) == ["value", "low", "high", "levels", "confirmed"]
    assert [row["factor"] for row in document["anova"]] == list("ABCDE")
    assert document["error"]["pooled"] == ["F"]
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_equal_effects_share_a_rank_and_the_table_says_so():
    table = {name: load_array("L4").table[:, index] for index, name in enumerate("ABC")}
    # A and C move the response by 2 each, B by 1.
    response = [5 + (a == 2) * 2 + (b == 2) * 1 - (c == 2) * 2 for a, b, c in load_array("L4").table]
    found = analyze(table, response, signal="mean")
    assert found.effects == pytest.approx({"A": 2, "B": 1, "C": 2})
    assert found.ranks == {"A": 1, "B": 3, "C": 1}
    assert re.search(r"Rank\s+1 =\s+3\s+1 =", describe_analysis(found))


@pytest.mark.parametrize("name", ARRAYS)
def test_a_noiseless_additive_response_is_recovered_on_every_array(name):
    """Level means, optimum and prediction are those of the model that made the response."""
    rng = np.random.default_rng(len(name))
    table = {f"F{i}": column for i, column in enumerate(load_array(name).table.T)}
    effects = {f"F{i}": rng.normal(size=n) for i, n in enumerate(levels_of(name))}
    response = 5 + sum(effects[f][column - 1] for f, column in table.items())
    found = analyze(table, response, signal="mean")
    for factor, effect in effects.items():
        means = np.array(found.response_table[factor])
        np.testing.assert_allclose(means - means.mean(), effect - effect.mean(), atol=1e-9)
        assert found.best_levels[factor] == effect.argmax() + 1
    assert found.prediction.value == pytest.approx(5 + sum(e.max() for e in effects.values()))
    shares = [row.contribution_percent for row in found.anova.rows]
    assert sum(shares) == pytest.approx(100)
    assert all(row.f is None for row in found.anova.rows)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(18)), st.floats(0.1, 10), st.floats(-50, 50))
def test_order_of_rows_scale_and_shift_change_nothing_that_matters(order, scale, shift):
    order = list(order)
    plain = analyze(_table(), PHADKE_L18_ETA, signal="mean")
    table = {name: column[order] for name, column in _table().items()}
    other = analyze(table, scale * PHADKE_L18_ETA[order] + shift, signal="mean")
    for a, b in zip(plain.anova.rows, other.anova.rows, strict=True):
        assert (b.f, b.p, b.contribution_percent) == pytest.approx(
            (a.f, a.p, a.contribution_percent), rel=1e-6
        )
    assert other.best_levels == plain.best_levels
    assert other.ranks == plain.ranks
    assert other.prediction.low == pytest.approx(scale * plain.prediction.low + shift, rel=1e-6, abs=1e-6)


def test_a_data_frame_and_text_names_will_do():
    frame = pd.DataFrame(factorial_table("ABCD"))
    found = analyze(frame, FILTRATION, signal="mean", levels={"A": ["cold", "hot"]})
    assert found.level_names["A"] == ("cold", "hot")
    assert found.best_levels["A"] == 2


def test_any_combination_can_be_predicted():
    found = analyze(factorial_table("ABCD"), FILTRATION, signal="mean")
    low = predict_ratio(found.model, {"A": 1, "B": 1, "C": 1, "D": 1})
    assert low.value == pytest.approx(FILTRATION.mean() - (21.625 + 3.125 + 9.875 + 14.625) / 2)
    assert low.low < low.value < low.high


def test_a_confirmation_far_off_is_a_warning():
    found = analyze(factorial_table("ABCD"), FILTRATION, signal="mean", confirmation=[300.0, 310.0])
    assert found.prediction.confirmed == pytest.approx(305)
    assert found.prediction.confirmed_as_predicted is False
    assert any("outside" in text for text in found.warnings)


def test_a_ratio_of_the_spread_is_confirmed_by_rows_of_as_many_runs_alone():
    noise = np.random.default_rng(0).normal(1, 0.1, (16, 3))
    table, responses = factorial_table("ABCD"), FILTRATION[:, None] * noise
    equal = analyze(table, responses, signal="nominal", confirmation=[60.0, 61, 65])
    assert equal.prediction.confirmation_low is not None
    more = analyze(table, responses, signal="nominal", confirmation=[60.0, 61, 65, 64])
    assert more.prediction.confirmed_as_predicted is None
    assert any("No interval for the confirmation" in text for text in more.warnings)


@pytest.mark.parametrize("signal", ["target:1", "omega", "nominal", "larger"])
def test_rows_without_a_single_error_stop_no_analysis_and_predict_no_more_than_everything_right(signal):
    """Four of 16 rows right in every image: additive ratios would give more than 1."""
    shares = np.clip(0.55 + FILTRATION / 170, 0, 1)[:, None] + np.array([0.0, -0.01, 0.01])
    shares[FILTRATION > 85] = 1.0
    options = {"confirmation": [1.0, 1.0, 1.0], "bounds": (0, 1), "images": None}
    found = analyze(factorial_table("ABCD"), np.minimum(shares, 1), signal=signal, **options)
    assert np.isfinite(found.signal_to_noise).all()
    told = found.describe_sizes()
    if signal in ("omega", "larger"):
        assert all(float(word.rstrip(",")) <= 1 for word in told.split() if word[0].isdigit())
    assert found.raw.prediction.value <= 1
    assert found.raw.prediction.confirmation_high <= 1
    caution = {"omega": "100 were assumed", "larger": ""}.get(signal, "The ratio has no bound in rows")
    assert not caution or any(caution in text for text in found.warnings)
    known = analyze(factorial_table("ABCD"), np.minimum(shares, 1), signal="omega", images=50)
    assert not any("assumed" in text for text in known.warnings)


def test_a_wider_confidence_gives_a_wider_interval():
    narrow, wide = (
        analyze(_table(), PHADKE_L18_ETA, signal="mean", confidence=c).prediction for c in (0.9, 0.99)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_replicated_rows_give_pure_error():
    """Two replicates of a one-factor experiment: the one-way analysis of variance by hand.

    Means 2, 5, 8; between 2 (9 + 0 + 9) = 36 on 2 degrees of freedom, within 6 x 1 = 6 on 3: F = 9.
    """
    found = analyze({"A": [1, 2, 3, 1, 2, 3]}, [1, 4, 7, 3, 6, 9], signal="mean")
    row = found.anova.rows[0]
    assert (row.sum_of_squares, row.df, row.f) == (pytest.approx(36), 2, pytest.approx(9))
    assert row.p == pytest.approx((3 / (3 + 2 * 9)) ** 1.5)
    assert (found.anova.error.sum_of_squares, found.anova.error.df) == (pytest.approx(6), 3)


def test_unequal_repeats_are_used_and_said():
    responses = np.column_stack([FILTRATION, FILTRATION])
    responses[3, 1] = np.nan
    found = analyze(factorial_table("ABCD"), responses)
    assert any("1 to 2 responses" in text for text in found.warnings)
    assert np.isfinite(found.signal_to_noise).all()


def test_a_level_never_run_has_no_mean():
    found = analyze({"A": [1, 1, 3, 3], "B": [1, 2, 1, 2]}, [1, 2, 4, 5.5], signal="mean")
    assert found.response_table["A"] == [pytest.approx(1.5), None, pytest.approx(4.75)]
    assert found.best_levels["A"] == 3
    assert any("never run at level 2" in text for text in found.warnings)
    assert np.isnan(found.interaction_means("A", "B")[1]).all()


def test_a_factor_of_one_level_is_carried_along():
    found = analyze({"A": [1, 2, 1, 2], "B": [1, 1, 1, 1]}, [1, 2, 1.5, 2.2], signal="mean")
    line = found.anova.rows[1]
    assert (line.df, line.mean_square, line.f, line.p) == (0, None, None, None)
    assert any("one level" in text for text in found.warnings)
    assert len(found.half_normal_effects()) == 3
    json.dumps(found.to_json(), allow_nan=False)


def test_equal_ratios_everywhere_are_said():
    found = analyze(factorial_table("AB"), [0.1 + 0.2] * 4, signal="mean")
    assert any("same ratio" in text for text in found.warnings)
    assert found.anova.rows[0].contribution_percent is None
    json.dumps(found.to_json(), allow_nan=False)


def test_a_level_that_was_mistyped_is_pointed_at():
    table = _table()
    table["B"] = np.where(np.arange(18) == 4, 4, table["B"])
    warnings = analyze(table, PHADKE_L18_ETA, signal="mean").warnings
    assert any("(B is at level 4 in one row and at another in 6 rows: correct" in text for text in warnings)


def test_a_file_a_frame_and_the_levels_themselves_are_analysed_alike(tmp_path):
    levels = {"rate": [0.001, 0.01], "optimizer": ["sgdm", "adam"]}
    numbers = pd.DataFrame(
        {"run": range(1, 5), "rate": [1, 1, 2, 2], "optimizer": [1, 2, 1, 2], "y2": 1.0, "y1": [1, 2, 3, 4]}
    )
    numbers.to_csv(tmp_path / "results.csv", index=False)
    named = numbers.assign(rate=[0.001, 0.001, 0.01, 0.01], optimizer=["sgdm", "adam"] * 2)
    expected = analyze(numbers[["rate", "optimizer"]], numbers[["y1", "y2"]], levels=levels)
    for table in (numbers, named, tmp_path / "results.csv", str(tmp_path / "results.csv")):
        assert analyze(table, levels=levels).to_json() == expected.to_json()
    assert expected.best_levels == {"rate": 2, "optimizer": 2}
    assert expected.best_values == {"rate": 0.01, "optimizer": "adam"}
    assert analyze(numbers).best_values == {"rate": 2, "optimizer": 2}
    with pytest.raises(DataError, match=r"must have one column of level numbers.*but has rate, optimizer"):
        analyze(numbers[["rate", "optimizer"]])
    with pytest.raises(DataError, match="must hold the responses itself"):
        analyze(tmp_path / "results.csv", [1.0])


def test_interaction_means_are_cell_means():
    means = analyze(factorial_table("ABCD"), FILTRATION, signal="mean").interaction_means("A", "C")
    table = factorial_table("ABCD")
    for a in (1, 2):
        for c in (1, 2):
            cell = FILTRATION[(table["A"] == a) & (table["C"] == c)].mean()
            assert means[a - 1, c - 1] == pytest.approx(cell)


@pytest.mark.parametrize(
    ("table", "options", "error", "message"),
    [
        ({"A": [0, 1, 1, 0]}, {}, DataError, "factor A must have a level number from 1"),
        ({"A": [1.5, 1, 2, 2]}, {}, DataError, "factor A must have a level number"),
        ({"A": ["x", "y", "x", "y"]}, {}, DataError, "factor A must have a level number"),
        ({"A": [1, 2]}, {}, DataError, "each of 4 rows"),
        (
            {"A": [1, 2, 900, 2]},
            {},
            DataError,
            "no more levels than there are rows, but has level 900 in row 3 of 4",
        ),
        ({}, {}, DataError, "at least one factor"),
        (
            {"A": [1, 1, 2, 2], "B": [2, 2, 1, 1]},
            {},
            DataError,
            "effects of factor B must differ from those of A",
        ),
        (
            {"A": [1, 2, 3, 4], "B": [1, 1, 2, 2]},
            {},
            DataError,
            "3 of 4 rows, but are 4: A has a level of its own",
        ),
        (
            {"A": [1, 2, 1, 3], "B": [1, 1, 2, 2], "C": [1, 2, 2, 1]},
            {},
            DataError,
            "are 4: A is at level 3 in one row and at another in 2 rows .correct it",
        ),
        ({"A": [1, 1, 2, 2]}, {"levels": {"Z": ["a", "b"]}}, SettingsError, "which has A, but name Z"),
        (
            {"A": [1, 1, 2, 2]},
            {"levels": {"A": ["a"]}},
            SettingsError,
            "level 2 in row 3 and the names are a",
        ),
        ({"A": [1, 1, 2, 2]}, {"pool": ["Z"]}, SettingsError, "a pooled factor must be one of A"),
        ({"A": [1, 1, 2, 2]}, {"levels_as": "merged"}, SettingsError, "dummy or separate"),
        ({"A": [1, 1, 2, 2]}, {"confidence": 95}, SettingsError, "between 0 and 1"),
        ({"A": [1, 1, 2, 2]}, {"signal": "best"}, SettingsError, "a signal must be one of"),
    ],
)
def test_what_cannot_be_analysed_is_said(table, options, error, message):
    with pytest.raises(error, match=message):
        analyze(table, [1.0, 2.0, 3.0, 5.0], **options)


def test_infinite_responses_are_refused():
    with pytest.raises(DataError, match="finite"):
        analyze({"A": [1, 2]}, [1.0, math.inf])


def test_lenths_margin_is_that_of_his_definition():
    """Of 15 effects 1 to 15: s0 = 12, all below 30, PSE = 12; t(0.975, 5) = 2.5706."""
    assert lenth_margin(range(1, 16)) == pytest.approx(12 * 2.5706, abs=1e-3)


def test_everything_may_be_pooled():
    found = analyze(factorial_table("AB"), [1.0, 2, 3, 5], signal="mean", pool=["A", "B"])
    assert found.anova.rows == ()
    assert found.warnings[0] == "Every factor is pooled into the error: nothing is left to test."
    assert found.prediction.value == pytest.approx(2.75)
    assert found.anova.error.df == 3


def test_the_optimum_is_that_of_the_model_with_its_interactions():
    """Noise-free on L27: the best pair of A and B lies where neither of their means is best."""
    made = plan({name: [1, 2, 3] for name in "ABCD"}, "L27", interactions=["A*B"])
    table = made.table()
    joint = np.array([[0.0, 0, 9], [5, 7, 0], [5, 4, 0]])
    response = joint[table["A"] - 1, table["B"] - 1] + 2 * (table["C"] == 2) - (table["D"] == 3)
    found = analyze(table, response, signal="mean", interactions=["A*B"])
    assert found.best_levels == {"A": 1, "B": 3, "C": 2, "D": 1}
    assert found.prediction.value == pytest.approx(11)
    additive = analyze(table, response, signal="mean")
    assert (additive.best_levels["A"], additive.best_levels["B"]) == (2, 2)
    everything = analyze(table, response, signal="mean", interactions=["A*B"], pool=["A*B"])
    assert everything.best_levels == additive.best_levels
    rows = {row.factor: row for row in found.anova.rows}
    assert (rows["A×B"].df, found.anova.error.df) == (4, 26 - 8 - 4)
    some = analyze(
        {name: column[table["A"] != 3] for name, column in table.items()},
        response[table["A"] != 3],
        signal="mean",
        interactions=["A*B"],
        partial=True,
    )
    assert some.best_levels == found.best_levels
