"""Every way gives TensorFlow's numbers, those of the moment; one that does not is not taken, whatever it is."""

from __future__ import annotations

import re
from dataclasses import replace

import keras
import numpy as np
import pytest

from kerasall.models.backbones import BACKBONES
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
    assert "passed by TensorFlow alone" in line
    assert re.search(said, line)


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
