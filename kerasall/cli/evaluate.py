"""The command ``kerasall evaluate``. Heavy imports stand inside it."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kerasall.errors import SettingsError

if TYPE_CHECKING:
    from kerasall.data.examples import Collection
    from kerasall.settings import CheckSettings


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="SAVEDMODEL_OR_RUN", help="A pushed SavedModel, or a run by its name.")
    ],
    data: Annotated[Path | None, typer.Option(help="Folder or table of other images.")] = None,
    source: Annotated[str, typer.Option(help="auto, cnmc, aria, folder, csv or records.")] = "auto",
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
        Path | None, typer.Option(help="Folder of the results; default runs/external/<model>_on_<data>.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")] = False,
) -> None:
    """Score a trained model on other images than its own: an external check, with every warning it deserves."""
    from kerasall.evaluation.class_mapping import parse_mapping
    from kerasall.runtime import quiet_tensorflow

    stated = parse_mapping(map_ or [])
    collection, checks = _read_images(data, source, config)
    with quiet_tensorflow():
        from kerasall.studies.external_check import check_externally, find_judged_model

    from kerasall.evaluation.predictions import write_predictions
    from kerasall.files import atomic_path
    from kerasall.report.external_scores import ExternalScores, describe_scores, predictions_table
    from kerasall.report.page import write_page
    from kerasall.report.pages.external import make_external_page

    judged = find_judged_model(model)
    with _bar() as advance:
        found = check_externally(judged, collection, stated, checks, advance=advance)
    scores = ExternalScores(found)
    folder = out or default_folder(judged.name, collection.root)
    command = _command(model, data, source, config, map_, out)
    page = write_page(folder, make_external_page(scores, command))
    write_predictions(found.scored, folder / "predictions.csv")
    with atomic_path(folder / "images.csv") as temporary:
        predictions_table(found).to_csv(temporary, index=False, float_format="%.9f")
    if as_json:
        print(json.dumps(scores.to_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(describe_scores(scores)))
    for label, path in (
        ("report", page),
        ("predictions", folder / "predictions.csv"),
        ("images", folder / "images.csv"),
    ):
        print(f"{label + ':':<13}{path}", file=sys.stderr)
    print("Research use only: not a diagnostic device.", file=sys.stderr)


def _read_images(data: Path | None, source: str, config: Path | None) -> tuple[Collection, CheckSettings]:
    """The images that the arguments name, and how they are looked at."""
    from kerasall.data.sources import read_source
    from kerasall.settings import CheckSettings

    if config is None:
        if data is None:
            raise SettingsError("an external check needs images: give --data PATH or --config FILE")
        return read_source(source, data), CheckSettings()
    from kerasall.components.example_gen import read_collection_of
    from kerasall.paths import runs_folder
    from kerasall.settings.loading import load_settings

    overrides = [] if data is None else [f"data.path={data.expanduser().absolute()}"]
    settings = load_settings(config, overrides)
    return read_collection_of(settings.data, runs_folder() / "cache"), settings.checks


def default_folder(model: str, root: Path) -> Path:
    """``external/<model>_on_<data>`` below the runs folder."""
    from kerasall.paths import runs_folder

    name = re.sub(r"[^\w.-]+", "-", root.name).strip(".-") or "images"
    return runs_folder() / "external" / f"{model}_on_{name}"


def _command(
    model: str, data: Path | None, source: str, config: Path | None, pairs: list[str] | None, out: Path | None
) -> str:
    words = ["kerasall", "evaluate", model]
    words += ["--data", str(data)] if data else []
    words += ["--source", source] if source != "auto" else []
    words += ["--config", str(config)] if config else []
    words += [word for pair in pairs or [] for word in ("--map", pair)]
    words += ["--out", str(out)] if out else []
    return shlex.join(words)


class _bar:
    """A bar with time left on standard error; quiet where there is no terminal."""

    def __enter__(self):
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        console = Console(stderr=True)
        self._progress = Progress(
            *Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._progress.__enter__()
        self._task = self._progress.add_task("predicting", total=None)
        return self._advance

    def _advance(self, done: int, total: int) -> None:
        self._progress.update(self._task, advance=done, total=total)

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)  # type: ignore[arg-type]
