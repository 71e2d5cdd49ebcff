"""Grouped, stratified, seeded splits: holdout parts, k folds, and the publisher's own folds.

The check that no subject, duplicate or group stands on two sides of a split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kerasall.data.split_file import (
    DROPPED,
    HOLDOUT_PARTS,
    SPLIT_COLUMNS,
    Split,
    Unit,
    natural_order,
    read_split,
    require_same_data,
    write_split,
)
from kerasall.data.stratification import deal_groups
from kerasall.errors import DataError, LeakError


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


__all__ = [
    "Leak",
    "Split",
    "check_leaks",
    "fold_split",
    "group_examples",
    "holdout_split",
    "inner_validation",
    "official_fold_split",
    "read_split",
    "require_same_data",
    "write_split",
]


def group_examples(examples: pd.DataFrame, clusters: Sequence[Sequence[str]] = ()) -> pd.Series:
    """Joins subjects and duplicate clusters into groups that are independent of one another.

    Args:
        examples: table with the columns id and subject ("" = unknown: the image is on its own).
        clusters: lists of ids that show the same cell; ids not in the table are passed over.

    Returns:
        Series id -> group, sorted by id. A group is named by its subjects joined with "+", or by its
        first id where no subject is known.
    """
    table = examples[["id", "subject"]].astype(str).sort_values("id", ignore_index=True)
    row = {name: index for index, name in enumerate(table["id"])}
    edges = [list(rows) for rows in table[table["subject"] != ""].groupby("subject").groups.values()]
    edges += [[row[name] for name in cluster if name in row] for cluster in clusters]
    component = join_linked([members for members in edges if members], len(table))
    names = _group_names(table, component)
    return pd.Series(names[component], index=table["id"], name="group")


def _group_names(table: pd.DataFrame, component: np.ndarray) -> np.ndarray:
    """Unique name of each component, object [number of components]."""
    first = {index: row for row, index in reversed(list(enumerate(component.tolist())))}
    names = np.asarray([table["id"].iloc[first[index]] for index in range(len(first))], dtype=object)
    known = table[table["subject"] != ""]
    for index, subjects in known["subject"].groupby(component[known.index]).unique().items():
        subjects = sorted(subjects, key=natural_order)
        names[int(str(index))] = "+".join(subjects[:6]) + (
            f"+{len(subjects) - 6} more" if len(subjects) > 6 else ""
        )
    for index in np.flatnonzero(pd.Series(names).duplicated()):
        names[index] += f" ({index})"
    return names


def holdout_split(
    examples: pd.DataFrame,
    clusters: Sequence[Sequence[str]] = (),
    *,
    shares: Mapping[str, float],
    seed: int,
    fixed: Mapping[str, Sequence[str]] | None = None,
    unit: Unit = "group",
    fingerprint: str = "",
) -> Split:
    """Splits into training and other parts: no group on two sides, near the shares in every class.

    Args:
        examples: table with id, label, subject, fold.
        clusters: exact and near duplicates, lists of ids.
        shares: part -> share of the images that are not in a fixed part, for example
            {"validation": 0.15, "test": 0.15}; the rest is the training part.
        seed: equal seeds give equal splits on any order of the rows.
        fixed: part -> the publisher's folds that are this part, for example {"test": ["prelim"]}. Copies of
            its images among the others become the part "dropped".
        unit: "image" deals out single images whatever they belong to, which leaks: only for faithful copies
            of papers that did so.
        fingerprint: the data's fingerprint, kept in the split file.

    Raises:
        DataError: shares that are no shares, a part with no images, or a class that cannot stand in a part.
    """
    wanted = {part: float(share) for part, share in shares.items() if share > 0}
    named = set(wanted) | set(fixed or {})
    if (
        not named <= set(HOLDOUT_PARTS[1:])
        or sum(wanted.values()) >= 1
        or min(shares.values(), default=0) < 0
    ):
        raise DataError(
            f"shares must be at least 0, sum to less than 1 and belong to {list(HOLDOUT_PARTS[1:])}, "
            f"but are {dict(shares)} with the fixed parts {list(fixed or {})}"
        )
    both = set(wanted) & set(fixed or {})
    if both:
        raise DataError(
            f"a part is either fixed or drawn, but {sorted(both)} are both: set their shares to 0"
        )
    table, notes = _start(examples, clusters, fixed or {})
    wanted = {"train": 1 - sum(wanted.values()), **wanted}
    _deal(table, wanted, seed, unit)
    return _finish("holdout", table, seed, fingerprint, unit, tuple(fixed or {}), {}, notes)


def fold_split(
    examples: pd.DataFrame,
    clusters: Sequence[Sequence[str]] = (),
    *,
    folds: int,
    seed: int,
    fixed: Mapping[str, Sequence[str]] | None = None,
    unit: Unit = "group",
    fingerprint: str = "",
) -> Split:
    """Splits into ``folds`` parts fold_0, fold_1, ... of near equal class counts, no group in two of them.

    Arguments and errors as ``holdout_split``; ``fixed`` parts stand outside the folds.
    """
    if folds < 2:
        raise DataError(f"the number of folds must be at least 2, but is {folds}")
    table, notes = _start(examples, clusters, fixed or {})
    _deal(table, {f"fold_{index}": 1 / folds for index in range(folds)}, seed, unit)
    return _finish("folds", table, seed, fingerprint, unit, tuple(fixed or {}), {}, notes)


def official_fold_split(
    examples: pd.DataFrame,
    clusters: Sequence[Sequence[str]] = (),
    *,
    seed: int = 0,
    fixed: Mapping[str, Sequence[str]] | None = None,
    fingerprint: str = "",
) -> Split:
    """Keeps the publisher's folds (column ``fold``); only copies across folds are dropped from training.

    Of each duplicate pair across two folds, the copy outside the held-out fold is listed in
    ``Split.dropped[held-out fold]``; both copies are still scored when their own fold is held out.

    Raises:
        DataError: fewer than two folds, an image without one, or a fold that lacks a class.
    """
    table, notes = _start(examples, clusters, fixed or {})
    own = table["part"] == ""
    without = table["id"][own & (table["fold"] == "")]
    folds = sorted(set(table["fold"][own]) - {""}, key=natural_order)
    if len(without) or len(folds) < 2:
        raise DataError(
            f"official folds need at least two folds and one for every image, but {len(without)} images have "
            f"none ({without.tolist()[:3]}) and the folds are {folds}: use folds drawn by kerasall instead"
        )
    reserved = sorted(set(folds) & {*HOLDOUT_PARTS, DROPPED})
    if reserved:
        raise DataError(
            f"folds must not be named {reserved}, which are names of parts: rename them in the source"
        )
    table.loc[own, "part"] = table["fold"][own]
    dropped = _copies_by_fold(table, clusters, folds)
    joined = _joined_subjects(table[table["part"].isin(folds)])
    if joined:
        notes = (
            *notes,
            "Official folds are kept as published. Subject ids joined by identical cells stand in different "
            f"folds and may be one patient each: {'; '.join(joined)}. Copies of held-out images "
            f"({sum(map(len, dropped.values()))} in all folds) are not trained on, other images of these "
            "subjects are.",
        )
    return _finish("folds", table, seed, fingerprint, "group", (*folds, *(fixed or {})), dropped, notes)


def inner_validation(split: Split, share: float, seed: int, held_out: str | None = None) -> list[str]:
    """Draws a grouped, stratified validation part out of the images to develop on.

    Args:
        split: folds, or a holdout split whose training part shall be divided.
        share: share of the development images, in (0, 1).
        seed: equal seeds give equal parts.
        held_out: the fold that is held out; None for all folds together.

    Returns:
        Sorted ids to validate on; the other ``development_ids`` are to train on.
    """
    if not 0 < share < 1:
        raise DataError(f"the share of the inner validation part must be between 0 and 1, but is {share}")
    table = split.table[split.table["id"].isin(split.development_ids(held_out))]
    names = table["group" if split.unit == "group" else "id"]
    dealt = deal_groups(
        names.tolist(), table["label"].tolist(), {"train": 1 - share, "validation": share}, seed
    )
    return table["id"][names.map(dealt) == "validation"].tolist()


def _start(
    examples: pd.DataFrame, clusters: Sequence[Sequence[str]], fixed: Mapping[str, Sequence[str]]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Table sorted by id with groups; part is set for fixed and dropped images, "" for those to deal out."""
    table = examples[["id", "label", "subject", "fold"]].astype(str).sort_values("id", ignore_index=True)
    table["group"] = group_examples(examples, clusters).to_numpy()
    table["part"] = ""
    for part, folds in fixed.items():
        chosen = table["fold"].isin(list(folds))
        if not chosen.any():
            raise DataError(
                f"the fixed part {part!r} must hold images, but no image has the fold {list(folds)}: "
                f"the data have {sorted(set(table['fold']))}. Put that part of the data in place, or do without "
                f"it: --set split.{part}_folds=[]"
            )
        table.loc[chosen, "part"] = part
    copies = _copies(table["id"][table["part"] != ""], clusters) - set(table["id"][table["part"] != ""])
    table.loc[table["id"].isin(copies), "part"] = DROPPED
    notes = ()
    if copies:
        notes = (
            f"{len(copies)} copies of images of {sorted(fixed)} are left out of training and validation.",
        )
    return table, notes


