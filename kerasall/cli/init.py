"""The command ``kerasall init``. Heavy imports stand inside it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kerasall.cli import console
from kerasall.errors import KerasallError, SettingsError
from kerasall.paths import weights_folder
from kerasall.shown_text import show, tell_fault

if TYPE_CHECKING:
    from kerasall.studies.draft import Draft, Stated

_TRIES = 5
"""How often a person is asked again before the command ends with what is still missing."""


def init(
    path: Annotated[Path, typer.Argument(help="Folder or table of images.")],
    malignant: console.MalignantOption = None,
    subject: console.SubjectOption = None,
    label: console.LabelOption = None,
    columns: console.ColumnsOption = None,
    source: console.SourceOption = "auto",
    preset: console.PresetOption = "auto",
    weights: console.WeightsOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the experiment; default from the path.")] = None,
    set_: console.SetOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="The config; default NAME.yaml here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a config that is there.")] = False,
) -> None:
    """Look at your images, ask what cannot be seen, and write a short config for `kerasall run`."""
    from kerasall.studies.door import list_questions
    from kerasall.studies.draft import Stated, write_draft

    if out and out.suffix.lower() not in (".yaml", ".yml"):
        raise SettingsError(f"--out must name a .yaml file, but names {out}: for example cells.yaml")
    named = console.split_pairs(columns, "--columns")
    words = console.split_words(malignant)
    stated = Stated(words, subject, label, named, preset, source, tuple(set_ or ()))
    name = name or (out.stem if out else None)
    draft = _look(path, stated, name, weights)
    for line in draft.describe():
        console.note(line)
    if sys.stdin.isatty():
        draft = _ask_person(draft, path, stated, weights)
    if draft.questions:
        raise SettingsError(list_questions(draft.questions, f"the config of {path}"))
    file = out or Path(f"{draft.name}.yaml")
    if file.exists() and not force:
        raise SettingsError(
            f"{file} must not be there yet, but is: give --force to replace it, or --out OTHER.yaml"
        )
    command = console.spell("run", file, weights=weights)
    write_draft(draft, file, command)
    console.note(draft.describe_cost())
    console.note(f"config: {file}")
    show(command)


def _look(path: Path, stated: Stated, name: str | None, weights: Path | None) -> Draft:
    from kerasall.studies.draft import draft_config, has_gpu

    return draft_config(path, stated, name=name, weights=weights_folder(weights), gpu=has_gpu())


def _ask_person(draft: Draft, path: Path, stated: Stated, weights: Path | None) -> Draft:
    """Asks for what is missing and a person can say, until it is there."""
    for attempt in range(_TRIES):
        asked = {question.about: question.text for question in draft.questions}
        answered = stated
        if "malignant" in asked:
            if attempt:
                console.note(asked["malignant"])
            classes = ", ".join(draft.collection.labels)
            answer = _ask(f"Which classes mean leukaemia ({classes}; commas between)?")
            answered = replace(stated, malignant=console.split_words([answer or ""]))
        elif "subject" in asked:
            console.note(asked["subject"])
            answer = _ask("Where does the patient stand (folder:N, column:NAME, pattern:REGEX, or none)?")
            answered = replace(stated, subject=answer or None)
        else:
            break
        if answer is None:
            break
        try:
            draft, stated = _look(path, answered, draft.name, weights), answered
        except KerasallError as error:  # an answer that cannot be read is asked for again
            tell_fault(str(error))
    return draft


def _ask(question: str) -> str | None:
    """A person's answer, None at the end of input; standard error, as standard output is for the next command alone."""
    console.note(question, end=" ")
    line = sys.stdin.readline()
    return line.strip() if line else None
