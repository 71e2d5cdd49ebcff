from __future__ import annotations

import cv2
import numpy as np
import pytest

from kerasall.errors import SettingsError
from kerasall.preprocessing.contrast import CLAHE, ContrastStretch, Gamma, HistogramEqualization


@pytest.fixture(scope="module")
def dull() -> np.ndarray:
    """A low-contrast colour image, uint8 [66, 91, 3], with structure of several sizes."""
    noise = np.random.default_rng(5).normal(size=(66, 91, 3)).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), 6) * 12 + cv2.GaussianBlur(noise, (0, 0), 1) * 0.5
    return np.clip(110 + 40 * blobs, 60, 190).astype(np.uint8)


def grey(image: np.ndarray) -> np.ndarray:
    """The image's luma as three equal channels: on such images no rounding of luma is left."""
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def test_stretch_takes_the_percentiles_of_numpy_to_black_and_white(dull):
    low, high = np.percentile(dull, [2, 95], method="inverted_cdf").astype(float)
    expected = np.clip((dull - low) * 255 / (high - low), 0, 255)
    np.testing.assert_allclose(ContrastStretch(2, 95)(dull.astype(np.float32)), expected, atol=1e-3)


def test_stretch_per_channel_treats_channels_alone(dull):
    result = ContrastStretch(0, 100, per_channel=True)(dull.astype(np.float32)).numpy()
    assert result.min(axis=(0, 1)).tolist() == [0, 0, 0]
    assert result.max(axis=(0, 1)).tolist() == [255, 255, 255]
    alone = ContrastStretch(0, 100)(np.repeat(dull[..., 1:2], 3, axis=2).astype(np.float32))
    np.testing.assert_allclose(result[..., 1], alone[..., 1], atol=1e-3)


def test_gamma_is_a_lookup_of_the_power_law(dull):
    table = 255 * (np.arange(256) / 255) ** 1.7
    np.testing.assert_allclose(Gamma(1.7)(dull.astype(np.float32)), table[dull], atol=1e-2)


def test_equalization_of_grey_is_that_of_opencv(dull):
    image = grey(dull)
    expected = cv2.equalizeHist(image[..., 0])
    result = HistogramEqualization()(image.astype(np.float32)).numpy()
    np.testing.assert_allclose(result[..., 0], expected, atol=0.51)  # OpenCV rounds


@pytest.mark.parametrize("size", [(64, 88), (66, 91), (64, 91), (30, 21)])
@pytest.mark.parametrize(("clip_limit", "tiles"), [(2.0, 8), (1.0, 4), (40.0, 3)])
def test_clahe_of_grey_is_that_of_opencv(dull, size, clip_limit, tiles):
    image = grey(dull)[: size[0], : size[1]]
    expected = cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(image[..., 0])
    result = CLAHE(clip_limit, tiles)(image.astype(np.float32)).numpy()
    np.testing.assert_allclose(result[..., 0], expected, atol=1.01)  # OpenCV rounds twice


@pytest.mark.parametrize("operation", [HistogramEqualization(), CLAHE()])
def test_equalization_spreads_the_luma_and_keeps_chroma_where_nothing_is_clipped(dull, operation):
    result = operation(dull.astype(np.float32)).numpy()
    assert cv2.cvtColor(result, cv2.COLOR_RGB2GRAY).std() > 1.3 * grey(dull).std()
    inside = (result > 0).all(axis=-1) & (result < 255).all(axis=-1)
    before = dull[..., 0].astype(float) - dull[..., 2]
    np.testing.assert_allclose((result[..., 0] - result[..., 2])[inside], before[inside], atol=1e-3)


@pytest.mark.parametrize("level", [0, 90, 255])
@pytest.mark.parametrize("operation", [ContrastStretch(), HistogramEqualization()])
def test_a_flat_image_stays_flat(operation, level):
    flat = np.full((9, 12, 3), level, np.float32)
    np.testing.assert_array_equal(operation(flat), flat)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ContrastStretch(99, 1), "low must be under high"),
        (lambda: Gamma(0), "gamma must be a number from 0.1 to 10"),
        (lambda: CLAHE(tiles=0), "tiles must be a whole number from 1 to 64"),
        (lambda: CLAHE(clip_limit=0.5), "clip_limit must be a number from 1 to 100"),
    ],
)
def test_wrong_arguments_are_refused(make, said):
    with pytest.raises(SettingsError, match=said):
        make()
