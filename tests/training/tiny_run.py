"""A tiny training run: rendered discs of two sizes, a network with BatchNorm and dropout.

The tests import its parts; as a script (state folder, result file, seconds per epoch) it is what they kill.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import keras
import numpy as np

from kerasall.training.fit import StageSettings, fit

SETTINGS = StageSettings(
    epochs=8,
    optimizer="adamax",
    learning_rate=2e-2,
    schedule="triangular2",
    schedule_constants={"minimum": 1e-4, "step_size_epochs": 1.5},
)


def make_images(count=40, size=32, seed=0):
    """uint8 [count, size, size, 3] and one-hot float32 [count, 2]: class 1 has the larger disc."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    rows, columns = np.mgrid[:size, :size]
    radii = random.uniform(4, 8, count) + 4 * labels
    discs = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < radii[:, None, None] ** 2
    pixels = 60 * discs[..., None] + random.integers(60, 120, (count, size, size, 3))
    return pixels.astype(np.uint8), np.eye(2, dtype=np.float32)[labels]


def make_epochs(images, labels, batch_size=16):
    """Function of the epoch: its batches, in an order of their own."""

    def batches(epoch):
        order = np.random.default_rng([7, epoch]).permutation(len(images))
        parts = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        return [(images[part], labels[part]) for part in parts]

    return batches


def make_model(seed=1, inner=()):
    """Probabilities [B, 2] from uint8 [B, 32, 32, 3]; ``inner`` are layers put after the first."""
    keras.utils.set_random_seed(seed)
    layers = [
        keras.Input((32, 32, 3)),
        keras.layers.Rescaling(1 / 127.5, offset=-1),
        *inner,
        keras.layers.Conv2D(6, 3, strides=2, name="convolution"),
        keras.layers.BatchNormalization(momentum=0.7, name="statistics"),
        keras.layers.ReLU(),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(2, activation="softmax", dtype="float32", name="head"),
    ]
    return keras.Sequential(layers)


def make_linear(seed=0):
    """Two inputs to two probabilities: where the network does not matter."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])


def make_points(count=40, seed=0):
    """float32 [count, 2] and one-hot float32 [count, 2]: class 1 lies to the right."""
    points = np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32)
    return points, np.eye(2, dtype=np.float32)[(points[:, 0] > 0).astype(int)]


def values(model):
    """All variables, the states of seed generators among them, as arrays."""
    return [np.array(np.asarray(variable)) for variable in model.variables]


def main(state_folder, result, seconds_per_epoch):
    batches = make_epochs(*make_images())

    def slow_batches(epoch):
        time.sleep(seconds_per_epoch)
        return batches(epoch)

    model = make_model()
    validation = [make_images(20, seed=1)]
    history = fit(model, slow_batches, lambda: validation, SETTINGS, state_folder, "tiny", deterministic=True)
    rows = [
        [row.loss, row.accuracy, row.val_loss, row.val_accuracy, row.learning_rate] for row in history.epochs
    ]
    np.savez(result, rows=rows, best=history.best_epoch, **{f"v{i}": v for i, v in enumerate(values(model))})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
