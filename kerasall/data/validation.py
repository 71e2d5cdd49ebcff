"""What stops a run before anything trains (errors), and what a person should know (warnings).

One function finds the anomalies of one kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from kerasall.data.confounders import find_confounders
from kerasall.data.duplicates import Duplicates
from kerasall.data.examples import Collection
from kerasall.data.splits import group_examples, natural_order
from kerasall.data.statistics import LEFT_OUT, ImageScan, Schema, summarize
from kerasall.decoding import FULL

_LISTED_FILES = 20
_NAMED_FILES = 5
_ATTRIBUTES = {
    "format": "the format of the file",
    "quality": "the quality at which JPEG files were saved",
    "size": "the size of the image",
    "colour": "whether an image is coloured or grey",
}
_LEAVE_COPIES_OUT = (
    ". Better leave copies out: training makes its own (augment), and copies are not to be scored"
)
_FEW_GROUPS = 5
"""Below so many independent groups of a class, no k folds of use and only very wide intervals."""
SOURCES_WITH_JOINED_IDS = ("cnmc",)
"""Sources that come with a list of subjects who are known to be joined."""
_QUARTER = 64
"""Greys of 256 that a quarter of a 16-bit sample's range becomes."""
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


@dataclass(frozen=True)
class JoinedSubjects:
    """Subjects that may be one patient, as they show the same cells.

    Attributes:
        subjects: their ids.
        folds: the publisher's folds and parts in which they have images.
        duplicates: groups of duplicates here that hold images of several of them.
        new: those of the ids that the source did not know to be joined.
    """

    subjects: tuple[str, ...]
    folds: tuple[str, ...]
    duplicates: int
    new: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()
        }

    def describe(self, listed: bool) -> str:
        """The ids, where they stand and what joins them; ``listed``: whether the source comes with a list of such ids."""
        *others, last = self.subjects
        where = f" ({', '.join(self.folds)})" if self.folds else ""
        found = f"{self.duplicates} groups of duplicates here" if self.duplicates else "no duplicates here"
        told = f", new: {', '.join(self.new)}" if self.new else ", known of this data set"
        return f"{', '.join(others)} and {last}{where}: {found}{told if listed else ''}"


