from __future__ import annotations

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasall.errors import ModelError, SettingsError
from kerasall.models.classifier import build_classifier, split_at
from kerasall.models.deep_features import build_extractor, build_feature_model, extract_features
from kerasall.models.feature_classifiers import CLASSIFIERS, fit_feature_classifier
from kerasall.models.passes import choose_way
from kerasall.models.prediction import predict_activations, predict_outputs
from kerasall.models.saving import load_model, save_model
from kerasall.preprocessing.operations import Chain
from kerasall.serving.export import export_saved_model

SIZE = 48
CLOSE = 3e-4
"""Stored features may come another way than the exported model's; how processors round differs (a third of this on one)."""


def settle(extractor: keras.Model) -> keras.Model:
    """Gives a random backbone batch statistics of coloured noise; without them its features hardly differ."""
    extractor.trainable = True
    layers = [layer for part in extractor.layers if isinstance(part, keras.Model) for layer in part.layers]
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    random = np.random.default_rng(1)
    noise = random.normal(random.uniform(0, 255, (16, 1, 1, 3)), 2, (16, *extractor.input_shape[1:]))
    extractor(np.clip(noise, 0, 255), training=True)
    extractor.trainable = False
    return extractor


@pytest.fixture(scope="module")
def extractors() -> list[keras.Model]:
    """Two backbones that want images of different sizes."""
    return [
        settle(build_extractor("mobilenet", (32, 32), "random", 0.25, seed=1)),
        settle(build_extractor("mobilenet_v2", (SIZE, SIZE), "random", 0.35, seed=2)),
    ]


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray]:
    """Slight noise on a ground that is bluer with the class: uint8 [300, 48, 48, 3] and labels in 0..2."""
    random, labels = np.random.default_rng(4), np.arange(300) % 3
    ground = np.full((300, 1, 1, 3), 110.0)
    ground[:, 0, 0, 2] += 60 * (labels - 1) + 20 * random.normal(size=300)
    images = np.clip(ground + 2 * random.normal(size=(300, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
    return images, labels


@pytest.fixture(scope="module")
def features(extractors, cells, tmp_path_factory) -> np.ndarray:
    return extract_features(extractors, cells[0], "cells", tmp_path_factory.mktemp("features"))


def of_classes(features, cells, classes: int):
    chosen = cells[1] < classes
    return features[chosen], cells[0][chosen], cells[1][chosen], np.arange(chosen.sum()) // classes % 4


def half(array: np.ndarray) -> np.ndarray:
    return array[: len(array) // 2]


def test_features_are_those_of_each_backbone_side_by_side(extractors, cells, features):
    assert features.shape == (300, 256 + 1280)
    assert features.dtype == np.float32
    resize = Chain.from_json([{"op": "resize", "height": 32, "width": 32}])
    small = np.stack([resize(each) for each in cells[0]])
    for extractor, pixels, found in zip(
        extractors, (small, cells[0]), (features[:, :256], features[:, 256:]), strict=True
    ):
        expected = predict_activations(extractor, [pixels])
        # 300 images pass by the fastest way, which is as near to TensorFlow's as single precision is to double.
        np.testing.assert_allclose(found, expected, rtol=0, atol=choose_way(300).tolerance * expected.max())


def test_an_extractor_is_the_lower_part_of_a_classifier(images):
    model = build_classifier("vgg16", 2, (32, 32), weights="random", seed=3)
    extractor = build_extractor("vgg16", (32, 32), "random", seed=3)
    np.testing.assert_allclose(extractor(images), split_at(model)[0](images), atol=1e-6)
    assert not extractor.trainable_variables


def test_features_are_computed_once_for_each_backbone_and_way_of_looking(extractors, cells, tmp_path):
    few = cells[0][:6]
    both = extract_features(extractors, few, "few", tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    assert len(written) == 2
    swapped = extract_features(extractors[::-1], few, "few", tmp_path)
    single = extract_features(extractors[:1], few, "few", tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")} == written
    np.testing.assert_array_equal(single, both[:, :256])
    np.testing.assert_array_equal(swapped, np.concatenate([both[:, 256:], both[:, :256]], axis=1))

    crop = [[{"op": "center_crop", "height": 32, "width": 32}]]
    cropped = extract_features(extractors[:1], few, "few", tmp_path, steps=crop)
    assert np.abs(cropped - single).max() > 1e-3
    assert len(list(tmp_path.glob("*.npy"))) == 3


@pytest.mark.parametrize("classes", [2, 3])
def test_the_model_decides_as_the_support_vector_machine(extractors, cells, features, classes):
    known, pixels, labels, folds = of_classes(features, cells, classes)
    fitted = fit_feature_classifier("linear_svm", half(known), half(labels), classes, half(folds))
    found = predict_outputs(build_feature_model(extractors, fitted), [pixels])
    np.testing.assert_allclose(found["decision_values"], fitted.decide(known), atol=CLOSE)
    np.testing.assert_array_equal(found["label_index"], fitted.pipeline.predict(known.astype(float)))
    np.testing.assert_allclose(found["probabilities"], fitted.predict(known)[0], atol=CLOSE)
    fresh = slice(len(labels) // 2, None)
    assert np.mean(found["label_index"][fresh] == labels[fresh]) > 1 / classes + 0.15  # it did learn


@pytest.mark.parametrize("classes", [2, 3])
def test_the_model_decides_as_the_perceptron(extractors, cells, features, classes):
    known, pixels, labels, _ = of_classes(features, cells, classes)
    fitted = fit_feature_classifier("mlp", half(known), half(labels), classes)
    found = predict_outputs(build_feature_model(extractors, fitted), [pixels])
    assert set(found) == {"probabilities", "label_index"}
    assert len(np.unique(found["label_index"])) == classes
    np.testing.assert_array_equal(found["label_index"], fitted.pipeline.predict(known.astype(float)))
    np.testing.assert_allclose(found["probabilities"], fitted.predict(known)[0], atol=CLOSE)


def test_features_are_found_again_by_a_later_process():
    """Equal settings make an equal description, whatever Keras counted in between."""
    again = build_extractor("mobilenet", (32, 32), "random", 0.25, seed=1)
    keras.layers.Dense(2)(keras.layers.ReLU()(keras.Input((3,))))
    assert again.to_json() == build_extractor("mobilenet", (32, 32), "random", 0.25, seed=1).to_json()
    vgg = [build_extractor("vgg16", (32, 32), "random").to_json() for _ in range(2)]
    assert vgg[0] == vgg[1]


@pytest.mark.realdata
def test_the_model_decides_as_the_support_vector_machine_on_real_cells(real_data, real_weights):
    """Real features are sparse and of many scales; the images are four classes of blood cells."""
    size = (96, 96)
    chosen = {"mobilenet": 0.25, "mobilenet_v2": 0.35}
    extractors = [
        build_extractor(name, size, "imagenet", alpha, real_weights) for name, alpha in chosen.items()
    ]
    folders = sorted(path for path in (real_data / "aria" / "Original").iterdir() if path.is_dir())
    files = [path for folder in folders for path in sorted(folder.glob("*.jpg"))[:60]]
    images = [cv2.resize(cv2.imread(str(path)), size)[:, :, ::-1] for path in files]
    pixels, labels = np.stack(images), np.repeat(np.arange(4), 60)
    features = np.concatenate([predict_activations(each, [pixels]) for each in extractors], axis=1)
    fitted = fit_feature_classifier("linear_svm", features, labels, 4, np.arange(240) % 60 // 12)
    found = predict_outputs(build_feature_model(extractors, fitted), [pixels[:100], pixels[100:]])
    np.testing.assert_array_equal(found["label_index"], fitted.pipeline.predict(features.astype(float)))
    np.testing.assert_allclose(found["decision_values"], fitted.decide(features), atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["linear_svm", "mlp"])
def test_layers_equal_scikit_learn_on_made_up_features(name, classes):
    """Hundreds of features of all scales, one of them constant, without a backbone before them."""
    random = np.random.default_rng(classes)
    labels = np.arange(400) % classes
    centres = 0.3 * random.normal(size=(classes, 300))
    features = np.maximum(centres[labels] + random.normal(size=(400, 300)), 0) * np.logspace(-2, 2, 300)
    features = features.astype(np.float32)
    features[:, 7] = 3.0
    fitted = fit_feature_classifier(name, features[:200], labels[:200], classes, np.arange(200) // 3 % 4)
    found = predict_outputs(build_feature_model([passing_on(300)], fitted), [as_images(features)])
    np.testing.assert_array_equal(found["label_index"], fitted.pipeline.predict(features.astype(float)))
    np.testing.assert_allclose(found["probabilities"], fitted.predict(features)[0], atol=1e-4)
    if name == "linear_svm":
        np.testing.assert_allclose(found["decision_values"], fitted.decide(features), atol=1e-4)
        assert np.abs(fitted.decide(features)).max() > 1


def passing_on(width: int) -> keras.Model:
    """An extractor whose features are the pixels of images of one row."""
    image = keras.Input((1, width // 3, 3))
    return keras.Model(image, keras.layers.Flatten()(image), name="pixels_as_features")


def as_images(features: np.ndarray) -> np.ndarray:
    return features.reshape(len(features), 1, -1, 3)


def test_saved_and_reloaded_it_is_the_same_and_frozen(extractors, cells, features, tmp_path):
    known, pixels, labels, folds = of_classes(features, cells, 2)
    model = build_feature_model(extractors, fit_feature_classifier("linear_svm", known, labels, 2, folds))
    assert not model.trainable_variables
    save_model(model, tmp_path / "model.keras")
    expected = predict_outputs(model, [pixels[:8]])
    found = predict_outputs(load_model(tmp_path / "model.keras"), [pixels[:8]])
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_exported_it_answers_bytes_with_the_decision_as_label(extractors, cells, features, tmp_path):
    known, pixels, labels, folds = of_classes(features, cells, 2)
    fitted = fit_feature_classifier("linear_svm", known, labels, 2, folds)
    exported = export_saved_model(
        build_feature_model(extractors, fitted), Chain(), ("all", "hem"), tmp_path / "1"
    )
    answer = tf.saved_model.load(str(exported)).signatures["serving_default"]
    files = [cv2.imencode(".png", image[:, :, ::-1])[1].tobytes() for image in pixels[:8]]
    found = answer(image_bytes=tf.constant(files))
    probabilities, decided = fitted.predict(known[:8])
    np.testing.assert_array_equal(found["label_index"], decided)
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, row in CLASSIFIERS.items() if not row.exportable])
def test_what_is_no_sum_of_features_is_refused(name):
    features = np.random.default_rng(0).normal(size=(20, 6))
    fitted = fit_feature_classifier(name, features, np.arange(20) % 2, 2, np.arange(20) // 2 % 2)
    with pytest.raises(ModelError, match=f"only linear_svm, mlp can .* but the classifier is {name}"):
        build_feature_model([passing_on(6)], fitted)


def test_what_does_not_fit_is_refused():
    features = np.random.default_rng(0).normal(size=(20, 6))
    fitted = fit_feature_classifier("mlp", features, np.arange(20) % 2, 2)
    with pytest.raises(ModelError, match="fitted to 6 features, but the extractors give 9"):
        build_feature_model([passing_on(9)], fitted)
    with pytest.raises(SettingsError, match="pixels_as_features is taken"):
        build_feature_model([passing_on(3), passing_on(3)], fitted)
    with pytest.raises(SettingsError, match="at least one backbone"):
        build_feature_model([], fitted)
    with pytest.raises(SettingsError, match=r"as many lists of steps as extractors \(1\)"):
        build_feature_model([passing_on(6)], fitted, steps=[None, None])
