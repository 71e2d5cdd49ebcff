"""The one way in which kerasall writes CSV, and reads what it wrote: texts stay texts wherever the table is opened.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-`` or ``@`` as a formula. Such texts, names of columns among them,
get an apostrophe in front (``kerasall.shown_text.to_cell``), which every reader of kerasall takes off; numbers get none.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasall.files import atomic_path
from kerasall.shown_text import from_cell, to_cell

if TYPE_CHECKING:
    import pandas as pd


LINE_END = "\r\n"


def csv_line(values: Iterable[Any], end: str = LINE_END) -> str:
    """One line of CSV: texts as cells, numbers as they are."""
    line = io.StringIO()
    # With another end the writer would not quote a field that holds a carriage return.
    csv.writer(line).writerow([to_cell(each) if isinstance(each, str) else each for each in values])
    return line.getvalue().removesuffix(LINE_END) + end


def csv_rows(lines: Iterable[str], strict: bool = False) -> Iterator[list[str]]:
    """The rows of CSV that ``csv_line`` or ``write_csv`` made, as the texts that they were given."""
    for row in csv.reader(lines, strict=strict):
        yield [from_cell(each) for each in row]


def write_csv(
    table: pd.DataFrame, path: str | Path, float_format: str | None = None, excel: bool = False
) -> None:
    """Writes a table without its index as CSV (UTF-8), atomically; ``excel``: with the mark by which Excel knows it for UTF-8."""
    from pandas.api.types import (
        is_numeric_dtype,  # here and below: half a second, and single lines do without
    )

    safe = table.copy(deep=False)
    held = False
    for place in range(safe.shape[1]):
        column = safe.iloc[:, place]
        if not is_numeric_dtype(column.dtype):
            cells = [to_cell(each) if isinstance(each, str) else each for each in column]
            held = held or any("\r" in each for each in cells if isinstance(each, str))
            safe.isetitem(place, np.array([*cells, None], dtype=object)[:-1])
    safe.columns = [to_cell(str(name)) for name in safe.columns]
    # The writer quotes the characters of its own line end alone, and a reader ends the line at a bare one.
    end = LINE_END if held else "\n"
    with atomic_path(path) as temporary:
        safe.to_csv(
            temporary, index=False, float_format=float_format, lineterminator=end,
            encoding="utf-8-sig" if excel else "utf-8",
        )  # fmt: skip


def read_csv(
    path: str | Path, dtype: Any = str, na_values: Mapping[str, Sequence[str]] | None = None
) -> pd.DataFrame:
    """Reads a table that ``write_csv`` wrote; an empty text is "".

    Args:
        path: the file; errors are those of pandas.
        dtype: type of all columns, or of some by name.
        na_values: column -> texts that stand for no value.
    """
    import pandas as pd

    table = pd.read_csv(path, dtype=dtype, keep_default_na=False, na_values=na_values, encoding="utf-8-sig")
    for place in range(table.shape[1]):
        column = table.iloc[:, place]
        if not pd.api.types.is_numeric_dtype(column.dtype):
            cells = [from_cell(each) if isinstance(each, str) else each for each in column]
            table.isetitem(place, pd.Series(cells, dtype=column.dtype).array)
    table.columns = [from_cell(name) for name in table.columns]
    return table
