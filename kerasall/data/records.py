"""A data set as TFRecords: the index, the table, and the images' bytes, all without TensorFlow.

A folder of records holds

    records.json                      the index: counts, classes, notes, fingerprint, SHA-256 of every file
    examples.csv                      one row per image: what is known of it, and where its bytes lie
    images-00000-of-00004.tfrecord    the images, as ``tf.train.Example``; see ``record_files``

A TFRecord is a file of framed messages, in which the bytes of each image stand unbroken. The table says
at which offset, so one image is read by one seek, in any order, from many threads.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kerasall.data.examples import COLUMNS, Collection, make_examples
from kerasall.data.image_folder import require_folder
from kerasall.data.statistics import show_progress
from kerasall.decoding import DEFAULT_LIMITS, Limits, read_header, read_image_bytes
from kerasall.errors import ArtifactError, DecodingError
from kerasall.files import atomic_path, read_json, sha256_of_file

INDEX = "records.json"
TABLE = "examples.csv"
EXTRACTED = "extracted"
"""Folder of the image files that ``read_records`` writes for readers of files."""
SCHEMA_VERSION = 1

TABLE_COLUMNS = (
    "id",
    "label",
    "subject",
    "group",
    "fold",
    "sha256",
    "image_sha256",
    "shard",
    "offset",
    "length",
)
"""Columns of ``examples.csv``.

group         images of one group must stand on one side of a split
sha256        of the file the image came from
image_sha256  of the bytes stored, which differ where TensorFlow could not have decoded the file
shard         name of the TFRecord file
offset        bytes from the shard's start to the image's first byte
length        bytes of the image
"""

_WRITERS = 16
_SHARD_NAME = re.compile(r"images-\d{5}-of-\d{5}\.tfrecord")
_IMAGE_PATH = re.compile(r"(?P<shard>.+\.tfrecord)#(?P<offset>\d+)\+(?P<length>\d+)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Records:
    """An opened folder of records.

    Attributes:
        folder: where it lies.
        index: content of ``records.json``.
        table: the examples with ``TABLE_COLUMNS``, sorted by id; offset and length are int64.
    """

    folder: Path
    index: dict[str, Any]
    table: pd.DataFrame

    @property
    def shards(self) -> list[Path]:
        """The TFRecord files, in order."""
        return [self.folder / shard["file"] for shard in self.index["shards"]]

    @property
    def paths(self) -> list[str]:
        """Where each image's bytes lie, for ``read_record_image``: ``<shard>#<offset>+<length>``."""
        rows = zip(*(self.table[name].tolist() for name in ("shard", "offset", "length")), strict=True)
        return [f"{self.folder / shard}#{offset}+{length}" for shard, offset, length in rows]


def looks_like_records(path: Path) -> bool:
    """Whether ``path`` is a folder of records."""
    return (path / INDEX).is_file()


def open_records(folder: str | Path, verify: bool = True) -> Records:
    """Reads index and table.

    Args:
        folder: what ``record_files.write_records`` made.
        verify: compares the SHA-256 of every shard, which reads them all once; else only their sizes.

    Raises:
        ArtifactError: a file is missing, changed, or of another schema version; the message names it.
    """
    folder = require_folder(folder)
    index = read_json(folder / INDEX)
    _require_version(index, folder / INDEX)
    _require_unchanged(folder / TABLE, index["table"], verify=True)
    for shard in index["shards"]:
        if not _SHARD_NAME.fullmatch(shard["file"]):
            raise ArtifactError(
                f"{folder / INDEX} must name shards of its own folder, but names {shard['file']!r}"
            )
        _require_unchanged(folder / shard["file"], shard, verify)
    table = pd.read_csv(folder / TABLE, dtype=str, keep_default_na=False, encoding="utf-8")
    if not set(table["shard"]) <= {shard["file"] for shard in index["shards"]}:
        raise ArtifactError(f"{folder / TABLE} must name shards of {INDEX} alone: build the records again")
    return Records(folder, index, table.astype({"offset": "int64", "length": "int64"}))


