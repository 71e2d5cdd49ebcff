"""The command ``kerasall evaluate``. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kerasall.cli import console


def evaluate(
    model: console.ModelArgument,
    data: Annotated[Path | None, typer.Option(help="Folder or table of other images.")] = None,
    source: console.SourceOption = "auto",
    malignant: console.MalignantOption = None,
    subject: console.SubjectOption = None,
    label: console.LabelOption = None,
    set_: console.SetOption = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file whose data: section names the images, instead of --data.")
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="THEIRS=OURS",
            help="A class of the images counts as this class of the model, or as malignant, benign or exclude; "
            "repeat it.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            callback=console.require_place,
            help="Folder of the results; default runs/external/<model>_on_<data>.",
        ),
    ] = None,
    excel: console.ExcelOption = False,
    as_json: console.JsonOption = False,
) -> None:
    """Score a trained model on other images than its own: an external check, with every warning it deserves."""
    from kerasall.evaluation.class_mapping import parse_mapping
    from kerasall.report.external_scores import ExternalScores, describe_scores
    from kerasall.runtime import quiet_tensorflow
    from kerasall.studies.external_check import check_externally, judge, read_images, write_external_check
    from kerasall.studies.finished_run import Run

    stated = parse_mapping(map_ or [])
    overrides = console.data_overrides(malignant, subject, label, set_)
    collection, checks, questions = read_images(data, source, config, overrides)
    for question in questions:
        console.note(f"warning: {question.text}")
    judged = judge(Run.find(model))
    with quiet_tensorflow(), console.show_progress() as advance:
        scores = ExternalScores(check_externally(judged, collection, stated, checks, advance=advance))
    command = console.spell(
        "evaluate", model, data=data, source=None if source == "auto" else source, malignant=malignant,
        subject=subject, label=label, set=set_, config=config, map=map_, out=out
    )  # fmt: skip
    files = write_external_check(scores, out, command, excel)
    console.print_found(as_json, scores.to_json(), lambda: describe_scores(scores))
    for label, path in files.items():
        console.note(f"{label + ':':<13}{path}")
    console.note(console.RESEARCH_ONLY)
