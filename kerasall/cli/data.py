"""The command ``kerasall data build``, and the data card of ``kerasall check``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from kerasall.errors import SettingsError

data_app = typer.Typer(
    name="data",
    help="Turn data sets into other forms.",
    no_args_is_help=True,
)


@data_app.callback()
def _root() -> None:
    """Without a callback typer would take the only command for the whole program."""


@data_app.command()
def build(
    path: Annotated[Path, typer.Argument(help="Folder or table of images.")],
    out: Annotated[Path, typer.Option(help="Folder for the records; must not exist or be empty.")],
    source: Annotated[
        str, typer.Option(help="auto, cnmc, aria, folder, csv, synthetic or records.")
    ] = "auto",
    shards: Annotated[int | None, typer.Option(min=1, help="Files; default one per 128 MiB.")] = None,
    near_duplicates: Annotated[
        bool, typer.Option(help="Look for near duplicates and keep them in one group.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")] = False,
) -> None:
    """Write a data set as TFRecords with its groups, hashes and an index."""
    from kerasall.data.duplicates import NearDuplicateSettings
    from kerasall.data.sources import read_source
    from kerasall.runtime import quiet_tensorflow

    collection = read_source(source, path)
    with quiet_tensorflow():
        from kerasall.data.records import write_records

        settings = NearDuplicateSettings(enabled=near_duplicates)
        records = write_records(collection, out, shards=shards, near_duplicate_settings=settings)
    if as_json:
        print(json.dumps(records.index, indent=2, ensure_ascii=False))
        return
    for line in _describe(records.index):
        print(line)
    print(f"records: {records.folder}")


def check_with_card(source: str, path: Path, page: Path) -> dict:
    """The JSON object of ``kerasall check``, with a page of the same images written to ``page``.

    Raises:
        SettingsError: the page is no .html file.
    """
    from kerasall.components.example_validator import examine
    from kerasall.data.sources import read_source
    from kerasall.report.pages.data_card import write_data_card
    from kerasall.settings import CheckSettings

    if page.suffix.lower() != ".html" or page.is_dir():
        raise SettingsError(f"--report must name an .html file, but names {page}: for example card.html")
    examined = examine(read_source(source, path), CheckSettings())
    options = [] if source == "auto" else ["--source", source]
    write_data_card(
        examined, page, shlex.join(["kerasall", "check", str(path), *options, "--report", str(page)])
    )
    print(f"data card: {page}", file=sys.stderr)
    return examined.found


def _describe(index: dict) -> list[str]:
    subjects = {"subject": f"{index['subjects']:,} subjects", "block": f"{index['subjects']:,} blocks"}
    size = sum(shard["bytes"] for shard in index["shards"]) / 2**20
    return [
        f"{index['images']:,} images, {subjects.get(index['subject_kind'], 'no subjects known')}, "
        f"{index['groups']:,} groups, source {index['made_from']}",
        *(f"  {name:<12} {count:>7,} images" for name, count in index["classes"].items()),
        f"{len(index['shards'])} shards, {size:,.1f} MiB, {index['transcoded']:,} images made readable for TensorFlow",
        f"fingerprint: {index['fingerprint']}",
        *(f"note: {note}" for note in index["notes"]),
        *(f"warning: {warning}" for warning in index["read_warnings"]),
    ]
