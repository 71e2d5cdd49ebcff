"""One pass over all image files: readable or not, sizes, colours, hashes, thumbnails; their summary and their schema.

By the SHA-256 of its images it is also known what a model has seen, so that nobody scores it on them again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from kerasall.csv_tables import read_csv, write_csv
from kerasall.data.examples import Collection
from kerasall.data.likeness import crop_to_foreground, find_foreground
from kerasall.data.splits import natural_order
from kerasall.decoding import DEFAULT_LIMITS, FULL, Limits, SixteenBit, decode, read_header, read_image_bytes
from kerasall.errors import ArtifactError, DataError, DecodingError
from kerasall.files import sha256_of_json
from kerasall.runtime import show_progress

THUMBNAIL_SIDE = 32
SEEN = "seen_images.csv"
"""Name of the file beside a model's card: columns sha256 and part, sorted."""
LEFT_OUT = ("id", "label", "subject", "error")
"""Columns of the table of images that were left out as unreadable; error is the reason in words."""
_TEXT_COLUMNS = ("id", "error", "format", "mode", "sha256")
_COUNT_COLUMNS = ("width", "height", "quality", "bytes", "box_side", "lowest", "highest")
_COLOURS = ("mean_r", "mean_g", "mean_b")
_MEASURES = (*_COLOURS, "std_grey", "foreground_share", "sharpness")
_COLUMNS = ("id", "error", "format", "width", "height", "mode", "quality", "native", "bytes", "sha256", "box_side",
            "lowest", "highest", *_MEASURES)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageScan:
    """What one pass over N files found.

    Attributes:
        table: one row per example, in the examples' order:
            id; error ("" if readable, else the reason in words); format; width, height (pixels, 0 if
            unknown); mode; quality (of a JPEG, estimated, else 0); native (TensorFlow reads it as it is); bytes; sha256 ("" if unreadable);
            box_side (shorter side of the foreground's box, pixels);
            lowest, highest (of the samples of a 16-bit file, once they are 8 bits; of other files -1);
            mean_r, mean_g, mean_b (mean over the foreground, 0..255); std_grey (over the whole image);
            foreground_share (1 where the background is not black); sharpness (variance of the Laplacian
            over the foreground). Measures of unreadable files are NaN.
        thumbnails: uint8 [N, 32, 32], grey: the foreground's box, 0 outside the foreground, all 0 where
            unreadable; None if the scan was read from a file.
        sixteen_bit: what became of 16-bit samples.
    """

    table: pd.DataFrame
    thumbnails: np.ndarray | None = None
    sixteen_bit: SixteenBit = FULL


