"""A listing of trials as a page: table, drawings, and what the analysis says."""

from __future__ import annotations

from collections.abc import Sequence

from kerasall.evaluation.figure_style import figure_to_svg
from kerasall.evaluation.report_document import (
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
from kerasall.evaluation.trial_drawings import (
    Drawing,
    DrawnTrial,
    draw_learning_curves,
    draw_parallel_coordinates,
)
from kerasall.evaluation.trial_page import PageCell, PageColumn, PageRow, TrialPage
from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.anova import AnovaRow
from kerasall.taguchi.figures import draw_analysis
from kerasall.taguchi.trial_listing import TrialListing
from kerasall.taguchi.trial_wording import TrialColumn, list_columns

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
