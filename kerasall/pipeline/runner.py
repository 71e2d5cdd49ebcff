"""Runs a pipeline step by step: what is already made is reused, what was broken off is resumed."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, StrictInt, StrictStr, ValidationError

from kerasall.errors import ArtifactError, KerasallError, first_fault
from kerasall.files import (
    atomic_path,
    is_plain,
    read_object,
    sha256_of_file,
    sha256_of_json,
    write_json,
    write_text,
)
from kerasall.locks import describe_holder, is_locked, locked
from kerasall.pipeline.artifacts import Artifact, ArtifactStore, require_unchanged
from kerasall.pipeline.component import Output, Pipeline, Scratch, Step
from kerasall.pipeline.metadata import MetadataStore
from kerasall.shown_text import tell

RUN_SCHEMA_VERSION = 1

_LOCK = ".lock"
PROGRESS = "progress.json"
"""File in a run's folder that says how far the step at work is; there while one works."""


@dataclass(frozen=True)
class RunPlaces:
    """Where one run and what it shares with others lie below a runs folder."""

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        """The run's own folder: run.json, the published files."""
        return self.root / self.name

    @property
    def artifacts(self) -> Path:
        """Finished artifacts of all runs, by component and key."""
        return self.root / "artifacts"

    @property
    def metadata(self) -> Path:
        """The SQLite file of all runs."""
        return self.root / "metadata.sqlite"


@dataclass(frozen=True)
class RunResult:
    """What a finished run left: per step its state, and every artifact by (step, output)."""

    folder: Path
    states: dict[str, str]
    artifacts: dict[tuple[str, str], Artifact]
    metrics: dict[str, dict[str, Any]]


def run_pipeline(
    pipeline: Pipeline,
    places: RunPlaces,
    *,
    experiment: str,
    settings: Any,
    command: str = "",
    say: Callable[[str], None] | None = None,
    texts: Mapping[str, str] | None = None,
) -> RunResult:
    """Runs every step of ``pipeline`` whose result is not at hand yet.

    A step's key is the hash of its component's name and the meaning of its code, its parameters, the content
    digests of its keyed inputs and its fingerprint of the outside; a finished artifact under that key is reused.

    Args:
        pipeline: the steps in order.
        places: the run's name and folders.
        experiment: name of the experiment, noted with the run.
        settings: resolved settings as JSON, noted with the run.
        command: the command line that started the run.
        say: receives one line per step; standard error by default.
        texts: name -> content of small files for the run's folder.

    Raises:
        KerasallError: a step failed for a reason the user can cure; finished steps stay finished.
        KeyboardInterrupt: somebody stopped it; the message says what is stored, and what goes on from there.
    """
    say = say or tell
    with _sole_run(places):
        journal = _Journal(places, experiment, settings, command)
        if journal.former:
            say(journal.former)
        # A result of earlier settings must not be taken for this run's.
        for name in pipeline.publish:
            (places.folder / name).unlink(missing_ok=True)
        for name, text in (texts or {}).items():
            write_text(places.folder / name, text)
        store = MetadataStore(places.metadata)
        run_id = store.start_run(places.name, experiment, command, settings)
        try:
            result = _run_steps(pipeline, places, store, run_id, journal, say)
        except BaseException as error:
            state, said = "failed" if isinstance(error, Exception) else "interrupted", str(error)
            with suppress(OSError):  # a full disk, of which the error itself tells
                journal.finish(state, error)
            _note_down(say, lambda: store.end_run(run_id, state, said))
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(journal.describe_stop()) from None
            raise
        journal.finish("complete")
        _note_down(say, lambda: store.end_run(run_id, "complete"))
        return result


def _note_down(say: Callable[[str], None], write: Callable[[], Any]) -> Any:
    """Writes into the metadata store, which a run that has begun can do without: no result is read from there."""
    try:
        return write()
    except ArtifactError as error:
        say(f"not noted down: {error}")
        return None


