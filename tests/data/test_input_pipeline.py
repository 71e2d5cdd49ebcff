"""The batches of every epoch are those of a plain loop: rows, order, augmentation, weights, parts."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from kerasall.data.input_pipeline import (
    EpochSource,
    FeatureBatches,
    epoch_batches,
    prediction_batches,
    split_batches,
)
from kerasall.errors import DataError, SettingsError

# Batches


def numbered(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images whose every pixel is their own number, and their classes."""
    pixels = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 4, 5, 3))
    return np.ascontiguousarray(pixels), np.arange(count) % 3


def visited(batches) -> list[int]:
    return [int(row.flat[0]) for batch in batches for row in batch[0].numpy()]


def test_batches_are_those_of_a_plain_loop():
    pixels, labels = numbered(11)
    batches = list(epoch_batches(pixels, labels, classes=3, batch_size=4))
    assert [len(images) for images, _ in batches] == [4, 4, 3]
    for start, (images, targets) in zip((0, 4, 8), batches, strict=True):
        np.testing.assert_array_equal(images, pixels[start : start + 4])
        np.testing.assert_array_equal(targets, np.eye(3, dtype=np.float32)[labels[start : start + 4]])
        assert (images.dtype, targets.dtype) == (tf.uint8, tf.float32)


def test_shuffled_epochs_visit_every_row_once_in_ever_new_orders_that_can_be_repeated():
    pixels, labels = numbered(50)

    def order(seed, epoch):
        batches = epoch_batches(pixels, labels, classes=3, batch_size=8, seed=seed, epoch=epoch, shuffle=True)
        return visited(batches)

    orders = [order(5, 0), order(5, 1), order(5, 2), order(6, 0)]
    assert all(sorted(each) == list(range(50)) for each in orders)
    assert len({tuple(each) for each in [*orders, list(range(50))]}) == 5
    assert order(5, 1) == orders[1]  # the same without the epochs before it: a resumed run


def test_labels_and_weights_stay_with_their_rows_when_shuffled():
    pixels, labels = numbered(23)
    weights = np.arange(23) / 10
    batches = epoch_batches(
        pixels, labels, classes=3, batch_size=5, seed=1, shuffle=True, sample_weights=weights
    )
    for images, targets, weight in batches:
        row = images.numpy()[:, 0, 0, 0].astype(int)
        np.testing.assert_array_equal(targets.numpy().argmax(axis=1), labels[row])
        np.testing.assert_allclose(weight, weights[row], rtol=1e-6)


def test_indices_choose_and_repeat_rows():
    pixels, labels = numbered(10)
    chosen = np.array([7, 2, 2, 9])
    assert visited(epoch_batches(pixels, labels, classes=3, batch_size=3, indices=chosen)) == [7, 2, 2, 9]
    shuffled = epoch_batches(pixels, labels, classes=3, batch_size=3, indices=chosen, shuffle=True, epoch=4)
    assert sorted(visited(shuffled)) == [2, 2, 7, 9]


def test_features_and_soft_labels_pass_unchanged():
    features = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    soft = np.full((9, 2), 0.5)
    dataset = epoch_batches(features, soft, batch_size=4)
    assert dataset.element_spec[0].shape == (None, 6)
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in dataset]), features)
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in dataset]), soft)


def test_static_shapes_and_count_are_known_to_fit():
    pixels, labels = numbered(10)
    dataset = epoch_batches(pixels, labels, classes=3, batch_size=4, augment=add_noise)
    assert dataset.cardinality() == 3
    assert dataset.element_spec[0] == tf.TensorSpec([None, 4, 5, 3], tf.float32)
    assert dataset.element_spec[1] == tf.TensorSpec([None, 3], tf.float32)


def test_prediction_batches_are_the_rows_in_order(tmp_path):
    pixels, _ = numbered(10)
    np.save(tmp_path / "pixels.npy", pixels)
    stored = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    batches = list(prediction_batches(stored, batch_size=4))
    np.testing.assert_array_equal(np.concatenate(batches), pixels)
    (chosen,) = prediction_batches(stored, batch_size=4, indices=np.array([3, 1]))
    np.testing.assert_array_equal(chosen, pixels[[3, 1]])


