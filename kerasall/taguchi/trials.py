"""The trials of a Taguchi experiment: which there are, in which order, and what they carry.

One trial is one run of one row of the array: repeat 1 of all rows first, then repeat 2; inside a repeat all rows under the
first noise run (row of the outer array, if there is one), then under the second; inside a row the folds follow one another. Their order is a pure function of the design, so a search that was killed goes on from the trials
that exist and needs no other memory. Finished trials become a table of raw responses and an analysis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from keras_tuner.engine.trial import Trial, TrialStatus

from kerasall.errors import DataError, SettingsError
from kerasall.settings.seeds import derive_seed
from kerasall.taguchi.analysis import Analysis, analyze
from kerasall.taguchi.design import EVERY, NOISE, Plan, plan
from kerasall.taguchi.signal_to_noise import name_rows

CONFIRMATION = "confirmation"
"""``taguchi/row`` of a trial at the predicted optimum."""
RESERVED = "taguchi/"
"""What the names of the values begin with that a trial carries beside its factors."""
SECONDS = f"{RESERVED}seconds"
"""Metric that the oracle adds: wall-clock seconds of the run that ended the trial."""
RESULT_COLUMNS = ("trial", "row", "repeat", "fold", "status", "objective", "seconds")
"""Columns of a table of results that no factor may be called."""


@dataclass(frozen=True)
class Place:
    """Where a trial stands in the experiment.

    Attributes:
        row: of the array, from 1, or ``CONFIRMATION``.
        repeat: from 1.
        fold: from 1; 1 if there are no folds.
        noise: run of the outer array, from 1; 0 if there is none.
    """

    row: int | str
    repeat: int
    fold: int
    noise: int = 0

    def __str__(self) -> str:
        row = self.row if self.row == CONFIRMATION else f"row {self.row}"
        noise = f" noise {self.noise}" if self.noise else ""
        return f"{row} repeat {self.repeat}{noise} fold {self.fold}"


@dataclass(frozen=True)
class Design:
    """What makes one experiment differ from another.

    Attributes:
        plan: factors, array and rows.
        objective: name of the response.
        direction: ``max`` or ``min``.
        repeats: runs of every row.
        folds: runs of every repeat, one for each held-out fold; None for one run without folds.
        seed: from which the seed of every trial is drawn.
    """

    plan: Plan
    objective: str
    direction: str
    repeats: int
    folds: int | None
    seed: int

    def places(self, confirmations: int = 0) -> list[Place]:
        """Every trial in order; the index is its number."""
        rows: list[tuple[int | str, int, int]] = [
            (row + 1, repeat + 1, noise)
            for repeat in range(self.repeats)
            for noise in self.noise_runs
            for row in range(len(self.plan.levels))
        ]
        rows += [
            (CONFIRMATION, repeat + 1, noise) for repeat in range(confirmations) for noise in self.noise_runs
        ]
        return [
            Place(row, repeat, fold + 1, noise)
            for row, repeat, noise in rows
            for fold in range(self.folds or 1)
        ]

    @property
    def noise_runs(self) -> Sequence[int]:
        """Numbers of the runs of the outer array, from 1; 0 alone where there is none."""
        return range(1, 1 + len(self.plan.noise.levels)) if self.plan.noise else (0,)

    @property
    def noise_factors(self) -> dict[str, tuple[Any, ...]]:
        """Noise factor -> its levels; none where there is no outer array."""
        return self.plan.noise.factors if self.plan.noise else {}

    @property
    def runs(self) -> int:
        """Number of trials before the confirmation."""
        return len(self.plan.levels) * self.runs_of_row

    @property
    def runs_of_row(self) -> int:
        """Number of trials of one row."""
        return self.repeats * len(self.noise_runs) * (self.folds or 1)

    def levels_of(self, row: int) -> dict[str, int]:
        """Level number of every factor in a row, from 1."""
        return dict(zip(self.plan.factors, map(int, self.plan.levels[row - 1]), strict=True))

    def settings_of(self, levels: Mapping[str, int]) -> dict[str, Any]:
        """Value of every factor at a combination of levels."""
        return {name: self.plan.factors[name][level - 1] for name, level in levels.items()}

    def seed_of(self, place: Place) -> int:
        """Seed of a trial: 0 <= seed < 2^31, its own for every place."""
        return seed_of_place(self.seed, place)

    def noise_levels_of(self, place: Place) -> dict[str, int]:
        """Level number of every noise factor at a place, from 1."""
        outer = self.plan.noise
        return dict(zip(outer.factors, map(int, outer.levels[place.noise - 1]), strict=True)) if outer else {}

    def noise_of(self, place: Place) -> dict[str, Any]:
        """Value of every noise factor at a place."""
        return {
            name: self.noise_factors[name][level - 1] for name, level in self.noise_levels_of(place).items()
        }

    def values_of(self, place: Place, levels: Mapping[str, int]) -> dict[str, Any]:
        """What the hyperparameters of a trial hold: its factors, those of noise too, and the reserved values.

        The level numbers tell a dummy level from its twin, whose value is the same.
        """
        stated = {name: value for name, value in asdict(place).items() if name != "noise" or value}
        return {
            **self.settings_of(levels),
            **self.noise_of(place),
            **{f"{RESERVED}{name}": value for name, value in stated.items()},
            f"{RESERVED}levels": ",".join(map(str, levels.values())),
            f"{RESERVED}seed": self.seed_of(place),
        }

    @cached_property
    def document(self) -> dict[str, Any]:
        """The design as JSON; two designs with equal documents are one experiment."""
        return {
            "objective": self.objective,
            "direction": self.direction,
            "factors": {name: list(values) for name, values in self.plan.factors.items()},
            "array": self.plan.array,
            "rows": self.plan.levels.tolist(),
            "repeats": self.repeats,
            "folds": self.folds,
            "seed": self.seed,
            **({"noise": self._noise_document} if self.plan.noise else {}),
        }

    @property
    def _noise_document(self) -> dict[str, Any]:
        assert self.plan.noise is not None
        return {
            "factors": {name: list(values) for name, values in self.noise_factors.items()},
            "array": self.plan.noise.array,
            "rows": self.plan.noise.levels.tolist(),
        }


def seed_of_place(seed: int, place: Place) -> int:
    """Seed of a trial of an experiment with a seed: 0 <= seed < 2^31, its own for every place."""
    row = 0 if isinstance(place.row, str) else place.row
    noise = (place.noise,) if place.noise else ()
    return derive_seed(seed, row, place.repeat, place.fold, *noise)


def read_place(values: Mapping[str, Any]) -> Place:
    """The place that a trial carries in its hyperparameter values."""
    stated = (values[f"{RESERVED}{name}"] for name in ("row", "repeat", "fold"))
    return Place(*stated, noise=values.get(f"{RESERVED}noise", 0))


def order_of_row(row: int | str) -> float:
    """What a row sorts by: confirmation runs follow all rows."""
    return 1e9 if row == CONFIRMATION else float(row)


def read_levels(values: Mapping[str, Any], factors: Iterable[str]) -> dict[str, int]:
    """The level numbers that a trial carries in its hyperparameter values."""
    return dict(zip(factors, map(int, values[f"{RESERVED}levels"].split(",")), strict=True))


def make_design(
    factors: Mapping[str, Sequence[Any]],
    array: str,
    error_df: int,
    objective: tuple[str, str],
    repeats: int,
    folds: int | None,
    seed: int,
    interactions: Sequence[str] = (),
    noise: Mapping[str, Sequence[Any]] | None = None,
    noise_array: str = EVERY,
) -> Design:
    """Checks the settings of an experiment and plans it.

    Args:
        objective: name and direction.
        interactions: pairs of factors, ``A*B``, that are to be estimated.
        noise, noise_array: see ``kerasall.taguchi.design.plan``.

    Raises:
        SettingsError: a factor or a number is not usable, or no array fits.
    """
    _require_whole("repeats", repeats, 1)
    _require_whole("seed", seed, 0)
    if folds is not None:
        _require_whole("folds", folds, 2)
    usable = {name: as_choices(name, values) for name, values in factors.items()}
    outer = {name: as_choices(name, values, "noise factor") for name, values in (noise or {}).items()}
    if taken := sorted({*usable} & {*map(level_column, usable)}):
        raise SettingsError(
            f"a factor must not be called {taken[0]!r}, as the column of another's level numbers is: rename it"
        )
    made = plan(usable, array, error_df, interactions, outer, noise_array)
    return Design(made, *objective, repeats, folds, seed)


def _require_whole(name: str, number: Any, least: int) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise SettingsError(
            f"{name} must be a whole number of at least {least}, but is {number!r}: correct it"
        )


def as_choices(name: str, values: Sequence[Any], what: str = "factor") -> list[Any]:
    """Levels as keras-tuner takes them: all numbers, all texts, or all booleans.

    Raises:
        SettingsError: the name is reserved, or the levels are of other or of several types.
    """
    if name.startswith(RESERVED) or name in RESULT_COLUMNS:
        raise SettingsError(
            f"a {what} must not be called {name!r}, which has a meaning of its own: rename it"
        )
    plain = [value.item() if isinstance(value, np.generic) else value for value in values]
    types = {type(value) for value in plain}
    if types == {int, float}:
        return [float(value) for value in plain]
    if len(types) > 1 or not types <= {int, float, str, bool}:
        raise SettingsError(
            f"the levels of {what} {name} must be all numbers, all texts or all booleans, but are {plain}: "
            "write them as texts and let the model builder read these"
        )
    return plain


def level_column(factor: str) -> str:
    """Name of the column of a factor's level numbers, beside its values."""
    return f"{factor} level"


