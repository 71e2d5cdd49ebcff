"""A designed experiment: its analysis laid out once for pages and terminal; at a terminal also its plan and its trials.

What is laid out is a document: that of ``Analysis.to_json``, and under ``experiment`` what ``describe_ratio`` adds.
The record of a search holds more there. ``templates/taguchi.html`` shows the layout on pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from kerasall.report.format import COLUMN_GAP, Row, Table, align_rows, cell, format_number, p_words
from kerasall.report.robustness import describe_noise, describe_outer_array, lay_out_noise
from kerasall.taguchi.analysis import Analysis, describe_ratio
from kerasall.taguchi.anova import TRAININGS
from kerasall.taguchi.design import CROSS, NOISE, Plan
from kerasall.taguchi.effects import Interaction

if TYPE_CHECKING:
    import pandas as pd

    from kerasall.taguchi.trial_events import TrialListing


_ANOVA = ("Source", ">Sum of squares", ">df", ">Mean square", ">F", ">p", ">Share %", ">Share less noise %")
RAW_CAPTION = "Analysis of variance of the raw responses, against run-to-run noise alone"
CROSSED_CAPTION = "Analysis of variance of the raw responses: settings, noise factors, and each of the one with each of the other"
_PAIRS_SHOWN = 12
_SHORTEST = 6
"""Characters to which a factor's column may shrink before it is left out."""


@dataclass(frozen=True)
class AnalysisLayout:
    """An analysis in the rows and sentences that every reader gets.

    Attributes:
        ratio: what is maximised.
        tables: response table, analysis of variance.
        optimum: label -> value: best levels, what is predicted and confirmed there.
        doubt: what the prediction counts on without proof; empty for nothing.
        warnings: what a reader must know before believing it.
        noise: what noise does, in sentences; none without noise factors.
        noise_tables: the same in numbers.
    """

    ratio: str
    tables: tuple[Table, ...]
    optimum: dict[str, str]
    doubt: str
    warnings: tuple[str, ...]
    noise: tuple[str, ...] = ()
    noise_tables: tuple[Table, ...] = ()


def make_document(analysis: Analysis) -> dict[str, Any]:
    """What ``lay_out`` takes, for an analysis that no search has recorded."""
    pooled = [asdict(row) for row in analysis.anova.pooled]
    return analysis.to_json() | {"pooled": pooled, "experiment": describe_ratio(analysis)}


def lay_out(found: Mapping[str, Any]) -> AnalysisLayout:
    """Lays out an analysis.

    Args:
        found: its document, with ``experiment``.
    """
    made, error = found["experiment"], found["error"]
    names = {each["name"]: each["levels"] for each in made["factors"]}
    unit = f" in {made['unit']}" if made["unit"] else ""
    ratio = f"{made['signal']}, {made['formula']}{unit}; larger is better"
    doubtful = [
        row["factor"] for row in found["anova"] if row["p"] is None or row["p"] > made["significance"]
    ]
    doubt = (
        f"It counts on {', '.join(doubtful)}, not significant here: the best of their levels is partly the luckiest, "
        "so expect a confirmation to fall short of it."
    )
    taken = (f"Taken for error: {', '.join(error['pooled'])}.",) if error["pooled"] else ()
    anova = Table("Analysis of variance of the ratios", _ANOVA, _anova_rows(found), taken)
    tables, warnings = [_response_table(found, names), anova], tuple(found["warnings"])
    if raw := found.get("raw"):
        tables.append(_raw_table(raw, made, bool(found.get("noise"))))
    doubt = doubt if doubtful else ""
    noise = (describe_noise(found), lay_out_noise(found)) if found.get("noise") else ((), ())
    return AnalysisLayout(ratio, tuple(tables), _optimum(found, names), doubt, warnings, *noise)


