from __future__ import annotations

import inspect
import subprocess
import sys

import keras
import numpy as np
import pytest

from kerasall.errors import ModelError, SettingsError
from kerasall.models.backbones import BACKBONES, get_backbone
from kerasall.models.base import build_backbone, build_preprocess
from kerasall.models.classifier import build_classifier, find_parts, freeze, frozen_cut, split_at

LARGE = ("resnet101", "vgg19", "inception_resnet_v2", "nasnet_large")
ALL_ROWS = pytest.mark.parametrize("row", BACKBONES.values(), ids=list(BACKBONES))
GOLDEN = {  # what the three kinds of preprocessing make of the pixel (0, 128, 255)
    "caffe": (151.061, 11.221, -123.68),
    "tf": (-1.0, 0.00392, 1.0),
    "torch": (-2.1179, 0.2052, 2.64),
}


def _keras_module(row):
    return inspect.getmodule(inspect.unwrap(getattr(keras.applications, row.constructor)))


def test_the_ten_architectures_of_the_papers_are_there():
    assert len(BACKBONES) == 10
    assert all(name == row.name for name, row in BACKBONES.items())


def test_table_is_read_without_loading_tensorflow():
    code = "import sys, kerasall.models.backbones; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(SettingsError, match="did you mean 'mobilenet_v2'"):
        get_backbone("mobilenetv2")


@ALL_ROWS
def test_preprocessing_is_that_of_keras_and_the_golden_pixel(row):
    pixels = np.random.default_rng(1).integers(0, 256, (2, 8, 6, 3), dtype=np.uint8)
    pixels[0, 0, 0] = (0, 128, 255)
    found = build_preprocess(row.preprocess, (8, 6))(pixels).numpy()
    np.testing.assert_allclose(found[0, 0, 0], GOLDEN[row.preprocess], atol=1e-3)
    expected = _keras_module(row).preprocess_input(pixels.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_preprocessing_stays_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        part = build_preprocess("caffe", (4, 4))
    finally:
        keras.config.set_dtype_policy("float32")
    found = part(np.full((1, 4, 4, 3), (0, 128, 255), np.uint8)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0, 0], GOLDEN["caffe"], atol=1e-3)


@ALL_ROWS
def test_hashes_and_file_names_are_those_in_the_sources_of_keras(row):
    source = inspect.getsource(_keras_module(row))
    for file in row.weights.values():
        if file.md5:
            assert file.md5 in source
        if not row.takes_alpha:
            # ResNets put the name together from two pieces.
            assert file.name.removeprefix(row.name) in source.replace('"\n                "', "")
        assert file.url.rsplit("/", 1)[0].removeprefix(
            "https://storage.googleapis.com/tensorflow/"
        ) in source.replace('"\n    "', "")


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=pytest.mark.slow if name in LARGE else ()) for name, row in BACKBONES.items()],
    ids=list(BACKBONES),
)
def test_row_describes_the_network_and_cutting_it_changes_nothing(row):
    size = (row.min_size, row.min_size + 8)
    model = build_classifier(row.name, 3, size, weights="random")
    parts = find_parts(model)
    assert parts.row is row
    last = parts.backbone.get_layer(row.last_convolution).output
    assert last.shape[-1] == parts.backbone.output_shape[-1]
    names = {layer.name for layer in parts.backbone.layers}
    assert not names & set(row.blocks), "a block named like a layer would be ambiguous"
    assert {layer for boundary in row.blocks.values() for layer in boundary} <= names

    images = np.random.default_rng(2).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    _spread(parts.head, parts.backbone(parts.preprocess(images)))
    expected = model(images).numpy()
    assert np.ptp(expected, axis=0).max() > 0.01, "the images must differ in their probabilities"
    middle = list(row.blocks)[len(row.blocks) // 2]
    for cut in (None, middle, row.last_convolution):
        prefix, suffix = split_at(model, cut)
        np.testing.assert_allclose(suffix(prefix(images)).numpy(), expected, atol=1e-5)

    freeze(model, unfreeze_from=middle)
    assert frozen_cut(model) == middle
    assert not split_at(model, middle)[0].trainable_variables


def _spread(head: keras.Model, features) -> None:
    """Standardises the difference of two images' pooled features into the last layer, so that it shows."""
    pooled = np.asarray(features).mean(axis=(1, 2))
    difference = pooled[0] - pooled[1]
    kernel = np.stack([difference, -difference, 0 * difference], axis=1) / (difference @ difference)
    bias = -pooled.mean(axis=0) @ kernel
    head.get_layer("probabilities").set_weights([kernel, bias])


@ALL_ROWS
@pytest.mark.slow
def test_every_block_is_a_place_to_cut(row):
    model = build_classifier(row.name, 2, (row.min_size + 21,) * 2, weights="random")
    images = np.random.default_rng(2).integers(0, 256, (1, *model.input_shape[1:]), dtype=np.uint8)
    for block in row.blocks:
        prefix, suffix = split_at(model, block)
        assert suffix.input_shape == prefix.output_shape
        freeze(model, unfreeze_from=block)
        assert frozen_cut(model) == block
    np.testing.assert_allclose(suffix(prefix(images)).numpy(), model(images).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "alpha", "width"),
    [
        ("mobilenet", 0.25, 256),
        ("mobilenet", 0.75, 768),
        ("mobilenet", 1.4, 1433),
        ("mobilenet_v2", 0.25, 1280),  # never below the full width
        ("mobilenet_v2", 0.75, 1280),
        ("mobilenet_v2", 1.4, 1792),
    ],
)
def test_width_follows_alpha(name, alpha, width):
    assert build_backbone(name, (32, 32), "random", alpha).output_shape[-1] == width


def test_names_do_not_depend_on_what_was_built_before():
    names = [[op.name for op in build_backbone("xception", (71, 71), "random").operations] for _ in range(2)]
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (31, 40)}, "at least 32 pixels"),
        ({"alpha": 0.0}, "positive alpha"),
        ({"backbone": "vgg16", "alpha": 0.5}, "only the MobileNets"),
        ({"backbone": "vgg"}, "did you mean 'vgg1"),
    ],
)
def test_what_cannot_be_built_is_said(small_classifier, changes, message):
    with pytest.raises(SettingsError, match=message):
        small_classifier(**changes)


def test_no_cut_where_a_branch_passes_by(small_classifier):
    model = small_classifier(backbone="mobilenet_v2", alpha=0.35)
    with pytest.raises(ModelError, match="others bypass 'block_15_expand'"):
        split_at(model, "block_15_expand")
    with pytest.raises(ModelError, match="did you mean 'block_15'"):
        split_at(model, "blok_15")
