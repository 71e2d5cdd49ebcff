"""The review queue as a table to fill in."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kerasall.evaluation.review import ReviewItem, ReviewQueue


def to_table(queue: ReviewQueue) -> pd.DataFrame:
    """The queue as the table that is handed out: one row per image, the last three columns empty.

    Columns rank, id, path, label, decision, probability, members_wrong, members, votes_<class>, p_<class>,
    reasons (codes), why (sentences), predictions, part, subject, group, corrected_label, reviewer, comment.
    """
    return pd.DataFrame(
        [_make_row(item, queue.classes) for item in queue.items], columns=list_columns(queue.classes)
    )


def list_columns(classes: Sequence[str]) -> list[str]:
    """Names of the table's columns."""
    voted = [f"{what}_{name}" for what in ("votes", "p") for name in classes]
    return [
        "rank", "id", "path", "label", "decision", "probability", "members_wrong", "members", *voted, "reasons", "why",
        "predictions", "part", "subject", "group", "corrected_label", "reviewer", "comment",
    ]  # fmt: skip


def _make_row(item: ReviewItem, classes: Sequence[str]) -> dict[str, object]:
    row: dict[str, object] = {
        "rank": item.rank, "id": item.id, "path": item.path, "label": item.label, "decision": item.decision,
        "probability": "" if item.probability is None else f"{item.probability:.4f}",
        "members_wrong": item.wrong if item.members else "", "members": item.members or "",
        "reasons": " ".join(reason.code for reason in item.reasons),
        "why": " ".join(reason.text for reason in item.reasons),
        "predictions": item.kind, "part": item.part, "subject": item.subject, "group": item.group,
        "corrected_label": "", "reviewer": "", "comment": "",
    }  # fmt: skip
    for name in classes:
        row[f"votes_{name}"] = "" if item.votes is None else item.votes[name]
        row[f"p_{name}"] = "" if item.probabilities is None else f"{item.probabilities[name]:.4f}"
    return row
