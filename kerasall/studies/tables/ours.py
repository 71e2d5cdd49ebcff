"""A figure of a run beside a printed one, and how one is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kerasall.studies.finished_run import Run


@dataclass(frozen=True)
class Ours:
    """A figure of a run beside a printed one.

    Attributes:
        value: a share for a share (not per cent), a count for a count, a word for a word; None where there is none.
        low, high: its interval, resampled over groups; None where it has none.
        reason: why there is no value, or what must be known of it, in words.
    """

    value: float | int | str | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


Lookup = Callable[[Run, Sequence[str]], Ours]
"""Finds the figure of a run that the words of a key, after the first, mean."""


def none_as(reason: str) -> Ours:
    """No figure, and why there is none."""
    return Ours(None, reason=reason)
