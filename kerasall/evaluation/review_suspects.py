"""Labels that models which never saw them contradict: confident learning, by cleanlab."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kerasall.evaluation.predictions import Predictions


@dataclass(frozen=True, eq=False)
class Suspects:
    """What confident learning says of N labels.

    Attributes:
        quality: float [N] in [0, 1], the probability of the image's own label ("self-confidence").
        expected: float [N], the mean of that probability over all images with the same label.
        is_suspect: bool [N], whether another class reaches the probability that its own images get on average.
    """

    quality: np.ndarray
    expected: np.ndarray
    is_suspect: np.ndarray


def find_suspects(predictions: Predictions) -> Suspects:
    """Finds suspected label errors.

    An image counts as suspected where its most probable class, of those that reach their own images' mean
    probability, is not its label: an off-diagonal entry of the confident joint (Northcutt, Jiang & Chuang,
    "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 2021, eq. 1 and 2). Unlike a
    fixed threshold this allows for a model that is surer of one class than of another.

    Args:
        predictions: of images that the models did not train on: in-sample probabilities agree with wrong labels.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    quality = probabilities[np.arange(len(labels)), labels]
    means = [
        quality[labels == index].mean() if (labels == index).any() else np.nan
        for index in range(len(predictions.classes))
    ]
    expected = np.asarray(means)[labels]
    is_suspect = np.zeros(len(labels), dtype=bool)
    present = np.unique(labels)
    if len(present) > 1:
        is_suspect[_find_issues(np.searchsorted(present, labels), probabilities[:, present])] = True
    return Suspects(quality, expected, is_suspect)


def _find_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Positions, over the classes that occur: cleanlab takes labels from 0 without a gap."""
    from cleanlab.filter import find_label_issues  # seconds to import, and needed by reviews only

    total = probabilities.sum(axis=1, keepdims=True)
    # An image all of whose probability lies on absent classes says nothing of the others.
    shares = np.divide(
        probabilities, total, out=np.full_like(probabilities, 1 / probabilities.shape[1]), where=total > 0
    )
    return find_label_issues(
        labels, shares, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
