from __future__ import annotations

import cv2
import numpy as np
import pytest
import tensorflow as tf

from kerasall.errors import DataError, SettingsError
from kerasall.preprocessing.operations import CenterCrop, Chain, fit_chain
from kerasall.preprocessing.stain import (
    MacenkoNormalization,
    ReinhardNormalization,
    StainShift,
    fit_macenko,
    fit_reinhard,
)

AZURE, EOSIN = np.array([0.75, 0.60, 0.28]), np.array([0.15, 0.95, 0.27])
OTHER_AZURE, OTHER_EOSIN = np.array([0.60, 0.72, 0.35]), np.array([0.25, 0.85, 0.46])


def stained(one: np.ndarray, other: np.ndarray, seed: int, strength: float = 1.0) -> np.ndarray:
    """An image, uint8 [64, 64, 3], of two dyes in smoothly varying amounts that both reach zero."""
    noise = np.random.default_rng(seed).normal(size=(64, 64, 2)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    amounts = strength * 1.4 * np.clip(smooth / smooth.std(), 0, 2.5) / 2.5
    directions = np.stack([one / np.linalg.norm(one), other / np.linalg.norm(other)])
    return np.clip(np.rint(256 * np.exp(-amounts @ directions) - 1), 0, 255).astype(np.uint8)


def to_lab(image: np.ndarray) -> np.ndarray:
    """The published constants, written down a second time."""
    r, g, b = np.moveaxis(image / 255.0, -1, 0)
    long = np.log10(np.maximum(0.3811 * r + 0.5783 * g + 0.0402 * b, 1 / 255))
    middle = np.log10(np.maximum(0.1967 * r + 0.7244 * g + 0.0782 * b, 1 / 255))
    short = np.log10(np.maximum(0.0241 * r + 0.1288 * g + 0.8444 * b, 1 / 255))
    lightness = (long + middle + short) / np.sqrt(3)
    return np.stack([lightness, (long + middle - 2 * short) / np.sqrt(6), (long - middle) / np.sqrt(2)], -1)


@pytest.fixture(scope="module")
def soft() -> np.ndarray:
    """A colourful image far from black and white, so that nothing is clipped."""
    noise = np.random.default_rng(3).uniform(-1, 1, (40, 50, 3)).astype(np.float32)
    return np.clip(150 + 200 * cv2.GaussianBlur(noise, (0, 0), 2), 90, 200).astype(np.uint8)


def test_reinhard_gives_the_image_the_fitted_mean_and_deviation(soft):
    target = fit_reinhard([(soft[::-1] * (0.9, 0.7, 1.0)).astype(np.uint8)])
    lab = to_lab(target(tf.constant(soft, tf.float32)).numpy()).reshape(-1, 3)
    np.testing.assert_allclose(lab.mean(axis=0), target.mean, atol=0.003)
    np.testing.assert_allclose(lab.std(axis=0), target.deviation, atol=0.003)


def test_reinhard_fit_is_the_average_of_the_images_moments(soft):
    images = [soft, stained(AZURE, EOSIN, 1)]
    pixels = [to_lab(image).reshape(-1, 3) for image in images]
    fitted = fit_reinhard(images)
    np.testing.assert_allclose(fitted.mean, np.mean([p.mean(axis=0) for p in pixels], axis=0), atol=1e-4)
    np.testing.assert_allclose(fitted.deviation, np.mean([p.std(axis=0) for p in pixels], axis=0), atol=1e-4)


def test_reinhard_leaves_the_image_it_was_fitted_on(soft):
    np.testing.assert_allclose(fit_reinhard([soft])(tf.constant(soft, tf.float32)), soft, atol=0.1)


@pytest.mark.parametrize("fit", [fit_reinhard, fit_macenko])
def test_a_black_background_takes_no_part_and_stays_black(fit):
    cell = stained(AZURE, EOSIN, 1)
    framed = np.pad(cell, [(30, 30), (30, 30), (0, 0)])
    assert fit([framed]) == fit([cell])
    other = stained(OTHER_AZURE, OTHER_EOSIN, 2)
    plain = fit([cell])(tf.constant(other, tf.float32)).numpy()
    result = fit([cell])(tf.constant(np.pad(other, [(30, 30), (30, 30), (0, 0)]), tf.float32)).numpy()
    np.testing.assert_allclose(result[30:-30, 30:-30], plain, atol=0.05)
    result[30:-30, 30:-30] = 0
    assert not result.any()


def test_macenko_finds_the_dyes_an_image_was_made_of():
    fitted = fit_macenko([stained(AZURE, EOSIN, seed) for seed in range(3)])
    for found, made in ((fitted.basic_dye, AZURE), (fitted.acid_dye, EOSIN)):
        angle = np.degrees(np.arccos(np.dot(found, made / np.linalg.norm(made))))
        assert angle < 8  # percentiles of pixels that pass the density threshold, not the pure dyes
        assert np.isclose(np.linalg.norm(found), 1, atol=1e-5)
    swapped = fit_macenko([stained(EOSIN, AZURE, seed) for seed in range(3)])
    np.testing.assert_allclose(swapped.basic_dye, fitted.basic_dye, atol=0.1)


def macenko_by_singular_values(image: np.ndarray, target: MacenkoNormalization) -> np.ndarray:
    """The method once more in plain numpy: singular vectors, percentiles, least squares."""
    density = -np.log((image.reshape(-1, 3) + 1.0) / 256)
    tissue = density[density.mean(axis=1) > 0.15]
    _, _, rows = np.linalg.svd(tissue, full_matrices=False)
    main, second = rows[0] * np.sign(rows[0].sum()), rows[1]
    angles = np.arctan2(tissue @ second, tissue @ main)
    ends = [np.cos(a) * main + np.sin(a) * second for a in np.percentile(angles, [1, 99])]
    dyes = np.stack(sorted(ends, key=lambda dye: -dye[0]))
    amounts = np.linalg.lstsq(dyes.T, density.T, rcond=None)[0]
    tissue_amounts = np.linalg.lstsq(dyes.T, tissue.T, rcond=None)[0]
    scale = np.array(target.strengths) / np.percentile(tissue_amounts, 99, axis=1)
    recombined = (amounts * scale[:, None]).T @ np.array([target.basic_dye, target.acid_dye])
    return np.clip(256 * np.exp(-recombined) - 1, 0, 255).reshape(image.shape)


def test_macenko_equals_the_method_written_with_singular_values():
    target = fit_macenko([stained(AZURE, EOSIN, 1)])
    image = stained(OTHER_AZURE, OTHER_EOSIN, 2)
    ours = target(tf.constant(image, tf.float32)).numpy()
    np.testing.assert_allclose(ours, macenko_by_singular_values(image, target), atol=0.05)


@pytest.mark.parametrize("fit", [fit_reinhard, fit_macenko])
def test_two_stainings_of_one_cell_look_alike_afterwards(fit):
    target = fit([stained(AZURE, EOSIN, 1)])
    images = [stained(AZURE, EOSIN, 4), stained(OTHER_AZURE, OTHER_EOSIN, 4, strength=0.6)]
    before = np.abs(np.subtract(*(image.astype(float) for image in images))).mean()
    normalized = [target(tf.constant(image, tf.float32)).numpy() for image in images]
    after = np.abs(np.subtract(*normalized)).mean()
    assert before > 10
    assert after < before / 2


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_image_without_stain_gives_finite_pixels(level):
    flat = np.full((20, 20, 3), level, np.float32)
    chosen = [fit([stained(AZURE, EOSIN, 1)]) for fit in (fit_reinhard, fit_macenko)]
    for operation in chosen:
        result = operation(tf.constant(flat)).numpy()
        assert np.isfinite(result).all()
        assert result.std(axis=(0, 1)).max() < 1e-3
    if level != 128:
        np.testing.assert_array_equal(chosen[1](tf.constant(flat)), flat)


def test_fits_refuse_images_that_show_nothing():
    for fit in (fit_reinhard, fit_macenko):
        with pytest.raises(DataError, match="stained pixels"):
            fit([np.zeros((30, 30, 3), np.uint8)])
    with pytest.raises(SettingsError, match="two directions"):
        MacenkoNormalization((0.6, 0.7, 0.3), (0.6, 0.7, 0.3), (1, 1))
    with pytest.raises(SettingsError, match="deviation must be"):
        ReinhardNormalization((0, 0, 0), (0, 1, 1))


def test_a_chain_is_fitted_on_images_as_the_steps_before_leave_them():
    images = [
        np.pad(stained(AZURE, EOSIN, seed), [(9, 9), (9, 9), (0, 0)], mode="maximum") for seed in (1, 2)
    ]
    steps = [{"op": "center_crop", "height": 64, "width": 64}, {"op": "macenko", "darkest": 3}]
    chain = fit_chain(steps, lambda: images)
    inner = [image[9:-9, 9:-9] for image in images]
    assert chain == Chain((CenterCrop(64, 64), fit_macenko(inner, darkest=3)))
    assert fit_chain(chain.to_json(), lambda: pytest.fail("looked at images")) == chain


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"op": "reinhard", "mean": [0, 0, 0]}], "deviation.*missing"),
        ([{"op": "reinhard", "darkness": 3}], "did you mean darkest"),
        ([{"op": "rheinhard"}], "did you mean reinhard"),
        ({"op": "reinhard"}, "must be a list"),
        ([["reinhard"]], 'key "op"'),
    ],
)
def test_a_wrong_chain_is_refused_before_any_fit(steps, said):
    with pytest.raises(SettingsError, match=said):
        fit_chain(steps, lambda: pytest.fail("looked at images"))


