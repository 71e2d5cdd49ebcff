from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from kerasall.errors import SettingsError
from kerasall.preprocessing.contrast import CLAHE, ContrastStretch, Gamma, HistogramEqualization
from kerasall.preprocessing.operations import OPERATIONS, CenterCrop, Chain, PadToSquare, Resize
from kerasall.preprocessing.segmentation import CropToContent, HsvThresholdMask, OtsuMask
from kerasall.preprocessing.stain import MacenkoNormalization, ReinhardNormalization, StainShift

CASES = {
    "center_crop": [CenterCrop(20, 30), CenterCrop(60, 11)],
    "resize": [Resize(24, 24), Resize(61, 13, "area"), Resize(20, 20, "bicubic", antialias=True)],
    "pad_to_square": [PadToSquare(), PadToSquare(value=255)],
    "crop_to_content": [CropToContent(tolerance=200, margin=1)],
    "contrast_stretch": [ContrastStretch(5, 90), ContrastStretch(per_channel=True)],
    "gamma": [Gamma(0.5)],
    "histogram_equalization": [HistogramEqualization()],
    "clahe": [CLAHE(), CLAHE(clip_limit=4, tiles=3)],
    "otsu_mask": [OtsuMask(), OtsuMask("grey", "below", 255, opening=1, closing=2, fill_holes=True)],
    "hsv_threshold_mask": [HsvThresholdMask((170, 20, 30), (60, 250, 255), closing=1)],
    "reinhard": [ReinhardNormalization((-0.3, 0.02, 0.01), (0.2, 0.05, 0.03))],
    "macenko": [MacenkoNormalization((0.6, 0.7, 0.3), (0.1, 0.9, 0.4), (1.5, 1.0))],
    "stain_shift": [StainShift(1.3, 0.7), StainShift(darkest=0)],
}
EACH = [pytest.param(op, id=f"{name}{i}") for name, ops in CASES.items() for i, op in enumerate(ops)]


def test_every_operation_has_a_case_and_its_own_name():
    assert set(CASES) == set(OPERATIONS)
    assert {name: kind.name for name, kind in OPERATIONS.items()} == {name: name for name in OPERATIONS}


@pytest.mark.parametrize("operation", EACH)
def test_operation_gives_the_same_everywhere_and_keeps_its_promises(operation, noise, run_everywhere):
    result = run_everywhere(operation, noise)
    for promised, side in zip(operation.output_size(37, 52), result.shape, strict=False):
        assert promised in (None, side)
    assert result.min() >= 0
    assert result.max() <= 255


@pytest.mark.parametrize("operation", EACH)
def test_operation_survives_json(operation):
    chain = Chain((operation,))
    again = Chain.from_json(json.loads(json.dumps(chain.to_json())))
    assert again == chain
    assert again.to_json() == chain.to_json()
    assert hash(again) == hash(chain)


def test_a_chain_runs_on_the_cpu_though_tensorflow_might_prefer_another_device():
    """A GPU gives other last digits: training, an exported model and a page would see different pixels."""
    chain = Chain((PadToSquare(), Resize(8, 8), Gamma(0.7)))
    for function in (chain, chain.unrounded):
        image = tf.TensorSpec([None, None, 3], tf.uint8)
        graph = tf.function(function, [image], autograph=False).get_concrete_function().graph
        computing = [
            each for each in graph.get_operations() if each.type in ("ResizeBilinear", "Pow", "Cast", "Round")
        ]
        assert len(computing) >= 3
        assert {each.device for each in computing} == {"/device:CPU:0"}


def test_empty_chain_keeps_every_pixel(noise):
    np.testing.assert_array_equal(Chain()(noise), noise)


def test_chain_rounds_half_to_even_and_clips():
    checker = np.zeros((1, 2, 3), np.uint8)
    checker[0, 0], checker[0, 1] = 1, 4  # their mean is 2.5
    assert Chain((Resize(1, 1, "area"),))(checker).numpy().ravel().tolist() == [2, 2, 2]
    edge = np.repeat(np.array([0, 0, 255, 255], np.uint8), 3).reshape(1, 4, 3)
    overshooting = Chain((Resize(1, 9, "bicubic"),))(edge)
    assert overshooting.dtype == tf.uint8
    assert overshooting.numpy().min() == 0


