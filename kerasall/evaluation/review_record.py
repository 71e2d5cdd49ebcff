"""What a review queue is made of: predictions of images by models that had not seen them, and what is known of them.

An evaluation writes it, the review reads it. On disk a folder with

    review.json           classes, sources in order, near duplicates with different labels, ids looked at before
    images.csv            columns ``IMAGE_COLUMNS``
    <kind>.npz            predictions of one source, and <kind>/<member>.npz those of an ensemble's members
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from kerasall.errors import ArtifactError
from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.files import atomic_path, read_json, write_json

REVIEW = "review"
"""Folder of an Evaluation."""

IMAGE_COLUMNS = ("id", "path", "label", "subject", "group", "part")

SEEN = {
    "test": "in the test part, predicted by the exported model",
    "out-of-fold": "out-of-fold, each predicted by a model that did not train on it",
    "validation": "in the validation part, by which the end of training or its settings were chosen",
    "selection": "in the part on which the paper's protocol also chose its settings",
}
"""Kind of predictions -> what a page says of them."""


@dataclass(frozen=True, eq=False)
class ReviewSource:
    """Predictions of images that their models did not train on.

    Attributes:
        kind: a key of ``SEEN``.
        predictions: with the decisions of the model.
        members: of an ensemble, name -> predictions of the same images in the same order; else empty.
    """

    kind: str
    predictions: Predictions
    members: Mapping[str, Predictions] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ReviewRecord:
    """Everything a queue is made of.

    Attributes:
        classes: names in class order.
        sources: predictions; an image that stands in several counts in the first.
        images: table with ``IMAGE_COLUMNS`` of all images of the data.
        contradictions: groups of near duplicates, lists of ids, whose labels differ.
        reviewed: ids that an expert has decided on already; they are not queued again.
    """

    classes: tuple[str, ...]
    sources: Sequence[ReviewSource]
    images: pd.DataFrame
    contradictions: Sequence[Sequence[str]] = ()
    reviewed: Sequence[str] = ()


def write_review_record(record: ReviewRecord, folder: str | Path) -> None:
    """Writes the record into ``folder``, which is made."""
    folder = Path(folder)
    for source in record.sources:
        (folder / source.kind).mkdir(parents=True)
        write_predictions(source.predictions, folder / f"{source.kind}.npz")
        for name, predictions in source.members.items():
            write_predictions(predictions, folder / source.kind / f"{name}.npz")
    with atomic_path(folder / "images.csv") as temporary:
        record.images[list(IMAGE_COLUMNS)].to_csv(temporary, index=False)
    facts = {
        "classes": list(record.classes),
        "sources": [{"kind": source.kind, "members": list(source.members)} for source in record.sources],
        "contradictions": [list(group) for group in record.contradictions],
        "reviewed": list(record.reviewed),
    }
    write_json(folder / "review.json", facts)


def read_review_record(folder: str | Path) -> ReviewRecord:
    """Reads what ``write_review_record`` wrote.

    Raises:
        ArtifactError: there is no such record, as in runs of earlier versions.
    """
    folder = Path(folder)
    if not (folder / "review.json").is_file():
        raise ArtifactError(
            f"{folder} must hold the record of a review, but does not: run the experiment again with `kerasall run`, "
            "which trains nothing anew that is at hand"
        )
    facts = read_json(folder / "review.json")
    sources = [
        ReviewSource(
            each["kind"],
            read_predictions(folder / f"{each['kind']}.npz"),
            {name: read_predictions(folder / each["kind"] / f"{name}.npz") for name in each["members"]},
        )
        for each in facts["sources"]
    ]
    images = pd.read_csv(folder / "images.csv", dtype=str, keep_default_na=False)
    return ReviewRecord(tuple(facts["classes"]), sources, images, facts["contradictions"], facts["reviewed"])
