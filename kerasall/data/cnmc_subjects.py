"""Which subject ids of C-NMC are one patient, as far as is known, and how much of the published set is at hand.

``cnmc_joined_ids.csv`` lists every pair of ids under which the same cells occur. Identical files were counted in the
published list of hashes, which is whole. Near duplicates (the same cell, cut out again) were counted by
``kerasall check`` on 8,018 of the 12,528 labelled cells: all of folds 0 and 1, 809 of fold 2, 101 of the preliminary
part. Of the pairs across ids the correlation inside the cells is .958 in the median and .65 at the 5th percentile; of 400
pairs drawn at random .11 and at most .54. In the other cells there may be more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from scipy.cluster.hierarchy import DisjointSet

from kerasall.csv_tables import read_csv
from kerasall.data.splits import natural_order

_TABLE = Path(__file__).with_name("cnmc_joined_ids.csv")

TRAINING_IMAGES = 10_661
"""Published images of the three training folds."""
PRELIMINARY_IMAGES = 1_867
"""Published images of the preliminary test part."""


@dataclass(frozen=True)
class JoinedIds:
    """Two subject ids under which the same cells occur.

    Attributes:
        first, second: the ids.
        near_duplicate_groups: groups of near duplicates that hold images of both.
        identical_groups: groups of byte-identical files that hold images of both.
        certainty: certain (identical files), high (five near duplicates or more), likely (fewer).
    """

    first: str
    second: str
    near_duplicate_groups: int
    identical_groups: int
    certainty: Literal["certain", "high", "likely"]


@cache
def list_joined_ids() -> tuple[JoinedIds, ...]:
    """Every known pair, the surest first."""
    return tuple(
        JoinedIds(first, second, int(near), int(identical), certainty)
        for first, second, near, identical, certainty in read_csv(_TABLE).to_numpy().tolist()
    )


def join_subjects(subjects: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """Sets of two ids or more, of those given, that are one patient; also where an id that is not given joins them.

    >>> join_subjects(["75", "2", "78", "H3"])
    (('75', '78'),)
    """
    pairs = [(pair.first, pair.second) for pair in list_joined_ids()]
    joined = DisjointSet(name for pair in pairs for name in pair)
    for pair in pairs:
        joined.merge(*pair)
    present = (sorted(found & set(subjects), key=natural_order) for found in joined.subsets())
    return tuple(
        sorted((tuple(found) for found in present if len(found) > 1), key=lambda f: natural_order(f[0]))
    )