def scan_images(
    examples: pd.DataFrame, limits: Limits = DEFAULT_LIMITS, workers: int | None = None,
    sixteen_bit: SixteenBit = FULL,
) -> ImageScan:  # fmt: skip
    """Reads, hashes, decodes and measures every file once, in threads; memory stays flat.

    Bad files never raise: their row's ``error`` says what is wrong.

    Args:
        examples: table with the columns id and path.
        limits: what is refused as too large, from the header, before any pixel is decoded.
        workers: threads; None for one per processor.
        sixteen_bit: what becomes of 16-bit samples.
    """
    names = list(zip(examples["id"].astype(str), examples["path"].astype(str), strict=True))
    workers = workers or min(16, os.cpu_count() or 1)
    thumbnails = np.zeros((len(names), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    rows = []
    with ThreadPoolExecutor(workers) as threads:
        found = threads.map(lambda pair: _scan_file(pair[0], pair[1], limits, sixteen_bit), names)
        for index, (row, thumbnail) in enumerate(show_progress(found, len(names), "Reading images")):
            rows.append(row)
            if thumbnail is not None:
                thumbnails[index] = thumbnail
    return ImageScan(_typed(pd.DataFrame(rows, columns=list(_COLUMNS))), thumbnails, sixteen_bit)


def _scan_file(
    name: str, path: str, limits: Limits, sixteen_bit: SixteenBit
) -> tuple[dict[str, Any], np.ndarray | None]:
    row: dict[str, Any] = {"id": name, "error": "", "native": False, "lowest": -1, "highest": -1}
    try:
        data = read_image_bytes(path, limits)
        row |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        header = read_header(data, limits, name)
        row |= {
            key: getattr(header, key) for key in ("format", "width", "height", "mode", "quality", "native")
        }
        pixels = decode(data, limits, name, sixteen_bit=sixteen_bit)
    except DecodingError as error:
        return row | {"error": str(error)}, None
    measures, thumbnail = _measure(pixels)
    if header.bits == 16:
        row |= {"lowest": int(pixels.min()), "highest": int(pixels.max())}
    return row | measures, thumbnail


def _measure(pixels: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    foreground = find_foreground(pixels)
    mask = None if foreground.mask is None else foreground.mask.view(np.uint8)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S), mask=mask)
    measures = dict(zip(_COLOURS, cv2.mean(pixels, mask=mask), strict=False))
    measures |= {
        "std_grey": float(cv2.meanStdDev(grey)[1].item()),
        "foreground_share": 1.0 if mask is None else float(mask.mean()),
        "sharpness": float(deviation.item() ** 2),
        "box_side": foreground.side,
    }
    return measures, crop_to_foreground(pixels, foreground, THUMBNAIL_SIDE)


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    for column in _TEXT_COLUMNS:
        table[column] = table[column].astype(object).where(table[column].notna(), "").astype(str)
    for column in _COUNT_COLUMNS:
        table[column] = pd.to_numeric(table[column]).fillna(0).astype(np.int64)
    for column in _MEASURES:
        table[column] = table[column].astype(np.float64)
    table["native"] = table["native"].astype(bool)
    return table


def write_scan(scan: ImageScan, path: str | Path) -> None:
    """Writes the table as CSV, atomically; thumbnails are not kept."""
    write_csv(scan.table, path)


def read_scan(path: str | Path) -> ImageScan:
    """Reads a table that ``write_scan`` wrote.

    Raises:
        DataError: the file is missing or is no such table.
    """
    try:
        texts = dict.fromkeys(_TEXT_COLUMNS, str)
        table = read_csv(path, dtype=texts, na_values={c: [""] for c in _MEASURES})
        return ImageScan(_typed(table[list(_COLUMNS)].copy()))
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} must be the table of an image scan, but reading it failed: {error}"
        ) from None


def leave_out_unreadable(collection: Collection, scan: ImageScan) -> tuple[Collection, pd.DataFrame]:
    """The collection without the images that cannot be read, and a note that says so.

    Returns:
        It, and the rows that were left out, with the columns ``LEFT_OUT``.

    Raises:
        DataError: not one image can be read.
    """
    rows = collection.examples.merge(scan.table[["id", "error"]], on="id", validate="one_to_one")
    out = rows[rows["error"] != ""].reset_index(drop=True)[list(LEFT_OUT)]
    if len(out) == len(rows):
        raise DataError(
            f"{collection.root} must hold images that can be read, but none of {len(rows)} can: {out['error'][0]}"
        )
    if out.empty:
        return collection, out
    lost, all_of = out["label"].value_counts(), rows["label"].value_counts()
    counts = ", ".join(
        f"{name} {lost[name]:,} of {all_of[name]:,}" for name in collection.labels if name in lost
    )
    note = f"{len(out):,} of {len(rows):,} files could not be read and were left out: {counts}."
    kept = collection.examples[~collection.examples["id"].isin(out["id"])].reset_index(drop=True)
    return replace(collection, examples=kept, notes=(*collection.notes, note)), out


def summarize(collection: Collection, scan: ImageScan) -> dict[str, Any]:
    """Counts, sizes, formats, colours and the fingerprint of the data, as a JSON value.

    The fingerprint is the SHA-256 over the sorted (id, label, subject, sha256 of the file): it changes with
    any of them and not with paths, times or the order of rows.
    """
    examples, table = collection.examples, scan.table
    readable, known = table[table["error"] == ""], examples[examples["subject"] != ""]
    return {
        "source": collection.source,
        "images": len(examples),
        "readable": len(readable),
        "labels": list(collection.labels),
        "classes": _counts(examples["label"], collection.labels),
        "subject_kind": collection.subject_kind,
        "subjects": int(known["subject"].nunique()),
        "subjects_per_class": _counts(
            known.drop_duplicates(["label", "subject"])["label"], collection.labels
        ),
        "images_per_subject": _counts(examples["subject"]),
        "folds": _counts(examples["fold"]),
        "sizes": _counts(readable["width"].astype(str) + "x" + readable["height"].astype(str)),
        "width": _range(readable["width"]),
        "height": _range(readable["height"]),
        "formats": _counts(readable["format"]),
        "transcoded": int((~readable["native"]).sum()),
        "bytes": int(table["bytes"].sum()),
        "colour_by_class": _colour_by_class(collection, scan),
        "fingerprint": fingerprint_data(collection, scan),
    }


