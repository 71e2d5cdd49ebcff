"""Scores of subgroups: images divided by what a column says of them (site, scanner, sex), each part with its own intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kerasall.errors import count_of
from kerasall.evaluation.intervals import Interval, Scorer

FEWEST_GROUPS = 5
"""With fewer groups in a score's denominator a subgroup has no interval: it would promise what it cannot hold."""


@dataclass(frozen=True)
class Subgroup:
    """The images of one value of a column.

    Attributes:
        value: as it stands in the table; "" where it is not known.
        images, groups: so many.
        intervals: metric -> value with interval; without ends where too few groups are behind it.
        too_few: why its intervals are left out, or "".
    """

    value: str
    images: int
    groups: int
    intervals: Mapping[str, Interval]
    too_few: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        metrics = {name: interval.to_json() for name, interval in self.intervals.items()}
        return {
            "value": self.value, "images": self.images, "groups": self.groups, "too_few": self.too_few, "metrics": metrics,
        }  # fmt: skip


@dataclass(frozen=True)
class Subgroups:
    """All values of a column, by name; those that are not known last."""

    column: str
    rows: tuple[Subgroup, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {"column": self.column, "rows": [row.to_json() for row in self.rows]}


def score_subgroups(
    scorer: Scorer, columns: Mapping[str, np.ndarray], metrics: Sequence[str]
) -> tuple[Subgroups, ...]:
    """Scores every value of every column.

    Groups (patients) are resampled within a subgroup; one with images in two subgroups counts in both.

    Args:
        scorer: of N images.
        columns: name -> str [N], what the table says of each image, "" where nothing is known.
        metrics: names.
    """
    return tuple(
        Subgroups(name, tuple(_score(scorer, value, values == value, metrics) for value in _order(values)))
        for name, values in columns.items()
    )


def _order(values: np.ndarray) -> list[str]:
    return sorted(map(str, np.unique(values)), key=lambda value: (value == "", value))


def _score(scorer: Scorer, value: str, mask: np.ndarray, metrics: Sequence[str]) -> Subgroup:
    part = scorer.of(scorer.predictions.take(mask))
    if scorer.graded is not None:
        part = replace(part, graded=scorer.graded.take(mask))
    found = part.intervals(metrics)
    groups = len(np.unique(part.predictions.group_names))
    few = [name for name, each in found.items() if each.value is not None and each.groups < FEWEST_GROUPS]
    for name in few:
        note = f"{count_of(found[name].groups, 'group')}: too few for an interval"
        found[name] = replace(found[name], low=None, high=None, note=note)
    told = f"fewer than {FEWEST_GROUPS} groups behind a score: no interval" if few else ""
    return Subgroup(value, len(part.predictions), groups, found, told)