def test_chain_inside_a_dataset_equals_eager_to_the_last_bit(noise):
    chain = Chain((PadToSquare(), Resize(31, 29), CenterCrop(24, 24)))
    spec = tf.TensorSpec([None, None, None], tf.uint8)
    dataset = tf.data.Dataset.from_generator(lambda: [noise], output_signature=spec)
    mapped = dataset.map(lambda image: chain(tf.ensure_shape(image, [None, None, 3])))
    assert mapped.element_spec.shape == (24, 24, 3)
    np.testing.assert_array_equal(next(iter(mapped)), chain(noise))


def test_output_size_is_known_or_the_cure_is_named():
    assert Chain((PadToSquare(), Resize(30, 40), PadToSquare())).output_size == (40, 40)
    with pytest.raises(SettingsError, match="resize"):
        _ = Chain((PadToSquare(),)).output_size


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"op": "resise", "height": 2, "width": 2}], "did you mean resize"),
        ([{"op": "resize", "hight": 2, "width": 2}], "did you mean height"),
        ([{"op": "resize", "height": 2}], "width.*missing"),
        ([{"op": "resize", "height": 0, "width": 2}], "height must be a whole number from 1 to 8192"),
        ([{"op": "resize", "height": True, "width": 2}], "height must be a whole number"),
        ([{"op": "resize", "height": 2, "width": 2, "method": "cubic"}], "method must be one of"),
        ([{"op": "resize", "height": 2, "width": 2, "method": "area", "antialias": True}], "method must be"),
        ([{"op": "resize", "height": 2, "width": 2, "antialias": 1}], "true or false"),
        ([{"op": "pad_to_square", "value": float("nan")}], "value must be a number from 0 to 255"),
        ([{"height": 2}], 'key "op"'),
        ("resize", "must be a list"),
        ({"op": "resize"}, "must be a list"),
    ],
)
def test_wrong_json_is_refused_with_the_cure(steps, said):
    with pytest.raises(SettingsError, match=said):
        Chain.from_json(steps)


def test_chain_refuses_what_has_no_row():
    with pytest.raises(SettingsError, match="OPERATIONS"):
        Chain((tf.image.rot90,))


@pytest.mark.parametrize("method", ["bilinear", "nearest", "area", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
def test_a_chain_that_keeps_a_size_keeps_every_pixel_of_it(noise, method, antialias):
    if antialias and method in ("nearest", "area"):
        pytest.skip("refused")
    sides = noise.shape[:2]
    chain = Chain((CenterCrop(*sides), Resize(*sides, method, antialias)))
    assert chain.keeps(*sides)
    assert not chain.keeps(sides[0] + 1, sides[1])
    assert not Chain((*chain.operations, Gamma(0.5))).keeps(*sides)
    whatever = tf.function(chain, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    np.testing.assert_array_equal(whatever(noise), noise)


@pytest.mark.parametrize("method", ["bilinear", "nearest", "area", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
def test_no_value_leaves_the_range_where_only_the_size_changes(method, antialias):
    if antialias and method in ("nearest", "area"):
        pytest.skip("refused")
    checkered = np.tile(np.array([[0, 255], [255, 0]], np.uint8)[..., None], (9, 11, 3))
    for sides in ((5, 7), (40, 50), (18, 22)):
        chain = Chain((PadToSquare(255), Resize(*sides, method, antialias), CenterCrop(30, 30)))
        assert chain.only_sizes
        values = chain.unrounded(checkered).numpy()
        assert values.min() >= 0
        assert values.max() <= 255 + 1e-2  # rounds to 255
    assert not Chain((Resize(4, 4), Gamma(0.5))).only_sizes


def test_only_a_plain_bilinear_resize_that_stands_alone_is_told_apart():
    assert Chain((Resize(5, 7),)).bilinear_size == (5, 7)
    others = [
        (),
        (Resize(5, 7, "area"),),
        (Resize(5, 7, antialias=True),),
        (Resize(5, 7),) * 2,
        (Gamma(0.5),),
    ]
    assert [Chain(each).bilinear_size for each in others] == [None] * 5


@pytest.mark.parametrize("method", ["bilinear", "nearest", "area", "bicubic"])
def test_resizing_whole_numbers_is_resizing_floats(noise, method):
    chain, floats = Chain((Resize(23, 60, method),)), tf.cast(noise, tf.float32)
    np.testing.assert_array_equal(chain.unrounded(noise), Resize(23, 60, method)(floats))
