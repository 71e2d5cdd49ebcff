"""Checks of the arguments of operations; each sets the checked value in its plain form.

An operation is a frozen dataclass whose JSON is its fields, so numbers become ``float``, counts ``int``
and lists tuples here: equal operations then have equal JSON, whichever form the settings had.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

from kerasall.errors import SettingsError


def require_integer(operation: Any, name: str, low: int, high: int | None = None) -> None:
    """Requires a whole number in [low, high]."""
    value = getattr(operation, name)
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
    number = float(value)
    return math.isfinite(number) and (low is None or number >= low) and (high is None or number <= high)


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
