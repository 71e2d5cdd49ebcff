"""From finished trials to a table of raw responses and to their analysis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from keras_tuner.engine.trial import Trial, TrialStatus

from kerasall.errors import DataError
from kerasall.taguchi.analysis import Analysis, analyze
from kerasall.taguchi.trials import (
    CONFIRMATION,
    RESERVED,
    RESULT_COLUMNS,
    Design,
    Place,
    mean_over_folds,
    read_levels,
    read_place,
)

SECONDS = f"{RESERVED}seconds"
"""Metric that the oracle adds: wall-clock seconds of the run that ended the trial."""


def tabulate_trials(design: Design, trials: Sequence[Trial]) -> pd.DataFrame:
    """One line a trial; see ``TaguchiOracle.results`` for the columns."""
    factors = list(design.plan.factors)
    metrics = sorted({name for trial in trials for name in trial.metrics.metrics} - {SECONDS})
    # Keras logs metrics such as learning_rate, which may be a factor too.
    titles = {name: f"{name} (metric)" if name in {*factors, *RESULT_COLUMNS} else name for name in metrics}
    lines = [_line(trial, factors, titles) for trial in trials]
    levels = [f"{name} level" for name in factors]
    columns = [*RESULT_COLUMNS[:-2], *factors, *levels, "objective", *titles.values(), "seconds"]
    return pd.DataFrame(lines, columns=columns)


def _line(trial: Trial, factors: Sequence[str], titles: dict[str, str]) -> dict[str, Any]:
    values, completed = trial.hyperparameters.values, trial.status == TrialStatus.COMPLETED
    place, levels = read_place(values), read_levels(values, factors)
    return {
        "trial": trial.trial_id,
        "row": place.row,
        "repeat": place.repeat,
        "fold": place.fold,
        "status": trial.status,
        **{name: values[name] for name in factors},
        **{f"{name} level": level for name, level in levels.items()},
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


def analyze_trials(design: Design, trials: Sequence[Trial], signal: str, **options: Any) -> Analysis:
    """Analyses completed trials; see ``TaguchiOracle.analyze``."""
    done = {read_place(t.hyperparameters.values): t for t in trials if t.status == TrialStatus.COMPLETED}
    objectives = {place: float(t.score) for place, t in done.items() if t.score is not None}
    rows = range(1, len(design.plan.levels) + 1)
    responses = mean_over_folds(objectives, rows, design.repeats, design.folds)
    empty = [row for row, found in zip(rows, responses, strict=True) if np.isnan(found).all()]
    if empty:
        raise DataError(
            f"every row must have a finished repeat, but row {', '.join(map(str, empty[:5]))}"
            f"{' and more' if len(empty) > 5 else ''} has none ({len(done)} of {design.runs} trials are completed): "
            "let the search end, or run the failed trials again with retry_failed=True"
        )
    arguments = {"signal": signal, "levels": design.plan.factors, **options}
    found = analyze(design.plan.table(), responses, **arguments)
    confirmation = _confirmation(objectives, design)
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


def _confirmation(objectives: dict[Place, float], design: Design) -> list[float]:
    """Responses of the confirmation runs, one a repeat; empty if there are none."""
    repeats = max((place.repeat for place in objectives if place.row == CONFIRMATION), default=0)
    found = mean_over_folds(objectives, [CONFIRMATION], repeats, design.folds)[0]
    return found[~np.isnan(found)].tolist()
