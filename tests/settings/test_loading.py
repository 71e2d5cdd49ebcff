"""Settings: strict, near names, extends, overrides; the shipped configs all load."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kerasall.errors import SettingsError
from kerasall.settings.loading import dump_settings, load_settings, validate

ROOT = Path(__file__).parents[2]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_an_unknown_key_names_the_near_ones(tmp_path):
    path = write(
        tmp_path,
        "x.yaml",
        "pipeline: p.py\ntrain: {batch_sise: 3, stages: [{name: a, epochs: 2, optimiser: 1}]}\n",
    )
    with pytest.raises(SettingsError) as error:
        load_settings(path)
    assert "train.batch_sise: unknown setting; did you mean batch_size?" in str(error.value)
    assert "train.stages.0.optimiser: unknown setting; did you mean optimizer?" in str(error.value)
    assert str(path) in str(error.value)


def test_extends_merges_mappings_and_replaces_lists(tmp_path):
    write(
        tmp_path,
        "base.yaml",
        "pipeline: p.py\nseed: 3\ndata: {source: aria, malignant: [a]}\npreprocess: [{op: a}]\n",
    )
    path = write(
        tmp_path, "child.yaml", "extends: base.yaml\ndata: {malignant: [b]}\npreprocess: [{op: b}]\n"
    )
    settings = load_settings(path)
    assert (settings.experiment, settings.seed, settings.data.source) == ("child", 3, "aria")
    assert settings.data.malignant == ("b",)
    assert settings.preprocess == ({"op": "b"},)
    assert settings.pipeline == str((tmp_path / "p.py").resolve())


def test_a_circle_of_extends_is_refused(tmp_path):
    write(tmp_path, "a.yaml", "extends: b.yaml\n")
    write(tmp_path, "b.yaml", "extends: a.yaml\n")
    with pytest.raises(SettingsError, match="must not extend itself"):
        load_settings(tmp_path / "a.yaml")


def test_overrides_reach_nested_keys_and_list_entries(tmp_path):
    path = write(tmp_path, "x.yaml", "pipeline: p.py\ntrain: {stages: [{name: a, epochs: 2}]}\n")
    settings = load_settings(path, ["train.stages.0.epochs=9", "data.path=/x=y", "model.head.dense=[4, 2]"])
    assert settings.train.stages[0].epochs == 9
    assert settings.data.path == "/x=y"
    assert settings.model.head.dense == (4, 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "form key=value"),
        ("train.stages.7.epochs=1", "an entry 0 to 0"),
        ("sead=1", "did you mean seed"),
        ("seed=[", "must be YAML"),
        ("train.batch_size=0", "greater than 0"),
    ],
)
def test_wrong_overrides_say_what_is_wrong(tmp_path, override, message):
    path = write(tmp_path, "x.yaml", "pipeline: p.py\ntrain: {stages: [{name: a, epochs: 2}]}\n")
    with pytest.raises(SettingsError, match=message):
        load_settings(path, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a\n", "key: value"), ("a: [", "must be YAML"), ("seed: x\n", "seed: .*integer")],
)
def test_files_that_are_no_settings_are_refused(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        load_settings(write(tmp_path, "x.yaml", text))


def test_leaks_may_be_reported_only_under_the_faithful_protocol():
    values = {"experiment": "x", "pipeline": "p", "split": {"on_leak": "report"}}
    with pytest.raises(SettingsError, match="legal only under protocol: faithful"):
        validate(values, "here")
    assert validate(values | {"protocol": "faithful"}, "here").split.on_leak == "report"


def test_a_dump_reads_back_as_the_same_settings():
    settings = load_settings(ROOT / "configs" / "demo.yaml")
    assert validate(yaml.safe_load(dump_settings(settings)), "dump") == settings


WORDS = {
    "a word": ({"data": {"malignant": "ALL"}}, "data.malignant", ("ALL",)),
    "a class that is a number": ({"data": {"malignant": 1}}, "data.malignant", ("1",)),
    "numbers in a list": ({"data": {"malignant": [1, "b"]}}, "data.malignant", ("1", "b")),
    "a metric": ({"evaluate": {"metrics": "kappa"}}, "evaluate.metrics", ("kappa",)),
    "a fold": ({"split": {"test_folds": "prelim"}}, "split.test_folds", ("prelim",)),
    "a sentence": ({"departures": "one", "weaknesses": "two"}, "weaknesses", ("two",)),
    "joined classes": ({"data": {"classes": {"a": "x", "b": ["y", 0]}}}, "data.classes", {"a": ("x",), "b": ("y", "0")}),
    "a word of several kinds": ({"ensemble": {"weights": "auc"}}, "ensemble.weights", "auc"),
    "levels are kept": ({"tune": {"factors": {"train.batch_size": [8, 16]}}}, "tune.factors", {"train.batch_size": (8, 16)}),
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_one_word_is_a_list_of_one(name):
    values, key, expected = WORDS[name]
    found = validate({"experiment": "x", **values}, "here")
    for word in key.split("."):
        found = getattr(found, word)
    assert found == expected


STATED = """
pipeline: p.py
data: {path: images, label_csv: ~/labels.csv, corrections: [a.csv, /b.csv]}
split: {file: ../split.json}
checks: {schema_file: schema.json}
model: {weights: imagenet}
members: [{name: a, model: {weights: own.weights.h5}}, {name: b, model: {weights: random}}]
"""


def test_paths_start_from_the_file_that_states_them(tmp_path, monkeypatch):
    below = tmp_path / "below"
    below.mkdir()
    write(below, "base.yaml", STATED)
    path = write(tmp_path, "child.yaml", "extends: below/base.yaml\ndata: {path: mine}\n")
    monkeypatch.chdir("/")
    settings = load_settings(path)
    assert settings.data.path == str(tmp_path / "mine")
    assert settings.data.label_csv == str(Path("~/labels.csv").expanduser())
    assert settings.data.corrections == (str(below / "a.csv"), "/b.csv")
    assert Path(str(settings.split.file)).resolve() == tmp_path / "split.json"
    assert settings.checks.schema_file == str(below / "schema.json")
    assert [member.model.weights for member in settings.members] == [str(below / "own.weights.h5"), "random"]
    assert settings.model.weights == "imagenet"


def test_paths_of_overrides_start_from_the_working_directory(tmp_path, monkeypatch):
    path = write(tmp_path, "x.yaml", STATED)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    stated = ["data.path=images", "data.corrections=[c.csv]", "members.0.model.weights=w.h5"]
    settings = load_settings(path, stated)
    assert settings.data.path == str(elsewhere / "images")
    assert settings.data.corrections == (str(elsewhere / "c.csv"),)
    assert settings.members[0].model.weights == str(elsewhere / "w.h5")
    assert settings.checks.schema_file == str(tmp_path / "schema.json")


def test_values_that_are_no_paths_are_left_to_the_check_of_kinds(tmp_path):
    path = write(tmp_path, "x.yaml", "pipeline: p.py\ndata: {path: 3}\nmembers: {a: 1}\n")
    with pytest.raises(SettingsError, match=r"data\.path: .*string"):
        load_settings(path)
