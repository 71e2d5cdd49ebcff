"""The commands ``kerasall check`` and ``kerasall data build``. Heavy imports stand inside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from kerasall.cli import console
from kerasall.errors import KerasallError, SettingsError, count_of

data_app = typer.Typer(name="data", help="Turn data sets into other forms.", no_args_is_help=True)


@data_app.callback()
def _root() -> None:
    """Without a callback typer would take the only command for the whole program."""


@data_app.command()
def build(
    path: Annotated[Path, typer.Argument(help="Folder or table of images.")],
    out: Annotated[
        Path,
        typer.Option(
            callback=console.require_place, help="Folder for the records; must not exist or be empty."
        ),
    ],
    source: Annotated[
        str, typer.Option(help="auto, cnmc, aria, folder, csv, synthetic or records.")
    ] = "auto",
    shards: Annotated[int | None, typer.Option(min=1, help="Files; default one per 128 MiB.")] = None,
    near_duplicates: Annotated[
        bool, typer.Option(help="Look for near duplicates and keep them in one group.")
    ] = True,
    as_json: console.JsonOption = False,
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
    index = records.index
    console.print_found(as_json, index, lambda: [*_describe(index), f"records: {records.folder}"])


def check(
    path: Annotated[Path, typer.Argument(help="Folder or table of images.")],
    source: console.SourceOption = "auto",
    malignant: console.MalignantOption = None,
    subject: console.SubjectOption = None,
    label: console.LabelOption = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file whose settings are taken, but for the path.")
    ] = None,
    set_: console.SetOption = None,
    as_json: console.JsonOption = False,
    report: Annotated[
        Path | None,
        typer.Option(
            callback=console.require_place,
            metavar="PAGE.html",
            help="Also write a data card: one self-contained page.",
        ),
    ] = None,
) -> None:
    """Look at a data set before anything trains, and say what a run would ask; exit status 1 if it holds errors."""
    from kerasall.components.example_validator import examine, nothing_to_check
    from kerasall.studies.draft import foresee_questions
    from kerasall.studies.stated_images import read_stated, settle_images

    try:
        if report and (report.suffix.lower() != ".html" or report.is_dir()):
            raise SettingsError(
                f"--report must name an .html file, but names {report}: for example card.html"
            )
        settings = settle_images(
            path, source, config, console.data_overrides(malignant, subject, label, set_)
        )
        examined = examine(read_stated(settings, lenient=True), settings.checks)
        found = examined.found
        found["warnings"] += [
            {"code": f"before_a_run_{about}", "message": f"before a run: {text}", "files": [], "count": 1}
            for about, text in foresee_questions(examined.collection, settings, has_config=config is not None)
        ]
        if report:
            from kerasall.report.pages.data_card import write_data_card

            command = console.spell(
                "check", path, source=None if source == "auto" else source, malignant=malignant, subject=subject,
                label=label, config=config, set=set_, report=report,
            )  # fmt: skip
            write_data_card(examined, report, command)
            console.note(f"data card: {report}")
    except KerasallError as error:
        if not as_json:
            raise
        found = nothing_to_check(str(error))
    console.print_found(as_json, found, lambda: _describe_check(found))
    if found["errors"]:
        raise typer.Exit(1)


def _describe_check(found: dict[str, Any]) -> Iterator[str]:
    yield f"{count_of(found['images'], 'image')}, {count_of(found['subjects'], 'subject')}, source {found['source']}"
    for name, count in found["classes"].items():
        subjects = found["subjects_per_class"].get(name)
        yield f"  {name:<12} {count:>7,} images{f', {subjects:,} subjects' if subjects else ''}"
    yield (
        f"duplicates: {count_of(found['exact_duplicate_groups'], 'exact group')} "
        f"({found['cross_subject_duplicate_groups']} across subjects), {count_of(found['near_duplicate_groups'], 'near group')}, "
        f"{count_of(found['named_copy_groups'], 'group')} by name"
    )
    yield from (f"note: {note}" for note in found.get("notes", []))
    for kind in ("warnings", "errors"):
        yield from (f"{kind[:-1]}: {anomaly['message']}" for anomaly in found[kind])
    yield count_of(len(found["errors"]), "error") if found["errors"] else "no errors"


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
