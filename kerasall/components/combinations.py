"""Many combinations fitted to the same rows: each scored on the same held-out images, one exported, all in a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from kerasall.data.development import SELECTION, Development, Facts
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.metrics import confusion_matrix, find_metric
from kerasall.evaluation.predictions import Predictions
from kerasall.settings import EvaluateSettings

BESIDE = ("balanced_accuracy", "precision_macro", "f1_macro")
"""Metrics shown beside the main one; the macro averages are those that papers print."""


Cell = TypeVar("Cell")
"""What names a combination; hashable."""


@dataclass(frozen=True, eq=False)
class CellScore:
    """Scores of one combination with their intervals, the main one first, and its confusion matrix (true classes down)."""

    intervals: Mapping[str, Interval]
    matrix: np.ndarray

    @property
    def main(self) -> Interval:
        """The main metric."""
        return next(iter(self.intervals.values()))

    @property
    def others(self) -> dict[str, Interval]:
        """The other metrics by name."""
        return dict(list(self.intervals.items())[1:])

    def to_json(self) -> dict[str, Any]:
        """Values by name, for programs; None: not defined."""
        return {
            "main": self.main.to_json(),
            **{name: found.value for name, found in self.others.items()},
            "intervals": {name: [found.low, found.high] for name, found in self.intervals.items()},
            "confusion_matrix": self.matrix.tolist(),
        }


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

    def mean(self, name: str, cells: Iterable[Cell]) -> float | None:
        """Mean of a metric over some combinations; None where it is not defined for one."""
        values = [self.scores[cell].intervals[name].value for cell in cells]
        return None if None in values else float(np.mean([value for value in values if value is not None]))

    @property
    def metrics(self) -> dict[str, str]:
        """Name -> title of the scores of every combination, the main one first."""
        names = [self.evaluate.main_metric, *_beside(self.evaluate)]
        return {name: find_metric(name, self.data.facts.labels).title for name in names}

    def describe(
        self, what: str, columns: Sequence[str], show: Callable[[Cell], tuple[str | int, ...]],
        name: Callable[[Cell], dict[str, Any]], beside: Mapping[Cell, dict[str, Any]] | None = None,
        notes: Sequence[str] = (),
    ) -> dict[str, Any]:  # fmt: skip
        """What training.json says of them: the chosen one, the images that chose it (None where the config named
        it), every score, and the table for the report.

        Args:
            what: was combined, for the table's caption.
            columns: headings of what makes up a combination.
            show: a combination's cells below these headings.
            name: a combination's parts by name, for programs.
            beside: what else is known of a combination, by name.
            notes: sentences below the table.
        """
        combinations, rows = [], []
        for cell, score in self.scores.items():
            first, *others = map(str, show(cell))
            marked = _cell(first, "exported", "good") if cell == self.chosen else first
            values = [show_share(found.value) for found in score.others.values()]
            rows.append([marked, *others, _show_interval(score.main), *values])
            combinations.append(name(cell) | (beside or {}).get(cell, {}) | score.to_json())
        table = {
            "caption": f"{what}, scored on {self.data.compared} images",
            "columns": [*columns, *(f">{title}" for title in self.metrics.values())],
            "rows": rows,
            "notes": [self._describe_choice(), *notes],
            "tall": len(rows) > 12,
        }
        made = {
            "chosen": name(self.chosen),
            "chosen_on": None if self.named else self.data.compared,
            "compared_on": self.data.compared,
        }
        return {**made, "combinations": combinations, "tables": [table]}

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
    predictions: Mapping[Cell, Predictions], data: Development, evaluate: EvaluateSettings, seed: int,
    named: Cell | None, exportable: Callable[[Cell], bool] = lambda _: True,
) -> Comparison[Cell]:  # fmt: skip
    """Scores every combination's predictions of the same held-out images, and chooses what is exported.

    Args:
        predictions: combination -> predictions.
        data: the rows to develop on.
        evaluate: metrics and resamples.
        seed: of the intervals.
        named: what the config names; None takes the best by the main metric.
        exportable: whether a combination may be chosen.
    """
    metric = find_metric(evaluate.main_metric, data.facts.labels)
    scores = {cell: _score_cell(each, data.facts, evaluate, seed) for cell, each in predictions.items()}

    def goodness(cell: Cell) -> float:
        value = scores[cell].main.value
        return -np.inf if value is None else value if metric.direction == "higher" else -value

    chosen = (
        max(filter(exportable, scores), key=goodness) if named is None else named
    )  # of equal ones the first
    return Comparison(data, evaluate, scores, chosen, named is not None)


def _score_cell(predictions: Predictions, facts: Facts, evaluate: EvaluateSettings, seed: int) -> CellScore:
    """Scores one combination by the experiment's main metric, and by those of ``BESIDE``."""
    scorer = Scorer(predictions, facts.malignant, evaluate.resamples, seed)
    found = scorer.intervals([evaluate.main_metric, *_beside(evaluate)])
    return CellScore(found, confusion_matrix(predictions))


def _beside(evaluate: EvaluateSettings) -> list[str]:
    names = dict.fromkeys([*BESIDE, *evaluate.metrics])
    return [name for name in names if name != evaluate.main_metric]


def show_share(value: float | None) -> str:
    """A score in a table of combinations."""
    return "not defined" if value is None else f"{value:.4f}"


def _show_interval(interval: Interval) -> dict[str, Any]:
    found = interval.low is not None and interval.high is not None
    note = f"{interval.low:.4f} to {interval.high:.4f}" if found else ""
    return _cell(show_share(interval.value), note)


def _cell(text: str, note: str = "", tone: str = "") -> dict[str, Any]:
    return {"text": text, "note": note, "tone": tone, "share": None}
