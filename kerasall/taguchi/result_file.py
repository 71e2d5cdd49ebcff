"""Level numbers and responses, checked: as a caller gives them, or as a CSV file holds them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.csv_tables import csv_rows
from kerasall.errors import DataError, SettingsError
from kerasall.taguchi.anova import FactorLevels
from kerasall.taguchi.design import NOISE, RESERVED_COLUMN, group_levels

_SEPARATORS = {";": "semicolons", "\t": "tabs"}
_SHAPE = "one column of level numbers for each factor, and responses y1, y2, ..., named in the first line"


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


def read_noise(
    noise: Mapping[str, Any], settings: Mapping[str, Any], levels: Mapping[str, Sequence[Any]], columns: int
) -> tuple[FactorLevels, ...]:
    """The noise factors of a crossed design, over the columns of responses; none where there are none.

    Args:
        noise: noise factor -> level number, from 1, in every column.
        settings: the table of the other factors.
        levels: factor -> names of its levels.
        columns: number of columns of responses.

    Raises:
        DataError: a level number is absent or wrong, or a factor has one level alone.
        SettingsError: a noise factor is called as a setting is.
    """
    for name, column in noise.items():
        if name in settings:
            raise SettingsError(
                f"a noise factor must not be called {name!r}, as a setting is: rename one of them"
            )
        if len(np.asarray(column)) != columns:
            raise DataError(
                f"noise factor {name} must have a level number for each of {columns} columns of responses, but has "
                f"{len(np.asarray(column))}: add what is missing"
            )
    if not noise:
        return ()
    named = {name: levels[name] for name in noise if name in levels}
    single = [name for name, column in noise.items() if len(set(np.asarray(column).tolist())) < 2]
    made = () if single else read_factors(noise, named, "dummy", columns)
    never = [(each.name, each.names[each.group.index(-1)]) for each in made if -1 in each.group]
    if single or never:
        name, told = (single[0], "one alone") if single else (never[0][0], f"level {never[0][1]} never")
        raise DataError(
            f"noise factor {name} must be run at two levels at least, and at every level from 1 on, but was at {told}: add "
            "these runs, or correct its levels"
        )
    return made


def _read_factor(
    name: str, column: Any, names: Sequence[Any] | None, levels_as: str, rows: int
) -> FactorLevels:
    numbers = _number_levels(column, names)
    whole = numbers.astype(np.int64) if numbers.dtype.kind in "iuf" and np.isfinite(numbers).all() else None
    if whole is None or (whole != numbers).any() or whole.min() < 1 or len(whole) != rows:
        raise DataError(
            f"factor {name} must have a level number from 1 in each of {rows} rows, but has "
            f"{', '.join(map(str, numbers[:6]))}{', ...' if len(numbers) > 6 else ''}: number its levels from 1, or name "
            "all that stand there in levels"
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
    values = tuple(names or range(1, count + 1))
    return FactorLevels(name, texts, group, np.array(group)[whole - 1], tuple(runs), values)


def _number_levels(column: Any, names: Sequence[Any] | None) -> np.ndarray:
    """Level numbers of a column that holds them, or the named levels themselves."""
    given = np.asarray(column)
    texts, known = [str(each).strip() for each in given.ravel()], [str(each).strip() for each in names or ()]
    is_named = bool(known) and len(set(known)) == len(known) and set(texts) <= set(known)
    if not is_named or set(texts) <= set(map(str, range(1, len(known) + 1))):
        return given
    return np.array([known.index(text) + 1 for text in texts], np.int64)


def take_results(
    table: Any, responses: Any, noise: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Any, Mapping[str, Any]]:
    """Level numbers by factor, responses, and level numbers of noise factors by column of responses.

    Args:
        table: a CSV file, a data frame with y1, y2, ..., or level numbers alone; with columns ``noise:NAME`` every row
            stands there once for each of its noise runs.
        responses: float [rows, columns], beside level numbers alone; else None.
        noise: noise factors, beside responses.

    Raises:
        DataError: the file is no such table, or the columns hold no response or no factor.
    """
    if noise and responses is None:
        raise DataError(
            f"noise factors must stand in the table's own columns {NOISE}NAME, but others are given too: leave them out"
        )
    if isinstance(table, str | Path):
        if responses is not None:
            raise DataError(
                f"{table} must hold the responses itself, but others are given too: leave them out"
            )
        found = read_results(table)
        return found.levels, found.responses, found.noise
    if responses is not None:
        return table, responses, noise
    columns = {str(name).strip(): np.asarray(table[name]) for name in table}
    given = sorted(filter(_is_response, columns), key=_response_number)
    factors = {name: column for name, column in columns.items() if not RESERVED_COLUMN.fullmatch(name)}
    if not given or not factors:
        raise DataError(
            f"a table of results must have {_SHAPE}, but has {', '.join(columns)}: add what is missing"
        )
    found = np.column_stack([columns[name] for name in given])
    outer = {name: factors.pop(name) for name in list(factors) if name.startswith(NOISE)}
    return gather_noise(factors, outer, found, columns.get("row"))


def gather_noise(
    levels: dict[str, Any], noise: Mapping[str, Any], responses: np.ndarray, rows: Any = None
) -> tuple[dict[str, Any], np.ndarray, dict[str, Any]]:
    """One line a row of the inner array, from a table with one for every noise run of it.

    Args:
        levels: factor -> its level in every line.
        noise: the same of noise factors, ``noise:NAME``; none for a table without noise.
        responses: float [lines, repeats].
        rows: number of the inner row of every line; None where lines of equal levels are one row.

    Returns:
        Levels by row; responses float [rows, repeats * noise runs]; levels of noise factors by column of these.

    Raises:
        DataError: there is no setting, a noise run is there twice, or one is missing.
    """
    if not noise:
        return levels, responses, {}
    if not levels:
        raise DataError(
            f"a table of results must have a factor beside {', '.join(noise)}: add the settings' columns"
        )
    columns = [
        np.asarray(column).astype(str) for column in (*levels.values(), *([] if rows is None else [rows]))
    ]
    inner = list(zip(*columns, strict=True))
    outer = list(zip(*(np.asarray(column).astype(str) for column in noise.values()), strict=True))
    keys, conditions = (list(dict.fromkeys(each)) for each in (inner, outer))
    place: dict[tuple[Any, Any], int] = {}
    for line, cell in enumerate(zip(inner, outer, strict=True)):
        if cell in place:
            raise DataError(
                f"every row must have one line for each noise run, but lines {place[cell] + 1} and {line + 1} below the "
                f"names are the same ({_name_cell(noise, cell[1])}): give repeats as y1, y2, ..., or number the rows (row)"
            )
        place[cell] = line
    missing = [(key, run) for key in keys for run in conditions if (key, run) not in place]
    if missing:
        key, run = missing[0]
        stated = ", ".join(f"{name} {level}" for name, level in zip(levels, key, strict=False))
        raise DataError(
            f"every row must have a line for each of the {len(conditions)} noise runs, but {len(missing)} are missing, first "
            f"that with {_name_cell(noise, run)} of the row with {stated}: add them, or leave the row out"
        )
    first = [place[key, conditions[0]] for key in keys]
    lines = [[place[key, run] for run in conditions] for key in keys]
    runs = [place[keys[0], run] for run in conditions] * responses.shape[1]
    return (
        {name: np.asarray(column)[first] for name, column in levels.items()},
        responses[lines].transpose(0, 2, 1).reshape(len(keys), -1),
        {name.removeprefix(NOISE): np.asarray(column)[runs] for name, column in noise.items()},
    )


def _name_cell(noise: Mapping[str, Any], run: Sequence[str]) -> str:
    return ", ".join(f"{name} {level}" for name, level in zip(noise, run, strict=True))


@dataclass(frozen=True)
class ResultTable:
    """What ``analyze`` takes.

    Attributes:
        levels: factor -> int64 [rows], level numbers from 1.
        responses: float [rows, repeats]; nan where a cell is empty. With noise float [rows, repeats * noise runs].
        noise: noise factor -> int64 [columns], level number in every column of responses; none without noise.
    """

    levels: dict[str, np.ndarray]
    responses: np.ndarray
    noise: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class _Cell:
    """One cell and where it stands, for messages."""

    path: Path
    line: int
    column: str
    text: str

    def error(self, must: str, cure: str) -> DataError:
        found = f"holds {self.text!r}" if self.text else "is empty"
        return DataError(
            f"{self.path}, line {self.line}, column {self.column} must hold {must}, but {found}: {cure}"
        )

    def number(self) -> float:
        try:
            return float(self.text)
        except ValueError:
            return math.nan

    def level(self) -> int:
        number = self.number()
        if not math.isfinite(number) or number != int(number) or number < 1:
            raise self.error(
                "a level number (1, 2, 3, ...)",
                "give each factor's levels as whole numbers from 1; what they stand for is said by --levels "
                f"{self.column}=NAME,NAME,...",
            )
        return int(number)

    def response(self) -> float:
        number = self.number()
        if self.text and not math.isfinite(number):
            raise self.error(
                "a finite number", "write it with a decimal point, or empty the cell if that run is absent"
            )
        return number


def read_results(path: str | Path) -> ResultTable:
    """Reads a CSV file: columns of level numbers named by factor, responses y1 to yn.

    Columns called row or run are skipped, and so are empty ones without a name. With columns ``noise:NAME`` every row
    stands there once for each noise run, see ``gather_noise``.

    Raises:
        DataError: the file is absent or is not such a table; the message names line and column.
    """
    path = Path(path)
    lines = _read_lines(path)
    header = _check_header(path, lines)
    rows = [_cells(path, header, line, row) for line, row in lines[1:]]
    factors = [name for name in header if name and not RESERVED_COLUMN.fullmatch(name)]
    responses = sorted(filter(_is_response, header), key=_response_number)
    levels = {name: np.array([row[name].level() for row in rows], dtype=np.int64) for name in factors}
    single = np.array([[row[name].response() for name in responses] for row in rows])
    for (line, _), found in zip(lines[1:], single, strict=True):
        if np.isnan(found).all():
            raise DataError(
                f"{path}, line {line} must hold a response in {', '.join(responses)}, but has none: fill it in, or "
                "leave the line out if that run was not made"
            )
    outer = {name: levels.pop(name) for name in factors if name.startswith(NOISE)}
    numbers = [row["row"].text for row in rows] if "row" in header else None
    try:
        return ResultTable(*gather_noise(levels, outer, single, numbers))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and stripped cells of every line that is not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = list(csv_rows(io.StringIO(text, newline="")))
    except OSError as error:
        raise DataError(
            f"{path} must be a CSV file, but reading it failed ({error.strerror}): correct the path"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} must be a CSV file in UTF-8, but reading it failed ({error}): save it as CSV UTF-8"
        ) from None
    cells = [(number, [cell.strip() for cell in row]) for number, row in enumerate(rows, start=1)]
    return [(number, row) for number, row in cells if any(row)]


def _check_header(path: Path, lines: list[tuple[int, list[str]]]) -> list[str]:
    """Names of the columns.

    Raises:
        DataError: some are missing, doubled or without a name, or there are too few rows.
    """
    if not lines:
        raise DataError(f"{path} must have {_SHAPE}, but is empty: write the experiment into it")
    header = lines[0][1]
    for separator, name in _SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            raise DataError(f"{path} must be separated by commas, but is by {name}: save it with commas")
    twice = [name for name, count in Counter(header).items() if name and count > 1]
    numbers = Counter(_response_number(name) for name in header if _is_response(name))
    twice += [f"y{number}" for number, count in numbers.items() if count > 1 and f"y{number}" not in twice]
    unnamed = [
        str(place + 1)
        for place, name in enumerate(header)
        if not name and any(len(row) > place and row[place] for _, row in lines[1:])
    ]
    factors = [name for name in header if name and not RESERVED_COLUMN.fullmatch(name)]
    named = ", ".join(header)
    for wrong, found, cure in (
        (twice, f"{', '.join(twice)} twice", "rename one of them"),
        (unnamed, f"none over column {', '.join(unnamed)}", "write it into the first line"),
        (not any(map(_is_response, header)), f"no response among {named}", "call the responses y1, y2, ..."),
        (not factors, f"no factor among {named}", "add a column of level numbers for each factor"),
        (len(lines) < 3, f"{len(lines) - 1} rows below the names", "add the others, two at least"),
    ):
        if wrong:
            raise DataError(f"{path} must have {_SHAPE}, but has {found}: {cure}")
    return header


def _cells(path: Path, header: list[str], line: int, row: list[str]) -> dict[str, _Cell]:
    if len(row) != len(header):
        raise DataError(
            f"{path}, line {line} must hold a cell for each of {len(header)} columns, but holds {len(row)}: add or "
            "remove a comma"
        )
    return {name: _Cell(path, line, name, text) for name, text in zip(header, row, strict=True) if name}


def _is_response(name: str) -> bool:
    return re.fullmatch(r"[yY]\d*", name) is not None


def _response_number(name: str) -> int:
    return int(name[1:300] or 0)  # of more digits Python makes no number
