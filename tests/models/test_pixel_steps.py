from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasall.errors import SettingsError
from kerasall.models.ensembles import fit_pixels
from kerasall.preprocessing.operations import Chain

HEIGHT, WIDTH = 45, 37


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """Noise and smooth ramps, uint8 [4, 45, 37, 3]: every rounding case of a resize."""
    noise = np.random.default_rng(3).integers(0, 256, (2, HEIGHT, WIDTH, 3))
    ramp = np.add.outer(np.arange(HEIGHT) * 5, np.arange(WIDTH))[None, :, :, None] % 256
    return np.concatenate([noise, np.repeat(ramp, 3, -1), 255 - np.repeat(ramp, 3, -1)]).astype(np.uint8)


def fitted(steps, size) -> keras.Model:
    image = keras.Input((HEIGHT, WIDTH, 3), dtype="float32")
    return keras.Model(image, fit_pixels(image, size, steps))


def resize(height, width, **more):
    return {"op": "resize", "height": height, "width": width, **more}


CASES = {
    "smaller": ([resize(32, 32)], (32, 32)),
    "larger": ([resize(64, 50)], (64, 50)),
    "half": ([resize(23, 19)], (23, 19)),
    "nearest": ([resize(30, 61, method="nearest")], (30, 61)),
    "bicubic": ([resize(31, 64, method="bicubic")], (31, 64)),
    "antialias": ([resize(16, 16, antialias=True)], (16, 16)),
    "crop": ([{"op": "center_crop", "height": 30, "width": 20}], (30, 20)),
    "crop and fill": ([{"op": "center_crop", "height": 32, "width": 42}], (32, 42)),
    "pad": ([{"op": "pad_to_square", "value": 200.0}], (45, 45)),
    "three": (
        [{"op": "center_crop", "height": 40, "width": 30}, {"op": "pad_to_square"}, resize(32, 32)],
        (32, 32),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_the_chain_with_these_operations(case, photographs):
    steps, size = CASES[case]
    found = fitted(steps, size)(photographs).numpy()
    chain = Chain.from_json(steps)
    expected = np.stack([chain(tf.constant(image)) for image in photographs])
    difference = np.abs(found - expected.astype(np.float32))
    # The same kernel in the same float32; sums are ordered otherwise in a batch, which may move a
    # pixel that lies on the half to the next whole number.
    assert difference.max() <= (1 if case in ("bicubic", "antialias") else 0)
    assert np.mean(difference > 0) < 1e-3


def test_a_resize_is_added_only_where_the_size_differs(photographs):
    assert fitted(None, (HEIGHT, WIDTH))(photographs).numpy().tolist() == photographs.tolist()
    chain = Chain.from_json([resize(33, 32)])
    expected = np.stack([chain(each) for each in photographs])
    np.testing.assert_array_equal(fitted(None, (33, 32))(photographs), expected)


def test_no_steps_leave_fractions_as_they_are():
    pixels = np.full((1, HEIGHT, WIDTH, 3), 12.3, np.float32)
    np.testing.assert_array_equal(fitted([], (HEIGHT, WIDTH))(pixels), pixels)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"op": "clahe"}], "give it to the common chain"),
        ([{"op": "resise"}], "did you mean 'resize'"),
        ([resize(32, 32, method="area")], "bilinear, nearest, bicubic"),
        ([resize(32, 32, speed=3)], "speed"),
        ([resize(30, 30)], r"must give images of \(32, 32\), but give \(30, 30\)"),
        ([], "end them with a resize"),
    ],
)
def test_steps_that_cannot_be_are_refused(steps, words):
    with pytest.raises(SettingsError, match=words):
        fitted(steps, (32, 32))
