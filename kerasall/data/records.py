"""A data set as TFRecords: writing them, and reading index, table and the images' bytes without TensorFlow.

A folder of records holds

    records.json                      the index: counts, classes, notes, fingerprint, SHA-256 of every file
    examples.csv                      one row per image: what is known of it, and where its bytes lie
    images-00000-of-00004.tfrecord    the images, each a ``tf.train.Example`` with ``image`` (bytes of a file that
                                      ``decode_image(channels=3)`` reads), ``label`` (the class index in the order
                                      of the index's ``labels``) and the texts ``TEXT_FEATURES``

A TFRecord is a file of framed messages, in which the bytes of each image stand unbroken. The table says
at which offset, so one image is read by one seek, in any order, from many threads.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from kerasall.csv_tables import read_csv, write_csv
from kerasall.data.duplicates import NearDuplicateSettings, group_collection
from kerasall.data.examples import COLUMNS, Collection, make_examples
from kerasall.decoding import DEFAULT_LIMITS, Limits, read_header, read_image_bytes, to_native
from kerasall.errors import ArtifactError, DataError, DecodingError, SettingsError
from kerasall.files import atomic_path, read_json, sha256_of_file, write_json
from kerasall.listing.folders import require_folder
from kerasall.runtime import show_progress

if TYPE_CHECKING:
    import tensorflow as tf

INDEX = "records.json"
TABLE = "examples.csv"
EXTRACTED = "extracted"
"""Folder of the image files that ``read_records`` writes for readers of files."""
SCHEMA_VERSION = 1
TEXT_FEATURES = ("id", "subject", "group", "fold", "sha256")
TABLE_COLUMNS = ("id", "label", *TEXT_FEATURES[1:], "image_sha256", "shard", "offset", "length")
"""Columns of ``examples.csv``.

