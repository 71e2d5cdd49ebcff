"""Maps: found where the evidence was planted, gone with the weights, and never made up."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import spearmanr

from kerasall.errors import ModelError, SettingsError
from kerasall.models.backbones import BACKBONES
from kerasall.models.base import HeadSettings
from kerasall.models.classifier import build_classifier, find_parts, split_at
from kerasall.models.deep_features import build_extractor, build_feature_model
from kerasall.models.ensembles import build_ensemble
from kerasall.models.explanation import (
    METHODS,
    Explainer,
    explain,
    grad_cam,
    grad_cam_plus_plus,
    served_explanations,
)
from kerasall.models.explanation_networks import find_networks, rule_weights
from kerasall.models.feature_classifiers import fit_feature_classifier
from kerasall.models.saving import load_model, save_model

SIDE = 32
SQUARE = 7
HALF_CELL = 2
"""Half of what one value of the toy's map covers, in pixels: no map is sharper."""
PLACES = [(1, 2), (3, 22), (12, 12), (23, 3), (21, 22)]
QUICK = ("mobilenet", "vgg16", "xception")
SIZES = {"xception": 96, "inception_resnet_v2": 128}


def noise(count: int, side: int = SIDE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 120, (count, side, side, 3), dtype=np.uint8)


def plant(images: np.ndarray, places) -> np.ndarray:
    """The images with a bright square whose upper left corner is at its place."""
    planted = images.copy()
    for image, (row, column) in zip(planted, places, strict=True):
        image[row : row + SQUARE, column : column + SQUARE] = 230
    return planted


def build_toy() -> keras.Model:
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(12, 3, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(12, 3, padding="same", activation="relu", name="last")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2, activation="softmax")(x), name="toy")


@pytest.fixture(scope="module")
def toy() -> keras.Model:
    """A network that was taught in seconds to tell images with a bright square (class 1) from images without."""
    keras.utils.set_random_seed(3)
    model = build_toy()
    random = np.random.default_rng(1)
    images = noise(320, seed=1)
    images[::2] = plant(images[::2], random.integers(0, SIDE - SQUARE, (160, 2)))
    labels = np.eye(2)[np.arange(320) % 2][:, ::-1]
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(images, labels, batch_size=32, epochs=10, verbose=0)
    assert history.history["accuracy"][-1] > 0.97
    return model


@pytest.fixture(scope="module")
def planted() -> np.ndarray:
    return plant(noise(len(PLACES), seed=9), PLACES)


@functools.cache
def built(name: str) -> keras.Model:
    """A classifier with random weights of every backbone, built once."""
    size = SIZES.get(name, 64)
    return build_classifier(name, 3, (size, size), weights="random", seed=0)


@functools.cache
def explained(name: str) -> Explainer:
    """Its explainer, traced once."""
    return Explainer(built(name))


def settle(model: keras.Model, backbone: keras.Model) -> keras.Model:
    """Gives batch normalisation the statistics of noise, so that a signal passes through random weights."""
    norms = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    model.trainable = True
    for layer in norms:
        layer.momentum = 0.0
    model(noise(8, model.input_shape[1], 11), training=True)
    return model


def lively(size: int = 64, seed: int = 0, **settings) -> keras.Model:
    model = build_classifier(
        "mobilenet", 3, (size, size), weights="random", alpha=0.25, seed=seed, **settings
    )
    return settle(model, find_parts(model).backbone)


backbones = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES]
)


