"""StatisticsGen: one pass over all pixels: readability, sizes, colours, hashes and duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from kerasall.data.duplicates import NearDuplicateSettings, search_duplicates
from kerasall.data.examples import Collection, read_collection
from kerasall.data.statistics import ImageScan, scan_images, summarize, write_scan
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
    collection = read_collection(examples)
    scan, exact, near, near_error = scan_collection(collection, checks)
    write_scan(scan, statistics / SCAN)
    write_json(statistics / "statistics.json", summarize(collection, scan))
    write_json(statistics / "duplicates.json", {"exact": exact, "near": near, "near_error": near_error})
    return {
        "images": len(scan.table),
        "exact_duplicate_groups": len(exact),
        "near_duplicate_groups": len(near),
    }


def scan_collection(
    collection: Collection, checks: CheckSettings
) -> tuple[ImageScan, list[list[str]], list[list[str]], str]:
    """Scan, exact and near duplicates, and what is wrong with the near ones ("" if nothing)."""
    scan = scan_images(collection.examples, limits=limits_of(checks))
    given = checks.near_duplicates.model_dump()
    # Where the config leaves them open, the search's own defaults hold.
    settings = NearDuplicateSettings(**{name: value for name, value in given.items() if value is not None})
    return scan, *search_duplicates(collection.examples, scan, settings)


def limits_of(checks: CheckSettings) -> Limits:
    """What is refused before its pixels are decoded."""
    return Limits(max_side=checks.max_side, max_pixels=checks.max_pixels)
