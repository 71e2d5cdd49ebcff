"""Corrected labels: what experts decided on a review queue, checked, applied to the examples, and kept on record.

A file of corrections is a table (CSV, Excel) with the columns ``id`` and ``corrected_label``, and where wanted ``label`` (the
label that the reviewer saw), ``reviewer`` and ``comment``; further columns and rows without a corrected label
are passed over, so the table that ``kerasall review`` writes can be filled in and handed back as it is.
A corrected label is a class name, equal to the present one to confirm it, or ``exclude`` to leave the image out.

A frozen split may be older than corrections of its labels: then every image keeps its part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from kerasall.data.examples import Collection
from kerasall.data.splits import Split, read_split
from kerasall.errors import DataError, near_names
from kerasall.evaluation.class_names import EXCLUDE
from kerasall.files import read_json, sha256_of_file, write_json
from kerasall.listing.folders import list_some
from kerasall.listing.tables import read_table

CORRECTIONS = "corrections.json"
"""File of an artifact in which applied corrections are kept."""
KINDS = ("changed", "confirmed", "excluded")
"""What a correction can be, seen from the label that stood before."""
_REQUIRED = ("id", "corrected_label")


@dataclass(frozen=True)
class Correction:
    """One decision on one image.

    Attributes:
        id: of the image.
        label: as it stood before.
        corrected_label: the class name decided on, equal to ``label`` if confirmed, or ``exclude``.
        reviewer, comment: as written by the reviewer; "" where nothing was.
        subject: of the image, so that an image that was left out can be told from a missing one.
        part: of the split, where it is known; "" also means that no step used the image.
    """

    id: str
    label: str
    corrected_label: str
    reviewer: str = ""
    comment: str = ""
    subject: str = ""
    part: str = ""

    @property
    def kind(self) -> str:
        """One of ``KINDS``."""
        if self.corrected_label == EXCLUDE:
            return "excluded"
        return "confirmed" if self.corrected_label == self.label else "changed"


@dataclass(frozen=True)
class CorrectionFile:
    """The decisions of one file, as they were applied.

    Attributes:
        name: the file's name, without its folder.
        sha256: of its bytes.
        corrections: one per image, in the file's order.
    """

    name: str
    sha256: str
    corrections: tuple[Correction, ...]

    def count(self, kind: str) -> int:
        """Number of corrections of one kind."""
        return sum(each.kind == kind for each in self.corrections)


def apply_corrections(
    collection: Collection, paths: Sequence[str | Path]
) -> tuple[Collection, list[CorrectionFile]]:
    """Applies files of corrections one after the other.

    Args:
        collection: examples as their source labels them.
        paths: tables, the first to be applied first; a later one sees the labels that an earlier one left.

    Returns:
        The collection with corrected labels, without excluded images, with a note for its reports; and what
        was done, file by file.

    Raises:
        DataError: a file is unreadable, has no correction, an unknown id or label, an id twice, or a ``label``
            that the data do not have (any more).
    """
    files = []
    for path in map(Path, paths):
        found = _read_file(path.expanduser(), collection)
        files.append(found)
        collection = _apply(collection, found)
    return collection, files


def read_corrections(folder: str | Path) -> list[CorrectionFile]:
    """What ``write_corrections`` wrote into a folder; an empty list where nothing was corrected."""
    path = Path(folder) / CORRECTIONS
    if not path.is_file():
        return []
    return [
        CorrectionFile(each["name"], each["sha256"], tuple(Correction(**row) for row in each["corrections"]))
        for each in read_json(path)
    ]


def write_corrections(files: Sequence[CorrectionFile], folder: str | Path) -> None:
    """Writes ``corrections.json`` into an existing folder; nothing where nothing was corrected."""
    if files:
        write_json(Path(folder) / CORRECTIONS, [asdict(file) for file in files])


def _read_file(path: Path, collection: Collection) -> CorrectionFile:
    rows = [row for row in _read_rows(path) if row["corrected_label"]]
    if not rows:
        raise DataError(
            f"{path} must hold at least one row with a corrected_label, but holds none: fill some in, or leave the "
            "file out of data.corrections"
        )
    _require_known(path, rows, collection)
    examples = collection.examples
    label, subject = (dict(zip(examples["id"], examples[name], strict=True)) for name in ("label", "subject"))
    _require_seen_labels(path, rows, label)
    corrections = tuple(
        Correction(
            row["id"], label[row["id"]], row["corrected_label"], row.get("reviewer", ""), row.get("comment", ""),
            subject[row["id"]],
        )
        for row in rows
    )  # fmt: skip
    return CorrectionFile(path.name, sha256_of_file(path), corrections)


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Rows by column name."""
    if not path.exists():
        raise DataError(f"the corrections {path} must exist, but do not: correct data.corrections")
    table = read_table(path, "a table of corrections")
    columns = [name.lower() for name in table.columns]
    if missing := [name for name in _REQUIRED if columns.count(name) != 1]:
        raise DataError(
            f"{path} must have the columns {list(_REQUIRED)} once each, but has not {missing}: its columns are {columns}"
        )
    if table.problems:
        raise DataError(f"{path}: {'; '.join(table.problems)}")
    return [dict(zip(columns, line, strict=True)) for line in table.lines.values()]


