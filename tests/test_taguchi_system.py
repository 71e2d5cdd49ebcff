"""The Taguchi search as a whole system: killed and resumed, shared by workers, faithful, shipped."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pandas.testing import assert_frame_equal

from kerasall.cli.app import main
from kerasall.cli.tune import print_runs
from kerasall.components.example_gen import example_gen
from kerasall.errors import SettingsError
from kerasall.files import read_json
from kerasall.pipeline.component import Pipeline
from kerasall.serving.predictor import Predictor
from kerasall.settings.loading import load_settings
from kerasall.studies.experiment import Places, load_pipeline
from kerasall.taguchi.stored_oracle import StoredOracle

ROOT = Path(__file__).parents[1]
TINY = {
    "pipeline": str(ROOT / "pipelines" / "taguchi_resnet101_vote.py"),
    "deterministic": True,
    "data": {
        "source": "synthetic",
        "synthetic": {
            "kind": "cnmc",
            "subjects_per_class": 6,
            "images_per_subject": 8,
            "size": 48,
            "seed": 5,
        },
    },
    "checks": {"near_duplicates": {"enabled": False}},
    "split": {"validation": 0.3, "test": 0.3},
    "preprocess": [{"op": "resize", "height": 32, "width": 32}],
    "model": {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"},
    "train": {
        "stages": [
            {"name": "learn", "trainable": "all", "train_batch_norm": True, "epochs": 2, "keep": "last"}
        ]
    },
    "tune": {
        "factors": {
            "train.stages.0.optimizer.name": ["adam", "sgdm"],
            "train.batch_size": [8, 16],
            "train.stages.0.epochs": [2, 3],
        },
        "repeats": 1,
        "response": "log_loss",
        "signal": "smaller",
        "confirmations": 3,
    },
    "evaluate": {"resamples": 200, "gallery": 2},
}


class Workshop:
    """A folder with a tiny config whose runs are processes of their own."""

    def __init__(self, folder: Path, config: Path | None = None) -> None:
        self.folder = folder
        self.config = config or folder / "tiny.yaml"
        if config is None:
            self.config.write_text(yaml.safe_dump(TINY))

    @property
    def run_folder(self) -> Path:
        return self.folder / "runs" / self.config.stem

    def start(self, *options: str, **variables: str) -> subprocess.Popen[str]:
        environment = (
            os.environ
            | variables
            | {
                "PYTHONPATH": str(ROOT),
                "KERASALL_RUNS": str(self.folder / "runs"),
                "KERASALL_SAVEDMODELS": str(self.folder / "savedmodels"),
            }
        )
        command = [sys.executable, "-u", "-m", "kerasall", "tune", str(self.config), *options]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *options: str) -> str:
        output, _ = (process := self.start(*options)).communicate(timeout=1500)
        assert process.returncode == 0, output[-3000:]
        return output

    def kill_at(self, pattern: str) -> str:
        """Starts a run, kills it without warning when a line matches, and returns what it had said."""
        process, said = self.start(), []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if re.search(pattern, line):
                process.send_signal(signal.SIGKILL)
                break
        else:
            raise AssertionError(f"no line like {pattern!r} in\n{''.join(said)[-3000:]}")
        process.communicate()
        return "".join(said)

    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.run_folder / "trials.csv", dtype={"trial": str}).drop(columns="seconds")

    def analysis(self) -> dict:
        found = read_json(self.run_folder / "analysis.json")
        found["experiment"].pop("seconds")
        return found

    def report(self) -> dict:
        return json.loads((self.run_folder / "report.json").read_text())


def begun(text: str) -> list[str]:
    """Numbers of the trials that a run began or went on with."""
    return re.findall(r"trial (\d{4})  \S.* begins", text)


# --- before anything runs -------------------------------------------------------------------------


def test_a_config_that_states_no_experiment_says_so(capsys):
    with pytest.raises(SystemExit):
        main(["tune", str(ROOT / "configs" / "demo.yaml")])
    assert "must state tune" in capsys.readouterr().err


def test_an_experiment_that_the_pipeline_would_pass_over_is_refused(tmp_path):
    values = TINY | {"pipeline": str(ROOT / "pipelines" / "single_classifier.py")}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SettingsError, match="must have the step Tuner"):
        load_pipeline(load_settings(tmp_path / "tiny.yaml"), Places(tmp_path, tmp_path))


def test_no_step_before_the_evaluator_is_given_the_test_part():
    settings = load_settings(ROOT / "configs" / "taguchi_resnet101_vote_small.yaml")
    pipeline = load_pipeline(settings, Places(Path(), Path()))
    assert isinstance(pipeline, Pipeline)
    readers = [
        step.title for step in pipeline.steps for channel in step.inputs.values() if channel.type == "Test"
    ]
    assert readers == ["Evaluator", "ReportGen"]  # the latter shows its images, and decides nothing
    steps = [step.title for step in pipeline.steps]
    assert (
        steps.index("Tuner") < steps.index("Ensembler") < steps.index("Evaluator") < steps.index("ReportGen")
    )
    assert pipeline.steps[0].component is example_gen


def test_a_change_of_what_only_the_report_needs_trains_nothing_anew():
    def tuner_parameters(*overrides: str):
        settings = load_settings(ROOT / "configs" / "taguchi_resnet101_vote_small.yaml", overrides)
        steps = {step.title: step for step in load_pipeline(settings, Places(Path(), Path())).steps}
        return steps["Tuner"].parameters

    assert tuner_parameters() == tuner_parameters("evaluate.gallery=3", "ensemble.rule=average", "bless={}")
    assert tuner_parameters() != tuner_parameters("tune.repeats=3")


@pytest.mark.parametrize(("protocol", "optimizer"), [("", 1), ("_faithful", 2)])
def test_the_runs_can_be_read_before_anything_trains(capsys, protocol, optimizer):
    """The paper takes equal levels of the optimizer for two, and has no degree of freedom left for error."""
    print_runs(load_settings(ROOT / "configs" / f"taguchi_resnet101_vote{protocol}.yaml"))
    printed = capsys.readouterr().out
    assert printed.startswith(f"L9(3^4): 9 runs; degrees of freedom: optimizer {optimizer}, batch_size 2")
    assert f"error {2 - optimizer}" in printed.splitlines()[0]
    assert "Every run 3 times, then 9 at the predicted optimum: 36 trials." in printed


# --- whole runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Workshop:
    shop = Workshop(tmp_path_factory.mktemp("unbroken"))
    shop.said = shop.run("--force")  # pyright: ignore[reportAttributeAccessIssue]
    return shop


@pytest.mark.slow
def test_an_unbroken_run_leaves_everything(unbroken):
    table, report = unbroken.table(), unbroken.report()
    assert list(table["row"]) == ["1", "2", "3", "4", *["confirmation"] * 3]
    assert set(table["status"]) == {"COMPLETED"}
    assert report["results"]["scored"] == "test"
    assert list(report["results"]["ensemble"]["scores"]) == ["model_1", "model_2", "model_3"]
    assert report["results"]["tuning"]["best_levels"] == unbroken.analysis()["best_levels"]
    page = (unbroken.run_folder / "report.html").read_text()
    assert '<section id="tuning"' in page
    assert "<title>Trials of 3 voting models" in (unbroken.run_folder / "trials.html").read_text()
    assert "The weights of the last epoch were kept." in page
    best = unbroken.analysis()["experiment"]["best"]
    members = next(p for p in unbroken.folder.glob("runs/artifacts/Tuner/*/models/members.json"))
    stage = read_json(members)[0]["train"]["stages"][0]
    assert (stage["optimizer"]["name"], str(stage["epochs"])) == (best["optimizer"], best["epochs"])
    project = next(p for p in unbroken.folder.glob("runs/artifacts/Tuner/*/results"))
    assert len(StoredOracle.from_project(project, "project").results()) == 7
    assert Predictor(unbroken.folder / "savedmodels" / "tiny").labels == ("all", "hem")


@pytest.mark.slow
def test_a_run_killed_twice_within_trials_ends_with_the_same_table(tmp_path, unbroken):
    shop = Workshop(tmp_path)
    first = shop.kill_at(r"trial 0001 learn  epoch 1/\d")
    second = shop.kill_at(r"trial 0005 learn  epoch 1/\d")
    last = shop.run("--force")
    assert begun(first) == ["0000", "0001"]
    assert begun(second) == ["0001", "0002", "0003", "0004", "0005"]
    assert begun(last) == ["0005", "0006"]
    for text, trial in ((second, "0001"), (last, "0005")):
        assert f"trial {trial} learn  epoch 1/" not in text  # it went on after the epoch that was finished
    assert_frame_equal(shop.table(), unbroken.table())
    assert shop.analysis() == unbroken.analysis()
    assert shop.report()["results"]["metrics"] == unbroken.report()["results"]["metrics"]


def children(pid: int) -> dict[str, int]:
    """Id of each worker of a chief -> its process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (folder / "environ").read_bytes().decode().split("\0")
        except (OSError, ValueError):
            continue
        name = next((e.partition("=")[2] for e in environment if e.startswith("KERASTUNER_TUNER_ID=")), "")
        if parent == pid and name:
            found[name] = int(folder.name)
    return found


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_give_the_table_of_one_process(tmp_path, unbroken):
    shop = Workshop(tmp_path)
    process, said, killed = shop.start("--workers", "2", "--force"), [], ""
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if not killed and begun(line):
            time.sleep(1)  # into the trial
            states = next(shop.folder.glob("runs/artifacts/Tuner/*/.scratch/project/oracle.json"))
            name, killed = next(iter(read_json(states)["ongoing_trials"].items()))
            os.kill(children(process.pid)[name], signal.SIGKILL)
    process.communicate()  # closes the pipe, too
    text = "".join(said)
    assert process.returncode == 0, text[-3000:]
    assert f"{name} died (status -9) and is started again" in text
    assert begun(text).count(killed) == 2
    assert len(begun(text)) == 8
    assert_frame_equal(shop.table(), unbroken.table())
    assert shop.analysis() == unbroken.analysis()


