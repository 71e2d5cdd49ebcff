"""Mistyped names are found before anything is read or trained, and the message names the nearest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import command_line
import pandas as pd
import pytest

from kerasall.components.example_gen import example_gen
from kerasall.components.example_validator import example_validator
from kerasall.data.splits import write_split
from kerasall.data.stratification import fold_split, holdout_split
from kerasall.data.synthetic import SyntheticSettings, render_cells
from kerasall.errors import SettingsError
from kerasall.settings import Settings
from kerasall.settings.loading import load_settings, validate
from kerasall.studies.experiment import run_experiment, settle
from kerasall.studies.setting_checks import check_arguments, check_names

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def make(**values) -> Settings:
    return validate({"experiment": "x", **values}, "here")


def stage(**values) -> dict:
    return {"train": {"stages": [{"name": "head", "epochs": 2, **values}]}}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_the_shipped_configs_pass(path):
    settings = load_settings(path)
    check_names(settings, str(path))
    check_arguments(settings, str(path))


NAMES = {
    "metric": ({"evaluate": {"metrics": ["acuracy"]}}, r"evaluate\.metrics\.0: .*did you mean.*'accuracy'"),
    "main metric": ({"evaluate": {"main_metric": "f1_makro"}}, r"evaluate\.main_metric: .*'f1_macro'"),
    "metric of a class": ({"evaluate": {"main_metric": "recal:ALL"}}, r"'recall:ALL'"),
    "backbone": ({"model": {"backbone": "mobilnet"}}, r"model\.backbone: .*did you mean 'mobilenet'"),
    "member": ({"members": [{"name": "a", "model": {"backbone": "vgg61"}}]}, r"members\.0\.model\.backbone: .*'vgg"),
    "extractor": (
        {"deep_features": {"extractors": [{"name": "a", "backbone": "xeption"}], "combinations": [["a"]]}},
        r"deep_features\.extractors\.0\.backbone: .*'xception'",
    ),
    "block": (stage(trainable="blok_12"), r"train\.stages\.0\.trainable: .*did you mean 'block_12'"),
    "factor": (
        {"tune": {"factors": {"model.backbone": ["mobilenet", "resnet5"]}}},
        r"tune\.factors\.model\.backbone = resnet5: model\.backbone: .*'resnet50'",
    ),
    "response": ({"tune": {"factors": {"train.batch_size": [8, 16]}, "response": "acuracy"}}, r"tune\.response: .*'accuracy'"),
    "patience without validation": (
        {**stage(patience=3), "split": {"validation": 0}},
        r"train\.stages\.0\.patience: .*split has no validation part",
    ),
    "patience in folds": (
        {**stage(patience=3), "split": {"kind": "folds", "inner_validation": 0}},
        r"train\.stages\.0\.patience: .*inner_validation is 0",
    ),
    "no split file": ({**stage(patience=3), "split": {"file": "/no/split.json"}}, r"/no/split\.json must exist"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_unknown_names_are_errors_that_name_the_nearest(name):
    values, message = NAMES[name]
    with pytest.raises(SettingsError, match=message):
        check_names(make(**values), "here")


ARGUMENTS = {
    "operation": ({"preprocess": [{"op": "resise", "height": 8, "width": 8}]}, r"preprocess: 'resise'.*resize"),
    "argument": ({"preprocess": [{"op": "resize", "hight": 8, "width": 8}]}, r"'hight'.*did you mean height"),
    "open size": ({"preprocess": [{"op": "pad_to_square"}]}, r"preprocess: .*same size"),
    "argument of a fit": (
        {"preprocess": [{"op": "reinhard", "stain": 1}, {"op": "resize", "height": 8, "width": 8}]},
        r"preprocess: 'stain'",
    ),
    "member's operation": (
        {"members": [{"name": "a", "steps": [{"op": "reisze", "height": 8, "width": 8}]}]},
        r"members\.0\.steps: .*resize",
    ),
    "augmentation": ({"augment": {"rotation": 9}}, r"augment: 'rotation'.*did you mean rotation_degrees"),
    "its value": ({"augment": {"shift": 3}}, r"augment: .*shift must be a number from 0 to 1"),
    "schedule": (stage(schedule={"name": "cosin"}), r"train\.stages\.0: .*did you mean 'cosine'"),
    "its constant": (stage(schedule={"name": "cosine", "warmup": 1}), r"did you mean 'warmup_epochs'"),
    "optimizer's constant": (stage(optimizer={"constants": {"beta1": 0.9}}), r"did you mean 'beta_1'"),
    "rate of a schedule": (
        stage(schedule={"name": "triangular", "minimum": "1e-2", "step_size_epochs": 2}),
        r"train\.stages\.0: maximum of the cyclic rate must be a number above 0\.01",
    ),
    "switch of a schedule": (
        stage(schedule={"name": "exponential_decay", "rate": 0.5, "decay_epochs": 1, "staircase": "never"}),
        r"staircase .* must be true or false",
    ),
    "clips": (stage(optimizer={"constants": {"clipnorm": 1, "clipvalue": 1}}), r"train\.stages\.0: .*refuses its constants"),
    "devices": ({"train": {"devices": 99}}, r"train\.devices must be at most"),
    "two levels": (
        stage(schedule={"name": "triangular", "minimum": 1e-7, "step_size_epochs": 1})
        | {"tune": {"factors": {
            "train.learning_rate": ["1e-5", "1e-3"], "train.stages.0.schedule.minimum": ["1e-6", "1e-4"],
        }}},
        r"train\.learning_rate = 1e-05 must go together with train\.stages\.0\.schedule\.minimum = 0\.0001",
    ),
    "loss": ({"train": {"loss": "focall"}}, r"did you mean 'focal'"),
    "dropout": ({"model": {"head": {"dropout": 1}}}, r"model\.head: .*dropout must lie in"),
    "weights": ({"model": {"weights": "/no/such.h5"}}, r"model\.weights: .*/no/such\.h5 must exist"),
    "factor": (
        {"tune": {"factors": {"augment.shift": [0, 3]}}, "augment": {"shift": 0}},
        r"tune\.factors\.augment\.shift = 3: augment: .*shift must be",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_unusable_arguments_are_errors(name):
    values, message = ARGUMENTS[name]
    with pytest.raises(SettingsError, match=message):
        check_arguments(make(**values), "here")


@pytest.mark.parametrize("command", ["run", "tune"])
def test_a_plan_refuses_what_its_run_would_refuse(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    tune = "tune: {factors: {train.batch_size: [8, 16]}, repeats: 1}\npipeline: taguchi_resnet101_vote\n"
    Path("a.yaml").write_text("extends: demo\n" + (tune if command == "tune" else ""))
    schedule = "train.stages=[{name: a, epochs: 2, schedule: {name: triangular, minimum: 1e-1, step_size_epochs: 1}}]"
    for smoke in ("--plan", "--smoke"):
        with pytest.raises(SettingsError, match=r"train\.stages\.0: maximum of the cyclic rate must be"):
            command_line.invoke(command, "a.yaml", smoke, "--set", schedule)
    with pytest.raises(SettingsError, match=r"at least 2 members|must have the step Tuner"):
        command_line.invoke(command, "a.yaml", "--plan", "--set", "pipeline=weighted_ensemble")


def test_all_wrong_names_are_told_at_once():
    with pytest.raises(SettingsError) as error:
        check_names(make(model={"backbone": "x"}, evaluate={"metrics": ["y", "z"]}), "a.yaml")
    assert "a.yaml" in str(error.value)
    assert len(str(error.value).splitlines()) == 4


def test_a_factor_that_exchanges_the_backbone_leaves_blocks_to_the_trials():
    values = stage(trainable="block_12") | {"tune": {"factors": {"model.backbone": ["mobilenet", "vgg16"]}}}
    check_names(make(**values), "here")


def test_a_split_file_says_whether_there_is_validation(tmp_path):
    cells = render_cells(
        tmp_path / "cells", SyntheticSettings(subjects_per_class=4, images_per_subject=1, size=32)
    )
    for share in (0.0, 0.25):
        split = holdout_split(cells.examples, [], shares={"validation": share, "test": 0.25}, seed=0)
        write_split(split, tmp_path / f"{share}.json")
    check_names(make(**stage(patience=3), split={"file": str(tmp_path / "0.25.json")}), "here")
    with pytest.raises(SettingsError, match="no validation part"):
        check_names(make(**stage(patience=3), split={"file": str(tmp_path / "0.0.json")}), "here")


def test_the_command_finds_a_mistyped_name_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    config = CONFIGS[0].with_name("demo.yaml")
    script = (
        "import sys\nfrom kerasall.cli.app import main\n"
        f"try: main(['run', {str(config)!r}, '--set', 'model.backbone=mobilnet'])\n"
        "except SystemExit as end: assert end.code == 1\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert "did you mean 'mobilenet'" in done.stderr
    with pytest.raises(SettingsError, match="did you mean 'mobilenet'"):
        settle(config, overrides=["model.backbone=mobilnet"])


def test_a_run_stops_before_its_first_step(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    said: list[str] = []
    with pytest.raises(SettingsError, match=r"augment: 'flip'"):
        run_experiment(CONFIGS[0].with_name("demo.yaml"), overrides=["augment={flip: true}"], say=said.append)
    assert said == []
    assert not (tmp_path / "runs" / "artifacts").exists()


def test_a_metric_of_a_class_that_the_data_lack_stops_before_training(tmp_path):
    data = make(
        data={
            "source": "synthetic",
            "synthetic": {"subjects_per_class": 2, "images_per_subject": 1, "size": 32},
        }
    ).data
    examples = tmp_path / "examples"
    examples.mkdir()
    example_gen.function(data=data, examples=examples, attributes=tmp_path, cache_folder=tmp_path)
    with pytest.raises(SettingsError, match="recall:all"):
        example_validator.function(
            examples=examples, statistics=tmp_path, schema=tmp_path, checks=make().checks, folds=0,
            anomalies=tmp_path, metrics=["recall:al"],
        )  # fmt: skip


CHOOSING = {
    "deep_features": {
        "extractors": [{"name": "a", "backbone": "vgg16"}], "combinations": [["a"]], "classifiers": ["linear_svm", "mlp"],
    },
    "sweep": {
        "backbones": [{"name": "a", "backbone": "vgg16"}], "optimizers": [{"name": "adam"}, {"name": "rmsprop"}],
        "epochs": [2],
    },
    "tune": {"factors": {"train.batch_size": [8, 16]}, "response_on": "validation"},
}  # fmt: skip
CHOSEN = {
    "deep_features": {"features": ["a"], "classifier": "mlp"},
    "sweep": {"backbone": "a", "optimizer": "adam", "epochs": 2},
}


@pytest.mark.parametrize("name", CHOOSING)
def test_the_parts_of_a_split_file_decide_whether_a_choice_is_honest(name, tmp_path):
    ids = [f"{label}{number}" for label in "ab" for number in range(12)]
    rows = pd.DataFrame({"id": ids, "label": [i[0] for i in ids], "subject": ids, "fold": ""})
    drawn = {
        "folds": fold_split(rows, folds=3, seed=0),
        "parts": holdout_split(rows, shares={"validation": 0.25, "test": 0.25}, seed=0),
    }
    for kind, split in drawn.items():
        write_split(split, tmp_path / f"{kind}.json")

    def check(kind: str, **changes) -> None:
        # What the other settings of the split claim does not count: the file has its own parts.
        claimed = {"kind": "holdout" if kind == "folds" else "folds", "file": str(tmp_path / f"{kind}.json")}
        check_names(make(**{name: CHOOSING[name]}, split=claimed, **changes), "here")

    check("parts")
    with pytest.raises(SettingsError, match=rf"split\.file: {name} keeps the best .*only fold_"):
        check("folds")
    check("folds", protocol="faithful")
    if name in CHOSEN:
        named = make(
            **{name: CHOOSING[name] | {"chosen": CHOSEN[name]}}, split={"file": str(tmp_path / "folds.json")}
        )
        check_names(named, "here")


@pytest.mark.parametrize("name", ["image", "stacking", "member_probabilities"])
def test_a_member_called_as_a_part_of_the_ensemble_is_found_before_it_is_trained(name):
    settings = make(members=[{"name": name}, {"name": "other"}])
    with pytest.raises(SettingsError, match=f"members: no member may be called {name}"):
        check_arguments(settings, "here")


def test_an_extractor_called_as_a_part_of_the_model_is_found_before_it_is_trained():
    settings = make(
        deep_features={
            "extractors": [{"name": "features", "backbone": "mobilenet"}],
            "combinations": [["features"]],
        }
    )
    with pytest.raises(SettingsError, match=r"extractors\.0\.name: no extractor may be called features"):
        check_arguments(settings, "here")
