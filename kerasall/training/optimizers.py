"""Optimizers: one row each, with the constants that may be set.

Losses over one-hot labels and softmax probabilities: one row each.

Strict look-up in this room's tables: an unknown name or constant is an error that names the near ones.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import keras

from kerasall.errors import SettingsError

Row = TypeVar("Row")


def find_row(table: Mapping[str, Row], name: str, kind: str) -> Row:
    """The row called ``name``.

    Raises:
        SettingsError: no such row; the message lists all and names the nearest. ``kind`` says of what.
    """
    if name in table:
        return table[name]
    raise SettingsError(f"{kind} must be one of {sorted(table)}, but is {name!r}{_nearest(str(name), table)}")


def require_constants(
    constants: Mapping[str, Any], allowed: Collection[str], where: str, required: Collection[str] = ()
) -> None:
    """Refuses unknown constants and misses required ones.

    Raises:
        SettingsError: naming the constant, the allowed ones and ``where``.
    """
    for name in constants:
        if name not in allowed:
            raise SettingsError(
                f"constants of {where} must be among {sorted(allowed)}, but {name!r} is not{_nearest(name, allowed)}"
            )
    missing = sorted(set(required) - set(constants))
    if missing:
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
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number and (value > minimum or (value == minimum and not exclusive)) and value <= maximum:
        return float(value)
    bound = f"{'above' if exclusive else 'at least'} {minimum:g}"
    if math.isfinite(maximum):
        bound += f" and at most {maximum:g}"
    raise SettingsError(f"{name} must be a number {bound}, but is {value!r}: correct the setting")


def _nearest(name: str, names: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else ""


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


LearningRate = float | keras.optimizers.schedules.LearningRateSchedule


@dataclass(frozen=True)
class OptimizerRow:
    """One optimizer.

    Attributes:
        constructor: the Keras class.
        constants: what may be set, and the value taken where it is not.
        source: where the constants come from.
    """

    constructor: type[keras.optimizers.Optimizer]
    constants: Mapping[str, Any]
    source: str


# Weight averages (use_ema) are left out: Keras writes them over the weights at the end of every fit call,
# and a resumable stage makes one such call per epoch.
_COMMON: dict[str, Any] = {"weight_decay": None, "clipnorm": None, "clipvalue": None, "global_clipnorm": None}


OPTIMIZERS: dict[str, OptimizerRow] = {
    "adam": OptimizerRow(
        keras.optimizers.Adam,
        {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False} | _COMMON,
        "Kingma and Ba 2015, with Keras' epsilon (MATLAB and the article take 1e-8)",
    ),
    "adamax": OptimizerRow(
        keras.optimizers.Adamax,
        {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7} | _COMMON,
        "Kingma and Ba 2015, section 7.1; (0.9, 0.999) as in Mondal et al. 2021",
    ),
    "sgdm": OptimizerRow(
        keras.optimizers.SGD,
        {"momentum": 0.9, "nesterov": False} | _COMMON,
        "stochastic gradient descent with momentum 0.9, MATLAB's default, as in Chen et al. 2021",
    ),
    "rmsprop": OptimizerRow(
        keras.optimizers.RMSprop,
        {"rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False} | _COMMON,
        "Hinton's lecture 6e, 2012, with Keras' constants",
    ),
}

"""Name to row. A new optimizer is a new row."""


def check_optimizer(name: str, constants: Mapping[str, Any]) -> OptimizerRow:
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
