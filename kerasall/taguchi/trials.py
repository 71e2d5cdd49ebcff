"""The trials of a Taguchi experiment: which there are, in which order, and what they carry.

One trial is one run of one row of the array: repeat 1 of all rows first, then repeat 2; inside a row the
folds follow one another. Everything here is a pure function of the design, so a search that was killed goes
on from the trials that exist and needs no other memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kerasall.errors import SettingsError
from kerasall.taguchi.design import Plan, plan

CONFIRMATION = "confirmation"
"""``taguchi/row`` of a trial at the predicted optimum."""

RESERVED = "taguchi/"
"""What the names of the values begin with that a trial carries beside its factors."""

RESULT_COLUMNS = ("trial", "row", "repeat", "fold", "status", "objective", "seconds")
"""Columns of a table of results that no factor may be called."""


@dataclass(frozen=True)
class Place:
    """Where a trial stands in the experiment.

    Attributes:
        row: of the array, from 1, or ``CONFIRMATION``.
        repeat: from 1.
        fold: from 1; 1 if there are no folds.
    """

    row: int | str
    repeat: int
    fold: int

    def __str__(self) -> str:
        return f"row {self.row}, repeat {self.repeat}, fold {self.fold}"


@dataclass(frozen=True)
class Design:
    """What makes one experiment differ from another.

    Attributes:
        plan: factors, array and rows.
        objective: name of the response.
        direction: ``max`` or ``min``.
        repeats: runs of every row.
        folds: runs of every repeat, one for each held-out fold; None for one run without folds.
        seed: from which the seed of every trial is drawn.
    """

    plan: Plan
    objective: str
    direction: str
    repeats: int
    folds: int | None
    seed: int

    def places(self, confirmations: int = 0) -> list[Place]:
        """Every trial in order; the index is its number."""
        rows: list[tuple[int | str, int]] = [
            (row + 1, repeat + 1) for repeat in range(self.repeats) for row in range(len(self.plan.levels))
        ]
        rows += [(CONFIRMATION, repeat + 1) for repeat in range(confirmations)]
        return [Place(row, repeat, fold + 1) for row, repeat in rows for fold in range(self.folds or 1)]

    @property
    def runs(self) -> int:
        """Number of trials before the confirmation."""
        return len(self.plan.levels) * self.repeats * (self.folds or 1)

    def levels_of(self, row: int) -> dict[str, int]:
        """Level number of every factor in a row, from 1."""
        return dict(zip(self.plan.factors, map(int, self.plan.levels[row - 1]), strict=True))

    def settings_of(self, levels: Mapping[str, int]) -> dict[str, Any]:
        """Value of every factor at a combination of levels."""
        return {name: self.plan.factors[name][level - 1] for name, level in levels.items()}

    def seed_of(self, place: Place) -> int:
        """Seed of a trial: 0 <= seed < 2^31, its own for every place."""
        row = 0 if isinstance(place.row, str) else place.row
        words = np.random.SeedSequence([self.seed, row, place.repeat, place.fold]).generate_state(1)
        return int(words[0]) >> 1

    def values_of(self, place: Place, levels: Mapping[str, int]) -> dict[str, Any]:
        """What the hyperparameters of a trial hold: its factors and the reserved values.

        The level numbers tell a dummy level from its twin, whose value is the same.
        """
        return {
            **self.settings_of(levels),
            f"{RESERVED}row": place.row,
            f"{RESERVED}repeat": place.repeat,
            f"{RESERVED}fold": place.fold,
            f"{RESERVED}levels": ",".join(map(str, levels.values())),
            f"{RESERVED}seed": self.seed_of(place),
        }

    @cached_property
    def document(self) -> dict[str, Any]:
        """The design as JSON; two designs with equal documents are one experiment."""
        return {
            "objective": self.objective,
            "direction": self.direction,
            "factors": {name: list(values) for name, values in self.plan.factors.items()},
            "array": self.plan.array,
            "rows": self.plan.levels.tolist(),
            "repeats": self.repeats,
            "folds": self.folds,
            "seed": self.seed,
        }


def read_place(values: Mapping[str, Any]) -> Place:
    """The place that a trial carries in its hyperparameter values."""
    return Place(*(values[f"{RESERVED}{name}"] for name in ("row", "repeat", "fold")))


def read_levels(values: Mapping[str, Any], factors: Iterable[str]) -> dict[str, int]:
    """The level numbers that a trial carries in its hyperparameter values."""
    return dict(zip(factors, map(int, values[f"{RESERVED}levels"].split(",")), strict=True))


def make_design(
    factors: Mapping[str, Sequence[Any]],
    array: str,
    error_df: int,
    objective: tuple[str, str],
    repeats: int,
    folds: int | None,
    seed: int,
) -> Design:
    """Checks the settings of an experiment and plans it.

    Args:
        objective: name and direction.

    Raises:
        SettingsError: a factor or a number is not usable, or no array fits.
    """
    _require_whole("repeats", repeats, 1)
    _require_whole("seed", seed, 0)
    if folds is not None:
        _require_whole("folds", folds, 2)
    usable = {name: as_choices(name, values) for name, values in factors.items()}
    return Design(plan(usable, array, error_df), *objective, repeats, folds, seed)


def _require_whole(name: str, number: Any, least: int) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise SettingsError(
            f"{name} must be a whole number of at least {least}, but is {number!r}: correct it"
        )


def as_choices(name: str, values: Sequence[Any]) -> list[Any]:
    """Levels as keras-tuner takes them: all numbers, all texts, or all booleans.

    Raises:
        SettingsError: the name is reserved, or the levels are of other or of several types.
    """
    if name.startswith(RESERVED) or name in RESULT_COLUMNS:
        raise SettingsError(
            f"a factor must not be called {name!r}, which has a meaning of its own: rename it"
        )
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    types = {type(value) for value in plain}
    if types == {int, float}:
        return [float(value) for value in plain]
    if len(types) > 1 or not types <= {int, float, str, bool}:
        raise SettingsError(
            f"the levels of factor {name} must be all numbers, all texts or all booleans, but are {plain}: "
            "write them as texts and let the model builder read these"
        )
    return plain


def list_design_differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What differs between two design documents, in words; empty if nothing does."""
    found = []
    old, new = stored.get("factors", {}), given["factors"]
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            found.append(f"factor {name} had the levels {old.get(name)} and has {new.get(name)}")
    if not found and list(old) != list(new):
        found.append(f"the factors stood in the order {list(old)} and stand in {list(new)}")
    for key in ("array", "objective", "direction", "repeats", "folds", "seed"):
        if stored.get(key) != given[key]:
            found.append(f"{key} was {stored.get(key)} and is {given[key]}")
    if not found and stored.get("rows") != given["rows"]:
        found.append("the rows give other levels to the factors, although factors and array are the same")
    return found


def mean_over_folds(
    objectives: Mapping[Place, float], rows: Sequence[int | str], repeats: int, folds: int | None
) -> np.ndarray:
    """Responses of an analysis: the mean over the folds of every row and repeat.

    Returns:
        float64 [rows, repeats]; nan where a fold is missing, for a mean of other folds is no repeat.
    """
    found = np.full((len(rows), repeats), np.nan)
    for i, row in enumerate(rows):
        for repeat in range(repeats):
            places = [Place(row, repeat + 1, fold + 1) for fold in range(folds or 1)]
            if all(place in objectives for place in places):
                found[i, repeat] = np.mean([objectives[place] for place in places])
    return found
