"""Pairs found behind a bound are those of the exhaustive product."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kerasall.data import texture_pairs
from kerasall.data.cell_drawing import draw_image
from kerasall.data.duplicates import NearDuplicateSettings, find_near_duplicates
from kerasall.data.examples import make_examples
from kerasall.data.likeness import ORIENTATIONS, band_pass, orient, squash, to_unit_length
from kerasall.data.statistics import scan_images
from kerasall.data.texture_pairs import block_count, correlated_pairs, inverse
from kerasall.errors import DataError


def _unit(pictures):
    return to_unit_length(np.float32(pictures).reshape(len(pictures), -1)).reshape(-1, 32, 32)


def _exhaustive(textures, threshold):
    """All pairs, all orientations, in double precision."""
    vectors = textures.reshape(len(textures), -1).astype(np.float64)
    all_of_them = []
    for orientation in range(ORIENTATIONS):
        turned = orient(textures, int(inverse(orientation))).reshape(len(textures), -1)
        all_of_them.append(turned.astype(np.float64) @ vectors.T)
    correlations = np.stack(all_of_them, axis=2)
    first, second = np.nonzero(np.triu(correlations.max(axis=2) > threshold, 1))
    found = correlations[first, second]
    # Of orientations that are equal but for rounding, the first.
    best = np.where(found > threshold, found.round(6), -2).argmax(axis=1)
    return first, second, best, found[np.arange(len(found)), best]


def _assert_exhaustive(textures, threshold, least):
    blocks = list(correlated_pairs(textures, threshold))
    assert len(blocks) == block_count(len(textures))
    found = np.concatenate(blocks)
    found = found[np.lexsort((found[:, 1], found[:, 0]))].T
    expected = _exhaustive(textures, threshold)
    assert len(expected[0]) >= least
    for name, values in enumerate(expected[:3]):
        np.testing.assert_array_equal(found[name], values)
    np.testing.assert_allclose(found[3], expected[3], rtol=0, atol=1e-12)


def _noise(count, seed, blur=0.0):
    noise = np.random.default_rng(seed).normal(size=(count, 32, 32)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(each, (0, 0), blur) for each in noise]) if blur else noise


@pytest.fixture
def small_tiles(monkeypatch):
    """Few textures then meet many tiles and chunks, some of them not full."""
    monkeypatch.setattr(texture_pairs, "_ROWS", 24)
    monkeypatch.setattr(texture_pairs, "_COLUMNS", 72)
    monkeypatch.setattr(texture_pairs, "_CHUNK", 50)
    monkeypatch.setattr(texture_pairs, "_MOST_WAITING", 10)


def test_orientations_undo_one_another():
    picture = _noise(1, 0)
    for orientation in range(ORIENTATIONS):
        np.testing.assert_array_equal(
            orient(orient(picture, orientation), int(inverse(orientation))), picture
        )


@pytest.mark.parametrize(("kind", "band"), [("cnmc", (0.7, 3)), ("aria", (1.5, 6))])
def test_pairs_of_rendered_images_are_those_of_the_full_product(kind, band):
    pictures = [
        draw_image(kind, 0, (n % 2, n // 20, n), 32).mean(axis=2).astype(np.uint8) for n in range(400)
    ]
    textures = _unit([squash(band_pass(picture, *band)) for picture in pictures])
    for threshold in (0.25, 0.4, 0.55):
        _assert_exhaustive(textures, threshold, least=1 if threshold < 0.5 else 0)


@pytest.mark.parametrize("blur", [0, 0.8, 2.5])
def test_copies_in_every_orientation_are_found_among_many_tiles(small_tiles, blur):
    originals = _noise(200, 1, blur)
    rng = np.random.default_rng(2)
    copies = [orient(each, n % ORIENTATIONS) for n, each in enumerate(originals[rng.permutation(200)[:60]])]
    noise = _noise(60, 3, blur) * originals.std() / _noise(60, 3, blur).std()
    textures = _unit([*originals, *(copies + noise * rng.uniform(0, 2, (60, 1, 1)))])
    textures = textures[rng.permutation(260)]
    for threshold in (0.05, 0.3, 0.55, 0.9):
        _assert_exhaustive(textures, threshold, least=10)


def test_some_textures_need_more_coordinates_than_others(small_tiles):
    textures = np.concatenate([_unit(_noise(150, 4, 2)), _unit(_noise(90, 5))])
    textures[200:] = _unit(textures[200:] + orient(textures[:40], 5))
    _assert_exhaustive(textures[np.random.default_rng(6).permutation(240)], 0.3, least=40)


def test_symmetric_textures_take_the_first_of_their_equal_orientations(small_tiles):
    originals = _noise(40, 7, 1)
    symmetric = [
        np.sum([orient(each, turn) for turn in range(n % 2, 8, 2)], axis=0)
        for n, each in enumerate(originals)
    ]
    _assert_exhaustive(_unit([*symmetric, *symmetric, *(each[:, ::-1] for each in originals)]), 0.5, least=40)


@pytest.mark.parametrize("threshold", [0.1, 0.55, 0.95])
def test_pairs_a_hair_above_the_threshold_are_kept_and_a_hair_below_are_not(small_tiles, threshold):
    """Every second texture correlates with the one before by the threshold and as little as float32 can say."""
    rng = np.random.default_rng(8)
    ones = _unit(_noise(160, 9, 1.2)).reshape(160, -1)
    others = _unit(_noise(160, 10)).reshape(160, -1).astype(np.float64)
    others -= (others * ones).sum(axis=1, keepdims=True) * ones
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    wanted = threshold + rng.choice([-1, 1], 160) * 10.0 ** rng.uniform(-8, -3, 160)
    near = wanted[:, None] * ones + np.sqrt(1 - wanted[:, None] ** 2) * others
    turned = [orient(each, n % ORIENTATIONS) for n, each in enumerate(near.reshape(-1, 32, 32))]
    textures = np.concatenate([ones.reshape(-1, 32, 32), np.asarray(turned, np.float32)])
    _assert_exhaustive(textures, threshold, least=60)


def test_equality_of_the_bound_loses_no_pair(small_tiles):
    """What the first coordinates leave out is the same in both: the bound is then the correlation itself."""
    shared = _noise(1, 11)[0]
    smooth = _noise(120, 12, 3)
    textures = _unit(3 * smooth / smooth.std() + shared)
    values = _exhaustive(textures, 0.05)[3]
    for threshold in np.quantile(values, (0.3, 0.9, 0.999)) * (1 - 1e-9):
        _assert_exhaustive(textures, float(threshold), least=1)


def test_none_one_and_empty_textures_have_no_pairs():
    assert list(correlated_pairs(np.empty((0, 32, 32), np.float32), 0.5)) == []
    for textures in (_unit(_noise(1, 0)), np.zeros((5, 32, 32), np.float32)):
        assert [len(each) for each in correlated_pairs(textures, 0.5)] == [0]


def test_many_copies_of_one_image_are_refused(tmp_path):
    drawn = draw_image("cnmc", 0, (0, 0, 0), 64)
    for name in range(250):
        image = drawn.copy()
        image[24 + name // 16, 24 + name % 16] //= 2
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    rows = [{"id": str(n), "path": str(tmp_path / f"{n}.png"), "label": "x"} for n in range(250)]
    examples = make_examples(rows)
    with pytest.raises(DataError, match="over 100 pairs per image"):
        find_near_duplicates(examples, scan_images(examples), NearDuplicateSettings())
