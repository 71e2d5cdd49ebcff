"""Factors of a designed experiment: settings named by their dotted keys, and what each of their levels makes of them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from kerasall.errors import SettingsError
from kerasall.settings import Settings, TrialSettings

_OF_EVERY_STAGE = {
    "train.optimizer": "optimizer.name",
    "train.learning_rate": "optimizer.learning_rate",
    "train.epochs": "epochs",
    "train.patience": "patience",
}
"""Short keys of settings that every stage of the training has."""

_NOT_A_LABEL = ("name", "op")
"""Last words of a key that say nothing without the word before."""


def trial_settings(settings: Settings) -> TrialSettings:
    """The part of an experiment's settings that one trial reads."""
    return TrialSettings(model=settings.model, augment=settings.augment, train=settings.train)


def apply_levels(base: TrialSettings, levels: Mapping[str, Any]) -> TrialSettings:
    """The settings with some of them replaced.

    Args:
        base: settings of every trial.
        levels: dotted key (``train.stages.0.optimizer.name``, or ``train.optimizer`` for that of every stage)
            -> value.

    Raises:
        SettingsError: a key names no setting, or the settings are not usable together; the message names the
            nearest key, or what is wrong.
    """
    document = base.model_dump(mode="json")
    for key, value in levels.items():
        for full in _full_keys(document, key):
            place, last = _find(document, full)
            place[last] = value
    try:
        return TrialSettings.model_validate(document)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        stated = ", ".join(f"{key}: {value!r}" for key, value in levels.items())
        message = problem["msg"].removeprefix("Value error, ")
        raise SettingsError(
            f"every level of a factor must be a setting that can be used, but {stated} is not: {where}: {message}"
        ) from None


def read_setting(settings: TrialSettings, key: str) -> Any:
    """The value of one setting, as JSON."""
    document = settings.model_dump(mode="json")
    place, last = _find(document, _full_keys(document, key)[0])
    return place[last]


def _full_keys(document: Mapping[str, Any], key: str) -> list[str]:
    """The keys that a key stands for: itself, or one in every stage."""
    if key not in _OF_EVERY_STAGE:
        return [key]
    return [
        f"train.stages.{number}.{_OF_EVERY_STAGE[key]}" for number in range(len(document["train"]["stages"]))
    ]


def factor_levels(base: TrialSettings, factors: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, ...]]:
    """Every factor's levels as the settings read them, so that ``1e-4``, which YAML takes for text, is a number.

    Raises:
        SettingsError: a key names no setting, two name the same, or a level does not fit it.
    """
    _refuse_overlaps(base, factors)
    found = {}
    for key, levels in factors.items():
        read = [read_setting(apply_levels(base, {key: level}), key) for level in levels]
        # What is written as a mapping comes back with all its defaults: too much to read in a table.
        found[key] = tuple(
            level if _is_nested(level) else value for level, value in zip(levels, read, strict=True)
        )
    return found


def _refuse_overlaps(base: TrialSettings, keys: Iterable[str]) -> None:
    """Two factors that set the same thing would undo one another."""
    document = base.model_dump(mode="json")
    seen: dict[str, str] = {}
    for key in keys:
        for full in _full_keys(document, key):
            for other, owner in seen.items():
                if owner != key and (
                    f"{full}.".startswith(f"{other}.") or f"{other}.".startswith(f"{full}.")
                ):
                    raise SettingsError(
                        f"every factor must set something of its own, but {owner} and {key} both set "
                        f"{max(full, other, key=len)}: leave one of them out"
                    )
            seen[full] = key


def label_factors(keys: Sequence[str]) -> dict[str, str]:
    """Key -> short name, different for all keys.

    >>> label_factors(["train.batch_size", "train.stages.0.optimizer.name"])
    {'train.batch_size': 'batch_size', 'train.stages.0.optimizer.name': 'optimizer'}
    """
    short = {key: _last_word(key) for key in keys}
    names = list(short.values())
    return {key: name if names.count(name) == 1 else key for key, name in short.items()}


def as_choices(levels: Sequence[Any]) -> list[Any]:
    """Levels that a table can hold: of one plain type as they are, others written as JSON.

    >>> as_choices([[], [256]])
    ['[]', '[256]']
    """
    kinds = {type(level) for level in levels}
    if kinds <= {int, float} or (len(kinds) == 1 and kinds <= {str, bool}):
        return list(levels)
    return [json.dumps(level, ensure_ascii=False) for level in levels]


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list | tuple)


def _last_word(key: str) -> str:
    words = [word for word in key.split(".") if not word.isdigit()]
    return words[-2] if words[-1] in _NOT_A_LABEL and len(words) > 1 else words[-1]


def _find(document: dict[str, Any], key: str) -> tuple[Any, Any]:
    """The mapping or list that holds a setting, and the setting's place in it."""
    *parents, last = key.split(".")
    place: Any = document
    for number, word in enumerate([*parents, last]):
        if isinstance(place, list) and word.isdigit() and int(word) < len(place):
            index: Any = int(word)
        elif isinstance(place, dict) and (
            word in place or _is_free(parents[:number], last=number == len(parents))
        ):
            index = word
        else:
            raise SettingsError(_unknown(key, document))
        if number == len(parents):
            return place, index
        place = place[index]
    raise AssertionError("a key has at least one word")


def _is_free(parents: Sequence[str], *, last: bool) -> bool:
    """Whether a mapping takes names that it does not state: the arguments of augmentation, schedule, optimizer."""
    return last and bool(parents) and parents[-1] in ("augment", "schedule", "constants", "oversample")


def _unknown(key: str, document: Mapping[str, Any]) -> str:
    known = [*_OF_EVERY_STAGE, *_flatten(document)]
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"such as {', '.join(known[:6])}"
    return f"a factor must be the key of a setting that a trial reads, below {', '.join(document)}, but is {key!r}: {hint}"


def _flatten(document: Any, prefix: str = "") -> list[str]:
    if isinstance(document, dict):
        items = list(document.items())
    elif isinstance(document, list):
        items = [(str(number), value) for number, value in enumerate(document)]
    else:
        return []
    found = []
    for name, value in items:
        found += [f"{prefix}{name}", *_flatten(value, f"{prefix}{name}.")]
    return found
