"""Batch normalisation in one kernel trains as Keras' way does."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasall.training.batch_norm import fused_batch_norm

IMAGES = np.random.default_rng(0).normal(3, 2, (6, 9, 7, 3)).astype(np.float32)
TARGETS = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1, 0]]


def network(axis: int = -1, trains: bool = True, **settings) -> keras.Model:
    layers = keras.layers
    norm = layers.BatchNormalization(axis=axis, momentum=0.8, epsilon=0.01, name="norm", **settings)
    norm.trainable = trains
    keras.utils.set_random_seed(3)
    model = keras.Sequential([
        keras.Input((9, 7, 3)), layers.Conv2D(5, 3), norm, layers.ReLU(6.0), layers.GlobalAveragePooling2D(),
        layers.Dense(2, activation="softmax"),
    ])  # fmt: skip
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "categorical_crossentropy")
    return model


@pytest.fixture
def kernels(monkeypatch) -> list[str]:
    """An entry for every call of the kernel."""
    calls, kernel = [], tf.compat.v1.nn.fused_batch_norm

    def count(*arguments, **options):
        calls.append("fused")
        return kernel(*arguments, **options)

    monkeypatch.setattr(tf.compat.v1.nn, "fused_batch_norm", count)
    return calls


def test_weights_statistics_and_answers_are_those_of_keras(kernels):
    plain, fused = network(), network()
    plain.fit(IMAGES, TARGETS, batch_size=3, epochs=4, shuffle=False, verbose=0)
    assert not kernels
    with fused_batch_norm(fused):
        fused.fit(IMAGES, TARGETS, batch_size=3, epochs=4, shuffle=False, verbose=0)
    assert kernels
    for expected, found in zip(plain.weights, fused.weights, strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=2e-6, err_msg=found.path)
    np.testing.assert_allclose(fused.predict(IMAGES, verbose=0), plain.predict(IMAGES, verbose=0), atol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"axis": 1}, {"trains": False}, {"scale": False}, {"dtype": "mixed_bfloat16"}], ids=str
)
def test_what_the_kernel_cannot_do_goes_keras_way(kernels, settings):
    plain, other = network(**settings), network(**settings)
    expected = plain(IMAGES, training=True)
    with fused_batch_norm(other):
        np.testing.assert_array_equal(other(IMAGES, training=True), expected)
    assert not kernels
    for one, two in zip(plain.weights, other.weights, strict=True):
        np.testing.assert_array_equal(two.numpy(), one.numpy())


def test_layers_are_as_before_whatever_happens():
    model = network()
    norm = model.get_layer("norm")

    def fail() -> None:
        with fused_batch_norm(model):
            assert "call" in vars(norm)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert "call" not in vars(norm)


def test_one_value_a_channel_is_no_fault():
    """The variance of a sample of one is none; the kernel's and the batch's are zero."""
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((1, 1, 4)), norm])
    with fused_batch_norm(model):
        model(np.ones((1, 1, 1, 4), np.float32), training=True)
    assert np.isfinite(norm.moving_variance.numpy()).all()
