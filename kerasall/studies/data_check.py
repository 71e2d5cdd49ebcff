"""A look at a data set before anything trains, by the settings that a run would read it with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasall.components.example_gen import read_collection_of
from kerasall.components.example_validator import examine
from kerasall.data.validation import Examined
from kerasall.paths import runs_folder
from kerasall.settings.loading import validate


def check(path: str | Path, *, checks: Mapping[str, Any] | None = None, **data: Any) -> Examined:
    """Looks at a data set before anything trains, as ``kerasall check`` does.

    Example:
        >>> found = kerasall.check("cells", source="folder", malignant="all").found
        >>> found["images"], found["classes"], len(found["errors"])
        (16, {'all': 8, 'hem': 8}, 0)

    Args:
        path: folder or table of images.
        checks: settings of what is looked for, such as ``{"near_duplicates": {"enabled": False}}``.
        data: settings of how it is read, such as ``source``, ``label``, ``subject``, ``columns``, ``classes`` and
            ``malignant``; see ``kerasall.settings.DataSettings``.

    Returns:
        What was seen: ``found`` (counts, notes, errors and warnings as ``kerasall check --json`` prints them),
        ``find_anomalies()``, the ``collection`` with its table of examples, and the ``scan``, a row an image.

    Raises:
        SettingsError: an unknown setting, or one of the wrong kind.
        DataError: the path holds no images that its reader understands.
    """
    stated = {
        "experiment": "check",
        "pipeline": "single_classifier",
        "data": {"path": str(path), **{name: _plain(value) for name, value in data.items()}},
        "checks": dict(checks or {}),
    }
    settings = validate(stated, where=f"check({str(path)!r})")
    return examine(read_collection_of(settings.data, runs_folder() / "cache"), settings.checks)


def _plain(value: Any) -> Any:
    """Paths as texts, and lists as a config has them."""
    if isinstance(value, Path):
        return str(value)
    return tuple(value) if isinstance(value, list) else value
