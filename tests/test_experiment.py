"""Whole experiments on a few rendered cells: cached, resumed after SIGKILL, blessed or refused, served."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from kerasall.data.development import PATHS, read_rows

ROOT = Path(__file__).parents[1]

TINY = {
    "pipeline": str(ROOT / "pipelines" / "single_classifier.py"),
    "deterministic": True,
    "data": {
        "source": "synthetic",
        "synthetic": {"subjects_per_class": 6, "images_per_subject": 6, "size": 48, "seed": 5},
    },
    "checks": {"near_duplicates": {"enabled": False}},
    "split": {"validation": 0.2, "test": 0.3},
    "preprocess": [{"op": "resize", "height": 32, "width": 32}],
    "model": {"backbone": "mobilenet", "alpha": 0.25, "weights": "random", "head": {"dropout": 0.2}},
    "train": {
        "batch_size": 8,
        "stages": [{"name": "all", "trainable": "all", "train_batch_norm": True, "epochs": 4}],
    },
    "evaluate": {"resamples": 200, "gallery": 4},
}
FOLDS = {
    "split": {"kind": "folds", "folds": 2},
    "train": {"stages": [TINY["train"]["stages"][0] | {"epochs": 2}]},
}
STEPS = [
    "ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform", "Trainer", "Calibrator", "Exporter",
    "Evaluator", "ReportGen", "Pusher",
]  # fmt: skip


class House:
    """A working folder with its own runs and savedmodels, and the command line in a process of its own.

    ``source`` is where the package is imported from.
    """

    def __init__(self, folder: Path, source: Path = ROOT):
        self.folder, self.source = folder, source
        folder.mkdir(parents=True, exist_ok=True)

    def config(self, name: str, **changes) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(TINY | changes))
        return path

    def environment(self) -> dict[str, str]:
        places = {
            "KERASALL_RUNS": str(self.folder / "runs"),
            "KERASALL_SAVEDMODELS": str(self.folder / "savedmodels"),
        }
        return os.environ | places | {"PYTHONPATH": str(self.source), "CUDA_VISIBLE_DEVICES": ""}

    def start(self, *arguments: str | Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "kerasall", *map(str, arguments)]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def call(self, *arguments: str | Path, status: int = 0, apart: bool = False) -> tuple[str, str]:
        """What a command prints; in this process, which has loaded TensorFlow already, or in one ``apart``."""
        if apart or self.source != ROOT:
            process = self.start(*arguments)
            out, err = process.communicate(timeout=400)
            found = process.returncode
        else:
            out, err, found = self._call_here(*map(str, arguments))
        assert found == status, err
        assert "Traceback" not in err
        return out, err

    def _call_here(self, *arguments: str) -> tuple[str, str, Any]:
        from kerasall.cli.app import main

        out, err, code = io.StringIO(), io.StringIO(), None
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.folder)
            for name in ("KERASALL_RUNS", "KERASALL_SAVEDMODELS"):
                patch.setenv(name, self.environment()[name])
            try:
                main([*arguments])
            except SystemExit as end:
                code = end.code
        return out.getvalue(), err.getvalue(), code or 0

    def run(self, name: str) -> dict:
        return json.loads((self.folder / "runs" / name / "run.json").read_text())

    def states(self, name: str) -> dict[str, str]:
        return {step["step"]: step["state"] for step in self.run(name)["steps"]}

    def output(self, name: str, step: str, output: str) -> Path:
        (found,) = [s for s in self.run(name)["steps"] if s["step"] == step]
        return Path(found["outputs"][output]["path"])


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> House:
    """One finished run of the tiny experiment, pushed by force: four epochs need not be any good."""
    house = House(tmp_path_factory.mktemp("house"))
    house.call("run", house.config("tiny"), "--force", apart=True)
    return house


def weights_of(path: Path) -> list[np.ndarray]:
    from kerasall.models.saving import load_model

    return [np.asarray(variable) for variable in load_model(path / "model.keras").weights]


def test_a_run_leaves_report_numbers_predictions_and_a_model(house):
    assert list(house.states("tiny")) == STEPS
    folder = house.folder / "runs" / "tiny"
    results = json.loads((folder / "report.json").read_text())["results"]
    assert results["scored"] == "test"
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == results["images"] > 10
    right = sum(row["label"] == row["decision"] for row in rows)
    assert results["metrics"]["accuracy"]["value"] == pytest.approx(right / len(rows))
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "not a diagnostic device" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    model = house.folder / "savedmodels" / "tiny" / "1"
    card = json.loads((model / "card.json").read_text())
    assert card["forced"] is (not results["blessed"])
    assert {"labels.txt", "manifest.json", "report.html", "saved_model.pb"} <= {
        p.name for p in model.iterdir()
    }


def test_no_step_before_the_evaluator_is_given_a_test_image(house):
    test = house.output("tiny", "Transform", "test") / "examples.csv"
    hidden = {row["id"] for row in csv.DictReader(test.read_text().splitlines())}
    development = (house.output("tiny", "Transform", "development") / "examples.csv").read_text()
    split = (house.output("tiny", "Transform", "development") / "split.json").read_text()
    paths = (house.output("tiny", "Transform", "development") / PATHS).read_text()
    assert hidden
    for name in hidden:
        assert name not in development
        assert name not in split
        assert name not in paths
    inputs = {s["step"]: s for s in house.run("tiny")["steps"]}
    assert set(inputs) == set(STEPS)


def test_safeguards_come_from_validation_images_and_travel_with_the_model(house):
    development = house.output("tiny", "Transform", "development") / "examples.csv"
    rows = list(csv.DictReader(development.read_text().splitlines()))
    validation = {row["id"] for row in rows if row["part"] == "validation"}
    folder = house.output("tiny", "Calibrator", "safeguards")
    safeguards = json.loads((folder / "safeguards.json").read_text())
    assert safeguards["fitted_on"] == "validation"
    assert safeguards["calibration"]["images"] == len(validation)
    with np.load(folder / "distances.npz") as arrays:
        assert set(arrays["ids"]) == validation
    model = house.folder / "savedmodels" / "tiny" / "1"
    assert json.loads((model / "card.json").read_text())["safeguards"] == safeguards
    report = (house.folder / "runs" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert all(f'<section id="{name}"' in report for name in ("calibration", "thresholds", "refer"))
    trust = json.loads((house.folder / "runs" / "tiny" / "report.json").read_text())["results"]["trust"]
    assert trust["calibration"]["cross_fitted"] is False
    assert [point["wanted"] for point in trust["operating_points"]] == [0.95, 0.99]


def test_the_same_command_again_finds_everything_cached(house):
    _, err = house.call("run", house.config("tiny"), "--force")
    assert set(house.states("tiny").values()) == {"cached"}
    assert err.count("cached") == len(STEPS)
    assert [p.name for p in (house.folder / "savedmodels" / "tiny").iterdir()] == ["1"]


def test_a_changed_setting_reruns_only_what_follows(house):
    house.call("run", house.config("tiny"), "--force", "--name", "changed", "--set", "evaluate.resamples=300")
    states = house.states("changed")
    assert {name for name, state in states.items() if state != "cached"} == {
        "Evaluator",
        "ReportGen",
        "Pusher",
    }


def test_what_the_authors_state_makes_the_report_alone_again(house):
    arguments = ("run", house.config("tiny"), "--force", "--name", "stated")
    house.call(*arguments, "--set", "study.funding='<i>=1+1</i> of a fund'")
    assert {name for name, state in house.states("stated").items() if state != "cached"} == {
        "ReportGen",
        "Pusher",
    }
    page = (house.folder / "runs" / "stated" / "report.html").read_text(encoding="utf-8")
    assert "&lt;i&gt;=1+1&lt;/i&gt; of a fund" in page
    assert "Not stated: title, background" in page


def test_subgroups_are_scored_without_training_again(house):
    arguments = ("run", house.config("tiny"), "--force", "--name", "parts")
    house.call(*arguments, "--set", "evaluate.subgroups=[fold]")
    changed = {name for name, state in house.states("parts").items() if state != "cached"}
    assert changed == {"ExampleGen", "Evaluator", "ReportGen", "Pusher"}
    results = json.loads((house.folder / "runs" / "parts" / "report.json").read_text())["results"]
    ((row,),) = [part["rows"] for part in results["subgroups"]]
    assert (row["value"], row["images"]) == ("", results["images"])  # rendered cells have no published part
    assert row["metrics"]["accuracy"]["value"] == results["metrics"]["accuracy"]["value"]
    page = (house.folder / "runs" / "parts" / "report.html").read_text(encoding="utf-8")
    assert '<section id="subgroups"' in page
    _, err = house.call(*arguments, "--set", "evaluate.subgroups=[site]", status=1)
    assert "must name columns of a table of images, or fold, but site is asked" in err


def test_every_checklist_is_filled_in_with_the_runs_own_numbers(house):
    names = ("claim", "stard", "stard-ai", "tripod")
    out, _ = house.call(
        "report", "tiny", *(word for name in names for word in ("--checklist", name)), "--json"
    )
    folder = house.folder / "runs" / "tiny"
    results = json.loads((folder / "report.json").read_text())["results"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    anchors = set(re.findall(r'<section id="([^"]+)"', page))
    with (folder / "predictions.csv").open(newline="") as file:
        scored = {row["id"] for row in csv.DictReader(file)}
    for found in json.loads(out):
        told = {item["item"]: item for item in found["items"]}
        assert all(item["known"] or item["to_be_stated"] or item["does_not_apply"] for item in told.values())
        written = Path(found["page"]).read_text(encoding="utf-8")
        links = re.findall(r'href="report\.html#([^"]+)"', written)
        assert links
        assert set(links) <= anchors
    claim = {item["item"]: " ".join(item["known"]) for item in json.loads(out)[0]["items"]}
    assert f"Scored (test): {len(scored)} images" in claim["35"]
    assert (
        f"{results['malignant_called_benign']:,} of {results['malignant_images']:,} malignant" in claim["39"]
    )
    assert "Apart by patients" in claim["20"]
    assert "Near duplicates were not looked for" in claim["9"]
    assert "figures/patient-flow.svg" in {
        p.relative_to(house.output("tiny", "ReportGen", "report")).as_posix()
        for p in house.output("tiny", "ReportGen", "report").rglob("*.svg")
    }


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.slow
def test_better_words_open_no_test_part_and_push_nothing_and_other_arithmetic_trains_again(tmp_path):
    """Comments and docstrings change nothing; a sentence of the report changes the report; numbers change what follows."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "kerasall", source / "kerasall", ignore=shutil.ignore_patterns("__pycache__"))
    house = House(tmp_path / "house", source)
    config = house.config("tiny")
    command = ("run", config, "--force", "--set", "train.stages.0.epochs=1")
    house.call(*command)
    pushed = house.folder / "savedmodels" / "tiny" / "1" / "report.html"
    before, package = pushed.read_bytes(), source / "kerasall"
    for room in ("data/splits.py", "training/fit.py", "evaluation/metrics.py", "components/evaluator.py"):
        _edit(package / room, '"""', '"""Better said: ')
        _edit(package / room, "\n\n\n", "\n\n# A reason why.\n\n\n\n")
    _edit(
        package / "report" / "templates" / "sections" / "summary.html",
        "Research use only",
        "For research alone",
    )
    house.call(*command)
    assert [name for name, state in house.states("tiny").items() if state != "cached"] == ["ReportGen"]
    assert "For research alone" in (house.folder / "runs" / "tiny" / "report.html").read_text(
        encoding="utf-8"
    )
    assert [folder.name for folder in pushed.parents[1].iterdir()] == ["1"]
    assert pushed.read_bytes() == before
    _edit(package / "training" / "fit.py", "{done + 1}", "{done + 2 - 1}")
    house.call(*command)
    states = house.states("tiny")
    assert [states[name] for name in STEPS[:6]] == ["cached"] * 5 + ["complete"]


