"""Results of an experiment: level numbers and responses, from a CSV file or from a caller."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.errors import DataError, SettingsError
from kerasall.taguchi.anova import FactorLevels
from kerasall.taguchi.design import RESERVED_COLUMN, group_levels


@dataclass(frozen=True)
class ResultTable:
    """What ``analyze`` takes.

    Attributes:
        levels: factor -> float [rows], level numbers from 1.
        responses: float [rows, repeats]; nan where a cell is empty.
    """

    levels: dict[str, np.ndarray]
    responses: np.ndarray


def read_results(path: str | Path) -> ResultTable:
    """Reads a CSV file: columns of level numbers named by factor, responses y1 to yn.

    Columns called row or run are skipped.

    Raises:
        DataError: the file is absent or is not such a table; the message names line and column.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [(i, row) for i, row in enumerate(csv.reader(file), start=1) if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} must be a CSV file, but reading it failed ({error}): correct the path"
        ) from None
    header = [name.strip() for name in lines[0][1]] if lines else []
    responses = [name for name in header if re.fullmatch(r"[yY]\d*", name)]
    factors = [name for name in header if not RESERVED_COLUMN.fullmatch(name)]
    if not responses or not factors or len(set(header)) < len(header) or "" in header or len(lines) < 2:
        raise DataError(
            f"{path} must have one column of level numbers for each factor, and responses y1, y2, ..., "
            f"separated by commas and named in the first line, but has the columns {header} and "
            f"{max(len(lines) - 1, 0)} rows: correct the first line or add what is missing"
        )
    cells = {name: [_number(path, line, header, row, name) for line, row in lines[1:]] for name in header}
    responses.sort(key=lambda name: int(name[1:] or 0))
    return ResultTable(
        levels={name: np.array(cells[name]) for name in factors},
        responses=np.array([cells[name] for name in responses]).T,
    )


def _number(path: Path, line: int, header: list[str], row: list[str], name: str) -> float:
    if name.lower() in ("row", "run"):
        return 0.0
    text = row[header.index(name)].strip() if len(row) == len(header) else None
    if text == "" and RESERVED_COLUMN.fullmatch(name):
        return float("nan")
    try:
        return float(text)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        found = f"{len(row)} cells for {len(header)} columns" if text is None else repr(text)
        raise DataError(
            f"{path}, line {line}, column {name} must hold a number, but has {found}: "
            "factors are given as level numbers from 1, their names by --levels"
        ) from None


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
            raise SettingsError(f"levels name the factor {name}, but the table has {', '.join(table)}")
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
            f"{list(numbers[:6])}{'...' if len(numbers) > 6 else ''}: number its levels from 1"
        )
    count = int(whole.max())
    if not names and count > rows:
        raise DataError(
            f"factor {name} has level number {count}, but only {rows} rows: number its levels from 1, or "
            "name them all"
        )
    texts = tuple(str(n).strip() for n in names or range(1, count + 1))
    if len(texts) < count:
        raise SettingsError(
            f"factor {name} has {count} levels in the table, but {len(texts)} names: give all"
        )
    merged = group_levels(texts) if levels_as == "dummy" else tuple(range(len(texts)))
    run = np.unique(np.array(merged)[whole - 1])
    place = {int(group): index for index, group in enumerate(run)}
    group = tuple(place.get(g, -1) for g in merged)
    return FactorLevels(name, texts, group, np.array(group)[whole - 1])