@pytest.mark.parametrize("method", METHODS)
def test_the_map_peaks_inside_a_planted_object_wherever_it_is(toy, planted, method):
    corners = np.concatenate([PLACES, np.random.default_rng(5).integers(0, SIDE - SQUARE, (60, 2))])
    images = np.concatenate([planted, plant(noise(60, seed=12), corners[len(PLACES) :])])
    found = Explainer(toy).explain(images, 1, method)
    assert found.has_evidence.all()
    peaks = np.array([np.unravel_index(each.argmax(), each.shape) for each in found.heatmaps])
    depth = np.minimum(peaks - corners, corners + SQUARE - 1 - peaks).min(axis=1)
    assert (depth >= -HALF_CELL).all()
    assert (depth >= 0).mean() > 0.7
    for heatmap, (row, column) in zip(found.heatmaps, corners, strict=True):
        around = np.s_[max(row - 2, 0) : row + SQUARE + 2, max(column - 2, 0) : column + SQUARE + 2]
        assert heatmap[around].sum() / heatmap.sum() > 0.3  # of 12% of the image at most


def test_two_objects_are_both_found(toy):
    image = plant(plant(noise(1, seed=4), [(2, 3)]), [(22, 20)])
    heatmap = Explainer(toy).explain(image, 1, "grad_cam_plus_plus").heatmaps[0]
    squares = [heatmap[2 : 2 + SQUARE, 3 : 3 + SQUARE], heatmap[22 : 22 + SQUARE, 20 : 20 + SQUARE]]
    outside = (heatmap.sum() - sum(each.sum() for each in squares)) / (SIDE**2 - 2 * SQUARE**2)
    assert min(each.mean() for each in squares) > 2 * outside


def test_randomising_the_weights_from_the_top_down_changes_the_map(toy, planted):
    """Cascading randomisation (Adebayo et al. 2018): a map that stays would show the image, not the model."""
    original = Explainer(toy).explain(planted, 1).heatmaps
    copy = keras.models.clone_model(toy)
    explainer, likeness = Explainer(copy), []
    for seed in range(6):
        random = np.random.default_rng(seed)
        copy.set_weights(toy.get_weights())
        np.testing.assert_array_equal(explainer.explain(planted, 1).heatmaps, original)
        for layer in reversed([layer for layer in copy.layers if layer.weights]):
            layer.set_weights([random.normal(0, w.std() + 0.1, w.shape) for w in layer.get_weights()])
            likeness.append(mean_rank_correlation(explainer.explain(planted, 1).heatmaps, original))
    stages = np.reshape(likeness, (6, 4)).mean(axis=0)
    assert (stages < 0.8).all(), stages  # a random head alone keeps a map or turns it round, by chance
    assert stages[-1] < 0.5, stages


def mean_rank_correlation(maps: np.ndarray, others: np.ndarray) -> float:
    """Spearman's rank correlation, image by image; a map of zeros is like none."""
    pairs = zip(maps, others, strict=True)
    return float(
        np.mean([spearmanr(a.ravel(), b.ravel())[0] if a.any() and b.any() else 0.0 for a, b in pairs])
    )


@backbones
def test_under_a_linear_head_the_map_is_the_activations_by_the_heads_weights(name):
    model, size = built(name), SIZES.get(name, 64)
    pixels, classes = noise(2, size), np.array([2, 0])
    prefix, _ = split_at(model, find_parts(model).row.last_convolution)
    kernel = find_parts(model).head.get_layer("probabilities").kernel.numpy()
    weights = (kernel - kernel.mean(axis=1, keepdims=True))[:, classes]
    activations = np.asarray(prefix(pixels), np.float32)
    signed = np.einsum("nhwk,kn->nhw", activations, weights)
    expected = np.maximum(tf.image.resize(signed[..., None], (size, size))[..., 0].numpy(), 0)
    found = explained(name).explain(pixels, classes)
    np.testing.assert_array_equal(found.has_evidence[:, 0], expected.max(axis=(1, 2)) > 0)
    peaks = np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-37)
    np.testing.assert_allclose(found.heatmaps, expected / peaks, atol=1e-3)
    np.testing.assert_allclose(found.raw[:, 0, 1], signed.mean(axis=(1, 2)), rtol=1e-3, atol=1e-30)