def read_records(path: str | Path, extract: bool = True, verify: bool = True) -> Collection:
    """Reads a folder of records as a collection.

    Args:
        path: the folder.
        extract: writes each image once into the folder ``extracted`` beside the shards and gives the paths
            of these files, so that every reader of files can follow. Without it the paths are those of
            ``Records.paths``, which ``read_record_image`` reads: give it to ``decode_pixels`` as ``read``.
        verify: see ``open_records``.

    Raises:
        ArtifactError: as ``open_records``.
    """
    records = open_records(path, verify)
    index = records.index
    paths = _extract(records) if extract else records.paths
    known = records.table[[name for name in COLUMNS if name != "path"]].assign(path=paths)
    return Collection(
        source="records",
        root=records.folder,
        examples=make_examples(
            [{str(key): value for key, value in row.items()} for row in known.to_dict("records")]
        ),
        labels=tuple(index["labels"]),
        malignant=tuple(index["malignant"]),
        subject_kind=index["subject_kind"],
        notes=tuple(index["notes"]),
        read_warnings=tuple(index["read_warnings"]),
    )


def read_record_image(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Reads the bytes of one image: of a path of ``Records.paths``, or else of an ordinary file.

    Raises:
        DecodingError: unreadable, cut short, or too large; the message names the path.
    """
    match = _IMAGE_PATH.fullmatch(str(path))
    if match is None:
        return read_image_bytes(path, limits)
    offset, length = int(match["offset"]), int(match["length"])
    if length > limits.max_bytes:
        raise DecodingError(
            f"{path} must have at most {limits.max_bytes:,} bytes, but has {length:,}: raise the limit"
        )
    try:
        with open(match["shard"], "rb") as shard:
            shard.seek(offset)
            data = shard.read(length)
    except OSError as error:
        raise DecodingError(f"{path} must be readable, but reading it failed: {error.strerror}") from None
    if len(data) != length:
        raise DecodingError(
            f"{path} must lie whole in its shard, but the shard ends before: build the records again"
        )
    return data


def _require_version(index: Any, path: Path) -> None:
    version = index.get("schema_version") if isinstance(index, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} must be an index of records of schema version {SCHEMA_VERSION}, but has {version}: "
            "build the records again with this kerasall"
        )


def _require_unchanged(path: Path, stated: dict[str, Any], verify: bool) -> None:
    size = path.stat().st_size if path.is_file() else -1
    if size != stated["bytes"] or (verify and sha256_of_file(path) != stated["sha256"]):
        found = "is missing" if size < 0 else "has changed since, or was not copied whole"
        raise ArtifactError(
            f"{path} must be as it was built, but {found}: copy it again, or build the records again"
        )


def _extract(records: Records) -> list[str]:
    """Paths of the image files, written where they are not yet there; named by content, never by id."""
    folder = records.folder / EXTRACTED
    images = zip(records.paths, records.table["image_sha256"], records.table["length"], strict=True)
    # In threads: what takes long is not the copying but the disk's word that each file has arrived.
    with ThreadPoolExecutor(_WRITERS) as threads:
        files = threads.map(lambda row: str(_extract_image(row[0], row[1], row[2], folder)), images)
        return list(show_progress(files, len(records.table), "Extracting images"))


def _extract_image(path: str, sha256: str, length: int, folder: Path) -> Path:
    # The kind is not in the name that is looked for: an extracted image needs no look at its bytes.
    for suffix in (".jpg", ".png", ".bmp"):
        file = folder / f"{sha256}{suffix}"
        if file.is_file() and file.stat().st_size == length:
            return file
    data = read_record_image(path)
    suffix = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp"}[read_header(data, name=path).format]
    try:
        with atomic_path(folder / f"{sha256}{suffix}") as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise ArtifactError(
            f"{folder} must take the image files of the records, but writing failed ({error.strerror}): make room or "
            "make it writable, or copy the records elsewhere"
        ) from None
    return folder / f"{sha256}{suffix}"
