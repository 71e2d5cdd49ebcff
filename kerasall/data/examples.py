"""The table of examples: one row per image, and what is known of it before any pixel is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from kerasall.csv_tables import read_csv, write_csv
from kerasall.decoding import FULL, SixteenBit
from kerasall.errors import DataError
from kerasall.evaluation.class_names import describe_faults, describe_renaming
from kerasall.files import read_json, write_json
from kerasall.listing.folders import is_text
from kerasall.shown_text import one_line

COLUMNS = ("id", "path", "label", "subject", "fold")
"""Columns every table of examples has, all strings; "" means unknown. Later steps add columns.

id       unique name: the path below the source's folder, with forward slashes
path     absolute path of the image file
label    class name
subject  patient, or the stated stand-in (``Collection.subject_kind``), or ""
fold     the publisher's own fold or part (C-NMC: fold_0, fold_1, fold_2, prelim), or ""
"""

ATTRIBUTES = "attributes.csv"
"""File of an Attributes artifact."""

SubjectKind = Literal["subject", "block", "none"]


@dataclass(frozen=True)
class Collection:
    """Examples of one source with what a reader of its scores must know.

    Raises DataError where rows or columns are missing, ids are repeated, or labels are none of its ``labels``.

    Attributes:
        source: name of the reader (a key of ``SOURCES``).
        root: folder the ids are relative to.
        examples: table with ``COLUMNS``.
        labels: class names in class order: index i is class i everywhere.
        malignant: the class names that mean leukaemia.
        subject_kind: what the column ``subject`` holds: real patients, blocks of consecutive file
            numbers as a stand-in, or nothing.
        notes: sentences every report on these data must carry.
        read_warnings: what the reader found odd, for the report of ``check``.
        joined_subjects: sets of subjects that the source knows to be one patient each.
        sixteen_bit: what becomes of 16-bit samples wherever these images are decoded.
        attributes: column that was asked for -> id -> what a table says of that image; not stored with the examples, so
            that nothing but the scores of subgroups hangs on them.
    """

    source: str
    root: Path
    examples: pd.DataFrame
    labels: tuple[str, ...]
    malignant: tuple[str, ...] = ()
    subject_kind: SubjectKind = "none"
    notes: tuple[str, ...] = ()
    read_warnings: tuple[str, ...] = field(default=())
    joined_subjects: tuple[tuple[str, ...], ...] = ()
    sixteen_bit: SixteenBit = FULL
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_valid(self.examples, self.labels, where=f"the {self.source} reader on {self.root}")
        if unknown := sorted(set(self.malignant) - set(self.labels)):
            raise DataError(
                f"malignant classes must be among {list(self.labels)}, but {unknown} are not: correct data.malignant"
            )


def make_examples(rows: Sequence[dict[str, str]]) -> pd.DataFrame:
    """Makes a table with ``COLUMNS`` from dictionaries; absent values become "".

    Raises:
        DataError: a value holds half a character (U+D800 to U+DFFF), as JSON can; no file can.
    """
    if broken := next((value for row in rows for value in row.values() if not is_text(value)), ""):
        raise DataError(
            f'every path, class and patient must be text, but "{one_line(broken)}" holds half a character: correct it'
        )
    table = pd.DataFrame(list(rows), columns=list(COLUMNS), dtype=object)
    return table.fillna("").astype(str).reset_index(drop=True)


def write_examples(examples: pd.DataFrame, path: str | Path) -> None:
    """Writes the table as CSV (UTF-8), atomically."""
    write_csv(examples, path)


def read_examples(path: str | Path) -> pd.DataFrame:
    """Reads a table that ``write_examples`` wrote; every column a string, "" where nothing is known."""
    try:
        examples = read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} must be a table of examples, but reading it failed: {error}") from None
    if missing := [name for name in COLUMNS if name not in examples.columns]:
        raise DataError(f"{path} must have the columns {list(COLUMNS)}, but {missing} are missing")
    return examples


def write_attributes(table: pd.DataFrame, folder: Path) -> None:
    """Writes what a table of images says of each beside its class: columns id and others, all text, into an existing folder."""
    write_csv(table, folder / ATTRIBUTES)


def read_attributes(folder: Path, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Column -> str [N], what ``write_attributes`` was told of each of N images; "" where that was nothing."""
    table = read_csv(folder / ATTRIBUTES).set_index("id").reindex(ids).fillna("")
    return {str(name): table[name].to_numpy(str) for name in table.columns}


def write_collection(collection: Collection, folder: str | Path) -> None:
    """Writes ``examples.csv`` and ``collection.json`` into an existing folder."""
    folder = Path(folder)
    write_examples(collection.examples, folder / "examples.csv")
    stored = [f.name for f in fields(collection) if f.name not in ("examples", "attributes")]
    facts = {name: getattr(collection, name) for name in stored}
    write_json(folder / "collection.json", facts | {"root": str(collection.root)})


def read_collection(folder: str | Path) -> Collection:
    """Reads what ``write_collection`` wrote."""
    folder = Path(folder)
    stored = read_json(folder / "collection.json")
    facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    examples = read_examples(folder / "examples.csv")
    joined = tuple(tuple(subjects) for subjects in stored.get("joined_subjects", ()))
    return Collection(
        **facts | {"root": Path(facts["root"]), "examples": examples, "joined_subjects": joined}
    )


def _require_valid(examples: pd.DataFrame, labels: Sequence[str], where: str) -> None:
    """Checks what every later step relies on."""
    if faults := describe_faults(labels):
        raise DataError(
            f"{where} must give names of classes that every table and file can hold, but {faults}: rename them, "
            f"for example by data.classes: {describe_renaming(labels)}"
        )
    if missing := [name for name in COLUMNS if name not in examples.columns]:
        raise DataError(f"{where} must give the columns {list(COLUMNS)}, but {missing} are missing")
    if examples.empty:
        raise DataError(f"{where} must find at least one image, but found none: check the path")
    repeated = examples["id"][examples["id"].duplicated()].unique()[:3]
    if len(repeated):
        raise DataError(f"{where} must give unique ids, but {list(repeated)} occur more than once")
    if unknown := sorted(set(examples["label"]) - set(labels)):
        raise DataError(f"{where} must give labels among {list(labels)}, but found {unknown[:5]}")
