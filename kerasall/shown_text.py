"""Text of people where a program would take it for code: lines of a terminal, cells of a spreadsheet. Imports nothing of kerasall.

Names of files, classes and patients, settings and messages of other programs are shown as what they are: text. The same
for pictures: ``kerasall.report.figures_style.plot_text``; for pages the templates escape.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from typing import Any

_SIGNS = "=+@\uff1d\uff0b\uff0d\uff20-"
_RISKY = re.compile(rf"'*[\s\x00-\x1f\ufeff\u200b{_SIGNS}]")
_NUMBER = re.compile(r"'*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s]*@")
_JOINERS = "\u200c\u200d"
"""Without them words of Persian and of Indian languages read otherwise."""


def is_unseen(character: str) -> bool:
    """Whether a character does something instead of being seen: it moves the cursor, ends the line, turns the direction."""
    return unicodedata.category(character) in _UNSEEN and character not in _JOINERS


def mask_passwords(text: str) -> str:
    """The text with ``***`` for the passwords of the addresses in it."""
    return _PASSWORD.sub(r"\1:***@", text)


def one_line(text: str) -> str:
    r"""The text as one line that a terminal, a log or a picture can only show, without the password of an address.

    >>> one_line("cell\n\x1b[2Kno errors")
    'cell\\n\\x1b[2Kno errors'
    >>> one_line("ftp://me:secret@host/cell.png")
    'ftp://me:***@host/cell.png'
    """
    text = mask_passwords(text)
    if text.isprintable():
        return text
    return "".join(
        each.encode("unicode_escape").decode("ascii") if is_unseen(each) else each for each in text
    )


def terminal_text(text: str) -> str:
    """A message of several lines for a terminal or a log: those below the first stand to the right of it.

    So no name with a line break in it reads like a line of the program's own.
    """
    first, *others = text.split("\n")
    return "\n".join(
        [one_line(first), *(f"  {one_line(each.removeprefix('  '))}".rstrip() for each in others)]
    )


def json_text(value: Any, ascii_only: bool = False) -> str:
    """JSON for a terminal: what it could not show, it reads as escapes. NaN and infinity are refused: JSON has none."""
    text = json.dumps(value, indent=2, ensure_ascii=ascii_only, allow_nan=False)
    lines = (line if line.isprintable() else "".join(map(_in_json, line)) for line in text.split("\n"))
    return "\n".join(lines)


def _in_json(character: str) -> str:
    return json.dumps(character)[1:-1] if is_unseen(character) else character


def tell(line: str, end: str = "\n") -> None:
    """Prints a line for the person at the terminal, on standard error: standard output is for results."""
    print(one_line(line), end=end, file=sys.stderr, flush=True)


def tell_fault(message: str) -> None:
    """As ``tell`` a message that may have several lines, such as that of an error."""
    print(terminal_text(message), file=sys.stderr, flush=True)


def show(*lines: str) -> None:
    """Prints results for people, on standard output, each on a line of its own."""
    for line in lines:
        print(one_line(line))


def to_cell(text: str) -> str:
    """A text as a spreadsheet takes it for a text: with an apostrophe in front where it would take it for a formula.

    Numbers stay as they are, and ``from_cell`` gives the text back.

    >>> [to_cell(text) for text in ("=1+1", "@b.png", "-0.5", "normal", "'=1")]
    ["'=1+1", "'@b.png", '-0.5', 'normal', "''=1"]
    """
    return f"'{text}" if _is_risky(text) else text


def from_cell(text: str) -> str:
    """The text that ``to_cell`` was given."""
    return text[1:] if text[:1] == "'" and _is_risky(text[1:]) else text


def _is_risky(text: str) -> bool:
    return _RISKY.match(text) is not None and _NUMBER.fullmatch(text) is None
