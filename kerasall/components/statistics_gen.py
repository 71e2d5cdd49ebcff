"""StatisticsGen: one pass over all pixels: readability, sizes, colours, hashes and duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from kerasall.data.duplicates import Duplicates, NearDuplicateSettings, search_duplicates, write_duplicates
from kerasall.data.examples import Collection, read_collection
from kerasall.data.statistics import (
    LEFT_OUT,
    ImageScan,
    leave_out_unreadable,
    scan_images,
    summarize,
    write_scan,
)
from kerasall.decoding import Limits
from kerasall.files import write_json
from kerasall.pipeline.component import Input, Output, component
from kerasall.settings import CheckSettings

SCAN = "scan.csv"


@component
def statistics_gen(
    examples: Annotated[Path, Input("Examples")],
    checks: CheckSettings,
    statistics: Annotated[Path, Output("Statistics")],
) -> dict[str, Any]:
    """Scans every image once; bad files are noted, not raised."""
    collection, _, scan, found = scan_collection(read_collection(examples), checks)
    write_scan(scan, statistics / SCAN)
    write_json(statistics / "statistics.json", summarize(collection, scan))
    write_duplicates(found, statistics)
    return {
        "images": len(scan.table),
        "exact_duplicate_groups": len(found.exact),
        "near_duplicate_groups": len(found.near),
        "named_copy_groups": len(found.named),
    }


def scan_collection(
    collection: Collection, checks: CheckSettings
) -> tuple[Collection, pd.DataFrame, ImageScan, Duplicates]:
    """The images to go on with, those left out (see ``settle_unreadable``), the scan of all, and duplicates."""
    scan = scan_images(collection.examples, limits_of(checks), sixteen_bit=collection.sixteen_bit)
    given = checks.near_duplicates.model_dump()
    # Where the config leaves them open, the search's own defaults hold.
    settings = NearDuplicateSettings(**{name: value for name, value in given.items() if value is not None})
    collection, left_out = settle_unreadable(collection, scan, checks.unreadable)
    return collection, left_out, scan, search_duplicates(collection.examples, scan, settings)


def settle_unreadable(
    collection: Collection, scan: ImageScan, unreadable: str
) -> tuple[Collection, pd.DataFrame]:
    """The images to go on with and those left out, as ``checks.unreadable`` wants it of files that cannot be read."""
    if unreadable == "leave_out":
        return leave_out_unreadable(collection, scan)
    return collection, pd.DataFrame(columns=list(LEFT_OUT))


def limits_of(checks: CheckSettings) -> Limits:
    """What is refused before its pixels are decoded."""
    return Limits(max_side=checks.max_side, max_pixels=checks.max_pixels)
