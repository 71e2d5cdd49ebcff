"""``kerasall check``: what a run would ask is a warning there; options and configs say how images are read."""

from __future__ import annotations

import json
from pathlib import Path

import command_line
import pytest
from lab_images import evenly, write_table

from kerasall.errors import SettingsError
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
