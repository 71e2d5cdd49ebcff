"""Every setting with its meaning, its range and its default, read from the settings' own rows, and the names it may take.

Meanings, ranges and defaults are those of the JSON schema that pydantic makes of ``Settings``. The names that a
setting may take (backbones, metrics, operations) are asked of the tables of the rooms.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from typing import Any

from kerasall.errors import SettingsError, did_you_mean
from kerasall.runtime import quiet_tensorflow
from kerasall.settings import Settings
from kerasall.settings.shipped import shipped_files
from kerasall.settings.yaml_text import write_line

_FILLED_IN = {"experiment": "the config's file name, without .yaml"}
"""Settings that must be given, and what gives them where the config does not."""


@dataclass(frozen=True)
class Choice:
    """One name that a setting may take, or one argument of such a name.

    Attributes:
        name: as it is written in a config.
        words: what it means.
        values: what an argument may be; "" for a name.
        default: of an argument, as YAML; "" for a name, and where one must be given.
        arguments: what may be set beside the name.
    """

    name: str
    words: str
    values: str = ""
    default: str = ""
    arguments: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        key: dotted; ``*`` stands for every entry of a list.
        words: what it means.
        values: what it may be, with its range.
        default: as YAML; "" where it must be given, and for a block, whose settings have their own.
        block: whether it holds settings of its own.
        like: key of the block that is described in its place; "" where it is described itself.
    """

    key: str
    words: str
    values: str
    default: str
    block: bool = False
    like: str = ""

    @property
    def named(self) -> tuple[str, ...]:
        """The names in the key, without the ``*``."""
        return _named(self.key)


# --- from the schema ------------------------------------------------------------------------------


@cache
def list_settings() -> tuple[Setting, ...]:
    """Every setting, in the order of a resolved config; a block that occurs in several places is described in one."""
    schema = Settings.model_json_schema()
    models: dict[str, Any] = schema.pop("$defs") | {"": schema}
    places: dict[str, str] = {}
    # A block that stands in every config is described there, and not in the list of members.
    for also_absent in (False, True):
        _place(models, "", "", also_absent, places)
    return tuple(_walk(models, "", "", places))


def _place(
    models: Mapping[str, Any], model: str, prefix: str, also_absent: bool, places: dict[str, str]
) -> None:
    for name, field in models[model]["properties"].items():
        inner, star = _inner(field)
        if inner and (field.get("default") not in (None, []) or also_absent):
            key = f"{prefix}{name}{star}"
            if places.setdefault(inner, key) == key:
                _place(models, inner, f"{key}.", also_absent, places)


def _walk(models: Mapping[str, Any], model: str, prefix: str, places: Mapping[str, str]) -> Iterator[Setting]:
    for name, field in models[model]["properties"].items():
        inner, star = _inner(field)
        key, default = f"{prefix}{name}", _FILLED_IN.get(f"{prefix}{name}", "")
        if "default" in field and (not inner or star or field["default"] is None):
            default = write_line(_shortened(field["default"], models[inner]["properties"] if inner else {}))
        like = places[inner] if inner and places[inner] != f"{key}{star}" else ""
        words = " ".join(field.get("description", "").split())
        yield Setting(key, words, _values(field), default, bool(inner), like)
        if inner and not like:
            yield from _walk(models, inner, f"{key}{star}.", places)


def _inner(field: Mapping[str, Any]) -> tuple[str, str]:
    """Name of the model that a field holds, if any, and ".*" where it holds a list of them."""
    for part in (field, *field.get("anyOf", ())):
        for holder, star in ((part, ""), (part.get("items", {}), ".*")):
            if "$ref" in holder:
                return holder["$ref"].rpartition("/")[2], star
    return "", ""


def _shortened(default: Any, properties: Mapping[str, Any]) -> Any:
    """A default; of a list of blocks, what differs from the blocks' own."""
    if not properties or default is None:
        return default
    return [{k: v for k, v in each.items() if v != properties[k].get("default")} for each in default]


def _values(field: Mapping[str, Any]) -> str:
    """What a field may be, in words."""
    if "$ref" in field:
        return "block of settings"
    if "anyOf" in field:
        return " or ".join(_values(each) for each in field["anyOf"])
    if "const" in field or "enum" in field:
        return " or ".join(write_line(each) for each in field.get("enum") or [field["const"]])
    if field.get("type") == "array":
        return f"list of {_values(field['items']).replace('block of settings', 'blocks of settings')}"
    if field.get("type") == "object":
        names = " or ".join(field.get("propertyNames", {}).get("enum", ["name"]))
        value = field.get("additionalProperties")
        return f"mapping {names} -> {_values(value if isinstance(value, dict) else {})}"
    kinds = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "null": "null",
    }
    return " ".join(filter(None, [kinds.get(field.get("type", ""), "any value"), _range(field)]))


