"""The rows: what each is for, which config and data make it, and what its result depends on.

A row is a file ``rows/NAME.yaml``. It runs ``configs/NAME.yaml``, an ordinary config of kerasall, or the config that it
names among those that come with kerasall. A study is a module ``NAME.py`` of this folder with a command line of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError, model_validator

from kerasall.errors import SettingsError, did_you_mean, first_fault
from kerasall.published.papers import find_paper
from kerasall.settings.base import Positive, Strict
from kerasall.settings.shipped import shipped_files
from kerasall.settings.yaml_text import read_yaml

FOLDER = Path(__file__).parent
"""Of the rows that are shipped, and of what they gave."""

DATA = ("cnmc", "aria", "labels")
"""What a row may need; the option that says where it lies is called the same."""


class Printed(Strict):
    """The printed cell that a row's score stands beside, as ``kerasall/published/`` holds it."""

    table: str
    """such as `Table 4`"""
    row: str
    """its names, with ` / ` between"""
    column: str
    """likewise"""
    metric: str = ""
    """of ours; "": the main one"""


class Row(Strict):
    """One row, as its file states it."""

    name: str
    says: str
    """what the row is for, in one sentence"""
    data: Literal["cnmc", "aria", "rendered", ""] = ""
    """which images it needs; of a study its arguments say so"""
    minutes: Positive
    """about how long it takes on two cores"""
    command: Literal["run", "tune", "study"] = "run"
    """the command of kerasall, or `study`: a module of this folder"""
    config: str = ""
    """a config that comes with kerasall; "": configs/NAME.yaml"""
    repeats: Positive = 1
    """seeds"""
    paper: str = ""
    """the pipeline that rebuilds the paper it stands beside"""
    printed: Printed | None = None
    """of that paper"""
    departures: tuple[str, ...] = ()
    """what is smaller than in the paper or the shipped config, or otherwise, beside the config's own `departures`"""
    chosen: str = ""
    """what was chosen on the scored images; "": nothing"""
    arguments: str = ""
    """of a study: what its command line is given, with the words CNMC, ARIA, WEIGHTS, LABELS and RUNS for places"""

    @model_validator(mode="after")
    def _require_whole(self) -> Row:
        if self.is_study:
            if not self.arguments or self.data or self.config or self.repeats > 1 or self.printed:
                raise ValueError("a study needs arguments, and has no data, config, repeats or printed")
        elif self.arguments or not self.data:
            raise ValueError("run and tune need data, and have no arguments")
        if self.command == "tune" and self.repeats > 1:
            raise ValueError("repeats belong to command: run; a designed experiment states its own")
        if self.printed and not self.paper:
            raise ValueError("printed needs paper")
        return self

    @property
    def is_study(self) -> bool:
        """Whether it is a module of this folder, and no run."""
        return self.command == "study"

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of ``Places`` that its images and tables lie at."""
        named = [name for name in DATA if re.search(rf"\b{name.upper()}\b", self.arguments)]
        return tuple(named) if self.is_study else () if self.data == "rendered" else (self.data,)


@dataclass(frozen=True)
class Places:
    """Where things lie on this machine; none of these paths may enter a result.

    Attributes:
        runs: folder of runs.
        folder: of rows, configs and results.
        cnmc, aria: folders of images; None where they are not given.
        labels: C-NMC's table of labels of the preliminary part; None likewise.
        weights: folder of pretrained weights; None likewise.
    """

    runs: Path
    folder: Path = FOLDER
    cnmc: Path | None = None
    aria: Path | None = None
    weights: Path | None = None
    labels: Path | None = None

    def result(self, name: str) -> Path:
        """The file that keeps what a row gave; what it predicted lies in ``predictions`` beside it."""
        return self.folder / f"{name}.json"

    def find(self, name: str) -> Path | None:
        """What one of ``DATA`` lies at; None where it is not given."""
        return getattr(self, name)

    def config(self, row: Row) -> Path:
        """The config that a row runs."""
        return (
            shipped_files("configs")[row.config]
            if row.config
            else self.folder / "configs" / f"{row.name}.yaml"
        )


def read_rows(folder: Path = FOLDER) -> dict[str, Row]:
    """All rows by name, studies last.

    Raises:
        SettingsError: a file is no row; the message names it, what was found and the cure.
    """
    rows = [_read_row(path) for path in sorted((folder / "rows").glob("*.yaml"))]
    return {row.name: row for row in sorted(rows, key=lambda row: (row.is_study, row.name))}


def _read_row(path: Path) -> Row:
    try:
        row = Row.model_validate({"name": path.stem} | (read_yaml(path, "the row") or {}))
    except (ValidationError, TypeError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else "it holds no `key: value` lines"
        raise SettingsError(f"{path} must be a row, but {fault}: see Row in results/rows.py") from None
    if row.name != path.stem:
        raise SettingsError(f"{path} must not state a name, but states {row.name!r}: take it out")
    if row.config and row.config not in (shipped := shipped_files("configs")):
        cure = did_you_mean(row.config, shipped, f"leave it out for configs/{path.name}")
        raise SettingsError(f"config in {path} must name a config of kerasall, but is {row.config!r}: {cure}")
    if row.is_study and not find_module(row.name, path.parents[1]).is_file():
        raise SettingsError(
            f"{path} must be called as the module of its study, but there is no {row.name}.py beside rows/"
        )
    if row.paper:
        find_printed(row)
    return row


def find_printed(row: Row) -> dict[str, str] | None:
    """The printed cell beside a row, and how it came about; None where the row names none.

    Raises:
        SettingsError: there is no such paper or cell.
    """
    paper = find_paper(row.paper)
    if row.printed is None:
        return None
    for table in paper.tables:
        for line in table.rows:
            for column, cell in zip(table.columns, line.cells, strict=True):
                place = (table.name, " / ".join(filter(None, line.name)), " / ".join(column.name))
                if place == (row.printed.table, row.printed.row, row.printed.column):
                    return {
                        "authors": paper.authors, "printed_in": paper.printed_in, "table": place[0], "row": place[1],
                        "column": place[2], "value": cell, "scale": column.scale, "metric": row.printed.metric,
                        "protocol": (table.protocol or paper.protocol).strip(),
                    }  # fmt: skip
    raise SettingsError(
        f"printed of {row.name} must name a cell of kerasall/published/{paper.pipeline}.yaml, but {row.printed} is none: "
        "copy the names of its table, row and column from there"
    )


def find_module(name: str, folder: Path) -> Path:
    """The file of a study's module; those of this folder serve other folders of rows."""
    own = folder / f"{name}.py"
    return own if own.is_file() else FOLDER / f"{name}.py"