@dataclass(frozen=True, eq=False)
class Examined:
    """A collection with what one pass over its pixels found.

    Attributes:
        collection: examples and what their source says of them.
        scan: of these examples.
        duplicates: which images show the same cells.
        schema: what the data must look like; None if nothing is asked.
        settings: what counts as an anomaly.
        left_out: images of the scan that the collection holds no more, as they cannot be read; with ``LEFT_OUT``.
    """

    collection: Collection
    scan: ImageScan
    duplicates: Duplicates = field(default_factory=Duplicates)
    schema: Schema | None = None
    settings: ValidationSettings = ValidationSettings()
    left_out: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(LEFT_OUT)))

    @cached_property
    def groups(self) -> pd.Series:
        """Group of every id: subjects joined by duplicates."""
        return group_examples(
            self.collection.examples, self.duplicates.clusters, self.collection.joined_subjects
        )

    @cached_property
    def joined_subjects(self) -> list[JoinedSubjects]:
        """Sets of subjects that may be one patient each; those found here by most duplicates first."""
        if self.collection.subject_kind != "subject":
            return []
        known = self.collection.examples[self.collection.examples["subject"] != ""].set_index("id")
        stated = {name: set(subjects) for subjects in self.collection.joined_subjects for name in subjects}
        links = Counter(
            self.groups[cluster[0]]
            for cluster in self.crossing([*self.duplicates.exact, *self.duplicates.near, *self.duplicates.named], "subject")
        )  # fmt: skip
        found = []
        for group, members in known.groupby(self.groups.reindex(known.index).to_numpy()):
            subjects = tuple(sorted(set(members["subject"]), key=natural_order))
            if len(subjects) > 1:
                folds = tuple(sorted(set(members["fold"]) - {""}, key=natural_order))
                new = tuple(name for name in subjects if name not in stated)
                found.append(JoinedSubjects(subjects, folds, links[group], new))
        return sorted(found, key=lambda each: (-each.duplicates, natural_order(each.subjects[0])))

    @cached_property
    def readable(self) -> pd.DataFrame:
        """The rows of the scan without an error, sorted by id."""
        return self.scan.table[self.scan.table["error"] == ""].sort_values("id")

    def find_anomalies(self) -> tuple[list[Anomaly], list[Anomaly]]:
        """All errors and all warnings; never raises for what the data hold."""
        errors = [
            *_find_unreadable(self),
            *_find_lost_subjects(self),
            *_find_class_errors(self),
            *_find_foreign_images(self),
            *_find_two_label_duplicates(
                self, self.duplicates.exact, "exact_duplicates", "byte-identical files"
            ),
            *_find_too_few_groups(self),
        ]
        if self.duplicates.near_error:
            errors.append(Anomaly("near_duplicates_join_too_much", self.duplicates.near_error))
        warnings = [
            *(Anomaly("reader", message) for message in self.collection.read_warnings),
            *_find_few_images(self),
            *_find_odd_sizes(self),
            *_find_constant(self),
            *_find_unused_depth(self),
            *_find_left_out(self),
            *_find_confounders(self),
            *_find_duplicates(self, self.duplicates.exact, "exact_duplicates", "byte-identical files"),
            *_find_duplicates(self, self.duplicates.near, "near_duplicates", "near duplicates"),
            *_find_two_label_duplicates(self, self.duplicates.near, "near_duplicates", "near duplicates"),
            *_find_duplicates(
                self, self.duplicates.named, "named_copies", "copies by name", _LEAVE_COPIES_OUT
            ),
            *_find_two_label_duplicates(self, self.duplicates.named, "named_copies", "copies by name"),
            *_find_untold_copies(self),
            *_find_joined_subjects(self),
        ]
        by_subject = errors if self.settings.two_label_subjects == "error" else warnings
        by_subject.extend(_find_two_label_subjects(self))
        return errors, warnings

    @cached_property
    def found(self) -> dict[str, Any]:
        """The JSON object of ``kerasall check``."""
        statistics = summarize(self.collection, self.scan)
        errors, warnings = self.find_anomalies()
        exact, near, named = self.duplicates.exact, self.duplicates.near, self.duplicates.named
        names = ("source", "images", "readable", "classes", "subject_kind", "subjects", "subjects_per_class", "folds",
                 "sizes", "formats", "transcoded", "fingerprint")  # fmt: skip
        return {
            "root": str(self.collection.root),
            **{name: statistics[name] for name in names},
            "left_out": len(self.left_out),
            "exact_duplicate_groups": len(exact),
            "near_duplicate_groups": len(near),
            "named_copy_groups": len(named),
            "cross_subject_duplicate_groups": len(self.crossing(exact, "subject")),
            "cross_subject_near_duplicate_groups": len(self.crossing(near, "subject")),
            "cross_subject_named_copy_groups": len(self.crossing(named, "subject")),
            "cross_fold_duplicate_groups": len(self.crossing(exact, "fold")),
            "joined_subjects": [each.to_json() for each in self.joined_subjects],
            "split_groups": int(self.groups.nunique()),
            "notes": list(self.collection.notes),
            "errors": [anomaly.to_json() for anomaly in errors],
            "warnings": [anomaly.to_json() for anomaly in warnings],
        }

    def crossing(self, clusters: Iterable[Sequence[str]], column: str) -> list[Sequence[str]]:
        """Clusters whose images have more than one known value of a column."""
        examples = self.collection.examples
        value = dict(zip(examples["id"], examples[column], strict=True))
        return [cluster for cluster in clusters if len({value[name] for name in cluster} - {""}) > 1]


def _name(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED_FILES} more" if len(ids) > _NAMED_FILES else ""
    return ", ".join(ids[:_NAMED_FILES]) + more


