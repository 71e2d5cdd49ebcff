"""Reading anybody's results."""

from __future__ import annotations

import numpy as np
import pytest

from kerasall.errors import DataError
from kerasall.taguchi.result_table import read_results


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
        ("A,B\n1,2\n", "responses y1, y2"),
        ("y1,y2\n1,2\n", "one column of level numbers"),
        ("A;y1\n1;2\n", "separated by commas"),
        ("A,A,y1\n1,2,3\n", "has the columns"),
        ("A,y1\n", "0 rows"),
        ("", "0 rows"),
        ("A,y1\nadam,0.5\n", "line 2, column A must hold a number, but has 'adam'.*--levels"),
        ("A,y1\n1,0.5\n,0.5\n", "line 3, column A"),
        ("A,y1\n1,0.5,7\n", "3 cells for 2 columns"),
        ("A,y1\n1,high\n", "column y1 must hold a number"),
    ],
)
def test_what_is_no_table_of_results_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_results(_write(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="correct the path"):
        read_results(tmp_path / "absent.csv")


def test_a_binary_file(tmp_path):
    path = tmp_path / "image.csv"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="must be a CSV file"):
        read_results(path)
