"""What the authors state: texts, which change no number and so enter no key but the report's."""

from __future__ import annotations

import pytest

from kerasall.errors import SettingsError
from kerasall.pipeline.component import to_json
from kerasall.settings import Settings, StudySettings
from kerasall.settings.loading import dump_settings, load_settings, validate
from kerasall.settings.yaml_text import parse_yaml


def test_texts_are_empty_by_default_and_empty_ones_are_not_written():
    assert set(StudySettings().model_dump().values()) == set()
    stated = Settings(experiment="x", study=StudySettings(funding="nobody"))
    assert parse_yaml(dump_settings(stated), "it")["study"] == {"funding": "nobody"}


def test_a_dump_reads_back_whatever_the_texts_hold(tmp_path):
    odd = "<b>=1+1</b> & $x^2$\n  | `rm` | \u202e 病人"
    path = tmp_path / "c.yaml"
    path.write_text(
        dump_settings(Settings(experiment="x", study=StudySettings(ethics=odd))), encoding="utf-8"
    )
    assert load_settings(path).study.ethics == odd


def test_a_year_and_an_empty_line_are_texts_and_a_number_with_a_point_is_refused():
    found = validate(
        {"experiment": "x", "study": {"dates": 2019, "funding": None, "title": "  a  "}}, "it"
    ).study
    assert (found.dates, found.funding, found.title) == ("2019", "", "a")
    for value in (2019.1, True):
        with pytest.raises(SettingsError, match=r"study\.dates: must be a text: put it in quotation marks"):
            validate({"experiment": "x", "study": {"dates": value}}, "it")
    with pytest.raises(SettingsError, match="did you mean funding"):
        validate({"experiment": "x", "study": {"fundings": "x"}}, "it")


def test_they_enter_no_key_of_a_step_that_is_given_the_settings():
    plain, stated = Settings(experiment="x"), Settings(experiment="x", study=StudySettings(title="t"))
    assert to_json(plain) == to_json(stated)
    assert to_json(plain.study) != to_json(stated.study)
