"""The oracle in a plain tuner, and the tuner that resumes epochs, gives back memory and disk, and scales out."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
from experiment import FACTORS, OBJECTIVE, comparable, make_oracle, respond, search
from pandas.testing import assert_frame_equal

from kerasall.errors import ArtifactError, KerasallError, SettingsError
from kerasall.taguchi.arrays import ARRAYS, levels_of
from kerasall.taguchi.oracle import TaguchiOracle, serve_oracle, wait_for_chief
from kerasall.taguchi.tuner import TaguchiTuner, TrialEpochs, TrialRun

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(32, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int32")
SMALL = {"rate": [0.1, 0.01], "units": [2, 4], "momentum": [0.0, 0.9]}


def build(hp: keras_tuner.HyperParameters) -> keras.Model:
    """A plain Keras model."""
    model = keras.Sequential(
        [
            keras.Input([4]),
            keras.layers.Dense(hp.Choice("units", [2, 4]), activation="relu"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(hp.get("rate"), momentum=hp.get("momentum"))
    loss = "sparse_categorical_crossentropy"
    model.compile(
        optimizer, loss, metrics=["accuracy"], run_eagerly=True
    )  # tracing takes longer than training
    return model


FIT = {
    "x": X,
    "y": Y,
    "validation_data": (X, Y),
    "epochs": 3,
    "batch_size": 16,
    "verbose": 0,
    "shuffle": False,
}


def make_tuner(folder: Path, repeats: int = 1, **options) -> TaguchiTuner:
    oracle = TaguchiOracle("val_accuracy", SMALL, repeats=repeats)
    return TaguchiTuner(oracle, build, directory=str(folder), project_name="p", **options)


@pytest.fixture(autouse=True, scope="module")
def short_collections():
    """Spares the garbage collector, which runs several times a trial, what pytest and TensorFlow hold."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A tuner whose search ended without a break, every checkpoint kept."""
    tuner = make_tuner(tmp_path_factory.mktemp("unbroken"), keep_checkpoints=4)
    tuner.search(**FIT)
    return tuner


