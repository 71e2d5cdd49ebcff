"""Losses over one-hot labels and softmax probabilities: one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from kerasall.errors import SettingsError
from kerasall.training.tables import find_row, require_constants


@dataclass(frozen=True)
class LossRow:
    """One loss.

    Attributes:
        constructor: the Keras class; called with one-hot labels and probabilities, both [B, C].
        constants: what may be set, and the value taken where it is not.
        source: where it comes from, or what a reader must know of it.
    """

    constructor: type[keras.losses.Loss]
    constants: Mapping[str, Any]
    source: str


LOSSES: dict[str, LossRow] = {
    "categorical_crossentropy": LossRow(
        keras.losses.CategoricalCrossentropy,
        {"label_smoothing": 0.0},
        "-sum_c y_c log p_c; label smoothing as in Szegedy et al. 2016: y (1 - s) + s / C",
    ),
    "binary_crossentropy": LossRow(
        keras.losses.BinaryCrossentropy,
        {"label_smoothing": 0.0},
        "mean over the classes of -y_c log p_c - (1 - y_c) log(1 - p_c); with two softmax outputs it equals "
        "categorical cross-entropy. Label smoothing is y (1 - s) + s / 2",
    ),
    "focal": LossRow(
        keras.losses.CategoricalFocalCrossentropy,
        {"alpha": 0.25, "gamma": 2.0, "label_smoothing": 0.0},
        "Lin et al. 2017: -sum_c alpha (1 - p_c)^gamma y_c log p_c; alpha one number or one per class",
    ),
}
"""Name to row. A new loss is a new row."""


def check_loss(name: str, constants: Mapping[str, Any]) -> LossRow:
    """Checks name and constants without making anything.

    Returns:
        The loss's row.

    Raises:
        SettingsError: unknown name or constant, or label smoothing outside [0, 1).
    """
    row = find_row(LOSSES, name, "the loss")
    require_constants(constants, row.constants, f"the loss {name}")
    smoothing = constants.get("label_smoothing", 0.0)
    if not (isinstance(smoothing, int | float) and 0 <= smoothing < 1):
        raise SettingsError(f"label_smoothing must be in [0, 1), but is {smoothing!r}: 0.1 is usual")
    return row


def make_loss(name: str, **constants: Any) -> keras.losses.Loss:
    """Makes a loss of the table over one-hot labels [B, C] and probabilities [B, C].

    Args:
        name: a key of ``LOSSES``.
        **constants: what shall differ from the row's constants.

    Raises:
        SettingsError: see ``check_loss``.
    """
    row = check_loss(name, constants)
    return row.constructor(**{**row.constants, **constants})
