"""What a training leaves beside its model: the one reader and writer of the artifact TrainingRecord.

A record's folder holds

    training.json     what was trained, seconds, a history per fit and stage; tables of combinations for the report
    predictions.npz   validation or out-of-fold predictions
    one_view.npz      the same images as they are, where those predictions are a mean over views
    selection.npz     predictions of the part ``selection``, where there is one
    ensemble.json     of an ensemble: rule, members' names, weights and where they come from
    members/NAME/     of an ensemble: predictions.npz and selection.npz of each member
    members.json      of models that confirm a designed experiment: the members' settings, in order
    analysis.json     likewise: the document of ``kerasall taguchi analyze --json``, under ``experiment`` what a
                      report says; its trials lie in project/

The folder of a trial holds the first of these, too. A record without a file of a kind answers None for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.files import read_json, write_json

TRAINING = "training.json"
PREDICTIONS = "predictions.npz"
ONE_VIEW = "one_view.npz"
SELECTION_PREDICTIONS = "selection.npz"
ENSEMBLE = "ensemble.json"
MEMBERS = "members"
MEMBERS_FILE = "members.json"
"""Also a file of the artifact Models."""
ANALYSIS = "analysis.json"
"""Also a file of the artifact Search."""
PROJECT = "project"
"""Also a folder of the artifact Search: the oracle and its trials, without models."""


@dataclass(frozen=True)
class TrainingRecord:
    """A folder of what a training recorded; every property reads its file anew.

    Attributes:
        folder: of the artifact, of one member in it, or of a trial.
    """

    folder: Path

    @property
    def training(self) -> dict[str, Any]:
        """The content of training.json."""
        return read_json(self.folder / TRAINING)

    @property
    def predictions(self) -> Predictions:
        """Validation or out-of-fold predictions; of ``selection`` where there is no other part."""
        return read_predictions(self.folder / PREDICTIONS)

    @property
    def one_view(self) -> Predictions | None:
        """The images of ``predictions`` as they are, where those are a mean over views."""
        return self._predictions(ONE_VIEW)

    @property
    def selection(self) -> Predictions | None:
        """Predictions of the part ``selection``."""
        return self._predictions(SELECTION_PREDICTIONS)

    @property
    def scored(self) -> Predictions:
        """What is scored where there is no test part: ``selection``, else ``predictions``."""
        selection = self.selection
        return self.predictions if selection is None else selection

    @property
    def ensemble(self) -> dict[str, Any] | None:
        """How an ensemble was made: the content of ensemble.json."""
        return self._json(ENSEMBLE)

    @property
    def members(self) -> dict[str, TrainingRecord]:
        """Name -> record (predictions alone) of an ensemble's members, in order; empty for one classifier."""
        return {name: self.member(name) for name in (self.ensemble or {"members": ()})["members"]}

    @property
    def tuned_members(self) -> list[dict[str, Any]] | None:
        """Settings of the members that a designed experiment made, in order."""
        return self._json(MEMBERS_FILE)

    @property
    def analysis(self) -> dict[str, Any] | None:
        """The analysis of that experiment."""
        return self._json(ANALYSIS)

    @property
    def combinations(self) -> dict[str, Any] | None:
        """Scores of everything that a sweep or a comparison of classifiers fitted: the images they are of
        (``compared_on``), what was ``chosen``, and ``rows``."""
        training = self.training
        if "combinations" not in training:
            return None
        kept = {name: training.get(name) for name in ("compared_on", "chosen")}
        return {**kept, "rows": training["combinations"]}

    @property
    def chosen_on(self) -> tuple[str, ...]:
        """Kinds of images on which this run chose among models: one of several combinations, or the levels of a
        designed experiment."""
        searched = (self.analysis or {}).get("experiment", {}).get("scored_on")
        return tuple(filter(None, (self.training.get("chosen_on"), searched)))

    def deciding(self, weights_from: str) -> list[Predictions]:
        """The members' predictions that an ensemble's weights are fitted to, in order; ``weights_from`` as in settings."""
        own = ((each.selection, each.predictions) for each in self.members.values())
        return [selection if weights_from == "selection" and selection else kept for selection, kept in own]

    def member(self, name: str) -> TrainingRecord:
        """Where one member's predictions lie."""
        return TrainingRecord(self.folder / MEMBERS / name)

    def write(
        self,
        predictions: Predictions | None,
        training: Mapping[str, Any] | None = None,
        *,
        selection: Predictions | None = None,
        one_view: Predictions | None = None,
        ensemble: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes what there is; the arguments are the properties of the same names."""
        parts = {PREDICTIONS: predictions, SELECTION_PREDICTIONS: selection, ONE_VIEW: one_view}
        for name, part in parts.items():
            if part is not None:
                write_predictions(part, self.folder / name)
        for name, document in {TRAINING: training, ENSEMBLE: ensemble}.items():
            if document is not None:
                write_json(self.folder / name, document)

    def keep_experiment(self, members_file: Path, search: Path) -> None:
        """Copies what a report says of a designed experiment: its members' settings, its analysis and trials.

        Args:
            members_file: of the artifact Models.
            search: folder of the artifact Search.
        """
        for source in (members_file, search / ANALYSIS):
            shutil.copyfile(source, self.folder / source.name)
        shutil.copytree(search / PROJECT, self.folder / PROJECT)

    def _predictions(self, name: str) -> Predictions | None:
        path = self.folder / name
        return read_predictions(path) if path.is_file() else None

    def _json(self, name: str) -> Any:
        path = self.folder / name
        return read_json(path) if path.is_file() else None
