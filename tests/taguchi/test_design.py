"""From factors to runs."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasall.errors import SettingsError
from kerasall.report.taguchi import describe_plan
from kerasall.taguchi.analysis import analyze
from kerasall.taguchi.arrays import ARRAYS, levels_of, load_array, rows_of, strength_two_faults
from kerasall.taguchi.design import choose_array, plan
from kerasall.taguchi.result_file import read_results


def _factors(*counts: int) -> dict[str, list[int]]:
    return {f"F{i + 1}": list(range(1, count + 1)) for i, count in enumerate(counts)}


@pytest.mark.parametrize(
    ("counts", "array"),
    [
        ((2, 2, 2), "L4(2^3)"),
        ((2, 2, 2, 2), "L8(2^7)"),
        ((4, 2, 2), "L8(4^1 2^4)"),
        ((3, 3, 3, 3), "L9(3^4)"),
        ((2, 3, 3, 3), "L9(3^4)"),
        ((2,) * 8, "L12(2^11)"),
        ((4,) * 5, "L16(4^5)"),
        ((4, 4, 2, 2, 2), "L16(4^2 2^9)"),
        ((2,) + (3,) * 7, "L18(2^1 3^7)"),
        ((3,) * 5, "L18(2^1 3^7)"),
        ((3, 2, 2, 2, 2), "L8(4^1 2^4)"),
        ((6, 3, 3), "L18(6^1 3^6)"),
        ((5,) * 6, "L25(5^6)"),
        ((3,) * 13, "L27(3^13)"),
        ((2,) * 32, "L64(2^63)"),
        ((3,) * 40, "L81(3^40)"),
    ],
)
def test_the_smallest_array_that_fits_is_chosen(counts, array):
    assert plan(_factors(*counts)).array == array


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_is_chosen_for_its_own_columns_or_a_smaller_one_fits(name):
    assert rows_of(choose_array(_factors(*levels_of(name)))) <= rows_of(name)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 5), min_size=1, max_size=6))
def test_a_plan_runs_every_level_of_every_factor_and_stays_orthogonal(counts):
    made = plan(_factors(*counts))
    assert not strength_two_faults(made.levels)
    for (name, values), column in zip(made.factors.items(), made.levels.T, strict=True):
        assert set(column) == set(range(1, len(values) + 1))
        assert {row[name] for row in made.settings()} == set(_factors(*counts)[name])
        assert (column == load_array(made.array).table[:, made.columns[name] - 1]).all()
    assert made.error_df == len(made.levels) - 1 - sum(count - 1 for count in counts)
    assert not set(made.spare_columns) & set(made.columns.values())


def test_a_level_written_twice_is_a_dummy_level():
    made = plan({"optimizer": ["adam", "sgdm", "adam"], "B": [60, 65, 70], "C": [8, 10, 12], "D": [1, 2, 3]})
    assert made.array == "L9(3^4)"
    assert made.degrees_of_freedom["optimizer"] == 1
    assert made.error_df == 1
    assert [row["optimizer"] for row in made.settings()] == ["adam"] * 3 + ["sgdm"] * 3 + ["adam"] * 3
    assert list(made.table()["optimizer"]) == [1, 1, 1, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("options", "freedom", "error_df", "saturated"),
    [
        ({}, "optimizer 1, B 2, C 2, D 2", 1, False),
        ({"levels_as": "separate"}, "optimizer 2, B 2, C 2, D 2", 0, True),
        ({"pool": ["C"]}, "optimizer 1, B 2, C taken for error, D 2", 3, False),
        ({"levels_as": "separate", "pool": "half"}, "optimizer 2, B 2, C 2, D 2", 0, False),
        ({"without": {"B": [65]}}, "optimizer 1, B 1, C 2, D 2", 0, True),
    ],
    ids=["dummy", "separate", "pooled", "half", "without"],
)
def test_a_plan_tells_the_degrees_of_freedom_of_its_own_analysis(options, freedom, error_df, saturated):
    made = plan({"optimizer": ["adam", "sgdm", "adam"], "B": [60, 65, 70], "C": [8, 10, 12], "D": [1, 2, 3]})
    text = describe_plan(made, **options)
    assert f"degrees of freedom: {freedom}, error {error_df}" in text
    assert ("The design is saturated" in text) == saturated
    assert ("the smallest effects" in text) == (options.get("pool") == "half")


@pytest.mark.parametrize(
    "options", [{}, {"levels_as": "separate"}, {"pool": ["C"]}], ids=["dummy", "separate", "pooled"]
)
def test_the_degrees_of_freedom_that_a_plan_tells_are_those_that_the_analysis_has(options):
    made = plan({"A": ["adam", "sgdm", "adam"], "B": [60, 65, 70], "C": [8, 10, 12], "D": [1, 2, 3]})
    responses = [float(number) for number in (3, 1, 4, 1, 5, 9, 2, 6, 5)]
    found = analyze(made.table(), responses, signal="mean", levels=made.factors, **options).to_json()
    own, error_df = made.count_freedom(**options)
    assert {row["factor"]: row["df"] for row in found["anova"]} == {
        name: df for name, df in own.items() if df
    }
    assert found["error"]["df"] == error_df


def test_a_short_factor_repeats_its_first_levels():
    made = plan({"A": ["low", "high"], "B": [1, 2, 3], "C": [1, 2, 3]})
    assert made.array == "L9(3^4)"
    assert made.factors["A"] == ("low", "high", "low")
    assert made.error_df == 3


def test_columns_keep_main_effects_clear_of_interactions_while_they_can():
    assert list(plan(_factors(2, 2, 2, 2), array="L8").columns.values()) == [1, 2, 4, 7]
    eight = plan(_factors(*[2] * 8), array="L16(2^15)")
    mains = set(eight.factors)
    assert not any(mains & set(i.aliased_with) for i in eight.interactions())


def test_interactions_are_said_to_be_estimable_only_where_nothing_is_aliased():
    three = plan(_factors(2, 2, 2), array="L8")
    assert all(i.estimable for i in three.interactions())
    nine = plan(_factors(3, 3, 3, 3))
    assert not any(i.estimable for i in nine.interactions())
    first = nine.interactions()[0]
    assert first.factors == ("F1", "F2")
    assert {"F3", "F4"} <= set(first.aliased_with)
    half = plan(_factors(2, 2, 2, 2), array="L8").interactions()
    assert {str(i): i.aliased_with for i in half}["F1×F2"] == ("F3×F4",)


def test_l18_keeps_its_first_interaction():
    """Taguchi's L18 leaves the interaction of columns 1 and 2 free of all main effects."""
    made = plan(_factors(2, *[3] * 7), array="L18(2^1 3^7)")
    first = next(i for i in made.interactions() if i.factors == ("F1", "F2"))
    assert not set(made.factors) & set(first.aliased_with)


