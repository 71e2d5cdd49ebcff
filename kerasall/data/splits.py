"""A split of the examples: the record, its frozen file, groups, the check for leaks, and shares of its training part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kerasall.errors import ArtifactError, DataError, LeakError
from kerasall.evaluation.predictions import read_names
from kerasall.files import read_json, sha256_of_json, write_text

SCHEMA_VERSION = 1
"""Of a frozen split file."""
DROPPED = "dropped"
"""Part of images that no step may use: copies, among the images to develop on, of fixed test images."""
DRAW_AGAIN = "Draw the split again from the data as they are now"
HOLDOUT_PARTS = ("train", "validation", "test", "selection")
SPLIT_COLUMNS = ("id", "label", "subject", "group", "part")
Unit = Literal["group", "image"]


@dataclass(frozen=True, eq=False)
class Split:
    """Which image stands in which part.

    Attributes:
        kind: "holdout" (train, validation, test or selection) or "folds" (each held out once).
        table: columns id, label, subject, group, part; one row per image, sorted by id.
        seed: the seed it was drawn with.
        fingerprint: fingerprint of the data it was drawn for; "" where none was given.
        unit: what was dealt out whole: groups, or (for copies of papers that did so) single images.
        fixed: parts that the publisher of the data drew, not this program.
        dropped: fold -> ids not to train on while that fold is held out, as they are copies of its images.
        notes: sentences a report of results on this split must carry.
    """

    kind: Literal["holdout", "folds"]
    table: pd.DataFrame
    seed: int
    fingerprint: str = ""
    unit: Unit = "group"
    fixed: tuple[str, ...] = ()
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, in order of use (train, validation, ...) or of the folds' names."""
        found = set(self.table["part"]) - {DROPPED}
        known = [name for name in HOLDOUT_PARTS if name in found]
        return (*sorted(found - set(known), key=natural_order), *known)

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds that are held out in turn; empty for a holdout split."""
        return tuple(p for p in self.parts if p not in HOLDOUT_PARTS) if self.kind == "folds" else ()

    def ids(self, part: str) -> list[str]:
        """Ids of one part, sorted.

        Raises:
            DataError: the split has no such part.
        """
        if part not in self.parts:
            raise DataError(f"the part must be one of {list(self.parts)}, but is {part!r}")
        return self.table["id"][self.table["part"] == part].tolist()

    def development_ids(self, held_out: str | None = None) -> list[str]:
        """Ids to train and validate on, sorted.

        Args:
            held_out: the fold to keep out, with the copies of its images; None for a holdout split's
                training part, or for all folds (a model refitted on everything).
        """
        if self.kind == "holdout":
            return self.ids("train")
        if held_out is not None and held_out not in self.folds:
            raise DataError(f"the held-out fold must be one of {list(self.folds)}, but is {held_out!r}")
        use = self.table["part"].isin(self.folds) & (self.table["part"] != held_out)
        use &= ~self.table["id"].isin(self.dropped.get(held_out or "", ()))
        return self.table["id"][use].tolist()

    @property
    def unit_column(self) -> str:
        """Column of the table that names what was dealt out whole."""
        return "group" if self.unit == "group" else "id"

    @cached_property
    def sha256(self) -> str:
        """SHA-256 over everything the split holds: equal splits on any machine have equal ones."""
        return sha256_of_json(_content(self))


def natural_order(name: str) -> tuple[int, str]:
    """Sorts fold_2 before fold_10, and 9 before 10."""
    return len(name), name


def _content(split: Split) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": split.kind,
        "unit": split.unit,
        "seed": split.seed,
        "fingerprint": split.fingerprint,
        "fixed": list(split.fixed),
        "dropped": {fold: list(ids) for fold, ids in split.dropped.items()},
        "notes": list(split.notes),
        "columns": list(SPLIT_COLUMNS),
        "examples": split.table[list(SPLIT_COLUMNS)].to_numpy().tolist(),
    }


def write_split(split: Split, path: str | Path) -> None:
    """Freezes the split into a JSON file with its own SHA-256, one line per image, atomically."""
    content = _content(split)
    examples = content.pop("examples")
    head = json.dumps({"sha256": split.sha256, **content}, indent=2, ensure_ascii=False)[:-2]
    rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in examples)
    write_text(path, f'{head},\n  "examples": [\n{rows}\n  ]\n}}\n')


def read_split(path: str | Path, examples: pd.DataFrame | None = None, fingerprint: str = "") -> Split:
    """Reads a frozen split and verifies it.

    Args:
        path: a file that ``write_split`` wrote.
        examples: the data it shall be applied to; None to only read.
        fingerprint: their fingerprint; "" to compare ids, labels and subjects alone.

    Raises:
        ArtifactError: the file is missing, was changed, or has another schema version.
        DataError: the split was drawn for other data; the message says what differs.
    """
    content = read_json(path)
    try:
        stored, version = content.pop("sha256"), content["schema_version"]
        split = Split(
            table=pd.DataFrame(content["examples"], columns=content["columns"], dtype=object),
            dropped={fold: tuple(ids) for fold, ids in content["dropped"].items()},
            fixed=tuple(content["fixed"]),
            notes=tuple(content["notes"]),
            **{name: content[name] for name in ("kind", "seed", "fingerprint", "unit")},
        )
        actual = sha256_of_json(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactError(f"{path} must be a split file, but reading it failed ({error!r})") from None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} must have schema version {SCHEMA_VERSION}, but has {version}: draw it again"
        )
    if stored != actual:
        raise ArtifactError(
            f"{path} must be as it was frozen (sha256 {stored[:12]}), but was changed ({actual[:12]}): "
            "restore the file or draw the split again"
        )
    if examples is not None:
        _require_same_data(split, examples, fingerprint)
    return split


def _require_same_data(split: Split, examples: pd.DataFrame, fingerprint: str) -> None:
    """The data must have the ids, labels, subjects and (where both are known) the fingerprint of the split's."""
    mine, its = (
        dict(zip(table["id"], zip(table["label"], table["subject"], strict=True), strict=True))
        for table in (examples, split.table)
    )
    changed = sorted(name for name in mine.keys() & its.keys() if mine[name] != its[name])
    differences = {
        "images of the split are missing from the data": sorted(its.keys() - mine.keys()),
        "images of the data are not in the split": sorted(mine.keys() - its.keys()),
        "images have another label or subject": changed,
    }
    found = [f"{len(ids)} {what} (such as {ids[0]})" for what, ids in differences.items() if ids]
    if not found and fingerprint and split.fingerprint and fingerprint != split.fingerprint:
        prints = f"fingerprint {split.fingerprint[:12]}, now {fingerprint[:12]}"
        found = [f"the bytes of some images changed ({prints})"]
    if found:
        raise DataError(
            f"a split file must be applied to the data it was drawn for, but {'; '.join(found)}: use those "
            "data, or draw a new split"
        )


