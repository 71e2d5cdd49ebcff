"""Orthogonal arrays of strength two, named by what they hold and checked whenever one is loaded.

In an array of strength two every level of a column is run equally often (balance), and so is every
pair of levels of two columns (orthogonality); main effects then do not disturb one another. Most
tables come from pydoe, but under their real content: its "L27(2^1 3^12)" holds 3^13, its "L36(3^23)"
holds 2^11 3^12, and its "L64(2^31)" is no orthogonal array at all.

Source: G. Taguchi, System of Experimental Design (1987), appendix; the names are his.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from kerasall.errors import SettingsError, near_names


@dataclass(frozen=True)
class OrthogonalArray:
    """A checked array.

    Attributes:
        name: for example ``L9(3^4)``: 9 rows, 4 columns of 3 levels.
        table: int64 [rows, columns], level numbers from 1; read-only.
        levels: number of levels of each column.
    """

    name: str
    table: np.ndarray
    levels: tuple[int, ...]


def _from_pydoe(label: str) -> Callable[[], np.ndarray]:
    def load() -> np.ndarray:
        from pydoe import get_orthogonal_array  # takes half a second, so only when an array is wanted

        return np.asarray(get_orthogonal_array(label), dtype=np.int64)  # pyright: ignore[reportArgumentType]

    return load


_L18_ROWS = (
    "11111111 11222222 11333333 12112233 12223311 12331122 13121323 13232131 13313212 "
    "21133221 21211332 21322113 22123132 22231213 22312321 23132312 23213123 23321231"
)
"""Taguchi's L18(2^1 3^7), which pydoe lacks: one word a row, one digit a column."""


def _classic_l18() -> np.ndarray:
    return np.array([[int(digit) for digit in row] for row in _L18_ROWS.split()]) - 1


def _l8_with_four_levels() -> np.ndarray:
    """L8 with columns 1, 2 and 3 (3 is the interaction of 1 and 2) merged into one of four levels."""
    table = _from_pydoe("L8(2^7)")()
    return np.column_stack([2 * table[:, 0] + table[:, 1], table[:, 3:]])


def _split_four_levels(label: str, count: int) -> Callable[[], np.ndarray]:
    """Splits the last ``count`` four-level columns into three two-level columns each.

    The three are the two binary digits of the level and their sum modulo 2: balanced, orthogonal to
    one another, and orthogonal to whatever the four-level column was orthogonal to.
    """

    def load() -> np.ndarray:
        table = _from_pydoe(label)()
        kept, split = table[:, : table.shape[1] - count], table[:, table.shape[1] - count :]
        high, low = split // 2, split % 2
        return np.column_stack([kept, np.stack([high, low, high ^ low], axis=2).reshape(len(table), -1)])

    return load


ARRAYS: dict[str, Callable[[], np.ndarray]] = {
    "L4(2^3)": _from_pydoe("L4(2^3)"),
    "L8(2^7)": _from_pydoe("L8(2^7)"),
    "L8(4^1 2^4)": _l8_with_four_levels,
    "L9(3^4)": _from_pydoe("L9(3^4)"),
    "L12(2^11)": _from_pydoe("L12(2^11)"),
    "L16(2^15)": _from_pydoe("L16(2^15)"),
    "L16(4^1 2^12)": _split_four_levels("L16(4^5)", 4),
    "L16(4^2 2^9)": _split_four_levels("L16(4^5)", 3),
    "L16(4^3 2^6)": _split_four_levels("L16(4^5)", 2),
    "L16(4^4 2^3)": _split_four_levels("L16(4^5)", 1),
    "L16(4^5)": _from_pydoe("L16(4^5)"),
    "L18(2^1 3^7)": _classic_l18,
    "L18(6^1 3^6)": _from_pydoe("L18(6^1 3^6)"),
    "L25(5^6)": _from_pydoe("L25(5^6)"),
    "L27(3^13)": _from_pydoe("L27(2^1 3^12)"),
    "L32(2^31)": _from_pydoe("L32(2^31)"),
    "L32(2^1 4^9)": _from_pydoe("L32(2^1 4^9)"),
    "L36(2^11 3^12)": _from_pydoe("L36(3^23)"),
    "L50(2^1 5^11)": _from_pydoe("L50(2^1 5^11)"),
    "L54(2^1 3^25)": _from_pydoe("L54(2^1 3^25)"),
    "L64(2^63)": _split_four_levels("L64(4^21)", 21),
    "L64(4^21)": _from_pydoe("L64(4^21)"),
    "L81(3^40)": _from_pydoe("L81(3^40)"),
}
"""Name -> loader of a table with levels from 0. The smallest come first."""

