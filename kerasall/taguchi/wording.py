"""Plans and analyses as plain text, for people at a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.anova import AnovaRow
from kerasall.taguchi.design import Plan
from kerasall.taguchi.effects import Interaction

_PAIRS_SHOWN = 12


def describe_plan(plan: Plan) -> str:
    """Array, columns, runs, and what the design can and cannot tell."""
    rows = [
        [str(index + 1), *[f"{value} ({level})" for value, level in zip(setting.values(), row, strict=True)]]
        for index, (row, setting) in enumerate(zip(plan.levels, plan.settings(), strict=True))
    ]
    lines = [
        f"{plan.array}: {len(plan.levels)} runs; degrees of freedom: "
        + ", ".join(f"{name} {df}" for name, df in plan.degrees_of_freedom.items())
        + f", error {plan.error_df}",
        "columns: " + ", ".join(f"{name} {column}" for name, column in plan.columns.items())
        + f"; spare: {', '.join(map(str, plan.spare_columns)) or 'none'}",
        "",
        *_aligned([["row", *[f"{name} (level)" for name in plan.factors]], *rows]),
        "",
        describe_interactions(plan.interactions()),
    ]  # fmt: skip
    return "\n".join([*lines, *[f"Warning: {text}" for text in plan.warnings()]])


def describe_interactions(interactions: Sequence[Interaction]) -> str:
    """Which interactions can be estimated, and with what the others are aliased."""
    if not interactions:
        return "With one factor there is no interaction."
    clear = [str(i) for i in interactions if i.estimable]
    aliased = [i for i in interactions if not i.estimable]
    if not aliased:
        return f"Every interaction of two factors can be estimated: {', '.join(clear)}."
    shown = [f"  {i}: {_reason(i)}" for i in aliased[:_PAIRS_SHOWN]]
    if len(aliased) > _PAIRS_SHOWN:
        shown.append(f"  and {len(aliased) - _PAIRS_SHOWN} more")
    can = f"Interactions that can be estimated: {', '.join(clear)}." if clear else ""
    head = "Interactions that cannot be estimated (if present, they disturb what they are aliased with):"
    return "\n".join([*([can] if can else []), head, *shown])


def _reason(interaction: Interaction) -> str:
    if not interaction.complete:
        return "not every pair of levels is run"
    names = interaction.aliased_with
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f"aliased with {', '.join(names[:6])}{more}"


def describe_analysis(analysis: Analysis) -> str:
    """Response table, analysis of variance, prediction, warnings."""
    unit = analysis.signal.signal.unit
    sections = [
        f"Signal: {analysis.signal}, {analysis.signal.signal.formula}{f' in {unit}' if unit else ''}; "
        "larger is better",
        "Response table (mean of the ratio at each level)",
        *_response_lines(analysis),
        "",
        "Analysis of variance",
        *_anova_lines(analysis),
        "",
        *_prediction_lines(analysis),
        *[f"Warning: {text}" for text in analysis.warnings],
    ]
    return "\n".join(sections)


def _response_lines(analysis: Analysis) -> list[str]:
    table = analysis.response_table
    deepest = max(len(means) for means in table.values())
    rows = [["level", *table]]
    for level in range(deepest):
        means = [column[level] if level < len(column) else None for column in table.values()]
        rows.append([str(level + 1), *[_number(mean) for mean in means]])
    rows.append(["effect", *[_number(effect) for effect in analysis.effects.values()]])
    rows.append(["rank", *[str(rank) for rank in analysis.ranks.values()]])
    rows.append(["best level", *[_level(analysis, name) for name in table]])
    return _aligned(rows)


def _level(analysis: Analysis, name: str) -> str:
    number = analysis.best_levels[name]
    text = analysis.level_names[name][number - 1]
    return text if text == str(number) else f"{number} ({text})"


def _anova_lines(analysis: Analysis) -> list[str]:
    anova = analysis.anova
    head = ["factor", "sum of squares", "df", "mean square", "F", "p", "share %", "share less noise %"]
    rows = [head, *[_anova_cells(row) for row in anova.rows]]
    rows += [_anova_cells(row, f"({row.factor}, pooled)") for row in anova.pooled]
    return _aligned([*rows, _anova_cells(anova.error), _anova_cells(anova.total)])


def _anova_cells(row: AnovaRow, name: str | None = None) -> list[str]:
    return [
        name or row.factor,
        _number(row.sum_of_squares),
        str(row.df),
        "" if row.factor == "total" else _number(row.mean_square),
        _number(row.f, 2),
        _number(row.p, 4),
        _number(row.contribution_percent, 2),
        "" if name else _number(row.corrected_contribution_percent, 2),
    ]


def _prediction_lines(analysis: Analysis) -> list[str]:
    found, unit = analysis.prediction, analysis.signal.signal.unit
    unit = f" {unit}" if unit else ""
    where = ", ".join(f"{name} = {_level(analysis, name)}" for name in found.levels)
    interval = (
        "no interval: the error has no degree of freedom"
        if found.low is None
        else f"{100 * analysis.confidence:g}% interval {found.low:.2f} to {found.high:.2f}"
    )
    lines = [f"Predicted at {where}: {found.value:.2f}{unit} ({interval})"]
    if found.confirmed is not None:
        lines.append(f"Confirmed there: {found.confirmed:.2f}{unit}" + _verdict(analysis))
    if sizes := analysis.describe_sizes():
        lines.append(f"In the responses' own unit, {sizes}")
    doubtful = [row.factor for row in analysis.anova.rows if row.p is None or row.p > analysis.significance]
    if doubtful:
        lines.append(
            f"It counts on {', '.join(doubtful)}, not significant here: the best of their levels is partly the "
            "luckiest, so expect a confirmation to fall short of it"
        )
    return lines


def _verdict(analysis: Analysis) -> str:
    found = analysis.prediction
    if found.confirmed_as_predicted is None:
        return ""
    side = "inside" if found.confirmed_as_predicted else "outside"
    return f", {side} the {found.confirmation_low:.2f} to {found.confirmation_high:.2f} expected of a new row"


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
