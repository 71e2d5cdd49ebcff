"""Configs and pipelines by name: what a person means, from any folder, and what near names are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kerasall.errors import SettingsError
from kerasall.settings.loading import dump_settings, load_settings
from kerasall.settings.shipped import find_config, find_script, shipped_files

SHIPPED = shipped_files("configs")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    return Path(path)


@pytest.mark.parametrize("config", ["demo", "demo.yaml", "configs/demo.yaml"])
def test_a_shipped_config_is_found_from_an_empty_folder(config):
    assert find_config(config) == SHIPPED["demo"]
    assert load_settings(config).experiment == "demo"


def test_files_come_before_shipped_ones_and_folders_are_no_configs():
    Path("demo").mkdir()
    assert find_config("demo") == SHIPPED["demo"]
    own = write("demo.yaml", "seed: 7\n")
    assert load_settings("demo").seed == load_settings(own).seed == 7
    assert load_settings("demo").pipeline == "single_classifier"
    write("configs/own.yaml", "seed: 8\n")
    with pytest.raises(SettingsError, match="give its name alone, demo"):
        find_config("configs/demo.yaml")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("demmo", "did you mean 'demo'"),
        ("elsewhere/demo.yaml", "give its name alone, demo"),
        ("qqq.yaml", "`kerasall configs`.*there are: mine.yaml"),
    ],
)
def test_what_is_no_config_is_told_what_is_near(config, message):
    write("mine.yaml", "seed: 7\n")
    with pytest.raises(SettingsError, match=message):
        load_settings(config)


@pytest.mark.parametrize("base", ["aria_mobilenet", "aria_mobilenet.yaml"])
def test_a_shipped_config_can_be_extended(base):
    path = write("below/mine.yaml", f"extends: {base}\nseed: 7\n")
    settings = load_settings(path)
    assert (settings.experiment, settings.seed, settings.data.source) == ("mine", 7, "aria")
    write("below/aria_mobilenet.yaml", "data: {source: folder}\n")
    assert load_settings(path).data.source == "folder"


def test_a_config_may_extend_the_shipped_one_of_its_own_name():
    settings = load_settings(write("demo.yaml", "extends: demo\nseed: 7\n"))
    assert (settings.seed, settings.data.source) == (7, "synthetic")


def test_an_unknown_base_names_the_nearest():
    with pytest.raises(SettingsError, match=r"extends in mine\.yaml .*did you mean 'aria_vote'"):
        load_settings(write("mine.yaml", "extends: aria_votes\n"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_printed_config_works_as_an_own_file(name):
    own = write("mine.yaml", SHIPPED[name].read_text(encoding="utf-8"))
    mine, shipped = load_settings(own), load_settings(name)
    assert mine.model_copy(update={"experiment": name}) == shipped
    assert find_script(mine.pipeline).is_file()
    assert shipped.experiment == name
    header = own.read_text(encoding="utf-8").split("\n\n")[0]
    assert re.search(rf"kerasall (run|tune) {name}( |$)", header, re.MULTILINE)
    assert "expect:" in header


@pytest.mark.parametrize(("stated", "found"), [("own.py", "below/own.py"), ("../over.py", "over.py")])
def test_a_script_of_ones_own_lies_beside_the_config_that_states_it(here, stated, found):
    write(found, "")
    path = write("below/mine.yaml", f"pipeline: {stated}\n")
    assert find_script(load_settings(path).pipeline).samefile(found)
    other = load_settings(path, [f"pipeline={found}"])  # an override starts here
    assert find_script(other.pipeline).samefile(found)
    assert find_script(load_settings(path, ["pipeline=four_stage_vote"]).pipeline).stem == "four_stage_vote"


@pytest.mark.parametrize("pipeline", ["deep_features_svm", "own.py"])
def test_a_resolved_config_loads_again_elsewhere(pipeline):
    write("own.py", "")
    settings = load_settings(write("mine.yaml", f"pipeline: {pipeline}\n"))
    again = load_settings(write("runs/mine/settings.yaml", dump_settings(settings)))
    assert again == settings
    assert find_script(again.pipeline).is_file()
    assert yaml.safe_load(dump_settings(settings))["pipeline"].endswith(pipeline)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("single_clasifier", "did you mean 'single_classifier'"),
        ("../pipelines/single_classifier.py", "`pipeline: single_classifier`"),
        ("zzz", "take one of .*weighted_ensemble"),
    ],
)
def test_what_is_no_pipeline_is_told_before_anything_runs(pipeline, message):
    from kerasall.studies.experiment import settle

    with pytest.raises(SettingsError, match=message):
        settle(write("mine.yaml", f"pipeline: {pipeline}\n"))


def test_a_shipped_pipeline_never_passes_over_what_the_config_states(here):
    from kerasall.studies.experiment import Places, load_pipeline

    settings = load_settings("weighted_ensemble_small", ["pipeline=single_classifier"])
    with pytest.raises(SettingsError, match=r"states members.*pipeline: weighted_ensemble"):
        load_pipeline(settings, Places(here, here))


def test_no_key_of_a_step_tells_where_the_pipeline_lies(here):
    from kerasall.pipeline.component import to_json

    script = write("deep/below/another.py", "")
    named, stated = load_settings("demo"), load_settings("demo", [f"pipeline={script}"])
    assert named.pipeline != stated.pipeline
    assert to_json(named) == to_json(stated)