def test_room_for_the_error_can_be_asked_for():
    saturated = plan(_factors(3, 3, 3, 3))
    assert saturated.error_df == 0
    assert "saturated" in saturated.warnings()[0]
    roomy = plan(_factors(3, 3, 3, 3), error_df=2)
    assert roomy.array == "L18(2^1 3^7)"
    assert roomy.error_df == 9
    assert roomy.warnings() == []


@pytest.mark.parametrize(
    ("factors", "options", "message"),
    [
        ({}, {}, "at least one factor"),
        ({"A": [1]}, {}, "two different levels"),
        ({"A": [1, 1, 1]}, {}, "two different levels"),
        ({"A": "ab"}, {}, "two different levels"),
        ({"y1": [1, 2]}, {}, "must not be called"),
        ({"row": [1, 2]}, {}, "must not be called"),
        (_factors(7), {}, "1 factor of 7 levels.*none offered"),
        (_factors(3, 3, 3, 3, 3), {"array": "L9"}, r"L9\(3\^4\) must have a column.*use L18\(2\^1 3\^7\)"),
        (_factors(3, 3, 3, 3), {"array": "L9", "error_df": 1}, "leaves 0: use L18"),
        (_factors(3, 3), {"array": "L64(2^31)"}, "not orthogonal"),
    ],
)
def test_what_cannot_be_planned_is_said(factors, options, message):
    with pytest.raises(SettingsError, match=message):
        plan(factors, **options)


def test_the_table_to_fill_in_holds_level_numbers():
    made = plan({"A": ["x", "y"], "B": [1, 2], "C": [1, 2]})
    rows = list(csv.DictReader(io.StringIO(made.to_csv(repeats=2))))
    assert list(rows[0]) == ["row", "A", "B", "C", "y1", "y2"]
    assert [(r["row"], r["A"], r["B"], r["C"]) for r in rows][-1] == ("4", "2", "2", "1")


