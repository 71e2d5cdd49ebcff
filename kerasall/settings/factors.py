"""Settings by their dotted keys, such as ``train.stages.0.epochs``: in plain values and in the rows themselves.

The factors of a designed experiment are such keys, and each of their levels makes other settings of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from kerasall.errors import SettingsError, near_names
from kerasall.settings import Settings, TrialSettings

_OF_EVERY_STAGE = {
    "train.optimizer": "optimizer.name",
    "train.learning_rate": "optimizer.learning_rate",
    "train.epochs": "epochs",
    "train.patience": "patience",
}
"""Short keys of settings that every stage of the training has."""

_FREE = ("augment", "schedule", "constants", "oversample")
"""Mappings that take names that they do not state: arguments of augmentation, schedule, optimizer."""

_NOT_A_LABEL = ("name", "op")
"""Last words of a key that say nothing without the word before."""


class Place(NamedTuple):
    """Where a dotted key points.

    Attributes:
        key: the whole key, with the number of the entry for every ``*``.
        holder: mapping, list or row that holds the value.
        index: name or number of the value there.
    """

    key: str
    holder: Any
    index: Any

    @property
    def value(self) -> Any:
        """What stands there."""
        if isinstance(self.holder, BaseModel):
            return getattr(self.holder, self.index)
        return self.holder[self.index]


def find_places(document: Any, key: str) -> Iterator[Place]:
    """Every place that a dotted key names, in order; none where the document does not hold it.

    Args:
        document: settings as plain values or as rows.
        key: names of settings and numbers of entries; ``*`` stands for every entry of a list.
    """
    word, _, rest = key.partition(".")
    for index in _indices(document, word):
        place = Place(str(index), document, index)
        if rest:
            for below in find_places(place.value, rest):
                yield below._replace(key=f"{index}.{below.key}")
        else:
            yield place


def find_place(document: Any, key: str) -> Place | None:
    """The one place that a dotted key without ``*`` names, or None."""
    return next((place for place in find_places(document, key) if place.key == key), None)


def list_keys(document: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys of all that plain values hold, in order."""
    items = document.items() if isinstance(document, dict) else ()
    for name, value in enumerate(document) if isinstance(document, list) else items:
        yield f"{prefix}{name}"
        yield from list_keys(value, f"{prefix}{name}.")


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
            place = _find(document, full)
            place.holder[place.index] = value
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
    return _find(document, _full_keys(document, key)[0]).value


def _full_keys(document: Mapping[str, Any], key: str) -> list[str]:
    """The keys that a key stands for: itself, or one in every stage."""
    if key not in _OF_EVERY_STAGE:
        return [key]
    return [place.key for place in find_places(document, f"train.stages.*.{_OF_EVERY_STAGE[key]}")]


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
            level if isinstance(level, dict | list | tuple) else value
            for level, value in zip(levels, read, strict=True)
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


def _last_word(key: str) -> str:
    words = [word for word in key.split(".") if not word.isdigit()]
    return words[-2] if words[-1] in _NOT_A_LABEL and len(words) > 1 else words[-1]


def _find(document: dict[str, Any], key: str) -> Place:
    """Where the setting stands.

    Raises:
        SettingsError: there is none of that key; the message names the nearest.
    """
    if found := find_place(document, key):
        return found
    parent, _, last = key.rpartition(".")
    found = find_place(document, parent)
    if found and isinstance(found.value, dict) and found.index in _FREE:
        return Place(key, found.value, last)
    known = [*_OF_EVERY_STAGE, *list_keys(document)]
    near = near_names(key, known, most=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"such as {', '.join(known[:6])}"
    raise SettingsError(
        f"a factor must be the key of a setting that a trial reads, below {', '.join(document)}, but is {key!r}: {hint}"
    )


def _indices(holder: Any, word: str) -> list[Any]:
    if isinstance(holder, list | tuple):
        return [number for number in range(len(holder)) if word in ("*", str(number))]
    names = type(holder).model_fields if isinstance(holder, BaseModel) else holder
    return [word] if isinstance(names, dict) and word in names else []
