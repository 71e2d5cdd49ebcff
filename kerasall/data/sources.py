"""SOURCES: every kind of data set there is a reader for. Adding one is one file and one row."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasall.data.aria import looks_like_aria, read_aria
from kerasall.data.cnmc import looks_like_cnmc, read_cnmc
from kerasall.data.examples import Collection
from kerasall.data.image_folder import read_image_folder
from kerasall.data.image_table import read_table
from kerasall.data.records import looks_like_records, read_records
from kerasall.data.synthetic import is_synthetic, read_synthetic
from kerasall.errors import DataError, SettingsError, did_you_mean
from kerasall.listing.tables import TABLE_SUFFIXES
from kerasall.paths import is_pipe


@dataclass(frozen=True)
class Source:
    """One kind of data set.

    Attributes:
        name: how settings and commands call it.
        reader: path and options -> Collection.
        detect: whether a path that exists holds such data, without reading any image.
        description: one line for people.
    """

    name: str
    reader: Callable[..., Collection]
    detect: Callable[[Path], bool]
    description: str


def _is_table(path: Path) -> bool:
    return is_pipe(path) or (path.is_file() and path.suffix.lower() in TABLE_SUFFIXES)


_ROWS = (
    Source(
        "synthetic", read_synthetic, is_synthetic, "rendered cells with subjects, in a folder that says so"
    ),
    Source("records", read_records, looks_like_records, "TFRecords that `kerasall data build` made"),
    Source(
        "cnmc", read_cnmc, looks_like_cnmc, "C-NMC 2019: folds and preliminary test, subjects from file names"
    ),
    Source(
        "aria", read_aria, looks_like_aria, "four-class set (Benign, Early, Pre, Pro), blocks for subjects"
    ),
    Source("csv", read_table, _is_table, "table with path, label and where known subject and fold"),
    Source(
        "folder",
        read_image_folder,
        Path.is_dir,
        "class folders, with or without patient folders and ready-made parts",
    ),
)
SOURCES: dict[str, Source] = {row.name: row for row in _ROWS}
"""Name -> row, in the order in which ``detect_source`` asks: the most particular first."""
AUTO = "auto"


def detect_source(path: str | Path) -> str:
    """Name of the first source in ``SOURCES`` that recognises ``path``.

    Raises:
        DataError: the path does not exist, or no source recognises it.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{path} must be a folder of images or a table, but does not exist: correct the path")
    for source in SOURCES.values():
        if source.detect(path):
            return source.name
    raise DataError(
        f"{path} must be a folder of images or a table (.csv, .xlsx, .parquet), but is neither: unpack it if it is an archive, "
        "name the source, or correct the path"
    )


def read_source(name: str, path: str | Path, **options: Any) -> Collection:
    """Reads a data set.

    Args:
        name: a key of ``SOURCES``, or "auto" to choose by what lies at ``path``.
        path: folder or file.
        **options: the reader's own arguments, such as ``blocks`` of "aria". With "auto" those of other
            readers may stand here too; the one that is found takes its own.

    Raises:
        SettingsError: an unknown source, or an option that no such reader takes.
        DataError: what the reader finds wrong.
    """
    if name not in (AUTO, *SOURCES):
        hint = did_you_mean(name, [AUTO, *SOURCES])
        raise SettingsError(
            f"source must be one of {[AUTO, *SOURCES]}, but is {name!r}{hint and f': {hint}'}"
        )
    allowed = list(SOURCES.values()) if name == AUTO else [SOURCES[name]]
    taken = sorted({option for source in allowed for option in _list_options(source)})
    if unknown := sorted(set(options) - set(taken)):
        names = " or ".join(source.name for source in allowed)
        raise SettingsError(
            f"source {names} takes {taken or 'no options'}, but was given {unknown}: remove them or choose another source"
        )
    source = SOURCES[detect_source(path) if name == AUTO else name]
    own = _list_options(source)
    return source.reader(path, **{option: value for option, value in options.items() if option in own})


def _list_options(source: Source) -> list[str]:
    return [name for name in inspect.signature(source.reader).parameters if name != "path"]