def _range(field: Mapping[str, Any]) -> str:
    bounds = {
        "exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most",
    }  # fmt: skip
    if {"minimum", "maximum"} <= field.keys():
        return f"from {field['minimum']:g} to {field['maximum']:g}"
    return " and ".join(f"{word} {field[bound]:g}" for bound, word in bounds.items() if bound in field)


# --- looking one up -------------------------------------------------------------------------------


def find_settings(query: str) -> list[Setting]:
    """The settings that a person means.

    Args:
        query: a key, numbers of entries and ``*`` at will; the last words of one; or a word of names and meanings.

    Returns:
        The settings of that key, a block's own with it; else those whose key ends so; else those that hold the word;
        else those that may take a name, or an argument, that is so called.

    Raises:
        SettingsError: none does; the message names the nearest.
    """
    known = list_settings()
    wanted = _resolve(_named(query), known)
    if exact := [each for each in known if each.named[: len(wanted)] == wanted]:
        return exact
    for holds in (
        lambda each: each.named[-len(wanted) :] == wanted,
        lambda each: query.lower() in f"{each.key} {each.words}".lower(),
        lambda each: query in _words_of(list_choices(each.key)),
    ):
        if found := [each for each in known if holds(each)]:
            return found
    names = list(dict.fromkeys(word for each in known for word in (each.key, each.named[-1])))
    cure = did_you_mean(query, names, "`kerasall settings` lists the blocks")
    raise SettingsError(f"{query!r} must be a setting, or a word of one, but is in none: {cure}")


def _named(key: str) -> tuple[str, ...]:
    return tuple(word for word in key.split(".") if word != "*" and not word.isdigit())


def _resolve(wanted: tuple[str, ...], known: Iterable[Setting]) -> tuple[str, ...]:
    """The key with a block that is described elsewhere exchanged for the one described."""
    for each in known:
        if each.like and len(wanted) > len(each.named) and wanted[: len(each.named)] == each.named:
            return _resolve((*_named(each.like), *wanted[len(each.named) :]), known)
    return wanted


def _words_of(choices: Iterable[Choice]) -> set[str]:
    return {word for each in choices for word in (each.name, *(argument.name for argument in each.arguments))}


# --- names of the rooms' tables -------------------------------------------------------------------


def list_choices(key: str) -> tuple[Choice, ...]:
    """The names that a setting may take, or the arguments of its mapping; none where the rooms have no table for it.

    Those of operations, augmentation, schedules, optimizers and losses load TensorFlow.
    """
    choices = _CHOICES.get(key, tuple)
    with quiet_tensorflow() if choices in _OF_TENSORFLOW else nullcontext():
        return tuple(choices())


def has_choices(key: str) -> bool:
    """Whether ``list_choices`` has something to say; loads nothing."""
    return key in _CHOICES


def _pipelines() -> Iterator[Choice]:
    for name, path in shipped_files("pipelines").items():
        yield Choice(name, path.read_text(encoding="utf-8").lstrip('"').partition("\n")[0])


def _sources() -> Iterator[Choice]:
    from kerasall.data.sources import SOURCES

    return (Choice(row.name, row.description) for row in SOURCES.values())


def _backbones() -> Iterator[Choice]:
    from kerasall.models.backbones import BACKBONES

    for row in BACKBONES.values():
        alphas = (
            f"; alpha with ImageNet weights: {', '.join(f'{a:g}' for a in row.weights)}"
            if row.takes_alpha
            else ""
        )
        yield Choice(row.name, f"trained on images of {row.native_size} pixels{alphas}")


def _blocks() -> Iterator[Choice]:
    from kerasall.models.backbones import BACKBONES

    yield Choice("head", "the head alone")
    yield Choice("all", "the whole network")
    for row in BACKBONES.values():
        yield Choice("BLOCK", f"of {row.name}: {', '.join(row.blocks)}")


def _metrics() -> Iterator[Choice]:
    from kerasall.evaluation.metrics import METRICS, PER_CLASS

    yield from (Choice(row.name, row.equation) for row in METRICS.values())
    yield from (Choice(f"{name}:CLASS", f"{name} of one class") for name in PER_CLASS)


def _rules() -> Iterator[Choice]:
    from kerasall.evaluation.ensemble_rules import RULES

    return (Choice(row.name, row.equation) for row in RULES.values())