def _response_table(found: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> Table:
    table, best = found["response_table"], found["best_levels"]

    def mean_cell(name: str, level: int) -> dict[str, Any] | None:
        mean = table[name][level - 1] if level <= len(table[name]) else None
        tone = "good" if best[name] == level else ""
        return None if mean is None else cell(format_number(mean), names[name][level - 1], tone)

    levels = range(1, 1 + max(map(len, table.values())))
    rows: list[Row] = [(str(level), *(mean_cell(name, level) for name in table)) for level in levels]
    rows.append(("Effect", *(format_number(found["effects"][name]) for name in table)))
    rows.append(("Rank", *(_rank_words(found["ranks"], name) for name in table)))
    rows.append(("Best level", *(_level_words(names[name], best[name]) for name in table)))
    note = "Mean ratio at each level; the largest is the best. The effect is the largest less the smallest."
    return Table("Response table", ("Level", *(f">{name}" for name in table)), tuple(rows), (note,))


def _rank_words(ranks: Mapping[str, int], name: str) -> str:
    """For example ``2``, or ``2 =`` where another effect is as large."""
    return f"{ranks[name]}{' =' * (list(ranks.values()).count(ranks[name]) > 1)}"


def _level_words(names: Sequence[str], level: int) -> str:
    """For example ``adam (1)``; the number alone where the level has no name."""
    return str(level) if names[level - 1] == str(level) else f"{names[level - 1]} ({level})"


def _anova_rows(found: Mapping[str, Any]) -> tuple[Row, ...]:
    error, total = found["error"], found["total"]
    corrected = error["corrected_contribution_percent"]
    lines = [(row, row["factor"], corrected[row["factor"]]) for row in found["anova"]]
    lines += [(row, f"({row['factor']}, pooled)", None) for row in found.get("pooled", ())]
    lines += [(error, "Error", corrected["error"]), (total, "Total", total["contribution_percent"])]
    limit = found["experiment"]["significance"]
    return tuple(
        (
            name, format_number(row["sum_of_squares"]), str(row["df"]), format_number(row.get("mean_square")), format_number(row.get("f"), 2),
            None if row.get("p") is None else cell(p_words(row["p"]), tone="good" if row["p"] <= limit else ""),
            format_number(row["contribution_percent"], 2), format_number(less_noise, 2),
        )
        for row, name, less_noise in lines
    )  # fmt: skip


def _raw_table(raw: Mapping[str, Any], made: Mapping[str, Any], crossed: bool) -> Table:
    df, between = raw["error"]["df"], raw["between_df"]
    rows = _anova_rows({**raw, "experiment": made})
    if crossed:
        shared = next((row["df"] for row in raw["anova"] if row["factor"] == TRAININGS), None)
        notes = (
            "The error is the rest: interactions of noise factors with one another, of settings beyond those declared, and "
            "chance. A setting x noise line that stands out says that the setting decides how much that noise matters.",
        )
        if shared is not None:
            notes += (
                "Runs that differ only in how one trained network, or one thing made once, is scored share its chance: settings, "
                f"and noise that is trained with, are tested against the error between trainings ({shared} degrees of freedom), what lies inside "
                f"a training against the error ({df}).",
            )
        return Table(CROSSED_CAPTION, _ANOVA, rows, notes)
    notes = (
        f"The error is what the model leaves of single runs: {df - between} degrees of freedom inside rows, {between} "
        "between them. A factor that stands out here does more than another seed would; whether it does so beside other "
        "levels, or on other images, this cannot tell.",
    )
    return Table(RAW_CAPTION, _ANOVA, rows, notes)


def _optimum(found: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    made, best = found["experiment"], found["predicted"]
    own, unit = made["confirmation"], f" {made['unit']}" if made["unit"] else ""
    interval = "no interval: the error has no degree of freedom"
    if best["low"] is not None:
        level = f"{100 * made['confidence']:g}%"
        interval = f"{level} interval of the mean {best['low']:.3f} to {best['high']:.3f}"
    levels = (f"{name} = {_level_words(names[name], level)}" for name, level in best["levels"].items())
    facts = {"Best levels": ", ".join(levels), "Predicted there": f"{best['value']:.3f}{unit} ({interval})"}
    if best["confirmed"] is not None:
        runs = f" from {len(own['responses'])} runs" if own.get("responses") else ""
        facts["Confirmed there"] = f"{best['confirmed']:.3f}{unit}{runs}{_verdict(own)}"
    if (raw := found.get("raw")) and made["unit"]:
        facts["Raw responses there"] = _raw_words(raw["predicted"])
    return facts | ({"In its own unit": made["sizes"]} if made.get("sizes") else {})


def _verdict(own: Mapping[str, Any]) -> str:
    if own["as_predicted"] is None:
        return ""
    side = "inside" if own["as_predicted"] else "outside"
    expected = own.get("expected_of", "a new row")
    return f", {side} the {own['low']:.3f} to {own['high']:.3f} expected of {expected}"


def _raw_words(raw: Mapping[str, Any]) -> str:
    """The mean response predicted, and beside it that of the confirmation runs."""
    if raw["low"] is None:
        return f"{raw['value']:.4f} predicted"
    told = f"{raw['value']:.4f} predicted ({raw['low']:.4f} to {raw['high']:.4f})"
    if raw["confirmed"] is None:
        return told
    ends, runs = (raw["confirmation_low"], raw["confirmation_high"]), raw["runs"]
    side = "inside" if ends[0] <= raw["confirmed"] <= ends[1] else "outside"
    expected = "one run" if runs == 1 else f"the mean of {runs} runs"
    return f"{told}, {raw['confirmed']:.4f} confirmed, {side} the {ends[0]:.4f} to {ends[1]:.4f} expected of {expected}"


def describe_plan(plan: Plan, levels_as: str = "dummy", without: Mapping[str, Sequence[Any]] | None = None,
    pool: str | Sequence[str] = (),
) -> str:  # fmt: skip
    """Array, columns, runs, and what the design can and cannot tell.

    Args:
        plan: of the experiment.
        levels_as, without, pool: of its analysis, whose degrees of freedom are told: see ``Plan.count_freedom``.
    """
    named = () if isinstance(pool, str) else tuple(pool)
    own, error_df = plan.count_freedom(levels_as, without, named)
    freedom = ", ".join(
        f"{name} taken for error" if name in named else f"{name} {df}" for name, df in own.items()
    )
    pooled = (
        "; the smallest effects, to about half of all, are taken for error too"
        if isinstance(pool, str)
        else ""
    )
    columns = ", ".join(f"{name} {column}" for name, column in plan.columns.items())
    spare = ", ".join(map(str, plan.spare_columns)) or "none"
    held = [
        f"interaction {CROSS.join(pair)}: "
        + (f"column{'s' * (len(found) > 1)} {', '.join(map(str, found))}" if found else "beside all columns")
        for pair, found in plan.crossed.items()
    ]
    lines = [
        f"{plan.array}: {len(plan.levels)} runs; degrees of freedom: {freedom}, error {error_df}{pooled}",
        f"columns: {columns}; spare: {spare}",
        *held,
        *_table_lines(_list_runs(plan, "row")),
        "",
        describe_interactions(plan.interactions()),
    ]
    if plan.noise:
        lines += [
            "",
            describe_outer_array(plan.noise, len(plan.levels)),
            *_table_lines(_list_runs(plan.noise, "noise run"))[1:],
        ]
    return "\n".join([*lines, *(f"Warning: {text}" for text in plan.warnings(1 if pooled else error_df))])


def _list_runs(plan: Plan, number: str) -> Table:
    runs = tuple(
        (str(row), *(f"{value} ({level})" for value, level in zip(setting.values(), levels, strict=True)))
        for row, (setting, levels) in enumerate(zip(plan.settings(), plan.levels, strict=True), start=1)
    )
    return Table("", (number, *(f">{name} (level)" for name in plan.factors)), runs)


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
    lines += [line for table in laid.noise_tables for line in _table_lines(table)]
    lines += ["", *laid.noise] if laid.noise else []
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
        kind: ``place``, ``factor``, ``noise``, ``status``, ``response``, ``metric`` or ``seconds``.
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
        return self.kind not in ("factor", "noise", "status")

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

    def noise(name: str) -> TrialColumn:
        values = table[f"{NOISE}{name}"].tolist()
        known = listing.design.noise_factors[name]
        order = [float(known.index(value)) for value in values]
        return column(f"{NOISE}{name}", [str(value) for value in values], "noise", order)

    def number(name: str, kind: str, title: str = "") -> TrialColumn:
        values = [None if value != value else float(value) for value in table[name]]
        return column(name, [_number(value, kind) for value in values], kind, values, title)

    return [
        *map(place, ["trial", "row", "repeat", *(["fold"] if listing.design.folds else [])]),
        *map(factor, listing.design.plan.factors),
        *map(noise, listing.design.noise_factors),
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
