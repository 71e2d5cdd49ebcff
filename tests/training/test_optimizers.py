"""The table of optimizers: worked numbers, and what it refuses."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kerasall.errors import SettingsError
from kerasall.training.optimizers import OPTIMIZERS, make_optimizer


def descend(optimizer, steps, start=1.0):
    """Positions of x after each step down f(x) = x^2 / 2, whose gradient is x."""
    x = keras.Variable([start])
    optimizer.build([x])
    positions = []
    for _ in range(steps):
        optimizer.apply([np.array(np.asarray(x))])
        positions.append(float(np.asarray(x)[0]))
    return positions


def test_sgdm_by_hand():
    # v1 = -0.1, x1 = 0.9; v2 = 0.9 v1 - 0.1 * 0.9 = -0.18, x2 = 0.72
    assert descend(make_optimizer("sgdm", 0.1), 2) == pytest.approx([0.9, 0.72])


def test_adam_and_adamax_first_step_is_the_rate():
    for name in ("adam", "adamax"):
        assert descend(make_optimizer(name, 0.01), 1) == pytest.approx([0.99], abs=1e-6)


def test_adamax_second_step_by_hand():
    # m = 0.9 * 0.1 + 0.1 * 0.99 = 0.189, u = max(0.999 * 1, 0.99) = 0.999; x -= 0.01 / (1 - 0.81) * m / u
    assert descend(make_optimizer("adamax", 0.01), 2)[1] == pytest.approx(0.99 - 0.01 / 0.19 * 0.189 / 0.999)


def test_rmsprop_first_step_by_hand():
    assert descend(make_optimizer("rmsprop", 0.01), 1) == pytest.approx([1 - 0.01 / np.sqrt(0.1)], rel=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_row_descends_and_takes_its_constants(name):
    assert abs(descend(make_optimizer(name, 0.05), 20)[-1]) < 0.5
    make_optimizer(name, 1e-3, **OPTIMIZERS[name].constants)
    clipped = make_optimizer(name, 1e-3, global_clipnorm=1.0)
    assert clipped.global_clipnorm == 1.0


def test_errors_name_the_near_ones():
    with pytest.raises(SettingsError, match=r"did you mean 'adamax'"):
        make_optimizer("adammax", 1e-3)
    with pytest.raises(SettingsError, match=r"'beta1'.*did you mean 'beta_1'"):
        make_optimizer("adam", 1e-3, beta1=0.8)
    with pytest.raises(SettingsError, match="among"):
        make_optimizer("adam", 1e-3, use_ema=True)


@pytest.mark.parametrize("rate", [0, -1e-3, float("nan"), float("inf"), "1e-3", True])
def test_a_rate_not_above_zero_is_refused(rate):
    with pytest.raises(SettingsError, match="learning rate must be a number above 0"):
        make_optimizer("adam", rate)
