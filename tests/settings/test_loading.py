"""Settings: strict, near names, extends, overrides; the shipped configs all load."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from kerasall.errors import SettingsError
from kerasall.settings.loading import dump_settings, load_settings, validate
from kerasall.settings.systems import OptimizerSettings
from kerasall.settings.yaml_text import parse_yaml, write_line

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


def bomb(first: str) -> str:
    """Nine aliases in nine, nine times over: 387 million values in some hundred letters."""
    return f"{first}: &l0 [x]\n" + "".join(
        f"k{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 10)
    )


HOSTILE = {
    "deep lists": ("preprocess: " + "[" * 3000 + "]" * 3000, "nested more than 50 deep"),
    "deep mappings": ("augment: " + "{a: " * 3000 + "}" * 3000, "nested more than 50 deep"),
    "deep blocks": ("".join(" " * n + "a:\n" for n in range(600)), "nested more than 50 deep"),
    "5,000 digits": ("seed: " + "9" * 5000, "seed: .*integer, exceeded maximum"),
    "5,000 hexadecimal digits": ("seed: 0x" + "f" * 5000, "seed: .*valid integer"),
    "400 digits": ("preprocess: [{op: resize, height: " + "9" * 400 + ", width: 3}]\nseed: " + "9" * 30, "seed: .*18 digits"),
    "an alias bomb": (bomb("departures"), "more than 20,000 values"),
    "a bomb of merges": (
        "k0: &l0 {x0: 1}\n" + "".join(f"k{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 9)}]}}\n" for n in range(1, 10)),
        "more than 20,000 values",
    ),
    "an alias in itself": ("preprocess: &a [*a]", r"\*a stands inside &a"),
    "a large file": ("description: " + "x" * 300_000, "more than 262,144"),
    "a key twice": ("data: {source: folder}\nsplit: {folds: 3}\ndata: {malignant: b}", "data stands here a second time, after line 1"),
    "a tab": ("data:\n\tpath: x", r"cannot start any token(.|\n)*line 2"),
    "a tag of Python": ("data: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    "a wrong tag": ("seed: !!int x", "must be a whole number"),
    "half a letter": ('description: "\\ud800"', "surrogate"),
    "a control character": ("seed: 1\0", "not allowed"),
    "two documents": ("seed: 1\n---\nseed: 2", "single document"),
    "not finite": ("model: {alpha: .inf}\nserve: {views: .nan}", r"model\.alpha: .*finite"),
    "a class that is no word": ("data: {malignant: [true, 1.0]}", "put it in quotation marks"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_with_words(tmp_path, name):
    text, message = HOSTILE[name]
    with pytest.raises(SettingsError, match=message) as error:
        load_settings(write(tmp_path, "x.yaml", text))
    assert len(str(error.value)) < 3000


def test_what_is_written_is_what_is_meant(tmp_path):
    text = """
    description: 2020-13-45
    data: {malignant: [no, off, 007, 1_2, 1:30, 2020-01-01, 12345678901234567890123], classes: {no: [on, y], "1e5": b}}
    augment: {horizontal_flip: yes, rotation_degrees: 1e1}
    train: {batch_size: 1e1, stages: [{name: a, epochs: 2, optimizer: {learning_rate: 1E-3, constants: {epsilon: 1e-8}},
      schedule: {name: triangular, minimum: 1e-5, step_size_epochs: '2e0'}}]}
    """
    settings = load_settings(write(tmp_path, "x.yaml", text), ["model.alpha=5e-1", "data.label=no"])
    words = ("no", "off", "007", "1_2", "1:30", "2020-01-01", "12345678901234567890123")
    assert settings.data.malignant == words
    assert settings.data.classes == {"no": ("on", "y"), "1e5": ("b",)}
    assert settings.augment == {"horizontal_flip": True, "rotation_degrees": 10.0}
    stage = settings.train.stages[0]
    assert stage.schedule == {"name": "triangular", "minimum": 1e-5, "step_size_epochs": 2.0}
    assert (stage.optimizer.learning_rate, stage.optimizer.constants) == (1e-3, {"epsilon": 1e-8})
    assert (settings.train.batch_size, settings.model.alpha, settings.data.label) == (10, 0.5, "no")
    assert load_settings(write(tmp_path, "again.yaml", dump_settings(settings))) == settings
    assert validate(yaml.safe_load(dump_settings(settings)), "YAML 1.1") == settings


@pytest.mark.parametrize(
    "text",
    [
        "/x: y",
        "a #2",
        "no",
        "1e5",
        "007",
        "[a",
        "*a",
        "😀 ä",
        "a\x7f\x85b",
        "\x85",
        "a\u2028b",
        " \u2029",
        "'\"",
        " a ",
        "null",
        "x" * 300,
    ],
)
def test_what_is_written_for_a_person_reads_back(text):
    assert parse_yaml(write_line(text), "it") == text
    assert parse_yaml(write_line({text: [text]}), "it") == {text: [text]}


def test_letters_that_json_writes_in_two_halves_are_read_as_one():
    assert parse_yaml('{"classes": ["\\ud83d\\ude00"]}', "it") == {"classes": ["😀"]}


def test_a_config_may_be_utf16_and_may_come_through_a_pipe(tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_bytes("seed: 3\n".encode("utf-16"))
    assert load_settings(tmp_path / "own.yaml").seed == 3
    (tmp_path / "own.yaml").write_bytes("seed: 3\ndescription: ä".encode("latin-1"))
    with pytest.raises(SettingsError, match="line 2 is no UTF-8"):
        load_settings(tmp_path / "own.yaml")
    monkeypatch.chdir(tmp_path)
    ending, begun = os.pipe()
    os.write(begun, b"experiment: piped\nextends: base.yaml\ndata: {path: images}\n")
    os.close(begun)
    write(tmp_path, "base.yaml", "seed: 5\n")
    for _ in range(2):  # settled first, then run
        settings = load_settings(f"/dev/fd/{ending}")
        assert (settings.experiment, settings.seed) == ("piped", 5)
        assert settings.data.path == str(tmp_path / "images")
    os.close(ending)


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ({"subjects": {"validation": ["a", "b"], "test": ["b"]}}, "must name a patient once, but b"),
        ({"subjects": {"validation": ["a"]}, "kind": "folds"}, "needs split.kind: holdout"),
        ({"subjects": {"test": ["a"]}, "test_folds": ["prelim"]}, "the test part is either"),
        ({"subjects": {"train": ["a"]}}, "validation"),
        ({"test_folds": ["a", "b"], "selection_folds": ["b"]}, "must differ, but both name b"),
        ({"subjects": {"test": []}}, r"subjects.test must name at least one patient, .* but is \[\]"),
        ({"subjects": {"validation": ["a", ""]}}, "none by an empty name"),
        ({"subjects": {"validation": ["a"]}, "unit": "image"}, "but they are holdout and image"),
    ],
)
def test_stated_patients_and_published_parts_are_of_one_part(split, told):
    with pytest.raises(SettingsError, match=told):
        validate({"experiment": "x", "pipeline": "p", "split": split}, "here")


def test_a_stated_part_counts_as_one():
    stated = {"subjects": {"test": ["a"], "validation": ["b"]}, "validation": 0, "test": 0}
    split = validate({"experiment": "x", "pipeline": "p", "split": stated}, "here").split
    assert (split.has_test, split.has_validation, split.has_selection) == (True, True, False)


def test_a_frozen_split_goes_before_stated_patients():
    """`kerasall review` says `--set split.file=SPLIT`: the parts of the file are those that the patients made."""
    settings = load_settings("weighted_ensemble_faithful", overrides=["split.file=split.json"])
    assert settings.split.file is not None
    assert settings.split.subjects


def test_an_empty_list_of_patients_is_no_test_part():
    """Else a sweep would be scored on the very images on which its best cell is chosen."""
    with pytest.raises(SettingsError, match=r"leave test out of split\.subjects"):
        load_settings(
            "optimizer_sweep",
            overrides=["split.kind=holdout", "split.test_folds=[]", "split.subjects={test: []}"],
        )


def test_a_part_to_be_scored_is_read():
    with pytest.raises(
        SettingsError,
        match=r"split.test_folds must name parts that are read, but prelim is not among data.folds",
    ):
        load_settings("weighted_ensemble", overrides=["data.folds=[fold_0, fold_1]"])


def test_constants_under_an_optimizers_name_hold_for_it_alone():
    """As where the optimizer is a factor: MATLAB's epsilon is Adam's, and SGD has none."""
    settings = OptimizerSettings.model_validate(
        {"name": "adam", "constants": {"clipnorm": 1, "adam": {"epsilon": "1e-8"}, "sgdm": {"momentum": 0.8}}}
    )
    assert settings.own_constants == {"clipnorm": 1.0, "epsilon": 1e-8}
    other = settings.model_copy(update={"name": "sgdm"})
    assert other.own_constants == {"clipnorm": 1.0, "momentum": 0.8}
    with pytest.raises(ValidationError, match=r"or stand under an optimizer .*but nadam is none"):
        OptimizerSettings.model_validate({"constants": {"nadam": {"epsilon": 1e-8}}})
