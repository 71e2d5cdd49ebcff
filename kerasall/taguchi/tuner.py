"""A keras-tuner tuner for Taguchi experiments: epochs resume, memory and disk are given back, chief and workers end.

A trial's folder holds

    epochs.json              the metrics of every finished epoch
    epoch_0007.weights.h5    weights and optimizer after the last of them; removed when the trial ends
    checkpoint.weights.h5    weights of the best epoch, which keras-tuner loads

``epochs.json`` is written last and by a rename: the one moment at which an epoch counts, so that a trial that
was killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pandas as pd
from keras_tuner.engine.trial import Trial
from keras_tuner.src.engine.tuner_utils import TunerCallback

from kerasall.errors import ArtifactError, SettingsError
from kerasall.files import atomic_path, read_json, write_text
from kerasall.shown_text import tell, tell_fault
from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.oracle import TaguchiOracle, is_chief, serve_oracle, wait_for_chief
from kerasall.taguchi.trial_events import (
    TENSORBOARD,
    read_epochs,
    write_experiment_events,
    write_trial_events,
)
from kerasall.taguchi.trials import FINISHED, RESERVED, read_levels, read_place

CHECKPOINT = "checkpoint.weights.h5"
"""keras-tuner's name for the weights of a trial's best epoch."""


@dataclass(frozen=True)
class TrialRun:
    """One trial in plain values, for a ``run`` function.

    Attributes:
        trial_id: its number, as text.
        settings: factor -> value.
        levels: factor -> level number, from 1.
        row: of the array, from 1, or "confirmation".
        repeat: from 1.
        fold: from 1.
        seed: the trial's own.
        folder: the trial's own; kept when the trial runs again after a kill, so that it can go on.
        noise: run of the outer array, from 1; 0 if there is none.
        noise_settings: noise factor -> value.
    """

    trial_id: str
    settings: dict[str, Any]
    levels: dict[str, int]
    row: int | str
    repeat: int
    fold: int
    seed: int
    folder: Path
    noise: int = 0
    noise_settings: dict[str, Any] = field(default_factory=dict)


class TaguchiTuner(keras_tuner.Tuner):
    """Runs a ``TaguchiOracle``'s trials.

    Beyond ``keras_tuner.Tuner``: every trial is seeded by its own seed; a trial that was killed goes on
    after its last finished epoch; memory is given back between trials; checkpoints of the best trials
    alone are kept; nothing is printed on standard output; chief and workers end when they should.

    Args:
        oracle: of the experiment.
        hypermodel: builds the model, and fits it unless it is a function; its hyperparameters are the
            oracle's factors. Not needed with ``run``.
        run: (TrialRun, *arguments of ``search``) -> metrics, instead of a hypermodel. It may go on by
            itself from what it left in the trial's folder.
        report: epoch whose metrics count: ``best`` by the objective, as keras-tuner has it, or ``last``,
            which fits an experiment with the number of epochs as a factor.
        keep_checkpoints: number of best trials whose weights are kept.
        chief_timeout: seconds that a worker waits for its chief.
        **options: of ``keras_tuner.Tuner``, such as ``directory`` and ``project_name``.

    Raises:
        SettingsError: an option is not usable, or the folder holds another experiment.
    """

    def __init__(
        self,
        oracle: TaguchiOracle,
        hypermodel: Any = None,
        run: Callable[..., Any] | None = None,
        report: str = "best",
        keep_checkpoints: int = 1,
        chief_timeout: float = 600.0,
        **options: Any,
    ) -> None:
        if not isinstance(oracle, TaguchiOracle):
            raise SettingsError(f"a TaguchiTuner must have a TaguchiOracle, but has {oracle!r}")
        if (hypermodel is None) == (run is None):
            raise SettingsError(
                "a TaguchiTuner must have either a hypermodel or a run function: give one of them"
            )
        if report not in ("best", "last"):
            raise SettingsError(f"report must be best or last, but is {report!r}")
        if options.get("executions_per_trial", 1) != 1:
            raise SettingsError(
                "every run must be a trial of its own, but executions_per_trial is "
                f"{options['executions_per_trial']}: keras-tuner would keep only their mean; set the oracle's repeats"
            )
        self._run, self._report, self._keep = run, report, keep_checkpoints
        self._chief_timeout = chief_timeout
        self.taguchi_oracle = oracle  # a worker's ``oracle`` becomes a client of the chief's
        with contextlib.redirect_stdout(sys.stderr):
            super().__init__(oracle, hypermodel, **options)

    def results(self) -> pd.DataFrame:
        """The table of ``TaguchiOracle.results``."""
        return self._read_oracle().results()

    def analyze(self, signal: str | None = None, **options: Any) -> Analysis:
        """The analysis of ``TaguchiOracle.analyze``."""
        return self._read_oracle().analyze(signal, **options)

    def search(self, *arguments: Any, **options: Any) -> None:
        """Runs every trial that is not finished; as chief, serves the workers that do.

        Raises:
            KerasallError: too many trials failed in a row, or a worker finds no chief.
        """
        with contextlib.redirect_stdout(sys.stderr):
            if is_chief():
                self.taguchi_oracle.verbose = options.get("verbose", 1)
                self.save()
                serve_oracle(self.taguchi_oracle)
                return
            if self._is_worker():
                wait_for_chief(self._chief_timeout)
            super().search(*arguments, **options)

    def describe_run(self, trial: Trial) -> TrialRun:
        """What a ``run`` function is given."""
        values, design = trial.hyperparameters.values, self.taguchi_oracle.design
        factors, place = design.plan.factors, read_place(values)
        return TrialRun(
            trial_id=trial.trial_id,
            settings={name: values[name] for name in factors},
            levels=read_levels(values, factors),
            **asdict(place),
            noise_settings=design.noise_of(place),
            seed=values[f"{RESERVED}seed"],
            folder=Path(self.get_trial_dir(trial.trial_id)),
        )

    def run_trial(self, trial: Trial, *arguments: Any, **options: Any) -> Any:
        """Runs one trial, or goes on with it.

        Returns:
            Metrics of the epoch that counts, or whatever the hypermodel's own ``fit`` returned.
        """
        if self._run is None:
            return self._fit(trial, *arguments, **options)  # keras-tuner frees memory before it builds
        keras.utils.clear_session(free_memory=True)
        keras.utils.set_random_seed(trial.hyperparameters.values[f"{RESERVED}seed"])
        return self._run(self.describe_run(trial), *arguments, **options)

    def _fit(self, trial: Trial, *arguments: Any, **options: Any) -> Any:
        epochs = TrialEpochs(self.get_trial_dir(trial.trial_id), self.oracle.objective)
        if epochs.rows:
            options["initial_epoch"] = len(epochs.rows)
            tell(f"trial {trial.trial_id} goes on after epoch {len(epochs.rows)}")
        callbacks = self._deepcopy_callbacks(options.pop("callbacks", []))
        self._configure_tensorboard_dir(callbacks, trial)
        callbacks += [TunerCallback(self, trial), epochs]
        asked = trial.hyperparameters.values = _AskedValues(trial.hyperparameters.values)
        found = self._build_and_fit_model(trial, *arguments, callbacks=callbacks, **options)
        trial.hyperparameters.values = dict(asked)
        design = self.taguchi_oracle.design
        if idle := [n for n in (*design.plan.factors, *design.noise_factors) if n not in asked.names]:
            raise keras_tuner.errors.FatalValueError(
                f"every factor must be asked for by the hypermodel, but {', '.join(idle)} never was: all its levels would "
                f"be the same. Ask for it (hp.get({idle[0]!r})) in every trial, or leave it out of the factors"
            )
        if not isinstance(found, keras.callbacks.History) or not epochs.rows:
            return found
        best = epochs.best()
        if best is None:
            raise keras_tuner.errors.FatalValueError(
                f"the objective must be a metric of every epoch, but {self.oracle.objective.name} is not one of "
                f"{', '.join(epochs.rows[-1])}: correct it, or give fit validation data"
            )
        return epochs.rows[best if self._report == "best" else -1]

    def _build_hypermodel(self, hp: keras_tuner.HyperParameters) -> Any:
        # Here, because keras-tuner clears the session, and with it the seed, just before.
        keras.utils.set_random_seed(hp.values[f"{RESERVED}seed"])
        return super()._build_hypermodel(hp)

    def load_model(self, trial: Trial) -> keras.Model:
        """The trial's model with the weights of its best epoch, which must be kept; see ``keep_checkpoints``.

        Raises:
            ArtifactError: they are not.
        """
        path = Path(self._get_checkpoint_fname(trial.trial_id))
        if not path.exists():
            raise ArtifactError(
                f"{path} must hold the weights of trial {trial.trial_id}, but they were not kept: raise "
                f"keep_checkpoints above {self._keep} before the search"
            )
        model: Any = self._try_build(trial.hyperparameters)
        if not model.built:
            model.build_from_config(read_json(self._get_build_config_fname(trial.trial_id)))
        if not model.optimizer.built:
            # The file holds the optimizer too; keras-tuner leaves this out, and Keras warns of it.
            model.optimizer.build(model.trainable_variables)
        model.load_weights(path)
        return model

    def on_trial_end(self, trial: Trial) -> None:
        """Ends the trial, then gives back the disk that it needed."""
        if trial.message and self._is_worker():
            tell_fault(f"trial {trial.trial_id} failed\n{trial.message}")
        super().on_trial_end(trial)
        self._write_events(self.oracle.get_trial(trial.trial_id))
        remove_epoch_states(self.get_trial_dir(trial.trial_id))
        self._prune_checkpoints()

    def _write_events(self, trial: Trial) -> None:
        """Shows a finished trial in TensorBoard, whose own callback knows nothing of ``run`` functions."""
        if trial.status in FINISHED:
            folder, design = Path(self.project_dir) / TENSORBOARD, self.taguchi_oracle.design
            rows = read_epochs(Path(self.get_trial_dir(trial.trial_id)))
            write_experiment_events(folder, design, [trial])
            write_trial_events(folder, design, trial, rows, time.time())

    def _prune_checkpoints(self) -> None:
        best = {trial.trial_id for trial in self.oracle.get_best_trials(self._keep)}
        for path in Path(self.project_dir).glob("trial_*/*.weights.h5"):
            trial_id = path.parent.name.removeprefix("trial_")
            needed = trial_id in best and path.name == CHECKPOINT
            if not needed and self.oracle.get_trial(trial_id).status in FINISHED:
                path.unlink(missing_ok=True)

    def save(self) -> None:
        """Writes the oracle's state and the tuner's, atomically."""
        if not self._is_worker():
            self.oracle.save()
        write_text(self._get_tuner_fname(), json.dumps(self.get_state()))

    def _read_oracle(self) -> TaguchiOracle:
        if self._is_worker():
            self.taguchi_oracle.reload()  # what the chief has written since
        return self.taguchi_oracle


class _AskedValues(dict):
    """Values of hyperparameters that remember which of them were asked for."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


