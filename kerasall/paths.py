"""Where runs, models and weights live, unless a setting says otherwise."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kerasall.errors import KerasallError
from kerasall.files import require_readable


def runs_folder() -> Path:
    """Folder of runs: ``KERASALL_RUNS`` or ``runs`` below the working directory."""
    return _place("KERASALL_RUNS", "runs")


def savedmodels_folder() -> Path:
    """Folder of pushed models: ``KERASALL_SAVEDMODELS`` or ``savedmodels`` below the working directory."""
    return _place("KERASALL_SAVEDMODELS", "savedmodels")


def weights_folder(given: str | Path | None = None) -> Path | None:
    """Folder of pretrained weights: as given, else ``KERASALL_WEIGHTS``, else None (Keras' own download).

    Raises:
        KerasallError: the folder does not exist, or may not be read.
    """
    chosen = given or os.environ.get("KERASALL_WEIGHTS")
    if not chosen:
        return None
    folder = Path(chosen).expanduser()
    if not folder.is_dir():
        raise KerasallError(
            f"the weights folder {folder} must exist, but does not: correct --weights or KERASALL_WEIGHTS"
        )
    require_readable(folder, "the weights folder", "allow it, or correct --weights or KERASALL_WEIGHTS")
    return folder.resolve()


def as_file_name(text: str, otherwise: str) -> str:
    """A name for a file or folder, of letters, digits, ``_``, ``.`` and ``-``; ``otherwise`` where nothing is left."""
    return re.sub(r"[^\w.-]+", "-", text).strip(".-") or otherwise


def _place(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().absolute()