def _copies(ids: pd.Series, clusters: Sequence[Sequence[str]]) -> set[str]:
    """All members of the clusters that hold one of ``ids``."""
    wanted = set(ids)
    return {name for cluster in merge_clusters(clusters) if wanted.intersection(cluster) for name in cluster}


def _copies_by_fold(
    table: pd.DataFrame, clusters: Sequence[Sequence[str]], folds: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    part = dict(zip(table["id"], table["part"], strict=True))
    copies = {fold: _copies(table["id"][table["part"] == fold], clusters) for fold in folds}
    return {
        fold: tuple(sorted(name for name in names if part.get(name) in folds and part[name] != fold))
        for fold, names in copies.items()
        if any(part.get(name) in folds and part[name] != fold for name in names)
    }


def _joined_subjects(table: pd.DataFrame) -> list[str]:
    """Groups of several subjects that span several parts, as "20 and 21 (fold_0, fold_2)"."""
    joined = []
    for _, members in table[table["subject"] != ""].groupby("group"):
        subjects = sorted(set(members["subject"]), key=natural_order)
        if len(subjects) > 1 and members["part"].nunique() > 1:
            joined.append(
                f"{', '.join(subjects[:-1])} and {subjects[-1]} ({', '.join(sorted(set(members['part'])))})"
            )
    return joined


def _deal(table: pd.DataFrame, shares: dict[str, float], seed: int, unit: Unit) -> None:
    """Fills the empty entries of ``part`` in place."""
    free = table["part"] == ""
    if not free.any():
        raise DataError(f"images to split into {list(shares)} are needed, but all stand in fixed parts")
    names = table.loc[free, "group" if unit == "group" else "id"]
    table.loc[free, "part"] = names.map(
        deal_groups(names.tolist(), table.loc[free, "label"].tolist(), shares, seed)
    )


def _finish(
    kind: Literal["holdout", "folds"],
    table: pd.DataFrame,
    seed: int,
    fingerprint: str,
    unit: Unit,
    fixed: tuple[str, ...],
    dropped: Mapping[str, tuple[str, ...]],
    notes: tuple[str, ...],
) -> Split:
    """The split, once every class is seen to stand in every part."""
    labels = set(table["label"])
    for part, found in table.groupby("part")["label"].agg(set).items():
        if part != DROPPED and found != labels:
            raise DataError(
                f"each class must stand in every part, but {sorted(labels - found)} do not stand in {part!r}: "
                "choose other fixed parts or official folds, or splits drawn by kerasall"
            )
    return Split(kind, table[list(SPLIT_COLUMNS)], int(seed), fingerprint, unit, fixed, dropped, notes)
