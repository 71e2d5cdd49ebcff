"""The command ``kerasall configs``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from kerasall.cli.console import JsonOption, note, print_found
from kerasall.errors import SettingsError, did_you_mean

GROUPS = {
    "rendered": "Rendered cells: nothing else is needed",
    "images": "Public sets of images (--data PATH), honest protocols",
    "faithful": "Copies of papers' protocols, to compare with their printed numbers; never blessed",
}
"""Kind of a config -> heading in the list."""

_WIDTH = 112


def configs(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print this one, to begin an own file with.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the configs that come with kerasall, or print one: kerasall configs demo > own.yaml."""
    from kerasall.settings.shipped import shipped_files

    files = shipped_files("configs")
    if name is None:
        rows = [_describe(each) for each in files]
        print_found(as_json, rows, lambda: _list(rows))
        note(
            "Run one by its name: kerasall run demo. Begin an own file with one: kerasall configs demo > own.yaml"
        )
        return
    if name not in files:
        cure = did_you_mean(name, files, "`kerasall configs` lists them")
        raise SettingsError(f"{name!r} must be a config that comes with kerasall, but is none: {cure}")
    text = files[name].read_text(encoding="utf-8")
    print_found(as_json, _describe(name) | {"text": text}, lambda: text.rstrip("\n"))


def _describe(name: str) -> dict[str, Any]:
    from kerasall.settings.loading import read_values
    from kerasall.settings.shipped import find_config

    values = read_values(find_config(name))
    faithful, source = values.get("protocol") == "faithful", values["data"]["source"]
    return {
        "name": name,
        "description": values["description"],
        "kind": "faithful" if faithful else "rendered" if source == "synthetic" else "images",
        "source": source,
        "pipeline": values.get("pipeline", "single_classifier"),
        "command": f"kerasall {'tune' if 'tune' in values else 'run'} {name}",
    }


def _list(rows: list[dict[str, Any]]) -> Iterator[str]:
    wide = max(len(row["name"]) for row in rows)
    for kind, heading in GROUPS.items():
        yield f"{heading}:"
        for row in sorted(rows, key=lambda row: not row["name"].startswith("demo")):
            line = f"  {row['name']:<{wide}}  {row['description']}"
            if row["kind"] == kind:
                yield line if len(line) <= _WIDTH else line[: _WIDTH - 3].rstrip(" ,.;:") + "..."
        yield ""
