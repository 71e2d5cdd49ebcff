"""The stored state of one training stage, safe against a kill at any moment.

A state folder holds, as plain arrays without pickle:

    start.npz        every variable before the first epoch
    epoch_0007.npz   what has changed since, after the last stored epoch (and after the best one)
    progress.json    schema, fingerprint, history, which of the files count, and the SHA-256 of each
    final.npz        after the stage's end, instead of the others: the model's variables

``progress.json`` is written last and by a rename, so it is the one moment at which an epoch counts.
Files it does not name are left-overs of a kill and are removed.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from kerasall.errors import ArtifactError, SettingsError, first_fault
from kerasall.files import atomic_path, read_object, sha256_of_file, write_json
from kerasall.training.history import History, NonFiniteError

SCHEMA = 1


class _Progress(BaseModel):
    """What a progress.json of this schema holds."""

    model_config = ConfigDict(strict=True)
    fingerprint: dict[str, Any]
    state: str
    best: str | None
    history: dict[str, Any] | None
    finished: bool = False
    sha256: dict[str, str] = {}


class StateFolder:
    """The state folder of one stage of one configuration.

    Args:
        folder: made if it does not exist; nothing else may write there.
        fingerprint: JSON object that says what is trained, on what, and how.
        seconds: an epoch that ends sooner after the last stored one counts only in memory, so that short epochs
            are not spent on writing; 0 stores every epoch.

    Raises:
        SettingsError: the fingerprint is no JSON object, or the folder holds the state of another one;
            the message lists the differences.
        ArtifactError: the folder's state cannot be read.
    """

    def __init__(self, folder: str | Path, fingerprint: Mapping[str, Any], seconds: float = 0.0) -> None:
        self.folder = Path(folder)
        self._seconds, self._stored_at = seconds, time.monotonic()
        self._best: tuple[str, dict[str, np.ndarray]] | None = None  # of the best epoch, while in memory only
        self.fingerprint = _as_json(fingerprint)
        self._progress: dict[str, Any] = {}  # as on disk; empty before the start is stored
        self._digests: dict[str, str] = {}
        if (self.folder / "progress.json").exists():
            self._progress = self._read_progress()
            self._require_own()
            self._digests = dict(self._progress.get("sha256", {}))

    def _read_progress(self) -> dict[str, Any]:
        try:
            return read_object(self.folder / "progress.json")
        except ArtifactError as error:
            said = str(error).removesuffix(": make it again")
            raise ArtifactError(f"{said}: delete the folder to train from the start") from None

    def _require_own(self) -> None:
        """Refuses the state of another schema, of odd values, or of another configuration."""
        if self._progress.get("schema") != SCHEMA:
            raise ArtifactError(
                f"{self.folder} must hold a training state of schema {SCHEMA}, but has "
                f"{self._progress.get('schema')!r}: delete the folder to train from the start"
            )
        try:
            _Progress.model_validate(self._progress)
            _ = self.history
        except (ValidationError, ArtifactError) as error:
            raise ArtifactError(
                f"{self.folder / 'progress.json'} must be as a training stage left it, but "
                f"{error if isinstance(error, ArtifactError) else first_fault(error)}: delete the folder to train "
                "from the start"
            ) from None
        if differences := list_differences(self._progress["fingerprint"], self.fingerprint):
            raise SettingsError(
                f"{self.folder} must hold a training state of this configuration, but differs: "
                f"{'; '.join(differences)}. Give another folder, or delete this one to train from the start"
            )

    @property
    def history(self) -> History | None:
        """History up to the last epoch that counts; None before the first."""
        history = self._progress.get("history")
        return None if history is None else History.from_json(history)

    @property
    def finished(self) -> bool:
        """Whether the stage has ended."""
        return bool(self._progress.get("finished"))

    def begin_or_resume(self, model: keras.Model) -> None:
        """Stores the start, or puts model and optimizer where the last epoch that counts left them.

        Args:
            model: compiled, its optimizer built.

        Raises:
            ArtifactError: stored arrays are missing, damaged, or of another model.
        """
        if not self._progress:
            _write_arrays(self.folder / "start.npz", _snapshot(model, with_optimizer=True))
            self._commit(state="start.npz", best=None, history=None)
        else:
            self._remove_leftovers()
            self._restore(model, self._progress["state"], with_optimizer=True)

    def store_epoch(self, model: keras.Model, history: History) -> None:
        """Makes the last epoch of ``history`` count; on disk too, unless one was stored just before.

        Raises:
            NonFiniteError: a variable is not finite; the state stays at the epoch before.
        """
        epoch = history.epochs[-1].epoch
        arrays = _snapshot(model, with_optimizer=True)
        numbers = (array for array in arrays.values() if np.issubdtype(array.dtype, np.floating))
        if not all(np.isfinite(array).all() for array in numbers):
            raise NonFiniteError("a weight or an optimizer variable")
        name = f"epoch_{epoch:04d}.npz"
        if history.best_epoch == epoch:
            self._best = name, {key: array for key, array in arrays.items() if key[0] == "m"}
        if time.monotonic() - self._stored_at < self._seconds:
            return
        self._write_changed(model, name, arrays)
        best = self._progress["best"]
        if self._best is not None:
            best = self._best[0]
            if best != name:
                self._write_changed(model, *self._best)
        self._commit(state=name, best=best, history=history)
        self._best, self._stored_at = None, time.monotonic()

    def _write_changed(self, model: keras.Model, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes what has moved since the start; frozen layers are most of a network."""
        # What trains has moved: only the rest need be read and compared.
        moved = {
            key for key, v in _variables(model, with_optimizer=True).items() if key[0] == "o" or v.trainable
        }
        with np.load(self.folder / "start.npz", allow_pickle=False) as start:
            changed = {
                key: array
                for key, array in arrays.items()
                if key in moved or array.tobytes() != start[key].tobytes()
            }
        _write_arrays(self.folder / name, changed)

    def finish(self, model: keras.Model, history: History) -> None:
        """Gives the model its best epoch's weights and marks the stage as ended."""
        if self._best is None:
            self._restore(model, self._progress["best"], with_optimizer=False)
        else:
            for key, variable in _variables(model, with_optimizer=False).items():
                variable.assign(self._best[1][key])
        _write_arrays(self.folder / "final.npz", _snapshot(model, with_optimizer=False))
        self._commit(state="final.npz", best=None, history=history, finished=True)

    def restore_final(self, model: keras.Model) -> None:
        """Gives the model the weights that the finished stage ended with."""
        self._remove_leftovers()
        self._restore(model, "final.npz", with_optimizer=False)

    def _commit(
        self, *, state: str, best: str | None, history: History | None, finished: bool = False
    ) -> None:
        files = (state, best, None if finished else "start.npz")
        progress = {
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "state": state,
            "best": best,
            "sha256": {name: self._digest(name) for name in dict.fromkeys(files) if name},
            "finished": finished,
            "history": None if history is None else history.to_json(),
        }
        write_json(self.folder / "progress.json", progress)
        self._progress = progress
        self._remove_leftovers()

    def _digest(self, name: str) -> str:
        """SHA-256 of a file of the state, which was written once and never changes."""
        if name not in self._digests:
            self._digests[name] = sha256_of_file(self.folder / name)
        return self._digests[name]

    def _remove_leftovers(self) -> None:
        needed = {"progress.json", self._progress["state"], self._progress["best"]}
        if not self.finished:
            needed.add("start.npz")
        for path in self.folder.iterdir():
            if path.name not in needed and path.suffix in (".npz", ".json"):
                path.unlink()

    def _restore(self, model: keras.Model, name: str, *, with_optimizer: bool) -> None:
        variables = _variables(model, with_optimizer)
        arrays: dict[str, np.ndarray] = {}
        try:
            for file in dict.fromkeys(["final.npz" if name == "final.npz" else "start.npz", name]):
                if self._digests.get(file) not in (None, sha256_of_file(self.folder / file)):
                    raise ValueError("it was changed since it was stored")
                with np.load(self.folder / file, allow_pickle=False) as stored:
                    arrays |= {key: stored[key] for key in stored.files if with_optimizer or key[0] == "m"}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ArtifactError(
                f"{self.folder / name} must hold a training state, but reading it failed ({error}): "
                "delete the folder to train from the start"
            ) from None
        stored_shapes = {key: array.shape for key, array in arrays.items()}
        if stored_shapes != {key: tuple(variable.shape) for key, variable in variables.items()}:
            raise ArtifactError(
                f"{self.folder} must hold the state of this model ({len(variables)} variables), but holds "
                f"{len(arrays)} of other shapes: give another folder, or delete this one"
            )
        for key, variable in variables.items():
            variable.assign(arrays[key])


