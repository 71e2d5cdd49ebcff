"""Optimizers: one row each, with the constants that may be set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from kerasall.errors import SettingsError
from kerasall.training.tables import find_row, require_constants, require_number

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
