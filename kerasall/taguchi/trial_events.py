"""Trials as TensorBoard event files: factors and metrics for its HParams tab, epochs for its curves.

    <folder>/events...          the experiment: every factor with its levels, every metric
    <folder>/0007/events...     trial 0007: its factors, its place, its metrics, its epochs

keras-tuner writes hyperparameters only through a TensorBoard callback of the caller, so neither for
``run`` functions nor the metrics of the epoch that counts.
"""

# pyright: reportAttributeAccessIssue=false
# (protobuf makes the names of its modules when they are imported)

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_tuner.engine.trial import Trial, TrialStatus
from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api, api_pb2
from tensorboard.plugins.hparams.summary import session_end_pb
from tensorboard.plugins.hparams.summary_v2 import hparams_config_pb, hparams_pb
from tensorboard.plugins.scalar.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from kerasall.files import atomic_path
from kerasall.taguchi.trial_listing import TrialListing
from kerasall.taguchi.trial_results import metrics_of
from kerasall.taguchi.trials import Design, read_levels, read_place

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
    summary = hparams_config_pb(
        hparams=[
            *[api.HParam(name, _domain(values)) for name, values in design.plan.factors.items()],
            *[api.HParam(f"{name} level", description="number of the level") for name in _twins(design)],
            api.HParam("row", description="row of the array, or confirmation"),
            api.HParam("repeat"),
            *([api.HParam("fold")] if design.folds else []),
        ],
        metrics=[api.Metric(name) for name in [design.objective, *sorted(seen)]],
        time_created_secs=0,
    )
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


def _twins(design: Design) -> list[str]:
    """Factors with dummy levels, which only the level's number tells apart."""
    return [name for name, values in design.plan.factors.items() if len(set(values)) < len(values)]


def _hparams(design: Design, trial: Trial) -> dict[str, Any]:
    values, factors = trial.hyperparameters.values, design.plan.factors
    place, levels = read_place(values), read_levels(values, factors)
    return {
        **{name: values[name] for name in factors},
        **{f"{name} level": str(levels[name]) for name in _twins(design)},
        "row": str(place.row),
        "repeat": place.repeat,
        **({"fold": place.fold} if design.folds else {}),
    }


def _domain(values: Sequence[Any]) -> api.Discrete:
    return api.Discrete(list(dict.fromkeys(values)))


def _scalar(tag: str, value: float, step: int, second: float) -> Event:
    tensor = make_tensor_proto(float(value), dtype="float32")
    summary = Summary()
    summary.value.add(tag=tag, tensor=tensor, metadata=create_summary_metadata(tag, ""))
    return _event(summary, second, step)


def _event(summary: Summary, second: float, step: int = 0) -> Event:
    return Event(wall_time=second, step=step, summary=summary)


def _write(folder: Path, events: Sequence[Event]) -> None:
    """One file, atomically; its name is that of the last file written here, so that it is replaced."""
    first = Event(
        wall_time=events[0].wall_time,
        file_version="brain.Event:2",
        source_metadata=SourceMetadata(writer="kerasall"),
    )
    old = list(folder.glob("events.out.tfevents.*.kerasall"))
    second = math.floor(events[0].wall_time)
    path = old[0] if old else folder / _FILE.format(second=second)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        writer = RecordWriter(file)
        for event in [first, *events]:
            writer.write(event.SerializeToString())