def add_noise(images, seeds):
    def one(pair):
        image, seed = pair
        return tf.cast(image, tf.float32) + tf.random.stateless_uniform(tf.shape(image), seed)

    return tf.map_fn(one, (images, seeds), fn_output_signature=tf.float32)


def test_augmentation_is_keyed_by_seed_epoch_and_row_not_by_batch_or_order():
    pixels, labels = numbered(12)

    def by_row(**arguments):
        dataset = epoch_batches(pixels, labels, classes=3, augment=add_noise, **arguments)
        images = np.concatenate([images for images, _ in dataset])
        return images[np.argsort(images[:, 0, 0, 0])]

    plain = by_row(batch_size=5, seed=2, epoch=3)
    np.testing.assert_array_equal(by_row(batch_size=4, seed=2, epoch=3, shuffle=True), plain)
    noise = plain - pixels
    assert len(np.unique(noise[:, 0, 0, 0])) == 12
    for other in (by_row(batch_size=5, seed=2, epoch=4), by_row(batch_size=5, seed=3, epoch=3)):
        assert not np.isclose(other, plain).any(axis=(1, 2, 3)).all()
        assert np.abs(other - plain).mean() > 0.1


def test_a_row_taken_twice_is_augmented_in_two_ways():
    pixels, labels = numbered(4)
    (batch,) = epoch_batches(
        pixels, labels, classes=3, batch_size=9, augment=add_noise, indices=np.array([1, 1])
    )
    assert np.abs(batch[0][0] - batch[0][1]).max() > 0.1


def test_fit_learns_from_these_batches():
    import keras

    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 64)
    features = (random.normal(size=(64, 3)) + 3 * labels[:, None]).astype(np.float32)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.3), "categorical_crossentropy", metrics=["accuracy"])
    for epoch in range(4):
        batches = epoch_batches(features, labels, classes=2, batch_size=16, epoch=epoch, shuffle=True)
        model.fit(batches, shuffle=False, verbose=0)
    assert model.evaluate(epoch_batches(features, labels, classes=2, batch_size=16), verbose=0)[1] > 0.9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"labels": [0, 1, 3], "classes": 3}, r"labels must be in \[0, 3\)"),
        ({"labels": [0, 1], "classes": 3}, "one row each"),
        ({"labels": [0, 1, 2]}, "number of classes"),
        ({"labels": [0.0, 1.0, 2.0], "classes": 3}, "class indices"),
        ({"labels": [0, 1, 2], "classes": 3, "sample_weights": [1.0]}, "one row each"),
        ({"labels": [0, 1, 2], "classes": 3, "indices": [0, 3]}, r"indices must be in \[0, 3\)"),
        ({"labels": [0, 1, 2], "classes": 3, "indices": np.array([True, False, True])}, "row number"),
        ({"labels": [0, 1, 2], "classes": 3, "indices": []}, "at least one row"),
        ({"labels": [0, 1, 2], "classes": 3, "batch_size": 0}, "batch_size must be at least 1"),
        ({"labels": [0, 1, 2], "classes": 3, "seed": -1}, "seed must be at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, said):
    with pytest.raises((DataError, SettingsError), match=said):
        epoch_batches(numbered(3)[0], **({"batch_size": 2} | arguments))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("gathered", [16 << 20, 700, 1])
def test_they_equal_the_batches_of_a_dataset(weighted, shuffled, gathered, monkeypatch):
    monkeypatch.setattr("kerasall.data.input_pipeline._GATHERED_BYTES", gathered)
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(50, 7)).astype(np.float32), random.integers(0, 3, 50)
    targets, rows = np.eye(3, dtype=np.float32)[labels], np.array([3, 3, 49, *range(10, 40)])
    weights = random.uniform(1, 2, 50) if weighted else None
    for epoch in (0, 4):
        same = {"batch_size": 8, "indices": rows, "sample_weights": weights}
        found = FeatureBatches(features, targets, shuffle=(5, epoch) if shuffled else None, **same)
        wanted = list(epoch_batches(features, targets, seed=5, epoch=epoch, shuffle=shuffled, **same))
        assert len(found) == len(wanted) == 5
        for mine, theirs in zip(found, wanted, strict=True):
            assert len(mine) == len(theirs)
            for one, other in zip(mine, theirs, strict=True):
                np.testing.assert_array_equal(one, other.numpy())


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
