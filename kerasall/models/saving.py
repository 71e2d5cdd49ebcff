"""Models as files: ``.keras`` only, written atomically, and read without running any code of theirs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from kerasall.errors import ModelError
from kerasall.files import atomic_path

_CONFIG_BYTES = 64 << 20  # the largest backbone's is 1.5 MB
_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
# Keras packs without compressing: what grows when unpacked was packed by somebody else.
_MOST_GROWTH = 10
_UNREADABLE = (zipfile.BadZipFile, KeyError, OSError, EOFError, NotImplementedError, UnicodeDecodeError)


def save_model(model: keras.Model, path: str | Path) -> None:
    """Writes ``model`` as a ``.keras`` file, atomically.

    Raises:
        ModelError: the path has another ending, or the model holds a ``Lambda`` or a layer that is not Keras' own,
            which ``load_model`` would refuse.
    """
    path = _require_keras(Path(path))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Lambda):
            raise ModelError(
                f"{model.name} must not hold Lambda layers, but {layer.name} is one: write it as a layer"
            )
    with atomic_path(path) as temporary:
        model.save(temporary)
        _require_own_classes(path, _read_config(temporary))  # what could not be read again is not kept


def load_model(path: str | Path, compile: bool = False) -> keras.Model:
    """Reads a ``.keras`` file made of Keras' own layers only.

    Args:
        path: the file.
        compile: whether to restore optimizer and loss as well.

    Raises:
        ModelError: the file is missing, broken, of another kind (``.h5`` and pickles can run code),
            holds more than a model or unpacks to far more than it is, or names a ``Lambda`` or a class
            that is not Keras' own.
    """
    path = _require_keras(Path(path))
    _require_own_classes(path, _read_config(path))
    try:
        model = keras.saving.load_model(path, compile=compile, safe_mode=True)
    except Exception as error:  # whatever a broken or hostile file provokes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{path} must be a model this Keras can read, but loading it failed: {reason}"
        ) from None
    if not isinstance(model, keras.Model):
        raise ModelError(f"{path} must hold a model, but holds a {type(model).__name__}")
    return model


def _require_keras(path: Path) -> Path:
    if path.suffix != ".keras":
        raise ModelError(
            f"models are kept as .keras files (other kinds can run code when read), but the path is {path}"
        )
    return path


def _read_config(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            _require_plain_members(path, archive)
            if archive.getinfo("config.json").file_size > _CONFIG_BYTES:
                raise ModelError(
                    f"{path} must describe its model in at most {_CONFIG_BYTES} bytes, but needs more"
                )
            return json.loads(archive.read("config.json"))
    except FileNotFoundError:
        raise ModelError(f"the model file {path} must exist, but does not: correct the path") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{path} must describe its model in JSON, but reading it failed: {error}") from None
    except _UNREADABLE as error:
        raise ModelError(f"{path} must be a .keras archive, but reading it failed: {error}") from None


def _require_plain_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Nothing that would be unpacked to another place, and nothing that fills memory or disk."""
    names = archive.namelist()
    foreign = sorted(name for name in names if name not in _MEMBERS)
    if foreign or len(set(names)) < len(names):
        found = repr(foreign[0]) if foreign else "one of them twice"
        raise ModelError(
            f"{path} must hold {', '.join(_MEMBERS)} and nothing else, but holds {found}: "
            "load only models that this package saved"
        )
    size, unpacked = path.stat().st_size, sum(member.file_size for member in archive.infolist())
    if unpacked > _MOST_GROWTH * size:
        raise ModelError(
            f"{path} must unpack to at most {_MOST_GROWTH} times its {size:,} bytes, but unpacks to {unpacked:,}: "
            "load only models that this package saved"
        )


def _require_own_classes(path: Path, config: Any) -> None:
    for entry in _entries(config):
        module, name = entry.get("module"), entry.get("class_name")
        foreign = isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins")
        if foreign or name in ("Lambda", "__lambda__", "function") or module == "builtins":
            raise ModelError(
                f"{path} must be made of Keras' own layers only, but names {module}.{name}, which could run code of "
                "the file: build models of Keras' own layers and operations, and load only such"
            )


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
