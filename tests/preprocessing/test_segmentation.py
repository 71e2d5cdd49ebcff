from __future__ import annotations

import cv2
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from kerasall.errors import DataError, SettingsError
from kerasall.preprocessing.contrast import hue_saturation_value
from kerasall.preprocessing.hsv_bounds import count_colours, fit_hsv_bounds
from kerasall.preprocessing.operations import Chain
from kerasall.preprocessing.segmentation import (
    CropToContent,
    HsvThresholdMask,
    OtsuMask,
    close_mask,
    fill_holes,
    open_mask,
)


@pytest.fixture(scope="module")
def cells() -> np.ndarray:
    """Purple discs, one with a pale hole, on a light ground with grain: uint8 [60, 80, 3]."""
    random = np.random.default_rng(6)
    image = np.full((60, 80, 3), (225, 222, 228), np.uint8)
    for center, radius in (((20, 20), 12), ((60, 35), 15), ((30, 52), 5)):
        cv2.circle(image, center, radius, (120, 60, 170), -1)
    cv2.circle(image, (60, 35), 4, (225, 222, 228), -1)
    return np.clip(image + random.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def blobs() -> list[np.ndarray]:
    """Random masks [50, 61] of several densities."""
    random = np.random.default_rng(8)
    smooth = [cv2.GaussianBlur(random.normal(size=(50, 61)), (0, 0), sigma) for sigma in (1, 1.5, 2, 3)]
    return [field > np.quantile(field, share) for field in smooth for share in (0.3, 0.6)]


def intersection_over_union(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / max(1, (one | other).sum())


def test_hue_saturation_and_value_are_those_of_opencv():
    colours = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    ours = hue_saturation_value(tf.constant(colours, tf.float32)).numpy().astype(int)
    theirs = cv2.cvtColor(colours, cv2.COLOR_RGB2HSV).astype(int)
    hue = np.abs(ours - theirs)[..., 0]
    assert np.minimum(hue, 180 - hue).max() <= 1
    assert np.abs(ours - theirs)[..., 1:].max() <= 1
    assert (ours == theirs).all(axis=-1).mean() > 0.95
    assert ours[..., 0].max() <= 179


@pytest.mark.parametrize("channel", ["grey", "green", "saturation"])
def test_otsu_keeps_what_opencv_keeps(cells, channel):
    planes = {
        "grey": cv2.cvtColor(cells, cv2.COLOR_RGB2GRAY),
        "green": cells[..., 1],
        "saturation": cv2.cvtColor(cells, cv2.COLOR_RGB2HSV)[..., 1],
    }
    _, above = cv2.threshold(planes[channel], 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    keep = "above" if channel == "saturation" else "below"
    expected = (above > 0) == (keep == "above")
    mask = OtsuMask(channel, keep).mask(tf.constant(cells, tf.float32)).numpy()
    assert (mask == expected).mean() > 0.999  # channels round apart on single pixels
    assert 0.1 < mask.mean() < 0.4


def test_kept_pixels_stay_and_the_others_get_the_fill_value(cells):
    operation = OtsuMask(fill_value=200)
    mask = operation.mask(tf.constant(cells, tf.float32)).numpy()
    result = operation(tf.constant(cells, tf.float32)).numpy()
    np.testing.assert_array_equal(result[mask], cells[mask])
    assert (result[~mask] == 200).all()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_otsu_of_a_flat_image_keeps_one_side_whole(level):
    flat = tf.fill([8, 9, 3], float(level))
    above, below = (OtsuMask("grey", keep).mask(flat).numpy() for keep in ("above", "below"))
    assert {above.all(), below.all()} == {True, False}
    np.testing.assert_array_equal(above, ~below)


@pytest.mark.parametrize(("lower", "upper"), [((120, 40, 0), (175, 255, 255)), ((0, 0, 100), (179, 60, 220))])
def test_hsv_mask_keeps_what_opencv_keeps(cells, lower, upper):
    expected = cv2.inRange(cv2.cvtColor(cells, cv2.COLOR_RGB2HSV), lower, upper) > 0
    mask = HsvThresholdMask(lower, upper).mask(tf.constant(cells, tf.float32)).numpy()
    assert (mask == expected).mean() > 0.995
    assert 0 < mask.mean() < 1


def test_hues_may_run_through_red():
    strip = np.zeros((1, 180, 3), np.uint8)
    strip[0, :, 0], strip[0, :, 1:] = np.arange(180), 255
    image = tf.constant(cv2.cvtColor(strip, cv2.COLOR_HSV2RGB), tf.float32)
    kept = np.flatnonzero(HsvThresholdMask((170, 0, 0), (10, 255, 255)).mask(image))
    assert kept.tolist() == [*range(11), *range(170, 180)]


@pytest.mark.parametrize("radius", [1, 3])
def test_opening_and_closing_are_those_of_opencv(blobs, radius):
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    for mask in blobs:
        for ours, theirs in ((open_mask, cv2.MORPH_OPEN), (close_mask, cv2.MORPH_CLOSE)):
            expected = cv2.morphologyEx(mask.astype(np.uint8), theirs, kernel) > 0
            np.testing.assert_array_equal(ours(tf.constant(mask), radius), expected)


def test_holes_are_filled_as_by_scipy(blobs):
    filled = 0
    for mask in [*blobs, np.ones((4, 5), bool), np.zeros((4, 5), bool), np.ones((1, 3), bool)]:
        expected = ndimage.binary_fill_holes(mask)
        np.testing.assert_array_equal(fill_holes(tf.constant(mask)), expected)
        filled += (expected != mask).sum()
    assert filled > 50


def test_cleaning_removes_specks_and_fills_the_cell(cells):
    image = tf.constant(cells, tf.float32)
    plain = OtsuMask().mask(image).numpy()
    clean = OtsuMask(opening=4, fill_holes=True).mask(image).numpy()
    assert plain[52, 30]  # the small disc
    assert not clean[52, 30]
    assert not plain[35, 60]  # the hole
    assert clean[35, 60]


def test_crop_keeps_the_box_of_the_content_and_its_margin():
    image = np.zeros((20, 30, 3), np.float32)
    image[5:9, 11:20] = 90
    np.testing.assert_array_equal(CropToContent()(image), image[5:9, 11:20])
    np.testing.assert_array_equal(CropToContent(margin=7)(image), image[0:16, 4:27])
    np.testing.assert_array_equal(CropToContent(background=90)(image[5:9, 11:25]), image[5:9, 20:25])
    for blank in (np.zeros((4, 6, 3), np.float32), np.full((4, 6, 3), 8, np.float32)):
        np.testing.assert_array_equal(CropToContent()(blank), blank)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: OtsuMask("purple"), "channel must be one of red"),
        (lambda: OtsuMask(opening=-1), "opening must be a whole number from 0 to 50"),
        (lambda: HsvThresholdMask((180, 0, 0), (179, 255, 255)), "hue from 0 to 179"),
        (lambda: HsvThresholdMask((0, 90, 0), (179, 80, 255)), "must not exceed"),
        (lambda: HsvThresholdMask((0, 90), (179, 80, 255)), "list of 3 numbers"),
    ],
)
def test_wrong_bounds_are_refused(make, said):
    with pytest.raises(SettingsError, match=said):
        make()


