"""The rows: what each is for, which config and data make it, and what its result depends on.

A row is a file ``rows/NAME.yaml``. It runs ``configs/NAME.yaml``, an ordinary config of kerasall, or the config that it
names among those that come with kerasall. A study computes something from finished rows, in a module of this folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, model_validator

from kerasall.errors import SettingsError, did_you_mean, first_fault
from kerasall.files import read_object, sha256_of_file, sha256_of_folder, sha256_of_json
from kerasall.models.backbones import get_backbone
from kerasall.models.weights import find_stored
from kerasall.published.papers import find_paper
from kerasall.settings.base import Positive, Strict
from kerasall.settings.factors import find_places
from kerasall.settings.loading import PATHS, load_settings
from kerasall.settings.shipped import shipped_files
from kerasall.settings.yaml_text import read_yaml

FOLDER = Path(__file__).parent
"""Of the rows that are shipped, and of what they gave."""

DATA = ("cnmc", "aria")
"""Sets of images that a row may need; the option that says where one lies is called the same."""

_PARTS = ("members", "deep_features", "sweep")
"""Settings that name networks in the place of ``model``."""


class Printed(Strict):
    """The printed cell that a row's score stands beside, as ``kerasall/published/`` holds it."""

    table: str
    """such as `Table 4`"""
    row: str
    """its names, with ` / ` between"""
    column: str
    """likewise"""
    metric: str = ""
    """of ours; "": the main one"""


class Row(Strict):
    """One row, as its file states it."""

    name: str
    says: str
    """what the row is for, in one sentence"""
    data: Literal["cnmc", "aria", "rendered"]
    """which images it needs"""
    minutes: Positive
    """about how long it takes on two cores"""
    command: Literal["run", "tune", "study"] = "run"
    """the command of kerasall, or `study`: computed from other rows"""
    config: str = ""
    """a config that comes with kerasall; "": configs/NAME.yaml"""
    repeats: Positive = 1
    """seeds"""
    paper: str = ""
    """the pipeline that rebuilds the paper it stands beside"""
    printed: Printed | None = None
    """of that paper"""
    departures: tuple[str, ...] = ()
    """what is smaller than, or otherwise as in the paper or the shipped config"""
    chosen: str = ""
    """what was chosen on the scored images; "": nothing"""
    study: str = ""
    """module of this folder; its function `make_study` makes it"""
    reads: tuple[str, ...] = ()
    """rows that a study reads"""

    @model_validator(mode="after")
    def _require_whole(self) -> Row:
        if (self.command == "study") != bool(self.study) or (self.reads and not self.study):
            raise ValueError("command: study, study: MODULE and reads: [ROW] belong together")
        if self.study and (self.config or self.repeats > 1):
            raise ValueError("a study has neither config nor repeats")
        if self.command == "tune" and self.repeats > 1:
            raise ValueError("repeats belong to command: run; a designed experiment states its own")
        if self.printed and not self.paper:
            raise ValueError("printed needs paper")
        return self


@dataclass(frozen=True)
class Places:
    """Where things lie on this machine; none of these paths may enter a result.

    Attributes:
        runs: folder of runs.
        folder: of rows, configs and results.
        cnmc, aria: folders of images; None where they are not given.
        weights: folder of pretrained weights; None likewise.
    """

    runs: Path
    folder: Path = FOLDER
    cnmc: Path | None = None
    aria: Path | None = None
    weights: Path | None = None

    def result(self, name: str) -> Path:
        """The file that keeps what a row gave; what it predicted lies in ``predictions`` beside it."""
        return self.folder / f"{name}.json"

    def data(self, row: Row) -> Path | None:
        """The images that a row needs; None where they are rendered, or not given."""
        return None if row.data == "rendered" else getattr(self, row.data)

    def config(self, row: Row) -> Path:
        """The config that a row runs."""
        return (
            shipped_files("configs")[row.config]
            if row.config
            else self.folder / "configs" / f"{row.name}.yaml"
        )


def read_rows(folder: Path = FOLDER) -> dict[str, Row]:
    """All rows by name, studies last, for they read others.

    Raises:
        SettingsError: a file is no row; the message names it, what was found and the cure.
    """
    rows = [_read_row(path) for path in sorted((folder / "rows").glob("*.yaml"))]
    found = {row.name: row for row in sorted(rows, key=lambda row: (row.command == "study", row.name))}
    for row in rows:
        for name in row.reads:
            if name not in found or found[name].study:
                cure = did_you_mean(name, found, "correct reads")
                raise SettingsError(
                    f"reads in {row.name}.yaml must name rows that are no studies, but {name!r} is none: {cure}"
                )
    return found


