"""How many groups (patients) an interval of a given width takes, from the spread between the groups of a run.

Images of one patient resemble each other, so that the number of patients decides the width and not that of images. Of m groups
with n_i images, x_i of them right, n = sum n_i and p = sum x_i / n, the variance of p is

    v = m / (m - 1) / n^2 * sum (x_i - n_i p)^2

and the design effect d = n v / (p (1 - p)) says by how much that exceeds the variance of independent images (Rao and Scott
1992, A simple method for the analysis of clustered binary data, Biometrics 48:577-585, doi:10.2307/2532311). v falls with
1/m for groups of the same kind, and an interval p +- 1.96 sqrt(v) with its root. But an interval that is told is wider
(``kerasall.evaluation.intervals``): it allows for a group unlike all that were seen, which weighs as 1/m. So the width of an interval
over k groups is taken as

    w(k) = a / sqrt(k) + u / k,  a = 2 * 1.96 sqrt(m v),

with u such that w(m) is the width that this run tells: no number of groups promises less than the run itself shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Any

import numpy as np
from scipy.special import ndtri

from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import malignant_mask
from kerasall.evaluation.predictions import Predictions

WIDTHS = (0.2, 0.1, 0.05)
"""Widths of a 95% interval, as shares, that the report tells the number of groups for."""

LEAST_GROUPS = 5
"""With fewer groups their spread is not told: it would be a guess."""


@dataclass(frozen=True)
class GroupSpread:
    """The spread of a share between groups, and what follows for a study with groups of the same kind.

    Attributes:
        title: of the share.
        groups: with images in its denominator.
        images: in its denominator.
        value: the share in [0, 1]; None without images.
        design_effect: variance over that of as many independent images; None where it cannot be told.
        groups_needed: width of a 95% interval -> groups it takes; empty where the design effect cannot be told.
        note: why not, or what a reader must know; "" otherwise.
    """

    title: str
    groups: int
    images: int
    value: float | None
    design_effect: float | None
    groups_needed: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return vars(self) | {"groups_needed": dict(self.groups_needed)}


def plan_groups(
    predictions: Predictions, malignant: Sequence[str], intervals: Mapping[str, Interval]
) -> tuple[GroupSpread, ...]:
    """The spread of accuracy and, where malignant classes are named beside others, of sensitivity and specificity to them.

    Args:
        predictions: N images with their groups.
        malignant: names of the malignant classes.
        intervals: 95% intervals of the same images, with ``accuracy`` and, likewise, ``malignant_sensitivity`` and
            ``malignant_specificity``.
    """
    groups = predictions.group_names
    right = predictions.decisions == predictions.labels
    found = [measure_spread("accuracy", right, groups, _width(intervals["accuracy"]))]
    mask = malignant_mask(predictions.classes, malignant)
    if mask.any() and not mask.all():
        is_malignant, called = mask[predictions.labels], mask[predictions.decisions]
        found += [
            measure_spread("sensitivity to malignant cells", called[is_malignant], groups[is_malignant], _width(intervals["malignant_sensitivity"])),
            measure_spread("specificity to malignant cells", ~called[~is_malignant], groups[~is_malignant], _width(intervals["malignant_specificity"])),
        ]  # fmt: skip
    return tuple(found)


def _width(interval: Interval) -> float:
    return 0.0 if interval.low is None or interval.high is None else interval.high - interval.low


def measure_spread(title: str, right: np.ndarray, groups: np.ndarray, width: float = 0.0) -> GroupSpread:
    """The design effect of a share, and the groups that intervals of ``WIDTHS`` take.

    Args:
        title: of the share.
        right: bool [N], whether each image counts as right.
        groups: str [N], the group of each image.
        width: of the 95% interval that these images have, as a share; 0 where none is told: then the spread alone counts.

    >>> groups = np.repeat(["a", "b", "c", "d", "e"], 10)
    >>> right = np.tile([True] * 9 + [False], 5)  # every group alike: no spread between them
    >>> measure_spread("accuracy", right, groups).design_effect
    0.0
    """
    names, rows = np.unique(groups, return_inverse=True)
    images, count = len(right), len(names)
    if not images:
        return GroupSpread(title, 0, 0, None, None, note="there are no such images")
    share, record = float(np.mean(right)), (title, count, images)
    if count < LEAST_GROUPS:
        return GroupSpread(*record, share, None, note=f"fewer than {LEAST_GROUPS} groups tell no spread")
    if share in (0.0, 1.0):
        return GroupSpread(
            *record, share, None, note="all images fare alike, so the spread between groups is not known"
        )
    sizes, hits = np.bincount(rows), np.bincount(rows, weights=right)
    variance = count / (count - 1) / images**2 * float(np.sum((hits - sizes * share) ** 2))
    effect = images * variance / (share * (1 - share))
    reach = 2 * float(ndtri(0.975))
    # Groups that happen to agree do not prove that all do: never fewer than independent images, as many a group, would take.
    least = share * (1 - share) / images * count if effect < 1 else 0.0
    spread = reach * sqrt(max(count * variance, least))
    unseen = max(0.0, count * width - spread * sqrt(count))
    needed = {f"{wanted:g}": _count_groups(spread, unseen, wanted) for wanted in WIDTHS}
    note = f"from {count} groups: rough" if count < 20 else ""
    return GroupSpread(*record, share, effect, needed, note)


def _count_groups(spread: float, unseen: float, wanted: float) -> int:
    """The least k with spread / sqrt(k) + unseen / k no more than the wanted width."""
    return ceil(((spread + sqrt(spread**2 + 4 * wanted * unseen)) / (2 * wanted)) ** 2)
