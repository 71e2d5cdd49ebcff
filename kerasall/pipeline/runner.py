"""Runs a pipeline step by step: what is already made is reused, what was broken off is resumed."""

from __future__ import annotations

import fcntl
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

from kerasall.errors import ArtifactError, KerasallError
from kerasall.files import atomic_path, read_json, sha256_of_json, write_json, write_text
from kerasall.pipeline.artifacts import Artifact, ArtifactStore
from kerasall.pipeline.component import Output, Pipeline, Scratch, Step
from kerasall.pipeline.metadata import MetadataStore
from kerasall.shown_text import tell

RUN_SCHEMA_VERSION = 1

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
            state = "failed" if isinstance(error, Exception) else "interrupted"
            store.end_run(run_id, state, str(error))
            journal.finish(state, error)
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(journal.describe_stop()) from None
            raise
        store.end_run(run_id, "complete")
        journal.finish("complete")
        return result


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
            step, places, store, run_id, result.artifacts, partial(say, f"{prefix} ..."),
            partial(say, f"{prefix}: another process is at it; waiting until it has finished"),
        )  # fmt: skip
        seconds = time.monotonic() - begun
        say(f"{prefix}: {'cached' if state == 'cached' else f'done in {seconds:.1f} s'}")
        result.states[step.title] = state
        result.metrics[step.title] = metrics
        result.artifacts.update({(step.title, name): artifact for name, artifact in outputs.items()})
        journal.add(step.title, state, seconds, outputs, metrics)
        _publish(pipeline, step, outputs, places.folder)
    return result


def _run_step(
    step: Step, places: RunPlaces, store: MetadataStore, run_id: int,
    made: Mapping[tuple[str, str], Artifact], announce: Callable[[], None], waiting: Callable[[], None],
) -> tuple[str, dict[str, Artifact], dict[str, Any]]:  # fmt: skip
    from kerasall.runtime import (
        noting_progress,  # here, because it loads NumPy, and --help must answer at once
    )

    inputs = {name: made[(c.step.title, c.name)] for name, c in step.inputs.items()}
    key = step_key(step, inputs)
    artifacts = ArtifactStore(places.artifacts)
    name = step.component.name
    execution = store.start_execution(run_id, step.title, name, key, step.parameters, inputs)
    try:
        with artifacts.locked(name, key, waiting):
            outputs = _find_valid(step, artifacts, key)
            state = "cached" if outputs is not None else "complete"
            if outputs is None:
                announce()
                with noting_progress(places.folder / PROGRESS):
                    outputs = _execute(step, key, inputs, artifacts)
        metrics = artifacts.record(name, key)["metrics"]
    except Exception as error:
        store.end_execution(execution, "failed", error=str(error))
        raise
    store.end_execution(execution, state, outputs, metrics)
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


def _publish(pipeline: Pipeline, step: Step, outputs: Mapping[str, Artifact], folder: Path) -> None:
    for name, (channel, inside) in pipeline.publish.items():
        if channel.step is not step:
            continue
        source = outputs[channel.name].path / inside
        if source.is_file():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(source, temporary)


class _Journal:
    """Keeps run.json up to date while the run goes on."""

    def __init__(self, places: RunPlaces, experiment: str, settings: Any, command: str):
        self._path = places.folder / "run.json"
        former: dict[str, Any] = {"experiment": experiment}
        if self._path.exists():
            former = read_json(self._path)
        if (other := former.get("experiment")) != experiment:
            raise ArtifactError(
                f"the run {places.name} in {places.folder} belongs to experiment {other}, but {experiment} "
                "was asked for: give --name, so that its report is kept"
            )
        self.former = ""
        if former.get("at") and former["state"] != "complete":
            how = "failed" if former["state"] == "failed" else "was stopped"
            self.former = f"the run {places.name} goes on: it {how} in {_describe_step(former['at'])}"
        self._content: dict[str, Any] = {
            "schema_version": RUN_SCHEMA_VERSION, "name": places.name, "experiment": experiment,
            "state": "running", "error": None, "versions": computing_versions(), "command": command,
            "started": time.time(), "finished": None, "process": os.getpid(), "host": socket.gethostname(),
            "settings": settings, "at": None, "steps": [],
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
    """Two processes must not write one run; the lock falls with the process, however it ends."""
    places.folder.mkdir(parents=True, exist_ok=True)
    with open(places.folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise KerasallError(
                f"the run {places.name} is going on in another process: wait for it, or give --name for a second run"
            ) from None
        yield


def is_running(folder: str | Path) -> bool:
    """Whether a living process holds the run in ``folder``."""
    lock = Path(folder) / ".lock"
    if not lock.exists():
        return False
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
