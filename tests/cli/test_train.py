"""``kerasall train``: one command from images to a report; called again it goes on; the config goes on too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab_images import evenly, write_table
from typer.testing import CliRunner

from kerasall.cli.app import app
from kerasall.errors import SettingsError

SMALL = (
    "--set", "model={backbone: mobilenet, alpha: 0.25, weights: random}",
    "--set", "preprocess=[{op: resize, height: 32, width: 32}]",
    "--set", "train.stages=[{name: head, epochs: 2}]",
    "--set", "split.folds=2",
    "--set", "evaluate={resamples: 100, gallery: 2}",
    "--set", "checks.near_duplicates.enabled=false",
)  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    write_table(tmp_path, {"ALL": evenly(5, 4), "normal": evenly(5, 4, 5)}, side=32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KERASALL_SAVEDMODELS", str(tmp_path / "savedmodels"))
    return tmp_path


def call(*arguments: str) -> str:
    """What both streams show; errors are raised."""
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False).output


def states() -> set[str]:
    return {step["state"] for step in json.loads(Path("runs/cells/run.json").read_text())["steps"]}


def test_one_command_trains_and_the_same_again_and_its_config_go_on(here):
    shown = call("train", "cells.csv", "--malignant", "ALL", *SMALL)
    for word in (
        "10 patients",
        "split into 2 folds, by patient",
        "score:",
        "missed:",
        "verdict:",
        "report:",
    ):
        assert word in shown
    assert "kerasall explain cells IMAGES" in shown
    assert "kerasall predict cells IMAGES" not in shown  # which has no model to answer with
    assert " --force  # push it all the same" in shown
    report = json.loads(Path("runs/cells/report.json").read_text(encoding="utf-8"))
    assert report["results"]["metrics"]["accuracy"]["groups"] == 10
    assert states() == {"complete"}
    assert "as it lies there" in call("train", "cells.csv", "--malignant", "all", *SMALL)
    assert states() == {"cached"}
    call("run", "cells.yaml")
    assert states() == {"cached"}


def test_nothing_is_left_of_what_is_refused_at_the_door(here):
    with pytest.raises(
        SettingsError, match=r"(?s)2 things are missing.*--malignant ALL.*no/such\.h5 must exist"
    ):
        call("train", "cells.csv", "--set", "model.weights=/no/such.h5")
    assert [path.name for path in here.iterdir() if path.suffix != ".png"] == ["cells.csv"]
