"""ExampleValidator: what is wrong or odd in the data, before anything trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from kerasall.components.statistics_gen import SCAN, scan_collection, settle_unreadable
from kerasall.csv_tables import write_csv
from kerasall.data.duplicates import read_duplicates
from kerasall.data.examples import Collection, read_collection
from kerasall.data.statistics import Schema, read_scan
from kerasall.data.validation import Examined, ValidationSettings
from kerasall.evaluation.metrics import find_metric
from kerasall.files import read_json, write_json
from kerasall.pipeline.component import Input, Output, component
from kerasall.settings import CheckSettings

UNREADABLE = "unreadable.csv"
"""Table of the images that were left out as unreadable; not there where none was."""


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
    collection, left_out = settle_unreadable(collection, scan, checks.unreadable)
    found = Examined(
        collection, scan, read_duplicates(statistics), Schema.from_json(read_json(schema / "schema.json")),
        ValidationSettings(checks.two_label_subjects, folds), left_out,
    ).found  # fmt: skip
    write_json(anomalies / "anomalies.json", found)
    if len(left_out):
        write_csv(left_out, anomalies / UNREADABLE)
    counts = {"errors": len(found["errors"]), "warnings": len(found["warnings"])}
    return counts | {"left_out": len(left_out)}


def examine(collection: Collection, checks: CheckSettings) -> Examined:
    """Scans a collection once, and keeps what was seen."""
    kept, left_out, scan, duplicates = scan_collection(collection, checks)
    settings = ValidationSettings(checks.two_label_subjects)
    return Examined(kept, scan, duplicates, settings=settings, left_out=left_out)


def nothing_to_check(message: str) -> dict[str, Any]:
    """The JSON object of ``kerasall check`` where no examples could be read at all."""
    empty: dict[str, Any] = {"classes": {}, "subjects_per_class": {}, "folds": {}, "warnings": []}
    counts = ("images", "subjects", "exact_duplicate_groups", "near_duplicate_groups", "named_copy_groups",
              "cross_subject_duplicate_groups")  # fmt: skip
    error = {"code": "no_examples", "message": message, "files": [], "count": 0}
    return empty | dict.fromkeys(counts, 0) | {"errors": [error]}
