"""Which run a command means: other data under one name are another run, ``NAME-2``, ``NAME-3``, ...

The data of a run are its ``data:`` settings: where they lie, and how they are read. Whatever else changes is the same
run, of which only what follows from the change is made again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kerasall.errors import SettingsError
from kerasall.locks import locked
from kerasall.pipeline.runner import RunPlaces, reserve_run
from kerasall.settings import DataSettings, Settings
from kerasall.studies.finished_run import RECORD, Run

MOST_BYTES = 200
_RESERVED = ("artifacts", "cache", "metadata.sqlite", "metadata.lock")


def find_run(root: Path, settings: Settings, name: str | None = None) -> RunPlaces:
    """The run that an experiment is, or would be; nothing is written.

    Args:
        root: folder of runs.
        settings: of the experiment.
        name: as the user gave it; None: the experiment's, counted up where that has other data.

    Raises:
        SettingsError: ``name`` is no plain folder name, or the name of a run with other data.
    """
    if name is not None:
        return _require_own(RunPlaces(root, _checked_name(name)), settings)
    wanted = RunPlaces(root, _checked_name(settings.experiment))
    numbered = sorted(_numbered(wanted))
    there = [wanted, *(RunPlaces(root, f"{wanted.name}-{number}") for number in numbered)]
    is_taken = bool(Run(wanted.folder).record)  # what cannot be read there stops here, with its cure
    own = [places for places in there if _is_own(Run(places.folder), settings)]
    if own:
        return own[0]
    if not is_taken:
        return wanted
    free = next(number for number in range(2, len(numbered) + 3) if number not in numbered)
    return RunPlaces(root, f"{wanted.name}-{free}")


def claim_run(root: Path, settings: Settings, name: str | None = None, command: str = "") -> RunPlaces:
    """As ``find_run``, and from then on every process sees that the name has these data.

    Args:
        root, settings, name: as ``find_run``.
        command: the command line, for the run's record.
    """
    with locked(root / ".lock"):  # one process at a time chooses a name
        places = find_run(root, settings, name)
        if not Run(places.folder).record:
            reserve_run(places, settings.experiment, settings.model_dump(mode="json"), command)
        return places


def describe_name(places: RunPlaces, settings: Settings, name: str | None = None) -> str:
    """A line where a run is not called as the experiment is; "" where it is."""
    if places.name == (name or settings.experiment):
        return ""
    return (
        f"the run {settings.experiment} in {places.root} has other data or settings of data: "
        f"this is the run {places.name}"
    )


def _numbered(wanted: RunPlaces) -> Iterator[int]:
    """Numbers k of the runs ``NAME-k`` that exist."""
    for file in wanted.root.glob(f"*/{RECORD}"):
        if match := re.fullmatch(re.escape(wanted.name) + r"-([1-9]\d*)", file.parent.name):
            yield int(match[1])


def _is_own(run: Run, settings: Settings) -> bool:
    """Whether a run is of this experiment and has these data, as far as it says; of one that cannot be read: no."""
    record = {} if run.record_fault else run.record
    return record.get("experiment") == settings.experiment and not _differences(record, settings)


def _require_own(places: RunPlaces, settings: Settings) -> RunPlaces:
    record = Run(places.folder).record
    if differences := _differences(record, settings):
        raise SettingsError(
            f"the run {places.name} in {places.folder} has the data {_data_of(record)}, but "
            f"{_describe(settings.data)} were asked for ({'; '.join(differences)}): give another --name, so that its "
            "report is kept, or leave --name out"
        )
    return places


def _differences(record: dict[str, Any], settings: Settings) -> list[str]:
    """What a run's settings of data and these differ in; nothing where an older run does not tell."""
    stored = (record.get("settings") or {}).get("data")
    if not stored:
        return []
    try:
        there = DataSettings.model_validate(stored)
    except ValidationError:  # of another version: what it is read from counts alone
        there = settings.data.model_copy(update={key: stored.get(key) for key in ("source", "path")})
    one, two = (_plain(each) for each in (there, settings.data))
    return [
        f"{key}: there {one.get(key)!r}, here {two.get(key)!r}" for key in two if one.get(key) != two[key]
    ]


def _plain(data: DataSettings) -> dict[str, Any]:
    """Dotted key -> value; a block of the settings is opened, a mapping that the user names is one value."""
    values = {f"data.{key}": value for key, value in data.model_dump(mode="json").items()}
    for block in ("aria", "synthetic"):
        values |= {f"data.{block}.{key}": value for key, value in values.pop(f"data.{block}").items()}
    for key in ("data.path", "data.label_csv", "data.root"):
        values[key] = values[key] and os.path.normpath(values[key])
    return values


def _data_of(record: dict[str, Any]) -> str:
    stored = record["settings"]["data"]
    return stored.get("path") or stored.get("source") or "of another kind"


def _describe(data: DataSettings) -> str:
    return data.path or data.source


def _checked_name(name: str) -> str:
    if name in _RESERVED or not name or name.startswith(".") or Path(name).name != name:
        raise SettingsError(
            f"a run's name must be a plain folder name and not one of {sorted(_RESERVED)}, but is {name!r}"
        )
    if len(os.fsencode(name)) > MOST_BYTES:
        raise SettingsError(
            f"a run's name must have at most {MOST_BYTES} bytes, for files are named after it, but {name!r} has "
            f"{len(os.fsencode(name))}: give a shorter --name, or name the config otherwise"
        )
    return name
