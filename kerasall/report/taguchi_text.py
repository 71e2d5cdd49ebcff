"""A designed experiment at a terminal: its plan, its analysis, its trials. The rows and sentences are those of the pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kerasall.report.format import COLUMN_GAP, align_rows
from kerasall.report.taguchi import Table, lay_out, make_document
from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.design import Plan
from kerasall.taguchi.effects import Interaction

if TYPE_CHECKING:
    import pandas as pd

    from kerasall.taguchi.trial_events import TrialListing

_PAIRS_SHOWN = 12
_SHORTEST = 6
"""Characters to which a factor's column may shrink before it is left out."""


def describe_plan(plan: Plan) -> str:
    """Array, columns, runs, and what the design can and cannot tell."""
    freedom = ", ".join(f"{name} {df}" for name, df in plan.degrees_of_freedom.items())
    columns = ", ".join(f"{name} {column}" for name, column in plan.columns.items())
    spare = ", ".join(map(str, plan.spare_columns)) or "none"
    runs = tuple(
        (str(row), *(f"{value} ({level})" for value, level in zip(setting.values(), levels, strict=True)))
        for row, (setting, levels) in enumerate(zip(plan.settings(), plan.levels, strict=True), start=1)
    )
    lines = [
        f"{plan.array}: {len(plan.levels)} runs; degrees of freedom: {freedom}, error {plan.error_df}",
        f"columns: {columns}; spare: {spare}",
        *_table_lines(Table("", ("row", *(f">{name} (level)" for name in plan.factors)), runs)),
        "",
        describe_interactions(plan.interactions()),
    ]
    return "\n".join([*lines, *(f"Warning: {text}" for text in plan.warnings())])


def describe_interactions(interactions: Sequence[Interaction]) -> str:
    """Which interactions can be estimated, and with what the others are aliased; a line each, indented."""
    if not interactions:
        return "With one factor there is no interaction."
    clear = ", ".join(str(i) for i in interactions if i.estimable)
    aliased = [i for i in interactions if not i.estimable]
    if not aliased:
        return f"Every interaction of two factors can be estimated: {clear}."
    lines = [f"Interactions that can be estimated: {clear}."] if clear else []
    lines.append(
        "Interactions that cannot be estimated (if present, they disturb what they are aliased with):"
    )
    lines += [f"  {i}: {_reason(i)}" for i in aliased[:_PAIRS_SHOWN]]
    if len(aliased) > _PAIRS_SHOWN:
        lines.append(f"  and {len(aliased) - _PAIRS_SHOWN} more")
    return "\n".join(lines)


def _reason(interaction: Interaction) -> str:
    if not interaction.complete:
        return "not every pair of levels is run"
    names = interaction.aliased_with
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f"aliased with {', '.join(names[:6])}{more}"


def describe_analysis(analysis: Analysis) -> str:
    """Ratio, response table, analysis of variance, prediction, and the warnings last."""
    laid = lay_out(make_document(analysis))
    lines = [f"Signal: {laid.ratio}", *(line for table in laid.tables for line in _table_lines(table)), ""]
    lines += [f"{label}: {value}" for label, value in laid.optimum.items()]
    lines += [laid.doubt] if laid.doubt else []
    return "\n".join([*lines, *(f"Warning: {text}" for text in laid.warnings)])


def _table_lines(table: Table) -> list[str]:
    """A blank line, the caption, the rows and the notes."""
    rows = [
        [value["text"] if isinstance(value, dict) else value or "-" for value in row] for row in table.rows
    ]
    right = [title.startswith(">") for title in table.columns]
    lines = align_rows([[title.removeprefix(">") for title in table.columns], *rows], right)
    return ["", *([table.caption] if table.caption else []), *lines, *table.notes]