def _run_steps(
    pipeline: Pipeline, places: RunPlaces, store: MetadataStore, run_id: int, journal: _Journal,
    say: Callable[[str], None],
) -> RunResult:  # fmt: skip
    result = RunResult(places.folder, {}, {}, {})
    for number, step in enumerate(pipeline.steps, start=1):
        begun = time.monotonic()
        prefix = f"[{number}/{len(pipeline.steps)}] {step.title}"
        journal.begin(step.title, number, len(pipeline.steps))
        state, outputs, metrics = _run_step(
            step, places, store, run_id, result.artifacts, say, f"{prefix} ...",
            f"{prefix}: another process is at it; waiting until it has finished",
        )  # fmt: skip
        seconds = time.monotonic() - begun
        say(f"{prefix}: {'cached' if state == 'cached' else f'done in {seconds:.1f} s'}")
        result.states[step.title] = state
        result.metrics[step.title] = metrics
        result.artifacts.update({(step.title, name): artifact for name, artifact in outputs.items()})
        journal.add(step.title, state, seconds, outputs, metrics)
        journal.publish(_publish(pipeline, step, outputs, places.folder))
    return result


def _run_step(
    step: Step, places: RunPlaces, store: MetadataStore, run_id: int,
    made: Mapping[tuple[str, str], Artifact], say: Callable[[str], None], announcement: str, waiting: str,
) -> tuple[str, dict[str, Artifact], dict[str, Any]]:  # fmt: skip
    from kerasall.runtime import (
        noting_progress,  # here, because it loads NumPy, and --help must answer at once
    )

    inputs = {name: made[(c.step.title, c.name)] for name, c in step.inputs.items()}
    key = step_key(step, inputs)
    artifacts = ArtifactStore(places.artifacts, say)
    name = step.component.name
    execution = _note_down(
        say, lambda: store.start_execution(run_id, step.title, name, key, step.parameters, inputs)
    )
    try:
        with artifacts.locked(name, key, partial(say, waiting)):
            outputs = _find_valid(step, artifacts, key)
            state = "cached" if outputs is not None else "complete"
            if outputs is None:
                say(announcement)
                with noting_progress(places.folder / PROGRESS):
                    outputs = _execute(step, key, inputs, artifacts)
        metrics = artifacts.record(name, key)["metrics"]
    except Exception as error:
        failed = str(error)
        if execution is not None:
            _note_down(say, lambda: store.end_execution(execution, "failed", error=failed))
        raise
    if execution is not None:
        _note_down(say, lambda: store.end_execution(execution, state, outputs, metrics))
    return state, outputs, metrics


def _find_valid(step: Step, artifacts: ArtifactStore, key: str) -> dict[str, Artifact] | None:
    found = artifacts.find(step.component.name, key)
    if found is None or step.component.still_valid is None:
        return found
    return found if step.component.still_valid({n: a.path for n, a in found.items()}) else None


def step_key(step: Step, inputs: Mapping[str, Artifact]) -> str:
    """The content key of a step: equal keys mean equal results."""
    return sha256_of_json(
        {
            "component": step.component.name,
            "code": step.component.code(),
            "versions": computing_versions(),
            "parameters": step.parameters,
            "inputs": step.keyed_digests({name: artifact.digest for name, artifact in inputs.items()}),
            "outside": step.external_fingerprint(),
        }
    )


