"""Learning rate schedules against the figures of the papers they come from."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from kerasall.errors import SettingsError
from kerasall.training.schedules import SCHEDULES, CyclicLearningRate, make_schedule

STEPS = 1456  # per epoch: 11,644 oversampled images in batches of 8 (Mondal et al. 2021)
ENOUGH = {
    "constant": {},
    "triangular": {"minimum": 1e-7, "step_size_epochs": 6},
    "triangular2": {"minimum": 1e-7, "step_size_epochs": 6},
    "exp_range": {"minimum": 1e-7, "step_size_epochs": 6, "gamma": 0.99994},
    "exponential_decay": {"rate": 0.95, "decay_steps": 900},
    "cosine": {"warmup_epochs": 2},
}


def rates(schedule, steps):
    return [float(np.asarray(schedule(step))) for step in steps]


def test_triangular2_corners_of_mondal():
    """Between 1e-7 and 2e-3, step size 6 epochs: peaks at epochs 6, 18, 30, each half as high as the one before."""
    schedule = make_schedule("triangular2", 2e-3, STEPS, 200, minimum=1e-7, step_size_epochs=6)
    corners = rates(schedule, [epoch * STEPS for epoch in (0, 6, 12, 18, 24, 30, 36)])
    height = 2e-3 - 1e-7
    expected = [1e-7, 2e-3, 1e-7, 1e-7 + height / 2, 1e-7, 1e-7 + height / 4, 1e-7]
    assert corners == pytest.approx(expected, rel=1e-5)
    assert rates(schedule, [3 * STEPS]) == pytest.approx([1e-7 + height / 2], rel=1e-5)


def test_triangular_keeps_its_height_to_the_last_step():
    schedule = make_schedule("triangular", 1e-3, 100, 10, minimum=1e-5, step_size_epochs=2)
    late = 200 * 40_001  # step 8 million, a corner: float32 arithmetic would be off the grid
    assert rates(schedule, [200, 1000, late + 200, late]) == pytest.approx([1e-3, 1e-3, 1e-5, 1e-3], rel=1e-5)


def test_exp_range_is_smiths_equation():
    schedule = make_schedule("exp_range", 1e-3, 50, 10, minimum=1e-5, step_size_epochs=2, gamma=0.999)
    for step in (0, 37, 100, 163, 411):
        cycle = np.floor(1 + step / 200)
        x = abs(step / 100 - 2 * cycle + 1)
        expected = 1e-5 + (1e-3 - 1e-5) * max(0, 1 - x) * 0.999**step
        assert rates(schedule, [step]) == pytest.approx([expected], rel=1e-4)


def test_exponential_decay_of_fata():
    """1e-4, 0.95 every 900 steps, as a staircase and smooth."""
    staircase = make_schedule("exponential_decay", 1e-4, 267, 100, rate=0.95, decay_steps=900, staircase=True)
    assert rates(staircase, [0, 899, 900, 1799, 26_700]) == pytest.approx(
        [1e-4, 1e-4, 9.5e-5, 9.5e-5, 1e-4 * 0.95**29], rel=1e-5
    )
    smooth = make_schedule("exponential_decay", 1e-4, 267, 100, rate=0.95, decay_steps=900)
    assert rates(smooth, [450, 900]) == pytest.approx([1e-4 * 0.95**0.5, 9.5e-5], rel=1e-5)
    by_epoch = make_schedule("exponential_decay", 1e-4, 300, 100, rate=0.95, decay_epochs=3)
    assert rates(by_epoch, [450]) == pytest.approx(rates(smooth, [450]))


def test_cosine_rises_and_ends_at_the_last_step():
    schedule = make_schedule("cosine", 1e-3, 10, 12, warmup_epochs=2, final_fraction=0.1)
    assert rates(schedule, [0, 10, 20, 70, 120]) == pytest.approx([0, 5e-4, 1e-3, 5.5e-4, 1e-4], abs=1e-9)
    assert rates(make_schedule("cosine", 1e-3, 10, 12), [0, 60]) == pytest.approx([1e-3, 5e-4], rel=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_peaks_at_the_rate_and_survives_serialization(name):
    schedule = make_schedule(name, 1e-3, 20, 10, **ENOUGH[name])
    if name == "constant":
        assert schedule == 1e-3
        return
    curve = rates(schedule, range(200))
    assert max(curve) == pytest.approx(1e-3, rel=2e-2)
    assert max(curve) <= 1e-3 * (1 + 1e-6)
    optimizer = keras.optimizers.Adam(schedule)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert rates(again._learning_rate, range(0, 200, 7)) == curve[::7]


@pytest.mark.parametrize(
    ("name", "constants", "words"),
    [
        ("triangle", {}, "did you mean 'triangular'"),
        ("triangular2", {"minimum": 1e-7}, "step_size_epochs.*missing"),
        ("triangular2", {"minimum": 1e-2, "step_size_epochs": 6}, "maximum .* above 0.01"),
        ("constant", {"minimum": 1e-7}, "'minimum' is not"),
        ("exp_range", {"minimum": 0, "step_size_epochs": 2, "gamma": 1.5}, "gamma .* at most 1"),
        ("exponential_decay", {"rate": 0.95}, "exactly one"),
        ("exponential_decay", {"rate": 0.95, "decay_steps": 9, "decay_epochs": 1}, "exactly one"),
        ("cosine", {"warmup_epochs": 10}, "below the stage's 10 epochs"),
    ],
)
def test_refusals(name, constants, words):
    with pytest.raises(SettingsError, match=words):
        make_schedule(name, 1e-3, 20, 10, **constants)


def test_an_unknown_policy_is_refused():
    with pytest.raises(SettingsError, match="did you mean 'exp_range'"):
        CyclicLearningRate(0, 1e-3, 10, policy="exprange")
