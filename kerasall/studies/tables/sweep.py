"""Scores of an optimizer sweep: of every backbone, optimizer and number of epochs, and their means over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasall.studies.finished_run import Run
from kerasall.studies.tables.combinations import Combinations, list_names, read_combinations
from kerasall.studies.tables.ours import Ours, none_as

TOTALS = "totals"
"""In the place of a number of epochs: the mean over all of them, as Fata et al. print it."""


def score_sweep(run: Run, words: Sequence[str]) -> Ours:
    """``BACKBONE/OPTIMIZER/EPOCHS/PART/METRIC`` with ``totals`` for the mean over the epochs, and ``train`` or ``test``.

    Training accuracy is that of an epoch's images while the weights moved. ``test`` are the images on which the cells of
    the sweep are compared, whatever part they are.
    """
    backbone, optimizer, epochs, part, metric = words
    found = read_combinations(run, "optimizer")
    if isinstance(found, Ours):
        return found
    names = find_backbones(run.settings.get("sweep") or {}, backbone)
    rows = [row for row in found.rows if row["backbone"] in names and row["optimizer"] == optimizer]
    if not rows:
        pairs = [f"{row['backbone']} with {row['optimizer']}" for row in found.rows]
        return none_as(f"this run has {list_names(pairs)}")
    counts = [row["epochs"] for row in rows]
    if epochs == TOTALS:
        return _mean([_score(found, row, part, metric) for row in rows], counts)
    wanted = [row for row in rows if str(row["epochs"]) == epochs]
    return _score(found, wanted[0], part, metric) if wanted else none_as(_describe_epochs(counts))


def find_backbones(sweep: Mapping[str, Any], word: str) -> list[str]:
    """Names of the backbones of a sweep that a key means: by name, else by network."""
    rows = sweep.get("backbones", ())
    named = [row["name"] for row in rows if row["name"] == word]
    return named or [row["name"] for row in rows if row["backbone"] == word][:1]


def _score(found: Combinations, row: Mapping[str, Any], part: str, metric: str) -> Ours:
    if part == "test":
        return found.score(row, metric)
    if metric != "accuracy":
        return none_as("the training records accuracy and loss alone")
    return Ours(row["training_accuracy"], reason="on the training images, while the weights moved")


def _mean(scores: Sequence[Ours], epochs: Sequence[int]) -> Ours:
    values = [each.value for each in scores]
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) < len(values):
        return next(each for each in scores if each.value is None)
    over = f"mean over {list_names(epochs)} epochs"
    return Ours(float(np.mean(numbers)), reason="; ".join(filter(None, (over, scores[0].reason))))


def _describe_epochs(epochs: Sequence[int]) -> str:
    return f"this run has {list_names(epochs)} epochs"
