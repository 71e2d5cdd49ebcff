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
from kerasall.data.stratification import inner_validation as draw_inner_validation
from kerasall.decoding import DEFAULT_LIMITS, Limits, SixteenBit, find_sixteen_bit
from kerasall.errors import ArtifactError, SettingsError
from kerasall.evaluation.ensemble_rules import find_highest
from kerasall.evaluation.predictions import Predictions
from kerasall.files import UNKEYED, read_json, write_json

SELECTION = "selection"
"""The part on which a faithful copy of a paper chooses and is scored, as its paper was."""

ROWS = "examples.csv"
PATHS = f"{UNKEYED}/paths.json"
LIMITS = f"{UNKEYED}/limits.json"
STATED = "preprocess_stated.json"


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

    @property
    def malignant_indices(self) -> list[int]:
        """Class indices of the malignant classes, of which one is called in a tie."""
        return [index for index, name in enumerate(self.labels) if name in self.malignant]


@dataclass(frozen=True, eq=False)
class Division:
    """Positions of the rows of one fit; no group stands among those to fit on and in any other.

    Attributes:
        name: of the fold that is held out, or ``holdout``.
        fitted: rows to fit on.
        watched: rows on which epochs are decided; None where their number is fixed.
        held_out: rows to predict; in a holdout split they may be the watched ones.
    """

    name: str
    fitted: np.ndarray
    watched: np.ndarray | None
    held_out: np.ndarray


@dataclass(frozen=True, eq=False)
class Development:
    """What training may read.

    Attributes:
        examples: the rows to develop on.
        split: of these.
        facts: of the data.
        preprocess: the chain as JSON, fitted.
        limits: what is too large to decode.
        stated: the chain before its fit; None where nothing in it was fitted on images of this split.
    """

    examples: pd.DataFrame
    split: Split
    facts: Facts
    preprocess: list[dict[str, Any]]
    limits: Limits = DEFAULT_LIMITS
    stated: list[dict[str, Any]] | None = None

    @property
    def sixteen_bit(self) -> SixteenBit:
        """What becomes of 16-bit samples."""
        return find_sixteen_bit(self.preprocess)

    @property
    def labels(self) -> np.ndarray:
        """Class index of every row, int64 [N]."""
        return class_indices(self.examples, self.facts.labels)

    @property
    def training_rows(self) -> np.ndarray:
        """Rows that the model which is kept is trained on: all folds, or the training part."""
        return self.rows(self.split.development_ids())

    @property
    def recorded(self) -> str:
        """What a training record's predictions are of: out-of-fold, validation, or selection where that is all."""
        return self._name_held_out("validation", SELECTION)

    @property
    def compared(self) -> str:
        """What combinations are compared on: out-of-fold images, selection in a faithful copy, else validation."""
        return self._name_held_out(SELECTION, "validation")

    def rows(self, ids: list[str]) -> np.ndarray:
        """Positions of the given ids in ``examples``, sorted."""
        return np.flatnonzero(self.examples["id"].isin(set(ids)).to_numpy())

    def rows_of(self, part: str) -> np.ndarray:
        """Positions of the rows of one part of the split."""
        return self.rows(self.split.ids(part))

    def divide(self, part: str, inner_validation: float = 0.0) -> list[Division]:
        """One division per fold, or the one of a holdout split.

        Members and repetitions decide their epochs on the same images: these are drawn with the split's own seed.

        Args:
            part: what a holdout split's model is watched on and predicts: ``recorded`` or ``compared``.
            inner_validation: share of a fold's training images on which its epochs are decided; 0 for none.

        Raises:
            SettingsError: a holdout split has no such part.
        """
        if not self.split.folds:
            if part not in self.split.parts:
                raise SettingsError(
                    "models must be compared on images none was fitted to, but the split has neither folds nor the "
                    f"parts validation or selection, only {list(self.split.parts)}: set split.validation or split.kind"
                )
            held_out = self.rows_of(part)
            return [Division("holdout", self.rows_of("train"), held_out, held_out)]
        return [self._hold_out(fold, inner_validation) for fold in self.split.folds]

    def predictions(
        self, rows: np.ndarray, probabilities: np.ndarray, decisions: np.ndarray | None = None
    ) -> Predictions:
        """The record of what was predicted for some rows.

        Args:
            rows: their positions [N].
            probabilities: [N, C].
            decisions: class indices [N] where the most probable class (in a tie a malignant one) does not decide.
        """
        table = self.examples.iloc[rows]
        ids, subjects, groups = (table[name].to_numpy() for name in ("id", "subject", "group"))
        if decisions is None:
            decisions = np.asarray(find_highest(np, np.asarray(probabilities), self.facts.malignant_indices))
        return Predictions(
            ids, subjects, groups, self.labels[rows], probabilities, self.facts.labels, decisions
        )

    def trained_beside(self, kind: str, rows: pd.DataFrame) -> np.ndarray:
        """Which of some scored images have a group with images that the scored models were fitted to or watched on: bool [N].

        Args:
            kind: what the images are: test, out-of-fold, validation or selection.
            rows: their columns id and group.
        """
        group = self.split.table.set_index("id")["group"]
        if kind != "out-of-fold":
            used = group[~group.index.isin(rows["id"])]
            return rows["group"].isin(set(used)).to_numpy()
        beside = np.zeros(len(rows), dtype=bool)
        for fold in self.split.folds:
            used = set(group.loc[self.split.development_ids(fold)])
            beside |= (rows["id"].isin(self.split.ids(fold)) & rows["group"].isin(used)).to_numpy()
        return beside

    def _hold_out(self, fold: str, inner_validation: float) -> Division:
        split, others = self.split, self.rows(self.split.development_ids(fold))
        if not inner_validation:
            return Division(fold, others, None, self.rows_of(fold))
        watched = self.rows(draw_inner_validation(split, inner_validation, split.seed, held_out=fold))
        fitted = np.setdiff1d(others, watched)
        return Division(fold, fitted, watched if len(watched) else None, self.rows_of(fold))

    def _name_held_out(self, first: str, second: str) -> str:
        return "out-of-fold" if self.split.folds else first if first in self.split.parts else second


def class_indices(examples: pd.DataFrame, labels: tuple[str, ...]) -> np.ndarray:
    """Class index of every row, int64 [N]."""
    index = {name: i for i, name in enumerate(labels)}
    return examples["label"].map(index).to_numpy(np.int64)


def facts_of(collection: Collection, fingerprint: str) -> Facts:
    """The facts of a collection."""
    told = {
        field.name: getattr(collection, field.name) for field in fields(Facts) if field.name != "fingerprint"
    }
    return Facts(**told, fingerprint=fingerprint)


def write_development(development: Development, folder: Path) -> None:
    """Writes all parts into an existing folder."""
    write_rows(development.examples, folder)
    write_split(development.split, folder / "split.json")
    write_facts(development.facts, folder)
    write_json(folder / "preprocess.json", development.preprocess)
    write_json(folder / LIMITS, asdict(development.limits))
    if development.stated is not None:
        write_json(folder / STATED, development.stated)


def read_development(folder: Path) -> Development:
    """Reads what ``write_development`` wrote."""
    split, chain = read_split(folder / "split.json"), read_json(folder / "preprocess.json")
    limits = Limits(**read_json(folder / LIMITS))
    stated = read_json(folder / STATED) if (folder / STATED).is_file() else None
    return Development(read_rows(folder), split, read_facts(folder), chain, limits, stated)


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
