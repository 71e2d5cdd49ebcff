"""Artifacts as folders: ``<store>/<Component>/<key>/<output>/``, complete or absent.

While a step runs, its folder carries the suffix ``.partial``; it is renamed when every output is
written and hashed. A killed step leaves its ``.partial`` folder, from which the next try resumes.

The record beside the outputs holds the SHA-256 of each of their files, and of itself. Whatever is reused or read is
hashed again first, all of it, every time: a disk's fault keeps size and time, and a file that somebody changed may too.
At 0.5 to 1.2 GB a second on one core a network of 100 MB costs a fifth of a second at most. What changed
is set aside and made again; what merely lies there besides costs nothing that was made: its removal is asked for.

What killed processes leave is swept where nobody can want it any more. A half-made artifact holds what its
step would resume from, so it is kept for some days; it goes only while its lock is held here, which no process
that works on it would allow. A temporary file goes once the process that wrote it has ended.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasall.errors import ArtifactError
from kerasall.files import (
    UNKEYED,
    digest_of_files,
    hash_files,
    is_abandoned,
    is_plain,
    is_temporary,
    read_object,
    sha256_of_json,
    write_json,
)
from kerasall.locks import locked
from kerasall.shown_text import tell

SCHEMA_VERSION = 1

TELL_SECONDS = 60.0
"""How often a step that waits for another process says so."""

KEPT_DAYS = 7
"""How long a half-made artifact waits for its step to go on, counted from its last change."""

_DAY_SECONDS = 86_400
_RECORD = "artifact.json"
_SEAL = "seal"
"""Of a record: the SHA-256 of the rest of it."""
_SCRATCH = ".scratch"
_PARTIAL, _DAMAGED = ".partial", ".damaged"
_LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini", ".DS_Store")
_LEFT_BEGINNINGS = ("._", ".nfs")
"""Files that file managers and network disks leave in any folder; no step reads them."""


@dataclass(frozen=True)
class Artifact:
    """One finished output of a step: its folder, type and content digest."""

    name: str
    type: str
    path: Path
    digest: str
    size: int


class ArtifactStore:
    """Finds, makes and locks the folders of artifacts below one root.

    Args:
        root: of all artifacts.
        say: receives a line where one is not trusted; standard error by default.
    """

    def __init__(self, root: str | Path, say: Callable[[str], None] | None = None):
        self.root = Path(root)
        self._say = say or tell

    def folder(self, component: str, key: str) -> Path:
        """Where the outputs of the step with this key lie once complete."""
        return self.root / component / key[:20]

    def find(self, component: str, key: str) -> dict[str, Artifact] | None:
        """The outputs of a finished step, or None where it must run.

        A folder whose record cannot be read, or whose files are not those of the record, is not trusted: it is set
        aside under the suffix ``.damaged``, with a line that says why, and None is returned.

        Raises:
            ArtifactError: nothing is changed or missing, but a file is there that the step did not make.
        """
        folder = self.folder(component, key)
        if not os.path.lexists(folder / _RECORD):
            return None
        try:
            record = _read_record(folder)
            if record["key"] != key:
                raise ArtifactError(f"{folder / _RECORD} was made under another key")
            for output in record["outputs"]:
                _require_unchanged(folder / output["name"], output)
        except _Stray:
            raise
        except ArtifactError as error:
            kept = _set_aside(folder)
            self._say(
                f"{component} is made again, as what it left is not to be trusted: {error} (kept in {kept})"
            )
            return None
        return _as_artifacts(folder, record)

    def record(self, component: str, key: str) -> dict[str, Any]:
        """What was written down when the step finished: parameters, inputs, metrics, seconds."""
        return _read_record(self.folder(component, key))

    @contextmanager
    def locked(self, component: str, key: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Holds the right to make this artifact; waits for another process that is making it.

        Args:
            component, key: of the step.
            waiting: called when the wait begins, and again every ``TELL_SECONDS``.
        """
        with locked(self._lock(component, key), waiting, tell_seconds=TELL_SECONDS):
            yield

    @contextmanager
    def if_free(self, component: str, key: str) -> Iterator[bool]:
        """Tells whether no process is making this artifact, and lets none begin meanwhile."""
        with locked(self._lock(component, key), wait=False) as held:
            yield bool(held)

    def _lock(self, component: str, key: str) -> Path:
        return self.folder(component, key).with_suffix(".lock")

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
        outputs = []
        for name, kind in types.items():
            files = _hash_output(partial / name)
            outputs.append(
                {"name": name, "type": kind, "digest": digest_of_files(files, UNKEYED), "size": _size(partial / name),
                 "files": files}
            )  # fmt: skip
        content = {"schema_version": SCHEMA_VERSION, "key": key, "outputs": outputs} | record
        content[_SEAL] = sha256_of_json(content)
        write_json(partial / _RECORD, content)
        if os.path.lexists(final):
            _set_aside(final)
        os.replace(partial, final)
        # Only now: a kill while the outputs are hashed must leave what the step resumes from.
        shutil.rmtree(final / _SCRATCH, ignore_errors=True)
        return _as_artifacts(final, content)