group         images of one group must stand on one side of a split
sha256        of the file the image came from
image_sha256  of the bytes stored, which differ where TensorFlow could not have decoded the file
shard         name of the TFRecord file
offset        bytes from the shard's start to the image's first byte
length        bytes of the image
"""
_SHARD_BYTES = 128 << 20
_HEADER_BYTES, _FOOTER_BYTES = 12, 4  # of a TFRecord's frame: length with its checksum, checksum of the data
_WRITERS = 16
_SHARD_NAME = re.compile(r"images-\d{5}-of-\d{5}\.tfrecord")
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp"}


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


def looks_like_records(path: Path) -> bool:
    """Whether ``path`` is a folder of records."""
    return (path / INDEX).is_file()


def open_records(folder: str | Path, verify: bool = True) -> Records:
    """Reads index and table.

    Args:
        folder: what ``write_records`` made.
        verify: compares the SHA-256 of every shard, which reads them all once; else only their sizes.

    Raises:
        ArtifactError: a file is missing, changed, or of another schema version; the message names it.
    """
    folder = require_folder(folder)
    index = read_json(folder / INDEX)
    version = index.get("schema_version") if isinstance(index, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{folder / INDEX} must be an index of records of schema version {SCHEMA_VERSION}, but has {version}: "
            "build the records again with this kerasall"
        )
    _require_unchanged(folder / TABLE, index["table"], verify=True)
    for shard in index["shards"]:
        if not _SHARD_NAME.fullmatch(shard["file"]):
            raise ArtifactError(
                f"{folder / INDEX} must name shards of its own folder, but names {shard['file']!r}"
            )
        _require_unchanged(folder / shard["file"], shard, verify)
    table = read_csv(folder / TABLE)
    if not set(table["shard"]) <= {shard["file"] for shard in index["shards"]}:
        raise ArtifactError(f"{folder / TABLE} must name shards of {INDEX} alone: build the records again")
    return Records(folder, index, table.astype({"offset": "int64", "length": "int64"}))


def write_records(
    collection: Collection,
    folder: str | Path,
    *,
    shards: int | None = None,
    near_duplicate_settings: NearDuplicateSettings | None = None,
    limits: Limits = DEFAULT_LIMITS,
    workers: int | None = None,
) -> Records:
    """Writes a collection as TFRecords; the folder appears complete or not at all.

    Bytes of images are kept as they are, or become a PNG of the same pixels where TensorFlow would refuse or
    misread them. Examples are sorted by id and dealt to the shards in turn, so every shard holds every
    class; equal images give equal bytes of every file, wherever they lie.

    Args:
        collection: what to write.
        folder: where; must not exist, or be empty.
        shards: number of files, 1 to the number of images; None for one per 128 MiB.
        near_duplicate_settings: thresholds of the near duplicates that are kept in one group.
        limits: what is refused as too large.
        workers: threads that read images; None for one per processor.

    Raises:
        SettingsError: a folder that holds something, or a number of shards out of range.
        DataError: unreadable images, or near duplicates that would join too much.
    """
    folder, images = Path(os.path.abspath(Path(folder).expanduser())), len(collection.examples)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} must not exist or be empty, but holds something: name another folder")
    if shards is not None and not 1 <= shards <= images:
        raise SettingsError(
            f"shards must be between 1 and the {images} images, but is {shards}: correct --shards"
        )
    table, fingerprint = group_collection(
        collection, settings=near_duplicate_settings, limits=limits, workers=workers
    )
    count = shards or min(len(table), -(-int(table["bytes"].sum()) // _SHARD_BYTES))
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        placed = _write_shards(temporary, table, collection, count, limits)
        write_csv(placed[list(TABLE_COLUMNS)], temporary / TABLE)
        write_json(temporary / INDEX, _describe(collection, placed, fingerprint, temporary))
    return open_records(folder, verify=False)


def read_records(path: str | Path) -> Collection:
    """Reads a folder of records as a collection.

    Each image is written once into the folder ``extracted`` beside the shards; the paths are those of these files,
    so that every reader of files can follow.

    Raises:
        ArtifactError: as ``open_records``.
    """
    records = open_records(path)
    index = records.index
    known = records.table[[name for name in COLUMNS if name != "path"]].assign(path=_extract(records))
    rows = [{str(key): value for key, value in row.items()} for row in known.to_dict("records")]
    return Collection(
        source="records",
        root=records.folder,
        examples=make_examples(rows),
        labels=tuple(index["labels"]),
        malignant=tuple(index["malignant"]),
        subject_kind=index["subject_kind"],
        notes=tuple(index["notes"]),
        read_warnings=tuple(index["read_warnings"]),
        joined_subjects=tuple(tuple(subjects) for subjects in index.get("joined_subjects", ())),
    )


def read_record_image(shard: Path, offset: int, length: int) -> bytes:
    """Reads the bytes of one image out of a shard.

    Raises:
        DecodingError: unreadable, or cut short; the message names the shard.
    """
    name = f"{shard}#{offset}+{length}"
    try:
        with open(shard, "rb") as file:
            file.seek(offset)
            data = file.read(length)
    except OSError as error:
        raise DecodingError(f"{name} must be readable, but reading it failed: {error.strerror}") from None
    if len(data) != length:
        raise DecodingError(
            f"{name} must lie whole in its shard, but the shard ends before: build the records again"
        )
    return data


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
    rows = list(records.table[["shard", "offset", "length", "image_sha256"]].itertuples(index=False))
    # In threads: what takes long is not the copying but the disk's word that each file has arrived.
    with ThreadPoolExecutor(_WRITERS) as threads:
        files = threads.map(lambda row: str(_extract_image(records.folder, folder, *row)), rows)
        return list(show_progress(files, len(rows), "Extracting images"))


def _extract_image(root: Path, folder: Path, shard: str, offset: int, length: int, sha256: str) -> Path:
    # The kind is not in the name that is looked for: an extracted image needs no look at its bytes.
    for suffix in _SUFFIXES.values():
        file = folder / f"{sha256}{suffix}"
        if file.is_file() and file.stat().st_size == length:
            return file
    data = read_record_image(root / shard, offset, length)
    file = folder / f"{sha256}{_SUFFIXES[read_header(data, name=f'{root / shard}#{offset}+{length}').format]}"
    try:
        with atomic_path(file) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise ArtifactError(
            f"{folder} must take the image files of the records, but writing failed ({error.strerror}): make room or "
            "make it writable, or copy the records elsewhere"
        ) from None
    return file


def _write_shards(
    folder: Path, table: pd.DataFrame, collection: Collection, count: int, limits: Limits
) -> pd.DataFrame:
    """Writes the files; gives the table with the place of every image."""
    class_index = {label: index for index, label in enumerate(collection.labels)}
    examples = table.assign(class_index=table["label"].map(class_index))
    places = (
        place
        for shard in range(count)
        for place in _write_shard(
            folder / f"images-{shard:05d}-of-{count:05d}.tfrecord", examples.iloc[shard::count], limits
        )
    )
    found = pd.DataFrame(show_progress(places, len(table), "Writing records")).set_index("row")
    return table.join(found)


def _write_shard(path: Path, examples: pd.DataFrame, limits: Limits) -> Iterator[dict[str, Any]]:
    """Writes one file; yields row and place of every image."""
    import tensorflow as tf

    position = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row, (_, example) in zip(examples.index.tolist(), examples.iterrows(), strict=True):
            data = read_image_bytes(example["path"], limits)
            if hashlib.sha256(data).hexdigest() != example["sha256"]:
                raise DataError(
                    f"{example['path']} must not change while it is read, but did: build the records again"
                )
            image = to_native(data, limits, example["path"])
            message = _make_example(example, image).SerializeToString(deterministic=True)
            writer.write(message)
            # Wherever the bytes are found first, they are those of the image.
            offset = position + _HEADER_BYTES + message.index(image)
            yield {"row": row, "shard": path.name, "offset": offset, "length": len(image),
                   "image_sha256": hashlib.sha256(image).hexdigest()}  # fmt: skip
            position += _HEADER_BYTES + len(message) + _FOOTER_BYTES


def _make_example(example: pd.Series, image: bytes) -> tf.train.Example:
    import tensorflow as tf

    def feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[example["class_index"]]))
    texts = {name: feature(example[name].encode("utf-8")) for name in TEXT_FEATURES}
    features = {"image": feature(image), "label": label, **texts}
    return tf.train.Example(features=tf.train.Features(feature=features))


def _describe(collection: Collection, table: pd.DataFrame, fingerprint: str, folder: Path) -> dict[str, Any]:
    classes = table["label"].value_counts()
    shards = table["shard"].value_counts()
    return {
        "schema_version": SCHEMA_VERSION,
        "made_from": collection.source,
        "images": len(table),
        "labels": list(collection.labels),
        "classes": {label: int(classes.get(label, 0)) for label in collection.labels},
        "malignant": list(collection.malignant),
        "subject_kind": collection.subject_kind,
        "subjects": int(table.loc[table["subject"] != "", "subject"].nunique()),
        "groups": int(table["group"].nunique()),
        "folds": {fold: int(n) for fold, n in sorted(table["fold"].value_counts().items()) if fold},
        "transcoded": int((~table["native"]).sum()),
        "notes": list(collection.notes),
        "read_warnings": list(collection.read_warnings),
        "joined_subjects": [list(subjects) for subjects in collection.joined_subjects],
        "fingerprint": fingerprint,
        "table": _identify(folder / TABLE),
        "shards": [_identify(folder / name) | {"images": int(shards[name])} for name in sorted(shards.index)],
    }


def _identify(path: Path) -> dict[str, Any]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
