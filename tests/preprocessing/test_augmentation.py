from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates

from kerasall.errors import SettingsError
from kerasall.preprocessing.augmentation import Augmentation, _mix, backward_transforms

EVERYTHING = Augmentation(
    horizontal_flip=True,
    vertical_flip=True,
    quarter_turns=True,
    rotation_degrees=30,
    zoom=(0.8, 1.25),
    shift=0.1,
    shear_degrees=10,
    brightness=0.1,
    contrast=0.2,
    saturation=0.3,
    stain=0.05,
    fill="reflect",
)
NEUTRAL = {
    **dict.fromkeys(("flip_x", "flip_y", "zoom", "brightness", "contrast", "saturation"), 1.0),
    **dict.fromkeys(("turns", "rotation", "shear", "shift_x", "shift_y"), 0.0),
}


def seeds(count: int, key: int = 0) -> np.ndarray:
    return np.stack([np.full(count, key), np.arange(count)], axis=1).astype(np.int32)


@pytest.fixture(scope="module")
def squares() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (32, 15, 15, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def smooth() -> np.ndarray:
    """One image [1, 48, 64, 3] without sharp edges, so that interpolation schemes agree."""
    noise = np.random.default_rng(4).uniform(0, 255, (48, 64, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 4)
    return cv2.normalize(blurred, None, 20, 235, cv2.NORM_MINMAX)[None]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_without_settings_every_pixel_stays(squares, dtype):
    result = Augmentation()(squares.astype(dtype), seeds(32))
    assert result.dtype == tf.float32
    np.testing.assert_array_equal(result, squares)


def warp(augmentation: Augmentation, image: np.ndarray, **amounts: float) -> np.ndarray:
    """One image moved by given amounts instead of drawn ones."""
    drawn = {name: np.array([value], np.float32) for name, value in (NEUTRAL | amounts).items()}
    moved = np.empty(image.shape, np.float32)
    augmentation._warp(image, backward_transforms(drawn, image.shape[:2])[0], moved)
    return moved


def test_a_warp_by_nothing_keeps_every_pixel(squares):
    np.testing.assert_array_equal(warp(Augmentation(rotation_degrees=1), squares[0]), squares[0])


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"horizontal_flip": True}, [lambda x: x, np.fliplr]),
        ({"vertical_flip": True}, [lambda x: x, np.flipud]),
        ({"quarter_turns": True}, [lambda x, k=k: np.rot90(x, k) for k in range(4)]),
    ],
)
def test_flips_and_quarter_turns_move_pixels_exactly_and_all_occur(squares, settings, allowed):
    results = Augmentation(**settings)(squares, seeds(32)).numpy()
    seen = set()
    for result, image in zip(results, squares, strict=True):
        matches = [i for i, change in enumerate(allowed) if np.array_equal(result, change(image))]
        assert len(matches) == 1
        seen.update(matches)
    assert seen == set(range(len(allowed)))


def test_flip_comes_before_the_turn(squares):
    augmentation = Augmentation(horizontal_flip=True, quarter_turns=True)
    turned = warp(augmentation, squares[0], turns=1)
    both = warp(augmentation, squares[0], turns=1, flip_x=-1)
    k = next(k for k in (1, 3) if np.array_equal(turned, np.rot90(squares[0], k)))
    np.testing.assert_array_equal(both, np.rot90(np.fliplr(squares[0]), k))


def test_numbers_are_those_of_splitmix64():
    steps = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]  # for the seed 1234567
    assert _mix(np.uint64(1234567) + steps).tolist() == published


