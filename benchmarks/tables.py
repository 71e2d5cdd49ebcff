"""Writes the tables of benchmarks/README.md from benchmarks/results, so that no figure is typed by hand.

    python benchmarks/tables.py

Each table stands between `<!-- NAME -->` and `<!-- end -->`; a table without results stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main() -> None:
    page = HERE / "README.md"
    fill_page(page, _find_table)
    print(f"written: {page}")


def fill_page(page: Path, find: Callable[[str], str | None], mark: str = "") -> None:
    """Writes what ``fill`` makes of a page, atomically."""
    temporary = page.with_suffix(".partial")
    temporary.write_text(fill(page.read_text(encoding="utf-8"), find, mark), encoding="utf-8")
    temporary.replace(page)


def fill(text: str, find: Callable[[str], str | None], mark: str = "") -> str:
    """The text with what is found between each `<!-- MARK NAME -->` and `<!-- end -->`; a place of which None stays."""

    def renew(place: re.Match[str]) -> str:
        found = find(place["name"])
        return place[0] if found is None else f"{place['begin']}{found}<!-- end -->"

    begin = rf"(?P<begin><!-- {mark}(?P<name>[\w/:]+) -->\n?)"
    return re.sub(rf"{begin}(?:(?!<!-- ).)*<!-- end -->", renew, text, flags=re.DOTALL)


def _find_table(name: str) -> str | None:
    path = HERE / "results" / f"{name}.json"
    if not path.is_file():
        print(f"{name}: no results; run python benchmarks/{name}.py")
        return None
    return _table(json.loads(path.read_text(encoding="utf-8")))


def _table(result: dict[str, Any]) -> str:
    lines = []
    if result["rows"]:
        lines += ["| what | ours | alternative | ratio (range) | goal |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        mine, theirs = row["speeds"]
        lines.append(
            f"| {row['what']} | {row['ours']}: {mine:.3g} {row['unit']} | {row['alternative']}: {theirs:.3g} "
            f"{row['unit']} | **{row['ratio']:.2f}** ({row['spread'][0]:.2f}-{row['spread'][1]:.2f}) | "
            f"{_verdict(row)} |"
        )
    notes = [f"- {row['what']}: {row['note']}" for row in result["rows"] if row["note"]]
    notes += [f"- {name}: {value}" for name, value in result["facts"].items()]
    machine = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    instructions = " ".join(machine["instructions"])
    notes.append(
        f"- {machine['cores']} cores ({instructions}), load {machine['load'][0]:.1f} at the end; {versions}"
    )
    return "\n".join([*lines, "", *notes]) + "\n"


def _verdict(row: dict[str, Any]) -> str:
    if row["goal"] is None:
        return ""
    return f"{row['goal']:g}: " + ("met" if row["ratio"] >= row["goal"] else "missed")


if __name__ == "__main__":
    main()