def _classifiers() -> Iterator[Choice]:
    from kerasall.models.feature_classifiers import CLASSIFIERS

    for row in CLASSIFIERS.values():
        yield Choice(row.name, row.title + ("" if row.exportable else "; cannot be exported"))


def _arrays() -> Iterator[Choice]:
    from kerasall.taguchi.arrays import ARRAYS

    yield Choice("auto", "the smallest that fits")
    yield from (Choice(name, f"{name[1:].partition('(')[0]} runs") for name in ARRAYS)


def _signals() -> Iterator[Choice]:
    from kerasall.taguchi.signal_to_noise import SIGNALS

    return (Choice(row.name + (":M" if row.needs_target else ""), row.formula) for row in SIGNALS.values())


def _operations() -> Iterator[Choice]:
    from kerasall.preprocessing.operations import FITS, OPERATIONS

    for name, kind in OPERATIONS.items():
        left_out = "fitted to training images" if name in FITS else ""
        yield Choice(name, _first_line(kind), arguments=tuple(_arguments(kind, left_out)))


def _augmentation() -> Iterator[Choice]:
    from kerasall.preprocessing.augmentation import Augmentation

    return _arguments(Augmentation)


def _losses() -> Iterator[Choice]:
    from kerasall.training.optimizers import LOSSES

    return (Choice(name, row.source) for name, row in LOSSES.items())


def _optimizers() -> Iterator[Choice]:
    from kerasall.training.optimizers import OPTIMIZERS

    for name, row in OPTIMIZERS.items():
        constants = (Choice(each, "", default=write_line(value)) for each, value in row.constants.items())
        yield Choice(name, row.source, arguments=tuple(constants))


def _schedules() -> Iterator[Choice]:
    from kerasall.training.schedules import SCHEDULES

    for name, function in SCHEDULES.items():
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        constants = (
            Choice(
                p.name, "", _of_type(str(p.annotation)), "" if p.default is p.empty else write_line(p.default)
            )
            for p in own
        )
        yield Choice(name, _first_line(function), arguments=tuple(constants))


_CHOICES: dict[str, Callable[[], Iterable[Choice]]] = {
    "pipeline": _pipelines,
    "data.source": _sources,
    "preprocess": _operations,
    "augment": _augmentation,
    "model.backbone": _backbones,
    "members.*.steps": _operations,
    "ensemble.rule": _rules,
    "deep_features.extractors.*.backbone": _backbones,
    "deep_features.extractors.*.steps": _operations,
    "deep_features.classifiers": _classifiers,
    "sweep.backbones.*.backbone": _backbones,
    "tune.array": _arrays,
    "tune.response": _metrics,
    "tune.signal": _signals,
    "train.loss": _losses,
    "train.stages.*.trainable": _blocks,
    "train.stages.*.optimizer.name": _optimizers,
    "train.stages.*.optimizer.constants": _optimizers,
    "train.stages.*.schedule": _schedules,
    "evaluate.metrics": _metrics,
    "evaluate.main_metric": _metrics,
}
"""Key of a setting -> the rows of the table that knows its names."""

_OF_TENSORFLOW = (_operations, _augmentation, _losses, _optimizers, _schedules)


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("``", "`")


def _arguments(kind: Any, left_out: str = "") -> Iterator[Choice]:
    """The fields of a dataclass, with the meanings that its docstring gives below ``Attributes:``.

    Args:
        kind: the dataclass.
        left_out: what a field without a default is where it is left out; "" where it must not be.
    """
    words: dict[str, str] = {}
    stated = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    for names, text in re.findall(r"^ {4}(\w[\w, ]*): ((?:.*\n?)(?:^ {5,}.*\n?)*)", stated, re.MULTILINE):
        meaning = " ".join(text.split()).replace("``", "`")
        words |= dict.fromkeys(names.split(", "), meaning)
    for field in fields(kind):
        default = left_out if field.default is MISSING else write_line(_plain(field.default))
        yield Choice(field.name, words.get(field.name, ""), _of_type(str(field.type)), default)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _of_type(annotation: str) -> str:
    kinds = {"bool": "true or false", "float": "number", "int": "whole number", "str": "text", "None": "null"}
    if annotation.startswith("tuple[float"):
        return f"list of {annotation.count(',') + 1} numbers"
    return " or ".join(kinds.get(each, each) for each in annotation.split(" | "))


def to_json(setting: Setting) -> dict[str, Any]:
    """One setting with its names, for programs."""
    return asdict(setting) | {"choices": [asdict(each) for each in list_choices(setting.key)]}
