"""Arrays that TensorFlow takes over as they are, in memory that is used again."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike

_ALIGNMENT = 64
"""Bytes; an array that does not begin at a multiple is copied when it becomes a tensor."""
_KEPT_BYTES = 256 << 20
"""Memory kept for later, in all."""
_free: dict[int, bytearray] = {}


def empty_aligned(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """An array without defined content, as ``numpy.empty`` makes it, that becomes a tensor without a copy.

    Its memory is handed out again when nothing refers to the array, to a slice of it, or to a tensor made of it any
    more: the system takes longer to give new memory than to copy a batch into it.
    """
    dtype = np.dtype(dtype)
    memory = _take(math.prod(shape) * dtype.itemsize + _ALIGNMENT)
    start = -np.frombuffer(memory, np.uint8).ctypes.data % _ALIGNMENT
    # Not a view of an array: slices of this one refer to it, as they would not to a view.
    array = np.ndarray(shape, dtype, memory, start)
    weakref.finalize(array, _give_back, memory).atexit = False
    return array


def as_tensor(array: np.ndarray) -> tf.Tensor:
    """A tensor on the CPU in the array's own memory, where that is aligned, else a copy.

    The array must not be changed while the tensor is in use: TensorFlow takes it for constant.
    """
    # Of an array as such, tf.constant makes a copy lest somebody change it; not of what only gives one.
    giving: Any = _Giving(array)
    with tf.device("CPU:0"):
        return tf.constant(giving)


class _Giving:
    def __init__(self, array: np.ndarray):
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array


# Several threads take and give back, the latter whenever an array dies: each step on the dictionary is one that the
# interpreter does not interrupt, and no lock is held that a dying array could wait for.


def _take(size: int) -> bytearray:
    for key, memory in list(_free.items()):
        if size <= len(memory) <= 2 * size and _free.pop(key, None) is not None:
            return memory
    return bytearray(size)


def _give_back(memory: bytearray) -> None:
    _free[id(memory)] = memory
    kept = list(_free.items())
    spare = sum(len(each) for _, each in kept) - _KEPT_BYTES
    for key, each in kept:
        if spare <= 0:
            break
        _free.pop(key, None)
        spare -= len(each)
