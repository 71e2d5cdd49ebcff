"""A run is found by its name, its folder or its model, in every command the same way."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from kerasall.cli.app import app
from kerasall.components.exporter import find_explanations
from kerasall.errors import ArtifactError
from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.evaluation.review import ReviewRecord, ReviewSource, write_review_record
from kerasall.files import read_json, write_json, write_text
from kerasall.preprocessing.operations import Chain
from kerasall.serving.card import write_manifest
from kerasall.serving.export import export_saved_model
from kerasall.studies.finished_run import Run
from kerasall.studies.run_list import list_runs
from kerasall.taguchi.oracle import TaguchiOracle

LABELS = ("all", "hem")
STEPS = [{"op": "resize", "height": 16, "width": 16}]
WORDS = {
    "main_score": "accuracy 0.9500 (95% interval 0.9000 to 0.9900, by resampling 4 groups), test, 1,234 images",
    "malignant_called_benign": "3 of 1,000 malignant images called benign",
    "verdict": "not blessed: one; two",
}
"""What an Evaluator of version 0.1.0 noted down."""
FORMS = [
    "tiny", "runs/tiny", "{house}/runs/tiny", "savedmodels/tiny", "savedmodels/tiny/1", "{house}/savedmodels/tiny",
    "model",
]  # fmt: skip
"""Every way to mean a run; ``model`` is the name of a model whose run is called otherwise."""
MORE_FORMS = ["./runs/../runs/tiny/", "{house}/savedmodels/tiny/1", "savedmodels/model"]
COMMANDS = {
    "status": ["--json"],
    "review": ["--no-overlays", "--out", "{out}"],
    "trials": ["--out", "{out}"],
    "compare": ["{house}/other.csv", "--out", "{out}"],
    "evaluate": ["--data", "{house}/images", "--out", "{out}"],
    "explain": ["{house}/images/all/0.png", "--out", "{out}"],
    "predict": ["{house}/images", "--out", "{out}/predictions.csv"],
    "export": ["--to", "litert", "--images", "{house}/images", "--out", "{out}/model"],
    "serve": [],
}


def small_network() -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), name="image")
    hidden = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(image))
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model(image, keras.layers.Dense(2, activation="softmax")(hidden))


def write_artifacts(folder: Path) -> list[dict]:
    """What a run leaves, as steps of its run.json: network, SavedModel, split, evaluation, trials."""
    network = small_network()
    (folder / "trained").mkdir(parents=True)
    network.save(folder / "trained" / "model.keras")
    explain, _ = find_explanations(network)
    export_saved_model(
        network, Chain.from_json(STEPS), LABELS, folder / "exported" / "model", explain=explain
    )
    labels = np.arange(40) % 2
    ids = [f"{LABELS[label]}/{number}.png" for number, label in enumerate(labels)]
    shares = np.where(np.arange(2) == labels[:, None], 0.8, 0.2)
    images = pd.DataFrame({"id": ids, "path": "/none", "label": np.array(LABELS)[labels], "subject": "s"})
    source = ReviewSource("test", Predictions(ids, ids, ids, labels, shares, LABELS))
    record = ReviewRecord(LABELS, [source], images.assign(group=ids, part="test"))
    write_review_record(record, folder / "evaluation" / "review")
    write_predictions(source.predictions, folder / "evaluation" / "predictions.npz")
    results = {"malignant": ["all"], "labels": LABELS, "scored": "test"}
    write_json(folder / "evaluation" / "card.json", {"preprocess": STEPS, "results": results})
    write_json(folder / "split" / "split.json", {})
    oracle = TaguchiOracle("accuracy", {"rate": [1, 2]}, repeats=1)
    oracle.verbose = 0
    oracle._set_project_dir(str(folder / "search"), "project")
    oracle.create_trial("tuner0")
    kinds = {
        "split": "Split", "search": "Search", "trained": "Model", "exported": "SavedModel", "evaluation": "Evaluation",
    }  # fmt: skip
    plain = {"state": "complete", "seconds": 1.0, "metrics": {}}
    steps = [
        plain | {"step": kind, "outputs": {name: {"path": str(folder / name), "type": kind, "digest": name}}}
        for name, kind in kinds.items()
    ]
    return [*steps, plain | {"step": "Evaluator", "metrics": WORDS, "outputs": {}}]


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A working folder with the run ``tiny`` of the model ``tiny``, and the run ``first`` of the model ``model``."""
    house = tmp_path_factory.mktemp("house")
    steps = write_artifacts(house / "artifacts")
    evaluation = house / "artifacts" / "evaluation"
    for run, model in (("tiny", "tiny"), ("first", "model")):
        pushed, folder = house / "savedmodels" / model / "1", house / "runs" / run
        shutil.copytree(house / "artifacts" / "exported" / "model", pushed)
        shutil.copy(evaluation / "card.json", pushed)
        write_manifest(pushed)
        push = {"step": "Pusher", "state": "complete", "seconds": 1.0, "outputs": {}}
        record = {
            "name": run,
            "experiment": model,
            "state": "complete",
            "error": None,
            "command": "kerasall run",
        }
        settings = {"data": {}, "evaluate": {"main_metric": "accuracy"}}
        record |= {"settings": settings, "steps": [*steps, push | {"metrics": {"path": str(pushed)}}]}
        write_json(folder / "run.json", record)
        write_json(folder / "report.json", {"results": read_json(evaluation / "card.json")["results"]})
        write_predictions(read_predictions(evaluation / "predictions.npz"), folder / "predictions.csv")
    write_predictions(read_predictions(evaluation / "predictions.npz"), house / "other.csv")
    random = np.random.default_rng(0)
    for number in range(12):
        path = house / "images" / LABELS[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    return house


@pytest.fixture
def inside(house, monkeypatch) -> Path:
    """The same with its places set, as the working directory."""
    monkeypatch.setenv("KERASALL_RUNS", str(house / "runs"))
    monkeypatch.setenv("KERASALL_SAVEDMODELS", str(house / "savedmodels"))
    monkeypatch.chdir(house)
    return house


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_run_or_its_model_in_every_form(inside, tmp_path, monkeypatch, command):
    monkeypatch.setattr("kerasall.report.external_scores.RESAMPLES", 100)
    monkeypatch.setattr("kerasall.report.pages.external.RESAMPLED_CURVES", 100)
    served = []
    monkeypatch.setattr("kerasall.serving.web.server.serve", lambda folder, *_, **__: served.append(folder))
    for number, form in enumerate(FORMS):
        words = [w.format(house=inside, out=tmp_path / str(number)) for w in (form, *COMMANDS[command])]
        result = CliRunner().invoke(app, [command, *words])
        assert result.exit_code == 0, (form, result.output, result.exception)
    if command == "serve":
        assert {folder.parent.name for folder in served} == {"tiny", "model"}
    with pytest.raises(ArtifactError, match=r"'tinny' must be a run in .* the nearest are tiny"):
        CliRunner().invoke(app, [command, "tinny", *words[1:]], catch_exceptions=False)


@pytest.mark.parametrize("form", [*FORMS, *MORE_FORMS])
def test_a_run_gives_the_same_in_every_form(inside, form):
    run = Run.find(form.format(house=inside))
    name = "first" if "model" in Path(form).parts else "tiny"
    assert (run.name, run.folder, run.state) == (name, inside / "runs" / name, "complete")
    assert run.pushed.parent.parent == inside / "savedmodels"
    assert run.title == (name if not run.is_model else f"{run.pushed.parent.name}_1")
    assert run.results["score"] == WORDS["main_score"]
    assert run.results["SavedModel"] == str(run.pushed)
    assert run.predictions_file == run.folder / "predictions.csv"


def test_predictions_networks_and_predictors_are_loaded_when_asked_for(inside):
    run = Run.find("tiny")
    assert len(run.predictions()) == 40
    assert run.model().output_shape == (None, 2)
    assert run.predictor().labels == LABELS
    assert run.output("Split", "split.json") == inside / "artifacts" / "split" / "split.json"


def test_a_folder_of_that_name_without_a_model_hides_none(inside):
    (inside / "model").mkdir(exist_ok=True)
    assert Run.find("model").named == inside / "savedmodels" / "model" / "1"


def test_what_a_run_lacks_is_said_with_how_far_it_is(inside, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path))
    write_json(tmp_path / "begun" / "run.json", {"state": "failed", "steps": []})
    run = Run.find("begun")
    for ask in (
        lambda: run.exported,
        lambda: run.predictions_file,
        lambda: run.output("Split", "split.json"),
    ):
        with pytest.raises(ArtifactError, match=r"\(the run is failed\): run it again with `kerasall run`"):
            ask()
    with pytest.raises(ArtifactError, match="the run begun must have pushed a model, but has not"):
        print(run.pushed)
    with pytest.raises(ArtifactError, match=r"a model that a run in .* pushed, but none says so"):
        print(Run.find("savedmodels/tiny").folder)
    pusher = {"step": "Pusher", "metrics": {"path": None}, "outputs": {}, "state": "complete"}
    record = {"state": "complete", "steps": [pusher], "command": "kerasall train cells --malignant ALL"}
    write_json(tmp_path / "begun" / "run.json", record)
    with pytest.raises(
        ArtifactError, match=r"not blessed.*report\.html.*kerasall train cells --malignant ALL --force"
    ):
        print(Run.find("begun").pushed)
    write_json(tmp_path / "begun" / "run.json", {"state": "running", "steps": []})
    assert Run.find("begun").state == "interrupted"