def test_amounts_stay_in_their_ranges_and_fill_them():
    drawn = EVERYTHING.draw(seeds(2000))
    ranges = {
        "rotation": (-math.radians(30), math.radians(30)),
        "shear": (-math.radians(10), math.radians(10)),
        "zoom": (0.8, 1.25),
        "shift_x": (-0.1, 0.1),
        "shift_y": (-0.1, 0.1),
        "brightness": (0.9, 1.1),
        "contrast": (0.8, 1.2),
        "saturation": (0.7, 1.3),
        **{f"stain_scale_{i}": (0.95, 1.05) for i in range(3)},
        **{f"stain_shift_{i}": (-0.05, 0.05) for i in range(3)},
    }
    for name, (low, high) in ranges.items():
        width = high - low
        assert low - 1e-6 * width <= drawn[name].min() < low + 0.01 * width, name
        assert high - 0.01 * width < drawn[name].max() <= high + 1e-6 * width, name
    assert set(drawn["turns"]) == {0, 1, 2, 3}
    assert np.bincount(drawn["turns"].astype(int)).min() > 400
    for name in ("flip_x", "flip_y"):
        assert set(drawn[name]) == {-1, 1}
        assert abs(drawn[name].mean()) < 0.1
    assert abs(np.log(drawn["zoom"]).mean()) < 0.01  # as often smaller as larger
    moving = np.array([drawn[name] for name in ("flip_x", "turns", *ranges)])
    correlations = np.corrcoef(moving) - np.eye(len(moving))
    assert np.abs(correlations).max() < 0.12  # drawn independently


def test_switching_one_change_on_leaves_the_other_amounts():
    alone = Augmentation(rotation_degrees=30).draw(seeds(9))["rotation"]
    np.testing.assert_array_equal(EVERYTHING.draw(seeds(9))["rotation"], alone)


def test_a_key_decides_an_image_whatever_the_batch(squares):
    whole = EVERYTHING(squares, seeds(32)).numpy()
    np.testing.assert_array_equal(EVERYTHING(squares, seeds(32)), whole)
    backwards = EVERYTHING(squares[::-1][:7], seeds(32)[::-1][:7]).numpy()
    np.testing.assert_allclose(backwards, whole[::-1][:7], atol=1e-3)
    other = EVERYTHING(squares, seeds(32, key=1)).numpy()
    assert (np.abs(other - whole).mean(axis=(1, 2, 3)) > 1).all()


def test_the_same_inside_a_dataset(squares):
    dataset = tf.data.Dataset.from_tensor_slices((squares, seeds(32))).batch(10).map(EVERYTHING)
    assert dataset.element_spec == tf.TensorSpec([None, 15, 15, 3], tf.float32)
    result = np.concatenate(list(dataset))
    np.testing.assert_allclose(result, EVERYTHING(squares, seeds(32)), atol=1e-2)
    assert result.min() >= 0
    assert result.max() <= 255


@pytest.mark.parametrize(
    "amounts",
    [
        {"rotation": 0.4},
        {"zoom": 1.3},
        {"zoom": 0.7},
        {"shear": 0.2},
        {"shift_x": 0.1, "shift_y": -0.05},
        {"flip_x": -1, "turns": 2, "shear": 0.1, "rotation": -0.3, "zoom": 1.1, "shift_y": 0.07},
    ],
)
def test_the_warp_is_that_of_scipy_with_the_matrix_multiplied_out(smooth, amounts):
    amounts = NEUTRAL | amounts
    height, width = smooth.shape[1:3]

    def rotation(angle):
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    shear = np.array([[1, np.tan(amounts["shear"])], [0, 1]])
    turn = np.rint(rotation(np.pi / 2 * amounts["turns"]))
    forward = amounts["zoom"] * rotation(amounts["rotation"]) @ shear @ turn
    forward = forward @ np.diag([amounts["flip_x"], amounts["flip_y"]])
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = center + np.array([amounts["shift_x"] * width, amounts["shift_y"] * height]) - forward @ center
    backward = np.linalg.inv(forward)
    v, u = np.mgrid[:height, :width]
    x, y = np.einsum("ij,jhw->ihw", backward, np.stack([u, v]) - offset[:, None, None])
    channels = [map_coordinates(smooth[0, ..., c], [y, x], order=1, mode="reflect") for c in range(3)]
    expected = np.stack(channels, axis=-1)
    result = warp(Augmentation(shift=0.1, fill="reflect"), smooth[0], **amounts)
    assert np.abs(result - expected).max() < 1.5
    assert np.abs(smooth[0] - expected).max() > 20  # the case moves the image at all


