"""What the papers printed: tables and figures as they stand there, and which figure of ours stands beside each cell.

One file a paper, ``<pipeline>.yaml``. A cell is kept as it was printed ("0.7160", "84.73%"), in the row it was printed in.
Beside it stands the figure of ours whose key the table, its row and its column make together: ``member/1`` and
``accuracy`` give ``member/1/accuracy``, and ``images/{column}/{row}`` with ``all`` and ``test`` gives ``images/test/all``. What the first word of a key means is known where our figures are looked up
(``kerasall/studies/tables/``); a row or column without a key has none of ours beside it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kerasall.errors import SettingsError, did_you_mean
from kerasall.settings.base import Strict
from kerasall.settings.yaml_text import read_yaml

_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_BAR = re.compile(r"\s*\|\s*")
_WORD = re.compile(r"[^\W\d]{3,}")


class Column(Strict):
    """A column of a printed table.

    ``name`` is its heading, from the outermost down where there are several; ``ours`` the end of the keys of its cells, or
    their own form with ``{row}`` and ``{first}``, the row's first word, where the table's does not hold in this column;
    ``scale`` whether it prints shares or per cent of them.
    """

    name: tuple[str, ...]
    ours: str = ""
    scale: Literal["share", "percent"] = "share"


class Row(Strict):
    """A row of a printed table.

    ``name`` is what stands before its cells, one a heading of ``Table.heads``; ``ours`` the middle of the keys of its
    cells; ``cells`` what was printed, one a column, with bars between.
    """

    name: tuple[str, ...]
    ours: str = ""
    cells: tuple[str, ...]

    @field_validator("cells", mode="before")
    @classmethod
    def _split(cls, cells: Any) -> Any:
        """Cells as one line of text: what is printed stays what was printed."""
        return tuple(_BAR.split(str(cells).strip())) if isinstance(cells, str | int | float) else cells


class Flag(Strict):
    """A cell that cannot be, or is misprinted: where it stands, what was printed, why not, and what it may have been."""

    row: tuple[str, ...]
    column: tuple[str, ...]
    because: str
    likely: str = ""


class Listed(Strict):
    """Images that a column lists by the names of their files: those that the paper's system called wrongly.

    ``part`` is the part of the data whose file names they are, ``images`` how many it has in all, ``fact`` what follows from
    them, for a reader who does not have those images.
    """

    part: str
    images: int
    column: tuple[str, ...]
    fact: str


class Table(Strict):
    """A printed table.

    ``protocol`` says how its figures were made, where ours are made otherwise: it stands above the table. ``ours`` is the
    beginning of the keys of its cells, or their form with ``{row}`` and ``{column}`` in the places of the other two.
    ``note`` is what a reader should know besides.
    """

    name: str
    title: str
    protocol: str = ""
    note: str = ""
    ours: str = ""
    heads: tuple[str, ...] = ("",)
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    flags: tuple[Flag, ...] = ()
    listed: Listed | None = None

    @model_validator(mode="after")
    def _require_whole(self) -> Table:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(
                    f"row {' / '.join(row.name)} of {self.name} must have {len(self.columns)} cells, but has {len(row.cells)}"
                )
            if len(row.name) != len(self.heads):
                raise ValueError(
                    f"row {' / '.join(row.name)} of {self.name} must have {len(self.heads)} names, but has {len(row.name)}"
                )
        rows, columns = {row.name for row in self.rows}, {column.name for column in self.columns}
        for flag in self.flags:
            if flag.row not in rows or flag.column not in columns:
                raise ValueError(
                    f"a flag of {self.name} must name a cell, but {flag.row}, {flag.column} is none"
                )
        if self.listed and self.listed.column not in columns:
            raise ValueError(f"listed of {self.name} must name a column, but {self.listed.column} is none")
        return self

    def key(self, row: Row, column: Column) -> str:
        """The key of our figure beside a cell; "" where there is none, or where nothing was printed."""
        if not (row.ours and column.ours and row.cells[self.columns.index(column)]):
            return ""
        form = column.ours if "{" in column.ours else self.ours
        if "{" in form:
            return form.format(row=row.ours, column=column.ours, first=row.ours.partition("/")[0])
        return "/".join(part for part in (self.ours, row.ours, column.ours) if part)

    def flag(self, row: Row, column: Column) -> Flag | None:
        """What is wrong with a cell; None where it can be."""
        return next((flag for flag in self.flags if (flag.row, flag.column) == (row.name, column.name)), None)


class PrintedFigure(Strict):
    """A printed figure: ``ours`` says which picture of a run stands beside it, "" that there is none to compare."""

    name: str
    title: str
    ours: str = ""
    protocol: str = ""
    note: str = ""


class Paper(Strict):
    """A paper: who wrote it, how it came to its figures in a sentence, and what it printed.

    ``malignant`` and ``benign`` are its words for the classes; of four stages ``malignant`` holds several.
    """

    title: str
    authors: str
    printed_in: str
    pipeline: str
    protocol: str
    malignant: tuple[str, ...]
    benign: tuple[str, ...]
    tables: tuple[Table, ...]
    figures: tuple[PrintedFigure, ...] = Field(default=())


def papers() -> dict[str, Path]:
    """Pipeline -> file of the paper that it rebuilds."""
    return {file.stem: file for file in sorted(Path(__file__).parent.glob("*.yaml"))}


@cache
def read_paper(pipeline: str) -> Paper:
    """What the paper printed that a pipeline rebuilds.

    Raises:
        SettingsError: there is no such paper.
    """
    there = papers()
    if pipeline not in there:
        cure = did_you_mean(pipeline, there, f"there are {', '.join(there)}")
        raise SettingsError(f"a paper must be one that kerasall rebuilds, but is {pipeline!r}: {cure}")
    return Paper.model_validate(read_yaml(there[pipeline]))


def find_paper(text: str) -> Paper:
    """The paper that a person means: by the pipeline that rebuilds it, or by the name of one of its authors.

    Raises:
        SettingsError: none is so called, or several.
    """
    if text in papers():
        return read_paper(text)
    found = [each for each in map(read_paper, papers()) if text.lower() in _names(each)]
    if len(found) == 1:
        return found[0]
    known = "; ".join(f"{name} ({read_paper(name).authors})" for name in papers())
    wrong = f"means {' and '.join(each.pipeline for each in found)}" if found else "is none"
    raise SettingsError(f"--paper must name one of {known}, but {text!r} {wrong}")


def _names(paper: Paper) -> list[str]:
    return [word.lower() for word in _WORD.findall(paper.authors) if word != "and"]


def printed_number(cell: str) -> float | None:
    """The first number of a cell as printed, per cent as per cent; None where there is none ("adam", "-")."""
    found = _NUMBER.search(cell.replace("−", "-"))
    return float(found[0].replace(",", "")) if found else None
