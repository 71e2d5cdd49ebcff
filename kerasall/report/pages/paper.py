"""A paper's tables and figures in its own layout, each cell with the figure of a run beside what was printed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kerasall.published.papers import Flag, Paper, PrintedFigure, Table
from kerasall.report.page import Page, Picture, Section, render_section

_DECIMALS = re.compile(r"\.(\d+)")
_LONGEST = 400
"""Characters of a text in a cell; of a longer one the table for programs has the rest."""
_WORDS = 30
"""Characters from which on a cell is a text, whose lines may break."""
_LIST = 100
"""Characters from which on it wants a wide column."""
_ROUGH_END = "the interval is rough"
_ROUGH = f"few groups have images that count here: {_ROUGH_END}"
"""In the place of notes that tell how few, which differ from cell to cell; the table for programs has them."""
_SIDE_BY_SIDE = 3
"""Columns up to which a cell's three parts stand beside one another on a large screen."""
FOOTER = "Written by kerasall. For research use only: not a diagnostic device. The same cells for programs: tables.csv."


@dataclass(frozen=True)
class FilledCell:
    """What was printed, and ours beside it.

    Attributes:
        published: as it was printed; "" where a row is ours alone.
        key: of our figure; "" where none belongs there.
        value, low, high: our figure, a share for a share, and its interval; None where there is none.
        reason: why there is none, or what must be known of it.
        flag: what is wrong with the printed one.
    """

    published: str
    key: str = ""
    value: float | int | str | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    flag: Flag | None = None


@dataclass(frozen=True)
class FilledRow:
    """A row; ``printed`` is false of a member of the run that the paper does not print."""

    name: tuple[str, ...]
    cells: tuple[FilledCell, ...]
    printed: bool = True


@dataclass(frozen=True, eq=False)
class FilledTable:
    """A printed table with ours in every cell; ``facts`` are sentences on what it lists."""

    table: Table
    rows: tuple[FilledRow, ...]
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FilledFigure:
    """A printed figure and what stands beside it.

    Attributes:
        figure: what was printed.
        plots: pictures, each with its caption.
        gallery: images as ``m.gallery`` takes them: picture, title, text, tone.
        reason: why nothing stands there.
    """

    figure: PrintedFigure
    plots: Sequence[tuple[Picture, str]] = ()
    gallery: Sequence[Mapping[str, Any]] = ()
    reason: str = ""


@dataclass(frozen=True)
class Background:
    """What the page says besides.

    Attributes:
        run: name of the run.
        protocol: of the run, ``honest`` or ``faithful``.
        scored: what ours was scored on, in a sentence.
        scored_briefly: the same in a few words, for every table.
        facts: label -> value, under the title.
    """

    run: str
    protocol: str
    scored: str
    scored_briefly: str
    facts: Mapping[str, str]


def make_paper_page(
    paper: Paper, tables: Sequence[FilledTable], figures: Sequence[FilledFigure], background: Background
) -> Page:
    """The page of a paper beside a run."""
    return Page(
        title=f"{paper.authors}: printed and ours",
        subtitle=f"{paper.title}. {paper.printed_in}. Every table and figure in the paper's own order, with the run "
        f"{background.run} beside it.",
        protocol=background.protocol,
        facts=background.facts,
        sections=(
            render_section("paper_key", paper=paper, scored=background.scored, flags=sum(len(t.table.flags) for t in tables)),
            *(_table_section(each, background) for each in tables),
            *(_figure_section(each, background) for each in figures),
        ),
        kicker="kerasall · a paper beside a run",
        footer=FOOTER,
    )  # fmt: skip


def _table_section(found: FilledTable, background: Background) -> Section | None:
    table, notes = found.table, _Notes()
    rows = [_lay_out_row(found, row, notes) for row in found.rows]
    made = render_section(
        "paper_table", t=table, scored=background.scored_briefly, heads=head_rows(table), rows=_merge_heads(rows),
        stacked=len(table.columns) > _SIDE_BY_SIDE, facts=found.facts, notes=notes.lines(),
        flags=[(" / ".join((*flag.row, *flag.column)), flag) for flag in table.flags],
    )  # fmt: skip
    return made and replace(made, id=_anchor(table.name))


def _figure_section(found: FilledFigure, background: Background) -> Section | None:
    figure = found.figure
    made = render_section(
        "paper_figure",
        f=figure,
        plots=found.plots,
        gallery=found.gallery,
        reason=found.reason,
        scored=background.scored_briefly,
    )
    return made and replace(made, id=_anchor(figure.name))


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