def list_design_differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What differs between two design documents, in words; empty if nothing does."""
    found = []
    old, new = stored.get("factors", {}), given["factors"]
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            found.append(f"factor {name} had the levels {old.get(name)} and has {new.get(name)}")
    if not found and list(old) != list(new):
        found.append(f"the factors stood in the order {list(old)} and stand in {list(new)}")
    for key in ("array", "objective", "direction", "repeats", "folds", "seed", "noise"):
        if stored.get(key) != given.get(key):
            found.append(f"{key} was {stored.get(key)} and is {given.get(key)}")
    if not found and stored.get("rows") != given["rows"]:
        found.append("the rows give other levels to the factors, although factors and array are the same")
    return found


def mean_over_folds(
    objectives: Mapping[Place, float],
    rows: Sequence[int | str],
    repeats: int,
    folds: int | None,
    noise_runs: Sequence[int] = (0,),
) -> np.ndarray:
    """Responses of an analysis: the mean over the folds of every row, repeat and noise run.

    Returns:
        float64 [rows, repeats * noise runs], the noise runs of one repeat beside one another; nan where a fold is
        missing, for a mean of other folds is no repeat.
    """
    columns = [(repeat + 1, noise) for repeat in range(repeats) for noise in noise_runs]
    found = np.full((len(rows), len(columns)), np.nan)
    for i, row in enumerate(rows):
        for j, (repeat, noise) in enumerate(columns):
            places = [Place(row, repeat, fold + 1, noise) for fold in range(folds or 1)]
            if all(place in objectives for place in places):
                found[i, j] = np.mean([objectives[place] for place in places])
    return found


def tabulate_trials(design: Design, trials: Sequence[Trial]) -> pd.DataFrame:
    """One line a trial; see ``TaguchiOracle.results`` for the columns."""
    factors = list(design.plan.factors)
    metrics = sorted({name for trial in trials for name in trial.metrics.metrics} - {SECONDS})
    # Keras logs metrics such as learning_rate, which may be a factor too.
    levels = [level_column(name) for name in factors]
    noise = [f"{NOISE}{name}" for name in design.noise_factors]
    taken = {*factors, *levels, *noise, *RESULT_COLUMNS}
    titles = {name: f"{name} (metric)" if name in taken else name for name in metrics}
    lines = [_line(design, trial, factors, titles) for trial in trials]
    columns = [*RESULT_COLUMNS[:-2], *factors, *levels, *noise, "objective", *titles.values(), "seconds"]
    return pd.DataFrame(lines, columns=columns)


def _line(design: Design, trial: Trial, factors: Sequence[str], titles: dict[str, str]) -> dict[str, Any]:
    values, completed = trial.hyperparameters.values, trial.status == TrialStatus.COMPLETED
    levels, place = read_levels(values, factors), read_place(values)
    return {
        "trial": trial.trial_id,
        **asdict(place),
        "status": trial.status,
        **{f"{NOISE}{name}": value for name, value in design.noise_of(place).items()},
        **{name: values[name] for name in factors},
        **{level_column(name): level for name, level in levels.items()},
        "objective": trial.score if completed else np.nan,
        **{title: _metric(trial, name) if completed else np.nan for name, title in titles.items()},
        "seconds": _metric(trial, SECONDS),
    }


def metrics_of(trial: Trial) -> dict[str, float]:
    """The metrics of a completed trial that are finite: those of its best step, and its ``seconds``."""
    if trial.status != TrialStatus.COMPLETED:
        return {}
    found = {name: _metric(trial, name) for name in trial.metrics.metrics if name != SECONDS}
    found |= {"seconds": _metric(trial, SECONDS)} if "seconds" not in found else {}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _metric(trial: Trial, name: str) -> float:
    """A metric at the trial's best step, or the last that there is."""
    if not trial.metrics.exists(name):
        return np.nan
    history = trial.metrics.get_history(name)
    best = [seen for seen in history if seen.step == trial.best_step] or history[-1:]
    return float(best[0].mean())


