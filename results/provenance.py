"""What stands in every study's file beside its numbers: the machine, the versions; and how it is written."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.interleaved import describe_machine
from kerasall.files import write_json

DIGITS = 6
"""Behind the point of every number that is written: more than any interval here can tell apart."""


def find_versions(packages: Iterable[str]) -> dict[str, str]:
    """Package -> version, of those that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def round_numbers(value: Any) -> Any:
    """The same JSON value with ``DIGITS`` digits behind the point.

    >>> round_numbers({"a": [0.12345678, 3], "b": None})
    {'a': [0.123457, 3], 'b': None}
    """
    if isinstance(value, dict):
        return {name: round_numbers(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [round_numbers(each) for each in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def write_study(path: Path, name: str, document: dict[str, Any]) -> None:
    """Writes a study's JSON, atomically, with its name, the machine and the versions in front."""
    machine = describe_machine()
    head = {
        "schema_version": 1,
        "study": name,
        "hardware": {key: machine[key] for key in ("processor", "cores", "instructions")},
        "versions": {"python": platform.python_version()}
        | machine["packages"]
        | find_versions(("kerasall", "scikit-learn", "scipy")),
    }
    write_json(path, round_numbers(head | document))