@pytest.mark.realdata
@pytest.mark.parametrize("fit", [fit_reinhard, fit_macenko])
def test_real_smears_resemble_one_another_more_after_a_fit_on_others(real_data, fit):
    paths = sorted((real_data / "aria" / "Original").glob("*/*.jpg"))

    def read(chosen):
        return [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in chosen]

    def spread(images) -> float:
        """How far apart the colours of the images' darkest twentieth are (the cells)."""
        cells = []
        for image in images:
            grey = np.asarray(image).mean(axis=-1)
            cells.append(np.asarray(image)[grey <= np.quantile(grey, 0.05)].mean(axis=0))
        return float(np.std(cells, axis=0).mean())

    chain = Chain((fit(read(paths[::90])),))
    images = read(paths[50::130])
    assert spread([chain(tf.constant(image)).numpy() for image in images]) < 0.8 * spread(images)


def test_a_stain_shift_multiplies_the_amounts_of_two_dyes_and_leaves_black_as_it_is():
    """Ruifrok's colours of haematoxylin and eosin, by hand: half the blue, a third more of the pink."""
    dyes = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    amounts = np.array([[0.0, 0.0], [0.6, 0.0], [0.0, 0.6], [0.4, 0.3]])
    grey = 256 * np.exp(-amounts @ dyes) - 1
    image = np.concatenate([grey, [[3.0, 4.0, 0.0]]])[None].astype(np.float32)
    shifted = StainShift(basic=0.5, acid=4 / 3)(tf.constant(image)).numpy()[0]
    wanted = 256 * np.exp(-(amounts * [0.5, 4 / 3]) @ dyes) - 1
    np.testing.assert_allclose(shifted[:4], wanted, atol=0.01)
    np.testing.assert_array_equal(shifted[4], image[0, 4])
    np.testing.assert_allclose(StainShift()(tf.constant(image)).numpy(), image, atol=0.01)
    with pytest.raises(SettingsError, match="basic"):
        StainShift(basic=0)
