"""A first config: what is understood, the preset and its split by the data, and that the config loads again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from lab_images import evenly, write_table

from kerasall.errors import SettingsError
from kerasall.models.backbones import BACKBONES
from kerasall.settings.loading import load_settings
from kerasall.studies.draft import Stated, adopt_config, draft_config, write_draft
from kerasall.studies.presets import PRESETS, choose_preset, choose_size, choose_width
from kerasall.studies.setting_checks import check_arguments, check_names


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    patients = {"ALL": evenly(6, 4), "normal": evenly(6, 4, 6)}
    return write_table(tmp_path_factory.mktemp("lab") / "cells", patients)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_config_of_every_preset_is_short_and_loads_as_what_was_drafted(table, tmp_path, preset):
    draft = draft_config(table, Stated(malignant=("all",), preset=preset))
    file = tmp_path / f"{draft.name}.yaml"
    write_draft(draft, file, "kerasall run cells.yaml")
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 30
    assert "command: kerasall run cells.yaml" in text
    settings = load_settings(file)
    assert settings == draft.settings
    assert settings.data.malignant == ("ALL",)
    assert draft.questions == ()
    check_names(settings, "here")
    check_arguments(settings, "here")


@pytest.mark.parametrize(
    ("patients", "folds"), [({"ALL": 9, "normal": 8}, 5), ({"ALL": 9, "normal": 4}, 4), ({"ALL": 2, "normal": 3}, 2)]
)  # fmt: skip
def test_folds_fall_to_what_the_patients_allow(tmp_path, patients, folds):
    counts = {label: evenly(count, 1, 10 * i) for i, (label, count) in enumerate(patients.items())}
    draft = draft_config(write_table(tmp_path, counts), Stated(malignant=("ALL",)))
    assert draft.settings.split.kind == "folds"
    assert draft.settings.split.folds == folds
    assert f"split into {folds} folds, by patient" in draft.describe()


def test_what_is_stated_is_in_the_config_and_has_the_last_word(table):
    overrides = ("train.stages.0.epochs=3", "data.subject=none", "checks.fewest_images=2")
    draft = draft_config(table, Stated(columns={"path": "path"}, overrides=overrides), name="mine")
    settings = draft.settings
    assert settings.experiment == "mine"
    assert settings.train.stages[0].epochs == 3
    assert settings.data.subject == "none"
    assert settings.data.columns == {"path": "path"}
    assert [question.about for question in draft.questions] == ["malignant"]


def test_presets_are_chosen_by_images_and_device():
    assert choose_preset("auto", 500, gpu=False).name == "standard"
    assert choose_preset("auto", 500, gpu=True).name == "standard"
    assert choose_preset("auto", 50_000, gpu=True).name == "fine_tune"
    assert choose_preset("auto", 500_000, gpu=False).name == "quick"
    assert choose_preset("quick", 500_000, gpu=True).name == "quick"
    with pytest.raises(SettingsError, match="did you mean 'quick'"):
        choose_preset("quik", 1, gpu=False)


def test_the_width_is_the_preferred_one_at_hand(tmp_path, monkeypatch):
    monkeypatch.delenv("KERASALL_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert choose_width(PRESETS["standard"]) == 1.0
    assert choose_width(PRESETS["quick"]) == 0.25
    (tmp_path / BACKBONES["mobilenet"].weights[0.5].name).touch()
    assert choose_width(PRESETS["standard"], tmp_path) == 0.5
    assert choose_width(PRESETS["quick"], tmp_path) == 0.5


@pytest.mark.parametrize(("side", "size"), [(None, 224), (450, 224), (112, 224), (70, 160), (20, 96)])
def test_small_images_are_not_blown_up_beyond_twice_their_size(side, size):
    assert choose_size(PRESETS["standard"], side) == size


def test_a_path_that_leads_through_the_folder_above_is_the_same_the_second_time(table, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    draft = draft_config(Path(os.path.relpath(table, here)), Stated(malignant=("ALL",), preset="quick"))
    write_draft(draft, Path("cells.yaml"), "")
    assert adopt_config(draft, Path("cells.yaml"), Stated(malignant=("ALL",), preset="quick"), "go on")


def test_a_config_that_lies_there_is_taken_where_it_is_what_is_asked_for(table, tmp_path):
    file, stated = tmp_path / "cells.yaml", Stated(malignant=("ALL",))
    draft = draft_config(table, stated)
    assert not adopt_config(draft, file, stated, "go on")
    write_draft(draft, file, "")
    assert adopt_config(draft, file, stated, "go on")
    file.write_text(file.read_text(encoding="utf-8").replace("epochs: 40", "epochs: 4"), encoding="utf-8")
    assert adopt_config(draft, file, stated, "go on")
    asked = Stated(malignant=("ALL",), overrides=("train.batch_size=8",))
    with pytest.raises(SettingsError, match=r"differs in train: give --name"):
        adopt_config(draft_config(table, asked), file, asked, "go on")
    other = Stated(malignant=("normal",))
    with pytest.raises(SettingsError, match=r"differs in data"):
        adopt_config(draft_config(table, other), file, other, "go on")


def test_what_the_reader_doubts_is_told_with_what_was_understood(tmp_path):
    for label in ("ALL", "normal"):
        for name in ("1/a.png", "2/a.png", "2/b.png"):
            (tmp_path / label / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / label / name).touch()
    told = draft_config(tmp_path, Stated(malignant=("ALL",))).describe()
    assert any(
        line.startswith("warning: numbers of patients come back under several classes") for line in told
    )


def test_a_line_break_in_a_name_writes_no_setting(tmp_path):
    """The comments above tell of names: whoever names a folder must not choose the pipeline that runs."""
    name = "P\n pipeline: /tmp/evil.py\nseed: 99\u2028"
    table = write_table(tmp_path / "cells", {"ALL": {name: 3, **evenly(6, 4)}, "normal": evenly(6, 4, 6)})
    draft = draft_config(table, Stated(malignant=("ALL",)))
    told = replace(draft, collection=replace(draft.collection, notes=(f"read as in {name}",)))
    write_draft(told, tmp_path / "mine.yaml", "kerasall run mine.yaml\nseed: 98")
    settings = load_settings(tmp_path / "mine.yaml")
    assert (settings.seed, settings.pipeline) == (draft.settings.seed, draft.settings.pipeline)
    assert r"\n pipeline: /tmp/evil.py\nseed: 99\u2028" in (tmp_path / "mine.yaml").read_text(
        encoding="utf-8"
    )


def test_commands_that_are_proposed_quote_the_names_of_classes(tmp_path):
    table = write_table(tmp_path / "cells", {"$(touch evil)": evenly(6, 4), "normal": evenly(6, 4, 6)})
    asked = draft_config(table, Stated()).questions
    assert "give --malignant '$(touch evil)'" in next(
        each.text for each in asked if each.about == "malignant"
    )