@backbones
def test_maps_of_two_classes_differ_and_none_is_made_up(name):
    pixels = noise(2, SIZES.get(name, 64), 7)
    for method in METHODS:
        maps = [explained(name).explain(pixels, index, method) for index in range(3)]
        for one in maps:
            assert np.isfinite(one.heatmaps).all()
            np.testing.assert_array_equal(one.heatmaps.max(axis=(1, 2)), one.has_evidence[:, 0])
        assert (np.abs(maps[0].raw - maps[1].raw) > 0).any()
        # Random weights let little through the deepest networks; rounding would differ by 1e-6.
        assert np.abs(maps[0].heatmaps - maps[1].heatmaps).max() > 1e-3


def test_raw_values_add_up_to_the_score():
    model, pixels = lively(), noise(3, 64, 5)
    logits = np.log(model(pixels).numpy())
    scores = logits - logits.mean(axis=1, keepdims=True)
    bias = find_parts(model).head.get_layer("probabilities").bias.numpy()
    bias = bias - bias.mean()
    explainer = Explainer(model)
    for index in range(3):
        raw = explainer.explain(pixels, index).raw
        np.testing.assert_allclose(raw[:, 0, 1] + bias[index], scores[:, index], atol=1e-4)


def test_heads_with_hidden_layers_and_dropout_are_explained():
    model = lively(head=HeadSettings(dense=(16,), dropout=0.5))
    explainer = Explainer(model)
    first, again = (explainer.explain(noise(4, 64), [0, 1, 2, 0]) for _ in range(2))
    np.testing.assert_array_equal(first.heatmaps, again.heatmaps)  # no dropout in an explanation
    assert first.has_evidence.any()
    assert first.heatmaps.std(axis=(1, 2)).max() > 0.1


def test_a_sure_model_is_explained_as_well_as_one_in_doubt():
    model, pixels = lively(), noise(2, 64)
    dense = find_parts(model).head.get_layer("probabilities")
    explainer = Explainer(model)
    before = explainer.explain(pixels, 1).heatmaps
    dense.set_weights([1e4 * weight for weight in dense.get_weights()])
    assert set(np.unique(model(pixels).numpy())) == {0.0, 1.0}  # a gradient of these is zero
    np.testing.assert_allclose(explainer.explain(pixels, 1).heatmaps, before, atol=1e-4)


def test_a_number_added_to_every_logit_changes_nothing():
    model, pixels = lively(), noise(2, 64)
    dense = find_parts(model).head.get_layer("probabilities")
    explainer = Explainer(model)
    before = explainer.explain(pixels, 0).heatmaps
    kernel, bias = dense.get_weights()
    dense.set_weights([kernel + np.random.default_rng(0).normal(size=(len(kernel), 1)), bias + 3])
    np.testing.assert_allclose(explainer.explain(pixels, 0).heatmaps, before, atol=1e-4)


def _small(top) -> keras.Model:
    image = keras.Input((SIDE, SIDE, 3))
    hidden = keras.layers.Conv2D(6, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    return keras.Model(image, top(keras.layers.MaxPooling2D()(hidden)))


def _sequential() -> keras.Model:
    layers = keras.layers
    base = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Conv2D(6, 3, strides=2, activation="relu")])
    return keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), base, layers.GlobalMaxPooling2D(), layers.Dense(3), layers.Softmax()]
    )


def _stock(name: str, **options) -> keras.Model:
    constructor = getattr(keras.applications, name)
    return constructor(weights=None, input_shape=(64, 64, 3), classes=3, **options)


