"""The page of a designed experiment's trials: trials.html, self-contained, no request to anywhere.

Its script sorts and filters the table and finds a trial's line from its row; without it the page says
the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kerasall.files import write_text
from kerasall.report.document import Fact, Report, Section
from kerasall.report.figure_style import data_uri
from kerasall.report.trial_drawings import Drawing

_POOR, _GOOD = (0x8A, 0x9A, 0xAA), (0x0B, 0x5C, 0x8F)
"""Colours of the lines from the worst response to the best; the best trial has one of its own."""


@dataclass(frozen=True)
class PageColumn:
    """Heading of the table of trials.

    Attributes:
        title: text.
        numeric: figures are aligned right.
    """

    title: str
    numeric: bool


@dataclass(frozen=True)
class PageCell:
    """A cell: what is shown and what it sorts by; None sorts last."""

    text: str
    order: float | str | None
    note: str = ""


@dataclass(frozen=True)
class PageRow:
    """A trial: its id, status, cells in the order of the columns, and a message if it failed."""

    trial: str
    status: str
    cells: tuple[PageCell, ...]
    best: bool = False
    message: str = ""


@dataclass(frozen=True)
class TrialPage:
    """All that the page shows.

    Attributes:
        title: name of the experiment.
        subtitle: one sentence.
        facts: short lines under the title.
        statuses: status -> number of trials in the table.
        columns: of the table.
        rows: one a trial.
        parallel: factors against response, or None.
        curves: of the metrics kept.
        sections: of the analysis; their figures are SVG and bring their bytes along.
        note: below the table.
    """

    title: str
    subtitle: str
    facts: tuple[Fact, ...]
    statuses: Mapping[str, int]
    columns: tuple[PageColumn, ...]
    rows: tuple[PageRow, ...]
    parallel: Drawing | None
    curves: tuple[Drawing, ...]
    sections: tuple[Section, ...] = field(default=())
    note: str = ""


def render_trial_page(page: TrialPage) -> str:
    """The page as one string."""
    report = Report(title=page.title, sections=page.sections)
    figures = report.figures()
    return _template().render(
        page=page,
        sections=report.to_json()["sections"],
        inline=lambda src: data_uri(figures[src], "image/svg+xml"),
        tint=tint,
    )


def write_trial_page(path: str | Path, page: TrialPage) -> None:
    """Writes the page, atomically."""
    write_text(path, render_trial_page(page))


def tint(share: float | None) -> str:
    """Colour of a line by how good its response is, from 0 to 1.

    >>> tint(1.0), tint(0.0)
    ('#0b5c8f', '#8a9aaa')
    """
    weight = 0.0 if share is None else share
    mixed = [round(poor + weight * (good - poor)) for poor, good in zip(_POOR, _GOOD, strict=True)]
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


@cache
def _template():
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("trials.html")
