"""Artifacts as folders: ``<store>/<Component>/<key>/<output>/``, complete or absent.

While a step runs, its folder carries the suffix ``.partial``; it is renamed when every output is
written and hashed. A killed step leaves its ``.partial`` folder, from which the next try resumes.

What killed processes leave is swept where nobody can want it any more. A half-made artifact holds what its
step would resume from, so it is kept for some days; it goes only while its lock is held here, which no process
that works on it would allow. A temporary file goes once the process that wrote it has ended.
"""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kerasall.errors import ArtifactError
from kerasall.files import UNKEYED, is_abandoned, is_temporary, read_json, sha256_of_folder, write_json

SCHEMA_VERSION = 1

TELL_SECONDS = 60.0
"""How often a step that waits for another process says so."""

KEPT_DAYS = 7
"""How long a half-made artifact waits for its step to go on, counted from its last change."""

_ASK_SECONDS = 0.2
_DAY_SECONDS = 86_400
_RECORD = "artifact.json"
_SCRATCH = ".scratch"
_PARTIAL, _DAMAGED = ".partial", ".damaged"


@dataclass(frozen=True)
class Artifact:
    """One finished output of a step: its folder, type and content digest."""

    name: str
    type: str
    path: Path
    digest: str
    size: int


class ArtifactStore:
    """Finds, makes and locks the folders of artifacts below one root."""

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def folder(self, component: str, key: str) -> Path:
        """Where the outputs of the step with this key lie once complete."""
        return self.root / component / key[:20]

    def find(self, component: str, key: str) -> dict[str, Artifact] | None:
        """The outputs of a finished step, or None where it must run.

        A folder whose files differ in number or size from its record is not trusted: it is set
        aside under the suffix ``.damaged`` and None is returned.
        """
        folder = self.folder(component, key)
        if not (folder / _RECORD).is_file():
            return None
        record = read_json(folder / _RECORD)
        if record.get("schema_version") != SCHEMA_VERSION or record["key"] != key:
            return None
        artifacts = {o["name"]: Artifact(**o, path=folder / o["name"]) for o in record["outputs"]}
        if any(_size(a.path) != a.size for a in artifacts.values()):
            _set_aside(folder)
            return None
        return artifacts

    def record(self, component: str, key: str) -> dict[str, Any]:
        """What was written down when the step finished: parameters, inputs, metrics, seconds."""
        return read_json(self.folder(component, key) / _RECORD)

    @contextmanager
    def locked(self, component: str, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Holds the right to make this artifact; waits for another process that is making it.

        Args:
            component, key: of the step.
            waiting: called when the wait begins, and again every ``TELL_SECONDS``.
        """
        lock = self.folder(component, key).with_suffix(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with open(lock, "w") as file:
            told = -math.inf
            while not _try_lock(file):
                if time.monotonic() - told >= TELL_SECONDS:
                    waiting()
                    told = time.monotonic()
                time.sleep(_ASK_SECONDS)
            yield

    @contextmanager
    def if_free(self, component: str, key: str) -> Iterator[bool]:
        """Tells whether no process is making this artifact, and lets none begin meanwhile."""
        with open(self.folder(component, key).with_suffix(".lock"), "w") as file:
            yield _try_lock(file)

    def open(self, component: str, key: str, outputs: list[str]) -> tuple[dict[str, Path], Path]:
        """Makes the folders of a step that starts: fresh outputs, and the scratch an earlier try left."""
        partial = self.folder(component, key).with_suffix(_PARTIAL)
        folders = {name: partial / name for name in outputs}
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        scratch = partial / _SCRATCH
        scratch.mkdir(exist_ok=True)
        return folders, scratch

    def commit(
        self, component: str, key: str, types: dict[str, str], record: dict[str, Any]
    ) -> dict[str, Artifact]:
        """Hashes the outputs, writes the record and renames the folder into place."""
        final = self.folder(component, key)
        partial = final.with_suffix(_PARTIAL)
        empty = [name for name in types if not any((partial / name).iterdir())]
        if empty:
            raise ArtifactError(f"{component} must write every output, but left {empty} empty")
        outputs = [
            {
                "name": n,
                "type": t,
                "digest": sha256_of_folder(partial / n, UNKEYED),
                "size": _size(partial / n),
            }
            for n, t in types.items()
        ]
        content = {"schema_version": SCHEMA_VERSION, "key": key, "outputs": outputs} | record
        write_json(partial / _RECORD, content)
        if final.exists():
            _set_aside(final)
        os.replace(partial, final)
        # Only now: a kill while the outputs are hashed must leave what the step resumes from.
        shutil.rmtree(final / _SCRATCH, ignore_errors=True)
        found = self.find(component, key)
        assert found is not None
        return found


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else -1


def _set_aside(folder: Path) -> None:
    damaged = folder.with_suffix(_DAMAGED)
    shutil.rmtree(damaged, ignore_errors=True)
    os.replace(folder, damaged)


def sweep_leftovers(artifacts: Path, folders: Iterable[Path]) -> list[str]:
    """Removes what killed processes left behind.

    Args:
        artifacts: root of the artifact store.
        folders: searched to the bottom for temporary files and folders of kerasall.

    Returns:
        One line for a person per thing that was removed.
    """
    removed = [*_sweep_partials(artifacts)]
    for folder in folders:
        removed += [_remove(path) for path in [*_temporaries(folder)] if is_abandoned(path)]
    return removed


def _sweep_partials(artifacts: Path) -> Iterator[str]:
    store = ArtifactStore(artifacts)
    for path in sorted(p for suffix in (_PARTIAL, _DAMAGED) for p in artifacts.glob(f"*/*{suffix}")):
        if time.time() - _last_change(path) < KEPT_DAYS * _DAY_SECONDS:
            continue
        with store.if_free(path.parent.name, path.stem) as free:
            # Looked at again under the lock: the step may have gone on in the meantime.
            if free and path.is_dir() and time.time() - _last_change(path) >= KEPT_DAYS * _DAY_SECONDS:
                yield _remove(path)


def _temporaries(folder: Path) -> Iterator[Path]:
    """Temporary files and folders, the outermost ones."""
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent) / name for name in [*folders, *files] if is_temporary(name))
        folders[:] = [name for name in folders if not is_temporary(name)]


def _last_change(folder: Path) -> float:
    """Time of the newest change of anything in a folder, seconds since 1970; now where it goes away meanwhile."""
    try:
        return max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])
    except FileNotFoundError:
        return time.time()


def _remove(path: Path) -> str:
    size = sum(p.lstat().st_size for p in [path, *path.rglob("*")] if p.is_file())
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return f"removed {path}, which an earlier process left ({size / 2**20:.1f} MiB)"