def _wrapped() -> keras.Model:
    image = keras.Input((64, 64, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    return keras.Model(image, _stock("MobileNet", alpha=0.25)(scaled))


OTHERS = {
    "pooled": (lambda: _small(lambda x: keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling2D()(x))), 15),
    "flattened": (lambda: _small(lambda x: keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(x))), 15),
    "no bias": (lambda: _small(lambda x: keras.layers.Dense(3, "softmax", False)(keras.layers.Flatten()(x))), 15),
    "softmax operation": (
        lambda: _small(lambda x: keras.ops.softmax(keras.layers.Dense(3)(keras.layers.Flatten()(x)))), 15
    ),
    "logits": (lambda: _small(lambda x: keras.layers.Dense(3)(keras.layers.Flatten()(x))), 15),
    "sequential": (_sequential, 15),
    "stock MobileNet": (lambda: _stock("MobileNet", alpha=0.25), 2),
    "stock MobileNet inside": (_wrapped, 2),
}  # fmt: skip
"""Models of other make -> how, and the height of their last map of several places."""


@pytest.mark.parametrize("kind", OTHERS)
def test_models_of_any_make_are_explained_by_the_class_they_call(kind):
    make, side = OTHERS[kind]
    keras.utils.set_random_seed(2)
    model = make()
    images = noise(3, model.input_shape[1]) / 255.0
    called = model.predict(images, verbose=0).argmax(axis=1)
    found = explain(model, images)
    assert found.class_indices.tolist() == called.tolist()
    assert found.heatmaps.shape == images.shape[:3]
    assert found.heatmaps.min() >= 0
    assert found.heatmaps.max() <= 1
    np.testing.assert_array_equal(found.heatmaps.max(axis=(1, 2)) > 0, found.has_evidence[:, 0])
    assert find_networks(Explainer(model).model)[0].targets[0].activate.output_shape[1] == side
    alone = explain(model, images[1], class_index=int(called[1]))
    np.testing.assert_allclose(alone.heatmaps[0], found.heatmaps[1], atol=1e-4)


def test_a_sigmoid_is_explained_as_the_softmax_it_stands_for():
    layers = keras.layers
    one = _small(lambda x: layers.Dense(1, "sigmoid", name="z")(layers.Flatten()(x)))
    two = keras.Model(one.inputs[0], layers.Dense(2, "softmax", name="both")(one.get_layer("z").input))
    kernel, bias = one.get_layer("z").get_weights()
    two.get_layer("both").set_weights([np.concatenate([0 * kernel, kernel], axis=1), np.append(0, bias)])
    images = noise(4)
    for index in (None, 0, 1):
        found, expected = explain(one, images, index), explain(two, images, index)
        np.testing.assert_allclose(found.raw, expected.raw, rtol=1e-4, atol=1e-5)
        assert found.class_indices.tolist() == expected.class_indices.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["MobileNetV2", "EfficientNetB0", "DenseNet121", "ResNet50", "VGG16", "ConvNeXtTiny"]
)
def test_stock_models_are_explained(name):
    found = explain(_stock(name), noise(2, 64))
    assert found.heatmaps.shape == (2, 64, 64)


def test_formulas_by_hand():
    activations = np.zeros((1, 2, 2, 2), np.float32)
    activations[0, 0, 0], activations[0, 1, 1] = (4, 0), (0, 3)
    gradients = np.broadcast_to(np.float32([0.5, -1]), (1, 2, 2, 2))
    np.testing.assert_allclose(grad_cam(activations, gradients)[0], [[8, 0], [0, -12]])
    # Channel 1: a = 1 / (2 + 0.5 * 4) at four places, so w = 4 * 0.5 / 4; channel 2 has no positive gradient.
    np.testing.assert_allclose(grad_cam_plus_plus(activations, gradients)[0], [[2, 0], [0, 0]])


@pytest.fixture(scope="module")
def ensemble() -> keras.Model:
    members = [lively(64, seed=0), lively(64, seed=1), lively(64, seed=2)]
    steps = [
        [{"op": "center_crop", "height": 64, "width": 64}],
        [{"op": "pad_to_square"}, {"op": "resize", "height": 64, "width": 64}],
        None,
    ]
    return build_ensemble(
        members, "weighted_average", [0.2, 0.3, 0.5], ["a", "b", "c"], image_size=(112, 96), steps=steps
    )


