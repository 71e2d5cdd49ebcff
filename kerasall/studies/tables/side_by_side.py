"""A paper beside a run: every table filled with our figures, every figure with our pictures, as a page and a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kerasall.csv_tables import write_csv
from kerasall.errors import SettingsError, count_of
from kerasall.files import write_text
from kerasall.published.papers import Column, Paper, Row, Table, find_paper, papers, read_paper
from kerasall.report.evidence import GROUP_KINDS, SCORED
from kerasall.report.page import render_page
from kerasall.report.pages.paper import (
    Background,
    FilledCell,
    FilledFigure,
    FilledRow,
    FilledTable,
    make_paper_page,
)
from kerasall.studies.finished_run import Run
from kerasall.studies.tables import look_up
from kerasall.studies.tables.listed import describe_listed
from kerasall.studies.tables.member_rows import (
    OF_MEMBER,
    find_levels,
    find_unprinted,
    list_member_rows,
    most_members,
)
from kerasall.studies.tables.parts import Drawn
from kerasall.studies.tables.pictures import NEEDS_MODEL, draw
from kerasall.studies.tables.scored import Scored, read_scored
from kerasall.studies.tables.trials import read_experiment

PAGE, TABLE = "tables.html", "tables.csv"
SCHEMA_VERSION = 1
"""Of the JSON document."""
_UNPRINTED = "not printed"
"""In the cells of a row that is ours alone."""


@dataclass(frozen=True, eq=False)
class SideBySide:
    """A paper beside a run.

    Attributes:
        run, paper: what stands beside what.
        tables, figures: in the paper's order.
        folder: of tables.html and tables.csv.
    """

    run: Run
    paper: Paper
    tables: tuple[FilledTable, ...]
    figures: tuple[FilledFigure, ...]
    folder: Path

    def write(self, excel: bool = False) -> None:
        """Writes the page and the table of all cells, each atomically.

        Args:
            excel: begin the table with a byte order mark, by which Excel knows it for UTF-8.
        """
        page = make_paper_page(self.paper, self.tables, self.figures, self._background())
        write_text(self.folder / PAGE, render_page(page, "paper.html"))
        # Of objects, so that a count stays one beside shares and cells without a figure.
        write_csv(pd.DataFrame(list(self.list_cells()), dtype=object), self.folder / TABLE, excel=excel)

    def list_cells(self) -> Iterator[dict[str, Any]]:
        """Every cell: paper, table, row, column, published, ours, low, high, reason, flag; shares as shares."""
        for found in self.tables:
            for row in found.rows:
                for column, cell in zip(found.table.columns, row.cells, strict=True):
                    flag = cell.flag
                    wrong = (
                        f"{flag.because}{f'; likely {flag.likely}' if flag.likely else ''}" if flag else ""
                    )
                    yield {
                        "paper": self.paper.pipeline, "table": found.table.name, "row": " / ".join(filter(None, row.name)),
                        "column": " / ".join(column.name), "published": cell.published, "ours": cell.value,
                        "low": cell.low, "high": cell.high, "reason": cell.reason, "flag": wrong,
                    }  # fmt: skip

    def describe(self) -> list[str]:
        """What was found, in lines for a terminal."""
        cells = [cell for each in self.tables for row in each.rows for cell in row.cells if cell.key]
        filled, flags = (
            sum(cell.value is not None for cell in cells),
            sum(len(t.table.flags) for t in self.tables),
        )
        drawn = sum(bool(each.plots or each.gallery) for each in self.figures)
        return [
            f"{self.paper.authors}, {self.paper.printed_in}",
            f"{count_of(len(self.tables), 'table')}: ours stands beside {filled:,} of {len(cells):,} cells that have a figure; "
            f"{count_of(flags, 'printed cell is', 'printed cells are')} flagged",
            f"{count_of(len(self.figures), 'figure')}: ours stands beside {drawn}",
            *([] if filled == len(cells) else ["why there is no figure of ours is said below each table"]),
        ]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        figures = [
            {
                "figure": each.figure.name, "kind": each.figure.ours, "pictures": len(each.plots) + len(each.gallery),
                "note": each.figure.note, "reason": each.reason,
            }
            for each in self.figures
        ]  # fmt: skip
        facts = [{"table": each.table.name, "fact": fact} for each in self.tables for fact in each.facts]
        return {
            "schema_version": SCHEMA_VERSION, "run": self.run.name, "paper": self.paper.pipeline, "authors": self.paper.authors,
            "scored": self.run.scored, "cells": list(self.list_cells()), "figures": figures, "facts": facts,
            "page": str(self.folder / PAGE), "table": str(self.folder / TABLE),
        }  # fmt: skip

    def _background(self) -> Background:
        scored, settings = read_scored(self.run), self.run.settings
        facts = {
            "Run": self.run.name,
            "Data": scored.facts.source,
            "Classes": ", ".join(scored.classes),
            "Verdict": self.run.words.get("verdict", ""),
        }
        return Background(
            self.run.name, str(settings.get("protocol", "honest")), *describe_scored(self.run, scored),
            {label: value for label, value in facts.items() if value},
        )  # fmt: skip


def describe_scored(run: Run, scored: Scored) -> tuple[str, str]:
    """What the figures of a run are of: in a sentence, and in a few words."""
    groups = f"{scored.scorer.units.groups:,} {GROUP_KINDS[scored.facts.subject_kind]}"
    over = groups if scored.scorer.groups_known else "single images"
    images, what = f"{len(scored.predictions):,} images", SCORED.get(scored.kind, scored.kind)
    if apart := run.evaluated.get("apart"):
        images += f" ({len(scored.predictions) - apart['images']:,} of patients who were trained on)"
    protocol = run.settings.get("protocol", "honest")
    whole = f"{images} of {over}: {what}. Data: {scored.facts.source}; protocol: {protocol}."
    if (made := read_experiment(run)) and made.whose:
        whole += f" Responses of the designed experiment are {made.whose}."
    compared = (run.evaluated.get("combinations") or {}).get("compared_on", scored.kind)
    if compared != scored.kind:  # a sweep or classifiers: what is exported alone was scored on those images
        whole += f" Combinations stand below as they are compared, on {compared} images."
        return whole, f"{compared} images ({protocol} protocol; data: {scored.facts.source})"
    return whole, f"{images} of {over} ({scored.kind}, {protocol} protocol; data: {scored.facts.source})"


def choose_paper(run: Run, text: str | None) -> Paper:
    """The paper to set beside a run.

    Args:
        run: a finished one.
        text: name of the paper's pipeline or of an author; None for the paper that the run's own pipeline rebuilds.

    Raises:
        SettingsError: there is no such paper, or the run's pipeline rebuilds none.
    """
    if text is not None:
        return find_paper(text)
    name = paper_of(run)
    if not name:
        raise SettingsError(
            f"the run {run.name} must be of a system that rebuilds a paper, but its pipeline is "
            f"{run.settings.get('pipeline', 'unknown')}: say which paper stands beside it, as --paper {next(iter(papers()))} "
            f"(there are {', '.join(papers())})"
        )
    return read_paper(name)


def paper_of(run: Run) -> str:
    """The pipeline of the paper that a run rebuilds; "" where it rebuilds none."""
    name = Path(str(run.settings.get("pipeline", ""))).stem
    return name if name in papers() else ""


def describe_paper(run: Run) -> dict[str, str]:
    """For the last lines of a run: how to set it beside the paper that it rebuilds; {} where it rebuilds none."""
    name = paper_of(run)
    if not name:
        return {}
    paper = read_paper(name)
    counts = f"{count_of(len(paper.tables), 'table')} and {count_of(len(paper.figures), 'figure')}"
    return {"paper": f"{paper.authors}; `kerasall tables {run.name}` sets its {counts} beside this run"}


def set_beside(run: Run, paper: Paper, folder: Path | None = None, maps: bool = True) -> SideBySide:
    """Fills every table and figure of a paper from a run.

    Args:
        run: a finished one.
        paper: to set it beside.
        folder: of what is written; by default the run's own.
        maps: whether to draw where the exported model sees its calls, where the paper does. Loads TensorFlow.

    Raises:
        ArtifactError: the run has not been evaluated, or its artifacts are gone or were changed.
    """
    unprinted, most = find_unprinted(run, paper), most_members(paper)
    tables = tuple(fill_table(run, table, unprinted, most) for table in paper.tables)
    figures = tuple(
        FilledFigure(each, made.plots, made.gallery, made.reason)
        for each in paper.figures
        for made in [_draw(run, each.ours, maps)]
    )
    return SideBySide(run, paper, tables, figures, folder or run.folder)


def _draw(run: Run, key: str, maps: bool) -> Drawn:
    if not maps and key.split("/")[0] in NEEDS_MODEL:
        return Drawn(reason="it was not asked for (--no-maps)")
    return draw(run, key)


def fill_table(run: Run, table: Table, unprinted: Sequence[str] = (), most: int = 0) -> FilledTable:
    """A printed table with the run's figures in its cells.

    Args:
        run: a finished one.
        table: as printed.
        unprinted: members of the run that stand in no table of the paper: they follow the last member.
        most: members that a table must print for that, in rows of their own: one of the first three is no place for them.
    """
    follows: dict[int, list[FilledRow]] = {}
    for members in list_member_rows(table).values():
        if len(members) >= most:
            block, levels = list(members.values())[-1], find_levels(table, members)
            follows[block[-1]] = [
                _fill_unprinted(run, table, table.rows[number], levels, name)
                for name in unprinted
                for number in block
            ]
    rows = [
        row
        for number, printed in enumerate(table.rows)
        for row in [_fill_row(run, table, printed), *follows.get(number, [])]
    ]
    return FilledTable(table, tuple(rows), describe_listed(run, table))


def _fill_unprinted(run: Run, table: Table, like: Row, levels: Sequence[int], member: str) -> FilledRow:
    """A row of ours alone, as that of another member: its name stands at the last of ``levels``, where others have a number."""
    own = {level: member if level == levels[-1] else "" for level in levels}
    name = tuple(own.get(number, each) for number, each in enumerate(like.name))
    ours = OF_MEMBER.sub(rf"\g<1>{member}", like.ours, count=1)
    return _fill_row(run, table, Row(name=name, ours=ours, cells=(_UNPRINTED,) * len(like.cells)), False)


def _fill_row(run: Run, table: Table, row: Row, printed: bool = True) -> FilledRow:
    return FilledRow(
        row.name,
        tuple(
            _fill_cell(run, table, row, each, text)
            for each, text in zip(table.columns, row.cells, strict=True)
        ),
        printed,
    )


def _fill_cell(run: Run, table: Table, row: Row, column: Column, text: str) -> FilledCell:
    key = table.key(row, column)
    ours = look_up(run, key)
    return FilledCell(
        "" if text == _UNPRINTED else text,
        key,
        ours.value,
        ours.low,
        ours.high,
        ours.reason,
        table.flag(row, column),
    )
