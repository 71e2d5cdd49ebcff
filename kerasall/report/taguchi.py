"""A designed experiment's analysis, laid out once for a terminal, the page of trials and the report.

What is laid out is a document: that of ``Analysis.to_json``, and under ``experiment`` what ``describe_ratio`` adds.
The record of a search holds more there. ``templates/taguchi.html`` shows the layout on pages, ``taguchi_text`` at a
terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kerasall.report.format import cell, format_number
from kerasall.taguchi.analysis import Analysis, describe_ratio

Row = tuple[str | dict[str, Any] | None, ...]
_ANOVA = ("Source", ">Sum of squares", ">df", ">Mean square", ">F", ">p", ">Share %", ">Share less noise %")


@dataclass(frozen=True)
class Table:
    """A table as the macro ``table`` takes it.

    Attributes:
        caption: above it; empty for none.
        columns: headings; one that begins with ">" stands at the right.
        rows: cells: a text, None for none, or a text with note and tone (see ``cell``). The first names the row.
        notes: below it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AnalysisLayout:
    """An analysis in the rows and sentences that every reader gets.

    Attributes:
        ratio: what is maximised.
        tables: response table, analysis of variance.
        optimum: label -> value: best levels, what is predicted and confirmed there.
        doubt: what the prediction counts on without proof; empty for nothing.
        warnings: what a reader must know before believing it.
    """

    ratio: str
    tables: tuple[Table, ...]
    optimum: dict[str, str]
    doubt: str
    warnings: tuple[str, ...]


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
    return AnalysisLayout(
        ratio=ratio,
        tables=(
            _response_table(found, names),
            Table("Analysis of variance of the ratios", _ANOVA, _anova_rows(found), taken),
        ),
        optimum=_optimum(found, names),
        doubt=doubt if doubtful else "",
        warnings=tuple(found["warnings"]),
    )


def _response_table(found: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> Table:
    table, best = found["response_table"], found["best_levels"]

    def mean_cell(name: str, level: int) -> dict[str, Any] | None:
        mean = table[name][level - 1] if level <= len(table[name]) else None
        tone = "good" if best[name] == level else ""
        return None if mean is None else cell(format_number(mean), names[name][level - 1], tone)

    levels = range(1, 1 + max(map(len, table.values())))
    rows: list[Row] = [(str(level), *(mean_cell(name, level) for name in table)) for level in levels]
    rows.append(("Effect", *(format_number(found["effects"][name]) for name in table)))
    rows.append(("Rank", *(str(found["ranks"][name]) for name in table)))
    rows.append(("Best level", *(_level_words(names[name], best[name]) for name in table)))
    note = "Mean ratio at each level; the largest is the best. The effect is the largest less the smallest."
    return Table("Response table", ("Level", *(f">{name}" for name in table)), tuple(rows), (note,))


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
            None if row.get("p") is None else cell(format_number(row["p"]), tone="good" if row["p"] <= limit else ""),
            format_number(row["contribution_percent"], 2), format_number(less_noise, 2),
        )
        for row, name, less_noise in lines
    )  # fmt: skip


def _optimum(found: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    made, best = found["experiment"], found["predicted"]
    own, unit = made["confirmation"], f" {made['unit']}" if made["unit"] else ""
    interval = "no interval: the error has no degree of freedom"
    if best["low"] is not None:
        level = f"{100 * made['confidence']:g}%"
        interval = f"{level} interval of the mean {best['low']:.3f} to {best['high']:.3f}"
    levels = (f"{name} = {_level_words(names[name], level)}" for name, level in best["levels"].items())
    facts = {
        "Best levels": ", ".join(levels),
        "Predicted there": f"{best['value']:.3f}{unit} ({interval})",
    }
    if best["confirmed"] is not None:
        runs = f" from {len(own['responses'])} runs" if own.get("responses") else ""
        facts["Confirmed there"] = f"{best['confirmed']:.3f}{unit}{runs}{_verdict(own)}"
    return facts | ({"In its own unit": made["sizes"]} if made.get("sizes") else {})


def _verdict(own: Mapping[str, Any]) -> str:
    if own["as_predicted"] is None:
        return ""
    side = "inside" if own["as_predicted"] else "outside"
    return f", {side} the {own['low']:.3f} to {own['high']:.3f} expected of a new row"
