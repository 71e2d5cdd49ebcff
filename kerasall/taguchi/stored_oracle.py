"""An oracle whose only memory is its project folder.

    trial_0007/trial.json   one trial: factors, place, status, metrics
    oracle.json             the design, the order of ends, which tuner runs which trial

Both are written atomically; keras-tuner itself writes them in place, and a kill may halve one.
A line on standard error for every trial that begins or ends tells the time left.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras_tuner
import pandas as pd
from keras_tuner.engine.trial import Trial, TrialStatus

from kerasall.errors import ArtifactError, SettingsError
from kerasall.files import read_json, write_text
from kerasall.shown_text import tell
from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.design import EVERY
from kerasall.taguchi.signal_to_noise import parse_signal
from kerasall.taguchi.trials import (
    FINISHED,
    SECONDS,
    analyze_trials,
    list_design_differences,
    make_design,
    mark_rows_at,
    read_place,
    tabulate_trials,
)

SCHEMA = 1


class TrialLog:
    """Takes the place of keras-tuner's display, which prints to standard output and cannot be resumed.

    Args:
        objective: name of the response.
        count: () -> (finished, all) trials.
        pace: () -> (seconds of the finished trials, trials running at once).
    """

    def __init__(
        self,
        objective: str,
        count: Callable[[], tuple[int, int]],
        pace: Callable[[], tuple[Sequence[float], int]],
    ) -> None:
        self.verbose = 1
        self._objective = objective
        self._count = count
        self._pace = pace

    def on_trial_begin(self, trial: Any) -> None:
        """Says which trial begins."""
        self.write(f"{self._describe(trial)} begins")

    def on_trial_end(self, trial: Any) -> None:
        """Says what a trial gave and how long the rest will take."""
        if trial.score is None:
            told = f"{trial.status}: {(trial.message or 'no message').strip().splitlines()[-1]}"
        else:
            told = f"{self._objective} {trial.score:.4f}"
        done, planned = self._count()
        self.write(
            "  ".join([self._describe(trial), told, f"{done}/{planned} done", self._time_left()]).rstrip()
        )

    def write(self, text: str) -> None:
        """Writes a line unless the search is silent."""
        if self.verbose:
            tell(text)

    def _describe(self, trial: Any) -> str:
        return f"trial {trial.trial_id}  {read_place(trial.hyperparameters.values)}"

    def _time_left(self) -> str:
        done, planned = self._count()
        seconds, at_once = self._pace()
        if done == planned or not seconds:
            return ""
        left = round((planned - done) * sum(seconds) / len(seconds) / max(at_once, 1))
        return f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"


class StoredOracle(keras_tuner.Oracle):
    """The design of an experiment and the trials in its project folder.

    See ``TaguchiOracle``, which decides what runs next, for the arguments.
    """

    def __init__(
        self,
        objective: str | keras_tuner.Objective | None,
        factors: Mapping[str, Sequence[Any]],
        array: str = "auto",
        repeats: int = 3,
        folds: int | None = None,
        seed: int = 0,
        confirmations: int = 0,
        signal: str | None = None,
        error_df: int = 0,
        max_retries_per_trial: int = 1,
        max_consecutive_failed_trials: int = 3,
        retry_failed: bool = False,
        analysis: Mapping[str, Any] | None = None,
        without: Mapping[str, Sequence[Any]] | None = None,
        interactions: Sequence[str] = (),
        noise: Mapping[str, Sequence[Any]] | None = None,
        noise_array: str = EVERY,
    ) -> None:
        if isinstance(objective, list | tuple):
            raise SettingsError(f"an experiment must have one objective, but has {objective}: choose one")
        if not isinstance(confirmations, int) or confirmations < 0:
            raise SettingsError(f"confirmations must be a whole number from 0, but is {confirmations!r}")
        super().__init__(
            objective=objective,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        goal = (self.objective.name, self.objective.direction)
        self.design = make_design(
            factors, array, error_df, goal, repeats, folds, seed, interactions, noise, noise_array
        )
        self.signal = signal or ("larger" if goal[1] == "max" else "smaller")
        _require_agreement(parse_signal(self.signal).signal.name, goal)
        self.retry_failed = retry_failed
        self.analysis = dict(analysis or {})
        self.without = {name: list(values) for name, values in (without or {}).items()}
        self.seed = seed  # keras-tuner takes 0 for "draw one"
        self._plan_confirmations(confirmations)
        self._register_factors()
        self._lock = threading.RLock()
        self._loaded, self._saved = False, ""
        self._former: dict[str, str] = {}  # tuner -> the trial it ran when the search was broken off
        self._started: dict[str, float] = {}
        self._failed_in_a_row: list[Trial] = []
        self.halted = ""
        self._display = TrialLog(goal[0], self._count, self._pace)

    @property
    def counting(self) -> dict[str, Any]:
        """How the analysis counts degrees of freedom: options of ``Plan.count_freedom``, ``pool`` as it was stated."""
        return {
            "levels_as": self.analysis.get("levels_as", "dummy"), "without": self.without, "pool": self.analysis.get("pool", ()),
        }  # fmt: skip

    @classmethod
    def from_project(cls, directory: str | Path, project_name: str) -> Self:
        """The oracle of a project as it stands on disk, to read its results.

        Raises:
            ArtifactError: there is none.
        """
        state = read_json(Path(directory) / project_name / "oracle.json")
        _require_schema(state, Path(directory) / project_name)
        design = state["design"]
        oracle = cls(
            keras_tuner.Objective(design["objective"], design["direction"]),
            **{key: design[key] for key in ("factors", "array", "repeats", "folds", "seed")},
            confirmations=state["confirmations"],
            signal=state["signal"],
            analysis=state.get("analysis"),
            without=state.get("without"),
            interactions=state.get("interactions", ()),
            **_read_noise(design.get("noise")),
        )
        oracle._set_project_dir(str(directory), project_name)
        return oracle

    def results(self) -> pd.DataFrame:
        """Every trial that exists, in order of its number.

        Returns:
            Columns trial, row, repeat, fold, status, one per factor (its value), one per factor called
            "<factor> level" (its level number), one per noise factor called "noise:<factor>" (its value), objective,
            every metric, seconds. Absent numbers are nan.
        """
        with self._lock:
            self._load()
            return tabulate_trials(self.design, self._ordered_trials())

    def analyze(self, signal: str | None = None, **options: Any) -> Analysis:
        """Analyses the finished trials, and the confirmation runs where they apply.

        A response is the mean over the folds of one repeat.

        Args:
            signal: None for the oracle's own.
            **options: of ``kerasall.taguchi.analysis.analyze``, before the oracle's own ``analysis``.

        Raises:
            DataError: a row has no finished repeat, or the ratio is not defined for a response.
        """
        with self._lock:
            self._load()
            return analyze_trials(
                self.design,
                self._ordered_trials(),
                signal or self.signal,
                self.without,
                **self.analysis | options,
            )

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The best trials by their own objective; see ``analyze`` for the best levels."""
        with self._lock:
            self._load()
            return super().get_best_trials(num_trials)

    def remaining_trials(self) -> int:
        """Number of trials that are not finished."""
        with self._lock:
            self._load()
            done, planned = self._count()
            return planned - done

    def get_state(self) -> dict[str, Any]:
        """All that the trials' own files do not hold, as JSON."""
        return {
            "schema": SCHEMA,
            "design": self.design.document,
            "confirmations": self.confirmations,
            "signal": self.signal,
            "analysis": self.analysis,
            "without": self.without,
            "interactions": ["*".join(pair) for pair in self.design.plan.crossed],
            "hyperparameters": self.hyperparameters.get_config(),
            "ongoing_trials": {tuner: trial.trial_id for tuner, trial in self.ongoing_trials.items()},
            "start_order": self.start_order,
            "end_order": self.end_order,
            "run_times": dict(self._run_times),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state; ``trials`` must hold the trials already.

        Raises:
            ArtifactError: the state has another schema.
            SettingsError: it is that of another experiment; the message lists the differences.
        """
        _require_schema(state, self._folder)
        if differences := list_design_differences(state["design"], self.design.document):
            raise SettingsError(
                f"{self._folder} must hold this experiment, but: {'; '.join(differences)}. Take the old settings, "
                "give another project_name, or pass overwrite=True to throw its results away"
            )
        self._plan_confirmations(max(self.confirmations, state["confirmations"]))
        added = self.hyperparameters
        self.hyperparameters = keras_tuner.HyperParameters.from_config(state["hyperparameters"])
        super().update_space(added)
        self._former = dict(state["ongoing_trials"])
        self.ongoing_trials = {}
        self.start_order = list(state["start_order"])
        self._run_times = defaultdict(int, state["run_times"])
        # A kill may have come between the two files; the trials' own statuses count.
        finished = [i for i, trial in self.trials.items() if trial.status in FINISHED]
        self.end_order = [i for i in state["end_order"] if i in finished]
        self.end_order += [i for i in finished if i not in self.end_order]

    def save(self) -> None:
        """Writes the state, atomically, if it has changed: keras-tuner asks for it twice a trial."""
        with self._lock:
            self._load()
            text = json.dumps(self.get_state())
            if text != self._saved:
                write_text(self._folder / "oracle.json", text)
                self._saved = text

    def reload(self) -> None:
        """Reads state and trials from the project folder."""
        with self._lock:
            self._loaded = False
            self._load()
            for path in self._folder.glob("*.json"):
                # keras-tuner writes its tuners' files, which hold nothing, in place: a kill may halve one.
                if path.read_text(encoding="utf-8").strip() in ("", "{"):
                    write_text(path, "{}")

    def _set_project_dir(self, directory: str, project_name: str) -> None:
        super()._set_project_dir(directory, project_name)
        self._loaded = False

    @property
    def _folder(self) -> Path:
        if getattr(self, "_directory", None) is None:
            raise SettingsError("an oracle must have a project folder: give it to a keras_tuner.Tuner first")
        return Path(self._directory) / str(self._project_name)

    def _load(self) -> None:
        """Reads the project once. Late, because a tuner with overwrite=True empties the folder first."""
        if self._loaded:
            return
        self._saved = ""
        trials = [read_json(path) for path in sorted(self._folder.glob("trial_*/trial.json"))]
        path = self._folder / "oracle.json"
        if trials and not path.exists():
            raise ArtifactError(
                f"{self._folder} must hold oracle.json beside its {len(trials)} trials, but does not: put it back, "
                "or give another project_name"
            )
        self.trials = {state["trial_id"]: Trial.from_state(state) for state in trials}
        if path.exists():
            self.set_state(read_json(path))
            self._reopen_failed()
        self._loaded = True

    def _reopen_failed(self) -> None:
        failed = [i for i, trial in self.trials.items() if trial.status == TrialStatus.FAILED]
        for trial_id in failed if self.retry_failed else []:
            self.trials[trial_id].status = TrialStatus.INVALID
            self.end_order.remove(trial_id)
            # One more run, no more: a level that always fails must not be paid for again and again.
            self._run_times[trial_id] = max(1, self.max_retries_per_trial)

    def _save_trial(self, trial: Trial) -> None:
        path = self._folder / f"trial_{trial.trial_id}" / "trial.json"
        write_text(path, json.dumps(trial.get_state()))

    def _plan_confirmations(self, count: int) -> None:
        self.confirmations = count
        self._places = self.design.places(count)
        unwanted = mark_rows_at(self.design, self.without)
        self._planned = [
            n
            for n, place in enumerate(self._places)
            if isinstance(place.row, str) or not unwanted[place.row - 1]
        ]
        self.max_trials = len(self._planned)

    def _register_factors(self) -> None:
        for name, values in {**self.design.plan.factors, **self.design.noise_factors}.items():
            self.hyperparameters.Choice(name, list(dict.fromkeys(values)))
        # keras-tuner builds the hypermodel once before the search: let it find the reserved values too.
        first = self.design.values_of(self._places[0], self.design.levels_of(1))
        self.hyperparameters.values.update(first)

    def _ordered_trials(self) -> list[Trial]:
        return [self.trials[trial_id] for trial_id in sorted(self.trials)]

    def _count(self) -> tuple[int, int]:
        planned = {f"{number:04d}" for number in self._planned}
        return len(planned.intersection(self.end_order)), len(planned)

    def _pace(self) -> tuple[list[float], int]:
        ended = [trial.metrics for trial in self.trials.values() if trial.metrics.exists(SECONDS)]
        return [metrics.get_last_value(SECONDS) for metrics in ended], len(self.tuner_ids)


def _require_agreement(signal: str, goal: tuple[str, str]) -> None:
    """An analysis maximises its ratio, so that of a loss must not grow with it."""
    name, direction = goal
    contrary, sought, cure = {
        "min": (("larger", "omega", "mean"), "largest", "smaller"),
        "max": (("smaller",), "smallest", "larger, omega, mean"),
    }[direction]
    if signal in contrary:
        raise SettingsError(
            f"the signal must agree with the objective, but {signal} seeks the {sought} {name}, whose direction is "
            f"{direction}: take {cure} or a target"
        )


def _read_noise(stored: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of an oracle for the outer array of a stored design; none where it has none."""
    if stored is None:
        return {}
    # An array may have repeated a factor's first levels, which whoever plans states once.
    levels = {name: list(dict.fromkeys(values)) for name, values in stored["factors"].items()}
    return {"noise": levels, "noise_array": stored["array"]}


def _require_schema(state: Mapping[str, Any], folder: Path) -> None:
    if state.get("schema") != SCHEMA:
        raise ArtifactError(
            f"{folder} must hold a Taguchi experiment of schema {SCHEMA}, but has {state.get('schema')!r} (another "
            "kind of oracle, or another version of kerasall): give another project_name"
        )