def test_fit_finds_the_box_that_made_the_masks():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (6, 50, 60, 3), dtype=np.uint8)
    for lower, upper in (((100, 40, 80), (140, 199, 255)), ((160, 0, 100), (20, 255, 255))):
        colours = [cv2.cvtColor(image, cv2.COLOR_RGB2HSV) for image in images]
        masks = []
        for colour in colours:
            hue = colour[..., 0]
            inside = (
                (hue >= lower[0]) & (hue <= upper[0]) if lower[0] < upper[0] else (hue >= 160) | (hue <= 20)
            )
            masks.append(
                inside & (colour[..., 1:] >= lower[1:]).all(-1) & (colour[..., 1:] <= upper[1:]).all(-1)
            )
        fitted = fit_hsv_bounds(images, masks, fill_value=7)
        np.testing.assert_allclose([fitted.lower, fitted.upper], [lower, upper], atol=4)
        assert fitted.fill_value == 7


def test_no_choice_of_colours_beats_the_limit_and_a_box_may_fall_short_of_it():
    # Two colours of which the masks keep 9 and 3 of 10 pixels, a third that they never keep.
    colours = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    image = np.repeat(colours, 10, axis=0).reshape(1, 30, 3)
    mask = np.zeros((1, 30), bool)
    mask[0, :9] = mask[0, 10:13] = True
    limit = count_colours([image], [mask]).limit
    assert limit == pytest.approx(9 / 13)  # the first alone: 9 together, 10 + 12 - 9 in all; both: 12 of 20
    box = fit_hsv_bounds([image], [mask]).mask(tf.constant(image, tf.float32)).numpy()
    assert intersection_over_union(box, mask) <= limit + 1e-9
    assert count_colours([image], [~np.ones_like(mask)]).limit is None


