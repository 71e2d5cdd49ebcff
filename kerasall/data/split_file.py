"""The record of a split, and the frozen file it is kept in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from kerasall.errors import ArtifactError, DataError
from kerasall.files import read_json, sha256_of_json, write_text

SCHEMA_VERSION = 1
DROPPED = "dropped"
"""Part of images that no step may use: copies, among the images to develop on, of fixed test images."""
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
        stored = content.pop("sha256")
        version = content["schema_version"]
        table = pd.DataFrame(content["examples"], columns=content["columns"], dtype=object)
        split = Split(
            kind=content["kind"],
            table=table,
            seed=content["seed"],
            fingerprint=content["fingerprint"],
            unit=content["unit"],
            fixed=tuple(content["fixed"]),
            dropped={fold: tuple(ids) for fold, ids in content["dropped"].items()},
            notes=tuple(content["notes"]),
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
        require_same_data(split, examples, fingerprint)
    return split


def require_same_data(split: Split, examples: pd.DataFrame, fingerprint: str = "") -> None:
    """Checks that a split belongs to these data.

    Raises:
        DataError: ids, labels, subjects or contents differ; the message says which.
    """
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
        found = [
            f"the bytes of some images changed (fingerprint {split.fingerprint[:12]}, now {fingerprint[:12]})"
        ]
    if found:
        raise DataError(
            f"a split file must be applied to the data it was drawn for, but {'; '.join(found)}: use those "
            "data, or draw a new split"
        )