def test_validation_images_that_decided_epochs_are_never_called_honest(house):
    house.call(
        "run",
        house.config("tiny"),
        "--name",
        "no_test",
        "--set",
        "split.test=0.0",
        "--set",
        "split.validation=0.4",
    )
    results = json.loads((house.folder / "runs" / "no_test" / "report.json").read_text())["results"]
    assert results["scored"] == "validation"
    (honest,) = [c["met"] for c in results["criteria"] if c["criterion"] == "honest_protocol"]
    assert honest is False
    (searched,) = [c["met"] for c in results["criteria"] if c["criterion"] == "near_duplicates_kept_together"]
    assert searched is False


def test_a_model_without_a_blessing_is_not_pushed(house):
    out, _ = house.call(
        "run", house.config("tiny"), "--name", "strict", "--set", "bless.malignant_sensitivity=1.0"
    )
    assert "not blessed" in out
    assert "not pushed" in out
    assert house.run("strict")["state"] == "complete"
    assert "1.0" not in [p.name for p in (house.folder / "savedmodels" / "tiny").iterdir()]
    blessing = json.loads((house.output("strict", "Evaluator", "blessing") / "blessing.json").read_text())
    assert blessing["blessed"] is False
    assert [each["criterion"] for each in blessing["criteria"] if not each["met"]]


