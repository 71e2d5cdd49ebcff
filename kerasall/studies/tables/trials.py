"""The designed experiment of a run as a paper's tables print one: factors, array, responses, response table, variance.

A ratio stands beside a printed one only where it is the same: η = -10 log10((mean - 1)^2) of the run's own responses, with equal
levels kept apart (Chen et al. 2021). By which ratio the run itself chose its levels is said beside it, and on which images,
where they are not those that the run is scored on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from kerasall.csv_tables import read_csv
from kerasall.data.training_record import ANALYSIS
from kerasall.evaluation.metrics import find_metric
from kerasall.files import read_json
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.members import WHILE_TRAINING, summarize
from kerasall.studies.tables.ours import Ours, none_as
from kerasall.taguchi.analysis import Analysis, analyze

_TRIALS = "trials.csv"
_SIGNAL = "target:1"
_NO_EXPERIMENT = none_as("this run has no designed experiment")
_OF_LEVEL = "level:"


@dataclass(frozen=True, eq=False)
class Experiment:
    """A designed experiment as a run keeps it.

    Attributes:
        made: what the Tuner noted down: factors, rows with their responses, the response's metric.
        signal: by which ratio the run chose its levels, in words.
        whose: what must be known of the images that the responses are of; "" where the run is scored on them.
        levels: factor -> number of its level in every row: int [rows].
        trained: accuracy on the images trained on, of every repeat of a row: float [rows, repeats].
    """

    made: Mapping[str, Any]
    signal: str
    whose: str
    levels: Mapping[str, np.ndarray]
    trained: np.ndarray

    @property
    def factors(self) -> list[Mapping[str, Any]]:
        """Name, setting and levels of each."""
        return self.made["factors"]

    @property
    def scored(self) -> np.ndarray:
        """The responses, nan where a run did not end: float [rows, repeats]."""
        return np.array([row["responses"] for row in self.made["rows"]], dtype=np.float64)

    @property
    def is_share(self) -> bool:
        """Whether η, a distance from 1, says how good a response is."""
        name = self.made["response"]["metric"]
        metric = find_metric(name, (name.partition(":")[2],))
        return metric.highest == 1 and metric.direction == "higher"

    def analyze(self) -> Analysis:
        """The analysis of η, with equal levels kept apart."""
        names = {factor["name"]: factor["levels"] for factor in self.factors}
        return analyze(
            self.levels, self.scored, signal=_SIGNAL, levels=names, levels_as="separate", partial=True
        )


@lru_cache(maxsize=4)
def read_experiment(run: Run) -> Experiment | None:
    """The designed experiment of a run; None where it has none."""
    document = read_analysis(run)
    if document is None:
        return None
    table, made = (
        read_csv(run.output("Search", _TRIALS), dtype={"trial": str, "row": str}),
        document["experiment"],
    )
    rows = [str(row["row"]) for row in made["rows"]]
    first = table.drop_duplicates("row").set_index("row")
    levels = {
        factor["name"]: first.loc[rows, f"{factor['name']} level"].to_numpy(np.int64)
        for factor in made["factors"]
    }
    scored_on = str(made.get("scored_on", ""))
    whose = (
        f"on {scored_on} images, by which the levels were chosen" if scored_on not in ("", run.scored) else ""
    )
    return Experiment(made, str(made.get("signal", "")), whose, levels, _read_trained(table, rows))


def read_analysis(run: Run) -> dict[str, Any] | None:
    """The analysis of a run's designed experiment, as its Tuner wrote it; None where it has none."""
    if not any(output.get("type") == "Search" for output in run.outputs):
        return None
    return read_json(run.output("Search", ANALYSIS))


def _read_trained(table: pd.DataFrame, rows: list[str]) -> np.ndarray:
    if "training_accuracy" not in table:
        return np.full((len(rows), 0), np.nan)
    own = table[table["row"].isin(rows)]  # the confirmation has more repeats
    means = own.pivot_table(index="row", columns="repeat", values="training_accuracy", aggfunc="mean")
    return means.reindex(rows).to_numpy(np.float64)


def read_levels(run: Run, words: Sequence[str]) -> Ours:
    """``levels/FACTOR/LEVEL``, both numbered from 1: the value."""
    made = read_experiment(run)
    if made is None:
        return _NO_EXPERIMENT
    factor, level = (int(word) - 1 for word in words)
    if factor >= len(made.factors):
        return none_as(f"this run varies {len(made.factors)} settings")
    levels = made.factors[factor]["levels"]
    return Ours(levels[level]) if level < len(levels) else none_as(f"this factor has {len(levels)} levels")