def _read_row(path: Path) -> Row:
    try:
        row = Row.model_validate({"name": path.stem} | (read_yaml(path, "the row") or {}))
    except (ValidationError, TypeError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else "it holds no `key: value` lines"
        raise SettingsError(f"{path} must be a row, but {fault}: see Row in results/rows.py") from None
    if row.name != path.stem:
        raise SettingsError(f"{path} must not state a name, but states {row.name!r}: take it out")
    if row.config and row.config not in (shipped := shipped_files("configs")):
        cure = did_you_mean(row.config, shipped, f"leave it out for configs/{path.name}")
        raise SettingsError(f"config in {path} must name a config of kerasall, but is {row.config!r}: {cure}")
    if row.paper:
        find_printed(row)
    return row


def find_printed(row: Row) -> dict[str, str] | None:
    """The printed cell beside a row, and how it came about; None where the row names none.

    Raises:
        SettingsError: there is no such paper or cell.
    """
    paper = find_paper(row.paper)
    if row.printed is None:
        return None
    for table in paper.tables:
        for line in table.rows:
            for column, cell in zip(table.columns, line.cells, strict=True):
                place = (table.name, " / ".join(filter(None, line.name)), " / ".join(column.name))
                if place == (row.printed.table, row.printed.row, row.printed.column):
                    return {
                        "authors": paper.authors, "printed_in": paper.printed_in, "table": place[0], "row": place[1],
                        "column": place[2], "value": cell, "scale": column.scale, "metric": row.printed.metric,
                        "protocol": (table.protocol or paper.protocol).strip(),
                    }  # fmt: skip
    raise SettingsError(
        f"printed of {row.name} must name a cell of kerasall/published/{paper.pipeline}.yaml, but {row.printed} is none: "
        "copy the names of its table, row and column from there"
    )


def read_settings(row: Row, places: Places) -> tuple[dict[str, Any], dict[str, str]]:
    """The resolved settings of a row without any path of this machine, and the SHA-256 of files they name.

    Raises:
        SettingsError: the config is wrong, states where the data lie, or names a file outside this repository.
    """
    config = places.config(row)
    plain = load_settings(config).model_dump(mode="json")
    if plain["data"]["path"]:
        raise SettingsError(
            f"{config} must not state data.path, but does: leave it out, a row is given its data"
        )
    root, files = places.folder.resolve().parent, {}

    def within(stated: str) -> str:
        """The path from the root of the repository, and its content noted down."""
        path = Path(stated).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise SettingsError(
                f"{config} must name files of this repository alone, but names {stated}: move it here, or leave it out"
            )
        name = path.relative_to(root).as_posix()
        files[name] = sha256_of_file(path)
        return name

    def portable(value: Any) -> Any:
        if isinstance(value, list):
            return [portable(each) for each in value]
        return within(value) if value and Path(value).is_absolute() else value

    for place in [place for key in PATHS for place in find_places(plain, key)]:
        place.holder[place.index] = portable(place.value)
    plain["pipeline"] = portable(plain["pipeline"])
    return plain, files


def read_inputs(row: Row, places: Places) -> dict[str, Any]:
    """What a row's result depends on, as SHA-256: the same on every machine. "" stands for what is not at hand.

    Args:
        row: the row.
        places: where data and weights lie.

    Returns:
        ``settings``, ``data``, ``weights`` (file -> digest), ``files`` (those that the settings name), and ``digest`` of
        all of them; of a study ``study`` (its module) and ``rows``.
    """
    if row.study:
        module = places.folder / f"{row.study}.py"
        kept = {name: places.result(name) for name in row.reads}
        found: dict[str, Any] = {
            "study": sha256_of_file(module if module.is_file() else FOLDER / module.name),
            "rows": {name: _digest_of_result(path) for name, path in kept.items()},
        }
    else:
        settings, files = read_settings(row, places)
        data = places.data(row)
        found = {
            "settings": sha256_of_json([row.command, row.repeats, settings]),
            "data": "rendered" if row.data == "rendered" else _hash_data(data) if data else "",
            "weights": dict(_hash_weights(settings, places.weights)),
            "files": files,
        }
    return found | {"digest": sha256_of_json(found)}


def find_lacking(inputs: Mapping[str, Any]) -> list[str]:
    """What of a row's inputs is not at hand, in words."""
    lacking = ["its images"] if inputs.get("data") == "" else []
    lacking += [f"the weights {name}" for name, digest in inputs.get("weights", {}).items() if not digest]
    return lacking + [f"the row {name}" for name, digest in inputs.get("rows", {}).items() if not digest]


def agree(one: Any, other: Any) -> bool:
    """Whether inputs are the same as far as both are at hand; the digest of all tells nothing where some are not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = (one.keys() | other.keys()) - {"digest"}
        return all(agree(one.get(key), other.get(key)) for key in keys)
    return one == other or "" in (one, other)


def _digest_of_result(path: Path) -> str:
    """What a study reads of a row: its inputs and predictions, not how long it took."""
    if not path.is_file():
        return ""
    kept = read_object(path)
    return sha256_of_json([kept["inputs"]["digest"], kept["predictions"]["sha256"]])


@cache
def _hash_data(folder: Path) -> str:
    return sha256_of_folder(folder)


def _hash_weights(settings: Mapping[str, Any], folder: Path | None) -> Iterator[tuple[str, str]]:
    networks = [settings[name] for name in _PARTS if settings.get(name)] or [settings["model"]]
    for network in _find_networks(networks):
        if network["weights"] == "imagenet":
            backbone = get_backbone(network["backbone"])
            file = backbone.weights[network.get("alpha", 1.0)]
            stored = find_stored(file, folder) if folder else None
            yield file.name, _hash_file(stored) if stored else ""


@cache
def _hash_file(path: Path) -> str:
    return sha256_of_file(path)


def _find_networks(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with a backbone and its weights, however deep."""
    if isinstance(value, dict):
        if "backbone" in value and "weights" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _find_networks(each)
