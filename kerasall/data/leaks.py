"""The check that no subject, duplicate or group stands on two sides of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kerasall.data.split_file import Split, natural_order
from kerasall.errors import LeakError


@dataclass(frozen=True)
class Leak:
    """One thing that stands on two sides: ``kind`` subject, duplicate or group; up to 4 example ids."""

    kind: Literal["subject", "duplicate", "group"]
    name: str
    sides: tuple[str, str]
    ids: tuple[str, ...]


def join_linked(sets: Sequence[Sequence[int]], size: int) -> np.ndarray:
    """Number of the component of each of ``size`` things, where things in one set are linked: int [size]."""
    source = [members[0] for members in sets for _ in members[1:]]
    target = [member for members in sets for member in members[1:]]
    links = coo_array((np.ones(len(source)), (source, target)), shape=(size, size))
    return connected_components(links, directed=False)[1]


def merge_clusters(clusters: Sequence[Sequence[str]]) -> list[list[str]]:
    """Joins clusters that share an id: a copy of a copy is a copy. Sorted lists, sorted."""
    names = sorted({name for cluster in clusters for name in cluster})
    row = {name: index for index, name in enumerate(names)}
    component = join_linked([[row[name] for name in cluster] for cluster in clusters if cluster], len(names))
    merged: dict[int, list[str]] = {}
    for name, index in zip(names, component.tolist(), strict=True):
        merged.setdefault(index, []).append(name)
    return sorted(merged.values())


def check_leaks(
    split: Split, clusters: Sequence[Sequence[str]] = (), *, report_only: bool = False
) -> list[Leak]:
    """Finds subjects, duplicates and groups that stand on two sides.

    Sides are all pairs of parts of a holdout split; and for folds each held-out fold against what is trained
    on meanwhile, and every fold against a fixed test part. Groups joined from several subjects may stand in
    two parts that the publisher drew (``Split.fixed``): their copies are dropped, and ``Split.notes`` says so.

    Args:
        split: what to check.
        clusters: exact and near duplicates, lists of ids.
        report_only: return what was found instead of raising.

    Raises:
        LeakError: something stands on two sides; the message names examples.
    """
    clusters = merge_clusters(clusters)
    leaks: dict[tuple, Leak] = {}
    for sides, first, second, drawn in _sides(split):
        for leak in _crossing(split.table, clusters, sides, first, second, with_groups=drawn):
            leaks.setdefault((leak.kind, leak.name, *sorted(leak.sides)), leak)
    found = list(leaks.values())
    if found and not report_only:
        shown = "; ".join(
            f"{leak.kind} {leak.name} in {leak.sides[0]} and {leak.sides[1]} ({', '.join(leak.ids)})"
            for leak in found[:3]
        )
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        raise LeakError(
            f"no subject, duplicate or group may stand on two sides of a split, but found {shown}{more}. Draw "
            "the split again from the data as they are now; for a faithful copy of a leaky protocol set "
            "split.on_leak: report"
        )
    return found


def _sides(split: Split) -> list[tuple[tuple[str, str], set[str], set[str], bool]]:
    """(names, ids of one side, ids of the other, whether kerasall drew both) for all that must be apart."""
    sides = []
    for index, part in enumerate(split.parts):
        for other in split.parts[index + 1 :]:
            drawn = part not in split.fixed and other not in split.fixed
            first, second = set(split.ids(part)), set(split.ids(other))
            if part in split.folds and other in split.folds:
                sides.append(((part, other), first, second - set(split.dropped.get(part, ())), drawn))
                sides.append(((other, part), second, first - set(split.dropped.get(other, ())), drawn))
            else:
                sides.append(((part, other), first, second, drawn))
    return sides


def _crossing(
    table: pd.DataFrame,
    clusters: Sequence[Sequence[str]],
    sides: tuple[str, str],
    first: set[str],
    second: set[str],
    with_groups: bool,
) -> list[Leak]:
    leaks = []
    for kind in ("subject", "group") if with_groups else ("subject",):
        one, two = (
            table[table["id"].isin(ids)].drop_duplicates(kind).set_index(kind)["id"]
            for ids in (first, second)
        )
        for name in sorted((set(one.index) & set(two.index)) - {""}, key=natural_order):
            leaks.append(Leak(kind, name, sides, (one[name], two[name])))
    for cluster in clusters:
        one, two = sorted(first.intersection(cluster)), sorted(second.intersection(cluster))
        if one and two:
            leaks.append(Leak("duplicate", one[0], sides, (*one[:2], *two[:2])))
    return leaks