@cache
def computing_versions() -> dict[str, str]:
    """Versions of the packages whose numbers end up in results."""
    names = [
        "tensorflow",
        "keras",
        "numpy",
        "scipy",
        "scikit-learn",
        "opencv-python-headless",
        "pillow",
        "simplejpeg",
        "jax",
    ]
    found: dict[str, str] = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _execute(
    step: Step, key: str, inputs: Mapping[str, Artifact], artifacts: ArtifactStore
) -> dict[str, Artifact]:
    component = step.component
    for artifact in inputs.values():  # whole when it was found, hours ago perhaps
        require_unchanged(artifact.path, artifact.digest)
    types = {name: mark.type for name, mark in component.of_kind(Output).items()}
    folders, scratch = artifacts.open(component.name, key, list(types))
    arguments: dict[str, Any] = dict(step.arguments)
    arguments |= step.input_folders({name: artifact.path for name, artifact in inputs.items()})
    arguments |= folders | dict.fromkeys(component.of_kind(Scratch), scratch)
    begun = time.monotonic()
    metrics = component.function(**arguments) or {}
    record = {
        "component": component.name,
        "parameters": step.parameters,
        "inputs": {name: {"path": str(a.path), "digest": a.digest} for name, a in inputs.items()},
        "metrics": dict(metrics),
        "seconds": round(time.monotonic() - begun, 3),
    }
    return artifacts.commit(component.name, key, types, record)


def _publish(pipeline: Pipeline, step: Step, outputs: Mapping[str, Artifact], folder: Path) -> dict[str, str]:
    """Copies what a person wants to find into the run's folder; name -> SHA-256."""
    published = {}
    for name, (channel, inside) in pipeline.publish.items():
        if channel.step is not step:
            continue
        source = outputs[channel.name].path / inside
        if source.is_file():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(source, temporary)
                published[name] = sha256_of_file(temporary)
    return published


class _Output(BaseModel):
    path: StrictStr
    type: StrictStr = ""
    digest: StrictStr = ""


class _StepRow(BaseModel):
    step: StrictStr
    state: StrictStr = "unknown"
    seconds: float = 0.0
    metrics: dict[str, Any] = {}
    outputs: dict[str, _Output] = {}


class _At(BaseModel):
    step: StrictStr
    number: StrictInt
    steps: StrictInt
    since: float


class _Named(BaseModel):
    backbone: StrictStr = ""


class _Member(BaseModel):
    model: _Named


class _Extractors(BaseModel):
    extractors: list[_Named] | None = None


class _Backbones(BaseModel):
    backbones: list[_Named] | None = None


class _DataPlace(BaseModel):
    path: StrictStr | None = None
    source: StrictStr | None = None


class _Scored(BaseModel):
    main_metric: StrictStr | None = None


class _SettingsRead(BaseModel):
    """What is read of a run's settings."""

    data: _DataPlace | None = None
    evaluate: _Scored | None = None
    model: _Named | None = None
    members: list[_Member] | None = None
    deep_features: _Extractors | None = None
    sweep: _Backbones | None = None


class _Record(BaseModel):
    """What is read of a run.json; whatever else it holds passes."""

    experiment: StrictStr = ""
    state: StrictStr = ""
    error: StrictStr | None = None
    command: StrictStr | None = None
    started: float | None = Field(None, ge=0, lt=1e11)
    settings: _SettingsRead = _SettingsRead()
    at: _At | None = None
    steps: list[_StepRow] = []
    published: dict[str, StrictStr] = {}


def read_record(path: Path) -> dict[str, Any]:
    """Content of a run.json, of whose parts each is of its kind, so that whoever reads it need not ask.

    Raises:
        ArtifactError: it cannot be read, or is made otherwise; the message names it and the cure.
    """
    try:
        found = read_object(path)
        if not is_plain(found):
            raise ArtifactError(f"{path} must be JSON, but holds NaN, infinity or half a character")
        _Record.model_validate(found, strict=True)
    except (ArtifactError, ValidationError) as error:
        said = str(error).partition(": make it again")[0]
        if isinstance(error, ValidationError):
            said = f"{path} must be the record of a run, but {first_fault(error)}"
        raise ArtifactError(
            f"{said}: move it away, and give the command of the run again, which writes it anew from the steps that "
            "are stored"
        ) from None
    lacking = {
        name: field.default for name, field in _StepRow.model_fields.items() if not field.is_required()
    }
    return found | {"steps": [lacking | step for step in found.get("steps", [])]}


