"""Losses over one-hot labels and softmax probabilities, and optimizers: one row each, with what may be set.

The look-up in this room's tables is strict: an unknown name or constant is an error that names the near ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import keras

from kerasall.errors import SettingsError, did_you_mean

LearningRate = float | keras.optimizers.schedules.LearningRateSchedule
Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Row:
    """One loss or optimizer.

    Attributes:
        constructor: the Keras class. A loss is called with one-hot labels and probabilities, both [B, C].
        constants: what may be set, and the value taken where it is not.
        source: where it or its constants come from, or what a reader must know of it.
    """

    constructor: Callable[..., Any]
    constants: Mapping[str, Any]
    source: str


LOSSES: dict[str, Row] = {
    "categorical_crossentropy": Row(
        keras.losses.CategoricalCrossentropy,
        {"label_smoothing": 0.0},
        "-sum_c y_c log p_c; label smoothing as in Szegedy et al. 2016: y (1 - s) + s / C",
    ),
    "binary_crossentropy": Row(
        keras.losses.BinaryCrossentropy,
        {"label_smoothing": 0.0},
        "mean over the classes of -y_c log p_c - (1 - y_c) log(1 - p_c); with two softmax outputs it equals "
        "categorical cross-entropy. Label smoothing is y (1 - s) + s / 2",
    ),
    "focal": Row(
        keras.losses.CategoricalFocalCrossentropy,
        {"alpha": 0.25, "gamma": 2.0, "label_smoothing": 0.0},
        "Lin et al. 2017: -sum_c alpha (1 - p_c)^gamma y_c log p_c; alpha one number or one per class",
    ),
}
"""Name to row. A new loss is a new row."""

# Weight averages (use_ema) are left out: Keras writes them over the weights at the end of every fit call,
# and a resumable stage makes one such call per epoch.
_COMMON: dict[str, Any] = {"weight_decay": None, "clipnorm": None, "clipvalue": None, "global_clipnorm": None}

OPTIMIZERS: dict[str, Row] = {
    "adam": Row(
        keras.optimizers.Adam,
        {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False} | _COMMON,
        "Kingma and Ba 2015, with Keras' epsilon (MATLAB and the article take 1e-8)",
    ),
    "adamax": Row(
        keras.optimizers.Adamax,
        {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7} | _COMMON,
        "Kingma and Ba 2015, section 7.1; (0.9, 0.999) as in Mondal et al. 2021",
    ),
    "sgdm": Row(
        keras.optimizers.SGD,
        {"momentum": 0.9, "nesterov": False} | _COMMON,
        "stochastic gradient descent with momentum 0.9, MATLAB's default, as in Chen et al. 2021",
    ),
    "rmsprop": Row(
        keras.optimizers.RMSprop,
        {"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False} | _COMMON,
        "Hinton's lecture 6e, 2012, with Keras' constants",
    ),
}
"""Name to row. A new optimizer is a new row."""


def check_loss(name: str, constants: Mapping[str, Any]) -> Row:
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


def check_optimizer(name: str, constants: Mapping[str, Any]) -> Row:
    """Checks name and constants without making anything.

    Returns:
        The optimizer's row.

    Raises:
        SettingsError: unknown name or constant; the message names the near ones.
    """
    row = find_row(OPTIMIZERS, name, "the optimizer")
    require_constants(constants, row.constants, f"the optimizer {name}")
    return row


def make_optimizer(
    name: str, learning_rate: LearningRate, accumulate: int = 1, **constants: Any
) -> keras.optimizers.Optimizer:
    """Makes an optimizer of the table.

    Args:
        name: a key of ``OPTIMIZERS``.
        learning_rate: a rate above 0, or a schedule over the batches the optimizer has seen.
        accumulate: batches whose mean gradient makes one update.
        **constants: what shall differ from the row's constants.

    Raises:
        SettingsError: unknown name or constant, a rate not above 0, or a value Keras refuses.
    """
    row = check_optimizer(name, constants)
    if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        learning_rate = require_number(learning_rate, "the learning rate")
    try:
        return row.constructor(
            learning_rate=learning_rate,
            gradient_accumulation_steps=accumulate if accumulate > 1 else None,
            **{**row.constants, **constants},
        )
    except (TypeError, ValueError) as error:
        raise SettingsError(f"the optimizer {name} refuses its constants {constants}: {error}") from None


def find_row(table: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """The row called ``name``.

    Raises:
        SettingsError: no such row; the message lists all and names the nearest. ``kind`` says of what.
    """
    if name in table:
        return table[name]
    cure = did_you_mean(str(name), table, "choose one of these", cutoff=0.5)
    raise SettingsError(f"{kind} must be one of {sorted(table)}, but is {name!r}: {cure}")


def require_constants(
    constants: Mapping[str, Any], allowed: Collection[str], where: str, required: Collection[str] = ()
) -> None:
    """Refuses unknown constants and misses required ones.

    Raises:
        SettingsError: naming the constant, the allowed ones and ``where``.
    """
    for name in constants:
        if name not in allowed:
            cure = did_you_mean(name, allowed, "leave it out", cutoff=0.5)
            raise SettingsError(
                f"constants of {where} must be among {sorted(allowed)}, but {name!r} is not: {cure}"
            )
    if missing := sorted(set(required) - set(constants)):
        raise SettingsError(
            f"{where} needs the constants {sorted(required)}, but {missing} are missing: set them"
        )


def require_number(
    value: Any, name: str, minimum: float = 0.0, maximum: float = math.inf, exclusive: bool = True
) -> float:
    """``value`` as a float if it is a finite number above ``minimum`` and up to ``maximum``.

    Args:
        exclusive: whether ``minimum`` itself is refused.

    Raises:
        SettingsError: it is not.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if number and (value > minimum or (value == minimum and not exclusive)) and value <= maximum:
        return float(value)
    bound = f"{'above' if exclusive else 'at least'} {minimum:g}"
    if math.isfinite(maximum):
        bound += f" and at most {maximum:g}"
    raise SettingsError(f"{name} must be a number {bound}, but is {value!r}: correct the setting")
