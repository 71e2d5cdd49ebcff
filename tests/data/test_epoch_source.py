from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from kerasall.data.epoch_source import EpochSource, split_batches
from kerasall.data.input_pipeline import prediction_batches
from kerasall.errors import SettingsError

SEED, BATCH = 9, 8
ROWS = np.array([3, 3, 9, *range(20), 30, 30])  # of 31; repeats, as oversampling makes them
RANDOM = np.random.default_rng(2)
PIXELS = RANDOM.integers(0, 256, (31, 4, 5, 3), np.uint8)
TARGETS = RANDOM.random((31, 2)).astype(np.float32)
WEIGHTS = RANDOM.random(31).astype(np.float32)


def add_key(images, seeds):
    """Adds what the seeds are, and branches on a tensor."""
    images = tf.cast(images, tf.float32)
    if tf.size(seeds) > 0:
        images += tf.cast(seeds[:, 1] + seeds[:, 0] % 1000, tf.float32)[:, None, None, None]
    return images


def plain_epoch(epoch, *, augmented=False, weighted=False, parts=1):
    """An epoch's batches by a loop over NumPy arrays."""
    order = np.random.default_rng([SEED, epoch]).permutation(len(ROWS))
    key = int(np.random.SeedSequence([SEED, epoch]).generate_state(1)[0] >> 1)
    cut = split_batches(order, BATCH, parts)
    factors = np.ones(len(order), np.float32) if cut.factors is None else cut.factors
    for at in np.split(cut.order, np.cumsum(cut.sizes)[:-1]):
        rows = ROWS[at]
        images = PIXELS[rows]
        if augmented:
            images = images.astype(np.float32) + (at + key % 1000).astype(np.float32)[:, None, None, None]
        weights = WEIGHTS[rows] if weighted else np.ones(len(at), np.float32)
        last = [weights * factors[at]] if weighted or cut.factors is not None else []
        yield (images, TARGETS[rows], *last)


def make_source(*, pixels=PIXELS, augmented=False, weighted=False, parts=1):
    return EpochSource(
        pixels, TARGETS, batch_size=BATCH, seed=SEED, shuffle=True, indices=ROWS, parts=parts,
        augment=add_key if augmented else None, sample_weights=WEIGHTS if weighted else None,
    )  # fmt: skip


def assert_equal(found, expected):
    for ours, plain in zip(found, expected, strict=True):
        for column, wanted in zip(ours, plain, strict=True):
            np.testing.assert_array_equal(column, wanted, strict=True)


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"augmented": True},
        {"weighted": True},
        {"parts": 4},
        {"parts": 3},
        {"augmented": True, "weighted": True, "parts": 3},
    ],
    ids=str,
)
def test_epochs_in_any_order_are_those_of_a_plain_loop(kind):
    source = make_source(**kind)
    for epoch in (0, 1, 7, 1, 0):
        dataset, expected = source.epoch(epoch), list(plain_epoch(epoch, **kind))
        assert len(dataset) == len(expected)
        for _ in range(2):  # a dataset may be iterated again
            assert_equal(dataset.as_numpy_iterator(), expected)


def test_epochs_from_a_file_are_those_from_memory(tmp_path):
    np.save(tmp_path / "pixels.npy", PIXELS)
    source = make_source(pixels=np.load(tmp_path / "pixels.npy", mmap_mode="r"))
    for epoch in (2, 0):
        assert_equal(source.epoch(epoch).as_numpy_iterator(), plain_epoch(epoch))


@pytest.mark.parametrize("augmented", [False, True])
def test_iterators_of_different_epochs_do_not_meet(augmented):
    source = make_source(augmented=augmented)
    found = {epoch: [] for epoch in (0, 1, 2)}
    left = source.epoch(3).as_numpy_iterator()
    next(left)  # an epoch that ends early, while its next batches are being prepared
    live = {epoch: source.epoch(epoch).as_numpy_iterator() for epoch in found}
    for _ in range(len(source.epoch(0))):
        for epoch, batches in live.items():
            found[epoch].append(next(batches))
    for epoch, batches in found.items():
        assert_equal(batches, plain_epoch(epoch, augmented=augmented))
    assert_equal(left, list(plain_epoch(3, augmented=augmented))[1:])


def test_a_dataset_holds_what_it_reads_and_nothing_else_does():
    def iterate(dataset):
        pixels = PIXELS.copy()
        memory, batches = weakref.ref(pixels), iter(dataset(pixels))
        del pixels
        gc.collect()
        assert memory() is not None
        assert len(list(batches)) == 4
        return memory

    for dataset in (
        lambda pixels: make_source(pixels=pixels).epoch(1).map(lambda *batch: batch).take(5),
        lambda pixels: prediction_batches(pixels, batch_size=BATCH),
    ):
        memory = iterate(dataset)
        gc.collect()
        assert memory() is None


def test_a_negative_epoch_is_refused():
    with pytest.raises(SettingsError, match="epoch must be at least 0"):
        make_source().epoch(-1)
