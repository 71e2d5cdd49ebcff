"""From 16-bit samples to 8 bits, by the setting ``data.sixteen_bit``; ``kerasall.serving.export`` has the same for TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeGuard

import numpy as np

SixteenBit = Literal["full", "minmax"] | int
"""full: the high byte, value // 256. A number of bits from 8 to 15: value // 2 ** (bits - 8), for cameras that use no more of
the 16; a greater value is an error. minmax: (value - min) * 255 // (max - min), over all colours of the image; of one
without any contrast 0."""
FULL: Literal["full"] = "full"
MINMAX: Literal["minmax"] = "minmax"
FEWEST_BITS, MOST_BITS = 8, 15


STEP = "sixteen_bit"
"""Name of the first step of a stored chain that tells the way where it is not full: ``{"op": STEP, "read": 12}``."""


def find_sixteen_bit(steps: Sequence[Mapping[str, Any]]) -> SixteenBit:
    """The way that a chain's JSON tells; that of models which were stored without one is full."""
    first = steps[0] if steps else {}
    return first.get("read", FULL) if isinstance(first, Mapping) and first.get("op") == STEP else FULL


def is_sixteen_bit(value: Any) -> TypeGuard[SixteenBit]:
    """Whether ``value`` is one of the ways."""
    return value in (FULL, MINMAX) or (type(value) is int and FEWEST_BITS <= value <= MOST_BITS)


def to_eight_bits(values: np.ndarray, sixteen_bit: SixteenBit) -> np.ndarray:
    """Grey or RGB samples, uint16, as uint8; 8-bit ones as they are.

    Raises:
        ValueError: a value needs more bits than are said to be used.
    """
    if values.dtype == np.uint8:
        return values
    if sixteen_bit == MINMAX:
        least, most = int(values.min()), int(values.max())
        return ((values.astype(np.uint32) - least) * 255 // max(most - least, 1)).astype(np.uint8)
    bits = 16 if sixteen_bit == FULL else int(sixteen_bit)
    if (most := int(values.max())) >> bits:
        raise ValueError(describe_excess(bits, f"{most:,}"))
    return (values >> (bits - 8)).astype(np.uint8)


def describe_excess(bits: int, found: str) -> str:
    """What is wrong with a file one of whose values needs more bits, to stand after its name."""
    return f"must have 16-bit values of at most {(1 << bits) - 1:,}, as data.sixteen_bit is {bits}, but has {found}"