@pytest.fixture(scope="module")
def ensemble_explainer(ensemble) -> Explainer:
    return Explainer(ensemble)


def wide_noise(count: int) -> np.ndarray:
    return noise(count, 112, 6)[:, :, :96]


@pytest.mark.parametrize("method", METHODS)
def test_an_ensemble_has_a_map_per_member_and_their_weighted_mean(ensemble_explainer, method):
    found = ensemble_explainer.explain(wide_noise(3), 1, method)
    assert found.names == ("a", "b", "c")
    np.testing.assert_allclose(found.weights, [0.2, 0.3, 0.5], atol=1e-6)
    assert found.member_heatmaps.shape == (3, 3, 112, 96)
    mean = np.einsum("m,nmhw->nhw", found.weights, found.member_heatmaps)
    np.testing.assert_allclose(found.heatmaps, mean, atol=1e-6)
    assert np.abs(found.member_heatmaps[:, 1] - found.member_heatmaps[:, 2]).max() > 0.1


def test_a_members_map_lies_where_the_member_looked(ensemble, ensemble_explainer):
    pixels = wide_noise(2)
    found = ensemble_explainer.explain(pixels, 2).member_heatmaps[:, 0]
    crop = np.s_[:, 24:88, 16:80]
    alone = Explainer(ensemble.get_layer("a")).explain(pixels[crop], 2).heatmaps
    np.testing.assert_allclose(found[crop], alone, atol=1e-5)
    outside = found.copy()
    outside[crop] = 0
    assert not outside.any()


