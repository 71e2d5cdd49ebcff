from __future__ import annotations

import gc
import threading

import numpy as np
import tensorflow as tf

from kerasall import runtime as aligned_arrays
from kerasall.runtime import as_tensor, empty_aligned


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_arrays_are_aligned_and_have_what_was_asked():
    for shape, dtype in (((3, 5), np.uint8), ((7,), np.float32), ((2, 3, 4), np.int64), ((0, 4), np.float32)):
        array = empty_aligned(shape, dtype)
        assert (array.shape, array.dtype) == (shape, dtype)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert not array.size or address(array) % 64 == 0


def test_memory_is_used_again_only_when_nothing_refers_to_it():
    array = empty_aligned((100, 1000), np.uint8)
    first, part = address(array), array[3:5]
    del array
    gc.collect()
    others = [empty_aligned((100, 1000), np.uint8) for _ in range(20)]
    assert first not in {address(other) for other in others}  # the slice still needs it
    part[...] = 1
    del part, others
    gc.collect()
    again = [empty_aligned((100, 1000), np.uint8) for _ in range(30)]
    assert len({address(each) for each in again}) == 30
    assert first in {address(each) for each in again}


def test_tensors_made_of_such_arrays_keep_their_content():
    def make(number: np.ndarray) -> np.ndarray:
        array = empty_aligned((50_000,), np.int64)
        array[...] = number
        return array

    numbers = tf.data.Dataset.range(200).map(
        lambda n: tf.numpy_function(make, [n], tf.int64), num_parallel_calls=4
    )
    kept = []
    for number, tensor in enumerate(numbers.prefetch(4)):
        if number % 9 == 0:
            kept.append((number, tensor if number % 2 else tensor.numpy()))
        assert (tensor.numpy() == number).all()
    for number, tensor in kept:
        assert (np.asarray(tensor) == number).all()


def test_a_tensor_lies_in_the_arrays_own_memory_where_that_is_aligned_and_keeps_it():
    array = empty_aligned((40, 50, 3), np.uint8)
    array[...] = np.arange(3)
    tensor, where = as_tensor(array), address(array)
    assert (tensor.shape, tensor.dtype) == (array.shape, tf.uint8)
    assert address(np.asarray(tensor)) == where
    del array
    gc.collect()
    assert where not in {address(empty_aligned((40, 50, 3), np.uint8)) for _ in range(10)}
    np.testing.assert_array_equal(tensor[7, 7], np.arange(3))

    shifted = np.arange(1001, dtype=np.uint8)[1:]
    copied = as_tensor(shifted)
    shifted[...] = 0
    np.testing.assert_array_equal(copied, np.arange(1001, dtype=np.uint8)[1:])


def test_what_is_kept_has_a_limit(monkeypatch):
    monkeypatch.setattr(aligned_arrays, "_KEPT_BYTES", 5_000)
    several = [empty_aligned((2_000,), np.uint8) for _ in range(9)]
    del several
    gc.collect()
    assert sum(map(len, aligned_arrays._free.values())) <= 5_000


def test_threads_never_share_an_array():
    wrong = []

    def work(number: int) -> None:
        for _ in range(300):
            array = empty_aligned((2000,), np.int64)
            array[...] = number
            wrong.append(not (array == number).all())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(wrong)
