"""Fits classifiers to features that were computed beforehand, and predicts what was held out from each fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerasall.data.dealing import deal_groups
from kerasall.data.development import Development, Division
from kerasall.evaluation.metrics import confusion_matrix
from kerasall.evaluation.predictions import Predictions, concatenate, read_predictions, write_predictions
from kerasall.files import read_json, write_json
from kerasall.models.feature_classifiers import CLASSIFIERS, FeatureClassifier, fit_feature_classifier
from kerasall.models.unpooled_perceptron import fit_perceptron
from kerasall.paths import shorten_name
from kerasall.settings import DeepFeatureSettings

PLATT_FOLDS = 3
"""Parts of the fitted rows, groups whole, on whose held-out decisions probabilities are fitted."""

ROWS_AT_A_TIME = 256
"""Images whose unpooled features are predicted in one go: 100 MB of the longest."""

Cell = tuple[tuple[str, ...], str]
"""A combination: names of the extractors, name of the classifier."""


@dataclass(frozen=True, eq=False)
class Fitting:
    """Fits classifiers to features that were computed beforehand.

    Attributes:
        data: the rows to develop on.
        settings: combinations and classifiers.
        features: as ``Backbones.extract`` gives them.
        seed: of classifiers and of the parts for Platt scaling.
    """

    data: Development
    settings: DeepFeatureSettings
    features: Mapping[str, Sequence[np.ndarray]]
    seed: int

    @property
    def cells(self) -> list[Cell]:
        """Every combination, in the order of the settings."""
        return [(names, kind) for names in self.settings.combinations for kind in self.settings.classifiers]

    def width(self, names: tuple[str, ...]) -> int:
        """Number of features of a combination."""
        return sum(self.features[name][0].shape[-1] for name in names)

    def fit(self, cell: Cell, rows: np.ndarray) -> FeatureClassifier:
        """Fits one combination to the given rows and their changed copies."""
        copies, kind, classes = 1 + self.settings.augmented_copies, cell[1], len(self.data.facts.labels)
        labels = np.tile(self.data.labels[rows], copies)
        if self.settings.pooling == "none":
            return fit_perceptron(self.features[cell[0][0]][0], rows, labels, classes, self.seed)
        features = np.concatenate([self._features(cell, copy, rows) for copy in range(copies)])
        needs_folds = CLASSIFIERS[kind].answer == "decisions"
        folds = np.tile(platt_folds(self.data, rows, self.seed), copies) if needs_folds else None
        return fit_feature_classifier(
            kind, features, labels, classes, folds, self.seed, self.settings.standardise
        )

    def predict(self, classifier: FeatureClassifier, cell: Cell, rows: np.ndarray) -> Predictions:
        """Predictions for the given rows, unchanged; of unpooled features few are in memory at a time."""
        malignant, step = self.data.facts.malignant_indices, len(rows) or 1
        if self.settings.pooling == "none":
            step = ROWS_AT_A_TIME
        found = [
            classifier.predict(self._features(cell, 0, rows[start : start + step]), malignant)
            for start in range(0, len(rows), step)
        ]
        probabilities, decisions = (np.concatenate(each) for each in zip(*found, strict=True))
        return self.data.predictions(rows, probabilities, decisions)

    def predict_held_out(self, cell: Cell, scratch: Path) -> Predictions:
        """Predictions of every held-out row by a classifier that was fitted to the others."""
        return concatenate(
            [self._predict_division(cell, each, scratch) for each in self.data.divide(self.data.compared)]
        )

    def read_notes(self, scratch: Path) -> list[str]:
        """What the fits in ``scratch`` have to say, and how often."""
        files = sorted(scratch.rglob("*.json"))
        counts = Counter(note for file in files for note in read_json(file)["notes"])
        return [f"{note} ({count} of {len(files)} fits)." for note, count in counts.items()]

    def read_parts(self, cell: Cell, scratch: Path) -> dict[str, list[list[int]]]:
        """Confusion matrices of what ``predict_held_out`` has fitted, by part: of the images fitted to (over folds their
        sum), and of the part validation where another is compared on."""
        divisions = self.data.divide(self.data.compared)
        found = [
            read_json(self._place(cell, each, scratch).with_suffix(".json"))["parts"] for each in divisions
        ]
        return {part: np.sum([each[part] for each in found], axis=0).tolist() for part in found[0]}

    def _features(self, cell: Cell, copy: int, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([self.features[name][copy][rows] for name in cell[0]], axis=1)

    def _place(self, cell: Cell, division: Division, scratch: Path) -> Path:
        return scratch / division.name / shorten_name(f"{'+'.join(cell[0])}_{cell[1]}", ".npz")

    def _predict_division(self, cell: Cell, division: Division, scratch: Path) -> Predictions:
        path, split = self._place(cell, division, scratch), self.data.split
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            classifier = self.fit(cell, division.fitted)
            others = {"training": division.fitted}
            if "validation" in split.parts and self.data.compared != "validation":
                others["validation"] = self.data.rows_of("validation")
            parts = {
                part: confusion_matrix(self.predict(classifier, cell, rows)).tolist()
                for part, rows in others.items()
            }
            # The predictions are written last: they mark the fit as done.
            write_json(path.with_suffix(".json"), {"notes": list(classifier.notes), "parts": parts})
            write_predictions(self.predict(classifier, cell, division.held_out), path)
        return read_predictions(path)


def platt_folds(data: Development, rows: np.ndarray, seed: int) -> np.ndarray:
    """Number of the part of every row, int64 [len(rows)]: what the split kept whole stays whole."""
    table = data.examples.iloc[rows]
    names = table["group" if data.split.unit == "group" else "id"].astype(str)
    shares = {str(part): 1 / PLATT_FOLDS for part in range(PLATT_FOLDS)}
    dealt = deal_groups(names.tolist(), table["label"].tolist(), shares, seed)
    return names.map(dealt).to_numpy(np.int64)


def accuracy_of(matrix: Sequence[Sequence[int]]) -> float:
    """Share of images called rightly in a confusion matrix."""
    return float(np.trace(matrix) / np.sum(matrix))
