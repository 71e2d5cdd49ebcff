"""A run on disk: found by its name, its folder or the model it pushed, in every command the same way.

``Run.find`` is how a command reads its argument, and nothing else opens a run's ``run.json``. Below it stand
all runs, and where the trials of a designed experiment lie.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from kerasall.errors import ArtifactError, SettingsError, first_fault, near_names
from kerasall.files import is_plain, read_json, read_object, sha256_of_file
from kerasall.paths import runs_folder, savedmodels_folder
from kerasall.pipeline.artifacts import ArtifactStore, require_unchanged
from kerasall.pipeline.metadata import read_keys
from kerasall.pipeline.runner import RunPlaces, is_running, read_record

if TYPE_CHECKING:
    import keras

    from kerasall.evaluation.predictions import Predictions
    from kerasall.evaluation.scores import Score, Scores
    from kerasall.preprocessing.operations import Chain
    from kerasall.serving.predictor import Predictor

REPORT = "report.json"
RECORD = "run.json"
"""File that makes a folder a run's; what the other files are follows from it."""

PROJECT = "oracle.json"
"""File that makes a folder a project of keras-tuner."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run on disk, finished or not, or the model that one pushed. Everything is read when it is asked for.

    Example:
        >>> run = kerasall.Run.find("tiny")  # by its name, its folder or the model it pushed
        >>> run.state, run.scored, run.score.metric
        ('complete', 'test', 'accuracy')
        >>> 0 <= run.score.low <= run.score.value <= run.score.high <= 1
        True
        >>> run.missed <= run.scores.malignant_images
        True
        >>> run.report.name, len(run.predictions()), run.model().output_shape
        ('report.html', 16, (None, 2))

    Attributes:
        named: absolute path of the run's folder, or of the SavedModel.
        is_model: whether it is a SavedModel; its run is looked for among all runs only where it is needed.
    """

    named: Path
    is_model: bool = False

    @classmethod
    def find(cls, text: str | Path) -> Run:
        """The run or model that a person means.

        Args:
            text: a run's name or folder; or a model's name, folder or version. Paths are relative or absolute.

        Raises:
            ArtifactError: there is none; the message names the nearest there are.
        """
        found = cls.look_up(text)
        if found is not None:
            return found
        root, models = runs_folder(), savedmodels_folder()
        there = [run.folder for run in all_runs()] + [p for p in models.glob("*") if _model_in(p)]
        words = [part for part in Path(text).parts if not part.isdigit()]
        near = near_names(words[-1] if words else "", {path.name for path in there}, most=3, cutoff=0)
        cure = "there are none yet: `kerasall run` makes them"
        if near:
            cure = f"the nearest are {', '.join(near)}; `kerasall runs` lists all runs"
        raise ArtifactError(
            f"{str(text)!r} must be a run in {root}, a model in {models}, or the folder of one, but is none: {cure}"
        )

    @classmethod
    def look_up(cls, text: str | Path) -> Run | None:
        """As ``find``, but None where there is none."""
        path = Path(os.path.abspath(Path(text).expanduser()))
        for folder in (runs_folder() / text, path):
            if os.path.lexists(folder / RECORD):
                return cls(folder)
        models = (_model_in(folder) for folder in (path, savedmodels_folder() / text))
        return next((cls(model, is_model=True) for model in models if model), None)

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The run in ``folder`` as it is now: what a later one notes down there does not change it."""
        run = cls(folder)
        _ = run.record_fault, run.numbers_fault  # what can be read is kept from here on
        return run

    @property
    def title(self) -> str:
        """What is made from it is called so: the run's name, or ``<experiment>_<version>`` of a model."""
        is_version = self.is_model and self.named.name.isdigit()
        return f"{self.named.parent.name}_{self.named.name}" if is_version else self.named.name

    @cached_property
    def folder(self) -> Path:
        """The run's own folder.

        Raises:
            ArtifactError: a model was named, and no run says that it pushed it.
        """
        if not self.is_model:
            return self.named
        whole = (run for run in all_runs() if not run.record_fault)
        pushed = [run.folder for run in whole if run.pushed_to and run.pushed_to.samefile(self.named)]
        if not pushed:
            raise ArtifactError(
                f"{self.named} must be a model that a run in {runs_folder()} pushed, but none says so: name the run"
            )
        return next((folder for folder in pushed if folder.name == self.named.parent.name), pushed[0])

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the runner noted down while the run went on; {} where there is no run.

        Raises:
            ArtifactError: it cannot be read, or is no such record.
        """
        file = self.folder / RECORD
        return read_record(file) if os.path.lexists(file) else {}

    @cached_property
    def record_fault(self) -> str:
        """Why ``record`` cannot be read; "" where it can."""
        return _fault_of(lambda: self.record)

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """Content of report.json; {} where there is none yet.

        Raises:
            ArtifactError: it cannot be read, is no such report, or was changed since the run wrote it.
        """
        file = self.folder / REPORT
        if not os.path.lexists(file):
            return {}
        self.require_as_written(file)
        return _read_report(file)

    @cached_property
    def numbers_fault(self) -> str:
        """Why ``numbers`` cannot be read; "" where they can."""
        return _fault_of(lambda: self.numbers)

    def require_as_written(self, file: Path) -> None:
        """Refuses a file of the run's folder that is not what the run put there; 0.1.0 did not write down what was."""
        written = self.record.get("published", {}).get(file.name)
        if written is None or not file.is_file() or sha256_of_file(file) == written:
            return
        now = (
            read_record(self.folder / RECORD).get("published", {}).get(file.name)
        )  # the run may have gone on
        if now not in (None, sha256_of_file(file)):
            raise ArtifactError(
                f"{file} must be as the run wrote it, but was changed: move it away, and give the command of the run "
                "again, which writes it anew; a table of your own lies best outside the run's folder"
            )

    @property
    def report(self) -> Path:
        """The page of the run, report.html.

        Raises:
            ArtifactError: the run has none yet.
        """
        page = (self.named if self.is_model else self.folder) / "report.html"
        return self._require(page if page.is_file() else None, "report.html")

    @property
    def evaluated(self) -> dict[str, Any]:
        """The results in report.json.

        Raises:
            ArtifactError: the run has not been evaluated yet.
        """
        if "results" not in self.numbers:
            self._require(None, "report.json")
        return self.numbers["results"]

    @property
    def scores(self) -> Scores:
        """Every metric with its interval, and the counts behind them.

        Raises:
            ArtifactError: the run has not been evaluated yet.
        """
        from kerasall.evaluation.scores import read_scores

        return read_scores(self.evaluated)

    @property
    def score(self) -> Score:
        """The main metric with its interval: ``value``, ``low``, ``high``, ``metric``, ``groups``.

        Raises:
            ArtifactError: the run has not been evaluated yet.
        """
        scores = self.scores
        return scores[self.settings.get("evaluate", {}).get("main_metric") or next(iter(scores))]

    @property
    def scored(self) -> str:
        """What the images are that the scores are of: ``test``, ``out-of-fold``, ``validation`` or ``selection``."""
        return self.evaluated["scored"]

    @property
    def missed(self) -> int | None:
        """How many malignant images were called benign; None where no class is named malignant."""
        return self.scores.missed

    @property
    def blessed(self) -> bool:
        """Whether every criterion of the blessing is met, whatever was pushed by force."""
        return bool(self.evaluated["blessed"])

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved settings, as plain values."""
        return self.record.get("settings", {})

    @property
    def state(self) -> str:
        """``complete``, ``failed``, ``running`` or ``interrupted``, which is also what was killed."""
        return _state(self.folder, self.record.get("state", "unknown"))

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Name, state, seconds, metrics and outputs of every step, in order."""
        return self.record.get("steps", [])

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Step -> the numbers it left."""
        return {step["step"]: step.get("metrics", {}) for step in self.steps}

    @property
    def states(self) -> dict[str, str]:
        """Step -> ``complete``, or ``cached`` where it was made before."""
        return {step["step"]: step["state"] for step in self.steps}

    @property
    def artifacts(self) -> dict[tuple[str, str], Path]:
        """Folder of every output, by the names of its step and of itself."""
        return {
            (step["step"], name): Path(output["path"])
            for step in self.steps
            for name, output in step["outputs"].items()
        }

    @property
    def outputs(self) -> list[dict[str, str]]:
        """Type, path and digest of every output, in order."""
        return [output for step in self.steps for output in step["outputs"].values()]

    def output(self, kind: str, holds: str) -> Path:
        """A file or folder inside the last output of a type that has it; the output is hashed first.

        Raises:
            ArtifactError: the run is not so far, or its artifacts are gone or were changed.
        """
        there = (
            o for o in reversed(self.outputs) if o.get("type") == kind and (Path(o["path"]) / holds).exists()
        )
        output = next(there, None)
        if output is None:
            return self._require(None, f"{holds} of its {kind}")
        if output["path"] not in self._verified:
            require_unchanged(Path(output["path"]), output.get("digest", ""))
            self._verified.add(output["path"])
        return Path(output["path"]) / holds

    @cached_property
    def _verified(self) -> set[str]:
        return set()

    def _require(self, path: Path | None, what: str) -> Path:
        if path is None:
            raise ArtifactError(
                f"{self.folder} must hold {what}, but does not (the run is {self.state}): run it again with "
                "`kerasall run`, which goes on where it was"
            )
        return path

    @property
    def exported(self) -> Path:
        """The SavedModel, whether it was pushed or not.

        Raises:
            ArtifactError: the run has not exported one yet.
        """
        return self.named if self.is_model else self.output("SavedModel", "model/saved_model.pb").parent

    @property
    def pushed_to(self) -> Path | None:
        """Where the run pushed its SavedModel; None where it did not, or where nothing lies there any more."""
        path = self.metrics.get("Pusher", {}).get("path")
        return Path(path) if path and isinstance(path, str) and Path(path).is_dir() else None

    @property
    def saved_model(self) -> Path | None:
        """The pushed SavedModel; None where none was pushed. What was exported all the same: ``exported``."""
        return self.named if self.is_model else self.pushed_to

    @property
    def pushed(self) -> Path:
        """The pushed SavedModel, with its card.

        Raises:
            ArtifactError: the run has pushed none.
        """
        found = self.saved_model
        if found is None and "Pusher" in self.metrics and not self.metrics["Pusher"].get("path"):
            raise ArtifactError(
                f"the run {self.name} must have pushed a model, but its model was not blessed: read why in "
                f"{self.folder / 'report.html'}, or push it all the same, with a card that says so: {self.force_command}"
            )
        if found is None:
            raise ArtifactError(
                f"the run {self.name} must have pushed a model, but has not: see `kerasall status {self.name}`"
            )
        return found

    @property
    def force_command(self) -> str:
        """The run's command once more, so that it pushes its model whatever the verdict."""
        command = self.record.get("command") or f"kerasall run {self.folder / 'settings.yaml'}"
        return command if "--force" in command.split() else f"{command} --force"

    @property
    def card_folder(self) -> Path:
        """Where the model's card and the list of the images it has seen lie; a model of others may have neither.

        Raises:
            ArtifactError: the run has not been evaluated yet.
        """
        return self.named if self.is_model else self.output("Evaluation", "card.json").parent

    @property
    def no_maps(self) -> dict[str, str]:
        """Networks of the model (of an ensemble members) that can have no map of where they looked -> why, as its card says.

        A model of others, or a run that is not so far, has no such card.
        """
        from kerasall.serving.card import read_card

        try:
            return read_card(self.card_folder).get("no_maps") or {}
        except ArtifactError:
            return {}

    @property
    def predictions_file(self) -> Path:
        """The predictions of the images that the run is scored on.

        Raises:
            ArtifactError: the run has none yet.
        """
        file = self._require(predictions_in(self.folder), "predictions.csv")
        self.require_as_written(file)
        return file

    def predictions(self) -> Predictions:
        """The predictions of the images that the run is scored on."""
        from kerasall.evaluation.predictions import read_predictions

        return read_predictions(self.predictions_file)

    def predictor(self) -> Predictor:
        """The exported SavedModel, loaded. Loads TensorFlow."""
        from kerasall.runtime import quiet_tensorflow

        with quiet_tensorflow():
            from kerasall.serving.predictor import Predictor

            return Predictor(self.exported)

    def model(self) -> keras.Model:
        """The trained Keras model, from pixels after the chain to probabilities. Loads TensorFlow."""
        from kerasall.runtime import quiet_tensorflow

        with quiet_tensorflow():
            from kerasall.models.saving import load_model

            return load_model(self.output("Model", "model.keras"))

    def chain(self) -> Chain:
        """The operations that bring an image to what ``model`` takes. Loads TensorFlow."""
        from kerasall.runtime import quiet_tensorflow

        with quiet_tensorflow():
            from kerasall.preprocessing.operations import Chain

            return Chain.from_json(read_json(self.output("Model", "preprocess.json")))

    @property
    def words(self) -> dict[str, str]:
        """What the report says first; until version 0.1.0 the Evaluator found the words."""
        return self.metrics.get("ReportGen") or self.metrics.get("Evaluator", {})

    @property
    def exported_words(self) -> str:
        """The exported model in words; "" where there is no report yet."""
        facts = {
            fact["label"]: fact["value"] for fact in self.numbers.get("facts", [])
        }  # until version 0.1.0
        return self.words.get("model") or facts.get("Model", "")

    @property
    def results(self) -> dict[str, str]:
        """What a person wants to read at the end: score, verdict, and where things lie."""
        names = {"score": "main_score", "missed": "malignant_called_benign", "verdict": "verdict"}
        found = {word: self.words[name] for word, name in names.items() if name in self.words}
        if (self.folder / "report.html").is_file():
            found["report"] = str(self.folder / "report.html")
        if count := self.metrics.get("ExampleValidator", {}).get("left_out"):
            found["left out"] = f"{count:,} files that could not be read: {self.folder / 'unreadable.csv'}"
        if "Pusher" in self.metrics:
            path = self.metrics["Pusher"].get("path")
            found["SavedModel"] = path or "not pushed: the model was not blessed (see the report)"
        return found

    def describe(self) -> dict[str, Any]:
        """State, steps and results, as a JSON object."""
        steps = []
        for step in self.steps:
            paths = [output["path"] for output in step["outputs"].values()]
            shown = [path if Path(path).exists() else f"{path} (missing)" for path in paths]
            steps.append({key: step[key] for key in ("step", "state", "seconds")} | {"paths": shown})
        kept = {key: self.record.get(key) for key in ("experiment", "error", "command")}
        return {"name": self.name, **kept, "state": self.state, "steps": steps, "results": self.results}


