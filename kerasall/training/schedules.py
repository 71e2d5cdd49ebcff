"""Learning rate schedules: pure functions of ``optimizer.iterations``, so a resumed run is on the same curve.

In every schedule ``learning_rate`` is the highest rate, the one whose size decides stability. Lengths are
given in epochs and turned into optimizer steps here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from kerasall.errors import SettingsError
from kerasall.training.optimizers import LearningRate, find_row, require_constants, require_number


@keras.saving.register_keras_serializable(package="kerasall")
class CyclicLearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """The cyclic learning rates of Smith 2017 (WACV, arXiv 1506.01186).

    With t the optimizer step, s the step size (half a cycle) and c = floor(t / 2s) the number of full cycles:

        x(t)    = |t / s - 2c - 1|                                  1 at the corners, 0 at the peak
        rate(t) = minimum + (maximum - minimum) (1 - x(t)) f(t)
        f(t)    = 1 (triangular),  2^-c (triangular2),  gamma^t (exp_range)

    Attributes:
        minimum: rate at the start and end of every cycle.
        maximum: rate at the first peak.
        step_size: s, optimizer steps from a corner to the peak, at least 1.
        policy: "triangular", "triangular2" or "exp_range".
        gamma: in (0, 1]; read by "exp_range" only.
    """

    def __init__(
        self, minimum: float, maximum: float, step_size: int, policy: str = "triangular", gamma: float = 1.0
    ) -> None:
        super().__init__()
        self.minimum = require_number(minimum, "minimum of the cyclic rate", exclusive=False)
        self.maximum = require_number(maximum, "maximum of the cyclic rate", minimum=self.minimum)
        self.step_size = int(require_number(step_size, "step size of the cyclic rate", 1, exclusive=False))
        find_row(dict.fromkeys(("triangular", "triangular2", "exp_range")), policy, "the policy")
        self.policy = policy
        self.gamma = require_number(gamma, "gamma of the cyclic rate", 0, maximum=1)

    def __call__(self, step: Any) -> Any:
        """Rate at ``step`` (integer scalar), float32 scalar."""
        # Whole numbers as long as possible: float32 has no room for late steps.
        step = ops.cast(step, "int32")
        cycle: Any = ops.floor_divide(step, 2 * self.step_size)
        position: Any = ops.cast(step - cycle * (2 * self.step_size), "float32")
        height: Any = 1.0 - ops.absolute(position / float(self.step_size) - 1.0)  # pyright: ignore
        return self.minimum + (self.maximum - self.minimum) * height * self._factor(step, cycle)

    def _factor(self, step: Any, cycle: Any) -> Any:
        if self.policy == "triangular2":
            return ops.power(0.5, ops.cast(cycle, "float32"))
        if self.policy == "exp_range":
            return ops.power(self.gamma, ops.cast(step, "float32"))
        return 1.0

    def get_config(self) -> dict[str, Any]:
        """What ``from_config`` needs."""
        names = ("minimum", "maximum", "step_size", "policy", "gamma")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="kerasall")
class RateOfUpdates(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule for an optimizer that accumulates gradients.

    Keras asks a schedule for the rate at the number of *batches* then (``BaseOptimizer._iterations``), although
    ``optimizer.iterations`` counts updates; this turns the one into the other.

    Attributes:
        schedule: rate by update.
        batches: accumulated for one update.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, batches: int) -> None:
        super().__init__()
        self.schedule = schedule
        self.batches = batches

    def __call__(self, step: Any) -> Any:
        """Rate at batch ``step`` (integer scalar), float32 scalar."""
        return self.schedule(ops.floor_divide(step, self.batches))

    def get_config(self) -> dict[str, Any]:
        """What ``from_config`` needs."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "batches": self.batches}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RateOfUpdates:
        """Makes one from what ``get_config`` gave."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["batches"])


def constant(learning_rate: float, steps: int, epochs: int) -> float:
    """The same rate throughout."""
    return learning_rate


def triangular(
    learning_rate: float, steps: int, epochs: int, *, minimum: float, step_size_epochs: float
) -> CyclicLearningRate:
    """Between ``minimum`` and ``learning_rate``; ``step_size_epochs`` from the one to the other."""
    return CyclicLearningRate(minimum, learning_rate, _in_steps(step_size_epochs, steps))


def triangular2(
    learning_rate: float, steps: int, epochs: int, *, minimum: float, step_size_epochs: float
) -> CyclicLearningRate:
    """As ``triangular``, the peak's height over ``minimum`` halved after every cycle."""
    return CyclicLearningRate(minimum, learning_rate, _in_steps(step_size_epochs, steps), "triangular2")


