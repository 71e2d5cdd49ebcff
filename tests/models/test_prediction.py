from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasall.errors import ModelError
from kerasall.models.classifier import split_at
from kerasall.models.prediction import predict_activations, predict_probabilities


def test_equals_the_model_whatever_the_batches_are(small_classifier, images):
    model = small_classifier()
    expected = model(images).numpy()
    dataset = tf.data.Dataset.from_tensor_slices((images, np.zeros(12)))
    for batches in (
        dataset.batch(5),
        [images[:5], images[5:]],
        [images.astype(np.float64)],
        dataset.batch(1),
    ):
        found = predict_probabilities(model, batches)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_graph_serves_every_batch_size_and_later_calls():
    traces = []

    class Traced(keras.layers.Layer):
        def call(self, inputs):
            traces.append(inputs.shape)
            return keras.ops.mean(inputs, axis=(1, 2))

    model = keras.Sequential([keras.Input((4, 4, 3)), Traced()])
    traces.clear()
    images = np.ones((7, 4, 4, 3), np.float32)
    for size in (4, 3, 7):
        predict_probabilities(model, [images[start : start + size] for start in range(0, 7, size)])
    assert traces == [(None, 4, 4, 3)]


def test_new_weights_are_seen(small_classifier, images):
    model = small_classifier()
    before = predict_probabilities(model, [images])
    model.layers[-1].set_weights([weight + 1 + np.arange(3) for weight in model.layers[-1].get_weights()])
    after = predict_probabilities(model, [images])
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, model(images).numpy(), atol=1e-6)


def test_batch_norm_and_dropout_are_in_inference_mode(small_classifier, images):
    model = small_classifier()
    state = [np.array(weight) for weight in model.weights]
    alone = np.concatenate([predict_probabilities(model, [image[None]]) for image in images])
    np.testing.assert_allclose(alone, predict_probabilities(model, [images]), atol=1e-6)
    assert all(map(np.array_equal, state, [np.array(weight) for weight in model.weights]))


def test_activations_fill_an_array_in_place(small_classifier, images):
    prefix, suffix = split_at(small_classifier(), "block_12")
    expected = predict_activations(prefix, [images])
    out = np.zeros((12, *prefix.output_shape[1:]), np.float16)
    assert predict_activations(prefix, [images[:8], images[8:]], out=out) is out
    np.testing.assert_allclose(out, expected, rtol=2e-3, atol=1e-3)
    with pytest.raises(ModelError, match="has 11 for 12 images"):
        predict_activations(prefix, [images], out=out[:11])
    np.testing.assert_allclose(
        predict_probabilities(suffix, [expected]),
        predict_probabilities(suffix, [expected[:6], expected[6:]]),
        atol=1e-6,
    )


def test_half_precision_activations_come_as_float32(small_classifier, images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        prefix, suffix = split_at(small_classifier(), "block_12")
    finally:
        keras.config.set_dtype_policy("float32")
    found = predict_activations(prefix, [images])
    assert found.dtype == np.float32
    assert predict_probabilities(suffix, [found]).shape == (12, 3)


def test_no_images_give_no_rows(small_classifier):
    assert predict_probabilities(small_classifier(), []).shape == (0, 3)


def test_images_of_another_size_are_refused(small_classifier, images):
    with pytest.raises(
        ModelError, match=r"takes batches of shape \[n, 32, 32, 3\], but got \(12, 16, 32, 3\)"
    ):
        predict_probabilities(small_classifier(), [images[:, ::2]])


def test_a_used_model_can_be_forgotten(small_classifier, images):
    model = small_classifier()
    predict_probabilities(model, [images])
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
