"""Everything odd that can be found in a data set, one function for each kind.

What data of one kind look like: inferred once, then held against new data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pandas as pd

from kerasall.data.examples import Collection
from kerasall.data.split_file import natural_order
from kerasall.data.statistics import ImageScan
from kerasall.errors import ArtifactError, DataError


@dataclass(frozen=True)
class Schema:
    """What data of one kind look like.

    Attributes:
        labels: class names in class order.
        width, height: least and greatest, in pixels.
        formats: kinds of file: BMP, PNG, JPEG, TIFF.
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
    return Schema(
        labels=tuple(statistics["labels"]),
        width=tuple(statistics["width"]),
        height=tuple(statistics["height"]),
        formats=tuple(sorted(statistics["formats"])),
    )


_LISTED_FILES = 20

_NAMED_FILES = 5

_FEW_GROUPS = 5

"""Below so many independent groups of a class, no k folds of use and only very wide intervals."""

_CONSTANT = 0.5

"""Standard deviation of the grey levels below which a whole image is one colour."""


@dataclass(frozen=True)
class Anomaly:
    """Something odd: a short code, a sentence that names the first files, and all ids concerned."""

    code: str
    message: str
    ids: tuple[str, ...] = ()
    count: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Object with code, message, files (the first 20 ids) and count."""
        count = len(self.ids) if self.count is None else self.count
        files = list(self.ids[:_LISTED_FILES])
        return {"code": self.code, "message": self.message, "files": files, "count": count}


@dataclass(frozen=True)
class ValidationSettings:
    """What counts as an anomaly.

    Attributes:
        two_label_subjects: whether a patient with images of two classes is an error or a warning.
        folds: folds wanted, each to hold every class; 0 if none.
        few_images: a class with fewer images gives a warning.
        smallest_side: an image narrower than this, in pixels, gives a warning.
    """

    two_label_subjects: Literal["error", "warning"] = "error"
    folds: int = 0
    few_images: int = 20
    smallest_side: int = 32


def find_crossing(
    collection: Collection, clusters: Iterable[Sequence[str]], column: str
) -> list[Sequence[str]]:
    """Clusters whose images have more than one known value of a column."""
    examples = collection.examples
    value = dict(zip(examples["id"], examples[column], strict=True))
    return [cluster for cluster in clusters if len({value[name] for name in cluster} - {""}) > 1]


def _name(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED_FILES} more" if len(ids) > _NAMED_FILES else ""
    return ", ".join(ids[:_NAMED_FILES]) + more


def _members(clusters: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(name for cluster in clusters for name in cluster)


def find_unreadable(scan: ImageScan) -> Iterator[Anomaly]:
    bad = scan.table[scan.table["error"] != ""].sort_values("id")
    if len(bad):
        more = f"; and {len(bad) - _NAMED_FILES} more" if len(bad) > _NAMED_FILES else ""
        reasons = "; ".join(f"{row.id}: {row.error}" for row in bad.head(_NAMED_FILES).itertuples())
        message = f"every file must be an image that can be read, but {len(bad)} cannot: {reasons}{more}"
        yield Anomaly("unreadable", message, tuple(bad["id"]))


def find_class_errors(collection: Collection, schema: Schema | None) -> Iterator[Anomaly]:
    counts = collection.examples["label"].value_counts()
    if empty := [name for name in collection.labels if not counts.get(name, 0)]:
        message = f"every class must have images, but {empty} have none: correct the folders or the classes"
        yield Anomaly("class_empty", message, count=len(empty))
    if len(collection.labels) < 2:
        message = (
            f"at least two classes are needed, but only {list(collection.labels)} is there: check the path"
        )
        yield Anomaly("one_class", message, count=1)
    if schema and set(schema.labels) != set(collection.labels):
        missing = sorted(set(schema.labels) - set(collection.labels))
        new = sorted(set(collection.labels) - set(schema.labels))
        message = (
            f"classes must be {list(schema.labels)} as in the schema, but {missing} are missing and {new} are "
            "new: rename them, or infer the schema again"
        )
        yield Anomaly("classes_differ", message, count=len(missing) + len(new))


def find_foreign_images(scan: ImageScan, schema: Schema | None) -> Iterator[Anomaly]:
    if schema is None:
        return
    table = scan.table[scan.table["error"] == ""].sort_values("id")
    fits = table["width"].between(*schema.width) & table["height"].between(*schema.height)
    if not fits.all():
        ids = tuple(table["id"][~fits])
        allowed = f"{schema.width[0]} to {schema.width[1]} x {schema.height[0]} to {schema.height[1]}"
        message = (
            f"images must measure {allowed} pixels as in the schema, but {len(ids)} do not: {_name(ids)}"
        )
        yield Anomaly("size_not_in_schema", message, ids)
    known = table["format"].isin(schema.formats)
    if not known.all():
        ids = tuple(table["id"][~known])
        message = (
            f"files must be {list(schema.formats)} as in the schema, but {len(ids)} are not: {_name(ids)}"
        )
        yield Anomaly("format_not_in_schema", message, ids)


def find_two_label_subjects(collection: Collection) -> Iterator[Anomaly]:
    if collection.subject_kind != "subject":
        return
    known = collection.examples[collection.examples["subject"] != ""]
    labels = known.groupby("subject")["label"].agg(lambda found: sorted(set(found)))
    mixed = labels[labels.map(len) > 1]
    if len(mixed):
        shown = [f"{name} ({', '.join(mixed[name])})" for name in sorted(mixed.index, key=natural_order)]
        ids = tuple(sorted(known["id"][known["subject"].isin(mixed.index)]))
        message = (
            f"a subject must have one label, but {len(mixed)} have more: {_name(shown)}, for example in "
            f"{_name(ids[:3])}; correct the labels, or set checks.two_label_subjects: warning"
        )
        yield Anomaly("two_label_subjects", message, ids, len(mixed))


def find_two_label_duplicates(
    collection: Collection, clusters: Sequence[Sequence[str]], code: str, what: str
) -> Iterator[Anomaly]:
    if mixed := find_crossing(collection, clusters, "label"):
        ids = _members(mixed)
        message = (
            f"{what} must have one label, but {len(mixed)} groups have more: {_name([' = '.join(g) for g in mixed])}; "
            "correct the labels or remove the files"
        )
        yield Anomaly(code, message, ids, len(mixed))


def find_too_few_groups(collection: Collection, groups: pd.Series, folds: int) -> Iterator[Anomaly]:
    for name, count in _groups_per_class(collection, groups).items():
        if 0 < count < folds:
            message = (
                f"each class needs at least one independent group per fold, but {name!r} has {count} groups for "
                f"{folds} folds: ask for at most {count} folds, or add subjects"
            )
            yield Anomaly("too_few_groups", message, count=count)


def _groups_per_class(collection: Collection, groups: pd.Series) -> dict[str, int]:
    group = collection.examples["id"].map(groups)
    counts = group.groupby(collection.examples["label"]).nunique()
    return {name: int(counts.get(name, 0)) for name in collection.labels}


def find_few_images(
    collection: Collection, groups: pd.Series, settings: ValidationSettings
) -> Iterator[Anomaly]:
    counts = collection.examples["label"].value_counts()
    few = {
        name: int(counts[name]) for name in collection.labels if 0 < counts.get(name, 0) < settings.few_images
    }
    if few:
        message = f"classes should have at least {settings.few_images} images, but have {few}"
        yield Anomaly("few_images", message, count=len(few))
    held = _groups_per_class(collection, groups)
    few = {name: count for name, count in held.items() if 0 < count < _FEW_GROUPS}
    if few:
        message = (
            f"classes should have at least {_FEW_GROUPS} independent groups (subjects joined by duplicates), but "
            f"have {few}: scores will have very wide intervals"
        )
        yield Anomaly("few_groups", message, count=len(few))


def find_odd_sizes(scan: ImageScan, settings: ValidationSettings) -> Iterator[Anomaly]:
    table = scan.table[scan.table["error"] == ""].sort_values("id")
    size = table["width"].astype(str) + "x" + table["height"].astype(str)
    counts = size.value_counts()
    if len(counts) > 1:
        usual = min(counts.index[counts == counts.max()])
        ids = tuple(table["id"][size != usual])
        shown = ", ".join(f"{name} ({count})" for name, count in counts.head(_NAMED_FILES).items())
        message = f"images have {len(counts)} different sizes: {shown}; not {usual} are {_name(ids)}"
        yield Anomaly("mixed_sizes", message, ids)
    tiny = tuple(table["id"][table[["width", "height"]].min(axis=1) < settings.smallest_side])
    if tiny:
        message = f"{len(tiny)} images are narrower than {settings.smallest_side} pixels: {_name(tiny)}"
        yield Anomaly("tiny_images", message, tiny)


def find_constant(scan: ImageScan) -> Iterator[Anomaly]:
    table = scan.table[scan.table["error"] == ""]
    ids = tuple(sorted(table["id"][table["std_grey"] < _CONSTANT]))
    if ids:
        yield Anomaly("constant_images", f"{len(ids)} images are of one colour all over: {_name(ids)}", ids)


def find_duplicates(
    collection: Collection, exact: Sequence[Sequence[str]], near: Sequence[Sequence[str]]
) -> Iterator[Anomaly]:
    kinds = (
        ("exact_duplicates", "byte-identical files", exact),
        ("near_duplicates", "near duplicates", near),
    )
    for code, what, clusters in kinds:
        if not clusters:
            continue
        ids, across = _members(clusters), find_crossing(collection, clusters, "subject")
        shown = _name([" = ".join(cluster) for cluster in clusters])
        message = f"{len(clusters)} groups of {what} ({len(ids)} images): {shown}; splits keep them together"
        yield Anomaly(code, message, ids, len(clusters))
        if across:
            shown = _name([" = ".join(cluster) for cluster in across])
            message = (
                f"{len(across)} groups of {what} join different {_subjects(collection)}: {shown}; splits keep all "
                "images of these together"
            )
            yield Anomaly(f"cross_subject_{code}", message, _members(across), len(across))


def _subjects(collection: Collection) -> str:
    if collection.subject_kind == "block":
        return "blocks of file numbers"
    return "subjects, which may be one patient each"
