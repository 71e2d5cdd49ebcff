"""``kerasall review`` from a run's folder to the page, and from corrected labels to another run."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import command_line
import numpy as np
import pandas as pd
import pytest
import yaml
from page_tables import read_tables, texts

from kerasall.errors import ArtifactError
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.review import ReviewItem, ReviewRecord, ReviewSource, write_review_record
from kerasall.files import read_json, write_json
from kerasall.studies.review import describe_overlay

ROOT = Path(__file__).parents[2]
CLASSES = ("all", "hem")


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The folder of a finished run of one classifier that is sure of two wrong calls out of twenty."""
    labels = np.arange(20) % 2
    called = np.where(np.arange(20) < 2, 1 - labels, labels)
    ids = [f"{CLASSES[label]}/{number}.png" for number, label in enumerate(labels)]
    shares = np.where(np.arange(2) == called[:, None], 0.95, 0.05)
    images = pd.DataFrame(
        {
            "id": ids,
            "path": "/none",
            "label": [CLASSES[n] for n in labels],
            "subject": "s",
            "group": ids,
            "part": "test",
        }
    )
    source = ReviewSource("test", Predictions(ids, ids, ids, labels, shares, CLASSES))
    write_review_record(ReviewRecord(CLASSES, [source], images), tmp_path / "evaluation" / "review")
    steps = [
        {
            "step": "Transform",
            "outputs": {"frozen_split": {"type": "Split", "path": str(tmp_path / "split")}},
        },
        {
            "step": "Evaluator",
            "outputs": {"evaluation": {"type": "Evaluation", "path": str(tmp_path / "evaluation")}},
        },
    ]
    content = {
        "name": "mine",
        "state": "complete",
        "steps": steps,
        "settings": {"data": {"corrections": ["one.csv"]}},
    }
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    write_json(tmp_path / "split" / "split.json", {})
    write_json(tmp_path / "runs" / "mine" / "run.json", content)
    return tmp_path / "runs" / "mine"


invoke = partial(command_line.invoke, "review")


def test_page_and_table_lie_beside_the_run(run, tmp_path):
    result = invoke("mine")
    with (run / "review" / "review.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["label"], row["decision"]) for row in rows] == [
        ("all/0.png", "all", "hem"),
        ("hem/1.png", "hem", "all"),
    ]
    assert {row["corrected_label"] + row["reviewer"] + row["comment"] for row in rows} == {""}
    assert "2  images in the queue" in result.stdout
    assert (
        f"data.corrections=[one.csv, corrections.csv]' --set split.file={tmp_path / 'split'}" in result.stderr
    )
    page = (run / "review" / "review.html").read_text(encoding="utf-8")
    assert page.count("<article") == 2


def test_programs_get_json_and_a_folder_of_their_choice(run, tmp_path):
    result = invoke(run, "--out", tmp_path / "out", "--most", 1, "--json")
    found = json.loads(result.stdout)
    assert found["images"] == 2
    assert found["predicted"] == {"test": 20}
    assert found["reasons"]["confident_mistake"] == 2
    assert found["members_wrong"] == {"all": [9, 1], "hem": [9, 1]}
    assert len((tmp_path / "out" / "review.csv").read_text().splitlines()) == 2
    page = Path(found["page"]).read_text(encoding="utf-8")
    assert page.count("<article") == 1
    assert "1 images to look at, the most urgent of 2" in page
    assert "hem/1.png" in page  # among the names, which are of the whole queue


def test_runs_that_cannot_be_reviewed_are_refused(run, monkeypatch, tmp_path):
    monkeypatch.setenv("KERASALL_SAVEDMODELS", str(tmp_path / "savedmodels"))
    with pytest.raises(ArtifactError, match="the nearest are mine"):
        invoke("yours")
    content = read_json(run / "run.json")
    write_json(run / "run.json", content | {"state": "failed", "steps": content["steps"][:1]})
    with pytest.raises(ArtifactError, match=r"\(the run is failed\): run it again"):
        invoke("mine")


@pytest.mark.slow
def test_corrected_labels_train_another_model_on_the_same_parts_with_every_change_reported(tmp_path):
    """Run, review, correct one test and one training image and leave one out, run again with the frozen split."""
    from test_experiment import TINY

    data = TINY["data"] | {"synthetic": TINY["data"]["synthetic"] | {"images_per_subject": 4}}
    checks = {"near_duplicates": {"enabled": False}, "two_label_subjects": "warning"}
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY | {"data": data, "checks": checks}))
    call(tmp_path, "run", config)
    found = json.loads(call(tmp_path, "review", "tiny", "--json"))
    split = read_json(found["split"])
    part = {row[0]: row[-1] for row in split["examples"]}
    label = {row[0]: row[1] for row in split["examples"]}
    test, gone = [name for name in part if part[name] == "test"][:2]
    train = next(name for name in part if part[name] == "train")
    other = {"all": "hem", "hem": "all"}
    lines = [f"{test},{other[label[test]]},Ada", f"{train},{other[label[train]]},Ada", f"{gone},exclude,Bo"]
    (tmp_path / "corrections.csv").write_text("\n".join(["id,corrected_label,reviewer", *lines]))
    settings = ("--set", "data.corrections=corrections.csv", "--set", f"split.file={found['split']}")
    call(tmp_path, "run", config, "--name", "corrected", *settings)

    run = read_json(tmp_path / "runs" / "corrected" / "run.json")
    states = {step["step"]: step["state"] for step in run["steps"]}
    assert set(states.values()) == {"complete"}
    again = json.loads(call(tmp_path, "review", "corrected", "--json"))
    parts = {row[0]: row[-1] for row in read_json(again["split"])["examples"]}
    assert parts == {name: where for name, where in part.items() if name != gone}
    report = read_json(tmp_path / "runs" / "corrected" / "report.json")
    before = read_json(tmp_path / "runs" / "tiny" / "report.json")
    assert report["results"]["fingerprint"] != before["results"]["fingerprint"]
    assert report["results"]["images"] == before["results"]["images"] - 1
    page = (tmp_path / "runs" / "corrected" / "report.html").read_text(encoding="utf-8")
    assert "1 of the" in page
    assert "1 were left out" in page
    changes = texts(read_tables(page)["Every change"][1:])
    assert {row[0]: row[3] for row in changes} == {test: "test", train: "train", gone: "test"}
    assert "Every change" not in read_tables((tmp_path / "runs" / "tiny" / "report.html").read_text("utf-8"))


def call(folder: Path, *words: str | Path) -> str:
    places = {"KERASALL_RUNS": str(folder / "runs"), "KERASALL_SAVEDMODELS": str(folder / "savedmodels")}
    done = subprocess.run(
        [sys.executable, "-m", "kerasall", *map(str, words)],
        cwd=folder, env=os.environ | places | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        text=True, capture_output=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("kind", "known"), [("out-of-fold", True), ("", True), ("test", False), ("validation", False)]
)
def test_a_map_of_a_model_that_may_have_trained_on_the_image_says_so(kind, known):
    item = ReviewItem(1, "1.png", "1.png", "all", "s", "g", "train", kind)
    words = describe_overlay(item, "hem")
    assert words.startswith("Where the exported model sees hem")
    assert ("may have trained on this image" in words) == known
