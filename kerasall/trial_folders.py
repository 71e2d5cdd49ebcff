"""Where the trials of a designed experiment lie: in a project folder of keras-tuner, or inside a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kerasall.errors import ArtifactError, SettingsError
from kerasall.files import read_json
from kerasall.paths import runs_folder
from kerasall.pipeline.artifacts import ArtifactStore
from kerasall.pipeline.metadata import MetadataStore
from kerasall.pipeline.runner import RunPlaces

_STATE = "oracle.json"
_DEPTH = 3
"""Folders below the one given in which a project is looked for."""


@dataclass(frozen=True)
class TrialFolder:
    """A project and where what is made from it goes.

    Attributes:
        project: folder with oracle.json and the trials.
        out: folder for trials.csv and trials.html; None where none may be written beside the project.
        title: name of the run or the project.
    """

    project: Path
    out: Path | None
    title: str


def find_trials(text: str, root: Path | None = None) -> TrialFolder:
    """Finds the trials of a run, finished or not, or of a folder.

    Args:
        text: name of a run, its folder, or a folder with one keras-tuner project in or below it.
        root: folder of runs; ``KERASALL_RUNS`` by default.

    Raises:
        ArtifactError: there are none, or several; the message says what there is.
    """
    folder = Path(text).expanduser().absolute()
    run = next((p for p in (folder, (root or runs_folder()) / text) if (p / "run.json").is_file()), None)
    if run is not None:
        return TrialFolder(_sole(_projects_of_run(run), run), run, run.name)
    if not folder.is_dir():
        raise ArtifactError(
            f"trials must be those of a run in {root or runs_folder()} or of a folder, but {text} is neither: "
            "`kerasall runs` lists the runs"
        )
    project = _sole(list(_projects_below(folder, _DEPTH)), folder)
    return TrialFolder(project, None if _is_artifact(project) else project, project.name)


def choose_out(found: TrialFolder, given: Path | None) -> Path:
    """The folder to write into.

    Raises:
        SettingsError: the project is part of an artifact, whose files must not change, and none is given.
    """
    if given is None and found.out is None:
        raise SettingsError(
            f"{found.project} is part of an artifact, in which nothing may be written: give --out, or the name of "
            "its run"
        )
    return given or found.out or Path()


def _projects_of_run(run: Path) -> list[Path]:
    """In what the steps left; of a step that has not ended, in what it leaves to go on from."""
    steps = read_json(run / "run.json")["steps"]
    outputs = [Path(output["path"]) for step in steps for output in step["outputs"].values()]
    found = [project for output in outputs for project in _projects_below(output, 1)]
    return found or [project for begun in _begun(run) for project in _projects_below(begun, 2)]


def _begun(run: Path) -> Iterator[Path]:
    places = RunPlaces(run.parent, run.name)
    if not places.metadata.exists():
        return
    metadata, artifacts = MetadataStore(places.metadata), ArtifactStore(places.artifacts)
    for row in metadata.runs():
        if row["name"] == run.name:
            for execution in metadata.executions(row["id"]):
                yield artifacts.folder(execution["component"], execution["key"]).with_suffix(".partial")


def _projects_below(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / _STATE).is_file():
        yield folder
    elif depth and folder.is_dir():
        for below in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from _projects_below(below, depth - 1)


def _sole(projects: list[Path], where: Path) -> Path:
    if len(projects) != 1:
        found = (
            f"{len(projects)}: {', '.join(map(str, projects[:6]))}: name one of them" if projects else "none"
        )
        raise ArtifactError(f"{where} must hold one designed experiment ({_STATE}), but holds {found}")
    return projects[0]


def _is_artifact(project: Path) -> bool:
    return any((parent / "artifact.json").is_file() for parent in project.parents[:3])
