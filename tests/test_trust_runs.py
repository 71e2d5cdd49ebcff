"""Whole runs: a learning curve, views inside the SavedModel, subjects called, on a few rendered cells."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from test_experiment import FOLDS, TINY
from typer.testing import CliRunner

from kerasall.cli.app import app
from kerasall.data.statistics import read_seen
from kerasall.files import read_json
from kerasall.serving.predictor import Predictor

pytestmark = pytest.mark.slow


@pytest.fixture
def house(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KERASALL_SAVEDMODELS", str(tmp_path / "models"))
    return tmp_path


def run(house, name, *words, **changes):
    config = house / f"{name}.yaml"
    config.write_text(yaml.safe_dump(TINY | changes))
    result = CliRunner().invoke(app, ["run", str(config), *words])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def results_of(house, name):
    return read_json(house / "runs" / name / "report.json")["results"]


def test_a_learning_curve_of_a_holdout_split(house):
    result = run(house, "tiny", "--learning-curve")
    found = read_json(house / "runs" / "tiny_learning_curve" / "learning_curve.json")["results"]
    groups = [point["training_groups"] for point in found["points"]]
    assert groups == sorted(groups)
    assert groups[-1] > groups[0]
    assert [point["run"] for point in found["points"]] == [
        "tiny_share12_5",
        "tiny_share25",
        "tiny_share50",
        "tiny",
    ]
    assert found["points"][-1]["metrics"]["accuracy"] == results_of(house, "tiny")["metrics"]["accuracy"]
    assert "report:" in result.stdout
    models = house / "models"
    assert not models.exists() or [p.name for p in models.iterdir() if p.is_dir()] in ([], ["tiny"])


def test_eight_views_from_training_to_the_saved_model(house):
    run(house, "turned", "--force", serve={"views": 8}, **FOLDS)
    found = results_of(house, "turned")
    assert found["scored"] == "out-of-fold"
    views = found["views"]
    assert views["views"] == 8
    assert views["images"] == found["images"]
    assert views["seconds_per_image"]["all_views"] > views["seconds_per_image"]["one_view"]
    # The recorded predictions, which the scores are made of, are those of the mean.
    assert found["metrics"]["accuracy"]["value"] == views["mean_of_views"]["accuracy"]["value"]
    predictor = Predictor(house / "models" / "turned")
    answer = predictor.signatures["serving_pixels"]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    first, second = (
        answer(pixels=shown)["probabilities"].numpy()
        for shown in (pixels, np.rot90(pixels, axes=(1, 2)).copy())
    )
    assert first == pytest.approx(second, abs=1e-5)
    # Subjects are called part by part, and the pushed model knows what it has seen.
    calls = found["subject_calls"]
    assert calls["cross_fitted"]
    assert len(calls["subjects"]) == 12
    assert set(read_seen(predictor.folder).values()) == {"fold_0", "fold_1"}
    assert (
        json.loads((predictor.folder / "card.json").read_text())["results"]["subject_calls"]["threshold"] > 0
    )