def _join_linked(sets: Sequence[Sequence[int]], size: int) -> np.ndarray:
    """Number of the component of each of ``size`` things, where things in one set are linked: int [size]."""
    source = [members[0] for members in sets for _ in members[1:]]
    target = [member for members in sets for member in members[1:]]
    links = coo_array((np.ones(len(source)), (source, target)), shape=(size, size))
    return connected_components(links, directed=False)[1]


def merge_clusters(clusters: Sequence[Sequence[str]]) -> list[list[str]]:
    """Joins clusters that share an id: a copy of a copy is a copy. Sorted lists, sorted."""
    names = sorted({name for cluster in clusters for name in cluster})
    row = {name: index for index, name in enumerate(names)}
    component = _join_linked([[row[name] for name in cluster] for cluster in clusters if cluster], len(names))
    merged: dict[int, list[str]] = {}
    for name, index in zip(names, component.tolist(), strict=True):
        merged.setdefault(index, []).append(name)
    return sorted(merged.values())


def group_examples(
    examples: pd.DataFrame, clusters: Sequence[Sequence[str]] = (), joined: Sequence[Sequence[str]] = ()
) -> pd.Series:
    """Joins subjects and duplicate clusters into groups that are independent of one another.

    Args:
        examples: table with the columns id and subject ("" or absent = unknown: the image is on its own).
        clusters: lists of ids that show the same cell; ids not in the table are passed over.
        joined: sets of subjects that are one patient each; see ``Collection.joined_subjects``.

    Returns:
        Series id -> group, sorted by id. A group is named by its subjects joined with "+", or by its
        first id where no subject is known.
    """
    table = examples[["id", "subject"]].assign(subject=read_names(examples["subject"])).astype({"id": str})
    table = table.sort_values("id", ignore_index=True)
    row = {name: index for index, name in enumerate(table["id"])}
    patient = {name: subjects[0] for subjects in joined for name in subjects}
    patients = table["subject"].replace(patient)
    edges = [list(rows) for rows in patients[patients != ""].groupby(patients).groups.values()]
    edges += [[row[name] for name in cluster if name in row] for cluster in clusters]
    component = _join_linked([members for members in edges if members], len(table))
    names = _group_names(table, component)
    return pd.Series(names[component], index=table["id"], name="group")


