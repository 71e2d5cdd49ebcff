"""From factors to runs: the smallest array that fits, its columns given to factors, dummy levels.

A factor with fewer levels than its column repeats some of them (Taguchi's dummy levels): two levels
in a column of three run as 1, 2, 1. Repeats cost runs, not degrees of freedom, and a level written
twice by the user (adam, sgdm, adam) is the same thing.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kerasall.csv_tables import csv_line
from kerasall.errors import SettingsError
from kerasall.taguchi.arrays import ARRAYS, levels_of, load_array, resolve_name, rows_of
from kerasall.taguchi.effects import (
    Interaction,
    choose_clear_columns,
    clear_candidates,
    find_interactions,
    make_contrasts,
)

RESERVED_COLUMN = re.compile(r"row|run|y\d*", re.IGNORECASE)
"""Names that a table of results keeps for itself: no factor may have one."""


CROSS = "×"
"""Between the names of two factors: their interaction."""

NOISE = "noise:"
"""What the column of a noise factor begins with in tables of results."""

EVERY = "every"
"""In place of the name of an outer array: all combinations of the noise levels."""


def read_pair(pair: str | Sequence[str], known: Sequence[str]) -> tuple[str, str]:
    """The two factors of an interaction, written ``A*B`` (or with the sign of ``CROSS``).

    Raises:
        SettingsError: they are not two different factors.
    """
    parts = re.split(rf"[*{CROSS}]", pair) if isinstance(pair, str) else list(pair)
    names = [part.strip() for part in parts]
    if len(names) != 2 or len(set(names)) < 2 or not set(names) <= set(known):
        raise SettingsError(
            f"an interaction must be written A*B, of two of the factors {', '.join(known)}, but is {pair!r}: correct it"
        )
    return names[0], names[1]


@dataclass(frozen=True)
class Plan:
    """Runs of an experiment.

    Attributes:
        array: name of the orthogonal array.
        factors: name -> the value behind each level of its column; dummy levels repeat a value.
        columns: name -> number of its column in the array, from 1.
        levels: int [rows, factors], level numbers from 1, factors in the order of ``factors``.
        spare_columns: columns that neither factor nor declared interaction has; they estimate the error.
        crossed: declared interaction -> numbers of the columns that hold it, from 1; no factor and no other declared
            interaction shares them. None where it lies beside all columns, as that of the first two of L18.
        noise: the outer array, whose every row each row of this one is run under; None without noise factors.
    """

    array: str
    factors: dict[str, tuple[Any, ...]]
    columns: dict[str, int]
    levels: np.ndarray
    spare_columns: tuple[int, ...]
    crossed: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    noise: Plan | None = None

    @property
    def degrees_of_freedom(self) -> dict[str, int]:
        """Name -> number of distinct levels less one."""
        return {name: len(set(group_levels(values))) - 1 for name, values in self.factors.items()}

    @property
    def dummy_factors(self) -> list[str]:
        """Factors of which two levels have one value, so that only the level's number tells these apart."""
        return [name for name, values in self.factors.items() if len(set(values)) < len(values)]

    @property
    def error_df(self) -> int:
        """Degrees of freedom left for the error."""
        return self.count_freedom()[1]

    def count_freedom(
        self,
        levels_as: str = "dummy",
        without: Mapping[str, Sequence[Any]] | None = None,
        pool: Sequence[str] = (),
    ) -> tuple[dict[str, int], int]:
        """Degrees of freedom of every factor and of the error, as an analysis with these options counts them.

        Args:
            levels_as: ``dummy`` merges equal levels, ``separate`` keeps them apart.
            without: factor -> levels whose rows are left out.
            pool: factors and declared interactions that are taken for error.

        Returns:
            Name -> degrees of freedom, 0 where it is taken for error; and those of the error.
        """
        names, rows = list(self.factors), np.ones(len(self.levels), bool)
        for name, gone in (without or {}).items():
            left_out = [number for number, value in enumerate(self.factors[name], start=1) if value in gone]
            rows &= ~np.isin(self.levels[:, names.index(name)], left_out)
        own: dict[str, int] = {}
        for name, column in zip(names, self.levels[rows].T, strict=True):
            values = self.factors[name]
            codes = group_levels(values) if levels_as == "dummy" else range(len(values))
            own[name] = len(np.unique(np.array(codes)[column - 1])) - 1
        kept = {name: 0 if name in pool else df for name, df in own.items()}
        crossed = sum(own[a] * own[b] for a, b in self.crossed if f"{a}{CROSS}{b}" not in pool)
        left = int(rows.sum()) - 1 - sum(kept.values()) - crossed
        return kept, max(left, 0) if without else left  # of what is left some effects cannot be estimated

    def settings(self) -> list[dict[str, Any]]:
        """The value of every factor in every row."""
        return [
            {name: values[level - 1] for (name, values), level in zip(self.factors.items(), row, strict=True)}
            for row in self.levels
        ]

    def table(self) -> dict[str, np.ndarray]:
        """Name -> level numbers [rows]: what ``analyze`` takes beside the responses."""
        return {name: self.levels[:, index] for index, name in enumerate(self.factors)}

    def interactions(self) -> list[Interaction]:
        """Every interaction of two factors, and what it is aliased with in these runs."""
        columns = zip(self.levels.T, self.factors.values(), strict=True)
        codes = [np.array(group_levels(values))[levels - 1] for levels, values in columns]
        return find_interactions(list(self.factors), list(map(make_contrasts, codes)))

    def warnings(self, error_df: int | None = None) -> list[str]:
        """What the design cannot do; ``error_df`` as an analysis counts it, by default its own."""
        if (self.error_df if error_df is None else error_df) > 0:
            return []
        return [
            "The design is saturated: its factors take every degree of freedom and leave none for the error, so no "
            "effect can be tested unless small factors are pooled; ask for room with error_df (--error-df 2)."
        ]

    def to_json(self) -> dict[str, Any]:
        """Array, columns, runs (level numbers and values), interactions, warnings."""
        return {
            "array": self.array,
            "rows": len(self.levels),
            "factors": {name: list(values) for name, values in self.factors.items()},
            "columns": dict(self.columns),
            "spare_columns": list(self.spare_columns),
            "declared_interactions": {CROSS.join(pair): list(found) for pair, found in self.crossed.items()},
            "degrees_of_freedom": self.degrees_of_freedom,
            "error_df": self.error_df,
            "runs": self._list_runs("row"),
            "interactions": [
                {"factors": list(i.factors), "estimable": i.estimable, "aliased_with": list(i.aliased_with)}
                for i in self.interactions()
            ],
            "warnings": self.warnings(),
            **({"noise": self.noise.describe_noise()} if self.noise else {}),
        }

    def describe_noise(self) -> dict[str, Any]:
        """This array as the outer one of another, as JSON."""
        return {
            "array": self.array,
            "rows": len(self.levels),
            "factors": {name: list(values) for name, values in self.factors.items()},
            "columns": dict(self.columns),
            "runs": self._list_runs("noise"),
        }

    def _list_runs(self, number: str) -> list[dict[str, Any]]:
        return [
            {
                number: index + 1,
                "levels": dict(zip(self.factors, map(int, row), strict=True)),
                "settings": values,
            }
            for index, (row, values) in enumerate(zip(self.levels, self.settings(), strict=True))
        ]

    def to_csv(self, repeats: int = 0) -> str:
        """A table to fill in: row, level numbers, and empty columns y1 to y``repeats``.

        With noise every row has a line for each of its noise runs, whose level numbers stand in columns ``noise:NAME``.
        """
        outer = self.noise.levels.tolist() if self.noise else [[]]
        noise = [f"{NOISE}{name}" for name in (self.noise.factors if self.noise else ())]
        names = ["row", *self.factors, *noise, *[f"y{i + 1}" for i in range(repeats)]]
        runs = (
            [number, *row, *condition, *[""] * repeats]
            for number, row in enumerate(self.levels, 1)
            for condition in outer
        )
        return "".join(csv_line(line, end="\n") for line in (names, *runs))