def test_runs_and_status_tell_where_things_lie(house):
    out, _ = house.call("runs")
    assert "tiny" in out
    out, _ = house.call("status", "tiny", "--json")
    status = json.loads(out)
    assert [step["step"] for step in status["steps"]] == STEPS
    assert Path(status["results"]["report"]).is_file()
    _, err = house.call("status", "tini", status=1)
    assert "'tini' must be a run in" in err
    assert "the nearest are tiny" in err


def test_predict_names_bad_files_and_goes_on(house, tmp_path):
    sources = list(read_rows(house.output("tiny", "Transform", "development"))["path"])[:3]
    for path in sources:
        shutil.copy(path, tmp_path)
    first = tmp_path / Path(sources[0]).name
    (tmp_path / "truncated.bmp").write_bytes(first.read_bytes()[:2000])
    photo = cv2.imencode(".jpg", cv2.imread(sources[0]))[1].tobytes()
    (tmp_path / "closed_again.jpg").write_bytes(photo[: len(photo) // 2] + b"\xff\xd9")
    (tmp_path / "empty.png").touch()
    (tmp_path / "enormous.bmp").write_bytes(_bmp_header(20_000, 20_000))
    out = tmp_path / "out.csv"
    _, err = house.call(
        "predict", house.folder / "savedmodels" / "tiny", str(tmp_path), "--out", out, status=1
    )
    rows = {Path(row["path"]).name: row for row in csv.DictReader(out.read_text().splitlines())}
    assert {name for name, row in rows.items() if row["error"]} == {
        "truncated.bmp",
        "closed_again.jpg",
        "empty.png",
        "enormous.bmp",
    }
    assert sum(bool(row["label"]) for row in rows.values()) == 3
    assert sum(row["refer"] in ("true", "false") for row in rows.values()) == 3
    assert "7 files, 4 failed" in err


def _bmp_header(width: int, height: int) -> bytes:
    import struct

    header = struct.pack("<2sIHHI", b"BM", 54 + 2000, 0, 0, 54)
    return header + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(2000)


def test_mistakes_get_one_line_and_exit_status_one(house, tmp_path):
    for arguments, message in (
        (["run", tmp_path / "no.yaml"], "must exist"),
        (["run", house.config("tiny"), "--set", "trian.x=1"], "did you mean train"),
        (["run", house.config("tiny"), "--weights", tmp_path / "none"], "weights folder"),
        (["predict", tmp_path, "x.png"], "matches nothing"),
        (["check", tmp_path / "none"], "must exist, but does not"),
    ):
        _, err = house.call(*arguments, status=1)
        assert message in err
        assert err.startswith("kerasall: error: ")


def test_check_answers_in_json_whatever_it_finds(house, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").touch()
    for path in (tmp_path / "empty", tmp_path / "empty.csv", tmp_path / "none"):
        out, _ = house.call("check", path, "--json", status=1)
        found = json.loads(out)
        assert found["images"] == 0
        assert found["errors"][0]["message"]


def test_a_pipeline_script_takes_the_commands_arguments(house):
    script = ROOT / "pipelines" / "single_classifier.py"
    command = [sys.executable, str(script), "nothing.yaml"]
    done = subprocess.run(
        command, cwd=house.folder, env=house.environment(), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1
    assert "the config nothing.yaml must exist" in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_in_the_data_stop_the_run_and_name_the_file(tmp_path):
    house = House(tmp_path)
    rng = np.random.default_rng(0)
    for label in ("all", "hem"):
        (tmp_path / "cells" / label).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 255, (40, 40, 3), np.uint8)
            import cv2

            cv2.imwrite(str(tmp_path / "cells" / label / f"{number}.png"), pixels)
    (tmp_path / "cells" / "all" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    data = {"source": "folder", "path": str(tmp_path / "cells"), "malignant": "all", "subject": "none"}
    config = house.config("broken", data=data, checks={"fewest_images": 2})
    _, err = house.call("run", config, status=1)
    assert "broken.png" in err
    assert house.run("broken")["state"] == "failed"
    out, _ = house.call("check", tmp_path / "cells", "--json", status=1)
    assert any("broken.png" in error["message"] for error in json.loads(out)["errors"])


def test_cross_validation_scores_every_image_once_by_a_model_that_did_not_see_it(tmp_path):
    house = House(tmp_path)
    house.call("run", house.config("folds", **_with_train(FOLDS)))
    results = json.loads((tmp_path / "runs" / "folds" / "report.json").read_text())["results"]
    assert results["scored"] == "out-of-fold"
    assert results["images"] == sum(fold["images"] for fold in results["folds"])
    assert len(results["folds"]) == 2
    training = json.loads((house.output("folds", "Trainer", "record") / "training.json").read_text())
    assert set(training["fits"]) == {"fold_0", "fold_1", "final"}


def _with_train(changes: dict) -> dict:
    return changes | {"train": TINY["train"] | changes["train"]}


@pytest.mark.parametrize(
    "moment", ["Trainer", *(pytest.param(name, marks=pytest.mark.slow) for name in ("Exporter", "Transform"))]
)
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(house, tmp_path, moment):
    """SIGKILL while a step works, then the same command: bit-equal weights and equal metrics."""
    other = House(tmp_path)
    process = other.start("run", other.config("tiny"), "--force")
    partial = tmp_path / "runs" / "artifacts" / moment
    wanted = "**/start.npz" if moment == "Trainer" else "*.partial"
    _wait_for(lambda: list(partial.glob(wanted)), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "runs" / "tiny" / "report.html").exists()
    other.call("run", other.config("tiny"), "--force", apart=True)
    mine, theirs = (weights_of(h.output("tiny", "Trainer", "trained")) for h in (other, house))
    for one, two in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one, two)
    reports = [json.loads((h.folder / "runs" / "tiny" / "report.json").read_text()) for h in (other, house)]
    assert reports[0]["results"]["metrics"] == reports[1]["results"]["metrics"]


def _wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