class _Journal:
    """Keeps run.json up to date while the run goes on."""

    def __init__(self, places: RunPlaces, experiment: str, settings: Any, command: str):
        self._path = places.folder / "run.json"
        former: dict[str, Any] = {"experiment": experiment}
        if os.path.lexists(self._path):
            former = read_record(self._path)
        if (other := former.get("experiment")) != experiment:
            raise ArtifactError(
                f"the run {places.name} in {places.folder} belongs to experiment {other}, but {experiment} "
                "was asked for: give --name, so that its report is kept"
            )
        self.former = ""
        if former.get("at") and former.get("state") != "complete":
            how = "failed" if former.get("state") == "failed" else "was stopped"
            self.former = f"the run {places.name} goes on: it {how} in {_describe_step(former['at'])}"
        self._content: dict[str, Any] = {
            "schema_version": RUN_SCHEMA_VERSION, "name": places.name, "experiment": experiment,
            "state": "running", "error": None, "versions": computing_versions(), "command": command,
            "started": time.time(), "finished": None, "process": os.getpid(), "host": socket.gethostname(),
            "settings": settings, "at": None, "steps": [], "published": {},
        }  # fmt: skip
        write_json(self._path, self._content)

    def begin(self, step: str, number: int, steps: int) -> None:
        """Notes which step is at work."""
        self._content["at"] = {"step": step, "number": number, "steps": steps, "since": time.time()}
        write_json(self._path, self._content)

    def describe_stop(self) -> str:
        """What is stored of a run that was stopped, and what goes on from there."""
        at, command = self._content["at"], self._content["command"]
        where = f" in {_describe_step(at)}" if at else ""
        again = f":\n  {command}" if command else ""
        return (
            f"stopped{where}; finished steps and stored epochs are kept in {self._path.parent.parent}, and the same "
            f"command goes on from there{again}"
        )

    def add(
        self,
        step: str,
        state: str,
        seconds: float,
        outputs: Mapping[str, Artifact],
        metrics: Mapping[str, Any],
    ) -> None:
        self._content["steps"].append(
            {
                "step": step,
                "state": state,
                "seconds": round(seconds, 3),
                "metrics": dict(metrics),
                "outputs": {
                    n: {"path": str(a.path), "type": a.type, "digest": a.digest} for n, a in outputs.items()
                },
            }
        )
        write_json(self._path, self._content)

    def publish(self, files: Mapping[str, str]) -> None:
        """Notes what was copied into the run's folder, by name and SHA-256."""
        if files:
            self._content["published"] |= files
            write_json(self._path, self._content)

    def finish(self, state: str, error: BaseException | None = None) -> None:
        said = str(error) if error else ""
        self._content |= {"state": state, "error": said or None, "finished": time.time()}
        if state == "complete":
            self._content["at"] = None
        write_json(self._path, self._content)


def _describe_step(at: Mapping[str, Any]) -> str:
    return f"step {at['number']} of {at['steps']}, {at['step']}"


def reserve_run(places: RunPlaces, experiment: str, settings: Any, command: str = "") -> None:
    """Writes the record of a run that is about to begin, so that its name is seen to be taken.

    Args:
        places, experiment, settings, command: as ``run_pipeline``.
    """
    _Journal(places, experiment, settings, command)


@contextmanager
def _sole_run(places: RunPlaces) -> Iterator[None]:
    """Two processes must not write one run."""
    places.folder.mkdir(parents=True, exist_ok=True)
    lock = places.folder / _LOCK
    with locked(lock, wait=False) as held:
        if not held:
            raise KerasallError(
                f"the run {places.name} is going on in another process{describe_holder(lock)}: wait for it, or give "
                "--name for a second run"
            )
        yield


def is_running(folder: str | Path) -> bool:
    """Whether a living process holds the run in ``folder``."""
    return is_locked(Path(folder) / _LOCK)