def group_levels(values: Sequence[Any]) -> tuple[int, ...]:
    """Group number from 0 of each level; levels with equal text are one group.

    >>> group_levels(["adam", "sgdm", "adam"])
    (0, 1, 0)
    """
    numbers: dict[str, int] = {}
    return tuple(numbers.setdefault(str(value).strip(), len(numbers)) for value in values)


def plan(
    factors: Mapping[str, Sequence[Any]],
    array: str = "auto",
    error_df: int = 0,
    interactions: Sequence[str | Sequence[str]] = (),
    noise: Mapping[str, Sequence[Any]] | None = None,
    noise_array: str = EVERY,
) -> Plan:
    """Plans the runs of an experiment.

    Args:
        factors: name -> its levels, at least two of them different. Equal ones are dummy levels.
            Where a column has more levels than its factor, the factor's first levels are repeated:
            put the one that matters most first.
        array: name of an array, or ``auto`` for the smallest that fits, see ``choose_array``.
        error_df: degrees of freedom that must be left for the error; ``auto`` looks for them.
        interactions: pairs of factors, ``A*B``, whose interaction is to be estimated: no factor and no other of these
            interactions gets its columns (one at two levels, two at three).

        noise: noise factor -> its levels, all different: every row is run under every combination of them.
        noise_array: name of an orthogonal array in place of all combinations, or ``auto``; see ``plan_noise``.

    Returns:
        The plan. Among columns alike, each factor gets the one least aliased with interactions.

    Raises:
        SettingsError: a factor is not usable, or no array (or not the named one) fits.
    """
    _check_factors(factors)
    if noise:
        inner = plan(factors, array, error_df, interactions)
        return replace(inner, noise=plan_noise(noise, list(factors), noise_array))
    pairs = list(dict.fromkeys(read_pair(pair, list(factors)) for pair in interactions))
    if array != "auto":
        made = _lay_out(resolve_name(array), factors, error_df, pairs)
        if made is None:
            raise SettingsError(
                f"{resolve_name(array)} must hold the interactions {', '.join(map(CROSS.join, pairs))} clear of the factors "
                f"and of one another, but its columns do not suffice: {_suggest(factors, error_df, pairs)}"
            )
        return made
    for name in rank_arrays(factors, error_df + _count_crossed(factors, pairs)):
        if (made := _lay_out(name, factors, error_df, pairs)) is not None:
            return made
    raise SettingsError(
        f"an array must hold the interactions {', '.join(map(CROSS.join, pairs))} clear of the factors and of one another, "
        "but none offered does: declare fewer, or give the factors fewer levels"
    )