@dataclass(frozen=True)
class Schema:
    """What data of one kind look like.

    Attributes:
        labels: class names in class order.
        width, height: least and greatest, in pixels.
        formats: kinds of file: BMP, PNG, JPEG, TIFF, WEBP.
    """

    labels: tuple[str, ...]
    width: tuple[int, int]
    height: tuple[int, int]
    formats: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The schema as a JSON object."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Schema:
        """Reads what ``to_json`` gave.

        Raises:
            ArtifactError: keys are missing or unknown.
        """
        wanted = {field.name for field in fields(cls)}
        if not isinstance(value, dict) or set(value) != wanted:
            raise ArtifactError(
                f"a schema must have the keys {sorted(wanted)}, but is {value!r:.200}: infer it again"
            )
        return cls(**{name: tuple(entry) for name, entry in value.items()})


def infer_schema(statistics: dict[str, Any]) -> Schema:
    """The schema that the data behind ``summarize``'s result keep.

    Raises:
        DataError: no image could be read.
    """
    if not statistics["readable"]:
        raise DataError("a schema needs at least one readable image, but none was: see `kerasall check`")
    shared = {name: statistics[name] for name in ("labels", "width", "height")}
    return Schema.from_json({**shared, "formats": sorted(statistics["formats"])})


def fingerprint_data(collection: Collection, scan: ImageScan) -> str:
    """SHA-256 over the sorted (id, label, subject, sha256) of all examples."""
    hashes = dict(zip(scan.table["id"], scan.table["sha256"], strict=True))
    columns = (collection.examples[name].astype(str) for name in ("id", "label", "subject"))
    return sha256_of_json(sorted([*row, hashes.get(row[0], "")] for row in zip(*columns, strict=True)))


def write_seen(examples: pd.DataFrame, scan: ImageScan, folder: Path) -> None:
    """Writes the hash of every image that trained, stopped, calibrated or scored a model, with its part.

    Args:
        examples: table with the columns id and part.
        scan: of the images.
        folder: where the file shall lie.
    """
    table = scan.table.set_index("id")["sha256"]
    rows = pd.DataFrame(
        {"sha256": table.reindex(examples["id"]).to_numpy(), "part": examples["part"].to_numpy()}
    )
    rows = rows[rows["sha256"].fillna("") != ""].drop_duplicates().sort_values(["sha256", "part"])
    write_csv(rows, folder / SEEN)


def read_seen(folder: Path) -> dict[str, str] | None:
    """SHA-256 -> part of every image a model has seen; None where that was not written down.

    Raises:
        ArtifactError: the file is not such a table.
    """
    path = folder / SEEN
    if not path.is_file():
        return None
    try:
        rows = read_csv(path)
        return dict(zip(rows["sha256"], rows["part"], strict=True))
    except (OSError, KeyError, ValueError) as error:
        raise ArtifactError(
            f"{path} must have the columns sha256 and part, but reading it failed: {error}"
        ) from None


def _counts(values: pd.Series, names: Iterable[str] | None = None) -> dict[str, int]:
    found = {str(name): count for name, count in values[values != ""].value_counts().items()}
    order = sorted(found, key=natural_order) if names is None else names
    return {name: int(found.get(name, 0)) for name in order}


def _range(values: pd.Series) -> list[int]:
    return [int(values.min()), int(values.max())] if len(values) else []


def _colour_by_class(collection: Collection, scan: ImageScan) -> dict[str, dict[str, float]]:
    """Mean over a class's readable images of each measure, two decimals."""
    table = scan.table.merge(collection.examples[["id", "label"]], on="id")
    means = table[table["error"] == ""].groupby("label")[list(_MEASURES)].mean().round(2)
    rows = dict(zip(means.index, means.to_numpy(float).tolist(), strict=True))
    return {name: dict(zip(_MEASURES, rows[name], strict=True)) for name in collection.labels if name in rows}