class _Notes:
    """Reasons below a table, each once, numbered in the order in which cells ask for them."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, reason: str) -> str:
        """The numbers of what a reason says, such as ``1, 3``; "" where it says nothing."""
        told = dict.fromkeys(
            _ROUGH if each.endswith(_ROUGH_END) else each for each in reason.split("; ") if each
        )
        return ", ".join(str(self._numbers.setdefault(each, len(self._numbers) + 1)) for each in told)

    def lines(self) -> list[str]:
        return list(self._numbers)


def _lay_out_row(found: FilledTable, row: FilledRow, notes: _Notes) -> dict[str, Any]:
    cells = []
    for place, cell in enumerate(row.cells):
        value, ends = format_ours(found, place, cell)
        cells.append(
            {
                "published": cell.published, "ours": value, "ends": ends, "flagged": cell.flag is not None,
                "note": notes.number(cell.reason), "kind": _kind_of(max(len(cell.published), len(value))),
            }
        )  # fmt: skip
    return {"name": row.name, "cells": cells, "printed": row.printed}


def _kind_of(length: int) -> str:
    """Style of a cell of so many characters: figures stay in one line, the lines of texts may break."""
    return "" if length <= _WORDS else "long" if length <= _LIST else "long list"


def format_ours(found: FilledTable, place: int, cell: FilledCell) -> tuple[str, str]:
    """Our figure and its interval as they stand in a cell, with the digits of its column; "" where there is none.

    Args:
        found: the table.
        place: of the column.
        cell: in it.
    """
    if not cell.key:
        return "", ""
    if cell.value is None:
        return "–", ""
    column = found.table.columns[place]
    printed = [row.cells[place].published for row in found.rows if row.printed]
    digits = max((len(each) for text in printed for each in _DECIMALS.findall(text)), default=0)
    percent = column.scale == "percent"
    sign = "%" if percent and any("%" in text for text in printed) else ""

    def write(value: float | int | str, most: int = 4) -> str:
        if isinstance(value, str):
            return _shorten(value)
        if isinstance(value, int):
            return f"{value:,}" if abs(value) >= 10_000 else str(value)
        shown, whole = (100 * value, 100) if percent else (value, 1)
        places = min(max(digits, 1 if percent else 2), most)
        # Only a perfect score reads 1, and only none reads 0.
        while places < 6 and shown not in (0, whole) and float(f"{shown:.{places}f}") in (0, whole):
            places += 1
        small = 0 < abs(shown) < 10 ** -max(digits, 4)
        return f"{shown:.3g}{sign}" if small else f"{shown:.{places}f}{sign}"

    ends = "" if cell.low is None or cell.high is None else f"{write(cell.low, 3)} to {write(cell.high, 3)}"
    return write(cell.value), ends


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rpartition(', ')[0]}, …"


def head_rows(table: Table) -> list[list[tuple[str, int, int]]]:
    """Rows of headings: text, columns and rows that each spans; those of the rows' own names first."""
    depth = max(len(column.name) for column in table.columns)
    lines: list[list[tuple[str, int, int]]] = [
        [(head, 1, depth) for head in table.heads],
        *([] for _ in range(depth - 1)),
    ]
    for level in range(depth):
        start = 0
        while start < len(table.columns):
            name = table.columns[start].name
            end = start + 1
            if level < len(name) - 1:
                while end < len(table.columns) and table.columns[end].name[: level + 1] == name[: level + 1]:
                    end += 1
            if level < len(name):
                down = depth - level if level == len(name) - 1 else 1
                lines[level].append((name[level], end - start, down))
            start = end
    return lines


def _merge_heads(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with ``heads``, pairs of a name and the rows it spans: a name that stands in rows below one another is told once."""
    merged = []
    for number, row in enumerate(rows):
        heads = []
        for level, name in enumerate(row["name"]):
            same = list(_run_length(rows, number, level))
            last = level == len(row["name"]) - 1
            begins = number == 0 or rows[number - 1]["name"][: level + 1] != row["name"][: level + 1]
            if last or begins:
                heads.append((name, 1 if last else len(same)))
        merged.append({**row, "heads": heads})
    return merged


def _run_length(rows: Sequence[dict[str, Any]], start: int, level: int) -> Iterator[int]:
    for number in range(start, len(rows)):
        if rows[number]["name"][: level + 1] != rows[start]["name"][: level + 1]:
            return
        yield number