def exp_range(
    learning_rate: float, steps: int, epochs: int, *, minimum: float, step_size_epochs: float, gamma: float
) -> CyclicLearningRate:
    """As ``triangular``, the height over ``minimum`` multiplied by ``gamma`` at every optimizer step."""
    return CyclicLearningRate(minimum, learning_rate, _in_steps(step_size_epochs, steps), "exp_range", gamma)


def exponential_decay(
    learning_rate: float,
    steps: int,
    epochs: int,
    *,
    rate: float,
    decay_steps: int | None = None,
    decay_epochs: float | None = None,
    staircase: bool = False,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """``learning_rate * rate ** (step / decay_steps)``; with ``staircase`` the exponent is rounded down.

    Exactly one of ``decay_steps`` and ``decay_epochs`` is given. Fata et al. 2023: 1e-4, 0.95, 900 steps.
    """
    if (decay_steps is None) == (decay_epochs is None):
        raise SettingsError(
            "exponential_decay must have exactly one of decay_steps and decay_epochs, "
            f"but has decay_steps={decay_steps!r} and decay_epochs={decay_epochs!r}"
        )
    if not isinstance(staircase, bool):
        raise SettingsError(f"staircase of the exponential decay must be true or false, but is {staircase!r}")
    if decay_steps is None:
        decay_steps = _in_steps(decay_epochs, steps)
    decay_steps = int(require_number(decay_steps, "decay_steps", 1, exclusive=False))
    rate = require_number(rate, "rate of the exponential decay", 0, maximum=1)
    return keras.optimizers.schedules.ExponentialDecay(learning_rate, decay_steps, rate, staircase=staircase)


def cosine(
    learning_rate: float, steps: int, epochs: int, *, warmup_epochs: float = 0.0, final_fraction: float = 0.0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear rise from 0 over ``warmup_epochs``, then half a cosine down to the stage's last step.

    It ends at ``learning_rate * final_fraction`` (Loshchilov and Hutter 2017, without restarts).
    """
    warmup_epochs = require_number(warmup_epochs, "warmup_epochs", exclusive=False)
    final_fraction = require_number(final_fraction, "final_fraction", maximum=1, exclusive=False)
    if warmup_epochs >= epochs:
        raise SettingsError(
            f"warmup_epochs must be below the stage's {epochs} epochs, but is {warmup_epochs:g}"
        )
    warmup = round(warmup_epochs * steps)
    decay = max(1, epochs * steps - warmup)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(learning_rate, decay, alpha=final_fraction)
    return keras.optimizers.schedules.CosineDecay(
        0.0, decay, alpha=final_fraction, warmup_target=learning_rate, warmup_steps=warmup
    )


SCHEDULES: dict[str, Callable[..., LearningRate]] = {
    "constant": constant,
    "triangular": triangular,
    "triangular2": triangular2,
    "exp_range": exp_range,
    "exponential_decay": exponential_decay,
    "cosine": cosine,
}
"""Name to function of (highest rate, optimizer steps per epoch, epochs) and its own keyword constants."""


def check_schedule(name: str, constants: Mapping[str, Any]) -> Callable[..., LearningRate]:
    """Checks name and constants without making anything.

    Returns:
        The schedule's function.

    Raises:
        SettingsError: unknown name or constant, or a required constant is missing.
    """
    function = find_row(SCHEDULES, name, "the schedule")
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    required = [p.name for p in own if p.default is p.empty]
    require_constants(constants, [p.name for p in own], f"the schedule {name}", required)
    return function


def make_schedule(
    name: str, learning_rate: float, steps_per_epoch: int, epochs: int, **constants: Any
) -> LearningRate:
    """Makes a schedule of the table.

    Args:
        name: a key of ``SCHEDULES``.
        learning_rate: the highest rate, above 0.
        steps_per_epoch: optimizer steps in one epoch, at least 1.
        epochs: epochs of the stage, at least 1.
        **constants: the schedule's own.

    Returns:
        A float for "constant", else a Keras ``LearningRateSchedule``.

    Raises:
        SettingsError: unknown name or constant, or a value out of range.
    """
    function = check_schedule(name, constants)
    learning_rate = require_number(learning_rate, "the learning rate")
    require_number(steps_per_epoch, "steps_per_epoch", 1, exclusive=False)
    return function(learning_rate, steps_per_epoch, epochs, **constants)


def _in_steps(epochs: Any, steps_per_epoch: int) -> int:
    return max(1, round(require_number(epochs, "a schedule's length in epochs") * steps_per_epoch))