def test_bounds_are_the_best_beside_those_that_are_stated():
    """Pale pixels of hue 10 are kept and its strong ones are not, but strong ones of hue 60 are: saturation goes by the hue."""
    hues = np.repeat([[10, 100, 200], [10, 200, 200], [60, 200, 200]], [10, 8, 30], axis=0).astype(np.uint8)
    image = cv2.cvtColor(hues.reshape(1, 48, 3), cv2.COLOR_HSV2RGB)
    mask = np.repeat([[True, False, True]], [10, 8, 30], axis=1)
    assert fit_hsv_bounds([image], [mask]).upper[1] >= 200  # 40 of 48 pixels rightly
    beside = fit_hsv_bounds([image], [mask], {"hue": (5, 15)})
    assert (beside.lower[0], beside.upper[0]) == (5, 15)
    assert 100 <= beside.upper[1] < 199
    with pytest.raises(DataError, match="hue 90 to 99 hold none: widen them"):
        fit_hsv_bounds([image], [mask], {"hue": (90, 99)})


def test_fit_refuses_masks_that_do_not_fit_or_keep_nothing(cells):
    with pytest.raises(DataError, match="image's size"):
        fit_hsv_bounds([cells], [np.ones((3, 3), bool)])
    with pytest.raises(DataError, match="keep none"):
        fit_hsv_bounds([cells], [np.zeros(cells.shape[:2], bool)])


@pytest.mark.slow
@pytest.mark.realdata
def test_fitted_bounds_agree_with_the_published_segmentation_of_other_images(real_data):
    """200 pairs, spread evenly over the classes; the bounds come from 120 others."""
    paths = sorted((real_data / "aria" / "Original").glob("*/*.jpg"))
    held_out = paths[::13][:200]
    others = sorted(set(paths) - set(held_out))[::20][:120]

    def read(path):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        segmented = cv2.imread(str(path).replace("Original", "Segmented"))
        return image, segmented.max(axis=2) > 60  # blanked pixels are black up to JPEG's ringing

    images, masks = zip(*(read(path) for path in others), strict=True)
    fitted = fit_hsv_bounds(images, masks)
    assert Chain.from_json(Chain((fitted,)).to_json()) == Chain((fitted,))

    run = tf.function(fitted.mask, input_signature=[tf.TensorSpec([None, None, 3])])
    pairs = [(run(tf.constant(image, tf.float32)).numpy(), mask) for image, mask in map(read, held_out)]
    assert len(pairs) == 200
    together = intersection_over_union(*(np.stack(each) for each in zip(*pairs, strict=True)))
    one_by_one = np.mean([intersection_over_union(ours, theirs) for ours, theirs in pairs])
    print(f"IoU of all pixels {together:.3f}, mean over pairs {one_by_one:.3f}, {fitted}")
    assert together > 0.8
    assert one_by_one > 0.65
