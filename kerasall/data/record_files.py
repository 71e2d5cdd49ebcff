"""TFRecords with TensorFlow: writing a collection as sharded records, and reading them as tf.data.

``kerasall.data.records`` describes the folder and reads it without TensorFlow.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tensorflow as tf

from kerasall.data.duplicates import NearDuplicateSettings
from kerasall.data.examples import Collection
from kerasall.data.grouped_examples import group_collection
from kerasall.data.records import INDEX, SCHEMA_VERSION, TABLE, TABLE_COLUMNS, Records, open_records
from kerasall.data.statistics import show_progress
from kerasall.decoding import DEFAULT_LIMITS, Limits, read_image_bytes, to_native
from kerasall.errors import DataError, SettingsError
from kerasall.files import atomic_path, sha256_of_file, write_json

TEXT_FEATURES = ("id", "subject", "group", "fold", "sha256")
FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
    **{name: tf.io.FixedLenFeature([], tf.string) for name in TEXT_FEATURES},
}
"""What each ``tf.train.Example`` holds: the bytes of an image file that ``decode_image(channels=3)`` reads,
the class index in the order of the index's ``labels``, and the texts that ``records.TABLE_COLUMNS`` explains."""

_SHARD_BYTES = 128 << 20
_HEADER_BYTES, _FOOTER_BYTES = 12, 4  # of a TFRecord's frame: length with its checksum, checksum of the data


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
    folder = Path(os.path.abspath(Path(folder).expanduser()))
    _require_free(folder)
    _require_shards(shards, len(collection.examples))
    table, fingerprint = group_collection(
        collection, settings=near_duplicate_settings, limits=limits, workers=workers
    )
    count = shards or min(len(table), -(-int(table["bytes"].sum()) // _SHARD_BYTES))
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        placed = _write_shards(temporary, table, collection, count, limits)
        placed[list(TABLE_COLUMNS)].to_csv(temporary / TABLE, index=False)
        write_json(temporary / INDEX, _describe(collection, placed, fingerprint, temporary))
    return open_records(folder, verify=False)


def record_dataset(records: Records, batch_size: int | None = None) -> tf.data.Dataset:
    """The examples in the order of ``records.table``, one after the other or in batches.

    Returns:
        Dictionaries of ``FEATURES``: image string [] (or [B]), label int64, texts as strings. The cardinality
        is known. Reading stops with an error if the shards hold another number of examples.
    """
    files = tf.data.Dataset.from_tensor_slices([str(shard) for shard in records.shards])
    # The examples were dealt out in turn: taken up in turn, they come back in their order.
    dataset = files.interleave(
        tf.data.TFRecordDataset,
        cycle_length=len(records.shards),
        block_length=1,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(records.table)))
    if batch_size is None:
        return dataset.map(lambda data: tf.io.parse_single_example(data, FEATURES)).prefetch(tf.data.AUTOTUNE)
    batches = dataset.batch(batch_size).map(lambda data: tf.io.parse_example(data, FEATURES))
    return batches.prefetch(tf.data.AUTOTUNE)


@dataclass(frozen=True)
class _Place:
    """Where an image's bytes lie."""

    row: int
    shard: str
    offset: int
    length: int
    image_sha256: str


def _require_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} must not exist or be empty, but holds something: name another folder")


def _require_shards(shards: int | None, images: int) -> None:
    if shards is not None and not 1 <= shards <= images:
        raise SettingsError(
            f"shards must be between 1 and the {images} images, but is {shards}: correct --shards"
        )


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


def _write_shard(path: Path, examples: pd.DataFrame, limits: Limits) -> Iterator[_Place]:
    position = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row, (_, example) in zip(examples.index.tolist(), examples.iterrows(), strict=True):
            image = _read_image(example, limits)
            message = _serialize(example, image)
            writer.write(message)
            # Wherever the bytes are found first, they are those of the image.
            offset = position + _HEADER_BYTES + message.index(image)
            yield _Place(row, path.name, offset, len(image), hashlib.sha256(image).hexdigest())
            position += _HEADER_BYTES + len(message) + _FOOTER_BYTES


def _read_image(example: pd.Series, limits: Limits) -> bytes:
    data = read_image_bytes(example["path"], limits)
    if hashlib.sha256(data).hexdigest() != example["sha256"]:
        raise DataError(
            f"{example['path']} must not change while it is read, but did: build the records again"
        )
    return to_native(data, limits, example["path"])


def _serialize(example: pd.Series, image: bytes) -> bytes:
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[example["class_index"]])),
    }
    for name in TEXT_FEATURES:
        text = example[name].encode("utf-8")
        features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
    message = tf.train.Example(features=tf.train.Features(feature=features))
    return message.SerializeToString(deterministic=True)


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
        "fingerprint": fingerprint,
        "table": _identify(folder / TABLE),
        "shards": [_identify(folder / name) | {"images": int(shards[name])} for name in sorted(shards.index)],
    }


def _identify(path: Path) -> dict[str, Any]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
