"""A listing of trials as plain text that fits a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from kerasall.taguchi.trial_listing import TrialListing
from kerasall.taguchi.trials import CONFIRMATION

_SHORTEST = 6
_GAP = "  "


@dataclass(frozen=True)
class TrialColumn:
    """A column as it is shown.

    Attributes:
        title: of the column.
        texts: one a trial.
        kind: ``place``, ``factor``, ``status``, ``response``, ``metric`` or ``seconds``.
        order: what the column sorts by, one a trial; None where the cell is empty.
    """

    title: str
    texts: list[str]
    kind: str
    order: list[float | str | None]

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers, to be aligned right."""
        return self.kind not in ("factor", "status")


def list_columns(listing: TrialListing, table: pd.DataFrame | None = None) -> list[TrialColumn]:
    """What is shown of every trial: its number and place, levels, status, response, metrics, seconds.

    A factor's cell gives its value and the number of its level, which tells a dummy level from its twin.

    Args:
        listing: of the trials.
        table: its rows in another order.
    """
    table = listing.table if table is None else table
    places = ["trial", "row", "repeat", *(["fold"] if listing.design.folds else [])]
    factors = list(listing.design.plan.factors)
    return [
        *[_place_column(table, name) for name in places],
        *[_factor_column(table, name) for name in factors],
        TrialColumn("status", list(table["status"]), "status", list(table["status"])),
        _number_column(table, "objective", listing.response, "response"),
        *[_number_column(table, name, name, "metric") for name in listing.metrics],
        _number_column(table, "seconds", "seconds", "seconds"),
    ]


def describe_trials(
    listing: TrialListing, table: pd.DataFrame | None = None, width: int | None = None
) -> str:
    """One line a trial, and what stands behind them.

    Args:
        listing: of the trials.
        table: its rows in another order.
        width: characters of a line; metrics, then factors give way. None for as wide as need be.
    """
    table = listing.table if table is None else table
    columns, missing = fit_columns(list_columns(listing, table), width)
    marks = ["*" if trial == listing.best else " " for trial in table["trial"]]
    lines = _lines(columns, marks)
    if missing:
        lines.append(f"Too wide for this terminal: {', '.join(missing)}; trials.csv has every column.")
    return "\n".join([*lines, *describe_end(listing)])


def describe_end(listing: TrialListing) -> list[str]:
    """How far the experiment is, what the mark means, and what the analysis says."""
    counts = ", ".join(f"{count} {status.lower()}" for status, count in listing.statuses.items())
    lines = [f"{listing.planned} trials of {listing.design.plan.array}: {counts}."]
    if listing.best is not None:
        lines.append(f"* best single trial by {listing.design.objective}, luck included.")
    if listing.analysis is None:
        return [*lines, f"No analysis yet: {listing.unanalysed}"]
    best = listing.design.settings_of(listing.analysis.best_levels)
    found = ", ".join(f"{name} = {value}" for name, value in best.items())
    return [*lines, f"Best levels over all rows ({listing.analysis.signal}): {found}."]


def fit_columns(columns: Sequence[TrialColumn], width: int | None) -> tuple[list[TrialColumn], list[str]]:
    """Leaves out or shortens columns until a line fits.

    Metrics give way first, then the seconds, level numbers where values differ, and the ends of long texts.

    Returns:
        The columns, and the titles of those left out.
    """
    kept, missing = list(columns), []
    if width is None:
        return kept, missing
    for kind in ("metric", "seconds"):
        for column in [c for c in reversed(columns) if c.kind == kind]:
            if _width(kept) > width:
                kept.remove(column)
                missing.append(column.title)
    if _width(kept) > width:
        kept = [_without_needless_levels(c) if c.kind == "factor" else c for c in kept]
    names = {id(column): column.title for column in kept}
    while _width(kept) > width and (factors := [c for c in kept if c.kind == "factor"]):
        longest = max(factors, key=_column_width)
        if _column_width(longest) > _SHORTEST:
            shorter = _shorten(longest, _column_width(longest) - 1)
            names[id(shorter)] = names[id(longest)]
            kept[kept.index(longest)] = shorter
        else:
            kept.remove(factors[-1])
            missing.append(names[id(factors[-1])])
    return kept, missing[::-1]


def _place_column(table: pd.DataFrame, name: str) -> TrialColumn:
    texts = ["confirm" if value == CONFIRMATION else str(value) for value in table[name]]
    return TrialColumn(name, texts, "place", [_rank(value) for value in table[name]])


def _factor_column(table: pd.DataFrame, name: str) -> TrialColumn:
    levels = [int(level) for level in table[f"{name} level"]]
    texts = [f"{value} ({level})" for value, level in zip(table[name], levels, strict=True)]
    return TrialColumn(name, texts, "factor", list(levels))


def _without_needless_levels(column: TrialColumn) -> TrialColumn:
    """Without level numbers, unless two levels have one value."""
    values = {text: text.rsplit(" ", 1)[0] for text in column.texts}
    if len(set(values.values())) < len(values):
        return column
    return replace(column, texts=[values[text] for text in column.texts])


def _number_column(table: pd.DataFrame, name: str, title: str, kind: str) -> TrialColumn:
    values = [None if pd.isna(value) else float(value) for value in table[name]]
    return TrialColumn(title, [_number(value, kind) for value in values], kind, list(values))


def _number(value: float | None, kind: str) -> str:
    if value is None:
        return "-"
    if kind == "seconds":
        return f"{value:.1f}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 or value == 0 else f"{value:.5g}"


def _rank(value: Any) -> float:
    """Confirmation runs come after the last row."""
    return float(value) if str(value).isdigit() else 1e9


def _lines(columns: Sequence[TrialColumn], marks: Sequence[str]) -> list[str]:
    cells = [[" ", *[column.title for column in columns]]]
    cells += [[mark, *texts] for mark, *texts in zip(marks, *[c.texts for c in columns], strict=True)]
    widths = [1, *[_column_width(column) for column in columns]]
    right = [False, *[column.numeric for column in columns]]
    return [
        _GAP.join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _width(columns: Sequence[TrialColumn]) -> int:
    return 1 + sum(len(_GAP) + _column_width(column) for column in columns)


def _column_width(column: TrialColumn) -> int:
    return max(map(len, [column.title, *column.texts]))


def _shorten(column: TrialColumn, width: int) -> TrialColumn:
    """Cuts titles and values, never the level number, which alone identifies a level."""
    texts = []
    for text in column.texts:
        value, level = text.rsplit(" ", 1) if text.endswith(")") else (text, "")
        tail = f"… {level}".rstrip()
        texts.append(text if len(text) <= width else value[: width - len(tail)] + tail)
    title = column.title if len(column.title) <= width else column.title[: width - 1] + "…"
    return replace(column, title=title, texts=texts)
