"""A review queue in numbers: tables for its page and for the report of a run."""

from __future__ import annotations

from kerasall.evaluation.report_document import Cell, Column, Table
from kerasall.evaluation.report_summary import format_value
from kerasall.evaluation.review import REASONS, ReviewQueue
from kerasall.evaluation.review_record import SEEN

EXPLANATIONS = {
    "duplicate_labels": "at least one of the labels is wrong, whatever a model says",
    "members_wrong": "hard images, wrong labels, or both",
    "label_suspect": "another class reaches the probability that its own images get on average (confident learning)",
    "confident_mistake": "called another class with a probability of at least 90%",
}


def count_tables(queue: ReviewQueue) -> tuple[Table, ...]:
    """How many images for which reason; and of an ensemble, by how many members are wrong."""
    tables = [_reason_table(queue)]
    if queue.members > 1:
        tables.append(_wrong_table(queue))
    return tuple(tables)


def describe_sources(queue: ReviewQueue) -> str:
    """Which predictions the queue was made of, and which images have none."""
    seen = [f"{count:,} images {SEEN[kind]}" for kind, count in queue.predicted.items()]
    words = (
        f"Judged by predictions that already existed: {'; '.join(seen)}."
        if seen
        else "No predictions were found."
    )
    if seen:
        share = queue.agreed / sum(queue.predicted.values())
        words += f" The model decides as labelled on {format_value(share)} of them."
    if queue.unseen:
        words += (
            f" The other {queue.unseen:,} images were trained on and are not judged: a model agrees with labels it "
            "has learnt. A cross-validation (split.kind: folds) judges every image."
        )
    if queue.reviewed:
        words += f" {queue.reviewed:,} images that an expert decided on before are left out."
    return words


def describe_scope(queue: ReviewQueue) -> str:
    """Who is counted as wrong."""
    if queue.members == 1:
        return ""
    return f"An image enters if at least {queue.at_least} of the {queue.members} members are wrong."


def _reason_table(queue: ReviewQueue) -> Table:
    columns = (
        Column("Reason"),
        *(Column(name, "right") for name in queue.classes),
        Column("Images", "right"),
    )
    rows = []
    for code, title in REASONS.items():
        found = [item.label for item in queue.items if any(reason.code == code for reason in item.reasons)]
        if found or code in ("duplicate_labels", "label_suspect"):
            each = (f"{found.count(name):,}" for name in queue.classes)
            rows.append((Cell(title, EXPLANATIONS[code]), *each, f"{len(found):,}"))
    labels = [item.label for item in queue.items]
    total = (f"{labels.count(name):,}" for name in queue.classes)
    rows.append(("All, each counted once", *total, f"{len(labels):,}"))
    return Table("Images in the queue, by label and reason", columns, tuple(rows))


def _wrong_table(queue: ReviewQueue) -> Table:
    """As Table 17 of paper 000, for every number of wrong members."""
    columns = (
        Column("Members wrong"),
        *(Column(name, "right") for name in queue.classes),
        Column("Images", "right"),
    )
    rows = []
    total = max(1, sum(map(sum, queue.wrong_counts.values())))
    for wrong in range(queue.members, -1, -1):
        counts = [queue.wrong_counts[name][wrong] for name in queue.classes]
        name = Cell(f"{wrong} of {queue.members}", tone="bad" if wrong > queue.members // 2 else "")
        rows.append((name, *(f"{c:,}" for c in counts), Cell(f"{sum(counts):,}", share=sum(counts) / total)))
    notes = (
        "All predicted images, by their label. Images that all members get wrong are the first to look at.",
    )
    return Table("How many members get an image wrong", columns, tuple(rows), notes)
