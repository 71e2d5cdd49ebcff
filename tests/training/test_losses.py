"""Losses against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from kerasall.errors import SettingsError
from kerasall.training.optimizers import make_loss

LABELS = np.array([[0, 1, 0], [1, 0, 0]], np.float32)
PROBABILITIES = np.array([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]], np.float32)


def loss(name, **constants):
    return float(make_loss(name, **constants)(LABELS, PROBABILITIES))


def test_categorical_crossentropy_and_label_smoothing():
    assert loss("categorical_crossentropy") == pytest.approx(-(np.log(0.7) + np.log(0.5)) / 2, rel=1e-5)
    smoothed = LABELS * 0.9 + 0.1 / 3
    expected = -(smoothed * np.log(PROBABILITIES)).sum(axis=1).mean()
    assert loss("categorical_crossentropy", label_smoothing=0.1) == pytest.approx(expected, rel=1e-5)


def test_binary_crossentropy_on_one_hot():
    each = LABELS * np.log(PROBABILITIES) + (1 - LABELS) * np.log(1 - PROBABILITIES)
    assert loss("binary_crossentropy") == pytest.approx(-each.mean(), rel=1e-4)
    two = np.array([[0.3, 0.7]], np.float32), np.array([[0.0, 1.0]], np.float32)
    pair = [
        float(make_loss(name)(two[1], two[0])) for name in ("binary_crossentropy", "categorical_crossentropy")
    ]
    assert pair[0] == pytest.approx(pair[1], rel=1e-5)


def test_focal():
    right = np.array([0.7, 0.5])
    assert loss("focal") == pytest.approx((-0.25 * (1 - right) ** 2 * np.log(right)).mean(), rel=1e-4)
    assert loss("focal", alpha=1.0, gamma=0.0) == pytest.approx(loss("categorical_crossentropy"), rel=1e-5)


def test_refusals():
    with pytest.raises(SettingsError, match="did you mean 'focal'"):
        make_loss("foccal")
    with pytest.raises(SettingsError, match="did you mean 'gamma'"):
        make_loss("focal", gama=1)
    with pytest.raises(SettingsError, match=r"label_smoothing must be in \[0, 1\)"):
        make_loss("categorical_crossentropy", label_smoothing=1.0)