def test_the_readme_example_drives_a_plain_tuner_on_a_plain_model(tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = readme.split("## Taguchi experiments\n")[1].split("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 11  # one prints
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    oracle, table = names["oracle"], names["oracle"].results()
    assert oracle.design.plan.array == "L4(2^3)"
    assert list(table["row"]) == [1, 2, 3, 4, "confirmation"]
    assert table["val_accuracy"].between(0, 1).all()
    assert oracle.analyze().prediction.confirmed is not None
    assert str(oracle.analyze().best_levels) in capsys.readouterr().out
    assert (tmp_path / "first" / "oracle.json").is_file()  # where `kerasall trials first` looks


@pytest.mark.parametrize("array", ARRAYS)
def test_a_plain_tuner_runs_every_array_with_trials_that_take_no_time(array, tmp_path, monkeypatch):
    """As keras-tuner's own tests of RandomSearch: a real ``search`` whose ``run_trial`` is made up."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    class Fake(keras_tuner.Tuner):
        def run_trial(self, trial, *arguments, **options):
            return {"score": float(sum(trial.hyperparameters.get(name) for name in factors))}

    factors = {f"F{i}": list(range(count)) for i, count in enumerate(levels_of(array))}
    oracle = TaguchiOracle(OBJECTIVE, factors, array=array, repeats=1)
    Fake(oracle=oracle, directory=str(tmp_path)).search(verbose=0)
    found = oracle.results()
    assert list(found["row"]) == list(range(1, len(oracle.design.plan.levels) + 1))
    assert (found["objective"] == found[list(factors)].sum(axis=1)).all()


def test_it_returns_all_metrics_of_the_best_epoch(unbroken):
    found = unbroken.results()
    assert {"accuracy", "loss", "val_accuracy", "val_loss"} <= set(found.columns)
    for trial_id, objective in found.set_index("trial")["objective"].items():
        assert objective == max(read_epochs(unbroken, trial_id))


def read_epochs(tuner: TaguchiTuner, trial_id: str) -> list[float]:
    rows = json.loads((Path(tuner.get_trial_dir(trial_id)) / "epochs.json").read_text())
    assert len(rows) == FIT["epochs"]
    return [row["val_accuracy"] for row in rows]


@pytest.mark.slow
def test_it_may_report_the_last_epoch_and_keeps_the_best_weights_alone(tmp_path, capsys):
    tuner = make_tuner(tmp_path, report="last", keep_checkpoints=2)
    tuner.search(**FIT)
    for trial_id, objective in tuner.results().set_index("trial")["objective"].items():
        assert objective == read_epochs(tuner, trial_id)[-1]
    best = [trial.trial_id for trial in tuner.oracle.get_best_trials(4)]
    kept = sorted(path.parent.name.removeprefix("trial_") for path in tmp_path.glob("p/*/*.weights.h5"))
    assert kept == sorted(best[:2])
    model = tuner.get_best_models(1)[0]
    assert model.evaluate(X, Y, verbose=0)[1] == pytest.approx(max(read_epochs(tuner, best[0])))
    with pytest.raises(ArtifactError, match="keep_checkpoints"):
        tuner.get_best_models(3)
    assert capsys.readouterr().out == ""


def test_models_are_seeded_by_their_trial(tmp_path):
    tuner = make_tuner(tmp_path)
    hp = tuner.oracle.get_space()
    first, again = (tuner._try_build(hp).get_weights()[0] for _ in range(2))
    hp.values["taguchi/seed"] += 1
    assert (first == again).all()
    assert (first != tuner._try_build(hp).get_weights()[0]).any()


class Kill(keras.callbacks.Callback):
    """Breaks the search off in the middle of an epoch of a trial, and counts the epochs that ran."""

    ran = 0
    at: int | None = None

    def on_epoch_begin(self, epoch, logs=None):
        if Kill.at is not None and Kill.ran == Kill.at:
            raise KeyboardInterrupt
        Kill.ran += 1


@pytest.mark.parametrize("at", [5, pytest.param(9, marks=pytest.mark.slow)])
def test_a_trial_that_was_killed_goes_on_after_its_last_epoch(at, tmp_path, monkeypatch, unbroken):
    monkeypatch.setattr(Kill, "ran", 0)
    monkeypatch.setattr(Kill, "at", at)  # in the third epoch of a trial, or before the first of one
    with pytest.raises(KeyboardInterrupt):
        make_tuner(tmp_path, keep_checkpoints=4).search(callbacks=[Kill()], **FIT)
    monkeypatch.setattr(Kill, "at", None)
    tuner = make_tuner(tmp_path, keep_checkpoints=4)
    tuner.search(callbacks=[Kill()], **FIT)
    assert Kill.ran == 12
    assert_frame_equal(comparable(tuner.oracle), comparable(unbroken.oracle))
    for one, other in zip(tuner.get_best_models(2), unbroken.get_best_models(2), strict=True):
        assert all(map(np.array_equal, one.get_weights(), other.get_weights()))


class FailOnce(Kill):
    """Fails in the third epoch of the second trial, the first time."""

    failed = False

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch)
        if Kill.ran == 6 and not FailOnce.failed:
            FailOnce.failed = True
            raise RuntimeError("lost the device")


@pytest.mark.slow
def test_a_killed_end_is_not_trained_again_and_a_failed_run_starts_anew(tmp_path, monkeypatch, unbroken):
    class KilledAtTheEnd(TaguchiTuner):
        def on_trial_end(self, trial):
            raise KeyboardInterrupt

    monkeypatch.setattr(Kill, "ran", 0)
    oracle = TaguchiOracle("val_accuracy", SMALL, repeats=1)
    with pytest.raises(KeyboardInterrupt):
        KilledAtTheEnd(oracle, build, directory=str(tmp_path), project_name="p").search(
            callbacks=[FailOnce()], **FIT
        )
    assert Kill.ran == 3
    tuner = make_tuner(tmp_path)
    tuner.search(callbacks=[FailOnce()], **FIT)
    assert FailOnce.failed
    assert Kill.ran == 12 + 3
    assert_frame_equal(comparable(tuner.oracle), comparable(unbroken.oracle))


@pytest.mark.slow
def test_a_hypermodel_may_fit_and_score_by_itself(tmp_path):
    class Own(keras_tuner.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *arguments, **options):
            model.fit(*arguments, epochs=hp.get("units"), **options)
            return {"val_accuracy": hp.get("rate"), "epochs": hp.get("units")}

    oracle = TaguchiOracle("val_accuracy", SMALL, repeats=1)
    tuner = TaguchiTuner(oracle, Own(), directory=str(tmp_path))
    tuner.search(X, Y, verbose=0)
    found = tuner.results()
    assert (found["objective"] == found["rate"]).all()
    assert (found["epochs"] == found["units"]).all()


def test_a_metric_that_is_also_a_factor_keeps_both_columns(tmp_path):
    tuner = TaguchiTuner(
        TaguchiOracle(OBJECTIVE, {"learning_rate": [0.1, 0.2]}, repeats=1),
        run=lambda run: {"score": 1.0, "learning_rate": 0.05},
        directory=str(tmp_path),
    )
    tuner.search()
    found = tuner.results()
    assert set(found["learning_rate"]) == {0.1, 0.2}
    assert set(found["learning_rate (metric)"]) == {0.05}


def test_a_missing_objective_stops_the_search_and_names_what_there_is(tmp_path):
    tuner = make_tuner(tmp_path)
    with pytest.raises(keras_tuner.errors.FatalError, match="val_accuracy is not one of accuracy, loss"):
        tuner.search(X, Y, epochs=1, verbose=0)


def test_a_factor_that_no_model_asks_for_stops_the_search_after_its_first_trial(tmp_path):
    oracle = TaguchiOracle("val_accuracy", SMALL | {"rates": [0.1, 0.2]}, repeats=1)
    tuner = TaguchiTuner(oracle, build, directory=str(tmp_path))
    with pytest.raises(keras_tuner.errors.FatalError, match="hypermodel, but rates never was"):
        tuner.search(X, Y, validation_data=(X, Y), epochs=1, verbose=0)
    assert len(oracle.trials) == 1


def test_the_best_epoch_is_one_that_is_finite(tmp_path):
    epochs = TrialEpochs(tmp_path, OBJECTIVE)
    epochs.rows = [{"score": value} for value in (float("nan"), 0.5, float("nan"), 0.75, 0.6)]
    assert epochs.best() == 3
    epochs.rows = epochs.rows[:1] * 2
    assert epochs.best() == 1
    epochs.rows = [{"loss": 1.0}]
    assert epochs.best() is None


def as_values(run: TrialRun) -> dict:
    return run.settings | {"taguchi/seed": run.seed}


def test_a_run_function_gets_plain_values_and_a_folder_of_its_own(tmp_path):
    runs = []

    def run(trial: TrialRun, more: int) -> dict:
        assert more == 5
        (trial.folder / "left").write_text("")
        runs.append(trial)
        score = respond(as_values(trial))
        return {"score": score, "loss": 1 - score}

    tuner = TaguchiTuner(make_oracle(repeats=1), run=run, directory=str(tmp_path), project_name="p")
    tuner.search(more=5)
    assert [(r.row, r.repeat, r.fold) for r in runs] == [(row, 1, 1) for row in range(1, 10)]
    assert runs[-1].levels["optimizer"] == 3
    assert runs[-1].settings["optimizer"] == "adam"
    assert len(list(tmp_path.glob("p/trial_*/left"))) == 9
    assert_frame_equal(comparable(tuner.oracle), search(tmp_path / "plain", repeats=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either a hypermodel or a run"),
        ({"hypermodel": build, "run": print}, "either a hypermodel or a run"),
        ({"hypermodel": build, "report": "first"}, "best or last"),
        ({"hypermodel": build, "executions_per_trial": 3}, "repeats"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        TaguchiTuner(make_oracle(), directory=str(tmp_path), **options)


def test_another_oracle_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="TaguchiOracle"):
        TaguchiTuner(keras_tuner.oracles.RandomSearchOracle("loss"), build)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def address(monkeypatch):
    """The variables of a chief at a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", port)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")


@pytest.mark.usefixtures("address")
def test_a_worker_without_a_chief_says_so():
    with pytest.raises(KerasallError, match="KERASTUNER_TUNER_ID=chief"):
        wait_for_chief(0.3)


@pytest.mark.usefixtures("address")
def test_a_chief_does_not_wait_for_ever_when_all_is_done(tmp_path):
    search_without_chief(tmp_path)
    serve_oracle(make_oracle(tmp_path), grace_seconds=0.3)


def search_without_chief(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KERASTUNER_ORACLE_IP")
        search(folder)


WORKER = """
import os, sys, time
from experiment import make_oracle, respond
from kerasall.taguchi.tuner import TaguchiTuner

def run(trial):
    print("begins", trial.trial_id, flush=True, file=sys.__stdout__)
    time.sleep(0.2)
    score = respond(trial.settings | {"taguchi/seed": trial.seed})
    return {"score": score, "loss": 1 - score}

oracle = make_oracle(repeats=1, confirmations=2)
TaguchiTuner(oracle, run=run, directory=sys.argv[1], project_name="p").search()
"""


def start(tuner_id: str, folder: Path) -> subprocess.Popen:
    """A process of a distributed search."""
    places = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places), "KERASTUNER_TUNER_ID": tuner_id}
    command = [sys.executable, "-c", WORKER, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.usefixtures("address")
def test_a_chief_and_two_workers_survive_the_death_of_one(tmp_path):
    chief, one, two = (start(name, tmp_path) for name in ("chief", "worker1", "worker2"))
    assert two.stdout is not None
    assert two.stdout.readline().startswith("begins")
    second = two.stdout.readline().split()[-1]
    two.send_signal(signal.SIGKILL)
    again = start("worker2", tmp_path)
    assert again.stdout is not None
    assert again.stdout.readline().split()[-1] == second  # its trial is run again
    for process in (again, one, chief):
        process.communicate(timeout=60)
        assert process.returncode == 0
    two.communicate()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KERASTUNER_ORACLE_IP")
        expected = search(tmp_path / "single", repeats=1, confirmations=2)
        found = make_oracle(tmp_path, repeats=1, confirmations=2)
        assert_frame_equal(comparable(found), expected)
        assert set(found.results()["optimizer"]) == set(FACTORS["optimizer"])
