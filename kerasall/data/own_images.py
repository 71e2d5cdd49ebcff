"""From what a lab wrote, of every image, to a collection: in folders or in a table, the same meaning of the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kerasall.data.examples import Collection, make_examples

NO_SUBJECT_NOTE = (
    "No patient is known for these images: splits keep duplicates together but may put images of one "
    "patient on both sides, so scores may be optimistic."
)


def make_collection(
    source: str, root: Path, rows: Sequence[Mapping[str, str]], *,
    classes: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    notes: Sequence[str] = (), warnings: Sequence[str] = (),
) -> Collection:  # fmt: skip
    """Makes a collection of rows as people wrote them.

    Args:
        source: name of the reader.
        root: folder the ids are relative to.
        rows: id, path, label of every image, and where known subject and fold, in any order.
        classes: the classes to use, in class order, or new name -> names it joins; None for all, by name.
        notes: sentences that every report on these data must carry.
        warnings: what the reader found odd.
    """
    examples = make_examples(sorted(map(dict, rows), key=lambda row: row["id"]))
    known = int((examples["subject"] != "").sum())
    return Collection(
        source=source, root=root, examples=examples,
        labels=tuple(classes or sorted(set(examples["label"]))),
        subject_kind="subject" if known else "none",
        notes=(*notes, *_choose_notes(known, len(examples))), read_warnings=tuple(warnings),
    )  # fmt: skip


def _choose_notes(known: int, images: int) -> tuple[str, ...]:
    if known == images:
        return ()
    if known == 0:
        return (NO_SUBJECT_NOTE,)
    return (
        f"For {images - known} of {images} images no patient is known: each of them counts as a patient of its own, "
        "so scores may be optimistic.",
    )
