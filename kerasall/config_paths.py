"""Paths in a config belong to the file that states them, wherever the command is called from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PATHS = (
    "data.path",
    "data.label_csv",
    "data.corrections",
    "split.file",
    "checks.schema_file",
    "model.weights",
    "members.*.model.weights",
    "deep_features.extractors.*.weights",
    "sweep.backbones.*.weights",
)
"""Dotted keys of the settings that hold a path, or a list of paths; ``*`` stands for every entry of a list."""

NO_PATHS = ("imagenet", "random")
"""Values of ``weights`` that name no file."""


def anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Makes the relative paths among ``values`` absolute, in place.

    Args:
        values: a config as plain values, right or wrong; whatever is no text is left for the check of kinds.
        folder: what relative paths start from.
    """
    for key in PATHS:
        for place, last in _find(values, key.split(".")):
            stated = place[last]
            if isinstance(stated, list):
                place[last] = [_anchor(each, folder) for each in stated]
            else:
                place[last] = _anchor(stated, folder)


def _find(place: Any, words: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    """Every mapping that holds the setting, and its key there."""
    word, *rest = words
    if word == "*":
        for each in place if isinstance(place, list) else []:
            yield from _find(each, rest)
    elif isinstance(place, dict) and word in place:
        if rest:
            yield from _find(place[word], rest)
        else:
            yield place, word


def _anchor(stated: Any, folder: Path) -> Any:
    if not isinstance(stated, str) or not stated or stated in NO_PATHS:
        return stated
    # Not resolved: a link to a data folder keeps its name, which readers may read classes from.
    return str(folder.absolute() / Path(stated).expanduser())
