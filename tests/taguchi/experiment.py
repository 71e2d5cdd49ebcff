"""A made-up experiment, and tuners that run it without training anything."""

from __future__ import annotations

from pathlib import Path

import keras_tuner
import pandas as pd

from kerasall.taguchi.oracle import TaguchiOracle

FACTORS = {
    "optimizer": ["adam", "sgdm", "adam"],
    "batch_size": [60, 65, 70],
    "epochs": [8, 10, 12],
    "learning_rate": [1e-3, 1e-4, 1e-5],
}
OBJECTIVE = keras_tuner.Objective("score", "max")


def make_oracle(folder: Path | None = None, **options) -> TaguchiOracle:
    """An oracle of the experiment, in ``folder`` if there is one."""
    options = {"factors": FACTORS, "repeats": 2, "seed": 7} | options
    oracle = TaguchiOracle(OBJECTIVE, **options)
    oracle.verbose = 0
    if folder is not None:
        oracle._set_project_dir(str(folder), "p")
    return oracle


def respond(values: dict) -> float:
    """A response with known effects, and noise that the trial's seed alone decides."""
    effect = {"adam": 0.2, "sgdm": 0.1}[values["optimizer"]] + values["batch_size"] / 1000
    return effect + (0.1 if values["learning_rate"] == 1e-4 else 0.0) + values["taguchi/seed"] % 1000 / 1e5


class FakeTuner(keras_tuner.Tuner):
    """A plain keras-tuner tuner whose trials take no time."""

    def run_trial(self, trial, *arguments, **options):
        """The response, and another metric."""
        score = respond(trial.hyperparameters.values)
        return {"score": score, "loss": 1 - score}


def search(folder: Path, **options) -> pd.DataFrame:
    """Runs the experiment through a plain tuner and gives its table without seconds."""
    oracle = make_oracle(**options)
    tuner = FakeTuner(oracle=oracle, directory=str(folder), project_name="p")
    tuner.search(verbose=0)
    return comparable(oracle)


def comparable(oracle: TaguchiOracle) -> pd.DataFrame:
    """The table of results but for the seconds, which no two runs share."""
    return oracle.results().drop(columns="seconds")


def run_next(oracle: TaguchiOracle, tuner_id: str = "tuner0"):
    """Runs one trial by the oracle's own methods; gives it, or None at the end."""
    trial = oracle.create_trial(tuner_id)
    if trial.status != "RUNNING":
        return None
    finish(oracle, trial)
    return trial


def finish(oracle: TaguchiOracle, trial) -> None:
    """Reports a trial's metrics and its end."""
    score = respond(trial.hyperparameters.values)
    oracle.update_trial(trial.trial_id, {"score": score, "loss": 1 - score})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
