"""Activations are computed once per content, equal the prefix's own, and never mistaken for others."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from kerasall.errors import DataError
from kerasall.models.classifier import build_classifier, pooled_above, split_at
from kerasall.models.passes import PLAIN, WAYS
from kerasall.models.prediction import activations_key, cached_activations


def make_prefix(
    backbone: str = "mobilenet", seed: int = 0, name: str | None = None, **options
) -> keras.Model:
    model = build_classifier(backbone, 2, (32, 32), weights="random", seed=seed, name=name, **options)
    return split_at(model, "head")[0]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), np.uint8)


def test_cached_activations_equal_the_prefix_and_are_read_again(tmp_path, pixels):
    prefix = make_prefix(alpha=0.25)
    first = cached_activations(prefix, pixels, "key", tmp_path)
    np.testing.assert_allclose(first, prefix(pixels.astype(np.float32)).numpy(), atol=1e-5)
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    again = cached_activations(make_prefix(alpha=0.25, name="other"), pixels, "key", tmp_path, memory_bytes=1)
    assert isinstance(again, np.memmap)
    np.testing.assert_array_equal(first, again)
    assert file.stat().st_mtime_ns == before


def test_keys_tell_apart_weights_pixels_architectures_and_preprocessing():
    key = activations_key(make_prefix(alpha=0.25), "key", 70)
    assert key != activations_key(make_prefix(alpha=0.25), "other pixels", 70)
    assert key != activations_key(make_prefix(alpha=0.25, seed=1), "key", 70)
    assert key != activations_key(make_prefix("mobilenet_v2", alpha=0.35), "key", 70)
    image = keras.Input((4, 4, 3))
    scaled = [keras.Model(image, keras.layers.Rescaling(scale)(image)) for scale in (1 / 255, 1 / 127.5)]
    assert activations_key(scaled[0], "key", 70) != activations_key(scaled[1], "key", 70)


@pytest.mark.parametrize(
    ("backbone", "options", "block"),
    [("mobilenet", {"alpha": 0.25}, "block_13"), ("mobilenet_v2", {"alpha": 0.35}, "block_16"), ("vgg16", {}, "block5")],
)  # fmt: skip
def test_pooled_features_may_go_on_from_a_lower_cut_and_the_pixels_are_passed_once(
    tmp_path, pixels, backbone, options, block
):
    model = build_classifier(backbone, 2, (32, 32), weights="random", seed=0, **options)
    below, pooled = split_at(model, block)[0], split_at(model, "head")[0]
    stored = cached_activations(below, pixels, "key", tmp_path / "below")
    through = cached_activations(
        pooled,
        np.zeros_like(pixels),  # must not be looked at
        "key",
        tmp_path / "through",
        lower=lambda: (pooled_above(model, block), stored),
    )
    direct = cached_activations(pooled, pixels, "key", tmp_path / "direct")
    np.testing.assert_allclose(through, direct, rtol=1e-5, atol=1e-6)
    assert [p.name for p in (tmp_path / "through").iterdir()] == [
        p.name for p in (tmp_path / "direct").iterdir()
    ]


def test_a_lower_cut_is_not_asked_for_where_the_activations_are_stored(tmp_path, pixels):
    prefix = make_prefix(alpha=0.25)
    first = cached_activations(prefix, pixels, "key", tmp_path)
    again = cached_activations(prefix, pixels, "key", tmp_path, lower=lambda: pytest.fail("asked"))
    np.testing.assert_array_equal(first, again)


def test_the_way_is_of_the_key_and_of_the_pass(tmp_path, pixels, monkeypatch):
    prefix = make_prefix(alpha=0.25)
    plain = cached_activations(prefix, pixels, "key", tmp_path)
    folded = replace(next(way for way in WAYS if way.name == "folded"), least_images=1)
    monkeypatch.setattr("kerasall.models.passes.WAYS", (folded, PLAIN))
    assert activations_key(prefix, "key", 70) != activations_key(prefix, "key", 0)
    found = cached_activations(prefix, pixels, "key", tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    np.testing.assert_allclose(found, plain, atol=1e-5 * np.abs(plain).max())


def test_pixels_without_a_key_are_refused(tmp_path, pixels):
    """Else the activations of others of the same shape would be taken for theirs."""
    with pytest.raises(DataError, match="these have none: give decode_pixels"):
        cached_activations(make_prefix(alpha=0.25), pixels, "", tmp_path)
    assert not list(tmp_path.iterdir())
