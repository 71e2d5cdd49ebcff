"""Which scores two classes of given sizes can have at all: those of every confusion matrix, to hold printed ones against."""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def possible_scores(first: int, second: int) -> dict[str, np.ndarray]:
    """Scores of all (first + 1) (second + 1) confusion matrices of two classes, by the names of ``METRICS``."""
    right = np.stack(np.meshgrid(np.arange(first + 1), np.arange(second + 1), indexing="ij")).reshape(2, -1)
    images = np.array([[first], [second]])
    called = right + (images - right)[::-1]
    with np.errstate(invalid="ignore"):
        precision = np.where(called > 0, right / called, 0.0)
    return {
        "accuracy": right.sum(axis=0) / images.sum(),
        "precision_macro": precision.mean(axis=0),
        "recall_macro": (right / images).mean(axis=0),
        "f1_macro": (2 * right / (images + called)).mean(axis=0),
    }


def rounds_to(values: np.ndarray, printed: str) -> np.ndarray:
    """Which values are printed so, to that many digits; a half may have gone either way."""
    digits = len(printed.partition(".")[2])
    return np.abs(values - float(printed)) <= 0.5 * 10.0**-digits + 1e-9


def count_matrices(first: int, second: int, printed: dict[str, str]) -> int:
    """Number of confusion matrices whose scores are all printed so."""
    scores = possible_scores(first, second)
    return int(np.logical_and.reduce([rounds_to(scores[name], text) for name, text in printed.items()]).sum())
