"""Exact and near duplicates: planted copies are found, unrelated cells are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kerasall.data.duplicates import NearDuplicateSettings, exact_duplicates, search_duplicates
from kerasall.data.examples import make_examples
from kerasall.data.likeness import ORIENTATIONS, compare_aligned, extract_grain, measure_grain, orient
from kerasall.data.statistics import scan_images
from kerasall.errors import DataError, SettingsError


def _jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


def _crop(image, share):
    top, left = (round(share * side / 2) for side in image.shape[:2])
    return image[top : image.shape[0] - top, left : image.shape[1] - left]


def _shift(image, x, y):
    size = image.shape[1::-1]
    return cv2.warpAffine(image, np.float32([[1, 0, x], [0, 1, y]]), size, borderMode=cv2.BORDER_REFLECT)


def _resized(image, factor):
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


CHANGES = {
    "compressed": lambda image: _jpeg(image, 60),
    "resized": lambda image: _resized(image, 0.9),
    "brighter": lambda image: np.clip(image * 1.06 + 4 * (image > 0), 0, 255).astype(np.uint8),
    "shifted": lambda image: _shift(image, 4, -3),
    "cropped": lambda image: _crop(image, 0.05),
    "mirrored": lambda image: image[:, ::-1],
    "turned": lambda image: np.rot90(image),
    "mirrored, turned and compressed": lambda image: _jpeg(np.rot90(image[:, ::-1], 3).copy(), 80),
}


def _noise(rng, side, grain):
    noise = rng.normal(size=(side // grain + 2, side // grain + 2)).astype(np.float32)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def _draw_cell(rng, side=160):
    """An ellipse on black with a darker nucleus and its own chromatin: alike but for the grain."""
    cell, nucleus = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
    axes, angle = rng.uniform(0.26, 0.4, 2) * side, rng.uniform(0, 180)
    cv2.ellipse(cell, (side // 2, side // 2), tuple(axes.astype(int)), angle, 0, 360, 1, -1)
    cv2.ellipse(nucleus, (side // 2, side // 2), tuple((axes * 0.8).astype(int)), angle, 0, 360, 1, -1)
    grey = 140 - 50 * cv2.GaussianBlur(nucleus.astype(np.float32), (0, 0), 1.5) + 7 * _noise(rng, side, 5)
    colours = grey[..., None] * np.float32([1.0, 0.6, 0.9]) * cell[..., None]
    return np.clip(colours, 0, 255).astype(np.uint8)


def _write(folder, images, suffix=".png"):
    rows = []
    for name, image in images.items():
        path = folder / (name.replace(" ", "_").replace(",", "") + suffix)
        assert cv2.imwrite(str(path), np.ascontiguousarray(image))
        rows.append({"id": name, "path": str(path), "label": "x", "subject": name.split("/")[0]})
    return make_examples(rows)


def _find(examples, **settings):
    found = search_duplicates(examples, scan_images(examples), NearDuplicateSettings(**settings))
    if found.near_error:
        raise DataError(found.near_error)
    return found.near


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(7)
    return {f"cell{index:03d}": _draw_cell(rng) for index in range(120)}


def test_exact_groups_are_byte_identical_readable_files(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("e", b""), ("f", b"")):
        (tmp_path / name).write_bytes(content)
    picture = cv2.imencode(".png", np.arange(75, dtype=np.uint8).reshape(5, 5, 3))[1].tobytes()
    for name in ("c", "d"):
        (tmp_path / name).write_bytes(picture)
    examples = make_examples([{"id": n, "path": str(tmp_path / n), "label": "x"} for n in "fedcba"])
    assert exact_duplicates(scan_images(examples)) == [["c", "d"]]


def test_unrelated_rendered_cells_on_black_are_not_grouped(tmp_path, cells):
    assert _find(_write(tmp_path, cells)) == []


@pytest.mark.parametrize("change", CHANGES)
def test_planted_copies_of_rendered_cells_are_found(tmp_path, cells, change):
    some = dict(list(cells.items())[:12])
    examples = _write(tmp_path, {**some, "copy": CHANGES[change](some["cell005"])})
    assert _find(examples) == [["cell005", "copy"]]


def test_copies_are_found_on_any_order_of_rows_with_one_result(tmp_path, cells):
    some = dict(list(cells.items())[:10])
    some |= {f"z{i}": change(some[f"cell00{i}"]) for i, change in enumerate(list(CHANGES.values())[:4])}
    examples = _write(tmp_path, some)
    expected = [[f"cell00{i}", f"z{i}"] for i in range(4)]
    assert _find(examples) == expected
    assert _find(examples.sample(frac=1, random_state=3).reset_index(drop=True)) == expected


def test_byte_identical_copies_join_the_near_group_but_make_none(tmp_path, cells):
    first, second = cells["cell000"], cells["cell001"]
    images = {"a": first, "b": first, "c": first[:, ::-1], "d": second, "e": second}
    examples = _write(tmp_path, images)
    assert exact_duplicates(scan_images(examples)) == [["a", "b"], ["d", "e"]]
    assert _find(examples) == [["a", "b", "c"]]


def test_blank_and_tiny_images_are_not_compared(tmp_path):
    rng = np.random.default_rng(0)
    images = {f"blank{i}": np.full((64, 64, 3), 250 - i, np.uint8) for i in range(3)}
    images |= {f"tiny{i}": rng.integers(0, 255, (8, 8, 3), dtype=np.uint8) for i in range(40)}
    images |= {f"noise{i}": rng.integers(0, 255, (48, 48, 3), dtype=np.uint8) for i in range(40)}
    assert _find(_write(tmp_path, images)) == []


def test_group_of_more_than_three_subjects_names_the_threshold(tmp_path, cells):
    original = cells["cell000"]
    images = {f"{subject}/x": np.rot90(original, k) for k, subject in enumerate("abcd")}
    images = {name.replace("/", "_"): image for name, image in images.items()}
    examples = _write(tmp_path, {**images, **dict(list(cells.items())[1:5])})
    with pytest.raises(DataError, match=r"at most 3 subjects.*4 subjects.*near_duplicates.confirm"):
        _find(examples)
    assert _find(examples, max_subjects=4, max_share=1.0) == [["a_x", "b_x", "c_x", "d_x"]]


def test_group_of_more_than_five_per_cent_names_the_threshold(tmp_path, cells):
    shifts = {f"y{i}": _shift(cells["cell000"], i, 0) for i in range(1, 7)}
    examples = _write(tmp_path, {**dict(list(cells.items())[:60]), **shifts}).assign(subject="one")
    with pytest.raises(DataError, match=r"5% of the images.*7 images, 11%.*near_duplicates.confirm"):
        _find(examples)


def test_copies_that_are_named_so_are_no_excess(tmp_path, cells):
    copies = {f"cell000_shift{i}": _shift(cells["cell000"], i, 0) for i in range(1, 7)}
    examples = _write(tmp_path, {**dict(list(cells.items())[:60]), **copies}).assign(subject="one")
    assert _find(examples) == [["cell000", *sorted(copies)]]


def test_disabled_search_finds_nothing(tmp_path, cells):
    examples = _write(tmp_path, {"a": cells["cell000"], "b": cells["cell000"][::-1]})
    assert _find(examples, enabled=False) == []
    assert _find(examples) == [["a", "b"]]


def test_senseless_thresholds_are_refused():
    with pytest.raises(SettingsError, match=r"near_duplicates\.confirm"):
        NearDuplicateSettings(confirm=1.5)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 400])
def test_the_grain_of_a_cell_is_the_median_of_what_is_not_outside(count):
    band = np.zeros((32, 32), np.float32)
    band.ravel()[:count] = np.random.default_rng(count).normal(size=count)
    assert measure_grain(band, is_field=False) == (np.median(np.abs(band[band != 0])) if count else 0)


def test_likeness_sees_through_every_orientation():
    rng = np.random.default_rng(1)
    picture = np.clip(128 + 40 * _noise(rng, 128, 4), 1, 255).astype(np.uint8)
    other = np.clip(128 + 40 * _noise(rng, 128, 4), 1, 255).astype(np.uint8)
    first, unlike = extract_grain(picture, 0.4, 1.5), extract_grain(other, 0.4, 1.5)
    for orientation in range(ORIENTATIONS):
        inverse = orientation if orientation >= 4 else -orientation % 4
        turned = extract_grain(orient(picture, inverse), 0.4, 1.5)
        assert compare_aligned(first, turned, orientation) == pytest.approx(1, abs=1e-3)
        assert compare_aligned(unlike, turned, orientation) < 0.3


@pytest.mark.realdata
@pytest.mark.parametrize("change", CHANGES)
def test_planted_copies_of_real_images_are_found(real_data, tmp_path, change):
    paths = sorted((real_data / "cnmc_sample").glob("*.bmp"))
    paths += sorted((real_data / "aria" / "Original" / "Pre").glob("*.jpg"))[:120:12]
    images = {f"{path.stem}": cv2.imread(str(path)) for path in paths}
    chosen = [paths[0].stem, paths[5].stem, paths[12].stem]
    copies = {f"{name}~": CHANGES[change](images[name]) for name in chosen}
    found = _find(_write(tmp_path, {**images, **copies}))
    assert found == sorted([name, f"{name}~"] for name in chosen)


@pytest.mark.realdata
def test_unrelated_real_cells_are_not_grouped_even_when_all_are_nominated(real_data):
    paths = sorted((real_data / "cnmc_sample").glob("*.bmp"))
    examples = make_examples([{"id": p.name, "path": str(p), "label": "x", "subject": p.name} for p in paths])
    assert _find(examples, nominate=0.01) == []


@pytest.mark.realdata
def test_near_duplicates_of_the_four_class_set_are_neighbours_of_one_class(real_data):
    paths = sorted((real_data / "aria" / "Original" / "Pro").glob("*.jpg"))[:260]
    examples = make_examples([{"id": p.name, "path": str(p), "label": "Pro"} for p in paths])
    exact, near = exact_duplicates(scan_images(examples)), _find(examples)
    assert len(exact) >= 10
    assert len(near) >= 5
    assert max(map(len, near)) <= 3
    numbers = [[int(name[-7:-4]) for name in group] for group in near]
    assert np.median([max(group) - min(group) for group in numbers]) <= 2
