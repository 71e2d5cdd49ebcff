"""What a row's result depends on: settings, images, weights and code of studies, by content and without any path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kerasall.errors import SettingsError
from kerasall.files import sha256_of_file, sha256_of_folder, sha256_of_json
from kerasall.models.backbones import get_backbone
from kerasall.models.weights import find_stored
from kerasall.settings.factors import find_places
from kerasall.settings.loading import PATHS, load_settings
from results.rows import Places, Row, find_module

_PARTS = ("members", "deep_features", "sweep")
"""Settings that name networks in the place of ``model``."""

_IMPORTED = re.compile(r"^from results(?:\.(\w+))? import (.+)$", re.MULTILINE)


def read_settings(row: Row, places: Places) -> tuple[dict[str, Any], dict[str, str]]:
    """The resolved settings of a row without any path of this machine, and the SHA-256 of files they name.

    Raises:
        SettingsError: the config is wrong, states where the data lie, or names a file outside this repository.
    """
    config = places.config(row)
    plain = load_settings(config).model_dump(mode="json")
    if plain["data"]["path"]:
        raise SettingsError(
            f"{config} must not state data.path, but does: leave it out, a row is given its data"
        )
    root, files = places.folder.resolve().parent, {}

    def within(stated: str) -> str:
        """The path from the root of the repository, and its content noted down."""
        path = Path(stated).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise SettingsError(
                f"{config} must name files of this repository alone, but names {stated}: move it here, or leave it out"
            )
        name = path.relative_to(root).as_posix()
        files[name] = sha256_of_file(path)
        return name

    def portable(value: Any) -> Any:
        if isinstance(value, list):
            return [portable(each) for each in value]
        return within(value) if value and Path(value).is_absolute() else value

    for place in [place for key in PATHS for place in find_places(plain, key)]:
        place.holder[place.index] = portable(place.value)
    plain["pipeline"] = portable(plain["pipeline"])
    return plain, files


def read_inputs(row: Row, places: Places) -> dict[str, Any]:
    """What a row's result depends on, as SHA-256: the same on every machine. "" stands for what is not at hand.

    Args:
        row: the row.
        places: where data and weights lie.

    Returns:
        ``settings`` (of a study its arguments), ``data`` (set -> digest), ``weights`` (file -> digest; those of a study
        kerasall knows by their hashes), ``files`` (that the settings name; of a study its modules), and ``digest`` of all.
    """
    if row.is_study:
        stated, files = row.arguments, dict(_hash_modules(row.name, places.folder))
        weights = (
            {"of its networks": "known to kerasall" if places.weights else ""} if "WEIGHTS" in stated else {}
        )
    else:
        settings, files = read_settings(row, places)
        stated, weights = [row.command, row.repeats, settings], dict(_hash_weights(settings, places.weights))
    found = {
        "settings": sha256_of_json(stated),
        "data": {name: _hash_data(place) if (place := places.find(name)) else "" for name in row.needs},
        "weights": weights,
        "files": files,
    }
    return found | {"digest": sha256_of_json(found)}


def find_lacking(inputs: Mapping[str, Any]) -> list[str]:
    """What of a row's inputs is not at hand, in words."""
    lacking = [name for name, digest in inputs["data"].items() if not digest]
    return lacking + [f"the weights {name}" for name, digest in inputs["weights"].items() if not digest]


def agree(one: Any, other: Any) -> bool:
    """Whether inputs are the same as far as both are at hand; the digest of all tells nothing where some are not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = (one.keys() | other.keys()) - {"digest"}
        return all(agree(one.get(key), other.get(key)) for key in keys)
    return one == other or "" in (one, other)


@cache
def _hash_data(folder: Path) -> str:
    return sha256_of_folder(folder) if folder.is_dir() else sha256_of_file(folder)


def _hash_modules(name: str, folder: Path, seen: frozenset[str] = frozenset()) -> Iterator[tuple[str, str]]:
    """The module of a study and those of this folder that it imports."""
    module = find_module(name, folder)
    if name in seen or not module.is_file():
        return
    yield module.name, sha256_of_file(module)
    for within, names in _IMPORTED.findall(module.read_text(encoding="utf-8")):
        for imported in [within] if within else re.findall(r"\w+", names):
            yield from _hash_modules(imported, folder, seen | {name})


def _hash_weights(settings: Mapping[str, Any], folder: Path | None) -> Iterator[tuple[str, str]]:
    networks = [settings[name] for name in _PARTS if settings.get(name)] or [settings["model"]]
    for network in _find_networks(networks):
        if network["weights"] == "imagenet":
            backbone = get_backbone(network["backbone"])
            file = backbone.weights[network.get("alpha", 1.0)]
            stored = find_stored(file, folder) if folder else None
            yield file.name, _hash_file(stored) if stored else ""


@cache
def _hash_file(path: Path) -> str:
    return sha256_of_file(path)


def _find_networks(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with a backbone and its weights, however deep."""
    if isinstance(value, dict):
        if "backbone" in value and "weights" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _find_networks(each)
