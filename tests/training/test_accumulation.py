"""Batches that pass in parts, several steps a call: the same training as with whole batches, one by one."""

from __future__ import annotations

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from tiny_run import make_images, make_linear, make_points, values

from kerasall.data.input_pipeline import epoch_batches
from kerasall.errors import SettingsError
from kerasall.training.fit import StageSettings, fit

SETTINGS = StageSettings(
    epochs=2,
    optimizer="adam",
    learning_rate=0.03,
    optimizer_constants={"global_clipnorm": 0.5, "weight_decay": 1e-3},
    schedule="exponential_decay",
    schedule_constants={"rate": 0.5, "decay_steps": 2},
)
POINTS = make_points(41)


def train(folder, parts=1, batch_size=16, data=POINTS, model=None, on_epoch=None, **changes):
    settings = replace(SETTINGS, accumulate=parts, **changes)
    model = model or make_linear()

    def batches(epoch):
        return epoch_batches(*data, batch_size=batch_size, epoch=epoch, shuffle=True, parts=parts)

    return model, fit(model, batches, None, settings, folder, on_epoch=on_epoch, deterministic=True)


def require_close(one, other, tolerance=2e-5, same_loss=True):
    for a, b in zip(values(one[0]), values(other[0]), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)
    for a, b in zip(one[1].epochs, other[1].epochs, strict=True):
        assert a.learning_rate == pytest.approx(b.learning_rate, rel=1e-6)
        if same_loss:
            assert a.loss == pytest.approx(b.loss, rel=0.02)  # of parts: weighted by their rows


@pytest.mark.parametrize(("parts", "batch_size"), [(3, 16), (12, 40)])
def test_parts_train_as_the_whole_batch_does(tmp_path, parts, batch_size):
    """41 rows: the last batch has 9 or 1 of them, and batches do not all divide by the parts.

    A single row in 12 parts is counted 12 times in the loss that is shown, once in the gradient.
    """
    whole = train(tmp_path / "whole", 1, batch_size)
    in_parts = train(tmp_path / "parts", parts, batch_size)
    assert int(in_parts[0].optimizer.iterations) == int(whole[0].optimizer.iterations)
    require_close(whole, in_parts, same_loss=parts < 12)


@pytest.mark.slow
def test_a_network_trains_in_parts_as_with_whole_batches(tmp_path):
    def model():
        keras.utils.set_random_seed(3)
        return keras.Sequential(
            [
                keras.Input((32, 32, 3)),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(2, activation="softmax"),
            ]
        )

    whole, in_parts = (
        train(tmp_path / str(parts), parts, data=make_images(40), model=model()) for parts in (1, 4)
    )
    require_close(whole, in_parts, 1e-4)


def test_parts_resume_bit_equal(tmp_path):
    def copy(model, row):
        if row.epoch == 1:
            shutil.copytree(tmp_path / "a", tmp_path / "b")

    unbroken, resumed = train(tmp_path / "a", 3, on_epoch=copy), train(tmp_path / "b", 3)
    for a, b in zip(values(unbroken[0]), values(resumed[0]), strict=True):
        assert a.tobytes() == b.tobytes()
    assert [row.learning_rate for row in unbroken[1].epochs] == [r.learning_rate for r in resumed[1].epochs]


def test_parts_hold_every_row_once_and_weigh_alike():
    rows = np.arange(41, dtype=np.float32)[:, None]
    targets = np.eye(2, dtype=np.float32)[np.arange(41) % 2]
    cut = list(epoch_batches(rows, targets, batch_size=16, shuffle=True, parts=3).as_numpy_iterator())
    whole = list(epoch_batches(rows, targets, batch_size=16, shuffle=True).as_numpy_iterator())
    assert len(cut) == 3 * len(whole)
    for number, (batch, _) in enumerate(whole):
        parts = cut[3 * number : 3 * number + 3]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), batch)
        shares = np.concatenate([weights / len(part) / 3 for part, _, weights in parts])
        np.testing.assert_allclose(shares, 1 / len(batch), rtol=1e-6)


def test_epochs_between_two_updates_are_refused(tmp_path):
    batches = [(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))] * 3
    with pytest.raises(SettingsError, match="a multiple of as many batches, but has 3"):
        fit(make_linear(), lambda epoch: batches, None, replace(SETTINGS, accumulate=2), tmp_path)
    with pytest.raises(SettingsError, match="1 to 4 parts"):
        epoch_batches(*POINTS, batch_size=4, parts=5)


@pytest.mark.parametrize("steps", [3, 20])
def test_several_steps_a_call_give_the_same_bits(tmp_path, steps):
    """11 batches an epoch: the last call has fewer."""
    one = train(tmp_path / "one", batch_size=4)
    several = train(tmp_path / "several", batch_size=4, steps_per_execution=steps)
    for a, b in zip(values(one[0]), values(several[0]), strict=True):
        assert a.tobytes() == b.tobytes()
    assert [row.loss for row in one[1].epochs] == [row.loss for row in several[1].epochs]
