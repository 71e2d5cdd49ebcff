"""Many combinations fitted to the same rows: each scored on the same held-out images, one exported, all in a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from kerasall.data.development import SELECTION, Development, Facts
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.predictions import Predictions
from kerasall.settings import EvaluateSettings

BESIDE = ("balanced_accuracy", "precision_macro", "f1_macro")
"""Metrics shown beside the main one; the macro averages are those that papers print."""


Cell = TypeVar("Cell")
"""What names a combination; hashable."""


@dataclass(frozen=True, eq=False)
class CellScore:
    """Scores of one combination: the main one with its interval, the others plain; None: not defined."""

    main: Interval
    others: Mapping[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Values by name, for programs."""
        return {"main": self.main.to_json(), **self.others}


@dataclass(frozen=True, eq=False)
class Comparison(Generic[Cell]):
    """Scores of all combinations.

    Attributes:
        data: the rows to develop on.
        evaluate: its main metric chooses.
        scores: in the order of the settings.
        chosen: the combination that is exported.
        named: whether the config names it.
    """

    data: Development
    evaluate: EvaluateSettings
    scores: Mapping[Cell, CellScore]
    chosen: Cell
    named: bool

    def describe(
        self,
        what: str,
        columns: Sequence[str],
        show: Callable[[Cell], tuple[str | int, ...]],
        name: Callable[[Cell], dict[str, Any]],
        beside: Mapping[Cell, dict[str, Any]] | None = None,
        notes: Sequence[str] = (),
    ) -> dict[str, Any]:
        """What training.json says of them: the chosen one, every score, and the table for the report.

        Args:
            what: was combined, for the table's caption.
            columns: headings of what makes up a combination.
            show: a combination's cells below these headings.
            name: a combination's parts by name, for programs.
            beside: what else is known of a combination, by name.
            notes: sentences below the table.
        """
        cells = list(self.scores)
        table = make_table(
            f"{what}, scored on {self.data.compared} images", columns,
            [(show(cell), self.scores[cell]) for cell in cells], self.data.facts, self.evaluate,
            chosen=cells.index(self.chosen), notes=[self._describe_choice(), *notes],
        )  # fmt: skip
        known = beside or {}
        return {
            "chosen": name(self.chosen),
            "combinations": [
                name(cell) | known.get(cell, {}) | self.scores[cell].to_json() for cell in cells
            ],
            "tables": [table],
        }

    def _describe_choice(self) -> str:
        metric = find_metric(self.evaluate.main_metric, self.data.facts.labels).title.lower()
        if self.named:
            return "The exported combination was named in the config, before anything was scored."
        if self.data.compared == SELECTION:
            return (
                f"The exported combination has the best {metric} on the very images it is scored on, as in the paper: "
                "that score is too high."
            )
        return (
            f"The exported combination has the best {metric} on these {self.data.compared} images; being the best of "
            "many it looks better here than it is, so quote its score on the test part, which chose nothing."
        )


def compare_cells(
    predictions: Mapping[Cell, Predictions],
    data: Development,
    evaluate: EvaluateSettings,
    seed: int,
    named: Cell | None,
    exportable: Callable[[Cell], bool] = lambda _: True,
) -> Comparison[Cell]:
    """Scores every combination's predictions of the same held-out images, and chooses what is exported.

    Args:
        predictions: combination -> predictions.
        data: the rows to develop on.
        evaluate: metrics and resamples.
        seed: of the intervals.
        named: what the config names; None takes the best by the main metric.
        exportable: whether a combination may be chosen.
    """
    scores = {cell: score_cell(each, data.facts, evaluate, seed) for cell, each in predictions.items()}
    able = {cell: score for cell, score in scores.items() if exportable(cell)}
    chosen = choose_cell(able, data.facts, evaluate) if named is None else named
    return Comparison(data, evaluate, scores, chosen, named is not None)


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
