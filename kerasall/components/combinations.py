"""Many combinations fitted to the same rows: each scored on the same held-out images, one exported, all in a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kerasall.data.development import SELECTION, Development
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.predictions import Predictions
from kerasall.report.record_tables import CellScore, choose_cell, make_table, score_cell
from kerasall.settings import EvaluateSettings

Cell = TypeVar("Cell")
"""What names a combination; hashable."""


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
