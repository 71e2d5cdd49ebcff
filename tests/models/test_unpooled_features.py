"""Features that are not pooled, pixels that are standardised, features as they are: fitted, exported, measured, explained."""

from __future__ import annotations

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from threadpoolctl import threadpool_limits

from kerasall.errors import DataError
from kerasall.models.base import build_backbone
from kerasall.models.deep_features import build_extractor, build_feature_model, extract_features
from kerasall.models.explanation_networks import find_networks
from kerasall.models.feature_classifiers import fit_feature_classifier
from kerasall.models.out_of_domain import FEATURES, with_features
from kerasall.models.prediction import predict_activations, predict_outputs
from kerasall.models.saving import load_model, save_model
from kerasall.models.unpooled_perceptron import BATCH, fit_perceptron
from kerasall.preprocessing.operations import Chain
from kerasall.serving.export import export_saved_model
from kerasall.serving.graph import require_known_graph

SIZE = 64


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray]:
    """Noise on a ground with a disc to the left or, of class 1, to the right: a mean over the image tells nothing."""
    random, labels = np.random.default_rng(4), np.arange(80) % 2
    images = np.full((80, SIZE, SIZE, 3), 90, np.float64) + 20 * random.normal(size=(80, 1, 1, 3))
    for image, label in zip(images, labels, strict=True):
        cv2.circle(image, (48 if label else 16, int(random.integers(20, 44))), 12, (190, 120, 200), -1)
    return np.clip(images + 5 * random.normal(size=images.shape), 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def extractor() -> keras.Model:
    return build_extractor("vgg16", (SIZE, SIZE), "random", seed=1, pooling="none", pixels="standardised")


@pytest.fixture(scope="module")
def fitted(extractor, cells, tmp_path_factory):
    """Features mapped from the disk, and the perceptron that was fitted to half of their rows."""
    folder = tmp_path_factory.mktemp("features")
    features = extract_features([extractor], cells[0], "cells", folder, memory_bytes=0)
    rows = np.arange(0, 80, 2) + np.arange(40) % 2
    return features, rows, fit_perceptron(features, rows, cells[1][rows], 2, seed=3)


def test_unpooled_features_are_all_places_of_the_map_of_standardised_pixels(extractor, cells, fitted):
    features, _, _ = fitted
    assert features.shape == (80, 2 * 2 * 512)
    assert isinstance(features, np.memmap)
    shown = tf.image.per_image_standardization(tf.cast(cells[0][:4], tf.float32))
    maps = build_backbone("vgg16", (SIZE, SIZE), "random", seed=1)(shown)
    np.testing.assert_allclose(features[:4], np.reshape(maps, (4, -1)), rtol=1e-4, atol=1e-6)


def test_an_image_of_one_colour_is_standardised_to_nothing():
    model = build_extractor("vgg16", (32, 32), "random", pixels="standardised").layers[1]
    np.testing.assert_array_equal(model(np.full((1, 32, 32, 3), 77.0)), np.zeros((1, 32, 32, 3)))


def test_the_perceptron_learns_where_a_thing_lies_and_the_model_answers_like_it(extractor, cells, fitted):
    features, rows, classifier = fitted
    others = np.setdiff1d(np.arange(80), rows)
    probabilities, decided = classifier.predict(features[others])
    assert np.mean(decided == cells[1][others]) > 0.9
    assert classifier.pipeline[-1].coefs_[0].dtype == np.float32
    model = build_feature_model([extractor], classifier)
    found = predict_outputs(model, [cells[0][others]])
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-4)


@pytest.mark.slow
def test_the_model_is_kept_exported_measured_and_explained(extractor, cells, fitted, tmp_path):
    model = build_feature_model([extractor], fitted[2])
    save_model(model, tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    answers = predict_outputs(again, [cells[0][:6]])
    # Distances are measured on the mean of the map: a covariance of all its places could not be known.
    measured = with_features(again)
    pooled = build_extractor("vgg16", (SIZE, SIZE), "random", seed=1, pixels="standardised")
    np.testing.assert_allclose(
        predict_activations(keras.Model(measured.inputs[0], measured.output[FEATURES]), [cells[0][:6]]),
        predict_activations(pooled, [cells[0][:6]]), rtol=1e-4, atol=1e-6,
    )  # fmt: skip
    assert len(find_networks(again)[0].targets) == 1
    exported = export_saved_model(again, Chain(), ("all", "hem"), tmp_path / "1")
    require_known_graph(exported)
    answer = tf.saved_model.load(str(exported)).signatures["serving_default"]
    files = [cv2.imencode(".png", image[:, :, ::-1])[1].tobytes() for image in cells[0][:6]]
    np.testing.assert_allclose(
        answer(image_bytes=tf.constant(files))["probabilities"], answers["probabilities"], atol=1e-5
    )


class Watched:
    """Rows on the disk; notes how many are asked for at once."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.most, self.shape = rows, 0, rows.shape

    def __getitem__(self, chosen):
        self.most = max(self.most, len(self.rows[chosen]))
        return self.rows[chosen]


@threadpool_limits.wrap(limits=1)
def test_no_more_than_a_batch_of_images_is_ever_in_memory_and_the_seed_decides():
    random, labels = np.random.default_rng(0), np.arange(400) % 2
    features = (random.normal(size=(400, 12)) + 3 * labels[:, None]).astype(np.float32)
    watched, rows = Watched(features), np.arange(300)
    one, two, other = (fit_perceptron(watched, rows, labels[:300], 2, seed=seed) for seed in (1, 1, 2))
    assert watched.most == BATCH < 300
    np.testing.assert_array_equal(one.predict(features)[0], two.predict(features)[0])
    assert (one.predict(features)[0] != other.predict(features)[0]).any()
    assert np.mean(one.predict(features[300:])[1] == labels[300:]) > 0.95


def test_features_that_are_no_numbers_and_lacking_classes_are_refused():
    features = np.ones((6, 4), np.float32)
    with pytest.raises(DataError, match=r"must hold classes \[0, 1\], but hold \[0\]"):
        fit_perceptron(features, np.arange(6), np.zeros(6, int), 2)
    features[2, 1] = np.inf
    with pytest.raises(DataError, match="must be finite"):
        fit_perceptron(features, np.arange(6), np.arange(6) % 2, 2)


@pytest.mark.parametrize("name", ["linear_svm", "mlp"])
def test_features_as_they_are_give_the_same_in_layers(name):
    random, labels = np.random.default_rng(2), np.arange(200) % 2
    features = (random.normal(size=(200, 12)) + labels[:, None] + 3).astype(np.float32)
    folds = np.arange(200) // 2 % 4
    plain = fit_feature_classifier(name, features, labels, 2, folds, standardise=False)
    scaled = fit_feature_classifier(name, features, labels, 2, folds)
    assert np.abs(plain.predict(features)[0] - scaled.predict(features)[0]).max() > 0.01
    image = keras.Input((1, 4, 3))
    passing = keras.Model(image, keras.layers.Flatten()(image), name="pixels_as_features")
    found = predict_outputs(build_feature_model([passing], plain), [features.reshape(200, 1, 4, 3)])
    np.testing.assert_allclose(found["probabilities"], plain.predict(features)[0], atol=1e-4)
