"""From a folder with files that cannot be read to a split: they stop it, or are left out, listed and told."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from kerasall.components.example_gen import example_gen
from kerasall.components.example_validator import UNREADABLE, example_validator
from kerasall.components.schema_gen import schema_gen
from kerasall.components.statistics_gen import statistics_gen
from kerasall.components.transform import transform
from kerasall.data.development import read_development, read_rows
from kerasall.errors import DataError
from kerasall.settings import CheckSettings, DataSettings, SplitSettings


def split(images, places, unreadable):
    """The folders of Anomalies, Development and Test."""
    for name in (
        "examples",
        "attributes",
        "statistics",
        "schema",
        "anomalies",
        "development",
        "test",
        "split",
    ):
        (places / name).mkdir()
    checks = CheckSettings(unreadable=unreadable)
    known = {"examples": places / "examples", "statistics": places / "statistics"}
    data = DataSettings(source="folder", path=str(images))
    example_gen.function(
        data=data, examples=places / "examples", attributes=places / "attributes", cache_folder=places
    )
    statistics_gen.function(examples=places / "examples", checks=checks, statistics=places / "statistics")
    schema_gen.function(statistics=places / "statistics", schema_file=None, schema=places / "schema")
    told = example_validator.function(
        **known, schema=places / "schema", checks=checks, folds=0, anomalies=places / "anomalies"
    )
    transform.function(
        **known, anomalies=places / "anomalies", split=SplitSettings(), preprocess=[], seed=0,
        development=places / "development", test=places / "test", frozen_split=places / "split", unreadable=unreadable,
    )  # fmt: skip
    return told, places / "anomalies", places / "development", places / "test"


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
    (tmp_path / "images" / "a" / "broken.png").write_bytes(b"nothing")
    return tmp_path / "images"


def test_they_stop_the_run_with_the_cure(images, tmp_path):
    with pytest.raises(DataError, match=r"a/broken\.png.*checks\.unreadable: leave_out"):
        split(images, tmp_path, "error")


def test_they_are_left_out_listed_and_told(images, tmp_path):
    told, anomalies, development, test = split(images, tmp_path, "leave_out")
    assert (told["errors"], told["left_out"]) == (0, 1)
    with open(anomalies / UNREADABLE, newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["id"], row["label"]) == ("a/broken.png", "a")
    assert row["error"]
    data = read_development(development)
    assert "a/broken.png" not in {*data.examples["id"], *read_rows(test)["id"]}
    assert len(data.examples) + len(read_rows(test)) == 24
    assert "1 of 25 files could not be read and were left out: a 1 of 13." in data.facts.notes


def test_nothing_is_listed_where_all_can_be_read(images, tmp_path):
    (images / "a" / "broken.png").unlink()
    told, anomalies, _, _ = split(images, tmp_path, "leave_out")
    assert told["left_out"] == 0
    assert not (anomalies / UNREADABLE).exists()
