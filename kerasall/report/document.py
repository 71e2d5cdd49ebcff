"""The report as a document: what report.json holds. Built in Python or read back from JSON.

The dataclasses below are the schema (``json_schema()`` prints it as JSON Schema); nothing else
describes it. In words, with ``schema_version`` 1:

    schema_version  1; a later version changes it
    title           one line
    subtitle        one sentence on what was evaluated
    protocol        "honest", or "faithful": scores were selected on the data they are reported on
    facts           [{label, value}] short lines under the title: run, date, device
    results         figures for programs, free of form: {"metrics": {name: {value, low, high}}, ...}
    sections        [{id, title, intro, blocks}]; ids are unique and become anchors

A block is one of these, told apart by ``type``:

    heading     {text}                                      a heading inside a section
    text        {paragraphs: [str]}
    list        {items: [str], ordered}
    alert       {level: good|bad|warning|note, title, text, items: [{text, met: true|false|null}]}
    scores      {items: [{label, value, detail, tone, range: {value, low, high, reference} | null}]}
    key_values  {items: [{label, value}], caption}
    table       {caption, columns: [{label, align}], rows: [[cell]], notes: [str], tall}
    figure      {src, alt, caption}                         src: a path beside report.json
    gallery     {caption, items: [{src, alt, title, text, tone}]}
    code        {text, caption}

A cell is a string, a number, null, or {text, note, tone, share}: ``note`` stands small below it,
``share`` in [0, 1] draws a bar.
``alert``, ``key_values``, ``table``, ``figure`` and ``code`` take ``width``: "full" or "half" of the page.
New sections need no change of the template; a new kind of block needs a dataclass and a macro.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from kerasall.errors import ArtifactError

SCHEMA_VERSION = 1

Level = Literal["good", "bad", "warning", "note"]
Tone = Literal["good", "bad", "warning", ""]
Width = Literal["full", "half"]
Protocol = Literal["honest", "faithful"]
Content = Annotated[bytes | None, Field(exclude=True, repr=False)]
"""Bytes of a picture. They travel with its block to the folder, and are not part of the JSON."""

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_STRICT)
class Fact:
    """A label and its value, one line."""

    label: str
    value: str


@dataclass(frozen=True, config=_STRICT)
class Heading:
    """A heading inside a section."""

    text: str
    type: Literal["heading"] = "heading"


@dataclass(frozen=True, config=_STRICT)
class Text:
    """Paragraphs of plain text."""

    paragraphs: tuple[str, ...]
    type: Literal["text"] = "text"


@dataclass(frozen=True, config=_STRICT)
class List:
    """A bulleted or numbered list."""

    items: tuple[str, ...]
    ordered: bool = False
    type: Literal["list"] = "list"


@dataclass(frozen=True, config=_STRICT)
class Check:
    """A line of an alert: met (tick), not met (cross) or neither (bullet)."""

    text: str
    met: bool | None = None


@dataclass(frozen=True, config=_STRICT)
class Alert:
    """Something that must not be overlooked."""

    level: Level
    title: str
    text: str = ""
    items: tuple[Check, ...] = ()
    width: Width = "full"
    type: Literal["alert"] = "alert"


@dataclass(frozen=True, config=_STRICT)
class Range:
    """A value with its interval on the scale 0 to 1, and what guessing would reach."""

    value: float = Field(ge=0, le=1)
    low: float | None = Field(default=None, ge=0, le=1)
    high: float | None = Field(default=None, ge=0, le=1)
    reference: float | None = Field(default=None, ge=0, le=1)


@dataclass(frozen=True, config=_STRICT)
class ScoreTile:
    """One large figure: label above, value, a sentence below, and optionally its range drawn."""

    label: str
    value: str
    detail: str = ""
    tone: Tone = ""
    range: Range | None = None


@dataclass(frozen=True, config=_STRICT)
class Scores:
    """A row of large figures."""

    items: tuple[ScoreTile, ...]
    type: Literal["scores"] = "scores"


@dataclass(frozen=True, config=_STRICT)
class KeyValues:
    """Labels with values, one a line."""

    items: tuple[Fact, ...]
    caption: str = ""
    width: Width = "full"
    type: Literal["key_values"] = "key_values"


@dataclass(frozen=True, config=_STRICT)
class Column:
    """Heading of a table's column; figures are aligned right."""

    label: str
    align: Literal["left", "right"] = "left"