def plan_noise(noise: Mapping[str, Sequence[Any]], settings: Sequence[str], array: str = EVERY) -> Plan:
    """The outer array of a crossed design.

    Args:
        noise: noise factor -> its levels.
        settings: names of the factors of the inner array.
        array: ``every`` for all combinations; else the name of an orthogonal array, or ``auto`` for the smallest that
            fits, in which the first levels of a factor may come twice.

    Raises:
        SettingsError: a noise factor is not usable, or the array does not fit.
    """
    _check_factors(noise, "noise factor")
    for name, values in noise.items():
        if ":" in name or name in settings:
            reason = (
                "a colon ends the word before it in noise:NAME" if ":" in name else "a setting has that name"
            )
            raise SettingsError(f"a noise factor must not be called {name!r}, as {reason}: rename it")
        if len(set(group_levels(values))) < len(values):
            raise SettingsError(
                f"the levels of noise factor {name} must all differ, but are {', '.join(map(str, values))}: one that comes "
                "twice would count twice; leave it out once"
            )
    if taken := [name for name in settings if name.startswith(NOISE)]:
        raise SettingsError(
            f"a factor must not be called {taken[0]!r}, as columns of noise factors are: rename it"
        )
    if array != EVERY:
        return plan(noise, array)
    levels = np.array(list(itertools.product(*(range(1, len(values) + 1) for values in noise.values()))))
    factors = {name: tuple(values) for name, values in noise.items()}
    return Plan(EVERY, factors, {name: index for index, name in enumerate(noise, start=1)}, levels, ())


def _suggest(factors: Mapping[str, Sequence[Any]], error_df: int, pairs: Sequence[tuple[str, str]]) -> str:
    try:
        return f"use {plan(factors, 'auto', error_df, pairs).array} or array: auto"
    except SettingsError:
        return "declare fewer; no array offered holds them"


def _count_crossed(factors: Mapping[str, Sequence[Any]], pairs: Sequence[tuple[str, str]]) -> int:
    df = {name: len(set(group_levels(values))) - 1 for name, values in factors.items()}
    return sum(df[a] * df[b] for a, b in pairs)