@dataclass(frozen=True)
class TrialColumn:
    """A column of trials as it is shown.

    Attributes:
        name: of the column.
        title: its name, or the beginning of it.
        texts: one a trial.
        kind: ``place``, ``factor``, ``status``, ``response``, ``metric`` or ``seconds``.
        order: what the column sorts by, one a trial; None where the cell is empty.
    """

    name: str
    title: str
    texts: list[str]
    kind: str
    order: list[float | str | None]

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers, to be aligned right."""
        return self.kind not in ("factor", "status")

    @property
    def width(self) -> int:
        """Characters of its longest text."""
        return max(map(len, [self.title, *self.texts]))


def list_columns(listing: TrialListing, table: pd.DataFrame | None = None) -> list[TrialColumn]:
    """What is shown of every trial: its number and place, levels, status, response, metrics, seconds.

    A factor's cell gives its value and the number of its level, which tells a dummy level from its twin.

    Args:
        listing: of the trials.
        table: its rows in another order.
    """
    from kerasall.taguchi.trials import CONFIRMATION, order_of_row  # keras-tuner, which a plan does without

    table = listing.table if table is None else table

    def column(name: str, texts: list[str], kind: str, order: list, title: str = "") -> TrialColumn:
        return TrialColumn(title or name, title or name, texts, kind, order)

    def place(name: str) -> TrialColumn:
        texts = ["confirm" if value == CONFIRMATION else str(value) for value in table[name]]
        return column(name, texts, "place", [order_of_row(value) for value in table[name]])

    def factor(name: str) -> TrialColumn:
        levels = table[f"{name} level"].tolist()
        texts = [f"{value} ({level})" for value, level in zip(table[name], levels, strict=True)]
        return column(name, texts, "factor", levels)

    def number(name: str, kind: str, title: str = "") -> TrialColumn:
        values = [None if value != value else float(value) for value in table[name]]
        return column(name, [_number(value, kind) for value in values], kind, values, title)

    return [
        *map(place, ["trial", "row", "repeat", *(["fold"] if listing.design.folds else [])]),
        *map(factor, listing.design.plan.factors),
        column("status", table["status"].tolist(), "status", table["status"].tolist()),
        number("objective", "response", listing.response),
        *[number(name, "metric") for name in listing.metrics],
        number("seconds", "seconds"),
    ]


def _number(value: float | None, kind: str) -> str:
    if value is None:
        return "-"
    if kind == "seconds":
        return f"{value:.1f}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 or value == 0 else f"{value:.5g}"


def describe_trials(
    listing: TrialListing, table: pd.DataFrame | None = None, width: int | None = None
) -> str:
    """One line a trial, how far the experiment is, and what the analysis says.

    Args:
        listing: of the trials.
        table: its rows in another order.
        width: characters of a line; metrics, then factors give way. None for as wide as need be.
    """
    table = listing.table if table is None else table
    columns, missing = fit_columns(list_columns(listing, table), width)
    marks = [" ", *("*" if trial == listing.best else " " for trial in table["trial"])]
    cells = zip(marks, *([column.title, *column.texts] for column in columns), strict=True)
    lines = align_rows(list(cells), [False, *(column.numeric for column in columns)])
    if missing:
        lines.append(f"Too wide for this terminal: {', '.join(missing)}; trials.csv has every column.")
    counts = ", ".join(f"{count} {status.lower()}" for status, count in listing.statuses.items())
    lines.append(f"{listing.planned} trials of {listing.design.plan.array}: {counts}.")
    if listing.best is not None:
        lines.append(f"* best single trial by {listing.design.objective}, luck included.")
    if listing.analysis is None:
        return "\n".join([*lines, f"No analysis yet: {listing.unanalysed}"])
    best = listing.design.settings_of(listing.analysis.best_levels)
    found = ", ".join(f"{name} = {value}" for name, value in best.items())
    return "\n".join([*lines, f"Best levels over all rows ({listing.analysis.signal}): {found}."])


def fit_columns(columns: Sequence[TrialColumn], width: int | None) -> tuple[list[TrialColumn], list[str]]:
    """Leaves out or shortens columns until a line fits.

    Metrics give way first, then the seconds, level numbers where values differ, and the ends of long texts.

    Returns:
        The columns, and the names of those left out.
    """
    kept, missing = list(columns), []

    def too_wide() -> bool:
        return width is not None and 1 + sum(len(COLUMN_GAP) + column.width for column in kept) > width

    def leave_out(column: TrialColumn) -> None:
        kept.remove(column)
        missing.insert(0, column.name)

    for kind in ("metric", "seconds"):
        for column in [c for c in reversed(columns) if c.kind == kind]:
            if too_wide():
                leave_out(column)
    if too_wide():
        kept = [_without_needless_levels(c) if c.kind == "factor" else c for c in kept]
    while too_wide() and (factors := [c for c in kept if c.kind == "factor"]):
        longest = max(factors, key=lambda column: column.width)
        if longest.width > _SHORTEST:
            kept[kept.index(longest)] = _shorten(longest, longest.width - 1)
        else:
            leave_out(factors[-1])
    return kept, missing


def _without_needless_levels(column: TrialColumn) -> TrialColumn:
    """Without level numbers, unless two levels have one value."""
    values = {text: text.rsplit(" ", 1)[0] for text in column.texts}
    if len(set(values.values())) < len(values):
        return column
    return replace(column, texts=[values[text] for text in column.texts])


def _shorten(column: TrialColumn, width: int) -> TrialColumn:
    """Cuts titles and values, never the level number, which alone identifies a level."""
    texts = []
    for text in column.texts:
        value, level = text.rsplit(" ", 1) if text.endswith(")") else (text, "")
        tail = f"… {level}".rstrip()
        texts.append(text if len(text) <= width else value[: width - len(tail)] + tail)
    title = column.title if len(column.title) <= width else column.title[: width - 1] + "…"
    return replace(column, title=title, texts=texts)
