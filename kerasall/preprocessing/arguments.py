"""Arguments of operations: their checks and their JSON.

An operation is a frozen dataclass whose JSON is its fields. A check sets the checked value in its plain
form (numbers ``float``, counts ``int``, lists tuples): equal operations then have equal JSON, whichever
form the settings had.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from kerasall.errors import SettingsError, near_names

Kind = TypeVar("Kind")


class KeepsSize:
    """Mixed into operations that leave height and width alone."""

    def output_size(self, height: int | None, width: int | None) -> tuple[int | None, int | None]:
        return height, width


def arguments_to_json(operation: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON: tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(operation)))


def make_from_arguments(kind: type[Kind], name: str, arguments: Mapping[str, Any]) -> Kind:
    """Makes a dataclass from its JSON; fields with defaults may be left out.

    Raises:
        SettingsError: not a mapping, an unknown argument (the message names the nearest known one), a
            missing one, or whatever the dataclass itself refuses.
    """
    if not isinstance(arguments, Mapping):
        raise SettingsError(f"{name} must be a mapping of argument to value, but is {arguments!r}")
    fields = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType]
    known = [field.name for field in fields]
    for argument in arguments:
        if argument not in known:
            raise unknown_name(f"argument of {name}", str(argument), known)
    if missing := [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in arguments]:
        raise SettingsError(f"{name} needs the arguments {known}, but {missing} are missing: add them")
    return kind(**arguments)


def unknown_name(what: str, name: str, known: Sequence[str]) -> SettingsError:
    """The error about a name that no table has, with the nearest that one has."""
    longer = [each for each in known if name and each.startswith(name)]
    near = longer or near_names(name, known, cutoff=0.5)
    cure = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
    return SettingsError(f"{name!r} is not a known {what}: {cure}")


def require_integer(operation: Any, name: str, low: int, high: int | None = None) -> None:
    """Requires a whole number in [low, high]."""
    value = getattr(operation, name)
    if isinstance(value, float) and value.is_integer():  # 1e2, as settings of a known kind take it
        value = int(value)
    if not isinstance(value, numbers.Integral) or not _is_number(value, low, high):
        raise _wrong(operation, name, f"a whole number {_range(low, high)}", value)
    object.__setattr__(operation, name, int(value))


def require_number(operation: Any, name: str, low: float | None = None, high: float | None = None) -> None:
    """Requires a finite number in [low, high]."""
    value = getattr(operation, name)
    if not _is_number(value, low, high):
        raise _wrong(operation, name, f"a number {_range(low, high)}", value)
    object.__setattr__(operation, name, float(value))


def require_numbers(
    operation: Any, name: str, count: int, low: float | None = None, high: float | None = None
) -> None:
    """Requires a list of ``count`` finite numbers, each in [low, high]."""
    value = getattr(operation, name)
    is_list = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == count
    if not is_list or not all(_is_number(each, low, high) for each in value):
        raise _wrong(operation, name, f"a list of {count} numbers {_range(low, high)}".rstrip(), value)
    object.__setattr__(operation, name, tuple(float(each) for each in value))


def require_choice(operation: Any, name: str, choices: Sequence[str]) -> None:
    """Requires one of the given words."""
    value = getattr(operation, name)
    if value not in choices:
        raise _wrong(operation, name, f"one of {', '.join(choices)}", value)


def require_boolean(operation: Any, name: str) -> None:
    """Requires true or false."""
    value = getattr(operation, name)
    if not isinstance(value, bool):
        raise _wrong(operation, name, "true or false", value)


def _is_number(value: Any, low: float | None, high: float | None) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    # Compared, not converted: a whole number may be too large for a float.
    number: Any = value
    return abs(number) < math.inf and (low is None or number >= low) and (high is None or number <= high)


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f"of at least {low}"
    return f"of at most {high}" if low is None else f"from {low} to {high}"


def _wrong(operation: Any, name: str, expected: str, value: Any) -> SettingsError:
    return SettingsError(
        f"{operation.name}: {name} must be {expected}, but is {value!r}: correct the setting"
    )
