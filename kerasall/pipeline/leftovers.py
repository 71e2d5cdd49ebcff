"""What killed processes leave: half-made artifacts and temporary files. Swept where nobody can want them any more.

A half-made artifact holds what its step would resume from, so it is kept for some days. It goes only while
its lock is held here, which no process that works on it would allow. A temporary file goes once the process
that wrote it has ended.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from kerasall.files import is_abandoned, is_temporary
from kerasall.pipeline.artifacts import ArtifactStore

KEPT_DAYS = 7
"""How long a half-made artifact waits for its step to go on, counted from its last change."""

_DAY = 86_400
_SUFFIXES = (".partial", ".damaged")


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
        for path in [*_temporaries(folder)]:
            if is_abandoned(path):
                removed.append(_remove(path))
    return removed


def _sweep_partials(artifacts: Path) -> Iterator[str]:
    store = ArtifactStore(artifacts)
    for path in sorted(p for suffix in _SUFFIXES for p in artifacts.glob(f"*/*{suffix}")):
        if time.time() - _last_change(path) < KEPT_DAYS * _DAY:
            continue
        with store.if_free(path.parent.name, path.stem) as free:
            # Looked at again under the lock: the step may have gone on in the meantime.
            if free and path.is_dir() and time.time() - _last_change(path) >= KEPT_DAYS * _DAY:
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