@pytest.mark.slow
def test_a_worker_of_another_host_joins_by_the_environment(tmp_path):
    """The same command everywhere, on a shared runs folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": port}
    shop, options = Workshop(tmp_path), ["--set", "tune.factors={train.batch_size: [8, 16]}"]
    options += ["--set", "tune.confirmations=2"]
    chief = shop.start(*options, KERASTUNER_TUNER_ID="chief", **place)
    worker = shop.start(*options, KERASTUNER_TUNER_ID="worker1", **place)
    said, done = chief.communicate(timeout=1200)[0], worker.communicate(timeout=60)[0]
    assert (chief.returncode, worker.returncode) == (0, 0), said[-2000:] + done[-2000:]
    assert "trial 0000 learn  epoch 1/2" in done
    assert "learn  epoch" not in said
    assert set(shop.table()["status"]) == {"COMPLETED"}


@pytest.mark.slow
def test_a_faithful_copy_chooses_on_the_part_that_it_is_scored_on_and_says_so(tmp_path):
    shop = Workshop(tmp_path)
    shop.run(
        "--set", "protocol=faithful", "--set", "tune.response_on=selection", "--set",
        "split={validation: 0, test: 0, selection: 0.3}", "--set", "tune.factors={train.batch_size: [8, 16]}",
        "--set", "tune.confirmations=2",
    )  # fmt: skip
    report = shop.report()
    assert report["results"]["scored"] == "selection"
    assert report["results"]["blessed"] is False
    assert "Settings chosen on the scored images" in (shop.run_folder / "report.html").read_text()
    # The members' scores are the responses themselves.
    table = shop.table()
    own = table[table["row"] == "confirmation"]["accuracy"].tolist()
    scores = report["results"]["ensemble"]["scores"]
    assert [scores[f"model_{n}"]["accuracy"]["value"] for n in (1, 2)] == pytest.approx(own)


@pytest.mark.slow
def test_the_shipped_small_config_votes_with_three_to_nine_members(tmp_path):
    config = ROOT / "configs" / "taguchi_resnet101_vote_small.yaml"
    shop = Workshop(tmp_path, config)
    shop.run("--force")
    results = shop.report()["results"]
    assert len(results["ensemble"]["scores"]) == 9
    assert list(results["ensemble"]["first_members"]) == ["3", "5", "7", "9"]
    assert len(shop.table()) == 9 * 2 + 9
    assert [each["right"] for each in results["ensemble"]["members_right"]] == list(range(10))
    assert Predictor(tmp_path / "savedmodels" / config.stem).labels == ("all", "hem")
