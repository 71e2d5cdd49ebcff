from __future__ import annotations

import random

import keras
import numpy as np
import pytest

from kerasall.errors import ModelError, SettingsError
from kerasall.models.base import HeadSettings
from kerasall.models.classifier import (
    build_classifier,
    find_parts,
    freeze,
    frozen_cut,
    rename,
    split_at,
    with_new_head,
)

RATE = 0.05


def _copies(layers) -> list[np.ndarray]:
    return [np.array(weight) for layer in layers for weight in layer.weights]


def _equal(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def _fit(model: keras.Model, inputs, targets, epochs: int = 1, batch_size: int = 4) -> None:
    model.compile(keras.optimizers.SGD(RATE, momentum=0.9), "categorical_crossentropy", jit_compile=False)
    model.fit(inputs, targets, epochs=epochs, batch_size=batch_size, shuffle=False, verbose=0)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_probabilities_are_float32_under_any_policy(small_classifier, images, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = small_classifier(head=HeadSettings(dense=(8,)))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.dtype_policy.name == policy
    found = model(images).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    inner = find_parts(model).backbone.get_layer("conv_pw_13").compute_dtype
    assert inner == {"float32": "float32", "mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}[policy]


def test_uint8_and_float_pixels_give_the_same(small_classifier, images):
    model = small_classifier()
    np.testing.assert_array_equal(model(images), model(images.astype(np.float32)))


def test_parts_and_their_names(small_classifier):
    assert [layer.name for layer in small_classifier().layers] == ["image", "preprocess", "mobilenet", "head"]
    named = small_classifier(name="fold_1", backbone="vgg16", alpha=1.0)
    assert [layer.name for layer in named.layers] == [
        "image",
        "fold_1_preprocess",
        "fold_1_vgg16",
        "fold_1_head",
    ]
    assert find_parts(named).row.name == "vgg16"
    rename(named, "mobilenet")  # a name that is itself a backbone's must not mislead
    assert named.layers[2].name == "mobilenet_vgg16"
    assert find_parts(named).row.name == "vgg16"


def test_a_name_that_keras_cannot_use_is_refused(small_classifier):
    with pytest.raises(SettingsError, match="letter or digit"):
        small_classifier(name="fold/1")


def test_a_model_of_another_make_is_refused():
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ModelError, match="build_classifier"):
        find_parts(other)


@pytest.mark.parametrize("count", [3, pytest.param(9, marks=pytest.mark.slow)])
def test_equal_networks_live_in_one_graph(small_classifier, images, tmp_path, count):
    members = [small_classifier(name=f"member_{i}", seed=i) for i in range(count)]
    image = keras.Input((32, 32, 3), name="image")
    ensemble = keras.Model(image, keras.layers.Average()([member(image) for member in members]))
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras", safe_mode=True)
    expected = np.mean([member(images).numpy() for member in members], axis=0)
    np.testing.assert_allclose(loaded(images).numpy(), expected, atol=1e-6)


def test_same_seed_gives_bit_equal_weights_and_global_randomness_is_untouched(small_classifier):
    state = random.getstate()
    numpy_state = np.random.get_state()[1].copy()
    first, second, other = (small_classifier(seed=seed, head=HeadSettings((8,), 0.5)) for seed in (7, 7, 8))
    assert _equal(_copies([first]), _copies([second]))
    assert not _equal(_copies([first]), _copies([other]))
    assert random.getstate() == state
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_random_weights_train_everything_and_pretrained_start_frozen(small_classifier, real_weights):
    model = small_classifier()
    norm = find_parts(model).backbone.get_layer("conv1_bn")
    assert len(norm.trainable_variables) == 2
    assert frozen_cut(model) is None
    pretrained = small_classifier(weights="imagenet", weights_folder=real_weights)
    assert frozen_cut(pretrained) == "head"
    assert len(pretrained.trainable_variables) == 2


@pytest.mark.parametrize("train_batch_norm", [False, True])
def test_frozen_backbone_stays_bit_equal_in_a_real_fit(settled_classifier, images, targets, train_batch_norm):
    model = settled_classifier()
    parts = find_parts(model)
    freeze(model, train_batch_norm=train_batch_norm)
    before, head = _copies([parts.backbone]), _copies([parts.head])
    _fit(model, images, targets, epochs=2)
    assert _equal(_copies([parts.backbone]), before), "kernels and moving statistics must not move"
    assert not _equal(_copies([parts.head]), head)


def test_unfreezing_from_a_block_moves_that_block_and_nothing_below(settled_classifier, images, targets):
    model = settled_classifier()
    layers = find_parts(model).backbone.layers
    names = [layer.name for layer in layers]
    start = names.index("conv_dw_12")  # the beginning of block 12 but for its padding, which has no weights
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    kernels = [layer for layer in layers[start:] if layer.weights and layer not in norms]
    below, statistics, above = (
        _copies(layers[:start]),
        _copies(norms),
        [_copies([layer]) for layer in kernels],
    )
    freeze(model, unfreeze_from="block_12")
    _fit(model, images, targets, epochs=3)
    assert _equal(_copies(layers[:start]), below)
    assert _equal(_copies(norms), statistics)
    assert len(kernels) == 4
    for layer, old in zip(kernels, above, strict=True):
        assert not _equal(_copies([layer]), old), f"{layer.name} must train"


def test_batch_norm_trains_above_the_block_when_asked(settled_classifier, images, targets):
    model = settled_classifier()
    freeze(model, unfreeze_from="block_12", train_batch_norm=True)
    backbone = find_parts(model).backbone
    below, above = backbone.get_layer("conv_pw_11_bn"), backbone.get_layer("conv_pw_12_bn")
    old = _copies([below]), _copies([above])
    _fit(model, images, targets)
    assert _equal(_copies([below]), old[0])
    assert not _equal(_copies([above]), old[1])


def test_freezing_anew_forgets_the_last_choice(small_classifier):
    model = small_classifier()
    everything = len(model.trainable_variables)
    freeze(model)
    freeze(model, "all", train_batch_norm=True)
    assert len(model.trainable_variables) == everything
    freeze(model, "all")
    assert len(model.trainable_variables) == 27 + 2, "27 convolutions, and the head's kernel and bias"


@pytest.mark.parametrize(
    ("name", "lowest"),
    [("conv5", "conv5_block1"), ("conv4_block6", "conv4_block6"), ("conv2", "conv2_block1")],
)
def test_beginning_of_names_means_the_lowest_block(name, lowest):
    model = build_classifier("resnet50", 2, (32, 32), weights="random")
    freeze(model, unfreeze_from=name)
    assert frozen_cut(model) == lowest
    trained = [layer.name for layer in find_parts(model).backbone.layers if layer.trainable_variables]
    assert trained[0].startswith(lowest)


def test_unknown_block_is_answered_with_the_nearest(small_classifier):
    with pytest.raises(SettingsError, match="did you mean 'block_12'"):
        freeze(small_classifier(), unfreeze_from="blok_12")


@pytest.mark.parametrize(
    ("backbone", "alpha", "cut"),
    [
        ("mobilenet", 0.25, "head"),
        ("mobilenet", 0.25, "block_12"),
        pytest.param("mobilenet_v2", 0.35, "block_14", marks=pytest.mark.slow),
    ],
)
def test_training_the_suffix_is_training_the_whole_with_its_base_frozen(
    settled_classifier, images, targets, backbone, alpha, cut
):
    whole, cut_model = (
        settled_classifier(backbone=backbone, alpha=alpha, head=HeadSettings((8,))) for _ in range(2)
    )
    for model in (whole, cut_model):
        freeze(model, unfreeze_from=None if cut == "head" else cut)
    start = _copies([whole])
    assert frozen_cut(cut_model) == cut
    prefix, suffix = split_at(cut_model, frozen_cut(cut_model))
    _fit(whole, images, targets)  # three steps of four images
    _fit(suffix, prefix.predict(images, verbose=0), targets)
    moved = _copies([whole])
    changes = [abs(new - old).max() for new, old in zip(moved, start, strict=True)]
    trained = len(whole.trainable_variables)
    assert sum(change > 1e-4 for change in changes) == sum(change > 0 for change in changes) == trained
    for found, expected in zip(_copies([cut_model]), moved, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_cut_model_is_saved_and_read_as_before(small_classifier, images, tmp_path):
    model = small_classifier()
    freeze(model, unfreeze_from="block_13")
    split_at(model), split_at(model, "block_12")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(images).numpy(), model(images).numpy(), atol=1e-6)
    assert frozen_cut(loaded) == "block_13", "what is frozen is part of the file"
    prefix, suffix = split_at(loaded, "block_12")
    np.testing.assert_allclose(suffix(prefix(images)).numpy(), model(images).numpy(), atol=1e-6)


@pytest.mark.parametrize(("dense", "dropout"), [((0,), 0.0), ((4.5,), 0.0), ((), 1.0), ((), -0.1)])
def test_impossible_heads_are_refused(dense, dropout):
    with pytest.raises(SettingsError, match=r"head\."):
        HeadSettings(dense=dense, dropout=dropout)


def test_one_class_is_refused(small_classifier):
    with pytest.raises(SettingsError, match="at least 2 classes"):
        small_classifier(classes=1)


def test_dropout_works_only_in_training(small_classifier, images):
    model = small_classifier(head=HeadSettings((16,), dropout=0.5))
    np.testing.assert_array_equal(model(images), model(images))
    features = np.ones((2, 1, 1, 256), np.float32)
    head = find_parts(model).head
    assert not np.array_equal(head(features, training=True), head(features, training=True))


def test_a_new_head_is_that_of_a_network_built_anew(small_classifier, images, tmp_path):
    """Also after the first one's head was trained, and down to the description that a file of it holds."""
    find_parts(small_classifier()).backbone.save_weights(tmp_path / "first.weights.h5")
    head = HeadSettings(dense=(8,), dropout=0.3)
    settings = {"weights": tmp_path / "first.weights.h5", "head": head}
    first = small_classifier(seed=1, **settings)
    _fit(split_at(first)[1], np.ones((8, 256), np.float32), np.eye(3, dtype=np.float32)[np.arange(8) % 3])
    keras.utils.clear_session()
    shared, anew = with_new_head(first, head, 2), small_classifier(seed=2, **settings)
    assert _equal(_copies([shared]), _copies([anew]))
    assert not _equal(_copies([shared]), _copies([first]))
    assert shared.to_json() == anew.to_json()
    assert [v.path for v in shared.trainable_variables] == [v.path for v in anew.trainable_variables]
    np.testing.assert_array_equal(shared(images), anew(images))
    before = _copies([first])
    _fit(split_at(shared)[1], np.ones((8, 256), np.float32), np.eye(3, dtype=np.float32)[np.arange(8) % 3])
    assert _equal(_copies([first]), before)


def test_some_batches_of_new_images_are_normalised_in_use_as_in_training(small_classifier, tmp_path):
    """Also from stored weights: with Keras' own momentum of .99 the answers would still be those of other images."""
    small_classifier().save(tmp_path / "stored.keras")
    model = small_classifier(weights=tmp_path / "stored.keras")
    freeze(model, unfreeze_from="all", train_batch_norm=True)
    model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy", jit_compile=False)
    batch = np.random.default_rng(0).integers(150, 250, (8, 32, 32, 3)).astype(np.float32)
    before = np.abs(model(batch, training=False) - model(batch, training=True)).max()
    for _ in range(120):
        model.train_on_batch(batch, np.eye(3, dtype=np.float32)[np.arange(8) % 3])
    after = np.abs(model(batch, training=False) - model(batch, training=True)).max()
    assert after < 0.1 * before
