"""Strict look-up in this room's tables: an unknown name or constant is an error that names the near ones."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from kerasall.errors import SettingsError

Row = TypeVar("Row")


def find_row(table: Mapping[str, Row], name: str, kind: str) -> Row:
    """The row called ``name``.

    Raises:
        SettingsError: no such row; the message lists all and names the nearest. ``kind`` says of what.
    """
    if name in table:
        return table[name]
    raise SettingsError(f"{kind} must be one of {sorted(table)}, but is {name!r}{_nearest(str(name), table)}")


def require_constants(
    constants: Mapping[str, Any], allowed: Collection[str], where: str, required: Collection[str] = ()
) -> None:
    """Refuses unknown constants and misses required ones.

    Raises:
        SettingsError: naming the constant, the allowed ones and ``where``.
    """
    for name in constants:
        if name not in allowed:
            raise SettingsError(
                f"constants of {where} must be among {sorted(allowed)}, but {name!r} is not{_nearest(name, allowed)}"
            )
    missing = sorted(set(required) - set(constants))
    if missing:
        raise SettingsError(
            f"{where} needs the constants {sorted(required)}, but {missing} are missing: set them"
        )


def require_number(
    value: Any, name: str, minimum: float = 0.0, maximum: float = math.inf, exclusive: bool = True
) -> float:
    """``value`` as a float if it is a finite number above ``minimum`` and up to ``maximum``.

    Args:
        exclusive: whether ``minimum`` itself is refused.

    Raises:
        SettingsError: it is not.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number and (value > minimum or (value == minimum and not exclusive)) and value <= maximum:
        return float(value)
    bound = f"{'above' if exclusive else 'at least'} {minimum:g}"
    if math.isfinite(maximum):
        bound += f" and at most {maximum:g}"
    raise SettingsError(f"{name} must be a number {bound}, but is {value!r}: correct the setting")


def _nearest(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else ""
