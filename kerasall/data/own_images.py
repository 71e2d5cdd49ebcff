"""From what a lab wrote, of every image, to a collection: in folders or in a table, the same meaning of the same words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from kerasall.data.examples import Collection, make_examples
from kerasall.data.spelling import (
    describe_absent,
    describe_joined,
    find_name,
    find_zero_padded,
    is_placeholder,
    join_spellings,
    key_of,
)
from kerasall.data.vocabulary import name_part, strip_visit
from kerasall.errors import SettingsError
from kerasall.listing.folders import list_some

NO_SUBJECT_NOTE = (
    "No patient is known for these images: splits keep duplicates together but may put images of one "
    "patient on both sides, so scores may be optimistic."
)
WAIVED_NOTE = (
    "Patients are waived by data.subject: none: splits keep duplicates together but may put images of one "
    "patient on both sides, so scores may be optimistic."
)
_DAY = re.compile(
    r"\d{4}-\d\d-\d\d|\d\d?[./]\d\d?[./](\d\d)?\d\d"
    r"|(\d{1,4}[. -]{1,2})?(jan|feb|m[aä]r|mrz|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])\.?([ -]\d{1,4})?",
    re.IGNORECASE,
)
"""A day as a spreadsheet shows or stores it: of 12-1 it makes 12-Jan."""
Classes = Sequence[str] | Mapping[str, Sequence[str]]


def make_collection(
    source: str, root: Path, rows: Sequence[Mapping[str, str]], *,
    classes: Classes | None = None, subject: str = "auto",
    notes: Sequence[str] = (), warnings: Sequence[str] = (),
) -> Collection:  # fmt: skip
    """Makes a collection of rows as people wrote them.

    Spellings of one patient or class become one; words for "not known" are no patients, nor is one name that most
    images have, unless somebody said where the patients stand.

    Args:
        source: name of the reader.
        root: folder the ids are relative to.
        rows: id, path, label of every image, and where known subject and fold, in any order.
        classes: the classes to use, in class order, or new name -> names it joins; None for all, by name.
        subject: ``data.subject`` as somebody set it; none waives the patients.
        notes: sentences that every report on these data must carry.
        warnings: what the reader found odd.

    Raises:
        SettingsError: ``classes`` names what is not there.
    """
    table = sorted(map(dict, rows), key=lambda row: row["id"])
    said, doubts = _join_labels(table), _doubt_labels({row["label"] for row in table}, classes)
    if subject == "none":
        table = [{**row, "subject": ""} for row in table]
    else:
        more, others = _clean_subjects(table, stated=subject != "auto")
        said, doubts = [*said, *more], [*doubts, *others]
    chosen, labels, left_out = _choose_rows(table, classes)
    examples = make_examples(chosen)
    known = int((examples["subject"] != "").sum())
    patients = [WAIVED_NOTE] if subject == "none" else _describe_known(known, len(examples))
    return Collection(
        source=source, root=root, examples=examples, labels=labels,
        subject_kind="subject" if known else "none",
        notes=(*notes, *said, *patients, *_describe_parts(chosen)), read_warnings=(*left_out, *doubts, *warnings),
    )  # fmt: skip


def pick_classes(collection: Collection, classes: Classes) -> Collection:
    """The same collection with only the classes that are named, renamed and joined as they say.

    A joined class means leukaemia where all of its classes do.

    Raises:
        SettingsError: a class that is not there, or one joined of malignant and other classes.
    """
    rows = [{str(key): value for key, value in row.items()} for row in collection.examples.to_dict("records")]
    wanted = _resolve(classes, list(collection.labels))
    chosen, labels, left_out = _choose_rows(rows, classes, collection.labels)
    malignant = {new: [name in collection.malignant for name in names] for new, names in wanted.items()}
    if mixed := [new for new, found in malignant.items() if any(found) and not all(found)]:
        raise SettingsError(
            f"data.classes must not join malignant and other classes, but {list_some(mixed)} does: the malignant classes "
            f"of these data are {list_some(collection.malignant)}; join others"
        )
    return replace(
        collection, examples=make_examples(chosen), labels=labels,
        malignant=tuple(new for new, found in malignant.items() if all(found)),
        read_warnings=(*left_out, *collection.read_warnings),
    )  # fmt: skip


def name_classes(wanted: Sequence[str], labels: Sequence[str], setting: str) -> tuple[str, ...]:
    """The classes of the data that are meant, whatever their spelling.

    Raises:
        SettingsError: some are not there; the message has near names and all there are.
    """
    found = {name: find_name(name, labels) for name in wanted}
    if absent := [name for name, label in found.items() if label is None]:
        raise SettingsError(
            f"{setting} must name classes of the data, but {describe_absent(absent, labels)}: correct {setting}"
        )
    return tuple(dict.fromkeys(label for label in found.values() if label is not None))


def _join_labels(table: list[dict[str, str]]) -> list[str]:
    kept = join_spellings(Counter(row["label"] for row in table))
    for row in table:
        row["label"] = kept[row["label"]]
    return [note for note in (describe_joined(kept, "class"),) if note]


def _doubt_labels(labels: Set[str], classes: Classes | None) -> list[str]:
    """A warning on classes such as nan, where nobody said which classes there are."""
    none = sorted(filter(is_placeholder, labels))
    if classes or not none or len(none) == len(labels):
        return []
    return [
        f"{list_some(none)} beside {list_some(sorted(labels - set(none)))} are taken for classes too; if they stand for "
        "images whose class is not known, name the others by data.classes, and these are left out"
    ]


def find_counted_again(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """Patients who are called by small numbers that stand under more than one class: perhaps each class counts its own."""
    classes: dict[str, set[str]] = {}
    for row in rows:
        if re.fullmatch(r"\d{1,3}", name := row.get("subject", "")):
            classes.setdefault(name, set()).add(key_of(row["label"]))
    return sorted(name for name, found in classes.items() if len(found) > 1)


def _clean_subjects(table: list[dict[str, str]], stated: bool) -> tuple[list[str], list[str]]:
    """Sets the subject of every row to the one spelling of a patient, or to "". Returns notes and warnings."""
    written = Counter(row.get("subject", "") for row in table)
    empty = {name: count for name, count in sorted(written.items()) if is_placeholder(name)}
    kept = join_spellings({name: count for name, count in written.items() if name not in empty})
    notes = [note for note in (describe_joined(kept, "patient"),) if note]
    if shown := [f"{name!r} ({count})" for name, count in empty.items() if name]:
        notes.append(
            f"Words for an unknown patient (of how many images) are no patients: {list_some(shown)}."
        )
    counts: Counter[str] = Counter()
    for name, patient in kept.items():
        counts[patient] += written[name]
    most = min(counts, key=lambda name: (-counts[name], name), default="")
    one_for_most = len(counts) == 1 or (len(counts) > 2 and 2 * counts[most] > len(table))
    if most and one_for_most and counts[most] > 1 and not stated:
        kept = {name: "" if patient == most else patient for name, patient in kept.items()}
        notes.append(
            f"{most} stands for the patient of {counts[most]} of {len(table)} images and is taken for a word for unknown: "
            "if it is one patient, say where patients stand by data.subject (folder:N or column:NAME) and it stays one."
        )
    for row in table:
        row["subject"] = kept.get(row.get("subject", ""), "")
    return notes, _doubt_patients(sorted(filter(None, set(kept.values()))))


def _doubt_patients(patients: Sequence[str]) -> list[str]:
    """Warnings on patients who may be one under two names, or several under one."""
    doubts = []
    if pairs := [" and ".join(pair) for pair in find_zero_padded(patients)]:
        doubts.append(
            f"patients that differ by leading zeros alone are taken for two each: {list_some(pairs)}; if they are one, "
            "write them alike"
        )
    visits: dict[str, list[str]] = {}
    for name in patients:
        visits.setdefault(key_of(strip_visit(name)), []).append(name)
    if several := [" and ".join(names[:2]) for names in visits.values() if len(names) > 1]:
        doubts.append(
            f"patients that differ by a date, a visit, a slide or a letter at the end alone are taken for two each: "
            f"{list_some(several)}; if they are one, write them alike, or set data.subject to a pattern that ends before it"
        )
    if shortened := [name for name in patients if re.fullmatch(r"\d([.,]\d+)?[eE]\+?\d+", name)]:
        doubts.append(
            f"patients such as {list_some(shortened, 2)} are numbers that a spreadsheet shortened, so that several may be "
            "one: make the column text in the original and export it again"
        )
    if days := [name for name in patients if _DAY.fullmatch(name)]:
        doubts.append(
            f"patients such as {list_some(days, 2)} look like days: a spreadsheet makes them of numbers such as 12-1, and several "
            "patients may share a day; look whether each is one patient"
        )
    return doubts


def _resolve(classes: Classes, known: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """New name -> names in the data that it joins."""
    if isinstance(classes, Mapping):
        wanted = {new: name_classes(names, known, "data.classes") for new, names in classes.items()}
    else:
        wanted = {name: (name,) for name in name_classes(classes, known, "data.classes")}
        if len(wanted) < len(classes):
            raise SettingsError(
                f"data.classes must name different classes, but is {list(classes)}: name each once"
            )
    counts = Counter(name for names in wanted.values() for name in names)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise SettingsError(
            f"data.classes must give every class to one new name, but gives {list_some(twice)} to more: correct it"
        )
    return wanted


def _choose_rows(
    table: list[dict[str, str]], classes: Classes | None, known: Sequence[str] | None = None
) -> tuple[list[dict[str, str]], tuple[str, ...], list[str]]:
    """The rows of the classes that are used, under their new names; these in order; and a warning on the others."""
    counts = Counter(row["label"] for row in table)
    names = sorted(known or counts)
    if not classes:
        return table, tuple(names), []
    wanted = _resolve(classes, names)
    new = {name: label for label, joined in wanted.items() for name in joined}
    others = [f"{name} ({counts[name]})" for name in names if name not in new]
    chosen = [{**row, "label": new[row["label"]]} for row in table if row["label"] in new]
    warning = f"images of classes that data.classes does not name were left out: {list_some(others)}"
    return chosen, tuple(wanted), [warning] if others else []


def _describe_known(known: int, images: int) -> list[str]:
    if known == images:
        return []
    if known == 0:
        return [NO_SUBJECT_NOTE]
    return [
        f"For {images - known} of {images} images no patient is known: each of them counts as a patient of its own, "
        "so scores may be optimistic."
    ]


def _describe_parts(rows: list[dict[str, str]]) -> list[str]:
    """A sentence on ready-made parts, whether they are used or not."""
    counts: Counter[str] = Counter()
    for name, count in Counter(row.get("fold", "") for row in rows).items():
        counts[name_part(name)] += count
    parts = [f"{part} ({counts[part]} images)" for part in ("train", "validation", "test") if counts[part]]
    if len(parts) < 2:
        return []
    return [
        f"The data bring ready-made parts: {', '.join(parts)}. split.kind: given takes them over; any other split is drawn "
        "by kerasall, by patient."
    ]