class _Stray(ArtifactError):
    """A file that no step made lies in an artifact; what was made is whole."""


def require_unchanged(folder: Path, digest: str) -> None:
    """Checks that an output still is what its step left, file by file.

    Args:
        folder: of the output, with its record above it.
        digest: as whoever made use of it wrote it down.

    Raises:
        ArtifactError: naming the file that was changed, is missing, or was not there. Of an output that 0.1.0 made
            nothing is known file by file: it passes.
    """
    try:
        if not os.path.lexists(folder.parent / _RECORD):  # then the digest alone tells, where it is one
            if (
                re.fullmatch("[0-9a-f]{64}", digest)
                and digest_of_files(_hash_output(folder), UNKEYED) != digest
            ):
                raise ArtifactError(f"{folder} is not what the run left there")
            return
        if _is_of_old(read_object(folder.parent / _RECORD)):
            return
        output = next((o for o in _read_record(folder.parent)["outputs"] if o["name"] == folder.name), None)
        if output is None:
            raise ArtifactError(f"{folder.parent / _RECORD} does not name {folder.name}")
        if output["digest"] != digest:
            raise ArtifactError(f"{folder} was made again since, with another content")
        _require_unchanged(folder, output)
    except _Stray:
        raise
    except ArtifactError as error:
        raise ArtifactError(f"{str(error).partition(': make it again')[0]}: {_AGAIN}") from None


_AGAIN = "give the command of the run again, which makes it again and all that follows from it"


def _is_of_old(record: Mapping[str, Any]) -> bool:
    """Whether a record was written before files and record were sealed."""
    outputs = record.get("outputs")
    told = outputs if isinstance(outputs, list) else [{"files": {}}]
    return _SEAL not in record and not any(isinstance(o, dict) and "files" in o for o in told)


def _read_record(folder: Path) -> dict[str, Any]:
    record = read_object(folder / _RECORD)
    content = {name: value for name, value in record.items() if name != _SEAL}
    as_written = record.get("schema_version") == SCHEMA_VERSION and is_plain(content)
    if not as_written or record.get(_SEAL) != sha256_of_json(content):
        raise ArtifactError(f"{folder / _RECORD} is not as it was written")
    return record


def _require_unchanged(folder: Path, output: Mapping[str, Any]) -> None:
    made, found = output["files"], _hash_output(folder)
    for name, digest in made.items():
        if name not in found:
            raise ArtifactError(f"{folder / name} is missing")
        if found[name] != digest:
            raise ArtifactError(
                f"{folder / name} was changed (SHA-256 {found[name][:12]}..., not {digest[:12]}...)"
            )
    if strays := [name for name in found if name not in made]:
        raise _Stray(
            f"{folder / strays[0]} must not lie in an artifact, of which it is no part: move it elsewhere, and give the "
            "same command again"
        )


def _hash_output(folder: Path) -> dict[str, str]:
    if not folder.is_dir() or folder.is_symlink():
        return {}
    return {
        name: digest
        for name, digest in hash_files(folder).items()
        if not _is_left_by_systems(Path(name).name)
    }


def _is_left_by_systems(name: str) -> bool:
    return name in _LEFT_BY_SYSTEMS or name.startswith(_LEFT_BEGINNINGS)


def _as_artifacts(folder: Path, record: Mapping[str, Any]) -> dict[str, Artifact]:
    return {
        o["name"]: Artifact(o["name"], o["type"], folder / o["name"], o["digest"], o["size"])
        for o in record["outputs"]
    }


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _set_aside(folder: Path) -> Path:
    damaged = folder.with_suffix(_DAMAGED)
    shutil.rmtree(damaged, ignore_errors=True)
    os.replace(folder, damaged)
    return damaged


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
