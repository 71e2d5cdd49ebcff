from __future__ import annotations

import cv2
import numpy as np
import pytest

from kerasall.preprocessing.operations import CenterCrop, PadToSquare, Resize


def test_center_crop_takes_the_middle(noise):
    np.testing.assert_array_equal(CenterCrop(10, 20)(noise.astype(np.float32)), noise[13:23, 16:36])


def test_center_crop_of_a_small_image_is_the_image_on_black(noise):
    result = CenterCrop(40, 20)(noise.astype(np.float32)).numpy()
    np.testing.assert_array_equal(result[1:38], noise[:, 16:36])
    assert not result[:1].any()
    assert not result[38:].any()


@pytest.mark.parametrize(("height", "width"), [(37, 20), (20, 37), (21, 21)])
def test_pad_to_square_keeps_the_image_in_the_middle(noise, height, width):
    image = noise[:height, :width].astype(np.float32)
    result = PadToSquare(value=9)(image).numpy()
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    assert result.shape == (side, side, 3)
    np.testing.assert_array_equal(result[top : top + height, left : left + width], image)
    margin = np.ones((side, side), bool)
    margin[top : top + height, left : left + width] = False
    assert (result[margin] == 9).all()


@pytest.mark.parametrize("size", [(18, 26), (74, 99)])
def test_bilinear_resize_is_that_of_opencv(noise, size):
    image = noise.astype(np.float32)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(Resize(*size)(image), expected, atol=0.05)


def test_area_resize_averages_whole_blocks(noise):
    image = noise[:36, :52].astype(np.float32)
    blocks = image.reshape(9, 4, 13, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(Resize(9, 13, "area")(image), blocks, atol=1e-3)


def test_nearest_resize_invents_no_value(noise):
    image = noise.astype(np.float32)
    assert set(np.unique(Resize(90, 90, "nearest")(image))) <= set(np.unique(image))


def test_antialiasing_flattens_fine_texture_that_plain_bilinear_aliases():
    stripes = np.zeros((64, 64, 3), np.float32)
    stripes[:, ::2] = 255
    plain = Resize(20, 20)(stripes).numpy()
    smooth = Resize(20, 20, antialias=True)(stripes).numpy()
    assert smooth.std() < plain.std() / 4
