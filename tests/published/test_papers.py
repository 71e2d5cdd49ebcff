"""The reader of what papers printed: keys, flags, names; and that every file of the room is whole."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from kerasall.errors import SettingsError
from kerasall.published.papers import Table, find_paper, papers, printed_number, read_paper
from kerasall.settings.shipped import shipped_files


def make_table(**changes) -> Table:
    plain = {
        "name": "Table 1",
        "title": "Scores",
        "columns": [{"name": "Accuracy", "ours": "accuracy"}, {"name": "Remark"}],
        "rows": [{"name": "First", "ours": "member/1", "cells": "0.9 | none"}],
    }
    return Table.model_validate(plain | changes)


def test_a_key_is_made_of_table_row_and_column():
    table = make_table(ours="run")
    assert table.key(table.rows[0], table.columns[0]) == "run/member/1/accuracy"
    assert table.key(table.rows[0], table.columns[1]) == ""
    turned = make_table(ours="images/{column}/{row}")
    assert turned.key(turned.rows[0], turned.columns[0]) == "images/accuracy/member/1"


def test_cells_stay_as_they_were_printed():
    assert make_table().rows[0].cells == ("0.9", "none")
    assert make_table(rows=[{"name": "a", "cells": "0.7160 |  "}]).rows[0].cells == ("0.7160", "")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": [{"name": "First", "cells": "0.9"}]}, "must have 2 cells, but has 1"),
        ({"rows": [{"name": ["First", "x"], "cells": "1 | 2"}]}, "must have 1 names, but has 2"),
        ({"flags": [{"row": "Second", "column": "Accuracy", "because": "x"}]}, "must name a cell"),
        ({"listed": {"part": "p", "images": 1, "column": "No", "fact": "x"}}, "must name a column"),
        ({"note": 1, "ours": 2, "title": []}, "Input should be a valid string"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(changes, told):
    with pytest.raises(ValidationError, match=told):
        make_table(**changes)


def test_numbers_are_read_as_printed():
    assert [printed_number(text) for text in ("84.73%", "10,661", "−0.5", "adam", "")] == [
        84.73,
        10661,
        -0.5,
        None,
        None,
    ]


@pytest.mark.parametrize("name", papers())
def test_every_paper_is_that_of_a_pipeline_and_found_by_its_authors(name):
    paper = read_paper(name)
    assert paper.pipeline == name
    assert name in shipped_files("pipelines")
    author = paper.authors.split(",")[0].split(" ")[0]
    assert find_paper(name) == find_paper(author.lower()) == paper
    names = [each.name for each in (*paper.tables, *paper.figures)]
    assert len(set(names)) == len(names)
    assert all(figure.ours or figure.note for figure in paper.figures)


ORDER = (
    "taguchi_resnet101_vote",
    "weighted_ensemble",
    "four_stage_vote",
    "deep_features_svm",
    "optimizer_sweep",
)
"""The papers in the order of their numbers."""
SCATTERED = {
    "weighted_ensemble": ("Table 5", "Table 6", "Section 5", "Deep bagging ensemble of Inception and ResNet"),
    "optimizer_sweep": ("Table 7",),
}
"""Tables, and a cell, that the papers' text does not have row by row."""


def _plain(text: str) -> str:
    """Without the marks of a text that was read off a page: blanks, tags, dashes and signs of formulas."""
    text = re.sub(r"</?\w+>|[$\\^{}*]", " ", text).replace("×", "x")
    return " ".join(re.sub("[\u2010-\u2015\u2212]", "-", text).split())


def _numbers(text: str) -> str:
    return f" {' '.join(re.findall(r'[0-9][0-9,.]*[0-9]|[0-9]', text))} ".replace("  ", " ")


@pytest.mark.realdata
@pytest.mark.parametrize("name", papers())
def test_every_row_stands_in_the_paper_as_it_was_written_down(name, real_data):
    """The numbers of a row in their order, and every text of its cells."""
    number = ORDER.index(name)
    files = list((real_data.parent / "papers").glob(f"{number:03d}_*.txt"))
    if not files:
        pytest.skip(f"real data absent: the text of paper {number:03d}")
    text = _plain(files[0].read_text(encoding="utf-8"))
    found, scattered, compared = _numbers(text), SCATTERED.get(name, ()), 0
    for table in read_paper(name).tables:
        for row in table.rows if not table.name.startswith(scattered or "-") else ():
            assert _numbers(_plain(" ".join(row.cells))) in found, (table.name, row.name)
            worded = [cell for cell in row.cells if re.search(r"[A-Za-z]{3}", cell) and cell not in scattered]
            assert [cell for cell in worded if _plain(cell) not in text] == []
            compared += 1
    assert compared > 20


def test_a_paper_that_is_not_there_is_refused_with_those_that_are():
    for text in ("and", "nobody"):
        with pytest.raises(SettingsError, match=rf"taguchi_resnet101_vote \(Chen.*'{text}' is none"):
            find_paper(text)
    with pytest.raises(SettingsError, match=r"did you mean|there are"):
        read_paper("optimiser_sweep")
