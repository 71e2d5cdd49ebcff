"""Level numbers and responses as a caller gives them, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasall.errors import DataError, SettingsError
from kerasall.taguchi.anova import FactorLevels
from kerasall.taguchi.design import group_levels


def as_matrix(responses: Any) -> np.ndarray:
    """Responses as float [rows, repeats]; a vector is one repeat.

    Raises:
        DataError: not finite numbers (nan, for an absent one, is allowed).
    """
    matrix = np.asarray(responses, dtype=np.float64)
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or np.isinf(matrix).any():
        raise DataError("responses must be finite numbers, rows by repeats: correct or empty the cell")
    return matrix


def read_factors(
    table: Mapping[str, Any], levels: Mapping[str, Sequence[Any]], levels_as: str, rows: int
) -> tuple[FactorLevels, ...]:
    """The factors of a table; see ``analyze`` for the arguments.

    Raises:
        DataError: a level number is absent or wrong.
        SettingsError: names and table do not fit one another.
    """
    if levels_as not in ("dummy", "separate"):
        raise SettingsError(f"levels_as must be dummy or separate, but is {levels_as!r}")
    for name in levels:
        if name not in table:
            raise SettingsError(
                f"levels must name a factor of the table, which has {', '.join(table)}, but name {name}: correct it"
            )
    if not len(list(table)) or rows < 2:
        raise DataError("a table must have at least one factor and two rows: add what is missing")
    return tuple(_read_factor(str(name), table[name], levels.get(name), levels_as, rows) for name in table)


def _read_factor(
    name: str, column: Any, names: Sequence[Any] | None, levels_as: str, rows: int
) -> FactorLevels:
    numbers = np.asarray(column)
    whole = numbers.astype(np.int64) if numbers.dtype.kind in "iuf" and np.isfinite(numbers).all() else None
    if whole is None or (whole != numbers).any() or whole.min() < 1 or len(whole) != rows:
        raise DataError(
            f"factor {name} must have a level number from 1 in each of {rows} rows, but has "
            f"{', '.join(map(str, numbers[:6]))}{', ...' if len(numbers) > 6 else ''}: number its levels from 1"
        )
    count = int(whole.max())
    if not names and count > rows:
        raise DataError(
            f"factor {name} must have no more levels than there are rows, but has level {count} in row "
            f"{int(whole.argmax()) + 1} of {rows}: number its levels from 1, or name them all"
        )
    texts = tuple(str(n).strip() for n in names or range(1, count + 1))
    if len(texts) < count:
        raise SettingsError(
            f"every level of factor {name} must have a name, but the table has level {count} in row "
            f"{int(whole.argmax()) + 1} and the names are {', '.join(texts)}: correct the table or name all levels"
        )
    merged = group_levels(texts) if levels_as == "dummy" else tuple(range(len(texts)))
    run = np.unique(np.array(merged)[whole - 1])
    place = {int(group): index for index, group in enumerate(run)}
    group = tuple(place.get(g, -1) for g in merged)
    runs = np.bincount(whole - 1, minlength=len(texts)).tolist()
    return FactorLevels(name, texts, group, np.array(group)[whole - 1], tuple(runs))
