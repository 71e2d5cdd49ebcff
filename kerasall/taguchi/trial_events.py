"""The trials of a project as rows to look at, wherever they are looked at, and as TensorBoard event files.

    <folder>/events...          the experiment: every factor with its levels, every metric
    <folder>/0007/events...     trial 0007: its factors, its place, its metrics, its epochs

HParams shows factors and metrics, the curves the epochs. keras-tuner writes hyperparameters only through a
TensorBoard callback of the caller, so neither for ``run`` functions nor the metrics of the epoch that counts.
"""

# pyright: reportAttributeAccessIssue=false
# (protobuf makes the names of its modules when they are imported)
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from keras_tuner.engine.trial import Trial, TrialStatus
from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api, api_pb2
from tensorboard.plugins.hparams.summary import session_end_pb
from tensorboard.plugins.hparams.summary_v2 import hparams_config_pb, hparams_pb
from tensorboard.plugins.scalar.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from kerasall.errors import ArtifactError, KerasallError, SettingsError
from kerasall.files import atomic_path, read_json
from kerasall.taguchi.analysis import Analysis
from kerasall.taguchi.design import NOISE
from kerasall.taguchi.oracle import TaguchiOracle
from kerasall.taguchi.trials import (
    RESULT_COLUMNS,
    Design,
    level_column,
    metrics_of,
    order_of_row,
    read_levels,
    read_place,
)

TENSORBOARD = "tensorboard"
"""Folder of a project into which a ``TaguchiTuner`` writes its trials as they end."""
EPOCHS = "epochs/"
"""What the tags of a trial's curves begin with; a metric's own tag holds the value that counts."""
_FILE = "events.out.tfevents.{second:010d}.kerasall"
_STATUS = {
    TrialStatus.COMPLETED: api_pb2.STATUS_SUCCESS,
    TrialStatus.FAILED: api_pb2.STATUS_FAILURE,
    TrialStatus.INVALID: api_pb2.STATUS_FAILURE,
    TrialStatus.RUNNING: api_pb2.STATUS_RUNNING,
}


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
        name = self.design.objective
        factors = self.design.plan.factors
        taken = {*factors, *map(level_column, factors), *RESULT_COLUMNS} - {"objective"}
        return f"{name} (metric)" if name in taken else name

    @property
    def metrics(self) -> list[str]:
        """Columns of metrics other than the objective."""
        names = list(self.table.columns)
        own = {self.response, f"{self.design.objective} (metric)"}
        return [name for name in names[names.index("objective") + 1 : -1] if name not in own]

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
        epochs={
            trial_id: found
            for trial_id in table["trial"]
            if (found := read_epochs(folder / f"trial_{trial_id}"))
        },
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
    key = (lambda values: values.map(order_of_row)) if by == "row" else None
    return table.sort_values(by, ascending=ascending, kind="stable", na_position="last", key=key)


def read_epochs(folder: Path) -> list[dict[str, float]]:
    """Metrics of the finished epochs of the trial in ``folder``, in order; none where it keeps none."""
    return read_json(folder / "epochs.json") if (folder / "epochs.json").is_file() else []


def write_events(listing: TrialListing, folder: str | Path) -> Path:
    """Writes a listing for ``tensorboard --logdir FOLDER``; what this function wrote before is replaced.

    Returns:
        The folder.
    """
    folder = Path(folder)
    write_experiment_events(folder, listing.design, listing.trials.values())
    for trial_id, trial in listing.trials.items():
        written = (listing.folder / f"trial_{trial_id}" / "trial.json").stat().st_mtime
        write_trial_events(folder, listing.design, trial, listing.epochs.get(trial_id, ()), written)
    return folder


def write_experiment_events(folder: str | Path, design: Design, trials: Iterable[Trial]) -> None:
    """Writes which factors, levels and metrics there are; needed once the metrics are known."""
    seen = {name for trial in trials for name in metrics_of(trial)} - {design.objective}
    named = {**design.plan.factors, **{f"{NOISE}{n}": values for n, values in design.noise_factors.items()}}
    levels = {name: list(dict.fromkeys(values)) for name, values in named.items()}
    hparams = [api.HParam(name, api.Discrete(values)) for name, values in levels.items()]
    dummies = design.plan.dummy_factors
    hparams += [api.HParam(f"{name} level", description="number of the level") for name in dummies]
    hparams += [api.HParam("row", description="row of the array, or confirmation"), api.HParam("repeat")]
    hparams += [api.HParam("fold")] if design.folds else []
    metrics = [api.Metric(name) for name in [design.objective, *sorted(seen)]]
    summary = hparams_config_pb(hparams=hparams, metrics=metrics, time_created_secs=0)
    _write(Path(folder), [_event(summary, 0.0)])


def write_trial_events(
    folder: str | Path, design: Design, trial: Trial, epochs: Sequence[Mapping[str, float]], ended: float
) -> None:
    """Writes one trial.

    Args:
        folder: of the experiment.
        design: of the experiment.
        trial: finished or not; only a completed trial has metrics.
        epochs: metrics of its epochs.
        ended: seconds since 1970.
    """
    metrics = metrics_of(trial)
    begun = ended - metrics.get("seconds", 0.0)
    start = hparams_pb(_hparams(design, trial), trial_id=trial.trial_id, start_time_secs=begun)
    events = [_event(start, begun)]
    for step, row in enumerate(epochs, start=1):
        events += [_scalar(f"{EPOCHS}{name}", value, step, begun) for name, value in row.items()]
    events += [_scalar(name, value, 0, ended) for name, value in metrics.items()]
    status = _STATUS.get(trial.status, api_pb2.STATUS_UNKNOWN)
    if status != api_pb2.STATUS_RUNNING:
        end = session_end_pb(status, end_time_secs=ended).SerializeToString()
        events.append(_event(Summary.FromString(end), ended))
    _write(Path(folder) / trial.trial_id, events)


def _hparams(design: Design, trial: Trial) -> dict[str, Any]:
    values, factors = trial.hyperparameters.values, design.plan.factors
    place, levels = read_place(values), read_levels(values, factors)
    return {
        **{name: values[name] for name in factors},
        **{f"{name} level": str(levels[name]) for name in design.plan.dummy_factors},
        **{f"{NOISE}{name}": value for name, value in design.noise_of(place).items()},
        "row": str(place.row),
        "repeat": place.repeat,
        **({"fold": place.fold} if design.folds else {}),
    }


def _scalar(tag: str, value: float, step: int, second: float) -> Event:
    tensor = make_tensor_proto(float(value), dtype="float32")
    summary = Summary()
    summary.value.add(tag=tag, tensor=tensor, metadata=create_summary_metadata(tag, ""))
    return _event(summary, second, step)


def _event(summary: Summary, second: float, step: int = 0) -> Event:
    return Event(wall_time=second, step=step, summary=summary)


def _write(folder: Path, events: Sequence[Event]) -> None:
    """One file, atomically; its name is that of the last file written here, so that it is replaced."""
    begun, writer = events[0].wall_time, SourceMetadata(writer="kerasall")
    first = Event(wall_time=begun, file_version="brain.Event:2", source_metadata=writer)
    old = list(folder.glob("events.out.tfevents.*.kerasall"))
    path = old[0] if old else folder / _FILE.format(second=math.floor(begun))
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        records = RecordWriter(file)
        for event in [first, *events]:
            records.write(event.SerializeToString())
