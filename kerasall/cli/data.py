"""The commands ``kerasall check`` and ``kerasall data build``. Heavy imports stand inside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kerasall.cli.console import (
    JsonOption,
    LabelOption,
    MalignantOption,
    SetOption,
    SourceOption,
    SubjectOption,
    data_overrides,
    note,
    print_found,
    require_place,
    spell,
)
from kerasall.errors import KerasallError, SettingsError

if TYPE_CHECKING:
    from kerasall.data.examples import Collection
    from kerasall.settings import Settings

data_app = typer.Typer(name="data", help="Turn data sets into other forms.", no_args_is_help=True)


@data_app.callback()
def _root() -> None:
    """Without a callback typer would take the only command for the whole program."""


@data_app.command()
def build(
    path: Annotated[Path, typer.Argument(help="Folder or table of images.")],
    out: Annotated[
        Path, typer.Option(callback=require_place, help="Folder for the records; must not exist or be empty.")
    ],
    source: Annotated[
        str, typer.Option(help="auto, cnmc, aria, folder, csv, synthetic or records.")
    ] = "auto",
    shards: Annotated[int | None, typer.Option(min=1, help="Files; default one per 128 MiB.")] = None,
    near_duplicates: Annotated[
        bool, typer.Option(help="Look for near duplicates and keep them in one group.")
    ] = True,
    as_json: JsonOption = False,
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
    print_found(as_json, index, lambda: [*_describe(index), f"records: {records.folder}"])


def check(
    path: Annotated[Path, typer.Argument(help="Folder or table of images.")],
    source: SourceOption = "auto",
    malignant: MalignantOption = None,
    subject: SubjectOption = None,
    label: LabelOption = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file whose settings are taken, but for the path.")
    ] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
    report: Annotated[
        Path | None,
        typer.Option(
            callback=require_place,
            metavar="PAGE.html",
            help="Also write a data card: one self-contained page.",
        ),
    ] = None,
) -> None:
    """Look at a data set before anything trains, and say what a run would ask; exit status 1 if it holds errors."""
    from kerasall.components.example_validator import examine, nothing_to_check
    from kerasall.studies.stated_images import read_stated, settle_images

    try:
        if report and (report.suffix.lower() != ".html" or report.is_dir()):
            raise SettingsError(
                f"--report must name an .html file, but names {report}: for example card.html"
            )
        settings = settle_images(path, source, config, data_overrides(malignant, subject, label, set_))
        examined = examine(read_stated(settings, lenient=True), settings.checks)
        found = examined.found
        found["warnings"] += _foresee(examined.collection, settings, config)
        if report:
            from kerasall.report.pages.data_card import write_data_card

            options = {
                "source": None if source == "auto" else source,
                "malignant": malignant,
                "subject": subject,
            }
            options |= {"label": label, "config": config, "set": set_, "report": report}
            write_data_card(examined, report, spell("check", path, **options))
            note(f"data card: {report}")
    except KerasallError as error:
        if not as_json:
            raise
        found = nothing_to_check(str(error))
    print_found(as_json, found, lambda: _describe_check(found))
    if found["errors"]:
        raise typer.Exit(1)


def _foresee(collection: Collection, settings: Settings, config: Path | None) -> list[dict[str, Any]]:
    """What a run would ask before it reads a pixel, as warnings."""
    from kerasall.studies.draft import foresee_questions

    questions = foresee_questions(collection, settings, has_config=config is not None)
    return [
        {"code": f"before_a_run_{about}", "message": f"before a run: {text}", "files": [], "count": 1}
        for about, text in questions
    ]


def _describe_check(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['images']:,} images, {found['subjects']:,} subjects, source {found['source']}"
    for name, count in found["classes"].items():
        subjects = found["subjects_per_class"].get(name)
        yield f"  {name:<12} {count:>7,} images{f', {subjects:,} subjects' if subjects else ''}"
    yield (
        f"duplicates: {found['exact_duplicate_groups']} exact groups "
        f"({found['cross_subject_duplicate_groups']} across subjects), {found['near_duplicate_groups']} near groups, "
        f"{found['named_copy_groups']} groups by name"
    )
    yield from (f"note: {note}" for note in found.get("notes", []))
    for kind in ("warnings", "errors"):
        yield from (f"{kind[:-1]}: {anomaly['message']}" for anomaly in found[kind])
    yield f"{len(found['errors'])} errors" if found["errors"] else "no errors"


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
