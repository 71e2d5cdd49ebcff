"""The list of runs, and how far one is: from the files alone, in 100 columns."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import command_line
import pytest
from typer.testing import CliRunner

from kerasall import runtime
from kerasall.cli.app import app
from kerasall.errors import SettingsError
from kerasall.files import write_json
from kerasall.pipeline.runner import PROGRESS
from kerasall.runtime import note_progress, noting_progress, show_progress

LONG = "/data/laboratory/leukaemia/2026/very_long_folder_name/cells_of_the_second_ward"


def write_run(root: Path, name: str, started: int, score: float | None, **more) -> None:
    settings = {
        "data": {"source": "folder", "path": more.pop("path", f"/lab/{name}")},
        "evaluate": {"main_metric": "balanced_accuracy"}, "model": {"backbone": "mobilenet"}, **more.pop("settings", {}),
    }  # fmt: skip
    record = {"name": name, "experiment": "cells", "state": "complete", "error": None, "started": started}
    write_json(root / name / "run.json", record | {"settings": settings, "steps": []} | more)
    if score is not None:
        metrics = {"balanced_accuracy": {"value": score, "low": score - 0.07, "high": min(1, score + 0.04)}}
        results = {"labels": ["ALL", "normal"], "malignant": ["ALL"], "scored": "test", "metrics": metrics}
        write_json(root / name / "report.json", {"results": results | {"blessed": score > 0.9}})


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)
    now = int(time.time())
    write_run(tmp_path, "middle", now - 200, 0.922, path=LONG)
    write_run(
        tmp_path, "worst", now - 100, 0.55, settings={"members": [{"model": {"backbone": "vgg16"}}] * 2}
    )
    write_run(tmp_path, "best", now - 300, 1.0)
    write_run(tmp_path, "begun", now - 400, None, state="failed", error="no")
    return tmp_path


def call(*words: str) -> str:
    result = command_line.invoke(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("started", ["worst", "middle", "best", "begun"]),
        ("score", ["best", "middle", "worst", "begun"]),
        ("name", ["begun", "best", "middle", "worst"]),
        ("data", ["middle", "begun", "best", "worst"]),
    ],
)
def test_runs_are_sorted_and_told_in_lines_of_100_columns(root, order, names):
    head, *lines = call("runs", "--sort", order).splitlines()
    assert head.split() == ["name", "data", "classes", "backbone", "balanced_accuracy", "state", "started"]
    assert [line.split()[0] for line in lines] == names
    assert all(len(line) <= 100 for line in lines)
    told = {line.split()[0]: line for line in lines}
    assert ".922 (.852-.962)" in told["middle"]
    assert "…" in told["middle"]
    assert "second_ward" in told["middle"], "the end of a path says most"
    assert "not blessed" in told["worst"]
    assert "vgg16 " in told["worst"]
    assert "not blessed" not in told["best"]
    assert "blessed" in told["best"]
    assert "failed" in told["begun"]


def test_programs_get_the_old_keys_and_the_new(root):
    rows = {row["name"]: row for row in json.loads(call("runs", "--json"))}
    assert {"name", "experiment", "state", "started", "main_score"} <= set(rows["middle"])
    found = {
        key: rows["middle"][key] for key in ("data", "labels", "malignant", "backbone", "score", "blessed")
    }
    assert found == {
        "data": LONG, "labels": ["ALL", "normal"], "malignant": ["ALL"], "backbone": "mobilenet", "score": 0.922,
        "blessed": True,
    }  # fmt: skip
    assert (rows["begun"]["score"], rows["begun"]["blessed"]) == (None, None)


def test_another_order_is_refused_with_those_there_are(root):
    with pytest.raises(SettingsError, match="one of started, score, name, data, but by 'size'"):
        call("runs", "--sort", "size")


def write_live(root: Path, **more) -> None:
    at = {"step": "Trainer", "number": 6, "steps": 11, "since": time.time() - 5}
    write_run(
        root, "live", int(time.time()) - 60, None, state="running", at=at, process=4711, host="lab", **more
    )


def test_status_of_a_live_run_tells_step_epoch_and_time_left(root):
    write_live(root)
    folder = root / "live"
    with open(folder / ".lock", "w") as lock, noting_progress(folder / PROGRESS):
        fcntl.flock(lock, fcntl.LOCK_EX)
        quiet = call("status", "live")
        note_progress(doing="fold_0 learn", epoch=3, epochs=12, step=14, steps=80, seconds_left=3725.4)
        words = call("status", "live")
        found = json.loads(call("status", "live", "--json"))
    for text in (quiet, words):
        assert "live: running in step 6 of 11, Trainer, since " in text
        assert "process 4711 on lab" in text
    assert "Trainer            at work" in quiet
    assert "fold_0 learn, epoch 3 of 12, step 14 of 80, about 1:02:05 left of this" in words
    assert (found["progress"]["epoch"], found["at"]["step"], found["process"]) == (3, "Trainer", 4711)
    assert not (folder / PROGRESS).exists()


def test_status_of_a_run_that_was_killed_tells_where(root):
    write_live(root)
    write_json(root / "live" / PROGRESS, {"doing": "old"})
    words = call("status", "live")
    assert words.startswith("live: interrupted in step 6 of 11, Trainer\n")
    assert "old" not in words
    assert "4711" not in words


def test_any_step_with_a_bar_notes_how_far_it_is(tmp_path):
    file = tmp_path / PROGRESS
    with noting_progress(file):
        for number in show_progress(range(5), 5, "Reading images"):
            if number == 1:
                noted = json.loads(file.read_text())
        assert (noted["doing"], noted["done"], noted["total"]) == ("Reading images", 1, 5)
        assert noted["seconds_left"] >= 0
    assert os.listdir(tmp_path) == []
    assert list(show_progress(range(3), 3, "outside")) == [0, 1, 2]
    assert os.listdir(tmp_path) == []


def test_in_a_log_a_line_now_and_then_says_how_far_it_is(capsys, monkeypatch):
    assert list(show_progress(range(1500), 1500, "Reading images")) == list(range(1500))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(runtime, "TOLD_SECONDS", 0.0)
    list(show_progress(range(3), 3, "Reading images"))
    assert capsys.readouterr().err.splitlines() == [
        "Reading images: 1 of 3, 0:00:00 left", "Reading images: 2 of 3, 0:00:00 left",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["run.json", "report.json"])
@pytest.mark.parametrize(
    "content", [b"", b'{"results": {"metrics": [', b"\xff\xfe", b"[]", b'{"results": 3, "steps": 3}']
)
def test_a_broken_run_is_a_row_with_its_fault_and_hides_no_other(
    tmp_path, monkeypatch, capsys, name, content
):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path))
    for run in ("broken", "whole"):
        write_json(
            tmp_path / run / "run.json", {"experiment": run, "state": "complete", "started": 1.0, "steps": []}
        )
    (tmp_path / "broken" / name).write_bytes(content)
    result = CliRunner().invoke(app, ["runs", "--json"], catch_exceptions=False)
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert (rows["whole"]["state"], rows["whole"]["fault"]) == ("complete", "")
    assert rows["broken"]["state"] == "unreadable"
    assert str(tmp_path / "broken" / name) in rows["broken"]["fault"]
    assert "unreadable" in CliRunner().invoke(app, ["runs"], catch_exceptions=False).stdout
    assert CliRunner().invoke(app, ["status", "whole"], catch_exceptions=False).exit_code == 0
