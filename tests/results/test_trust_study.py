"""The study of trust: what is taken out of an image is gone, and images that say nothing score as a guess."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from small_images import make_features, make_images

from results.leakage import HEADS, PROTOCOLS, draw_split, number_parts, predict_out_of_fold
from results.pages.trust import section
from results.provenance import round_numbers
from results.trust import (
    GREY,
    alter_cells,
    alter_fields,
    compare_altered,
    measure_domain,
    measure_trust,
    share_beyond,
)


@pytest.fixture(scope="module")
def images():
    return make_images()


@pytest.fixture(scope="module")
def split(images):
    return draw_split(images, PROTOCOLS["cnmc"][-1], 0)


def draw_disc(colour, ground, side=96):
    rows, columns = np.mgrid[:side, :side] - side / 2
    inside = rows**2 + columns**2 < (side / 4) ** 2
    noise = np.random.default_rng(0).integers(-8, 8, (side, side, 3))
    picture = np.where(inside[..., None], np.array(colour) + noise, np.array(ground))
    return picture.astype(np.uint8), inside


def test_outlines_lose_everything_but_the_outline():
    (purple, inside), (blue, _) = draw_disc((150, 60, 160), (0, 0, 0)), draw_disc((60, 60, 200), (0, 0, 0))
    first, second = alter_cells(purple), alter_cells(blue)
    np.testing.assert_array_equal(first["outline"], second["outline"])
    assert set(np.unique(first["outline"])) == {0, GREY}
    assert first["outline"].shape == purple.shape
    assert first["outline"].dtype == np.uint8
    assert (first["outline"].any(axis=-1) == inside).mean() > 0.99
    flat = first["outline_colour"]
    assert len(np.unique(flat[inside], axis=0)) <= 2
    assert np.abs(flat[48, 48].astype(int) - [150, 60, 160]).max() <= 2


@pytest.mark.slow  # loads TensorFlow
def test_fields_lose_their_cells_or_all_else():
    field, inside = draw_disc((140, 60, 170), (225, 200, 205))
    altered = alter_fields(field)
    gone, alone = altered["no_cells"], altered["cells_alone"]
    assert gone.dtype == alone.dtype == np.uint8
    assert np.abs(gone[inside].astype(int) - [225, 200, 205]).mean() < 12
    np.testing.assert_array_equal(gone[:10], field[:10])
    np.testing.assert_array_equal(alone[40:56, 40:56], field[40:56, 40:56])
    assert np.abs(alone[~inside].astype(int) - np.median(field, axis=(0, 1))).max() <= 1 + 25 * (
        inside.mean() > 0.5
    )


def test_images_that_say_nothing_keep_no_score(images, split):
    parts, whole = number_parts(images, split), make_features(images, class_shift=4, subject_spread=0)
    same, blank = (
        compare_altered(images, whole, whole, parts),
        compare_altered(images, whole, 0 * whole, parts),
    )
    assert same["calls_kept"]["value"] == 1
    assert same["fitted_to_altered_less_whole"]["accuracy"]["difference"] == 0
    assert blank["fitted_to_altered"]["balanced_accuracy"]["value"] == pytest.approx(0.5, abs=0.1)
    assert blank["fitted_to_altered_less_whole"]["accuracy"]["difference"] < -0.3


def test_the_limit_of_the_domain_keeps_its_own_images_and_not_others(images, split):
    parts = number_parts(images, split)
    features, pictures = make_features(images, 1, 0, seed=1), make_features(images, 0, 0, seed=2)
    distance, domain, distances = measure_domain(images, (features, pictures), parts)
    assert share_beyond(images, distances, domain.limit)["value"] == pytest.approx(0.05, abs=0.03)
    assert (distance.measure(np, features + 20, pictures) > domain.limit).all()
    record = predict_out_of_fold(images, features, parts, HEADS["linear"])
    folds = {fold: split.ids(fold) for fold in split.folds}
    found = measure_trust(record, folds, ("all",), distances, domain)
    assert found["calibration"]["cross_fitted"]
    assert [each["wanted"] for each in found["operating_points"]] == [0.95, 0.99]
    assert "unlike the training images" in found["referral"]["reasons"]
    assert found["decision_curve"]


def test_the_page_is_written_from_the_document(images, split):
    features = make_features(images, 2, 0, seed=1)
    parts = number_parts(images, split)
    record = predict_out_of_fold(images, features, parts, HEADS["linear"])
    share = {"value": 0.9, "low": 0.8, "high": 0.95}
    found = {
        "scores": dict.fromkeys(("balanced_accuracy", "roc_auc"), share),
        "trust": measure_trust(record, {fold: split.ids(fold) for fold in split.folds}, ("all",)),
        "colour_alone": {"groups": share, "single_images": None},
        "other_set": {"source": "aria"} | share,
        "altered": {"blank": {"title": "nothing"} | compare_altered(images, features, 0 * features, parts)},
    }
    document = {"command": "COMMAND", "sets": {"cnmc": round_numbers(found)}}
    page = "\n".join(section(json.loads(json.dumps(document, allow_nan=False))))
    assert (
        "as the head does not): balanced accuracy 0.900 (0.800 to 0.950) with groups whole, – with single"
        in page
    )
    assert "| nothing |" in page
    assert "None" not in page
    assert not re.search(r"\bnan\b", page)