def read_array(run: Run, words: Sequence[str]) -> Ours:
    """``array/ROW/FACTOR``: the number of the level; with ``/value`` what it stands for."""
    made = read_experiment(run)
    if made is None:
        return _NO_EXPERIMENT
    row, factor = (int(word) - 1 for word in words[:2])
    if factor >= len(made.factors) or row >= len(made.made["rows"]):
        return none_as(f"this run varies {len(made.factors)} settings in {len(made.made['rows'])} rows")
    level = int(list(made.levels.values())[factor][row])
    return Ours(made.factors[factor]["levels"][level - 1] if words[2:] == ["value"] else level)


def read_trial(run: Run, words: Sequence[str]) -> Ours:
    """``trial/ROW/scored/run:N``, ``.../mean``, ``.../sd``, ``.../eta``; ``train`` for the images trained on."""
    made = read_experiment(run)
    if made is None:
        return _NO_EXPERIMENT
    row, images, what = words
    found = made.trained if images == "train" else made.scored
    if int(row) > len(found):
        return none_as(f"this run has {len(found)} rows")
    own = found[int(row) - 1]
    reason = WHILE_TRAINING if images == "train" else made.whose
    if what.startswith("run:"):
        number = int(what.removeprefix("run:"))
        if number > len(own):
            return none_as(f"this run made {len(own)} runs of every row")
        value = float(own[number - 1])
        return none_as("this run of the row did not end") if np.isnan(value) else Ours(value, reason=reason)
    if not len(own) or np.isnan(own).any():
        return none_as("not every run of the row ended, or kept its training accuracy")
    if what == "eta" and not made.is_share:
        return none_as(f"η is not defined of {made.made['response']['metric']}")
    return summarize(own.tolist(), what, reason)


def read_response(run: Run, words: Sequence[str]) -> Ours:
    """``response/FACTOR/level:N``, ``.../effect``, ``.../maximum``, ``.../best`` (a level's number), ``.../value`` (its own)."""
    analyzed = analyze_eta(run)
    if isinstance(analyzed, Ours):
        return analyzed
    made, found = analyzed
    number, what = words
    if int(number) > len(made.factors):
        return none_as(f"this run varies {len(made.factors)} settings")
    factor = made.factors[int(number) - 1]
    name, means = factor["name"], found.response_table[factor["name"]]
    reason, best = _say_origin(made), found.best_levels[factor["name"]]
    if what.startswith(_OF_LEVEL):
        level = int(what.removeprefix(_OF_LEVEL))
        if level > len(means) or means[level - 1] is None:
            return none_as(f"this factor has {len(means)} levels")
        return Ours(means[level - 1], reason=reason)
    known = [mean for mean in means if mean is not None]
    values = {
        "effect": found.effects[name],
        "maximum": max(known),
        "best": best,
        "value": factor["levels"][best - 1],
    }
    return Ours(values[what], reason=reason)


def read_anova(run: Run, words: Sequence[str]) -> Ours:
    """``anova/FACTOR/ss`` and ``df``, ``variance``, ``pure`` (the sum less the error's share), ``contribution`` (per cent).

    ``error`` and ``total`` stand for a factor's number.
    """
    analyzed = analyze_eta(run)
    if isinstance(analyzed, Ours):
        return analyzed
    made, found = analyzed
    line, what = words
    rows = {"error": found.anova.error, "total": found.anova.total}
    rows |= {str(number): row for number, row in enumerate(found.anova.rows, start=1)}
    if line not in rows:
        return none_as(f"this run varies {len(made.factors)} settings")
    row, error = rows[line], found.anova.error.mean_square or 0.0
    value = {
        "ss": row.sum_of_squares, "df": row.df, "variance": row.mean_square,
        "pure": row.sum_of_squares - row.df * error, "contribution": row.contribution_percent,
    }[what]  # fmt: skip
    return none_as("it has no degree of freedom") if value is None else Ours(value, reason=_say_origin(made))


@lru_cache(maxsize=4)
def analyze_eta(run: Run) -> tuple[Experiment, Analysis] | Ours:
    """The designed experiment of a run and the analysis of its η; or why there is none."""
    made = read_experiment(run)
    if made is None:
        return _NO_EXPERIMENT
    if not made.is_share:
        return none_as(f"η is not defined of {made.made['response']['metric']}")
    return made, made.analyze()


def _say_origin(made: Experiment) -> str:
    """What must be known where the responses are of other images, or the run chose its levels by another ratio."""
    other = f"the ratio is η of this run's responses, equal levels apart; the run itself chose its levels by {made.signal}"
    return "; ".join(filter(None, (made.whose, "" if made.signal == _SIGNAL else other)))
