"""Rows to fit on and rows to predict, for steps that compare many combinations on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kerasall.data.development import SELECTION, Development
from kerasall.errors import SettingsError
from kerasall.evaluation.predictions import Predictions


@dataclass(frozen=True, eq=False)
class Division:
    """Positions of the rows to fit on and of those to predict; no group stands in both."""

    name: str
    fitted: np.ndarray
    held_out: np.ndarray


def divide(data: Development) -> list[Division]:
    """One division per fold, or the one of a holdout split.

    In a holdout split the part ``selection`` is predicted, which a faithful copy of a paper chooses on,
    else the part ``validation``.

    Raises:
        SettingsError: there is no part to choose on.
    """
    if data.split.folds:
        return [
            Division(fold, data.rows(data.split.development_ids(fold)), data.rows_of(fold))
            for fold in data.split.folds
        ]
    parts = [part for part in (SELECTION, "validation") if part in data.split.parts]
    if not parts:
        raise SettingsError(
            "combinations must be compared on images none was fitted to, but the split has neither folds nor the "
            f"parts validation or selection, only {list(data.split.parts)}: set split.validation or split.kind"
        )
    return [Division("holdout", data.rows_of("train"), data.rows_of(parts[0]))]


def name_scored(data: Development) -> str:
    """How a table calls the images of ``divide``."""
    if data.split.folds:
        return "out-of-fold"
    return SELECTION if SELECTION in data.split.parts else "validation"


def make_predictions(
    data: Development, rows: np.ndarray, probabilities: np.ndarray, decisions: np.ndarray | None = None
) -> Predictions:
    """The record of what was predicted for some rows.

    Args:
        data: the rows to develop on.
        rows: their positions [N].
        probabilities: [N, C].
        decisions: class indices [N] where the most probable class does not decide.
    """
    table = data.examples.iloc[rows]
    return Predictions(
        ids=table["id"].to_numpy(),
        subjects=table["subject"].to_numpy(),
        groups=table["group"].to_numpy(),
        labels=data.labels[rows],
        probabilities=probabilities,
        classes=data.facts.labels,
        decisions=decisions,
    )


def describe_choice(data: Development, metric: str, *, named: bool) -> str:
    """How the exported combination was chosen, one sentence for a report.

    Args:
        data: the rows to develop on.
        metric: title of the metric that chose.
        named: whether the config names the combination.
    """
    if named:
        return "The exported combination was named in the config, before anything was scored."
    if name_scored(data) == SELECTION:
        return (
            f"The exported combination has the best {metric} on the very images it is scored on, as in the paper: "
            "that score is too high."
        )
    return (
        f"The exported combination has the best {metric} on these {name_scored(data)} images; being the best of many "
        "it looks better here than it is, so quote its score on the test part, which chose nothing."
    )