FINISHED = (TrialStatus.COMPLETED, TrialStatus.FAILED)
"""Statuses of a trial that is not run again."""


def mark_rows_at(design: Design, levels: Mapping[str, Sequence[Any]]) -> np.ndarray:
    """Marks the rows that run at one of some levels: bool [rows].

    Args:
        design: of the experiment.
        levels: factor -> values of its levels.

    Raises:
        SettingsError: there is no such factor or level.
    """
    for name, values in levels.items():
        known = design.plan.factors.get(name)
        if wrong := [value for value in values if known is None or value not in known]:
            raise SettingsError(
                f"a level to do without must be one of the experiment's, but {name} = {wrong[0]} is none: "
                + (
                    f"{name} has {', '.join(map(str, known))}"
                    if known
                    else f"its factors are {', '.join(design.plan.factors)}"
                )
            )
    rows = [any(row[name] in values for name, values in levels.items()) for row in design.plan.settings()]
    return np.array(rows)


def find_guilty_levels(design: Design, trials: Sequence[Trial]) -> list[tuple[str, Any]]:
    """Factor and value of the levels at which no trial was completed though rows that differ failed."""
    rows = [(read_place(t.hyperparameters.values).row, t) for t in trials]
    found = []
    for name, values in design.plan.factors.items():
        for value in dict.fromkeys(values):
            own = [(row, t) for row, t in rows if t.hyperparameters.values[name] == value]
            failed = {row for row, t in own if t.status in (TrialStatus.FAILED, TrialStatus.INVALID)}
            if len(failed) > 1 and not any(t.status == TrialStatus.COMPLETED for _, t in own):
                found.append((name, value))
    return found


