"""The trials of a project as rows to look at: in a terminal, as CSV, on a page, in TensorBoard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from keras_tuner.engine.trial import Trial, TrialStatus

from kerasall.errors import ArtifactError, KerasallError, SettingsError
from kerasall.files import atomic_path, read_json
from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.oracle import TaguchiOracle
from kerasall.taguchi.trials import Design


@dataclass(frozen=True, eq=False)
class TrialListing:
    """A project as it stood on disk when it was read.

    Attributes:
        folder: of the project.
        design: of the experiment.
        signal: ratio that the experiment maximises.
        planned: number of trials, those included that do not exist yet.
        table: that of ``TaguchiOracle.results``.
        trials: id -> trial, in order.
        epochs: id -> metrics of every epoch, of the trials that keep them.
        best: id of the best single trial by the objective; None before any is completed.
        analysis: of the finished trials; None where that is not possible yet.
        unanalysed: why it is not.
    """

    folder: Path
    design: Design
    signal: str
    planned: int
    table: pd.DataFrame
    trials: dict[str, Trial]
    epochs: dict[str, list[dict[str, float]]]
    best: str | None
    analysis: Analysis | None
    unanalysed: str

    @property
    def statuses(self) -> dict[str, int]:
        """Status -> number of trials, those that do not exist yet as WAITING."""
        counts = {str(status): int(count) for status, count in self.table["status"].value_counts().items()}
        waiting = self.planned - len(self.table)
        return counts | ({"WAITING": waiting} if waiting else {})

    @property
    def response(self) -> str:
        """Title of the objective's column."""
        taken = {*self.design.plan.factors, "trial", "row", "repeat", "fold", "status", "seconds"}
        name = self.design.objective
        return f"{name} (metric)" if name in taken else name

    @property
    def metrics(self) -> list[str]:
        """Columns of metrics other than the objective."""
        factors = list(self.design.plan.factors)
        known = {"trial", "row", "repeat", "fold", "status", "objective", "seconds", *factors}
        known |= {f"{name} level" for name in factors} | {self.response, f"{self.design.objective} (metric)"}
        return [name for name in self.table.columns if name not in known]

    def to_json(self, table: pd.DataFrame | None = None) -> dict[str, Any]:
        """The document of ``kerasall trials --json``; absent numbers are null.

        Args:
            table: its rows in another order.
        """
        table = (self.table if table is None else table).astype(object)
        return {
            "folder": str(self.folder),
            "array": self.design.plan.array,
            "objective": self.design.objective,
            "direction": self.design.direction,
            "planned": self.planned,
            "statuses": self.statuses,
            "best": self.best,
            "trials": table.where(table.notna(), None).to_dict("records"),
            "analysis": self.analysis.to_json() if self.analysis else None,
            "not_analysed_because": self.unanalysed or None,
        }


def list_trials(folder: str | Path) -> TrialListing:
    """Reads a project folder and changes nothing in it; a search may be going on there.

    Raises:
        ArtifactError: it holds no Taguchi experiment.
    """
    folder = Path(folder).absolute()
    if not (folder / "oracle.json").is_file():
        raise ArtifactError(
            f"{folder} must hold a Taguchi experiment (oracle.json), but does not: give the project folder of a "
            "TaguchiOracle, or the name of a run"
        )
    oracle = TaguchiOracle.from_project(folder.parent, folder.name)
    table = oracle.results()
    try:
        analysis, reason = oracle.analyze(), ""
    except KerasallError as error:
        analysis, reason = None, str(error)
    completed = [t for t in oracle.trials.values() if t.status == TrialStatus.COMPLETED]
    return TrialListing(
        folder=folder,
        design=oracle.design,
        signal=oracle.signal,
        planned=int(oracle.max_trials or 0),
        table=table,
        trials={trial_id: oracle.trials[trial_id] for trial_id in table["trial"]},
        epochs={trial_id: found for trial_id in table["trial"] if (found := _read_epochs(folder, trial_id))},
        best=oracle.get_best_trials(1)[0].trial_id if completed else None,
        analysis=analysis,
        unanalysed=reason,
    )


def sort_trials(table: pd.DataFrame, column: str, direction: str) -> pd.DataFrame:
    """The table in another order; of equals the lower trial first, absent values last.

    Args:
        table: of a listing.
        column: name of a column, for the objective best first, else ascending; ``-name`` the other way round.
            A factor sorts by its level numbers.
        direction: ``max`` or ``min``, of the objective.

    Raises:
        SettingsError: there is no such column; the message names those there are.
    """
    turned = column.startswith("-") and column not in table.columns
    name = column.removeprefix("-") if turned else column
    if name not in table.columns:
        raise SettingsError(
            f"trials must be sorted by one of {', '.join(table.columns)}, but not by {name!r}"
        )
    by = f"{name} level" if f"{name} level" in table.columns else name
    ascending = (direction == "min" if name == "objective" else True) != turned
    key = (lambda values: values.map(_row_order)) if by == "row" else None
    return table.sort_values(by, ascending=ascending, kind="stable", na_position="last", key=key)


def _row_order(row: int | str) -> float:
    """Confirmation runs follow all rows."""
    return float("inf") if isinstance(row, str) else float(row)


def write_csv(listing: TrialListing, path: str | Path) -> None:
    """Writes the table as CSV, atomically: one line a trial, level numbers beside the factors' values."""
    with atomic_path(path) as temporary:
        listing.table.to_csv(temporary, index=False)


def _read_epochs(folder: Path, trial_id: str) -> list[dict[str, float]]:
    path = folder / f"trial_{trial_id}" / "epochs.json"
    return read_json(path) if path.is_file() else []