def test_fill_value_lies_beyond_the_border(squares):
    assert (warp(Augmentation(shift=1, fill_value=9), squares[0], shift_x=1.0) == 9).all()


def recoloured(image, **amounts):
    settings = {name: 0.5 for name in ("brightness", "contrast", "saturation", "stain") if name in amounts}
    return Augmentation(**settings)._recolour(image, NEUTRAL | amounts)


def test_colour_amounts_do_what_they_say(smooth):
    image = smooth[0]
    np.testing.assert_allclose(recoloured(image, brightness=1.2), np.clip(image * 1.2, 0, 255), atol=1e-3)
    mean = np.broadcast_to(image.mean(axis=(0, 1)), image.shape)
    np.testing.assert_allclose(recoloured(image, contrast=0.0), mean, atol=0.01)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    np.testing.assert_allclose(recoloured(image, saturation=0.0), np.repeat(grey, 3, 2), atol=0.01)
    np.testing.assert_allclose(recoloured(image, contrast=1.0, saturation=1.0), image, atol=1e-3)
    both = recoloured(image, saturation=1.3, contrast=0.7, brightness=0.9)
    saturated = grey + 1.3 * (image - grey)
    center = saturated.mean(axis=(0, 1))
    np.testing.assert_allclose(both, np.clip(0.9 * (center + 0.7 * (saturated - center)), 0, 255), atol=0.01)


STILL = {**{f"stain_scale_{i}": 1.0 for i in range(3)}, **{f"stain_shift_{i}": 0.0 for i in range(3)}}


def test_stain_jitter_of_nothing_is_nothing_and_keeps_white_light(smooth):
    np.testing.assert_allclose(recoloured(smooth[0], stain=None, **STILL), smooth[0], atol=0.01)
    white = np.full((32, 4, 4, 3), 255, np.float32)
    assert 215 < Augmentation(stain=0.05)(white, seeds(32)).numpy().min() < 250


def test_more_of_a_stain_darkens_along_its_own_colour():
    haematoxylin_eosin_dab = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    image = np.full((2, 2, 3), 127, np.float32)
    for index, stain in enumerate(haematoxylin_eosin_dab):
        stain = stain / np.linalg.norm(stain)
        added = recoloured(image, stain=None, **(STILL | {f"stain_shift_{index}": 0.3}))[0, 0]
        np.testing.assert_allclose(np.log(128 / (added + 1)), 0.3 * stain, atol=1e-4)
        pure = (256 * np.exp(-0.5 * stain) - 1).astype(np.float32) * np.ones((2, 2, 1), np.float32)
        scaled = recoloured(pure, stain=None, **(STILL | {f"stain_scale_{index}": 1.4}))[0, 0]
        np.testing.assert_allclose(np.log(256 / (scaled + 1)), 0.7 * stain, atol=1e-4)


def test_settings_survive_json():
    again = Augmentation.from_json(json.loads(json.dumps(EVERYTHING.to_json())))
    assert again == EVERYTHING
    assert again.to_json() == EVERYTHING.to_json()
    assert Augmentation.from_json({}) == Augmentation()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rotation": 20}, "did you mean rotation_degrees"),
        ({"zoom": [1.2, 0.8]}, "least, greatest"),
        ({"zoom": 0.2}, "list of 2 numbers"),
        ({"shift": 1.5}, "shift must be a number from 0 to 1"),
        ({"horizontal_flip": "yes"}, "true or false"),
        ({"fill": "mirror"}, "fill must be one of"),
        ([], "must be a mapping"),
    ],
)
def test_wrong_settings_are_refused_with_the_cure(settings, said):
    with pytest.raises(SettingsError, match=said):
        Augmentation.from_json(settings)


def test_quarter_turns_of_oblong_images_are_refused(smooth):
    with pytest.raises(SettingsError, match="square images"):
        Augmentation(quarter_turns=True)(smooth, seeds(1))