def _require_known(path: Path, rows: list[dict[str, str]], collection: Collection) -> None:
    ids = [row["id"] for row in rows]
    known = set(collection.examples["id"])
    if unknown := [name for name in ids if name not in known]:
        near = near_names(unknown[0], known)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise DataError(
            f"{path} must name images of the data, but {len(unknown)} ids are not among them: {list_some(unknown)}{hint}; "
            "an id is the path below the data folder, as kerasall review writes it"
        )
    if repeated := sorted({name for name, times in Counter(ids).items() if times > 1}):
        raise DataError(
            f"{path} must decide on every image once, but {len(repeated)} stand there more than once: "
            f"{list_some(repeated)}; settle on one row each"
        )
    allowed = [*collection.labels, EXCLUDE]
    if wrong := sorted({row["corrected_label"] for row in rows} - set(allowed)):
        raise DataError(f"corrected labels in {path} must be among {allowed}, but are {wrong}: correct them")


def _require_seen_labels(path: Path, rows: list[dict[str, str]], label: dict[str, str]) -> None:
    """The label a reviewer saw must still be the data's: else the decision was on another question."""
    stale = [row["id"] for row in rows if row.get("label", label[row["id"]]) not in ("", label[row["id"]])]
    if stale:
        seen = next(row["label"] for row in rows if row["id"] == stale[0])
        raise DataError(
            f"{path} must have been written for these labels, but {len(stale)} images are labelled otherwise now: "
            f"{list_some(stale)} ({stale[0]} was {seen!r}, is {label[stale[0]]!r}); look at them again, and correct or "
            "empty the column label"
        )


def _relabel(table: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """A table with other labels, id -> label, without the images that are to be left out."""
    table = table.assign(label=table["id"].map(labels).fillna(table["label"]))
    return table[table["label"] != EXCLUDE].reset_index(drop=True)


def _apply(collection: Collection, file: CorrectionFile) -> Collection:
    examples = _relabel(collection.examples, {each.id: each.corrected_label for each in file.corrections})
    if examples.empty:
        raise DataError(f"{file.name} must leave some images in, but excludes all: correct it")
    note = f"Labels were corrected after a review ({file.name}, sha256 {file.sha256[:12]}): {describe_corrections(file)}."
    warnings = collection.read_warnings
    if confirmed := [each.id for each in file.corrections if each.kind == "confirmed"]:
        told = f"{file.name} confirms {len(confirmed)} labels as they are: {list_some(confirmed)}"
        warnings = (*warnings, told)
    return replace(collection, examples=examples, notes=(*collection.notes, note), read_warnings=warnings)


def describe_corrections(file: CorrectionFile) -> str:
    """How many labels a file changed, confirmed, and left out, in words."""
    words = {"changed": "changed", "excluded": "left out", "confirmed": "confirmed as they were"}
    return ", ".join(f"{file.count(kind):,} {word}" for kind, word in words.items())


def add_parts(files: Sequence[CorrectionFile], split: Split) -> list[CorrectionFile]:
    """The same corrections, each with the part its image stands in; "" for images that were left out."""
    part = dict(zip(split.table["id"], split.table["part"], strict=True))

    def add(file: CorrectionFile) -> CorrectionFile:
        placed = (replace(each, part=each.part or part.get(each.id, "")) for each in file.corrections)
        return replace(file, corrections=tuple(placed))

    return [add(file) for file in files]


def read_corrected_split(
    path: str | Path, examples: pd.DataFrame, files: Sequence[CorrectionFile], fingerprint: str
) -> tuple[Split, list[CorrectionFile]]:
    """Reads a frozen split that was drawn before some of the corrections, or after all of them.

    Every image keeps its part; labels become the corrected ones, excluded images leave. Where labels differ
    from those it was drawn for, contents of files are not compared: its fingerprint is of other labels.

    Args:
        path: the frozen split.
        examples: corrected examples.
        files: the corrections they hold.
        fingerprint: of the corrected data; it becomes the split's.

    Returns:
        The split of the corrected examples, and the corrections with the parts of their images, those of
        excluded images among them.

    Raises:
        ArtifactError: the file is missing or was changed.
        DataError: the split belongs to other data, whichever corrections are taken back.
    """
    before, refusal = examples, None
    for kept in range(len(files), -1, -1):
        try:
            split = read_split(path, before, fingerprint if kept == len(files) else "")
        except DataError as error:
            refusal = refusal or error
            if kept:
                before = _take_back(before, files[kept - 1])
            continue
        with_parts = add_parts(files, split)
        return (_correct(split, files[kept:], fingerprint) if kept < len(files) else split), with_parts
    assert refusal is not None
    raise refusal


def _take_back(examples: pd.DataFrame, file: CorrectionFile) -> pd.DataFrame:
    """Ids, labels and subjects as they were before the file was applied."""
    table = _relabel(examples[["id", "label", "subject"]], {each.id: each.label for each in file.corrections})
    left_out = [(c.id, c.label, c.subject) for c in file.corrections if c.kind == "excluded"]
    return pd.concat([table, pd.DataFrame(left_out, columns=list(table.columns))], ignore_index=True)


def _correct(split: Split, files: Sequence[CorrectionFile], fingerprint: str) -> Split:
    table = _relabel(
        split.table, {each.id: each.corrected_label for file in files for each in file.corrections}
    )
    left = set(table["id"])
    dropped = {fold: tuple(name for name in ids if name in left) for fold, ids in split.dropped.items()}
    note = "The split was drawn before labels were corrected: every image kept its part, images left out have none."
    return replace(split, table=table, fingerprint=fingerprint, dropped=dropped, notes=(*split.notes, note))