def all_runs() -> list[Run]:
    """Every run in the runs folder, by name."""
    return [Run(file.parent) for file in sorted(runs_folder().glob(f"*/{RECORD}"))]


def predictions_in(folder: Path) -> Path | None:
    """The file of predictions in a folder; of both kinds the exact one."""
    files = (folder / f"predictions{suffix}" for suffix in (".npz", ".csv"))
    return next((file for file in files if file.is_file()), None)


class _Metric(BaseModel):
    model_config = ConfigDict(strict=True)
    value: float | None = None
    low: float | None = None
    high: float | None = None


class _Results(BaseModel):
    model_config = ConfigDict(strict=True)
    metrics: dict[str, _Metric] = {}
    labels: list[str] = []
    malignant: list[str] | None = None
    scored: str | None = None
    blessed: bool | None = None
    fingerprint: str | None = None


class _Report(BaseModel):
    """What is read of a report.json without being asked for in particular; whatever else it holds passes."""

    model_config = ConfigDict(strict=True)
    results: _Results | None = None


def _read_report(file: Path) -> dict[str, Any]:
    found = read_object(file)
    fault = "" if is_plain(found) else "it holds NaN, infinity or half a character"
    try:
        _Report.model_validate(found)
    except ValidationError as error:
        fault = first_fault(error)
    if fault:
        raise ArtifactError(
            f"{file} must be the report of a run, but {fault}: move it away, and give the command of the run again, which "
            "writes it anew"
        )
    return found


