"""Arrays that TensorFlow takes over as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

_ALIGNMENT = 64
"""Bytes; an array that does not begin at a multiple is copied when it becomes a tensor."""


def empty_aligned(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """An array without defined content, as ``numpy.empty`` makes it, that becomes a tensor without a copy."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