def _members(clusters: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(name for cluster in clusters for name in cluster)


def _find_unreadable(data: Examined) -> Iterator[Anomaly]:
    table = data.scan.table
    bad = table[(table["error"] != "") & ~table["id"].isin(data.left_out["id"])].sort_values("id")
    if len(bad):
        message = (
            f"every file must be an image that can be read, but {len(bad)} cannot: {_reasons(bad)}; replace or remove "
            "them, or set checks.unreadable: leave_out to go on without"
        )
        yield Anomaly("unreadable", message, tuple(bad["id"]))


def _find_left_out(data: Examined) -> Iterator[Anomaly]:
    if len(bad := data.left_out.sort_values("id")):
        counts = bad["label"].value_counts()
        shown = ", ".join(f"{name} {counts[name]}" for name in data.collection.labels if name in counts)
        message = f"{len(bad)} files that cannot be read are left out ({shown}): {_reasons(bad)}"
        yield Anomaly("unreadable_left_out", message, tuple(bad["id"]))


def _reasons(bad: pd.DataFrame) -> str:
    more = f"; and {len(bad) - _NAMED_FILES} more" if len(bad) > _NAMED_FILES else ""
    return "; ".join(f"{row.id}: {row.error}" for row in bad.head(_NAMED_FILES).itertuples()) + more


def _find_lost_subjects(data: Examined) -> Iterator[Anomaly]:
    lost = data.left_out[~data.left_out["subject"].isin(["", *data.collection.examples["subject"]])]
    if len(lost):
        names = sorted(set(lost["subject"]), key=natural_order)
        message = (
            f"every patient must have an image that can be read, but of {_name(names)} none can, for example "
            f"{_name(lost['id'].tolist()[:3])}: replace these files, or remove the patient"
        )
        yield Anomaly("subject_unreadable", message, tuple(lost["id"]), len(names))


def _find_confounders(data: Examined) -> Iterator[Anomaly]:
    labels = data.collection.examples[["id", "label"]]
    table = data.readable.merge(labels, on="id", validate="one_to_one")
    table["group"] = data.groups.reindex(table["id"]).to_numpy()
    for found in find_confounders(table, data.collection.labels):
        shown = ", ".join(
            f"{name} {count} of {total} {value}"
            for name, (value, count, total) in found.common.items()
            if total
        )
        message = (
            f"{_ATTRIBUTES[found.attribute]} alone tells {found.label} from the rest with a balanced accuracy of "
            f"{found.value:.0%} (50% is guessing): {shown}; a model may learn this instead of the cells, and no score on "
            "these images can show it. Take images of all classes from one microscope, camera and export: to convert "
            "the files does not undo it"
        )
        yield Anomaly(f"{found.attribute}_tells_class", message, count=1)


def _find_joined_subjects(data: Examined) -> Iterator[Anomaly]:
    if joined := data.joined_subjects:
        subjects = {name for each in joined for name in each.subjects}
        examples = data.collection.examples
        shown = "; ".join(
            each.describe(data.collection.source in SOURCES_WITH_JOINED_IDS)
            for each in joined[:_LISTED_FILES]
        )
        more = f"; and {len(joined) - _LISTED_FILES} more" if len(joined) > _LISTED_FILES else ""
        message = f"subjects that show the same cells may be one patient each, and are kept on one side of a split: {shown}{more}"
        ids = tuple(examples["id"][examples["subject"].isin(subjects)])
        yield Anomaly("joined_subjects", message, ids, len(joined))


def _find_untold_copies(data: Examined) -> Iterator[Anomaly]:
    if ids := tuple(data.duplicates.untold):
        message = (
            f"{len(ids)} images are named as copies, but the names do not tell of which images: {_name(ids)}; splits "
            f"may put copies of one image on both sides{_LEAVE_COPIES_OUT}"
        )
        yield Anomaly("named_copies_untold", message, ids)


def _find_class_errors(data: Examined) -> Iterator[Anomaly]:
    labels, schema = data.collection.labels, data.schema
    present = set(data.collection.examples["label"])
    if empty := [name for name in labels if name not in present]:
        message = f"every class must have images, but {empty} have none: correct the folders or the classes"
        yield Anomaly("class_empty", message, count=len(empty))
    if len(labels) < 2:
        message = f"at least two classes are needed, but only {list(labels)} is there: check the path"
        yield Anomaly("one_class", message, count=1)
    if schema and set(schema.labels) != set(labels):
        missing, new = sorted(set(schema.labels) - set(labels)), sorted(set(labels) - set(schema.labels))
        message = (
            f"classes must be {list(schema.labels)} as in the schema, but {missing} are missing and {new} are "
            "new: rename them, or infer the schema again"
        )
        yield Anomaly("classes_differ", message, count=len(missing) + len(new))


def _find_foreign_images(data: Examined) -> Iterator[Anomaly]:
    if data.schema is None:
        return
    (low, high), (short, tall), formats = data.schema.width, data.schema.height, data.schema.formats
    table = data.readable
    if ids := tuple(table["id"][~(table["width"].between(low, high) & table["height"].between(short, tall))]):
        allowed = f"{low} to {high} x {short} to {tall}"
        message = (
            f"images must measure {allowed} pixels as in the schema, but {len(ids)} do not: {_name(ids)}"
        )
        yield Anomaly("size_not_in_schema", message, ids)
    if ids := tuple(table["id"][~table["format"].isin(formats)]):
        message = f"files must be {list(formats)} as in the schema, but {len(ids)} are not: {_name(ids)}"
        yield Anomaly("format_not_in_schema", message, ids)


def _find_two_label_subjects(data: Examined) -> Iterator[Anomaly]:
    if data.collection.subject_kind != "subject":
        return
    known = data.collection.examples[data.collection.examples["subject"] != ""]
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


def _find_two_label_duplicates(
    data: Examined, clusters: Sequence[Sequence[str]], code: str, what: str
) -> Iterator[Anomaly]:
    if mixed := data.crossing(clusters, "label"):
        message = (
            f"{what} must have one label, but {len(mixed)} groups have more: {_name([' = '.join(g) for g in mixed])}; "
            "correct the labels or remove the files"
        )
        yield Anomaly(f"{code}_two_labels", message, _members(mixed), len(mixed))


def _find_too_few_groups(data: Examined) -> Iterator[Anomaly]:
    folds = data.settings.folds
    for name, count in _groups_per_class(data).items():
        if 0 < count < folds:
            message = (
                f"each class needs at least one independent group per fold, but {name!r} has {count} groups for "
                f"{folds} folds: ask for at most {count} folds, or add subjects"
            )
            yield Anomaly("too_few_groups", message, count=count)


def _groups_per_class(data: Examined) -> dict[str, int]:
    examples = data.collection.examples
    counts = examples["id"].map(data.groups).groupby(examples["label"]).nunique()
    return {name: int(counts.get(name, 0)) for name in data.collection.labels}


def _find_few_images(data: Examined) -> Iterator[Anomaly]:
    counts, least = data.collection.examples["label"].value_counts(), data.settings.few_images
    if few := {name: int(counts[name]) for name in data.collection.labels if 0 < counts.get(name, 0) < least}:
        message = f"classes should have at least {least} images, but have {few}"
        yield Anomaly("few_images", message, count=len(few))
    if few := {name: count for name, count in _groups_per_class(data).items() if 0 < count < _FEW_GROUPS}:
        message = (
            f"classes should have at least {_FEW_GROUPS} independent groups (subjects joined by duplicates), but "
            f"have {few}: scores will have very wide intervals"
        )
        yield Anomaly("few_groups", message, count=len(few))


def _find_odd_sizes(data: Examined) -> Iterator[Anomaly]:
    table, least = data.readable, data.settings.smallest_side
    size = table["width"].astype(str) + "x" + table["height"].astype(str)
    counts = size.value_counts()
    if len(counts) > 1:
        usual = min(counts.index[counts == counts.max()])
        ids = tuple(table["id"][size != usual])
        shown = ", ".join(f"{name} ({count})" for name, count in counts.head(_NAMED_FILES).items())
        message = f"images have {len(counts)} different sizes: {shown}; not {usual} are {_name(ids)}"
        yield Anomaly("mixed_sizes", message, ids)
    if tiny := tuple(table["id"][table[["width", "height"]].min(axis=1) < least]):
        message = f"{len(tiny)} images are narrower than {least} pixels: {_name(tiny)}"
        yield Anomaly("tiny_images", message, tiny)


def _find_constant(data: Examined) -> Iterator[Anomaly]:
    if ids := tuple(data.readable["id"][data.readable["std_grey"] < _CONSTANT]):
        yield Anomaly("constant_images", f"{len(ids)} images are of one colour all over: {_name(ids)}", ids)


def _find_unused_depth(data: Examined) -> Iterator[Anomaly]:
    deep = data.readable[data.readable["highest"] >= 0]
    flat = deep[deep["highest"] - deep["lowest"] < _QUARTER]
    if data.collection.sixteen_bit != FULL or flat.empty:
        return
    used = max(8, int(flat["highest"].max() * 256 + 255).bit_length())
    cure = "data.sixteen_bit: minmax stretches each image to its own range"
    if used < 15:
        cure = f"set data.sixteen_bit to the bits that the camera has ({used} hold them); {cure}"
    message = (
        f"{len(flat)} of {len(deep)} images of 16-bit samples use under a quarter of the range, which leaves them few of "
        f"256 greys: {_name(tuple(flat['id']))}; {cure}"
    )
    yield Anomaly("unused_depth", message, tuple(flat["id"]))


def _find_duplicates(
    data: Examined, clusters: Sequence[Sequence[str]], code: str, what: str, advice: str = ""
) -> Iterator[Anomaly]:
    if not clusters:
        return
    ids, shown = _members(clusters), _name([" = ".join(cluster) for cluster in clusters])
    message = (
        f"{len(clusters)} groups of {what} ({len(ids)} images): {shown}; splits keep them together{advice}"
    )
    yield Anomaly(code, message, ids, len(clusters))
    if across := data.crossing(clusters, "subject"):
        block = data.collection.subject_kind == "block"
        subjects = "blocks of file numbers" if block else "subjects, which may be one patient each"
        shown = _name([" = ".join(cluster) for cluster in across])
        message = (
            f"{len(across)} groups of {what} join different {subjects}: {shown}; splits keep all "
            "images of these together"
        )
        yield Anomaly(f"cross_subject_{code}", message, _members(across), len(across))
