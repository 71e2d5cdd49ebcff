"""Reading anybody's results."""

from __future__ import annotations

import re

import numpy as np
import pytest

from kerasall.errors import DataError
from kerasall.taguchi.result_file import read_results


def _write(folder, text: str):
    path = folder / "results.csv"
    path.write_bytes(text.encode("utf-8"))
    return path


def test_factors_responses_and_numbered_rows_are_told_apart(tmp_path):
    path = _write(tmp_path, "\ufeffrun, A ,B,y2,y1\r\nfirst,1,2,0.2,0.1\r\n\r\nsecond,2,1,,0.3\r\n")
    found = read_results(path)
    assert list(found.levels) == ["A", "B"]
    np.testing.assert_array_equal(found.levels["B"], [2, 1])
    np.testing.assert_array_equal(found.responses, [[0.1, 0.2], [0.3, np.nan]])


def test_ten_responses_stand_in_order(tmp_path):
    header = ["A", *[f"y{i}" for i in (10, *range(1, 10))]]
    path = _write(tmp_path, ",".join(header) + "\n1,10,1,2,3,4,5,6,7,8,9\n2,10,1,2,3,4,5,6,7,8,9\n")
    np.testing.assert_array_equal(read_results(path).responses[0], range(1, 11))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A,B\n1,2\n2,1\n", "no response among A, B: call the responses y1, y2"),
        ("y1,y2\n1,2\n1,2\n", "no factor among y1, y2: add a column of level numbers"),
        ("A;y1\n1;2\n", "separated by commas, but is by semicolons"),
        ("A\ty1\n1\t2\n", "separated by commas, but is by tabs"),
        ("A,A,y1\n1,2,3\n1,2,3\n", "A twice: rename"),
        ("A,y1,Y1\n1,2,3\n1,2,3\n", "y1 twice: rename"),
        ("A,,y1\n1,2,3\n1,2,3\n", "none over column 2: write it"),
        ("A,y1\n", "0 rows below the names"),
        ("A,y1\n1,2\n", "1 rows below the names"),
        ("", "is empty: write the experiment"),
        ("\n \n", "is empty: write the experiment"),
        ("A,y1\n1,0.5\n1,0.5,7\n", "line 3 must hold a cell for each of 2 columns, but holds 3"),
        ("A,y1,y2\n1,0.5,\n\n2,,\n", "line 4 must hold a response in y1, y2, but has none: fill it in"),
        *[
            (f"A,y1\n1,1\n{cell},0.5\n", f"line 3, column A must hold a level number.*{re.escape(found)}.*--levels A=")
            for cell, found in (
                ("adam", "'adam'"), ("0", "'0'"), ("-1", "'-1'"), ("1.5", "'1.5'"), ("nan", "'nan'"),
                ("inf", "'inf'"), ("", "is empty"),
            )
        ],
        *[
            (f"A,y1,y2\n1,1,1\n2,1,{cell}\n", f"line 3, column y2 must hold a finite number, but holds .*{found}.*empty")
            for cell, found in (("high", "high"), ("nan", "nan"), ("NA", "NA"), ("-inf", "-inf"), ('"0,8"', "0,8"))
        ],
    ],
)  # fmt: skip
def test_what_is_no_table_of_results_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_results(_write(tmp_path, text))


def test_an_empty_column_that_a_spreadsheet_left_is_passed_over(tmp_path):
    found = read_results(_write(tmp_path, "A,y1,\n1,2,\n2,3,\n"))
    assert list(found.levels) == ["A"]
    np.testing.assert_array_equal(found.responses, [[2], [3]])


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="correct the path"):
        read_results(tmp_path / "absent.csv")


def test_a_binary_file(tmp_path):
    path = tmp_path / "image.csv"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match=r"must be a CSV file in UTF-8.*save it as CSV UTF-8"):
        read_results(path)
