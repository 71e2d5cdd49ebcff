"""Tables of many combinations: scored, the best chosen, kept in a TrainingRecord for its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasall.data.development import Facts
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.predictions import Predictions
from kerasall.settings import EvaluateSettings

BESIDE = ("balanced_accuracy", "precision_macro", "f1_macro")
"""Metrics shown beside the main one; the macro averages are those that papers print."""


@dataclass(frozen=True, eq=False)
class CellScore:
    """Scores of one combination: the main one with its interval, the others plain; None: not defined."""

    main: Interval
    others: Mapping[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Values by name, for programs."""
        return {"main": self.main.to_json(), **self.others}


def score_cell(predictions: Predictions, facts: Facts, evaluate: EvaluateSettings, seed: int) -> CellScore:
    """Scores one combination by the experiment's main metric, and by those of ``BESIDE``."""
    main = Scorer(predictions, facts.malignant, evaluate.resamples, seed).interval(evaluate.main_metric)
    values = {
        name: find_metric(name, facts.labels)(predictions, facts.malignant) for name in _beside(evaluate)
    }
    return CellScore(main, {name: None if np.isnan(value) else value for name, value in values.items()})


def choose_cell(scores: Mapping[Any, CellScore], facts: Facts, evaluate: EvaluateSettings) -> Any:
    """Key of the best score by the main metric; of equal ones the first."""
    sign = 1 if find_metric(evaluate.main_metric, facts.labels).direction == "higher" else -1
    values = {
        key: -np.inf if score.main.value is None else sign * score.main.value for key, score in scores.items()
    }
    return max(values, key=lambda key: values[key])


def make_table(
    caption: str,
    names: Sequence[str],
    rows: Sequence[tuple[Sequence[str | int], CellScore]],
    facts: Facts,
    evaluate: EvaluateSettings,
    *,
    chosen: int,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """A table of scored combinations as a report's template shows it: caption, columns, rows, notes, tall.

    Args:
        caption: what the rows are, and on which images they are scored.
        names: headings of what makes up a combination.
        rows: what makes up each combination, and its scores.
        facts, evaluate: as for ``score_cell``.
        chosen: number of the row that is exported.
        notes: sentences below.
    """
    metrics = [find_metric(name, facts.labels).title for name in (evaluate.main_metric, *_beside(evaluate))]
    cells = []
    for number, (key, score) in enumerate(rows):
        first: Any = str(key[0])
        if number == chosen:
            first = _cell(first, "exported", "good")
        others = [_show(value) for value in score.others.values()]
        cells.append([first, *map(str, key[1:]), _show_interval(score.main), *others])
    return {
        "caption": caption,
        "columns": [*names, *(f">{title}" for title in metrics)],
        "rows": cells,
        "notes": list(notes),
        "tall": len(cells) > 12,
    }


def _beside(evaluate: EvaluateSettings) -> list[str]:
    names = dict.fromkeys([*BESIDE, *evaluate.metrics])
    return [name for name in names if name != evaluate.main_metric]


def _show(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"


def _show_interval(interval: Interval) -> dict[str, Any]:
    found = interval.low is not None and interval.high is not None
    note = f"{interval.low:.4f} to {interval.high:.4f}" if found else ""
    return _cell(_show(interval.value), note)


def _cell(text: str, note: str = "", tone: str = "") -> dict[str, Any]:
    return {"text": text, "note": note, "tone": tone, "share": None}
