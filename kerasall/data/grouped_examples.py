"""The table of examples with what only the pixels tell: duplicate groups and content hashes.

For everything that leaves the folder of images (TFRecords, tensorflow-datasets): once images are rows of
a file, who splits them by group later needs the groups beside them.
"""

from __future__ import annotations

import pandas as pd

from kerasall.data.duplicates import NearDuplicateSettings, exact_duplicates, near_duplicates
from kerasall.data.examples import COLUMNS, Collection
from kerasall.data.image_folder import list_some
from kerasall.data.splits import group_examples
from kerasall.data.statistics import ImageScan, fingerprint_data, scan_images
from kerasall.decoding import DEFAULT_LIMITS, Limits
from kerasall.errors import DataError


def group_collection(
    collection: Collection,
    *,
    settings: NearDuplicateSettings | None = None,
    limits: Limits = DEFAULT_LIMITS,
    workers: int | None = None,
) -> tuple[pd.DataFrame, str]:
    """Reads every image once and joins subjects and duplicates into groups.

    Args:
        collection: what to read.
        settings: thresholds of near duplicates; None for the defaults.
        limits: what is refused as too large.
        workers: threads; None for one per processor.

    Returns:
        The examples sorted by id, with the columns group (equal for images that must not be parted),
        sha256 (of the file's bytes), bytes (the file's size) and native (TensorFlow decodes the file as it
        is); and the fingerprint of the data, as ``kerasall check`` gives it.

    Raises:
        DataError: images that cannot be read, all counted and the first named; or near duplicates that
            would join too much.
    """
    scan = scan_images(collection.examples, limits, workers)
    _require_readable(scan, collection)
    clusters = exact_duplicates(scan) + near_duplicates(collection.examples, scan, settings)
    table = collection.examples[list(COLUMNS)].merge(
        scan.table[["id", "sha256", "bytes", "native"]], on="id", validate="one_to_one"
    )
    table["group"] = table["id"].map(group_examples(collection.examples, clusters))
    return table.sort_values("id", ignore_index=True), fingerprint_data(collection, scan)


def _require_readable(scan: ImageScan, collection: Collection) -> None:
    errors = scan.table["error"][scan.table["error"] != ""].tolist()
    if errors:
        raise DataError(
            f"every image of {collection.root} must be readable, but {len(errors)} of {len(scan.table)} are not "
            f"({list_some(errors, 3)}): replace or remove them; kerasall check lists all"
        )
