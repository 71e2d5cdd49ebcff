"""The command ``kerasall train``. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kerasall.cli import console
from kerasall.cli.init import look, state
from kerasall.errors import SettingsError
from kerasall.paths import runs_folder, savedmodels_folder, weights_folder


def train(
    path: Annotated[Path, typer.Argument(help="Folder or table of images.")],
    malignant: console.MalignantOption = None,
    subject: console.SubjectOption = None,
    label: console.LabelOption = None,
    columns: console.ColumnsOption = None,
    source: console.SourceOption = "auto",
    preset: console.PresetOption = "auto",
    weights: console.WeightsOption = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the experiment and its config; default from the path.")
    ] = None,
    set_: console.SetOption = None,
    force: console.ForceOption = False,
) -> None:
    """From your images to a model with a report, in one command and without a config: `init` and `run`."""
    from kerasall.runtime import quiet_tensorflow
    from kerasall.studies.door import ask_at_door, list_questions
    from kerasall.studies.draft import adopt_config, write_draft

    stated = state(malignant, subject, label, columns, preset, source, set_)
    draft = look(path, stated, name, weights)
    for line in (*draft.describe(), draft.describe_cost()):
        console.note(line)
    where = f"what is said of {path}"
    folder, models = weights_folder(weights), savedmodels_folder()
    ask_at_door(draft.settings, where, draft.name, runs=runs_folder(), savedmodels=models, weights=folder)
    if draft.questions:  # of sources that the door does not ask
        raise SettingsError(list_questions(draft.questions, where))
    file = Path(f"{draft.name}.yaml")
    command = console.spell("run", file, weights=weights)
    known = adopt_config(draft, file, stated)
    if not known:
        write_draft(draft, file, command)
    console.note(
        f"config: {file}, {'as it lies there' if known else 'to change and to run again'}: {command}"
    )
    with quiet_tensorflow():
        from kerasall.studies.experiment import run_experiment

        result = run_experiment(file, weights=weights, force=force)
    console.print_outcome(result)
    print(f"{'config:':<14} {file}")
    _print_next(result.folder.name)


def _print_next(run: str) -> None:
    """What a person does next with a model: the run's own name is enough, pushed or not."""
    console.note("next:")
    for words in (("predict", run, "IMAGES"), ("serve", run), ("explain", run, "IMAGES"), ("review", run)):
        console.note(f"  {console.spell(*words)}")
    console.note(console.RESEARCH_ONLY)