def _lay_out(
    name: str, factors: Mapping[str, Sequence[Any]], error_df: int, pairs: Sequence[tuple[str, str]]
) -> Plan | None:
    """The plan on one array; None where it does not hold the interactions."""
    needed = _column_levels(levels_of(name), [len(values) for values in factors.values()])
    if needed is None:
        raise SettingsError(
            f"{name} must have a column for every factor, but does not fit {_describe(factors)}: "
            f"{_suggest(factors, error_df, pairs)}"
        )
    found = load_array(name)
    candidates = [[i for i, count in enumerate(found.levels) if count == want] for want in needed]
    contrasts = [make_contrasts(column - 1) for column in found.table.T]
    order = list(factors)
    places = [(order.index(a), order.index(b)) for a, b in pairs]
    clear = clear_candidates(candidates, contrasts, places) if pairs else (candidates, [])
    if clear is None:
        return None
    columns = choose_clear_columns(clear[0], contrasts)
    held = [column for block in clear[1] for column in block]
    made = Plan(
        array=name,
        factors={
            key: tuple(values[level % len(values)] for level in range(want))
            for (key, values), want in zip(factors.items(), needed, strict=True)
        },
        columns={key: column + 1 for key, column in zip(factors, columns, strict=True)},
        levels=found.table[:, columns],
        spare_columns=tuple(i + 1 for i in range(len(found.levels)) if i not in (*columns, *held)),
        crossed={p: tuple(c + 1 for c in block) for p, block in zip(pairs, clear[1], strict=True)},
    )
    if made.error_df < error_df:
        raise SettingsError(
            f"{error_df} degrees of freedom must be left for the error, but {name} leaves {made.error_df}: "
            f"{_suggest(factors, error_df, pairs)}"
        )
    return made


def _check_factors(factors: Mapping[str, Sequence[Any]], what: str = "factor") -> None:
    if not factors:
        raise SettingsError("an experiment needs at least one factor: give NAME=level,level,...")
    for name, values in factors.items():
        if not name.strip() or RESERVED_COLUMN.fullmatch(name.strip()):
            raise SettingsError(
                f"a {what} must not be called {name!r}: row, run and y1, y2, ... name other columns of a "
                "table of results; rename it"
            )
        if isinstance(values, str) or len(set(group_levels(values))) < 2:
            raise SettingsError(
                f"{what} {name} must have at least two different levels, but has {values!r}: "
                "add a level or leave the factor out"
            )


def choose_array(factors: Mapping[str, Sequence[Any]], error_df: int = 0) -> str:
    """Name of the smallest array that fits, every level that it has to repeat counted as a row.

    So a two-level factor beside three of three levels runs in the nine rows of L9, one level repeated,
    but five factors of three levels run in L18 and not, each unbalanced, in the 16 rows of L16(4^5).

    Raises:
        SettingsError: none is large enough.

    >>> choose_array({name: [1, 2, 3] for name in "ABCD"})
    'L9(3^4)'
    """
    return rank_arrays(factors, error_df)[0]


def rank_arrays(factors: Mapping[str, Sequence[Any]], error_df: int = 0) -> list[str]:
    """Names of all arrays that fit, the smallest first; see ``choose_array``.

    Raises:
        SettingsError: none is large enough.
    """
    wanted = [len(values) for values in factors.values()]
    spent = sum(len(set(group_levels(values))) - 1 for values in factors.values())
    fitting = []
    for order, name in enumerate(ARRAYS):
        needed = _column_levels(levels_of(name), wanted)
        if needed is not None and rows_of(name) - 1 - spent >= error_df:
            repeated = sum(needed) - sum(wanted)
            fitting.append((rows_of(name) + repeated, repeated, order, name))
    if not fitting:
        raise SettingsError(
            f"an array must fit {_describe(factors)} and leave {error_df} degrees of freedom for the error, "
            "but none offered does (the largest are L64(2^63), L81(3^40), L64(4^21), L50(2^1 5^11) and "
            "L18(6^1 3^6)): take fewer factors or levels"
        )
    return [each[-1] for each in sorted(fitting)]


def _column_levels(offered: Sequence[int], wanted: Sequence[int]) -> list[int] | None:
    """Levels of the column for each factor, the smallest that suffices; None if they do not fit."""
    free = Counter(offered)
    given = [0] * len(wanted)
    # Those that need the most choose first: what they leave suffices for the others.
    for index in sorted(range(len(wanted)), key=lambda i: -wanted[i]):
        enough = [count for count, left in free.items() if left and count >= wanted[index]]
        if not enough:
            return None
        given[index] = min(enough)
        free[given[index]] -= 1
    return given


def _describe(factors: Mapping[str, Sequence[Any]]) -> str:
    counts = Counter(len(values) for values in factors.values())
    return " and ".join(
        f"{n} factor{'s' if n > 1 else ''} of {levels} levels" for levels, n in sorted(counts.items())
    )
