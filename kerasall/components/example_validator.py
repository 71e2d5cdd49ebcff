"""ExampleValidator: what is wrong or odd in the data, before anything trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from kerasall.components.statistics_gen import SCAN, scan_collection
from kerasall.data.anomalies import Schema
from kerasall.data.examples import Collection, read_collection
from kerasall.data.sources import read_source
from kerasall.data.statistics import ImageScan, read_scan
from kerasall.data.validation import ValidationSettings, describe, validate
from kerasall.evaluation.metrics import find_metric
from kerasall.files import read_json, write_json
from kerasall.pipeline.component import Input, Output, component
from kerasall.settings import CheckSettings


@component
def example_validator(
    examples: Annotated[Path, Input("Examples")],
    statistics: Annotated[Path, Input("Statistics")],
    schema: Annotated[Path, Input("Schema")],
    checks: CheckSettings,
    folds: int,
    anomalies: Annotated[Path, Output("Anomalies")],
    metrics: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes all anomalies; Transform refuses to go on where there are errors.

    Raises:
        SettingsError: a metric names a class that the data do not have.
    """
    collection = read_collection(examples)
    for name in metrics:
        find_metric(name, collection.labels)
    scan = read_scan(statistics / SCAN)
    duplicates = read_json(statistics / "duplicates.json")
    validation = validate(
        collection, scan, duplicates["exact"], duplicates["near"],
        Schema.from_json(read_json(schema / "schema.json")), validation_settings(checks, folds),
        duplicates["near_error"],
    )  # fmt: skip
    found = describe(collection, scan, duplicates["exact"], duplicates["near"], validation)
    write_json(anomalies / "anomalies.json", found)
    return {"errors": len(found["errors"]), "warnings": len(found["warnings"])}


def validation_settings(checks: CheckSettings, folds: int = 0) -> ValidationSettings:
    """What counts as an anomaly; ``folds`` each need every class."""
    return ValidationSettings(two_label_subjects=checks.two_label_subjects, folds=folds)


def check_source(source: str, path: str | Path, checks: CheckSettings | None = None) -> dict[str, Any]:
    """The JSON object of ``kerasall check`` for a folder or table of images."""
    return check_collection(read_source(source, path), checks or CheckSettings())


def check_collection(collection: Collection, checks: CheckSettings) -> dict[str, Any]:
    """Scans a collection and describes it with all its anomalies."""
    return examine(collection, checks).found


@dataclass(frozen=True, eq=False)
class Examined:
    """A collection with what one pass over its pixels found.

    Attributes:
        collection: the examples.
        scan: of them, with thumbnails.
        exact, near: duplicate clusters, lists of ids.
        found: the JSON object of ``kerasall check``.
    """

    collection: Collection
    scan: ImageScan
    exact: list[list[str]]
    near: list[list[str]]
    found: dict[str, Any]


def examine(collection: Collection, checks: CheckSettings) -> Examined:
    """Scans a collection once, and keeps what was seen."""
    scan, exact, near, near_error = scan_collection(collection, checks)
    validation = validate(
        collection, scan, exact, near, None, validation_settings(checks), near_error
    )  # fmt: skip
    return Examined(collection, scan, exact, near, describe(collection, scan, exact, near, validation))


def nothing_to_check(message: str) -> dict[str, Any]:
    """The JSON object of ``kerasall check`` where no examples could be read at all."""
    empty: dict[str, Any] = {"classes": {}, "subjects_per_class": {}, "folds": {}, "warnings": []}
    counts = (
        "images",
        "subjects",
        "exact_duplicate_groups",
        "near_duplicate_groups",
        "cross_subject_duplicate_groups",
    )
    error = {"code": "no_examples", "message": message, "files": [], "count": 0}
    return empty | dict.fromkeys(counts, 0) | {"errors": [error]}
