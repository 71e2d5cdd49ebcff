"""Columns by which scores are divided: from the table of images to the Evaluator, past every step that trains."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kerasall.components.example_gen import MOST_VALUES, example_gen
from kerasall.csv_tables import read_csv
from kerasall.data.examples import read_attributes, read_examples
from kerasall.errors import DataError, SettingsError
from kerasall.files import sha256_of_folder
from kerasall.pipeline.component import to_json
from kerasall.settings import DataSettings, EvaluateSettings

ROWS = [
    ("a/0.png", "a", "p1", "North", "x"), ("a/1.png", "a", "p1", "north", "y"), ("b/0.png", "b", "p2", "South", ""),
    ("b/1.png", "b", "p3", "unknown", "=1+1"),
]  # fmt: skip


@pytest.fixture
def table(tmp_path):
    for number, (name, *_) in enumerate(ROWS):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(path)
    path = tmp_path / "images" / "table.csv"
    lines = ["path,label,patient,Site,scanner", *(",".join(row) for row in ROWS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def generate(table, folder, *columns, source="csv"):
    """The folders of Examples and Attributes."""
    for name in ("examples", "attributes"):
        (folder / name).mkdir(parents=True)
    data = DataSettings(source=source, path=str(table))
    example_gen.function(
        data=data,
        examples=folder / "examples",
        attributes=folder / "attributes",
        cache_folder=folder,
        subgroups=columns,
    )
    return folder / "examples", folder / "attributes"


def test_values_reach_the_evaluator_by_image_in_one_spelling(table, tmp_path):
    examples, attributes = generate(table, tmp_path / "one", "site", "scanner")
    ids = read_examples(examples / "examples.csv")["id"].to_numpy(str)[::-1]
    found = read_attributes(attributes, ids)
    assert dict(zip(ids, found["site"], strict=True)) == {
        "a/0.png": "North", "a/1.png": "North", "b/0.png": "South", "b/1.png": "",
    }  # fmt: skip
    assert dict(zip(ids, found["scanner"], strict=True))["b/1.png"] == "=1+1"
    assert read_attributes(attributes, np.array(["elsewhere.png"]))["site"].tolist() == [""]


def test_to_name_columns_changes_nothing_of_what_the_other_steps_read(table, tmp_path):
    plain, none = generate(table, tmp_path / "one")
    named, some = generate(table, tmp_path / "two", "site")
    assert sha256_of_folder(plain) == sha256_of_folder(named)
    assert sha256_of_folder(none) != sha256_of_folder(some)
    assert to_json(EvaluateSettings(subgroups=("site",))) == to_json(EvaluateSettings())


def test_a_column_that_is_not_there_is_refused_with_the_near_ones(table, tmp_path):
    with pytest.raises(
        DataError,
        match=r"'scaner' is named by evaluate\.subgroups or tune\.noise\.scored\.column, but is not there \(did you mean 'scanner'",
    ):
        generate(table, tmp_path / "one", "scaner")


def test_an_image_listed_twice_must_have_one_value(table, tmp_path):
    table.write_text(table.read_text("utf-8") + "a/0.png,a,p1,South,x\n", encoding="utf-8")
    generate(table, tmp_path / "one")
    with pytest.raises(DataError, match="column site 'North', 'South'"):
        generate(table, tmp_path / "two", "site")


def test_a_column_of_very_many_values_is_refused_before_anything_trains(table, tmp_path):
    lines = ["path,label,patient,age"]
    for number in range(MOST_VALUES + 1):
        path = table.with_name(f"{number}.png")
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(path)
        lines.append(f"{path.name},{'ab'[number % 2]},p{number},{number}")
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="'age' has 21: join them in the table"):
        generate(table, tmp_path / "one", "age")


def test_the_published_part_is_a_column_of_every_source(table, tmp_path):
    _, attributes = generate(table.parent, tmp_path / "one", "fold", source="folder")
    assert list(read_csv(attributes / "attributes.csv").columns) == ["id", "fold"]
    with pytest.raises(SettingsError, match="site is asked of the source folder"):
        generate(table.parent, tmp_path / "two", "site", source="folder")