def test_a_factor_that_a_spreadsheet_would_run_is_a_name_and_comes_back(tmp_path):
    made = plan({"=A1": ["x", "y"], "@B": [1, 2], "-C": [1, 2]})
    table = tmp_path / "filled.csv"
    table.write_text(made.to_csv(repeats=1).replace(",\n", ",-0.5\n"), encoding="utf-8")
    assert table.read_text(encoding="utf-8").startswith("row,'=A1,'@B,'-C,y1\n1,1,1,1,-0.5\n")
    found = read_results(table)
    assert list(found.levels) == ["=A1", "@B", "-C"]
    assert found.responses.tolist() == [[-0.5]] * 4


def test_the_plan_is_json():
    document = json.loads(json.dumps(plan({"A": ["x", "y"], "B": [1.5, 2]}).to_json()))
    assert document["array"] == "L4(2^3)"
    assert document["runs"][2] == {"row": 3, "levels": {"A": 2, "B": 1}, "settings": {"A": "y", "B": 1.5}}
    assert document["spare_columns"] == [3]
    assert document["interactions"] == [{"factors": ["A", "B"], "estimable": True, "aliased_with": []}]


@pytest.mark.parametrize(
    ("counts", "pairs", "array", "columns"),
    [
        ((2, 2, 2), ["F1*F2"], "L8(2^7)", [(3,)]),  # with C in column 4, as Taguchi's linear graph has it
        ((2, 2, 2, 2), ["F1*F2", "F1*F3"], "L8(2^7)", [(3,), (5,)]),
        ((3, 3, 3), ["F1*F2"], "L27(3^13)", [(3, 4)]),
        ((3, 3, 3, 3), ["F1*F2", "F1*F3", "F2*F3"], "L27(3^13)", [(3, 4), (6, 7), (8, 11)]),
        ((2, 3, 3), ["F1*F2"], "L18(2^1 3^7)", [()]),
        ((4, 2, 2), ["F1*F2"], "L16(4^1 2^12)", None),
    ],
)
def test_declared_interactions_get_columns_of_their_own(counts, pairs, array, columns):
    made = plan(_factors(*counts), interactions=pairs)
    assert made.array == array
    if columns is not None:
        assert list(made.crossed.values()) == columns
    held = [column for block in made.crossed.values() for column in block]
    taken = [*made.columns.values(), *held]
    assert len(taken) == len(set(taken))
    assert not set(taken) & set(made.spare_columns)
    declared = {pair.replace("*", "×") for pair in pairs}
    for interaction in made.interactions():
        if str(interaction) in declared:
            assert interaction.complete
            assert not {*made.factors, *declared} & set(interaction.aliased_with)
    df = made.degrees_of_freedom
    spent = sum(df.values()) + sum(df[a] * df[b] for a, b in made.crossed)
    assert made.error_df == len(made.levels) - 1 - spent


def test_nothing_else_changes_a_plan_than_the_interactions_declared():
    free, tied = (
        plan(_factors(2, 2, 2, 2), "L16(2^15)"),
        plan(_factors(2, 2, 2, 2), "L16(2^15)", interactions=["F1*F2"]),
    )
    assert free.crossed == {}
    assert json.loads(json.dumps(tied.to_json()))["declared_interactions"] == {"F1×F2": [3]}
    text = describe_plan(tied)
    assert "interaction F1×F2: column 3" in text


@pytest.mark.parametrize(
    ("counts", "array", "pairs", "message"),
    [
        ((3, 3, 3), "L9", ["F1*F2"], r"L9\(3\^4\) must hold the interactions F1×F2.*use L27\(3\^13\)"),
        ((2,) * 5, "L8", ["F1*F2", "F1*F3", "F2*F3"], r"L8\(2\^7\) must hold.*use L16"),
        ((2, 2, 2), "L12", ["F1*F2"], r"L12\(2\^11\) must hold.*use L8"),
        ((6, 6), "auto", ["F1*F2"], "none offered|must fit"),
        ((2, 2), "auto", ["F1*F1"], "must be written A.B, of two of the factors F1, F2"),
        ((2, 2), "auto", ["F1*F9"], "but is 'F1.F9'"),
    ],
)
def test_what_an_array_cannot_hold_is_said(counts, array, pairs, message):
    with pytest.raises(SettingsError, match=message):
        plan(_factors(*counts), array, interactions=pairs)
