"""``kerasall check``: what a run would ask is a warning there; options and configs say how images are read."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import command_line
import pytest
from lab_images import evenly, write_table

from kerasall.errors import DataError, SettingsError
from kerasall.studies.experiment import run_experiment
from kerasall.studies.external_check import read_images
from kerasall.studies.stated_images import read_stated, settle_images


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    return write_table(folder, {"ALL": {"": 20}, "normal": {"": 20}, "other": evenly(4, 5)})


def call(*arguments: str | Path) -> str:
    return command_line.invoke("check", *arguments).stdout


def asked(*arguments: str | Path) -> list[str]:
    found = json.loads(call(*arguments, "--json"))
    return [w["code"] for w in found["warnings"] if w["code"].startswith("before_a_run")]


def test_what_a_run_would_ask_is_a_warning_and_no_error(table):
    shown = call(table)
    assert shown.count("warning: before a run: ") == 2
    assert "--malignant ALL" in shown
    assert shown.endswith("no errors\n")
    assert asked(table) == ["before_a_run_malignant", "before_a_run_subject"]


def test_options_answer(table):
    answers = ("--malignant", "all,other", "--subject", "none", "--set", "checks.fewest_images=30")
    assert asked(table, *answers) == ["before_a_run_images"]
    assert asked(table, "--malignant", "blast") == asked(table)


def test_a_config_says_how_images_are_read_and_split(table, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(
        "data: {source: csv, path: elsewhere.csv, malignant: ALL, subject: none}\nsplit: {kind: official_folds}\n"
    )
    assert asked(table, "--config", config) == ["before_a_run_split"]
    settings = settle_images(table, config=config)
    assert settings.data.path == str(table)
    assert read_stated(settings).malignant == ("ALL",)


def test_settings_of_other_things_are_refused(table):
    with pytest.raises(SettingsError, match=r"must stand below data or checks, but 'seed=1'"):
        call(table, "--set", "seed=1")
    with pytest.raises(SettingsError, match="none are named"):
        settle_images(None)


def test_an_external_check_is_told_what_a_run_would_ask_of_classes_and_patients(table):
    collection, checks, questions = read_images(table, "auto", None, ["checks.max_side=100"])
    assert (len(collection.examples), checks.max_side) == (60, 100)
    assert [question.about for question in questions] == ["malignant", "subject"]
    *_, questions = read_images(table, "auto", None, ["data.malignant=ALL", "data.subject=none"])
    assert questions == []


@pytest.mark.parametrize("name", ["refer", "calibrated_normal", "exclude"])
def test_a_class_that_names_a_column_is_refused_before_any_pixel_and_can_be_renamed(
    tmp_path, name, monkeypatch
):
    table = write_table(tmp_path, {name: evenly(4, 5), "normal": evenly(4, 5, 4)})
    for image in tmp_path.glob("*.png"):
        image.write_bytes(b"no pixel is read")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="must give names of classes") as told:
        call(table)
    found = json.loads(call(table, "--json"))
    assert [error["message"] for error in found["errors"]] == [str(told.value)]
    with pytest.raises(DataError, match=re.escape(str(told.value))):
        command_line.invoke("train", table, "--malignant", "normal")
    (tmp_path / "mine.yaml").write_text(f"data: {{path: {table}, malignant: normal, subject: none}}\n")
    with pytest.raises(SettingsError, match=re.escape(str(told.value))):
        run_experiment(tmp_path / "mine.yaml")
    assert not (tmp_path / "runs").exists()
    cure = re.search(r"data\.classes: ({.*})", str(told.value))
    settings = settle_images(table, overrides=[f"data.classes={cure[1]}"])
    assert {label.partition(" ")[0] for label in read_stated(settings).labels} == {"class", "normal"}


def test_no_name_of_a_file_forges_a_line(tmp_path):
    table = write_table(tmp_path, {"ALL": evenly(4, 5), "normal": evenly(4, 5, 4)})
    name = "x\nno errors\n\x1b[2K\u2028no errors.png"
    (tmp_path / name).write_bytes(b"nothing")
    with open(table, "a", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow([name, "ALL", "P00"])
    shown = call(table)
    assert shown.splitlines()[-1] == "1 error"
    assert "no errors" not in map(str.strip, shown.splitlines())
    assert all(line.isprintable() for line in shown.split("\n"))
    assert r"x\nno errors\n\x1b[2K\u2028no errors.png" in shown
    document = call(table, "--json")
    assert json.loads(document)["errors"][0]["files"] == [name]
    assert "\x1b" not in document