def test_saved_and_loaded_models_have_the_same_maps(ensemble, ensemble_explainer, tmp_path):
    before = ensemble_explainer.explain(wide_noise(2), [0, 1])
    save_model(ensemble, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    after = Explainer(loaded).explain(wide_noise(2), [0, 1])
    np.testing.assert_allclose(after.heatmaps, before.heatmaps, atol=1e-5)
    assert after.names == before.names
    np.testing.assert_allclose(after.weights, before.weights)
    member = Explainer(loaded.get_layer("c")).explain(resized(wide_noise(2)), [0, 1]).raw
    np.testing.assert_allclose(member[:, 0, 2], before.raw[:, 2, 2], rtol=0.3)


def resized(pixels: np.ndarray) -> np.ndarray:
    return np.round(tf.image.resize(pixels, (64, 64)).numpy()).astype(np.uint8)


def test_members_weigh_equally_where_the_rule_has_no_weights(ensemble):
    members = [keras.models.clone_model(ensemble.get_layer(name)) for name in "ab"]
    for rule in ("average", "majority_vote", "maximum"):
        np.testing.assert_allclose(rule_weights(build_ensemble(members, rule), 2), 0.5, atol=1e-6)


def test_a_member_without_a_map_is_named_and_the_others_are_shown_without_it():
    small = build_classifier("mobilenet", 3, (32, 32), weights="random", alpha=0.25)  # its last map is 1 x 1
    members = [lively(64, seed=0), small, lively(64, seed=1)]
    model = build_ensemble(members, "weighted_average", [0.2, 0.5, 0.3], ["a", "small", "b"])
    explainer, pixels = Explainer(model), noise(2, 64)
    found = explainer.explain(pixels, 1)
    assert (found.names, list(found.missing)) == (("a", "b"), ["small"])
    assert "1 x 1 for images of 32 x 32 pixels" in found.missing["small"]
    np.testing.assert_allclose(found.weights, [0.4, 0.6])
    expected = 0.4 * found.member_heatmaps[:, 0] + 0.6 * found.member_heatmaps[:, 1]
    np.testing.assert_allclose(found.heatmaps, expected, atol=1e-6)
    with pytest.raises(ModelError, match=r"one: .* use larger images; two: "):
        Explainer(build_ensemble([small, keras.models.clone_model(small)], "average", names=["one", "two"]))


@pytest.mark.slow
def test_members_of_several_architectures():
    members = [built(name) for name in ("vgg16", "xception", "mobilenet")]
    model = build_ensemble(members, "average", image_size=(96, 96))
    found = Explainer(model).explain(noise(2, 96), 0)
    assert found.member_heatmaps.shape == (2, 3, 96, 96)
    assert np.isfinite(found.heatmaps).all()


@pytest.fixture(scope="module")
def extractors() -> list[keras.Model]:
    made = [
        build_extractor("mobilenet", (64, 64), "random", 0.25, name=f"e{seed}", seed=seed) for seed in (0, 1)
    ]
    return [settle(each, each.get_layer("mobilenet")) for each in made]


@pytest.mark.parametrize("classifier", ["linear_svm", "mlp"])
def test_a_classifier_of_deep_features_is_explained_through_all_its_backbones(extractors, classifier):
    pixels = noise(24, 64, 8)
    pixels[::2] = np.minimum(pixels[::2] * 2.0, 255).astype(np.uint8)
    features = np.concatenate([each(pixels, training=False).numpy() for each in extractors], axis=1)
    folds = np.arange(24) // 12
    fitted = fit_feature_classifier(classifier, features, np.arange(24) % 2, 2, folds)
    model = build_feature_model(extractors, fitted)
    found = Explainer(model).explain(pixels[:2], 1)
    assert len(found.names) == 1
    assert np.isfinite(found.heatmaps).all()
    if (
        classifier == "linear_svm"
    ):  # exact: what the map adds up to is the decision, less what no image changes
        decisions = model(pixels[:2], training=False)["decision_values"].numpy()[:, 1]
        scaler, svm = fitted.pipeline[0], fitted.pipeline[-1]
        constant = svm.intercept_[0] - (svm.coef_[0] / scaler.scale_) @ scaler.mean_
        np.testing.assert_allclose(found.raw[:, 0, 1] + constant, decisions, atol=1e-3)


def plain(after_maps, classes: int = 2) -> keras.Model:
    """A convolution, average pooling, what ``after_maps`` does with it, and a softmax."""
    image = keras.Input((8, 8, 3), name="image")
    maps = keras.layers.Conv2D(4, 3, activation="relu", name="last")(image)
    pooled = after_maps(keras.layers.GlobalAveragePooling2D()(maps), image)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax", name="top")(pooled))


def test_where_nothing_speaks_for_a_class_the_map_is_zero_and_says_so():
    model = plain(lambda pooled, _: pooled)
    model.get_layer("last").set_weights([np.ones((3, 3, 3, 4)), np.zeros(4)])
    model.get_layer("top").set_weights([np.tile([1.0, -1.0], (4, 1)), np.zeros(2)])
    found = Explainer(model).explain(noise(2, 8), [0, 1])
    np.testing.assert_array_equal(found.has_evidence[:, 0], [True, False])
    assert found.heatmaps[0].max() == 1
    assert not found.heatmaps[1].any()
    assert found.raw[1, 0, 2] < 0


def test_a_score_without_a_gradient_is_an_error():
    model = plain(lambda pooled, _: keras.ops.stop_gradient(pooled))
    with pytest.raises(ModelError, match="has no gradient there"):
        Explainer(model).explain(noise(1, 8), 0)
    steps = plain(lambda pooled, _: keras.ops.round(pooled))
    with pytest.raises(ModelError, match="gradient"):
        Explainer(steps).explain(noise(1, 8), 0)


def test_a_gradient_of_zero_is_an_error_that_names_the_image():
    hidden = keras.layers.Dense(4, activation="relu")
    model = plain(lambda pooled, _: hidden(pooled))
    hidden.set_weights([np.ones((4, 4)), np.full(4, -1e3)])
    model.get_layer("last").set_weights([np.ones((3, 3, 3, 4)), np.zeros(4)])
    bright = np.full((1, 8, 8, 3), 255, np.uint8)
    assert Explainer(model).explain(bright, 0).raw.any()
    with pytest.raises(ModelError, match="image 1 is zero everywhere"):
        Explainer(model).explain(np.concatenate([bright, bright // 255]), 0)


def test_a_map_that_is_not_a_number_is_an_error():
    model = plain(lambda pooled, _: pooled)
    model.get_layer("last").set_weights([np.full((3, 3, 3, 4), np.inf), np.zeros(4)])
    with pytest.raises(ModelError, match="not a finite number"):
        Explainer(model).explain(noise(1, 8), 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dense_only(), "must have a convolution"),
        (lambda: build_classifier("mobilenet", 2, (32, 32), weights="random", alpha=0.25), "use larger images"),
        (lambda: plain(bypassed), "other layers bypass last"),
        (lambda: keras.Model(*open_ended()), "score before the softmax"),
    ],
)  # fmt: skip
def test_what_cannot_be_explained_is_refused_with_words(make, words):
    with pytest.raises(ModelError, match=words):
        find_networks(make())


def dense_only() -> keras.Model:
    image = keras.Input((8, 8, 3))
    return keras.Model(
        image, keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(image)), name="d"
    )


def bypassed(pooled, image):
    return keras.layers.Concatenate()([pooled, keras.layers.Flatten()(image)])


def open_ended():
    image = keras.Input((8, 8, 3))
    maps = keras.layers.Conv2D(2, 3)(image)
    return image, keras.layers.GlobalAveragePooling2D()(maps)


def test_wrong_images_classes_and_methods_are_refused(toy):
    explainer = Explainer(toy)
    for pixels in (noise(1, 16), noise(1)[0], noise(1)[:0]):
        with pytest.raises(ModelError, match="takes images of shape"):
            explainer.explain(pixels, 0)
    for classes in (2, -1, [0, 1, 0], 0.5):
        with pytest.raises(ModelError, match="from 0 to 1"):
            explainer.explain(noise(2), classes)
    with pytest.raises(SettingsError, match="did you mean 'grad_cam'"):
        explainer.explain(noise(1), 0, "gradcam")


def test_batches_do_not_matter(toy, planted):
    explainer = Explainer(toy)
    whole, single = (explainer.explain(planted, 1, batch_size=size) for size in (16, 1))
    np.testing.assert_allclose(whole.heatmaps, single.heatmaps, atol=1e-6)


def test_what_is_served_fails_with_words_too(toy):
    pixels = tf.constant(noise(1), tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="from 0 to 1"):
        tf.function(served_explanations(Explainer(toy)))(pixels, tf.constant([5]))
    broken = plain(lambda pooled, _: pooled)
    broken.get_layer("last").set_weights([np.full((3, 3, 3, 4), np.inf), np.zeros(4)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be finite"):
        tf.function(served_explanations(Explainer(broken)))(pixels[:, :8, :8], tf.constant([1]))


@pytest.mark.slow
def test_half_precision_is_explained():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = lively()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    found = Explainer(model).explain(noise(2, 64), 1)
    assert found.heatmaps.dtype == np.float32
    assert np.isfinite(found.heatmaps).all()


@pytest.mark.slow
def test_under_jax_the_maps_are_the_same(tmp_path):
    pytest.importorskip("jax")
    model, pixels = lively(), noise(2, 64)
    save_model(model, tmp_path / "model.keras")
    np.save(tmp_path / "pixels.npy", pixels)
    script = (
        "import sys, numpy as np\nfrom kerasall.models.explanation import Explainer\n"
        "from kerasall.models.saving import load_model\n"
        "found = Explainer(load_model(sys.argv[1] + '/model.keras')).explain(np.load(sys.argv[1] + '/pixels.npy'), 1)\n"
        "np.save(sys.argv[1] + '/maps.npy', found.heatmaps)\n"
    )
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environment)
    expected = Explainer(model).explain(pixels, 1).heatmaps
    np.testing.assert_allclose(np.load(tmp_path / "maps.npy"), expected, atol=1e-4)
