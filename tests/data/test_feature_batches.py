"""Batches of stored features are those of the dataset they spare."""

from __future__ import annotations

import numpy as np
import pytest

from kerasall.data.input_pipeline import epoch_batches, feature_batches


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
def test_they_equal_the_batches_of_a_dataset(weighted, shuffled):
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(50, 7)).astype(np.float32), random.integers(0, 3, 50)
    targets, rows = np.eye(3, dtype=np.float32)[labels], np.array([3, 3, 49, *range(10, 40)])
    weights = random.uniform(1, 2, 50) if weighted else None
    for epoch in (0, 4):
        same = {"batch_size": 8, "indices": rows, "sample_weights": weights}
        found = feature_batches(features, targets, shuffle=(5, epoch) if shuffled else None, **same)
        wanted = list(epoch_batches(features, targets, seed=5, epoch=epoch, shuffle=shuffled, **same))
        assert len(found) == len(wanted) == 5
        for mine, theirs in zip(found, wanted, strict=True):
            assert len(mine) == len(theirs)
            for one, other in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(one, other.numpy())
