"""Fata et al. (2023) as transcribed: which F1 can stand beside a precision and a recall, and what the flags say."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest

from kerasall.published.papers import Table, printed_number, read_paper

PAPER = read_paper("optimizer_sweep")
TABLES: dict[str, Table] = {table.name: table for table in PAPER.tables}
IMAGES = 2133
POSITIVES = (1395, 1455, 1515)
"""A random fifth of 10,661 images has 1,455 of ALL, with a standard deviation of 19."""
ROUNDING = 0.00501


@cache
def possible_f1(recall: float, precision: float) -> tuple[float, float]:
    """Least and greatest mean F1 over all confusion matrices whose mean recall and precision read so at two digits."""
    ends = []
    for positives in POSITIVES:
        negatives = IMAGES - positives
        tp = np.arange(positives // 3, positives + 1)[:, None].astype(float)
        tn = np.arange(negatives // 5, negatives + 1)[None, :].astype(float)
        fn, fp = positives - tp, negatives - tn
        recalls = (tp / positives + tn / negatives) / 2
        precisions = (tp / (tp + fp) + tn / (tn + fn)) / 2
        f1 = (2 * tp / (2 * tp + fn + fp) + 2 * tn / (2 * tn + fn + fp)) / 2
        kept = f1[(abs(recalls - recall) <= ROUNDING) & (abs(precisions - precision) <= ROUNDING)]
        ends += [kept.min(), kept.max()] if len(kept) else []
    return min(ends), max(ends)


def test_every_table_and_figure_is_there():
    assert list(TABLES) == [f"Table {number}" for number in range(1, 8)]
    assert [figure.name for figure in PAPER.figures] == [f"Figure {number}" for number in range(1, 10)]
    assert [figure.name[-1] for figure in PAPER.figures if figure.ours] == ["7", "8", "9"]


@pytest.mark.parametrize("name", ["Table 3", "Table 4", "Table 5", "Table 6"])
def test_the_flagged_f1_are_those_that_cannot_be(name):
    table = TABLES[name]
    assert [row.name[0] for row in table.rows] == ["10", "20", "30", "40", "50", "60", "80", "100", "Totals"]
    impossible = set()
    for row in table.rows[:-1]:
        recall, precision, f1 = map(float, row.cells)
        low, high = possible_f1(recall, precision)
        if not low - ROUNDING <= f1 <= high + ROUNDING:
            impossible.add(row.name)
    assert {flag.row for flag in table.flags} == impossible
    for flag in table.flags:
        recall, precision, f1 = next(row.cells for row in table.rows if row.name == flag.row)
        told = re.search(r"F1 lies between (\.\d+) and (\.\d+)", flag.because)
        assert told
        ends = possible_f1(float(recall), float(precision))
        assert [float(end) for end in told.groups()] == pytest.approx(ends, abs=1.1e-3)
        likely = {float(value) for value in flag.likely.split(" or ")}
        assert likely == {round(value, 2) for value in np.arange(round(ends[0], 2), ends[1] + ROUNDING, 0.01)}
        assert (
            f".{f1[2:]} cannot stand beside recall .{recall[2:]} and precision .{precision[2:]}"
            in flag.because
        )


@pytest.mark.parametrize("name", ["Table 3", "Table 4", "Table 5", "Table 6"])
def test_totals_are_means_of_the_rows_within_rounding(name):
    cells = np.array([[float(cell) for cell in row.cells] for row in TABLES[name].rows])
    assert np.abs(cells[:-1].mean(axis=0) - cells[-1]).max() < 0.01


def test_training_accuracies_are_those_of_the_abstract():
    assert TABLES["Table 1"].rows[-1].cells == ("93.80%", "92.75%")
    best = max(
        (printed_number(cell) or 0, row.name[0]) for row in TABLES["Table 2"].rows for cell in row.cells
    )
    assert best == (81.81, "80")
    assert TABLES["Table 7"].rows[-2].cells[-1] == "87.00%"
