"""The sections of RESULTS.md that studies have, each written by ``section`` of the study's JSON alone.

They stand apart from the studies: what a study's module says is an input of its numbers, and its words here are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NAMES = {"cnmc": "C-NMC", "aria": "Four-class set"}
"""Source -> heading."""


def with_ends(found: Mapping[str, Any] | None, digits: int = 3) -> str:
    """A score with its interval, such as ``0.842 (0.756 to 0.886)``; its value is called ``value`` or, over draws, ``mean``."""
    value = found and found["mean" if "mean" in found else "value"]
    if found is None or value is None:
        return "–"
    ends = "" if found["low"] is None else f" ({found['low']:.{digits}f} to {found['high']:.{digits}f})"
    return f"{value:.{digits}f}{ends}"


def points(effect: Mapping[str, Any] | None) -> str:
    """A difference of shares in points, such as ``+4.2 (1.1 to 7.3)``."""
    if effect is None or effect["difference"] is None:
        return "–"
    value = f"{100 * effect['difference']:+z.1f}"
    if effect["low"] is None:
        return value
    return f"{value} ({100 * effect['low']:z.1f} to {100 * effect['high']:z.1f})"


def tabulate(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table of Markdown."""
    return [f"| {' | '.join(map(str, cells))} |" for cells in (heads, ["---"] * len(heads), *rows)]
