"""Reading an experiment's YAML file into ``Settings``, overriding single values, writing them out.

An unknown key is an error that names the near ones. ``extends:`` takes another file's values as
the base, or those of a config that comes with kerasall, by its name. A path, that of a pipeline's script too, belongs
to the file that states it, wherever the command is called from; those of overrides start from the working directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from kerasall.errors import SettingsError, near_names
from kerasall.paths import folder_of, is_pipe
from kerasall.settings import Settings
from kerasall.settings.factors import Place, factor_levels, find_place, find_places, trial_settings
from kerasall.settings.shipped import find_config, find_extended, is_script
from kerasall.settings.yaml_text import parse_yaml, read_yaml, write_yaml

PATHS = (
    "data.path",
    "data.label_csv",
    "data.root",
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
    for place in [place for key in PATHS for place in find_places(values, key)]:
        place.holder[place.index] = _anchor(place.value, folder)
    if isinstance(values.get("pipeline"), str) and is_script(values["pipeline"]):
        values["pipeline"] = _anchor(values["pipeline"], folder)


def _anchor(stated: Any, folder: Path) -> Any:
    if isinstance(stated, list):
        return [_anchor(each, folder) for each in stated]
    if not isinstance(stated, str) or not stated or stated in NO_PATHS:
        return stated
    # Not resolved: a link to a data folder keeps its name, which readers may read classes from.
    return str(folder.absolute() / Path(stated).expanduser())


def load_settings(path: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """Reads an experiment's file.

    Example:
        >>> settings = kerasall.load_settings("tiny.yaml", ["train.batch_size=16"])
        >>> settings.experiment, settings.train.batch_size, settings.data.source
        ('tiny', 16, 'synthetic')

    Args:
        path: YAML file, or the name of a config that comes with kerasall; the experiment is named by its stem.
        overrides: ``key=value`` with dotted keys (``train.batch_size=16``, ``train.stages.0.epochs=3``);
            the value is YAML.

    Returns:
        The settings with every default filled in and every path absolute.

    Raises:
        SettingsError: the file is missing, is no YAML mapping, or holds an unknown or wrong setting.
    """
    path = find_config(path)
    values = read_values(path)
    for override in overrides:
        apply_override(values, override)
    anchor_paths(values, Path.cwd())  # what is relative still comes from an override
    if is_pipe(path) and not values.get("experiment"):
        raise SettingsError(
            f"a config from a pipe must have a name, but {path} states none: add `experiment: NAME` to it"
        )
    values.setdefault("experiment", path.stem)
    return validate(values, where=str(path))


def validate(values: Mapping[str, Any], where: str) -> Settings:
    """Turns plain values into settings.

    Raises:
        SettingsError: naming every unknown key with its nearest known one, and every wrong value.
    """
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        lines = [_explain(dict(problem)) for problem in error.errors()]
        raise SettingsError(
            f"{where} must hold known settings of the right kind, but:\n  " + "\n  ".join(lines)
        ) from None
    if settings.tune:
        factor_levels(trial_settings(settings), settings.tune.factors)
    return settings


def dump_settings(settings: Settings) -> str:
    """The resolved settings as YAML that ``load_settings`` reads again."""
    return write_yaml(settings.model_dump(mode="json"))


def read_values(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The values of a config and of what it extends, unchecked; paths are absolute.

    Args:
        path: a file that exists.
        seen: the files that extend it.

    Raises:
        SettingsError: a file is no YAML mapping, or what it extends does not exist.
    """
    if path.resolve() in seen:
        raise SettingsError(f"{path} must not extend itself, but does by way of {[str(p) for p in seen]}")
    values = _read_yaml(path)
    anchor_paths(values, folder_of(path))
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise SettingsError(f"extends in {path} must name one config, but is {base!r}")
    return _merge(read_values(find_extended(base, path), (*seen, path.resolve())), values)


def _read_yaml(path: Path) -> dict[str, Any]:
    values = read_yaml(path, "the config")
    if not isinstance(values, dict):
        raise SettingsError(
            f"the config {path} must hold `key: value` lines, but holds {type(values).__name__}"
        )
    return values


def _merge(base: Any, change: Any) -> Any:
    """Mappings are merged key by key; everything else, lists too, is replaced."""
    if isinstance(base, dict) and isinstance(change, dict):
        return base | {key: _merge(base.get(key), value) for key, value in change.items()}
    return change


def apply_override(values: dict[str, Any], override: str) -> None:
    """Sets one value of a config, in place.

    Args:
        values: a config as plain values.
        override: ``key=value`` as for ``load_settings``.

    Raises:
        SettingsError: it is none, or names an entry of a list that is not there.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"an override must have the form key=value, but is {override!r}")
    value = parse_yaml(text, f"the value of override {override!r}")
    *parents, last = key.split(".")
    holder: Any = values
    for word in parents:
        if isinstance(holder, dict) and not isinstance(holder.get(word), dict | list):
            holder[word] = {}
        holder = _entry(holder, word, override).value
    if isinstance(holder, dict):
        holder[last] = value
    else:
        holder[_entry(holder, last, override).index] = value


def _entry(holder: Any, word: str, override: str) -> Place:
    if found := find_place(holder, word):
        return found
    count = len(holder) if isinstance(holder, list) else 0
    raise SettingsError(
        f"override {override!r} must name an entry 0 to {count - 1} of a list that the config states"
    )


def _explain(problem: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"]) or "(top level)"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        near = near_names(str(problem["loc"][-1]), known, most=3)
        return f"{where}: unknown setting; " + (
            f"did you mean {' or '.join(near)}?" if near else f"known here: {', '.join(known)}"
        )
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" + (
        "" if problem["type"] == "missing" else f" (found {problem['input']!r:.80})"
    )


def _known_keys(location: Sequence[Any]) -> list[str]:
    model: Any = Settings
    for part in location:
        if isinstance(part, int):
            continue
        model = _model_of(model.model_fields[part].annotation)
    return sorted(model.model_fields)


def _model_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(found for found in map(_model_of, getattr(annotation, "__args__", ())) if found)
