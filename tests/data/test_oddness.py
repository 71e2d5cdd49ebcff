"""Subjects and images unlike the rest: planted ones are found, like ones are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kerasall.data.oddness import (
    FEWEST,
    MEASURES,
    find_odd_images,
    find_odd_subjects,
    odd_limit,
    robust_deviations,
    subject_medians,
)


def make_images(subjects: int = 24, each: int = 8, seed: int = 0) -> pd.DataFrame:
    """Images of alike subjects of two classes; measures in the range of real ones."""
    rng = np.random.default_rng(seed)
    names = np.repeat([f"s{k:02d}" for k in range(subjects)], each)
    labels = np.where(np.repeat(np.arange(subjects), each) % 2 == 0, "all", "hem")
    slide = np.repeat(rng.normal(size=(subjects, len(MEASURES))), each, axis=0)
    values = 100 + 6 * slide + 4 * rng.normal(size=slide.shape)
    table = pd.DataFrame(values, columns=list(MEASURES))
    ids = [f"i{k:03d}" for k in range(len(table))]
    return table.assign(id=ids, path=ids, label=labels, subject=names)


def test_robust_deviations_of_a_worked_example():
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 100])
    # Median 6; absolute deviations 0 to 5 twice but for 0, and 94: their median is 3.
    found = robust_deviations(values, np.full(11, "a"))
    assert found[-1] == pytest.approx(94 / (1.4826 * 3))
    assert found[5] == 0


def test_a_class_of_few_is_compared_with_all():
    values = np.concatenate([np.arange(20.0), [50.0]])
    strata = np.array(["a"] * 20 + ["b"])
    assert robust_deviations(values, strata)[-1] > 4
    assert (
        robust_deviations(values, np.array(["a"] * 20 + ["a"]))[-1] == robust_deviations(values, strata)[-1]
    )


def test_the_planted_subject_is_found_in_its_measure():
    images = make_images()
    inside = images["subject"] == "s07"
    images.loc[inside, "focus"] -= 120
    found = find_odd_subjects(images)
    assert [(odd.subject, odd.measure) for odd in found] == [("s07", "focus")]
    assert found[0].label == "hem"
    assert found[0].images == 8
    assert found[0].deviations < -odd_limit(12)
    assert found[0].value == pytest.approx(images.loc[inside, "focus"].median())
    shuffled = images.sample(frac=1, random_state=3).reset_index(drop=True)
    assert find_odd_subjects(shuffled) == found


def test_a_difference_between_classes_is_not_odd():
    images = make_images()
    images.loc[images["label"] == "hem", list(MEASURES)] += 500
    assert find_odd_subjects(images) == []


def test_few_subjects_are_never_odd_and_none_is_left_out_of_the_medians():
    images = make_images(subjects=FEWEST - 1)
    images.loc[images["subject"] == "s01", "green"] += 500
    assert find_odd_subjects(images) == []
    images.loc[0, "subject"] = ""
    assert subject_medians(images)["images"].sum() == len(images) - 1


@pytest.mark.parametrize("count", [10, 20, 73])
def test_alike_subjects_are_rarely_called_odd(count):
    rng = np.random.default_rng(1)
    called = [
        np.abs(robust_deviations(rng.normal(size=count), np.full(count, "a"))) >= odd_limit(count)
        for _ in range(20_000 // count)
    ]
    assert np.mean(called) < 0.002


def test_odd_images_name_their_oddest_measure():
    images = make_images()
    images.loc[5, "brightness"] = 400
    images.loc[9, "focus"] = -900
    found = find_odd_images(images)
    assert [(odd.id, odd.measure) for odd in found[:2]] == [("i009", "focus"), ("i005", "brightness")]
    assert find_odd_images(images, most=1) == found[:1]
    assert find_odd_images(images.iloc[:0]) == []
