"""Oversampling to counts, class weights, and the counts that the report shows."""

from __future__ import annotations

import doctest
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasall.data import oversampling
from kerasall.data.oversampling import count_classes, oversample, weigh_by_class
from kerasall.errors import DataError, SettingsError

NAMES = ("all", "hem")
PAPER_001 = np.repeat([0, 1], [5822, 2703])
"""Training cells of Mondal et al. 2021: 5,822 ALL and 2,703 healthy before oversampling."""


def test_the_counts_of_the_paper_come_out():
    rows = np.arange(len(PAPER_001))
    assert count_classes(PAPER_001, rows, NAMES) == {"all": 5822, "hem": 2703}
    more = oversample(PAPER_001, rows, "majority", seed=1)
    assert count_classes(PAPER_001, more, NAMES) == {"all": 5822, "hem": 5822}
    assert np.array_equal(more, oversample(PAPER_001, rows, {1: 5822}, seed=1))


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_every_row_stays_and_repeats_are_spread_evenly(labels, seed, data):
    labels = np.asarray(labels)
    rows = np.asarray(data.draw(st.sets(st.sampled_from(range(len(labels))), min_size=1).map(sorted)))
    counts = np.bincount(labels[rows], minlength=4)
    target = {int(c): int(counts[c]) + data.draw(st.integers(0, 50)) for c in np.flatnonzero(counts)}
    result = oversample(labels, rows, target, seed)
    np.testing.assert_array_equal(result[: len(rows)], rows)
    assert set(result.tolist()) == set(rows.tolist())  # nothing beyond the training rows
    for label, count in target.items():
        times = np.unique(result[labels[result] == label], return_counts=True)[1]
        assert times.sum() == count
        assert times.max() - times.min() <= 1
    np.testing.assert_array_equal(result, oversample(labels, rows, target, seed))


def test_the_seed_decides_which_rows_are_repeated_and_the_order_of_rows_does_not():
    rows = np.arange(len(PAPER_001))
    one, two = (oversample(PAPER_001, rows, "majority", seed) for seed in (1, 2))
    assert not np.array_equal(np.sort(one), np.sort(two))
    turned = oversample(PAPER_001, rows[::-1], "majority", 1)
    np.testing.assert_array_equal(np.sort(turned), np.sort(one))


def test_classes_that_a_target_does_not_name_keep_their_count():
    labels = [0, 1, 1, 2]
    assert count_classes(labels, oversample(labels, range(4), {0: 3}, 0), "abc") == {"a": 3, "b": 2, "c": 1}
    balanced = oversample([0, 1], [0, 1], "majority", 0)
    np.testing.assert_array_equal(balanced, [0, 1])


def test_undersampling_and_other_impossible_targets_are_refused():
    with pytest.raises(
        SettingsError, match=r"class 0 must be at least its 5,822 training images, but is 5,000"
    ):
        oversample(PAPER_001, np.arange(len(PAPER_001)), {0: 5000}, 0)
    with pytest.raises(SettingsError, match="class 2 has none"):
        oversample([0, 1], [0, 1], {2: 5}, 0)
    with pytest.raises(SettingsError, match="class 1 has none"):
        oversample([0, 1], [0], {1: 5}, 0)  # its images all stand outside the training part
    with pytest.raises(SettingsError, match="minority"):
        oversample([0, 1], [0, 1], "minority", 0)
    with pytest.raises(SettingsError, match="whole number"):
        oversample([0, 1], [0, 1], {1: 2.5}, 0)
    with pytest.raises(SettingsError, match="seed"):
        oversample([0, 1], [0, 1], "majority", -1)


@pytest.mark.parametrize("rows", [[], [0, 0], [2], [-1], [0.0], [[0]]])
def test_rows_that_are_no_training_rows_are_refused(rows):
    with pytest.raises(DataError, match="rows"):
        oversample([0, 1], rows, "majority", 0)


@pytest.mark.parametrize("labels", [[0.0, 1.0], [[0, 1]], [-1, 0]])
def test_labels_that_are_no_class_indices_are_refused(labels):
    with pytest.raises(DataError, match="class indices"):
        oversample(labels, [0], "majority", 0)


def test_class_weights_become_sample_weights():
    np.testing.assert_array_equal(weigh_by_class([1, 0, 1], {0: 2.0, 1: 0.5}), np.float32([0.5, 2, 0.5]))
    with pytest.raises(SettingsError, match=r"\[1\] have none"):
        weigh_by_class([1, 0], {0: 2.0})
    with pytest.raises(SettingsError, match="positive"):
        weigh_by_class([0], {0: 0.0})


def test_examples_in_the_docstrings_hold_and_tensorflow_stays_out():
    assert doctest.testmod(oversampling).failed == 0
    program = "import sys, kerasall.data.oversampling; print({'tensorflow', 'keras'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
