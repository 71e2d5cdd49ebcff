"""What test_devices runs: one small training on one device, on two logical ones, or as one of two processes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import keras
import numpy as np
from tiny_run import make_images

from kerasall.training.devices import join_hosts, spread_over
from kerasall.training.fit import StageSettings, fit

SETTINGS = StageSettings(epochs=2, optimizer="sgdm", learning_rate=0.1, restore_best=False)
BATCH = 16


def make_network():
    """Without batch normalisation, whose statistics each device would take of its own share."""
    keras.utils.set_random_seed(3)
    layers = [
        keras.Input((32, 32, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(2, activation="softmax"),
    ]
    return keras.Sequential(layers)


def write(model, history, path):
    rows = [[row.loss, row.accuracy, row.val_loss or 0, row.learning_rate] for row in history.epochs]
    weights = {f"weights_{i}": np.asarray(variable) for i, variable in enumerate(model.weights)}
    np.savez(path, rows=rows, **weights)


def mirror(folder):
    """Trains on one and on two logical devices, the latter's last epoch by a run that goes on."""
    import tensorflow as tf

    from kerasall.data.input_pipeline import epoch_batches

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    images, labels = make_images(64)

    def batches(epoch=0):
        return epoch_batches(images, labels, batch_size=BATCH, epoch=epoch, shuffle=True)

    def run(devices, state, on_epoch=None):
        with spread_over(devices):
            model = make_network()
            return model, fit(model, batches, batches, SETTINGS, state, on_epoch=on_epoch)

    def copy(model, row):
        if row.epoch == SETTINGS.epochs:
            shutil.copytree(folder / "two", folder / "resumed")

    write(*run(1, folder / "one"), folder / "one.npz")
    run(2, folder / "two", copy)
    trained, history = run(2, folder / "resumed")
    plain = make_network()
    plain.set_weights(trained.get_weights())
    write(plain, history, folder / "two.npz")


def hosts(count, number, address, path):
    """Trains as one of ``count`` processes, each with its share of every batch."""
    if count > 1:
        join_hosts(address, count, number)
    images, labels = make_images(64)

    def batches(epoch):
        order = np.random.default_rng(epoch).permutation(64).reshape(-1, BATCH)
        share = BATCH // count
        return [(images[row], labels[row]) for row in order[:, number * share : (number + 1) * share]]

    model = make_network()
    write(model, fit(model, batches, None, SETTINGS, path.with_suffix("")), path)


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    if kind == "mirror":
        mirror(Path(rest[0]))
    else:
        hosts(int(rest[0]), int(rest[1]), rest[2], Path(rest[3]))
