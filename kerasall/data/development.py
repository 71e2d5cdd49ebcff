"""What Transform hands on: the images to develop on with their split, and the chain; never a test image.

Where the images lie, and how large they may be, stand apart from what they are: a data folder that was
moved changes no result, so nothing is trained again for it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall.data.examples import Collection, read_examples, write_examples
from kerasall.data.splits import Split, read_split, write_split
from kerasall.decoding import DEFAULT_LIMITS, Limits
from kerasall.errors import ArtifactError
from kerasall.files import UNKEYED, read_json, write_json

SELECTION = "selection"
"""The part on which a faithful copy of a paper chooses and is scored, as its paper was."""
ROWS = "examples.csv"
PATHS = f"{UNKEYED}/paths.json"
LIMITS = f"{UNKEYED}/limits.json"

PREDICTIONS = "predictions.npz"
"""File of a TrainingRecord: validation or out-of-fold predictions."""
ONE_VIEW = "one_view.npz"
"""File of a TrainingRecord: the same images as they are, where the recorded predictions are a mean over views."""
SELECTION_PREDICTIONS = "selection.npz"
"""File of a TrainingRecord: predictions of the part ``SELECTION``, where there is one."""
ENSEMBLE = "ensemble.json"
"""File of a TrainingRecord: rule, members' names, weights and where they come from."""
MEMBERS = "members"
"""Folder of a TrainingRecord: one folder of predictions per member."""
MEMBERS_FILE = "members.json"
"""File of a Models artifact, and of the record of its ensemble: the members' settings, in order."""
ANALYSIS = "analysis.json"
"""File of a Search: the document of ``kerasall taguchi analyze --json``, and under ``experiment`` what a report says."""


@dataclass(frozen=True)
class Facts:
    """What every later step must know of the data besides the rows.

    Attributes:
        labels: class names in class order.
        malignant: those of them that mean leukaemia.
        subject_kind: what the column ``subject`` holds; see ``Collection``.
        source: name of the reader.
        notes: sentences every report on these data must carry.
        fingerprint: of the data.
    """

    labels: tuple[str, ...]
    malignant: tuple[str, ...]
    subject_kind: str
    source: str
    notes: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Development:
    """Rows to develop on, their split, the facts, the preprocessing as JSON, and what is too large to decode."""

    examples: pd.DataFrame
    split: Split
    facts: Facts
    preprocess: list[dict[str, Any]]
    limits: Limits = DEFAULT_LIMITS

    @property
    def labels(self) -> np.ndarray:
        """Class index of every row, int64 [N]."""
        return class_indices(self.examples, self.facts.labels)

    def rows(self, ids: list[str]) -> np.ndarray:
        """Positions of the given ids in ``examples``, sorted."""
        return np.flatnonzero(self.examples["id"].isin(set(ids)).to_numpy())

    def rows_of(self, part: str) -> np.ndarray:
        """Positions of the rows of one part of the split."""
        return self.rows(self.split.ids(part))


def development_rows(data: Development) -> np.ndarray:
    """Rows that the model which is kept is trained on: all folds, or the training part."""
    return data.rows(data.split.development_ids())


def class_indices(examples: pd.DataFrame, labels: tuple[str, ...]) -> np.ndarray:
    """Class index of every row, int64 [N]."""
    index = {name: i for i, name in enumerate(labels)}
    return examples["label"].map(index).to_numpy(np.int64)


def facts_of(collection: Collection, fingerprint: str) -> Facts:
    """The facts of a collection."""
    known = {
        field.name: getattr(collection, field.name) for field in fields(Facts) if field.name != "fingerprint"
    }
    return Facts(**known, fingerprint=fingerprint)


def write_development(development: Development, folder: Path) -> None:
    """Writes all parts into an existing folder."""
    write_rows(development.examples, folder)
    write_split(development.split, folder / "split.json")
    write_facts(development.facts, folder)
    write_json(folder / "preprocess.json", development.preprocess)
    write_json(folder / LIMITS, asdict(development.limits))


def read_development(folder: Path) -> Development:
    """Reads what ``write_development`` wrote."""
    return Development(
        read_rows(folder),
        read_split(folder / "split.json"),
        read_facts(folder),
        read_json(folder / "preprocess.json"),
        Limits(**read_json(folder / LIMITS)),
    )


def write_rows(examples: pd.DataFrame, folder: Path) -> None:
    """Writes a table of examples, and apart from it where their files lie."""
    write_examples(examples.assign(path=""), folder / ROWS)
    write_json(folder / PATHS, list(examples["path"]))


def read_rows(folder: Path) -> pd.DataFrame:
    """Reads what ``write_rows`` wrote.

    Raises:
        ArtifactError: there is not one path for every row.
    """
    examples, paths = read_examples(folder / ROWS), read_json(folder / PATHS)
    if len(paths) != len(examples):
        raise ArtifactError(
            f"{folder / PATHS} must hold one path for each of {len(examples)} rows, but holds {len(paths)}: "
            "remove the folder and run the same command again"
        )
    return examples.assign(path=paths)


def write_facts(facts: Facts, folder: Path) -> None:
    """Writes ``facts.json``."""
    write_json(folder / "facts.json", vars(facts))


def read_facts(folder: Path) -> Facts:
    """Reads ``facts.json``."""
    stored = read_json(folder / "facts.json")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    return Facts(**values)


def without_parts(split: Split, parts: tuple[str, ...]) -> Split:
    """The split without the rows of some parts, for a step that must not know them."""
    return replace(split, table=split.table[~split.table["part"].isin(parts)].reset_index(drop=True))