def list_differences(stored: Any, now: Any, name: str = "") -> list[str]:
    """Sentences "key: stored X, now Y" for every leaf in which two JSON values differ."""
    if isinstance(stored, dict) and isinstance(now, dict):
        keys = sorted(set(stored) | set(now))
        pairs = [(f"{name}.{key}" if name else key, stored.get(key), now.get(key)) for key in keys]
        return [line for key, old, new in pairs for line in list_differences(old, new, key)]
    return [] if stored == now else [f"{name}: stored {stored!r}, now {now!r}"]


def _as_json(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(dict(fingerprint), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"the fingerprint of a training stage must be a JSON object, but {error}"
        ) from None


def _variables(model: keras.Model, with_optimizer: bool) -> dict[str, Any]:
    """Variables by place, not by name: names count up within a process and differ in the next one.

    ``model.variables`` holds weights, BatchNorm statistics and the state of every seed generator.
    """
    variables = {f"model_{index:05d}": variable for index, variable in enumerate(model.variables)}
    if with_optimizer:
        variables |= {f"optimizer_{i:05d}": variable for i, variable in enumerate(model.optimizer.variables)}
    return variables


def _snapshot(model: keras.Model, *, with_optimizer: bool) -> dict[str, np.ndarray]:
    # Keras' own convert_to_numpy copies once more, and NumPy 2 warns of how.
    arrays = {key: np.asarray(v) for key, v in _variables(model, with_optimizer).items()}
    # .npz knows no bfloat16; float32 holds each of its values exactly.
    return {key: a.astype(np.float32) if a.dtype.name == "bfloat16" else a for key, a in arrays.items()}


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)  # pyright: ignore[reportArgumentType]