class TrialEpochs(keras.callbacks.Callback):
    """Stores every epoch of a trial, and restores the last one when training begins again.

    Optimizer and weights go on as they were. The state of other callbacks and the order of shuffled
    arrays do not; give the tuner a ``run`` function of your own where that matters.

    Args:
        folder: of the trial.
        objective: whose best epoch is the checkpoint; every epoch's is, where it is no metric of ``fit``.

    Attributes:
        rows: metrics of the finished epochs, in order.
    """

    def __init__(self, folder: str | Path, objective: keras_tuner.Objective) -> None:
        super().__init__()
        self._folder = Path(folder)
        self._objective = objective
        self.rows = read_epochs(self._folder)
        if self.rows and not self._state(len(self.rows)).exists():
            self.rows = []  # the trial had ended before: this is another run of it

    def best(self) -> int | None:
        """Index of the best finished epoch, the last if none was finite; None if the objective is no metric of theirs."""
        if not all(map(self._objective.has_value, self.rows)):
            return None
        found = None
        for index, row in enumerate(self.rows):
            if not np.isfinite(self._objective.get_value(row)):
                continue
            if found is None or self._better(row, self.rows[found]):
                found = index
        return len(self.rows) - 1 if found is None and self.rows else found

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Restores the last finished epoch, if there is one."""
        if not self.rows:
            return
        model: Any = self.model
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        model.load_weights(self._state(len(self.rows)))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Makes an epoch count."""
        self.rows.append({name: float(value) for name, value in (logs or {}).items()})
        if self.best() in (None, len(self.rows) - 1):
            self._save_weights(self._folder / CHECKPOINT)
        self._save_weights(self._state(len(self.rows)))
        write_text(self._folder / "epochs.json", json.dumps(self.rows))
        remove_epoch_states(self._folder, keep=self._state(len(self.rows)))

    def _better(self, row: Mapping[str, float], other: Mapping[str, float]) -> bool:
        return self._objective.better_than(self._objective.get_value(row), self._objective.get_value(other))

    def _state(self, epochs: int) -> Path:
        return self._folder / f"epoch_{epochs:04d}.weights.h5"

    def _save_weights(self, path: Path) -> None:
        model: Any = self.model
        with atomic_path(path) as temporary:
            model.save_weights(temporary)


def remove_epoch_states(folder: str | Path, keep: Path | None = None) -> None:
    """Removes the stored states of a trial's epochs, but for one; their metrics stay."""
    for path in Path(folder).glob("*.weights.h5"):
        # Names that begin with a dot are halves that a kill left behind.
        if path != keep and path.name.startswith(("epoch_", ".")):
            path.unlink(missing_ok=True)