def analyze_trials(
    design: Design,
    trials: Sequence[Trial],
    signal: str,
    without: Mapping[str, Sequence[Any]] | None = None,
    **options: Any,
) -> Analysis:
    """Analyses completed trials; see ``TaguchiOracle.analyze``.

    Rows of which every trial failed, and those at a level to do without, are left out with a caution; so are rows that
    failed under one of the noise runs, for a ratio over fewer of them would be that of an easier test.
    """
    done = {read_place(t.hyperparameters.values): t for t in trials if t.status == TrialStatus.COMPLETED}
    objectives = {place: float(t.score) for place, t in done.items() if t.score is not None}
    rows = range(1, len(design.plan.levels) + 1)
    responses = mean_over_folds(objectives, rows, design.repeats, design.folds, design.noise_runs)
    unwanted = mark_rows_at(design, without or {})
    absent = np.isnan(responses).reshape(len(rows), design.repeats, -1)
    missing = np.asarray(absent.all(axis=1))  # [rows, noise runs]
    lost = unwanted | np.asarray(missing.any(axis=1))
    responses[lost] = np.nan
    ended = [read_place(t.hyperparameters.values).row for t in trials if t.status in FINISHED]
    empty = lost & ~unwanted & np.array([ended.count(row) < design.runs_of_row for row in rows])
    if empty.any() or lost.sum() > len(lost) - 2:
        failed = [t.message for t in trials if t.status == TrialStatus.FAILED and t.message]
        under = " under every noise run" if design.plan.noise else ""
        raise DataError(
            f"every row must have a finished repeat{under}, but there is none in {name_rows(lost & ~unwanted)} ({len(done)} of "
            f"{design.runs} trials are completed): let the search end, or run the failed trials again with "
            f"retry_failed=True{'; the last failed with: ' + failed[-1].strip().splitlines()[-1] if failed else ''}"
        )
    guilty = find_guilty_levels(design, trials)
    cautions = [
        f"Every run with {name} = {value} failed: that level cannot be chosen." for name, value in guilty
    ]
    if unwanted.any():
        named = ", ".join(f"{name} = {value}" for name, values in (without or {}).items() for value in values)
        cautions.append(f"Done without {named}: its rows are not analysed, and it cannot be chosen.")
    if (partly := lost & ~unwanted & ~np.asarray(missing.all(axis=1))).any():
        cautions.append(
            f"Failed under some of the noise runs, and left out whole: {name_rows(partly)}; what fails under a noise is not "
            "robust against it."
        )
    found = _analyze_responses(design, done, objectives, responses, {"signal": signal, **options})
    return replace(found, warnings=[*cautions, *found.warnings])


