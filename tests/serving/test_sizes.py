"""Pixels without TensorFlow are those of the chain in TensorFlow, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasall.preprocessing.operations import OPERATIONS, Chain
from kerasall.serving.sizes import read_sizes

SIDES = st.integers(1, 70)


def resize(height: int, width: int) -> dict:
    return {"op": "resize", "height": height, "width": width}


def require_equal(steps: list[dict], pixels: np.ndarray) -> None:
    chain = Chain.from_json(steps)
    expected, found = chain(tf.constant(pixels)).numpy(), read_sizes(chain.to_json())(pixels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(read_sizes(steps)(pixels), expected)


STEPS = st.one_of(
    st.builds(resize, SIDES, SIDES),
    st.builds(lambda height, width: {"op": "center_crop", "height": height, "width": width}, SIDES, SIDES),
    st.builds(lambda value: {"op": "pad_to_square", "value": value}, st.floats(0, 255, width=32)),
    st.just({"op": "pad_to_square"}),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=4), SIDES, SIDES, st.integers(0, 2**32 - 1))
def test_any_chain_of_sizes_gives_the_pixels_of_tensorflow(steps, height, width, seed):
    require_equal(steps, np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(
    "size", [(450, 450), (257, 257), (224, 224), (300, 401), (112, 97), (1, 900), (1000, 750)]
)
@pytest.mark.parametrize("wanted", [(224, 224), (299, 160)])
def test_resizing_as_systems_do_it_gives_the_pixels_of_tensorflow(size, wanted):
    require_equal([resize(*wanted)], np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8))


def test_halves_are_rounded_as_tensorflow_rounds_them():
    stripes = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (2, 1, 3))
    require_equal([resize(2, 128)], stripes)
    assert read_sizes([resize(2, 128)])(stripes)[0, :3, 0].tolist() == [0, 2, 4]  # of 0.5, 2.5, 4.5


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"center_crop", "pad_to_square"}))
def test_what_tensorflow_alone_computes_is_named(name):
    with pytest.raises(LookupError, match=name):
        read_sizes(
            [resize(8, 8), {"op": name, "height": 8, "width": 8, "method": "bicubic", "antialias": True}]
        )