def test_without_any_run_the_error_says_what_makes_one(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KERASALL_SAVEDMODELS", str(tmp_path / "models"))
    with pytest.raises(ArtifactError, match="there are none yet: `kerasall run` makes them"):
        Run.find("tiny")
    assert list_runs() == []


def test_the_words_of_version_0_1_0_are_read_where_it_put_them(inside, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path))
    words = dict(zip(("score", "missed", "verdict"), WORDS.values(), strict=True))
    write_json(tmp_path / "old" / "report.json", {"facts": [{"label": "Model", "value": "a network"}]})
    for name, step in (("old", {"step": "Evaluator", "metrics": WORDS}), ("new", {"step": "ReportGen"})):
        step = {"metrics": WORDS | {"model": "a network"}} | step
        write_json(tmp_path / name / "run.json", {"steps": [step]})
        assert (Run.find(name).results, Run.find(name).exported_words) == (words, "a network")
    write_json(tmp_path / "begun" / "run.json", {"steps": []})
    assert (Run.find("begun").results, Run.find("begun").exported_words) == ({}, "")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_report_with_a_number_that_is_none_is_refused(tmp_path, number):
    write_text(
        tmp_path / "report.json", f'{{"results": {{"metrics": {{"accuracy": {{"value": {number}}}}}}}}}'
    )
    with pytest.raises(ArtifactError, match=r"report\.json must be the report of a run, but .*NaN"):
        _ = Run(tmp_path).numbers
