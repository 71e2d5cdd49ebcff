"""Which subject ids of C-NMC are one patient, as far as is known, and how much of the published set is at hand.

``JOINED_IDS`` lists every pair of ids under which the same cells occur. Identical files were counted in the
published list of hashes, which is whole. Near duplicates (the same cell, cut out again) were counted by
``kerasall check`` on 8,018 of the 12,528 labelled cells: all of folds 0 and 1, 809 of fold 2, 101 of the preliminary
part. Of the pairs across ids the correlation inside the cells is .958 in the median and .65 at the 5th percentile; of 400
pairs drawn at random .11 and at most .54. In the other cells there may be more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from scipy.cluster.hierarchy import DisjointSet

from kerasall.data.splits import natural_order

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


JOINED_IDS = (
    JoinedIds("20", "21", 6, 71, "certain"),
    JoinedIds("51", "78", 164, 11, "certain"),
    JoinedIds("51", "75", 73, 10, "certain"),
    JoinedIds("H10", "H3", 31, 1, "certain"),
    JoinedIds("H2", "H5", 17, 2, "certain"),
    JoinedIds("H2", "H6", 9, 1, "certain"),
    JoinedIds("H2", "H4", 6, 3, "certain"),
    JoinedIds("H14", "H24", 21, 0, "high"),
    JoinedIds("43", "44", 11, 0, "high"),
    JoinedIds("H2", "H7", 10, 0, "high"),
    JoinedIds("17", "20", 5, 0, "high"),
    JoinedIds("17", "21", 5, 0, "high"),
    JoinedIds("1", "15", 2, 0, "likely"),
    JoinedIds("1", "17", 2, 0, "likely"),
    JoinedIds("51", "55", 2, 0, "likely"),
    JoinedIds("H5", "H6", 2, 0, "likely"),
    JoinedIds("16", "20", 1, 0, "likely"),
    JoinedIds("16", "21", 1, 0, "likely"),
)
"""Every known pair, the surest first."""


def join_subjects(subjects: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """Sets of two ids or more, of those given, that are one patient; also where an id that is not given joins them.

    >>> join_subjects(["75", "2", "78", "H3"])
    (('75', '78'),)
    """
    return tuple(here for here, _ in _part_patients(subjects) if len(here) > 1)


def list_absent(subjects: Collection[str]) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """Ids of those given that are one patient with ids that are not given, and these.

    >>> list_absent(["75", "2", "78", "H3"])
    ((('75', '78'), ('51', '55')), (('H3',), ('H10',)))
    """
    return tuple((here, absent) for here, absent in _part_patients(subjects) if absent)


def _part_patients(subjects: Collection[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The ids of every patient of several ids that are given, and those that are not; patients with none are left out."""
    pairs = [(pair.first, pair.second) for pair in JOINED_IDS]
    joined = DisjointSet(name for pair in pairs for name in pair)
    for pair in pairs:
        joined.merge(*pair)
    found = [
        (
            tuple(sorted(ids & set(subjects), key=natural_order)),
            tuple(sorted(ids - set(subjects), key=natural_order)),
        )
        for ids in joined.subsets()
    ]
    return sorted((each for each in found if each[0]), key=lambda each: natural_order(each[0][0]))
