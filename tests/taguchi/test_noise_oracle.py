"""Crossed designs as trials: every raw response its own, resumed after kills, shared; Keras reads the noise by ``hp.get``."""

from __future__ import annotations

import json

import keras
import keras_tuner
import numpy as np
import pytest
from experiment import FACTORS, comparable, make_oracle

from kerasall.errors import DataError, KerasallError, SettingsError
from kerasall.report.taguchi import describe_trials
from kerasall.taguchi.oracle import TaguchiOracle
from kerasall.taguchi.trial_events import list_trials
from kerasall.taguchi.tuner import TaguchiTuner

NOISE = {"scanner": ["a", "b"], "shift": [0.0, 1.0]}
CROSSED = {"noise": NOISE, "repeats": 1, "confirmations": 1}


def respond(values: dict) -> float:
    """A response that the shift harms where the batch is 60, and chance that the trial's seed alone decides."""
    harm = 0.3 if values["batch_size"] == 60 else 0.05
    base = 0.7 + (0.1 if values["learning_rate"] == 1e-4 else 0.0) + values["taguchi/seed"] % 1000 / 1e5
    return base - harm * values["shift"] - (0.02 if values["scanner"] == "b" else 0.0)


def run_next(oracle: TaguchiOracle, tuner_id: str = "tuner0"):
    trial = oracle.create_trial(tuner_id)
    if trial.status == "RUNNING":
        finish(oracle, trial)
        return trial
    return None


def finish(oracle: TaguchiOracle, trial, status: str = "COMPLETED") -> None:
    if status == "COMPLETED":
        oracle.update_trial(trial.trial_id, {"score": respond(trial.hyperparameters.values)})
    trial.status = status
    oracle.end_trial(trial)


def run_all(oracle: TaguchiOracle) -> TaguchiOracle:
    while run_next(oracle):
        pass
    return oracle


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> TaguchiOracle:
    return run_all(make_oracle(tmp_path_factory.mktemp("unbroken"), **CROSSED))


def test_every_row_runs_under_every_noise_in_trials_of_their_own(unbroken):
    table = unbroken.results()
    assert len(table) == 9 * 4 + 4
    first = table[table["row"] == 1]
    cells = list(zip(first["noise:scanner"], first["noise:shift"], strict=True))
    assert cells == [(s, d) for s in NOISE["scanner"] for d in NOISE["shift"]]
    values = [trial.hyperparameters.values for trial in unbroken.trials.values()]
    assert len({each["taguchi/seed"] for each in values}) == len(values)
    assert [each["taguchi/noise"] for each in values[:36:9]] == [1, 2, 3, 4]  # all rows, then the next
    assert unbroken.remaining_trials() == 0


def test_killed_twice_and_resumed_it_equals_the_unbroken_one(unbroken, tmp_path):
    folder = tmp_path / "killed"
    for steps in (11, 17):
        oracle = make_oracle(folder, **CROSSED)
        for _ in range(steps):
            run_next(oracle)
        oracle.create_trial("tuner0")  # begun, and killed
    oracle = run_all(make_oracle(folder, **CROSSED))
    assert comparable(oracle).equals(comparable(unbroken))
    assert json.dumps(oracle.analyze().to_json()) == json.dumps(unbroken.analyze().to_json())


def test_two_workers_share_it(unbroken, tmp_path):
    oracle = make_oracle(tmp_path / "shared", **CROSSED)
    while oracle.remaining_trials():
        running = [oracle.create_trial(tuner_id) for tuner_id in ("tuner0", "tuner1")]
        assert len({trial.trial_id for trial in running if trial.trial_id}) == sum(
            bool(t.trial_id) for t in running
        )
        for trial in reversed([trial for trial in running if trial.status == "RUNNING"]):
            finish(oracle, trial)
    assert comparable(oracle).equals(comparable(unbroken))


def test_the_analysis_is_over_the_noise_and_the_confirmation_too(unbroken):
    found = unbroken.analyze()
    assert found.noise
    assert found.raw
    responses = np.array([t.score for t in unbroken.trials.values()])[:36].reshape(4, 9).T
    np.testing.assert_allclose(found.signal_to_noise, -10 * np.log10((1 / responses**2).mean(axis=1)))
    assert found.noise.hurts_most == "shift"
    assert found.noise.decides_most == "batch_size"
    assert found.noise.factors["shift"] == ("0.0", "1.0")
    confirmed = np.array([t.score for t in unbroken.trials.values()])[36:]
    assert found.raw.prediction.confirmed == pytest.approx(confirmed.mean())
    assert found.prediction.runs == 4