def _group_names(table: pd.DataFrame, component: np.ndarray) -> np.ndarray:
    """Unique name of each component, object [number of components]."""
    first = {index: row for row, index in reversed(list(enumerate(component.tolist())))}
    names = np.asarray([table["id"].iloc[first[index]] for index in range(len(first))], dtype=object)
    known = table[table["subject"] != ""]
    for index, found in known["subject"].groupby(component[known.index]).unique().items():
        subjects = sorted(found, key=natural_order)
        more = [f"{len(subjects) - 6} more"] if len(subjects) > 6 else []
        names[int(str(index))] = "+".join([*subjects[:6], *more])
    for index in np.flatnonzero(pd.Series(names).duplicated()):
        names[index] += f" ({index})"
    return names


@dataclass(frozen=True)
class Leak:
    """One thing that stands on two sides: ``kind`` subject, duplicate or group; up to 4 example ids."""

    kind: Literal["subject", "duplicate", "group"]
    name: str
    sides: tuple[str, str]
    ids: tuple[str, ...]


def check_leaks(
    split: Split, clusters: Sequence[Sequence[str]] = (), *, report_only: bool = False, cure: str = DRAW_AGAIN
) -> list[Leak]:
    """Finds subjects, duplicates and groups that stand on two sides.

    Sides are all pairs of parts of a holdout split; and for folds each held-out fold against what is trained
    on meanwhile, and every fold against a fixed test part. Groups joined from several subjects may stand in
    two parts that the publisher drew (``Split.fixed``): their copies are dropped, and ``Split.notes`` says so.

    Args:
        split: what to check.
        clusters: exact and near duplicates, lists of ids.
        report_only: return what was found instead of raising.
        cure: what the message says is to be done.

    Raises:
        LeakError: something stands on two sides; the message names examples.
    """
    clusters = merge_clusters(clusters)
    found: dict[tuple, Leak] = {}
    for sides, first, second, drawn in _sides(split):
        kinds = ("subject", "group") if drawn else ("subject",)
        for leak in _crossing(split.table, clusters, sides, first, second, kinds):
            found.setdefault((leak.kind, leak.name, *sorted(leak.sides)), leak)
    leaks = list(found.values())
    if leaks and not report_only:
        shown = "; ".join(
            f"{leak.kind} {leak.name} in {leak.sides[0]} and {leak.sides[1]} ({', '.join(leak.ids)})"
            for leak in leaks[:3]
        )
        more = f"; and {len(leaks) - 3} more" if len(leaks) > 3 else ""
        raise LeakError(
            f"no subject, duplicate or group may stand on two sides of a split, but found {shown}{more}. {cure}; "
            "for a faithful copy of a leaky protocol set split.on_leak: report"
        )
    return leaks


