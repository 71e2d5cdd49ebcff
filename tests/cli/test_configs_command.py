"""The commands ``kerasall configs`` and ``kerasall settings``: lists, words, JSON, and the page of the docs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

import kerasall.settings
from kerasall.cli.app import main
from kerasall.settings import BlessSettings, Settings, TrialSettings
from kerasall.settings.base import Strict
from kerasall.settings.shipped import shipped_files
from kerasall.studies import setting_reference
from kerasall.studies.setting_reference import find_settings, has_choices, list_choices, list_settings

ROOT = Path(__file__).parents[2]


def run(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    said = capsys.readouterr()
    assert end.value.code == 0, said.err
    return said.out


def refusal(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 1
    return capsys.readouterr().err


# --- configs --------------------------------------------------------------------------------------


def test_every_config_is_listed_once_with_a_line_and_the_command_that_runs_it(capsys):
    lines = run(capsys, "configs").splitlines()
    rows = json.loads(run(capsys, "configs", "--json"))
    names = list(shipped_files("configs"))
    assert sorted(line.split()[0] for line in lines if line.startswith("  ")) == names
    assert [row["name"] for row in rows] == names
    assert max(map(len, lines)) <= 112
    for row in rows:
        assert row["description"]
        assert row["command"] in shipped_files("configs")[row["name"]].read_text(encoding="utf-8")
    assert {row["kind"] for row in rows} == {"rendered", "images", "faithful"}


def test_a_config_is_printed_as_it_lies(capsys):
    assert run(capsys, "configs", "demo") == shipped_files("configs")["demo"].read_text(encoding="utf-8")
    assert json.loads(run(capsys, "configs", "demo", "--json"))["text"].startswith("#")
    assert "did you mean 'demo'" in refusal(capsys, "configs", "demmo")


def test_what_is_advised_without_runs_can_be_done(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KERASALL_RUNS", raising=False)
    advised = re.search(r"kerasall run (\S+)", run(capsys, "runs"))
    assert advised
    assert advised[1] in shipped_files("configs")


# --- settings -------------------------------------------------------------------------------------


def blocks(of: type[BaseModel] = Strict) -> list[type[BaseModel]]:
    own = [kind for kind in of.__subclasses__() if kind.__module__.startswith(kerasall.settings.__name__)]
    return [each for kind in own for each in (kind, *blocks(kind))]


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.__name__)
def test_every_setting_has_a_meaning(block):
    assert [name for name, field in block.model_fields.items() if not (field.description or "").strip()] == []


def test_every_setting_is_found_by_its_key():
    listed = [setting.key for setting in list_settings()]
    assert len(listed) == len(set(listed))
    # What one trial reads is made of settings that are listed where an experiment states them.
    expected = [name for block in blocks() if block is not TrialSettings for name in block.model_fields]
    assert sorted(key.rpartition(".")[2] for key in listed) == sorted(expected)
    for key in listed:
        assert find_settings(key)[0].key == key


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("malignant", ["data.malignant"]),
        ("alpha", ["model.alpha", "deep_features.extractors.*.alpha", "sweep.backbones.*.alpha"]),
        ("train.stages.0.epochs", ["train.stages.*.epochs"]),
        ("members.1.train.stages.0.optimizer.name", ["train.stages.*.optimizer.name"]),
        ("members.model", ["members.*.model"]),
        ("aria.blocks", ["data.aria.blocks"]),
        ("leukaemia", ["data.malignant"]),
        ("bless", ["bless", *(f"bless.{name}" for name in BlessSettings.model_fields)]),
        ("clahe", ["preprocess", "members.*.steps", "deep_features.extractors.*.steps"]),
        ("rotation_degrees", ["augment"]),
    ],
)
def test_settings_are_found_by_key_last_word_meaning_and_names(query, keys):
    assert [setting.key for setting in find_settings(query)] == keys


@pytest.mark.parametrize(
    ("key", "values", "default"),
    [
        ("split.validation", "number from 0 to 1", "0.2"),
        ("train.batch_size", "whole number above 0", "32"),
        ("serve.views", "1 or 4 or 8", "1"),
        ("calibrate.coverage", "number above 0 and below 1", "0.95"),
        ("data.columns", "mapping path or label or subject or fold -> text", "{}"),
        ("train.stages", "list of blocks of settings", "[{name: head, epochs: 10}]"),
        ("train.stages.*.schedule", "mapping name -> any value", "{name: constant}"),
        ("train.jit_compile", "true or false or by_device", "by_device"),
        ("split.on_leak", "stop or report", "stop"),
        ("tune.factors", "mapping name -> list of any value", ""),
    ],
)
def test_ranges_and_defaults_are_those_of_the_rows(key, values, default):
    (found,) = (setting for setting in list_settings() if setting.key == key)
    assert (found.values, found.default) == (values, default)


def test_names_are_those_of_the_tables():
    from kerasall.models.backbones import BACKBONES
    from kerasall.preprocessing.operations import OPERATIONS
    from kerasall.training.optimizers import OPTIMIZERS

    assert [choice.name for choice in list_choices("model.backbone")] == list(BACKBONES)
    operations = {choice.name: choice for choice in list_choices("preprocess")}
    assert list(operations) == list(OPERATIONS)
    assert all(
        each.words and all(argument.words for argument in each.arguments) for each in operations.values()
    )
    resize = {argument.name: argument for argument in operations["resize"].arguments}
    assert (resize["method"].values, resize["method"].default) == ("text", "bilinear")
    assert resize["height"].default == ""
    assert {argument.default for argument in operations["reinhard"].arguments[:2]} == {
        "fitted to training images"
    }
    assert all(each.words and each.default for each in list_choices("augment"))
    assert [choice.name for choice in list_choices("train.stages.*.optimizer.name")] == list(OPTIMIZERS)
    known = {setting.key for setting in list_settings()}
    assert {key for key in known if has_choices(key)} == set(setting_reference._CHOICES)


def test_the_command_prints_blocks_one_setting_and_json(capsys):
    overview = run(capsys, "settings").splitlines()
    tops = [line.split()[0] for line in overview if not line.startswith(" ")]
    assert tops == list(Settings.model_fields)
    block = run(capsys, "settings", "model")
    assert "model.alpha: number above 0, default 1.0" in block
    assert "names it takes: kerasall settings model.backbone" in block
    assert "mobilenet_v2" in run(capsys, "settings", "model.backbone")
    (found,) = json.loads(run(capsys, "settings", "tune.signal", "--json"))
    assert (found["key"], found["default"]) == ("tune.signal", "null")
    assert "target:M" in [choice["name"] for choice in found["choices"]]
    assert len(json.loads(run(capsys, "settings", "--json"))) == len(tops)
    assert "did you mean 'seed'" in refusal(capsys, "settings", "sead")


def test_the_page_of_the_docs_is_what_the_command_makes(capsys):
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert run(capsys, "settings", "--markdown") == page, "kerasall settings --markdown > docs/settings.md"


def test_blocks_are_shown_without_tensorflow():
    script = (
        "import sys; from kerasall.cli.app import main\n"
        "try: main(['settings', 'train'])\n"
        "except SystemExit: pass\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, stdout=subprocess.DEVNULL)
