"""What a class may be called, and how the tables of predictions call its columns."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence

from kerasall.listing.columns import find_columns
from kerasall.listing.folders import list_some
from kerasall.shown_text import is_unseen, one_line

EXCLUDE = "exclude"
"""In place of a class name: nobody can tell, the image is left out."""
SET_SIGN = "|"
"""Between the classes of a prediction set."""
OWN_COLUMNS = ("path", "label", "error")
EXTRA_COLUMNS = ("prediction_set", "domain_distance", "refer", "refer_reason")
"""What a model may say of an image beside its probabilities, by its output and its column."""
LONGEST = 100
"""Characters of a name; longer ones leave no room for anything else in tables and figures."""


def name_columns(labels: Sequence[str]) -> tuple[str, ...]:
    """The column of every class in a table of predictions: its own name.

    Only of a model whose class is called as another column is, which was trained before such names were refused, the
    class gives way: ``class_refer``.
    """
    taken = {*OWN_COLUMNS, *EXTRA_COLUMNS, *map(calibrated_column, labels)}
    columns = []
    for label in labels:
        column = label
        while column in taken or (column != label and column in labels):
            column = f"class_{column}"
        taken.add(column)
        columns.append(column)
    return tuple(columns)


def calibrated_column(label: str) -> str:
    """The column of a class's calibrated probability."""
    return f"calibrated_{label}"


def describe_faults(labels: Sequence[str]) -> str:
    """Which classes may not be called so, and why; "" where all may.

    Every table, file and page that has a column, line or choice for a class tells the classes apart by these names.
    """
    faults = _find_faults(labels)
    return list_some([f'"{one_line(label)}" {fault}' for label, fault in faults.items()])


def describe_renaming(labels: Sequence[str]) -> str:
    """``data.classes`` with another name for every class that may not be called so, as YAML takes it."""
    faults = _find_faults(labels)
    new = [f"class {number}" if label in faults else label for number, label in enumerate(labels, 1)]
    pairs = (f"{json.dumps(name)}: {json.dumps([label])}" for name, label in zip(new, labels, strict=True))
    return f"{{{', '.join(pairs)}}}"


def _find_faults(labels: Sequence[str]) -> dict[str, str]:
    return {label: fault for label in labels if (fault := _find_fault(label, labels))}


def _find_fault(label: str, labels: Sequence[str]) -> str:
    if not label.strip():
        return "is empty"
    if hidden := next(filter(is_unseen, label), ""):
        return f"holds a character that cannot be seen (U+{ord(hidden):04X})"
    if label != label.strip():
        return "begins or ends with a blank"
    if len(label) > LONGEST:
        return f"has {len(label)} characters, more than {LONGEST}"
    if SET_SIGN in label:
        return f"holds {SET_SIGN}, which parts the classes of a prediction set"
    if label.casefold() == EXCLUDE:
        return "means in a review to leave an image out"
    others = [each for each in labels if each != label]
    if alike := [each for each in others if _plain(each) == _plain(label)]:
        return f"differs from {alike[0]!r} in case, blanks or the form of its letters alone"
    taken = (*OWN_COLUMNS, *EXTRA_COLUMNS, *map(calibrated_column, others))
    if label.casefold() in map(str.casefold, taken) or len(find_columns(("path", label), "path")) > 1:
        return "names another column in tables of predictions"
    return "is there twice" if list(labels).count(label) > 1 else ""


def _plain(label: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def join_set(labels: Iterable[str]) -> str:
    """A prediction set as one text."""
    return SET_SIGN.join(labels)
