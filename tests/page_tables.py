"""Reads the tables of a rendered page or section, as a person sees them."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser


@dataclass
class ReadCell:
    """A table cell: its text, the small note below it, and the tone of its colour."""

    text: str = ""
    note: str = ""
    tone: str = ""


class _Reader(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.tables: dict[str, list[list[ReadCell]]] = {}
        self._cell: ReadCell | None = None
        self._small = self._unseen = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        classes = (given.get("class") or "").split()
        if tag == "table":
            self._rows = self.tables.setdefault(given.get("aria-label") or "", [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell = ReadCell(
                tone=next((c.removeprefix("tone-") for c in classes if c.startswith("tone-")), "")
            )
            self._rows[-1].append(self._cell)
        elif tag == "small":
            self._small = True
        elif tag == "span" and "hidden" in classes:
            self._unseen = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = None
        elif tag == "small":
            self._small = False
        elif tag == "span":
            self._unseen = False

    def handle_data(self, data):
        if self._cell is not None and not self._unseen:
            if self._small:
                self._cell.note += data
            else:
                self._cell.text += data.strip()


def read_tables(html: str) -> dict[str, list[list[ReadCell]]]:
    """Caption -> rows of cells, the headings first; an empty cell reads "–"."""
    return _Reader(html).tables


def texts(rows: list[list[ReadCell]]) -> list[list[str]]:
    """The text of every cell."""
    return [[cell.text for cell in row] for row in rows]
