"""What colour alone tells: all of it where classes differ in colour, nothing where they do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kerasall.data.oddness import MEASURES, score_colour_alone

CLASSES = ("all", "hem")


def make_images(difference: float, slides: float = 3.0) -> pd.DataFrame:
    """24 subjects of 6 images; classes differ in green, subjects in everything."""
    rng, each = np.random.default_rng(2), 6
    subjects = np.repeat(np.arange(24), each)
    values = rng.normal(100, 1, (len(subjects), 6)) + rng.normal(0, slides, (24, 6))[subjects]
    table = pd.DataFrame(values, columns=list(MEASURES))
    table["green"] += difference * (subjects % 2)
    names = np.char.add("s", subjects.astype(str))
    ids = [f"i{k}" for k in range(len(table))]
    return table.assign(id=ids, path=ids, label=np.array(CLASSES)[subjects % 2], subject=names)


def test_a_difference_in_colour_is_found():
    images = make_images(30)
    found = score_colour_alone(images, images["subject"].to_numpy(str), CLASSES)
    assert found.value > 0.95
    assert found.groups == 24


def test_a_subjects_own_colour_does_not_count():
    """Images of one subject are alike; a forest that saw some would call the others rightly."""
    images = make_images(0)
    found = score_colour_alone(images, images["subject"].to_numpy(str), CLASSES)
    assert found.low <= 0.5 <= found.high + 0.1
    leaky = score_colour_alone(images, images["id"].to_numpy(str), CLASSES)
    assert leaky.value > found.value + 0.2


@pytest.mark.parametrize("rows", [slice(0, 30), slice(0, 0)])
def test_too_few_images_give_no_score(rows):
    images = make_images(30).iloc[rows].reset_index(drop=True)
    assert score_colour_alone(images, images["subject"].to_numpy(str), CLASSES) is None
