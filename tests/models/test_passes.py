"""Every way gives TensorFlow's numbers, those of the moment; one that does not is not taken, whatever it is."""

from __future__ import annotations

import re
from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest

from kerasall.models.backbones import BACKBONES
from kerasall.models.base import build_backbone
from kerasall.models.classifier import build_classifier, split_at
from kerasall.models.passes import OPENVINO, PLAIN, WAYS, choose_way
from kerasall.models.prediction import predict_activations

INSTALLED = [way for way in WAYS if way.is_installed and way is not PLAIN]
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)


@pytest.fixture
def model() -> keras.Model:
    """Batch normalisation whose statistics matter."""
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(8, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    set_statistics(model, 1.0)
    return model


def set_statistics(model, scale):
    model.layers[1].set_weights([np.full(8, scale), np.full(8, 0.5), np.full(8, 2.0), np.full(8, scale)])


def require_equal(found, expected, tolerance=1e-5):
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("way", INSTALLED, ids=lambda way: way.name)
def test_the_numbers_are_those_of_the_moment_for_two_dtypes_and_any_batches(way, model, capsys):
    for scale in (1.0, 3.0):
        set_statistics(model, scale)
        expected = predict_activations(model, [PIXELS])
        for batches in ([PIXELS[:5], PIXELS[5:]], [PIXELS[:1].astype(np.float32), PIXELS[1:]]):
            found = predict_activations(model, batches, way=way)
            require_equal(found, expected)
            assert np.array_equal(predict_activations(model, batches, way=way), found)  # bit by bit
    assert not capsys.readouterr().err


@pytest.mark.parametrize("way", INSTALLED, ids=lambda way: way.name)
@pytest.mark.parametrize(
    "backbone", ["mobilenet", *(pytest.param(n, marks=pytest.mark.slow) for n in BACKBONES if n != "mobilenet")]
)  # fmt: skip
def test_every_backbone_passes_every_way(way, backbone, capsys):
    side = 96 if "xception" in backbone or "inception" in backbone else 64
    pixels = np.random.default_rng(1).integers(0, 256, (10, side, side, 3), np.uint8)
    prefix, _ = split_at(build_classifier(backbone, 3, (side, side), weights="random"))
    found = predict_activations(prefix, [pixels], way=way)
    require_equal(found, predict_activations(prefix, [pixels]))
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda forward: lambda images: forward(images).numpy() * 1.001, "differs by"),
        (lambda forward: lambda images: forward(images).numpy() * np.nan, "differs by nan"),
        (lambda forward: forward.no_such_thing, r"fails \(.*no_such_thing"),
    ],
)
def test_a_way_that_gives_other_numbers_is_left_with_a_line(broken, said, model, capsys):
    expected = predict_activations(model, [PIXELS])
    found = predict_activations(model, [PIXELS[:4], PIXELS[4:]], way=replace(WAYS[-2], open=broken))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    (line,) = capsys.readouterr().err.splitlines()
    assert "not passed by folded, which" in line
    assert re.search(said, line)


@pytest.mark.realdata
def test_no_way_is_further_from_double_precision_than_tensorflow_is(real_data, real_weights, capsys):
    """Cells on black through a network of small activations, where single precision rounds most."""
    files = sorted((real_data / "cnmc_sample").rglob("*.bmp"))[:8]
    pixels = (
        np.stack([cv2.imread(str(file))[113:337, 113:337, ::-1] for file in files]) / np.float32(127.5) - 1
    )

    def build(policy):
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            return build_backbone("mobilenet", (224, 224), weights="imagenet", weights_folder=real_weights)
        finally:
            keras.config.set_dtype_policy(before)

    truth, network = np.asarray(build("float64")(pixels)), build("float32")
    errors = {}
    for way in (*INSTALLED, PLAIN):
        found = predict_activations(network, [pixels], way=way)
        errors[way.name] = np.sqrt(((found - truth) ** 2).mean() / (truth**2).mean())
    assert max(errors.values()) <= 2 * errors["tensorflow"] < 1e-4, errors
    assert not capsys.readouterr().err  # none was left


def test_where_one_way_is_left_the_next_is_taken(model, capsys):
    opened = []
    broken = replace(
        WAYS[0], package="", open=lambda forward: opened.append(forward) or forward.no_such_thing
    )
    found = predict_activations(model, [PIXELS], way=broken)
    require_equal(found, predict_activations(model, [PIXELS]))
    assert len(opened) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_what_is_no_number_stays_none(way):
    if not way.is_installed:
        pytest.skip(f"{way.package} is not installed")
    image = keras.Input((8, 8, 3))
    network = keras.Model(image, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(image)))
    images = np.random.default_rng(0).normal(size=(12, 8, 8, 3)).astype(np.float32)
    bad = images.copy()
    bad[3, 4, 4] = np.nan
    found = predict_activations(network, [images, bad], way=way)
    assert len(found) == 24
    assert np.isnan(found[15]).any()


def test_number_precision_and_device_choose_the_way(monkeypatch):
    assert choose_way(10) == PLAIN
    best = choose_way(5000)
    assert best == next(way for way in WAYS if way.is_installed)
    assert choose_way(5000, "onednn_bfloat16").name == "folded"
    assert choose_way(5000, "onednn_bfloat16").tolerance > best.tolerance
    monkeypatch.setattr("keras.distribution.list_devices", lambda: ["gpu:0"])
    assert choose_way(5000).name == "folded"
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    assert choose_way(5000) == PLAIN


def test_a_missing_package_is_no_way():
    missing = replace(next(way for way in WAYS if way.name == OPENVINO), package="no-such-package")
    assert not missing.is_installed
