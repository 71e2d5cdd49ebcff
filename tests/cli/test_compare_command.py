"""``kerasall compare`` from a runs folder to the page."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import command_line
import numpy as np
import pytest

from kerasall.errors import ArtifactError, DataError, SettingsError
from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.files import write_json
from kerasall.studies.comparison import compare, default_folder, read_systems


def predict(wrong: int) -> Predictions:
    """200 images of 20 patients; of every ten images ``wrong`` are mistaken, one more or less by turns if several."""
    rows = np.arange(200)
    labels = (rows // 10) % 2
    turns = np.array([-1, -1, 1, 1])[rows // 10 % 4] * (wrong > 1)
    called = np.where(rows % 10 < wrong + turns, 1 - labels, labels)
    sure = 0.6 + 0.03 * (rows % 10) + 0.001 * (rows // 10)
    probabilities = np.where(np.arange(2) == called[:, None], sure[:, None], 1 - sure[:, None])
    subjects = np.char.add("S", (rows // 10).astype(str))
    return Predictions(
        np.char.add("i", rows.astype(str)), subjects, subjects, labels, probabilities, ("all", "hem")
    )


def write_run(root, name, wrong, split="s1", scored="test"):
    folder = root / name
    write_predictions(predict(wrong), folder / "predictions.csv")
    results = {"scored": scored, "malignant": ["all"], "fingerprint": "f" * 64}
    write_json(folder / "report.json", {"results": results})
    step = {"step": "Transform", "outputs": {"frozen_split": {"path": "x", "type": "Split", "digest": split}}}
    settings = {"evaluate": {"main_metric": "accuracy"}}
    write_json(folder / "run.json", {"state": "complete", "settings": settings, "steps": [step]})
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    write_run(folder, "good", 1)
    write_run(folder, "bad", 4)
    monkeypatch.setenv("KERASALL_RUNS", str(folder))
    return folder


invoke = partial(command_line.invoke, "compare")


def test_table_on_standard_output_and_page_in_the_runs_folder(root):
    result = invoke("good", "bad")
    assert result.exit_code == 0
    assert "good is better than bad by accuracy: difference +30.0 points" in result.stdout
    assert "10 of 100" in result.stdout
    assert "40 of 100" in result.stdout
    folder = root / "comparisons" / "good_vs_bad"
    assert str(folder / "report.html") in result.stderr
    document = json.loads((folder / "report.json").read_text())
    assert document["results"]["pairs"][0]["images"]["only_first_right"] == 60
    assert "kerasall compare good bad" in (folder / "report.html").read_text()


def test_json_alone_on_standard_output(root, tmp_path):
    result = invoke("good", "bad", "--json", "--out", tmp_path / "out", "--metric", "f1_macro")
    document = json.loads(result.stdout)
    assert document["main_metric"] == "f1_macro"
    assert [s["malignant_called_benign"] for s in document["systems"]] == [10, 40]
    assert document == json.loads((tmp_path / "out" / "report.json").read_text())["results"]
    assert not (root / "comparisons").exists()


def test_runs_folders_and_files_of_predictions_mix(root, tmp_path):
    write_predictions(predict(2), tmp_path / "other.npz")
    systems = read_systems(["good", str(root / "bad"), str(tmp_path / "other.npz")])
    assert [s.name for s in systems] == ["good", "bad", "other"]
    assert [s.scored for s in systems] == ["test", "test", ""]
    assert [s.malignant for s in systems] == [("all",), ("all",), None]
    np.testing.assert_array_equal(systems[2].predictions.decisions, predict(2).decisions)
    result = invoke("good", tmp_path / "other.npz")
    assert "No report stands beside the predictions of other" in result.stdout


def test_malignant_classes_can_be_named_where_no_report_does(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    for wrong in (1, 3):
        write_predictions(predict(wrong), tmp_path / f"p{wrong}.csv")
    files = [tmp_path / "p1.csv", tmp_path / "p3.csv"]
    assert "called benign" not in invoke(*files).stdout
    assert "30 of 100" in invoke(*files, "--malignant", "all").stdout


def test_runs_of_one_name_are_told_apart(root, tmp_path):
    elsewhere = write_run(tmp_path / "older", "good", 3)
    names = [s.name for s in read_systems(["good", str(elsewhere)])]
    assert names == ["runs/good", "older/good"]
    assert default_folder(names).name == "runs-good_vs_older-good"
    assert default_folder(list("abcde")).name == "a_vs_b_vs_c_vs_2_more"


def test_other_splits_are_warned_of(root):
    write_run(root, "resplit", 2, split="s2")
    assert "warning: The splits differ (good s1, resplit s2)" in invoke("good", "resplit").stdout


def test_what_is_no_run_names_those_there_are(root):
    with pytest.raises(ArtifactError, match=r"'gud' must be a run .* the nearest are good, bad"):
        invoke("gud", "bad")


def test_a_run_without_predictions_says_how_far_it_is(root):
    write_json(root / "begun" / "run.json", {"state": "failed", "steps": []})
    with pytest.raises(ArtifactError, match="the run is failed"):
        invoke("begun", "bad")


def test_one_run_twice_is_refused(root):
    with pytest.raises(DataError, match="given twice"):
        invoke("good", root / "good" / "predictions.csv")
    with pytest.raises(DataError, match="at least two"):
        invoke("good")


def test_other_labels_are_refused_and_nothing_is_written(root):
    record = read_predictions(root / "bad" / "predictions.csv")
    write_predictions(replace(record, labels=1 - record.labels), root / "bad" / "predictions.csv")
    with pytest.raises(DataError, match="differ on 200 of 200"):
        invoke("good", "bad")
    assert not (root / "comparisons").exists()


def test_comparing_loads_no_tensorflow(root):
    script = (
        "import sys\nfrom kerasall.cli.compare import compare\n"
        "assert not {'numpy', 'matplotlib'} & set(sys.modules), 'help must answer at once'\n"
        "compare(['good', 'bad'])\nassert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, capture_output=True)


def test_members_are_those_of_an_ensemble(root):
    with pytest.raises(DataError, match="the run good must be of an ensemble to have members"):
        invoke("good", "--members")
    with pytest.raises(SettingsError, match="members must be those of runs"):
        compare(predict(1), "good", members=True)