def test_a_project_is_read_from_its_folder_and_shown(unbroken):
    folder = unbroken._folder.parent
    again = TaguchiOracle.from_project(folder, "p")
    assert again.design.document == unbroken.design.document
    listing = list_trials(folder / "p")
    text = describe_trials(listing)
    assert "noise:scanner" in text
    assert "noise:shift" in text
    with pytest.raises(SettingsError, match="noise was"):
        make_oracle(folder, repeats=1, noise={"scanner": ["a", "c"]}).remaining_trials()
    with pytest.raises(SettingsError, match="noise was"):
        make_oracle(folder, repeats=1).remaining_trials()


def test_a_row_that_fails_under_a_noise_is_left_out_whole(tmp_path):
    oracle = make_oracle(tmp_path, **CROSSED, max_retries_per_trial=0)
    while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        values = trial.hyperparameters.values
        fails = values["taguchi/row"] == 2 and values["taguchi/noise"] == 3
        finish(oracle, trial, "INVALID" if fails else "COMPLETED")
    found = oracle.analyze()
    assert np.isnan(found.signal_to_noise[1])
    assert any(
        "Failed under some of the noise runs, and left out whole: row 2;" in text for text in found.warnings
    )


def test_a_noise_under_which_every_run_fails_is_named(tmp_path):
    oracle = make_oracle(tmp_path, **CROSSED, max_retries_per_trial=0)

    def run_but_on_b() -> None:
        while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
            fails = trial.hyperparameters.values["scanner"] == "b"
            finish(oracle, trial, "INVALID" if fails else "COMPLETED")

    with pytest.raises(KerasallError, match="all of them under the noise scanner = b and shift = 0"):
        run_but_on_b()


def test_a_row_that_has_not_run_under_every_noise_cannot_be_analysed_yet(tmp_path):
    oracle = make_oracle(tmp_path, **CROSSED)
    for _ in range(35):
        run_next(oracle)
    with pytest.raises(
        DataError, match="a finished repeat under every noise run, but there is none in row 9"
    ):
        oracle.analyze()


def test_without_noise_nothing_of_it_is_stored(tmp_path):
    oracle = make_oracle(tmp_path)
    trial = oracle.create_trial("tuner0")
    assert not any("noise" in name for name in trial.hyperparameters.values)
    assert "noise" not in oracle.design.document
    assert "noise" not in json.dumps(oracle.get_state())


def test_names_of_noise_factors_are_their_own():
    with pytest.raises(SettingsError, match="'epochs', as a setting has that name"):
        make_oracle(noise={"epochs": [1, 2]})
    with pytest.raises(SettingsError, match="a noise factor must not be called 'fold'"):
        make_oracle(noise={"fold": [1, 2]})
    with pytest.raises(SettingsError, match="'noise:x', as columns of noise factors are"):
        make_oracle(factors=FACTORS | {"noise:x": [1, 2]}, noise={"x": [1, 2]}, array="L27")


def test_any_keras_model_reads_noise_as_it_reads_factors(tmp_path):
    def build(hp):
        keras.utils.set_random_seed(hp.get("start"))
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(hp.get("units"), hp.get("activation"))]
        )
        model.add(keras.layers.Dense(1))
        model.compile("sgd", "mse")
        return model

    factors = {"units": [2, 4], "activation": ["relu", "tanh"]}
    objective = keras_tuner.Objective("loss", "min")
    oracle = TaguchiOracle(objective, factors, repeats=1, noise={"start": [1, 2]})
    tuner = TaguchiTuner(oracle, build, directory=str(tmp_path), project_name="p")
    x, y = np.ones((8, 3)), np.ones((8, 1))
    tuner.search(x, y, epochs=1, batch_size=8, verbose=0)
    found = tuner.analyze()
    assert found.noise
    assert found.noise.runs == 2
    assert list(found.noise.effects) == ["start"]
    run = tuner.describe_run(oracle.trials["0004"])
    assert (run.noise, run.noise_settings) == (2, {"start": 2})

    def forget(hp):
        return build(_Fixed(hp))

    idle = TaguchiTuner(
        TaguchiOracle(objective, factors, repeats=1, noise={"start": [1, 2]}),
        forget,
        directory=str(tmp_path),
        project_name="q",
    )
    with pytest.raises(keras_tuner.errors.FatalError, match="start never was"):
        idle.search(x, y, epochs=1, batch_size=8, verbose=0)


class _Fixed:
    """Hyperparameters that never read the noise."""

    def __init__(self, hp) -> None:
        self._hp = hp

    def get(self, name: str):
        """A value of the trial."""
        return 1 if name == "start" else self._hp.get(name)