@dataclass(frozen=True, config=_STRICT)
class Cell:
    """A table cell with a small note below it, a tone, or a bar of length ``share``."""

    text: str
    note: str = ""
    tone: Tone = ""
    share: float | None = Field(default=None, ge=0, le=1)


@dataclass(frozen=True, config=_STRICT)
class Table:
    """A table; the first cell of each row names the row. ``tall`` tables scroll on a screen."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str | int | float | Cell | None, ...], ...]
    notes: tuple[str, ...] = ()
    tall: bool = False
    width: Width = "full"
    type: Literal["table"] = "table"

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"rows of table {self.caption!r} must have {len(self.columns)} cells, but one has {len(row)}"
                )


@dataclass(frozen=True, config=_STRICT)
class FigureBlock:
    """A picture with alternative text for those who do not see it, and a caption."""

    src: str
    alt: Annotated[str, Field(min_length=1)]
    caption: str = ""
    width: Width = "half"
    content: Content = None
    type: Literal["figure"] = "figure"


@dataclass(frozen=True, config=_STRICT)
class GalleryItem:
    """One picture of a gallery; ``tone`` colours its title."""

    src: str
    alt: Annotated[str, Field(min_length=1)]
    title: str
    text: str = ""
    tone: Tone = ""
    content: Content = None


@dataclass(frozen=True, config=_STRICT)
class Gallery:
    """A grid of small pictures with titles."""

    items: tuple[GalleryItem, ...]
    caption: str = ""
    type: Literal["gallery"] = "gallery"


@dataclass(frozen=True, config=_STRICT)
class Code:
    """Text to be read as it stands: a command, a configuration."""

    text: str
    caption: str = ""
    width: Width = "full"
    type: Literal["code"] = "code"


Block = Annotated[
    Heading | Text | List | Alert | Scores | KeyValues | Table | FigureBlock | Gallery | Code,
    Field(discriminator="type"),
]


@dataclass(frozen=True, config=_STRICT)
class Section:
    """A titled part of the report; ``id`` is its anchor (lower case, digits, hyphens)."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    title: str
    intro: str = ""
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, config=_STRICT)
class Report:
    """The whole document; see the module's docstring."""

    title: str
    subtitle: str = ""
    protocol: Protocol = "honest"
    facts: tuple[Fact, ...] = ()
    results: dict[str, Any] = Field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    schema_version: Literal[1] = SCHEMA_VERSION

    def __post_init__(self) -> None:
        ids = [section.id for section in self.sections]
        repeated = sorted({name for name in ids if ids.count(name) > 1})
        if repeated:
            raise ValueError(f"section ids must be unique, but {repeated} repeat")

    def to_json(self) -> dict:
        """The document as JSON values, without the pictures' bytes."""
        return _ADAPTER.dump_python(self, mode="json")

    def figures(self) -> dict[str, bytes]:
        """The pictures that blocks brought along: path beside report.json -> bytes."""
        return {item.src: item.content for item in _pictures(self) if item.content is not None}


def report_from_json(document: dict) -> Report:
    """Checks a document against the schema.

    Args:
        document: what report.json holds.

    Raises:
        ArtifactError: a field is missing, unknown or of the wrong kind; the message names it.
    """
    try:
        return _ADAPTER.validate_json(json.dumps(document, allow_nan=False))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ArtifactError(
            f"a report must follow schema version {SCHEMA_VERSION}, but at {place}: {first['msg']} "
            f"({error.error_count()} faults in all): correct what builds it"
        ) from None
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"a report must hold only JSON values, but {error}: convert them first") from None


def json_schema() -> dict:
    """The schema of report.json as JSON Schema (draft 2020-12)."""
    return _ADAPTER.json_schema(mode="serialization")


def _pictures(report: Report) -> Iterator[FigureBlock | GalleryItem]:
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, FigureBlock):
                yield block
            elif isinstance(block, Gallery):
                yield from block.items


_ADAPTER = TypeAdapter(Report)


def figure_block(name: str, figure, alt: str, caption: str = "", width: Width = "half") -> FigureBlock:
    """The figure as an SVG block at ``figures/<name>.svg``."""
    from kerasall.report.figure_style import figure_to_svg

    return FigureBlock(f"figures/{name}.svg", alt, caption, width, figure_to_svg(figure))
