"""A listing of trials as a page: table, drawings, and what the analysis says.

A listing of trials as plain text that fits a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from kerasall.report.document import (
    Alert,
    Block,
    Cell,
    Check,
    Column,
    Fact,
    FigureBlock,
    KeyValues,
    Section,
    Table,
)
from kerasall.report.figure_style import figure_to_svg
from kerasall.report.taguchi_figures import draw_analysis
from kerasall.report.trial_drawings import (
    Drawing,
    DrawnTrial,
    draw_learning_curves,
    draw_parallel_coordinates,
)
from kerasall.report.trial_page import PageCell, PageColumn, PageRow, TrialPage
from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.anova import AnovaRow
from kerasall.taguchi.trial_events import TrialListing
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


_MOST_CURVES = 4


def make_trial_page(listing: TrialListing, title: str) -> TrialPage:
    """The page of a listing, for ``write_trial_page``.

    Args:
        listing: of the trials.
        title: name of the run or project.
    """
    design, drawn = listing.design, _drawn_trials(listing)
    columns = list_columns(listing)
    larger = design.direction == "max"
    names = {name: [str(v) for v in values] for name, values in design.plan.factors.items()}
    return TrialPage(
        title=title,
        subtitle=_subtitle(listing),
        facts=_facts(listing),
        statuses={k: n for k, n in listing.statuses.items() if k != "WAITING"},
        columns=tuple(PageColumn(column.title, column.numeric) for column in columns),
        rows=tuple(_row(listing, columns, index) for index in range(len(listing.table))),
        parallel=draw_parallel_coordinates(drawn, names, listing.response, listing.best, larger),
        curves=_curves(listing, drawn, larger),
        sections=(_analysis_section(listing),),
        note=_note(listing),
    )


def _subtitle(listing: TrialListing) -> str:
    design, done = listing.design, listing.statuses.get("COMPLETED", 0)
    side = "larger" if design.direction == "max" else "smaller"
    return (
        f"{done} of {listing.planned} trials completed: the {len(design.plan.levels)} rows of {design.plan.array}, "
        f"each run {_times(design.repeats)}; response {design.objective}, {side} is better."
    )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _facts(listing: TrialListing) -> tuple[Fact, ...]:
    design = listing.design
    seconds = float(listing.table["seconds"].sum())
    spent = (
        f"{seconds:.1f} s"
        if seconds < 120
        else f"{seconds / 3600:.2f} h"
        if seconds > 7200
        else f"{seconds / 60:.1f} min"
    )
    return (
        Fact("Array", design.plan.array),
        *([Fact("Folds", str(design.folds))] if design.folds else []),
        *[Fact(status.capitalize(), str(count)) for status, count in listing.statuses.items()],
        Fact("Time of all trials", spent),
    )


def _note(listing: TrialListing) -> str:
    twins = [name for name, values in listing.design.plan.factors.items() if len(set(values)) < len(values)]
    told = "The number after a level is its place in the design"
    told += f"; {', '.join(twins)} has dummy levels, told apart by it." if twins else "."
    if listing.best is not None:
        told += " The marked trial has the best single response, luck included; the analysis below weighs all rows."
    return told


def _row(listing: TrialListing, columns: Sequence[TrialColumn], index: int) -> PageRow:
    trial_id = listing.table["trial"].iloc[index]
    trial = listing.trials[trial_id]
    cells = [PageCell(column.texts[index], column.order[index]) for column in columns]
    return PageRow(
        trial_id, str(trial.status), tuple(cells), trial_id == listing.best, (trial.message or "").strip()
    )


def _drawn_trials(listing: TrialListing) -> list[DrawnTrial]:
    factors = list(listing.design.plan.factors)
    found = []
    for row in listing.table.to_dict("records"):
        place = "confirmation" if row["row"] == "confirmation" else f"row {row['row']}"
        label = f"trial {row['trial']}, {place}, repeat {row['repeat']}"
        label += f", fold {row['fold']}" if listing.design.folds else ""
        response = None if row["objective"] != row["objective"] else float(row["objective"])
        levels = {name: int(row[f"{name} level"]) for name in factors}
        found.append(DrawnTrial(row["trial"], label, levels, response, listing.epochs.get(row["trial"], ())))
    return found


def _curves(listing: TrialListing, drawn: Sequence[DrawnTrial], larger: bool) -> tuple[Drawing, ...]:
    """What was measured on validation images first, the objective before others."""
    names = {name for epochs in listing.epochs.values() for row in epochs for name in row}
    order = sorted(names, key=lambda n: (not n.startswith("val_"), n != listing.design.objective, n))
    curves = []
    for name in order[:_MOST_CURVES]:
        title = f"{name} (training)" if f"val_{name}" in names else name
        curves.append(draw_learning_curves(drawn, name, title, listing.best, larger))
    return tuple(curve for curve in curves if curve is not None)


def _analysis_section(listing: TrialListing) -> Section:
    analysis = listing.analysis
    if analysis is None:
        blocks: list[Block] = [Alert("note", "No analysis yet", listing.unanalysed)]
        return Section(
            "analysis",
            "Analysis",
            "What the rows together say, once each has a finished repeat.",
            tuple(blocks),
        )
    signal = analysis.signal
    unit = f" in {signal.signal.unit}" if signal.signal.unit else ""
    return Section(
        id="analysis",
        title="Analysis",
        intro=f"Signal {signal}: {signal.signal.formula}{unit}; larger is better.",
        blocks=(
            *([_warnings(analysis)] if analysis.warnings else []),
            _response_table(analysis),
            _anova_table(analysis),
            _prediction(analysis),
            *[
                FigureBlock(f"{name}.svg", text, content=figure_to_svg(figure))
                for name, (figure, text) in draw_analysis(analysis).items()
            ],
        ),
    )


def _warnings(analysis: Analysis) -> Alert:
    items = tuple(Check(text) for text in analysis.warnings)
    return Alert("warning", "Before you trust this", items=items)


def _response_table(analysis: Analysis) -> Table:
    deepest = max(len(means) for means in analysis.response_table.values())
    columns = (Column("Factor"), *[Column(f"Level {i + 1}", "right") for i in range(deepest)],
               Column("Effect", "right"), Column("Rank", "right"))  # fmt: skip
    rows = [
        (
            name,
            *[_level_cell(analysis, name, i) for i in range(deepest)],
            f"{analysis.effects[name]:.3f}",
            analysis.ranks[name],
        )
        for name in analysis.response_table
    ]
    note = "Mean ratio of the rows at each level."
    return Table("Response table", columns, tuple(rows), (note,))


def _level_cell(analysis: Analysis, name: str, index: int) -> Cell | None:
    means = analysis.response_table[name]
    mean = means[index] if index < len(means) else None
    if mean is None:
        return None
    level, best = analysis.level_names[name][index], analysis.best_levels[name] == index + 1
    return Cell(f"{mean:.3f}", f"{level}, best" if best else level, "good" if best else "")


def _anova_table(analysis: Analysis) -> Table:
    anova = analysis.anova
    titles = ("Factor", "Sum of squares", "df", "Mean square", "F", "p", "Share %")
    columns = tuple(Column(title, "left" if i == 0 else "right") for i, title in enumerate(titles))
    rows = [*anova.rows, *anova.pooled, anova.error, anova.total]
    pooled = {row.factor for row in anova.pooled}
    notes = ("Pooled factors count as error.",) if pooled else ()
    return Table("Analysis of variance", columns, tuple(_anova_row(row, pooled) for row in rows), notes)


def _anova_row(row: AnovaRow, pooled: set[str]) -> tuple[str | None, ...]:
    def number(value: float | None, form: str) -> str | None:
        return None if value is None else format(value, form)

    return (
        f"{row.factor} (pooled)" if row.factor in pooled else row.factor,
        number(row.sum_of_squares, ".4g"),
        str(row.df),
        None if row.factor == "total" else number(row.mean_square, ".4g"),
        number(row.f, ".2f"),
        number(row.p, ".4f"),
        number(row.contribution_percent, ".1f"),
    )


def _prediction(analysis: Analysis) -> KeyValues:
    found, unit = analysis.prediction, analysis.signal.signal.unit
    unit = f" {unit}" if unit else ""
    levels = ", ".join(f"{name} = {analysis.level_names[name][i - 1]}" for name, i in found.levels.items())
    interval = (
        "no interval: the error has no degree of freedom"
        if found.low is None
        else f"{100 * analysis.confidence:g}% interval {found.low:.2f} to {found.high:.2f}"
    )
    facts = [
        Fact("Best levels", levels),
        Fact("Predicted there", f"{found.value:.2f}{unit} ({interval})"),
    ]
    if found.confirmed is not None:
        inside = found.confirmed_as_predicted
        said = "" if inside is None else f", {'inside' if inside else 'outside'} what a new row should give"
        facts.append(Fact("Confirmed there", f"{found.confirmed:.2f}{unit}{said}"))
    if sizes := analysis.describe_sizes():
        facts.append(Fact("In its own unit", sizes))
    return KeyValues(tuple(facts), "Predicted optimum")
