"""Where runs, models and weights live, unless a setting says otherwise."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kerasall.errors import KerasallError

PLACES = {
    "KERASALL_RUNS": ("runs", "run folders, artifacts and caches"),
    "KERASALL_SAVEDMODELS": ("savedmodels", "pushed SavedModels"),
}
"""Environment variable -> (default below the working directory, what lies there)."""


def runs_folder() -> Path:
    """Folder of runs: ``KERASALL_RUNS`` or ``runs`` below the working directory."""
    return _place("KERASALL_RUNS")


def savedmodels_folder() -> Path:
    """Folder of pushed models: ``KERASALL_SAVEDMODELS`` or ``savedmodels`` below the working directory."""
    return _place("KERASALL_SAVEDMODELS")


def weights_folder(given: str | Path | None = None) -> Path | None:
    """Folder of pretrained weights: as given, else ``KERASALL_WEIGHTS``, else None (Keras' own download).

    Raises:
        KerasallError: the folder does not exist.
    """
    chosen = given or os.environ.get("KERASALL_WEIGHTS")
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise KerasallError(
            f"the weights folder {folder} must exist, but does not: correct --weights or KERASALL_WEIGHTS"
        )
    return folder.resolve()


def require_free_space(folder: str | Path, needed_bytes: int) -> None:
    """Stops a run that the disk cannot hold.

    Raises:
        KerasallError: less than ``needed_bytes`` is free where ``folder`` lies (or will lie).
    """
    existing = Path(folder).absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise KerasallError(
            f"at least {needed_bytes / 2**30:.1f} GiB must be free at {existing}, but {free / 2**30:.1f} GiB are: "
            "free some space, or set KERASALL_RUNS to another disk"
        )


def _place(variable: str) -> Path:
    default, _ = PLACES[variable]
    return Path(os.environ.get(variable) or default).expanduser().absolute()
