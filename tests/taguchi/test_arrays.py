"""Every array offered is what its name says."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from kerasall.errors import SettingsError
from kerasall.taguchi import arrays
from kerasall.taguchi.arrays import ARRAYS, levels_of, load_array, resolve_name, rows_of, strength_two_faults


@pytest.mark.parametrize("name", ARRAYS)
def test_every_pair_of_levels_is_run_equally_often(name):
    found = load_array(name)
    assert found.table.shape == (rows_of(name), len(levels_of(name)))
    assert [set(column) for column in found.table.T] == [set(range(1, n + 1)) for n in levels_of(name)]
    for first, second in combinations(range(len(found.levels)), 2):
        expected = rows_of(name) // (found.levels[first] * found.levels[second])
        pairs, counts = np.unique(found.table[:, [first, second]], axis=0, return_counts=True)
        assert len(pairs) == found.levels[first] * found.levels[second]
        assert set(counts) == {expected}


def test_l9_is_the_table_that_everybody_prints():
    rows = ["1111", "1222", "1333", "2123", "2231", "2312", "3132", "3213", "3321"]
    assert ["".join(map(str, row)) for row in load_array("L9").table] == rows


def test_tables_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        load_array("L4").table[0, 0] = 2


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("L9", "L9(3^4)"),
        (" l8 ", "L8(2^7)"),
        ("L32", "L32(2^31)"),
        ("L36", "L36(2^11 3^12)"),
        ("L18(2^1x3^7)", "L18(2^1 3^7)"),
        ("L18(3^7 × 2^1)", "L18(2^1 3^7)"),
        ("L27(3^13)", "L27(3^13)"),
    ],
)
def test_names_are_read_kindly(asked, meant):
    assert resolve_name(asked) == meant


@pytest.mark.parametrize(
    ("asked", "instead"),
    [
        ("L64(2^31)", r"L32\(2\^31\).*L64\(2\^63\)"),
        ("L27(2^1 3^12)", r"L27\(3\^13\)"),
        ("L36(3^23)", r"L36\(2\^11 3\^12\)"),
        ("L18", r"L18\(2\^1 3\^7\) or L18\(6\^1 3\^6\)"),
        ("L16", r"several arrays.*L16\(2\^15\).*L16\(4\^5\)"),
        ("L18(3^8)", r"L18\(2\^1 3\^7\)"),
        ("L7(2^6)", "use .*L8"),
        ("nothing like it", r"L4\(2\^3\).*L81\(3\^40\)"),
    ],
)
def test_a_broken_or_unknown_array_says_what_to_use(asked, instead):
    with pytest.raises(SettingsError, match=instead):
        load_array(asked)


def test_faults_are_found_and_named():
    table = load_array("L8(2^7)").table.copy()
    assert strength_two_faults(table) == []
    table[0, 3] = 3 - table[0, 3]
    faults = strength_two_faults(table)
    assert "column 4 is not balanced" in faults
    assert "columns 1 and 4 are not orthogonal" in faults


def test_pydoes_broken_array_would_not_pass():
    from pydoe import get_orthogonal_array

    assert strength_two_faults(get_orthogonal_array("L64(2^31)"))


def test_a_changed_table_is_refused_at_load(monkeypatch):
    broken = load_array("L9(3^4)").table - 1
    broken[0, 0] = 1
    monkeypatch.setitem(arrays.ARRAYS, "L9(3^4)", lambda: broken)
    with pytest.raises(SettingsError, match="not balanced: install pydoe"):
        load_array.__wrapped__("L9(3^4)")