_NOT_OFFERED = {
    "L64(2^31)": "pydoe's table of this name is not orthogonal (33 distinct rows of 64): use L32(2^31), "
    "which has the same columns in half the rows, or L64(2^63)",
    "L27(2^1 3^12)": "27 rows cannot balance a column of two levels, and pydoe's table of this name holds "
    "3^13: use L27(3^13) and repeat a level of the two-level factor",
    "L36(3^23)": "36 rows have at most 13 columns of three levels, and pydoe's table of this name holds "
    "2^11 3^12: use L36(2^11 3^12)",
}


def levels_of(name: str) -> tuple[int, ...]:
    """Number of levels of each column, read from an array's name.

    >>> levels_of("L18(2^1 3^7)")
    (2, 3, 3, 3, 3, 3, 3, 3)
    """
    parts = re.findall(r"(\d+)\^(\d+)", name)
    return tuple(level for base, count in parts for level in [int(base)] * int(count))


def rows_of(name: str) -> int:
    """Number of rows, read from an array's name.

    >>> rows_of("L18(2^1 3^7)")
    18
    """
    return int(name[1 : name.index("(")])


def resolve_name(name: str) -> str:
    """The name in ``ARRAYS`` meant by ``name``: ``l9``, ``L9``, ``L18(2^1x3^7)`` will do.

    A bare number of rows names the only array of that size, or the only one of them whose columns
    all have the same number of levels.

    Raises:
        SettingsError: unknown, ambiguous, or known to be broken; the message says what to use.
    """
    wanted = _canonical(name)
    for offered in ARRAYS:
        if _canonical(offered) == wanted:
            return offered
    for broken, reason in _NOT_OFFERED.items():
        if _canonical(broken) == wanted:
            raise SettingsError(f"{broken} is not offered: {reason}")
    size = wanted[0]
    alike = [offered for offered in ARRAYS if _canonical(offered)[0] == size]
    if not wanted[1] and alike:
        uniform = [offered for offered in alike if len(set(levels_of(offered))) == 1]
        for candidates in (alike, uniform):
            if len(candidates) == 1:
                return candidates[0]
        raise SettingsError(f"{name} names several arrays: use one of {_listed(alike)}")
    if not alike:
        alike = near_names(name, ARRAYS, most=3, cutoff=0.5) or list(ARRAYS)
    raise SettingsError(f"an array must be one that is offered, but {name!r} is not: use {_listed(alike)}")


def _canonical(name: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    size, _, columns = name.strip().upper().partition("(")
    parts = Counter({int(base): int(count) for base, count in re.findall(r"(\d+)\s*\^\s*(\d+)", columns)})
    return size.strip(), tuple(sorted(parts.items()))


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]


@cache
def load_array(name: str) -> OrthogonalArray:
    """Loads an array and checks it.

    Args:
        name: as ``resolve_name`` takes it.

    Raises:
        SettingsError: the array is not offered, or its table fails the check.
    """
    known = resolve_name(name)
    table = ARRAYS[known]() + 1
    levels = levels_of(known)
    faults = strength_two_faults(table)
    if faults or table.shape != (rows_of(known), len(levels)) or tuple(table.max(axis=0)) != levels:
        raise SettingsError(
            f"the table of {known} must be orthogonal and hold what its name says, but "
            f"{faults[0] if faults else f'holds {table.shape} and levels {table.max(axis=0)}'}: "
            "install pydoe>=1.6,<2, whose tables were checked"
        )
    table.setflags(write=False)
    return OrthogonalArray(known, table, levels)


def strength_two_faults(table: np.ndarray) -> list[str]:
    """What keeps a table from being an orthogonal array of strength two; empty if nothing does.

    Args:
        table: int [rows, columns]; any numbers may name the levels.

    >>> strength_two_faults(np.array([[1, 1], [1, 2], [2, 1], [2, 2]]))
    []
    >>> strength_two_faults(np.array([[1, 1], [1, 1], [2, 2], [2, 2]]))
    ['columns 1 and 2 are not orthogonal']
    """
    table = np.asarray(table)
    indicators = [(column[:, None] == np.unique(column)).astype(np.int64) for column in table.T]
    faults = []
    for first, left in enumerate(indicators):
        if len(set(left.sum(axis=0))) > 1:
            faults.append(f"column {first + 1} is not balanced")
        for second in range(first + 1, len(indicators)):
            pairs = left.T @ indicators[second]
            if pairs.min() != pairs.max():
                faults.append(f"columns {first + 1} and {second + 1} are not orthogonal")
    return faults