def _fault_of(read: Callable[[], object]) -> str:
    try:
        read()
    except ArtifactError as error:
        return str(error)
    return ""


def _state(folder: Path, recorded: str) -> str:
    """A run that claims to be running while no process holds it was killed."""
    return "interrupted" if recorded == "running" and not is_running(folder) else recorded


def _model_in(folder: Path) -> Path | None:
    """The SavedModel that a folder is, or the newest version in it."""
    from kerasall.serving.predictor import newest_version

    try:
        return newest_version(folder)
    except ArtifactError:
        return None


@dataclass(frozen=True)
class TrialFolder:
    """A project of a designed experiment, and where what is made from it goes.

    Attributes:
        project: folder with oracle.json and the trials.
        out: folder for trials.csv and trials.html; None where none may be written beside the project.
        title: name of the run or the project.
    """

    project: Path
    out: Path | None
    title: str


def find_trials(text: str) -> TrialFolder:
    """Finds the trials of a run, finished or not, or of a folder.

    Args:
        text: what ``Run.find`` takes, or a folder with one keras-tuner project in or below it.

    Raises:
        ArtifactError: there are none, or several; the message says what there is.
    """
    folder = Path(text).expanduser().absolute()
    run = Run.look_up(text)
    if run is None and folder.is_dir():
        project = _sole(list(_projects_below(folder, 3)), folder)
        is_artifact = any((parent / "artifact.json").is_file() for parent in project.parents[:3])
        return TrialFolder(project, None if is_artifact else project, project.name)
    run = run or Run.find(text)
    # Of a step that has not ended there is what it leaves to go on from.
    finished = [project for output in run.outputs for project in _projects_below(Path(output["path"]), 1)]
    begun = (project for left in _begun(run) for project in _projects_below(left, 2))
    return TrialFolder(_sole(finished or list(begun), run.folder), run.folder, run.name)


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


def _begun(run: Run) -> Iterator[Path]:
    places = RunPlaces(run.folder.parent, run.name)
    if not places.metadata.exists():
        return
    artifacts = ArtifactStore(places.artifacts)
    for component, key in read_keys(places.metadata, run.name):
        yield artifacts.folder(component, key).with_suffix(".partial")


def _projects_below(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / PROJECT).is_file():
        yield folder
    elif depth and folder.is_dir():
        for below in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from _projects_below(below, depth - 1)


def _sole(projects: list[Path], where: Path) -> Path:
    if len(projects) == 1:
        return projects[0]
    found = f"{len(projects)}: {', '.join(map(str, projects[:6]))}: name one of them" if projects else "none"
    raise ArtifactError(f"{where} must hold one designed experiment ({PROJECT}), but holds {found}")
