"""Any table reads back as it was written, whatever wrote it; what is no table is refused by line, with the cure."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import threading
import tracemalloc
from contextlib import suppress
from itertools import islice
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kerasall.errors import DataError
from kerasall.listing.tables import Table, holds_table, read_table, stream_table, stream_text_lines
from kerasall.shown_text import to_cell


def _read(path: Path) -> Table:
    return read_table(path, "a table")


def _read_bytes(folder: Path, content: bytes, name: str = "t.csv") -> Table:
    path = folder / name
    path.write_bytes(content)
    return _read(path)


# --- whatever is written reads back

LATIN = "".join(chr(code) for code in (*range(0x20, 0x7F), *range(0xA1, 0x100))) + "\n"
ENCODINGS = {
    "utf-8": None,
    "utf-8-sig": None,
    "utf-16": None,
    "utf-32": None,
    "cp1252": LATIN,
    "latin-1": LATIN,
}


def _fields(alphabet: str | None) -> st.SearchStrategy[str]:
    letters = (
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
        if alphabet is None
        else st.sampled_from(alphabet)
    )
    anything = st.text(letters, max_size=12).map(str.strip)
    ids = st.integers(0, 9999).map(lambda n: f"{n:05d}")
    paths = st.sampled_from(
        [r"C:\zellen\a b.png", "a/b, c.png", "x;y.png", '"q".png', "3,5", "5.0", "=A1", "NA", "1|2"]
    )
    return st.one_of(anything, ids, paths)


@st.composite
def _tables(draw: st.DrawFn) -> tuple[str, list[list[str]]]:
    encoding = draw(st.sampled_from(list(ENCODINGS)))
    names = draw(st.sampled_from([["path", "label"], ["Datei", "Klasse", "Größe"], ["a", "b", "c d", "e"]]))
    field = _fields(ENCODINGS[encoding])
    filled = st.tuples(field.filter(lambda text: text and text[0] != "#"), *[field] * (len(names) - 1))
    return encoding, [names, *map(list, draw(st.lists(filled, max_size=6)))]


@settings(deadline=None)
@given(
    table=_tables(),
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    everything=st.booleans(),
)
def test_any_table_that_csv_writes_reads_back(tmp_path_factory, table, separator, end, everything):
    encoding, rows = table
    text = io.StringIO(newline="")
    # Of line ends the writer quotes its own alone.
    quoted = everything or any(set(field) & {"\n", "\r"} for row in rows for field in row)
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting).writerows(
        [map(to_cell, row) for row in rows]
    )
    content = text.getvalue().encode(encoding)
    # Nobody can tell Latin-1 that happens to be UTF-8 as well.
    assume(ENCODINGS[encoding] is None or text.getvalue().isascii() or not _is_utf8(content))
    found = _read_bytes(tmp_path_factory.getbasetemp(), content)
    assert [list(found.columns), *found.lines.values()] == rows
    assert found.problems == ()
    assert bool(found.notes) == (ENCODINGS[encoding] is not None and not text.getvalue().isascii())


def _is_utf8(content: bytes) -> bool:
    try:
        return bool(content.decode("utf-8"))
    except UnicodeDecodeError:
        return False


@settings(deadline=None)
@given(table=_tables())
def test_any_table_that_openpyxl_writes_reads_back(tmp_path_factory, table):
    rows = table[1]
    path = tmp_path_factory.getbasetemp() / "t.xlsx"
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append([to_cell(field) for field in row])
    book.save(path)
    found = _read(path)
    assert [list(found.columns), *found.lines.values()] == rows


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.text(max_size=9).map(str.strip).filter(bool), st.text("0123456789", max_size=5)),
        min_size=1,
    )
)
def test_any_frame_and_any_json_lines_read_back(tmp_path_factory, rows):
    folder = tmp_path_factory.getbasetemp()
    pd.DataFrame(rows, columns=["path", "id"]).to_parquet(folder / "t.parquet")
    (folder / "t.jsonl").write_text("".join(json.dumps({"path": p, "id": i}) + "\n" for p, i in rows))
    for name in ("t.parquet", "t.jsonl"):
        assert [tuple(fields) for fields in _read(folder / name).lines.values()] == rows


# --- which separator


@pytest.mark.parametrize(
    ("text", "columns", "fields"),
    [
        ("path;Größe, mm;label\na.png;3,5;x\n", ["path", "Größe, mm", "label"], ["a.png", "3,5", "x"]),
        ("path;Größe, mm\na.png;3,5\n", ["path", "Größe, mm"], ["a.png", "3,5"]),
        ("path,label,a;b;c;d\na.png,x,1;2;3\n", ["path", "label", "a;b;c;d"], ["a.png", "x", "1;2;3"]),
        ('"path, full";label\n"a,b;c.png";x\n', ["path, full", "label"], ["a,b;c.png", "x"]),
        ('"path";"label"\n"a\nb.png";x\n', ["path", "label"], ["a\nb.png", "x"]),
        ("path\na.png\n", ["path"], ["a.png"]),
        ('path\n"a, b.png"\n', ["path"], ["a, b.png"]),
        ("path\tlabel, or so\n1, 2.png\tx\n", ["path", "label, or so"], ["1, 2.png", "x"]),
        ("sep=|\npath|la;b,el\na.png|x\n", ["path", "la;b,el"], ["a.png", "x"]),
        ('"sep=;"\r\npath;label\r\na.png;x\r\n', ["path", "label"], ["a.png", "x"]),
        (" path , label ,,\n a.png , x ,,\n", ["path", "label"], ["a.png", "x"]),
        ("path,label", ["path", "label"], None),
        ("\n\n;;\npath;label\n\n;\na;b\n", ["path", "label"], ["a", "b"]),
    ],
)  # fmt: skip
def test_the_separator_is_that_of_the_names(tmp_path, text, columns, fields):
    found = _read_bytes(tmp_path, text.encode())
    assert list(found.columns) == columns
    assert next(iter(found.lines.values()), None) == fields
    assert found.problems == ()


def test_lines_are_numbered_as_an_editor_does(tmp_path):
    found = _read_bytes(tmp_path, b'sep=;\n# x\n\na;b\n\n"1\n1";2\n3;4\n')
    assert (found.header, list(found.lines)) == (4, [6, 8])
    assert found.notes == ("line 2 begins with # and was passed over",)


# --- what Excel holds


def test_excel_cells_become_what_a_person_would_write(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["a", "b", "c", "d", "e", "f"])
    book.active.append(
        [5.0, 0.25, datetime.date(2024, 2, 3), datetime.datetime(2024, 2, 3, 4, 5), True, "007"]
    )
    book.active.append([])
    book.active.append([12345678901234, 7, datetime.time(4, 5), None, False, " x "])
    book.active["B4"].number_format = "000"
    book.save(tmp_path / "t.xlsx")
    found = _read(tmp_path / "t.xlsx")
    assert found.lines == {
        2: ["5", "0.25", "2024-02-03", "2024-02-03T04:05:00", "TRUE", "007"],
        4: ["12345678901234", "007", "04:05:00", "", "FALSE", "x"],
    }


def test_the_first_sheet_that_can_be_seen_is_read(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["hidden"])
    book.active.sheet_state = "hidden"
    book.create_sheet("cells").append(["path"])
    book.create_sheet("more")
    book.save(tmp_path / "t.xlsx")
    found = _read(tmp_path / "t.xlsx")
    assert (found.columns, found.notes) == (
        ("path",),
        ("t.xlsx has 2 sheets: only the first, 'cells', was read",),
    )


def test_formulas_that_were_never_computed_are_no_empty_cells(tmp_path):
    book = openpyxl.Workbook()
    for row in (["path", "label"], ["a.png", "x"], ["b.png", "=B2"]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(DataError, match="line 3 holds formulas whose results are not stored; open it"):
        _read(tmp_path / "t.xlsx")


def test_a_value_merged_over_lines_is_that_of_each_and_a_merged_title_is_none(tmp_path):
    book = openpyxl.Workbook()
    for row in (
        ["path", "patient", "note"],
        ["a", "P1", "x"],
        ["b", None, None],
        ["c", None, None],
        ["d", "P2", None],
    ):
        book.active.append(row)
    book.active.merge_cells("B2:B4")
    book.active.merge_cells("A5:C5")
    book.save(tmp_path / "t.xlsx")
    found = _read(tmp_path / "t.xlsx")
    assert [fields[1] for fields in found.lines.values()] == ["P1", "P1", "P1", ""]
    assert found.notes == ("t.xlsx has cells merged over lines 2 to 4: each of the lines has their value",)
    book.active.insert_rows(1)
    book.active["A1"] = "Cells of 2023"
    book.save(tmp_path / "t.xlsx")
    assert "remove what stands above the names" in _read(tmp_path / "t.xlsx").problems[0]


def test_frames_lose_their_index_and_numbers_their_point(tmp_path):
    frame = pd.DataFrame(
        {"path": ["a", "b"], "id": [5.0, None], "when": pd.to_datetime(["2024-02-03"] * 2)}, index=[7, 9]
    )
    frame["kind"] = pd.Categorical(["x", "y"])
    frame.to_parquet(tmp_path / "t.parquet")
    found = _read(tmp_path / "t.parquet")
    assert found.columns == ("path", "id", "when", "kind")
    assert found.lines == {1: ["a", "5", "2024-02-03", "x"], 2: ["b", "", "2024-02-03", "y"]}


# --- what is no table

BROKEN = {
    "a.csv": (b"path,label\n\x00\x01", r"save it as CSV UTF-8 or \.xlsx"),
    "b.csv": (b'path,label\na,b\n"c,d\n', "line 3 cannot be read"),
    "c.csv": (b'path,label\n"a" b,c\n', "line 2 cannot be read"),
    "d.csv": ("path\na".encode("utf-16")[:-1], "reading it failed"),
    "e.xlsx": (b"PK\x03\x04 broken", "no whole Excel file"),
    "f.xlsx": (b"\xd0\xcf\x11\xe0 with a password", r"save it as \.xlsx or \.csv without one"),
    "g.xls": (b"", r"an Excel file of the old kind; save it as \.xlsx"),
    "h.ods": (b"PK\x03\x04", r"an OpenDocument table; save it as \.xlsx"),
    "h.numbers": (b"PK\x03\x04", r"save it as \.xlsx or \.csv"),
    "i.parquet": (b"PAR1 broken", "must be a table, but reading it failed"),
    "j.jsonl": (b'{"a": 1}\n{"a"\n', "line 2 is no JSON"),
    "k.jsonl": (b"[1]\n", "line 1 is no JSON object"),
    "l.csv": (None, "No such file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_table_is_refused_with_its_name_and_cure(tmp_path, name):
    content, words = BROKEN[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        _read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_an_empty_file_has_no_columns(tmp_path):
    found = _read_bytes(tmp_path, b"")
    assert (found.columns, found.lines, found.problems) == ((), {}, ())


# --- streams


def test_long_texts_are_never_in_memory(tmp_path):
    path = tmp_path / "long.csv"
    path.write_bytes(b"path;label\n" + b"some/folder/and/a/name/that/is/long.png;ALL\n" * 100_000)
    tracemalloc.start()
    try:
        count = sum(1 for _ in stream_table(path, "a list").lines)
        lines, _ = stream_text_lines(path, "a list")
        assert (count, sum(1 for _ in lines)) == (100_000, 100_001)
        assert tracemalloc.get_traced_memory()[1] < 3 << 20  # of 4.4 MB, and many times that in lists
    finally:
        tracemalloc.stop()


def test_a_stream_tells_its_names_before_it_meets_a_fault(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'path,label\na,b\n"c\n')
    stream = stream_table(path, "a list")
    assert list(islice(stream.read_fields(0), 1)) == [(2, "a")]
    with pytest.raises(DataError, match=r"must be a list.* line 3"):
        next(stream.lines)


@pytest.mark.parametrize("name", ["t", "t.csv", "t.jsonl", "t.xlsx", "t.parquet"])
def test_a_table_that_comes_through_a_pipe_is_read_as_often_as_needed(tmp_path, name):
    file, pipe = tmp_path / name, tmp_path / "pipes" / name
    pipe.parent.mkdir()
    frame = pd.DataFrame({"path": ["ä.png"] * 30_000, "label": "b"})
    if name == "t.xlsx":
        frame = frame[:9]
        frame.to_excel(file, index=False)
    elif name == "t.parquet":
        frame.to_parquet(file)
    elif name == "t.csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_json(file, orient="records", lines=True, force_ascii=False)
    os.mkfifo(pipe)
    feeding = threading.Thread(target=lambda: pipe.write_bytes(file.read_bytes()))
    feeding.start()
    for _ in range(2):
        table = _read(pipe)
        assert (table.columns, len(table.lines)) == (("path", "label"), len(frame))
    feeding.join()
    assert next(iter(table.lines.values())) == ["ä.png", "b"]


@pytest.mark.parametrize("line", ["[" * 100_000, '{"path": ' + "9" * 5000 + "}"])
def test_json_lines_that_python_cannot_hold_are_told_by_line(tmp_path, line):
    with pytest.raises(DataError, match=r"t\.jsonl must be .* line 2 is no JSON"):
        _read_bytes(tmp_path, b'{"path": "a"}\n' + line.encode() + b"\n", "t.jsonl")


def test_kinds_are_told_by_what_a_file_holds(tmp_path):
    for name, content in (("a.txt", b"x"), ("b.csv", b"x"), ("c", b"PK\x03\x04"), ("d.txt", b"PAR1")):
        (tmp_path / name).write_bytes(content)
    assert [holds_table(tmp_path / name) for name in ("a.txt", "b.csv", "c", "d.txt")] == [
        False,
        True,
        True,
        True,
    ]


def _sound_files() -> dict[str, bytes]:
    rows = [["path", "label", "subject"], ["ä.png", "x", "007"], ["b.png", "y", "1"]]
    book, frame = io.BytesIO(), io.BytesIO()
    workbook = openpyxl.Workbook()
    for row in rows:
        workbook.active.append(row)
    workbook.save(book)
    pd.DataFrame(rows[1:], columns=rows[0]).to_parquet(frame)
    text = "\n".join(map(";".join, rows))
    files = {
        "t.csv": text.encode(),
        "u.csv": text.encode("utf-16"),
        "t.xlsx": book.getvalue(),
        "t.parquet": frame.getvalue(),
    }
    return files | {"t.jsonl": b'{"path": "a", "label": "x"}\n{"path": "b"}\n'}


SOUND = _sound_files()


@settings(deadline=None, max_examples=200)
@given(
    name=st.sampled_from(list(SOUND)),
    flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), max_size=4),
    keep=st.integers(1, 100),
)
def test_whatever_is_broken_only_a_data_error_comes_out(tmp_path_factory, name, flips, keep):
    content = SOUND[name]
    broken = bytearray(content[: max(1, len(content) * keep // 100)])
    for position, mask in flips:
        broken[position % len(broken)] ^= mask
    with suppress(DataError):  # any other exception fails the test
        _read_bytes(tmp_path_factory.getbasetemp(), bytes(broken), name)