def _sides(split: Split) -> Iterator[tuple[tuple[str, str], set[str], set[str], bool]]:
    """(names, ids of one side, ids of the other, whether kerasall drew both) for all that must be apart."""
    for part, other in combinations(split.parts, 2):
        drawn = part not in split.fixed and other not in split.fixed
        first, second = set(split.ids(part)), set(split.ids(other))
        if part in split.folds and other in split.folds:
            yield (part, other), first, second.difference(split.dropped.get(part, ())), drawn
            yield (other, part), second, first.difference(split.dropped.get(other, ())), drawn
        else:
            yield (part, other), first, second, drawn


def _crossing(
    table: pd.DataFrame, clusters: list[list[str]], sides: tuple[str, str], first: set[str], second: set[str],
    kinds: Sequence[Literal["subject", "group"]],
) -> Iterator[Leak]:  # fmt: skip
    one, two = (table[table["id"].isin(ids)] for ids in (first, second))
    for kind in kinds:
        here, there = (side.drop_duplicates(kind).set_index(kind)["id"] for side in (one, two))
        for name in sorted((set(here.index) & set(there.index)) - {""}, key=natural_order):
            yield Leak(kind, name, sides, (here[name], there[name]))
    for cluster in clusters:
        here, there = sorted(first.intersection(cluster)), sorted(second.intersection(cluster))
        if here and there:
            yield Leak("duplicate", here[0], sides, (*here[:2], *there[:2]))


def keep_training_share(split: Split, share: float) -> Split:
    """The same split with a share of its training groups, class by class; all that is scored stays.

    Groups (with ``split.unit`` "image" single images) stand in one random order, whose beginning is kept: a
    smaller share is part of every larger one. Of a holdout split the others become the part "dropped"; of
    folds they are listed as not to be trained on while a fold is held out.

    Args:
        split: a drawn one.
        share: in (0, 1]; at least one group of every class is kept.
    """
    if share >= 1:
        return split
    note = f"Trained on {100 * share:g}% of the training groups alone: a point of a learning curve."
    split = replace(split, notes=(*split.notes, note))
    if split.kind == "holdout":
        left_out = split.table["id"].isin(_left_out(split, None, share))
        return replace(split, table=split.table.assign(part=split.table["part"].mask(left_out, DROPPED)))
    dropped = {
        fold: tuple(sorted({*split.dropped.get(fold, ()), *_left_out(split, fold, share)}))
        for fold in split.folds
    }
    return replace(split, dropped=dropped)


def _left_out(split: Split, held_out: str | None, share: float) -> set[str]:
    """Ids of the training groups beyond the share."""
    training = split.table[split.table["id"].isin(split.development_ids(held_out))]
    training = training.assign(name=training[split.unit_column])
    labels = training.groupby("name")["label"].agg(lambda found: found.value_counts().sort_index().idxmax())
    kept: set[str] = set()
    for label in sorted(set(labels)):
        names = sorted(labels.index[labels == label], key=lambda name: (_place(str(name), split.seed), name))
        kept.update(names[: ceil(share * len(names) - 1e-9)])
    return set(training["id"][~training["name"].isin(kept)])


def _place(name: str, seed: int) -> float:
    """A group's place in the random order, whatever other groups there are."""
    return float(np.random.default_rng([seed, *name.encode()]).random())


def count_training(split: Split) -> tuple[float, float]:
    """Groups and images that one fit is trained on (with folds the mean over them).

    An inner validation part, where there is one, is taken out of these.
    """
    table = split.table.set_index("id")["group"]
    fits = [split.development_ids(fold) for fold in split.folds] or [split.ids("train")]
    groups = [table.loc[ids].nunique() for ids in fits]
    return float(np.mean(groups)), float(np.mean([len(ids) for ids in fits]))