def _analyze_responses(
    design: Design,
    done: Mapping[Place, Trial],
    objectives: Mapping[Place, float],
    responses: np.ndarray,
    options: Mapping[str, Any],
) -> Analysis:
    """With the confirmation runs, where they were made at the optimum of the analysis."""
    partial = bool(np.isnan(responses).all(axis=1).any())
    arguments = {
        "levels": design.plan.factors,
        "partial": partial,
        "interactions": list(design.plan.crossed),
        **options,
    }
    if outer := design.plan.noise:
        arguments["levels"] = design.plan.factors | outer.factors
        arguments["noise"] = {name: np.tile(column, design.repeats) for name, column in outer.table().items()}
    found = analyze(design.plan.table(), responses, **arguments)
    repeats = max((place.repeat for place in objectives if place.row == CONFIRMATION), default=0)
    confirmed = mean_over_folds(objectives, [CONFIRMATION], repeats, design.folds, design.noise_runs)
    whole = confirmed.reshape(repeats, len(design.noise_runs))
    confirmation = (
        whole[~np.isnan(whole).any(axis=1)].ravel().tolist()
    )  # under a part of the noise it is none
    if not confirmation:
        return found
    first = next(trial for place, trial in done.items() if place.row == CONFIRMATION)
    run_at = design.settings_of(read_levels(first.hyperparameters.values, design.plan.factors))
    if run_at != design.settings_of(found.best_levels):
        found.warnings.append(
            f"The confirmation runs were made at {run_at}, which is not the optimum of this analysis: "
            "they do not confirm it."
        )
        return found
    return analyze(design.plan.table(), responses, confirmation=confirmation, **arguments)
