"""What stops a run before anything trains (errors), and what a person should know (warnings)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kerasall.data.anomalies import (
    Anomaly,
    Schema,
    ValidationSettings,
    find_class_errors,
    find_constant,
    find_crossing,
    find_duplicates,
    find_few_images,
    find_foreign_images,
    find_odd_sizes,
    find_too_few_groups,
    find_two_label_duplicates,
    find_two_label_subjects,
    find_unreadable,
    infer_schema,
)
from kerasall.data.duplicates import (
    NearDuplicateSettings,
    exact_duplicates,
    find_excess,
    find_near_duplicates,
)
from kerasall.data.examples import Collection
from kerasall.data.splits import group_examples
from kerasall.data.statistics import ImageScan, scan_images, summarize
from kerasall.decoding import DEFAULT_LIMITS, Limits
from kerasall.errors import DataError

__all__ = [
    "Anomaly",
    "Schema",
    "Validation",
    "ValidationSettings",
    "check",
    "describe",
    "infer_schema",
    "validate",
]


@dataclass(frozen=True)
class Validation:
    """All anomalies of a data set."""

    errors: tuple[Anomaly, ...] = ()
    warnings: tuple[Anomaly, ...] = ()

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """Object with the lists ``errors`` and ``warnings``."""
        return {
            "errors": [anomaly.to_json() for anomaly in self.errors],
            "warnings": [anomaly.to_json() for anomaly in self.warnings],
        }


def validate(
    collection: Collection,
    scan: ImageScan,
    exact: Sequence[Sequence[str]],
    near: Sequence[Sequence[str]],
    schema: Schema | None = None,
    settings: ValidationSettings | None = None,
    near_error: str = "",
) -> Validation:
    """Finds all anomalies; never raises for what the data hold.

    Args:
        collection: examples and what their source says of them.
        scan: of these examples; thumbnails are not used.
        exact, near: duplicate clusters, lists of ids.
        schema: what the data must look like; None if nothing is asked.
        settings: None for the defaults.
        near_error: why the search for near duplicates stopped, "" if it did not.
    """
    settings = settings or ValidationSettings()
    groups = group_examples(collection.examples, [*exact, *near])
    errors = [
        *find_unreadable(scan),
        *find_class_errors(collection, schema),
        *find_foreign_images(scan, schema),
        *find_two_label_duplicates(collection, exact, "exact_duplicates_two_labels", "byte-identical files"),
        *find_too_few_groups(collection, groups, settings.folds),
    ]
    if near_error:
        errors.append(Anomaly("near_duplicates_join_too_much", near_error))
    warnings = [
        *(Anomaly("reader", message) for message in collection.read_warnings),
        *find_few_images(collection, groups, settings),
        *find_odd_sizes(scan, settings),
        *find_constant(scan),
        *find_duplicates(collection, exact, near),
        *find_two_label_duplicates(collection, near, "near_duplicates_two_labels", "near duplicates"),
    ]
    two_labels = list(find_two_label_subjects(collection))
    (errors if settings.two_label_subjects == "error" else warnings).extend(two_labels)
    return Validation(tuple(errors), tuple(warnings))


def check(
    collection: Collection,
    *,
    limits: Limits = DEFAULT_LIMITS,
    near: NearDuplicateSettings | None = None,
    schema: Schema | None = None,
    settings: ValidationSettings | None = None,
) -> dict[str, Any]:
    """Scans a collection and describes it, as the JSON object of ``kerasall check``.

    Arguments as of ``scan_images``, ``near_duplicates`` and ``validate``.
    """
    near = near or NearDuplicateSettings()
    scan = scan_images(collection.examples, limits)
    exact, similar, problem = exact_duplicates(scan), [], ""
    try:
        similar = find_near_duplicates(collection.examples, scan, near)
        problem = find_excess(similar, collection.examples, scan, near)
    except DataError as error:  # thumbnails too much alike to tell
        problem = str(error)
    validation = validate(collection, scan, exact, similar, schema, settings, problem)
    return describe(collection, scan, exact, similar, validation)


def describe(
    collection: Collection,
    scan: ImageScan,
    exact: Sequence[Sequence[str]],
    near: Sequence[Sequence[str]],
    validation: Validation,
) -> dict[str, Any]:
    """The JSON object of ``kerasall check`` from what is already known."""
    statistics = summarize(collection, scan)
    names = ("source", "images", "readable", "classes", "subject_kind", "subjects", "subjects_per_class", "folds",
             "sizes", "formats", "transcoded", "fingerprint")  # fmt: skip
    return {
        "root": str(collection.root),
        **{name: statistics[name] for name in names},
        "exact_duplicate_groups": len(exact),
        "near_duplicate_groups": len(near),
        "cross_subject_duplicate_groups": len(find_crossing(collection, exact, "subject")),
        "cross_subject_near_duplicate_groups": len(find_crossing(collection, near, "subject")),
        "cross_fold_duplicate_groups": len(find_crossing(collection, exact, "fold")),
        "split_groups": int(group_examples(collection.examples, [*exact, *near]).nunique()),
        "notes": list(collection.notes),
        **validation.to_json(),
    }
