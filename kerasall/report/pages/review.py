"""The page that is handed to an expert: pictures, votes, reasons, and a choice for each image.

One self-contained file. Its own small script keeps the answers in the browser and writes them as a table; the
page's content security policy allows that script alone and no request. Without scripts the table is filled by hand:
``to_table`` is the same queue, one row an image.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from kerasall.errors import count_of
from kerasall.evaluation.review import ReviewItem, ReviewQueue
from kerasall.files import sha256_of_json, write_text
from kerasall.report.format import format_value
from kerasall.report.page import (
    Page,
    Picture,
    Section,
    encode_picture,
    read_picture,
    render_page,
    render_section,
)

HEAD = 24
"""Images of the queue that a report shows."""
PAGE_SIDE = 288
"""Longer side of a picture on the page, in pixels."""
_MOST_NAMED, _MOST_TWINS = 400, 2
_WEAK = 0.7
"""Share of images decided as labelled below which a model's suspicions are mostly its own mistakes."""
_TEMPLATES = Path(__file__).parents[1] / "templates"
Overlay = Callable[[ReviewItem], "tuple[np.ndarray, str] | None"]
"""Makes a picture, uint8 [h, w, 3], of where the model looked, and a caption; None for none."""
SEEN = {
    "test": "in the test part, predicted by the exported model",
    "out-of-fold": "out-of-fold, each predicted by a model that did not train on it",
    "validation": "in the validation part, by which the end of training or its settings were chosen",
    "selection": "in the part on which the paper's protocol also chose its settings",
}
"""Kind of predictions -> what the page says of them."""
REASONS = {
    "duplicate_labels": "Near duplicates with different labels",
    "members_wrong": "Called otherwise by the members",
    "label_suspect": "Suspected label errors",
    "confident_mistake": "Confident mistakes",
}
"""Code of a reason -> heading, in the order of urgency."""
EXPLANATIONS = {
    "duplicate_labels": "at least one of the labels is wrong, whatever a model says",
    "members_wrong": "hard images, wrong labels, or both",
    "label_suspect": "another class reaches the probability that its own images get on average (confident learning)",
    "confident_mistake": "called another class with a probability of at least 90%",
}


@dataclass(frozen=True)
class PageFacts:
    """What the page says besides the queue.

    Attributes:
        title: of the page.
        model: one sentence on the model.
        most: images to show, the first of the queue; None for all.
        paths: id -> path of every image, for near duplicates.
        overlay: see ``Overlay``; None for no overlays.
    """

    title: str
    model: str = ""
    most: int | None = None
    paths: Mapping[str, str] | None = None
    overlay: Overlay | None = None


def count_reasons(queue: ReviewQueue) -> list[dict[str, Any]]:
    """Rows of the table of reasons: heading, meaning, and the labels of the images with that reason."""
    rows = []
    for code, heading in REASONS.items():
        labels = [item.label for item in queue.items if any(reason.code == code for reason in item.reasons)]
        if labels or code in ("duplicate_labels", "label_suspect"):
            rows.append({"heading": heading, "meaning": EXPLANATIONS[code], "labels": labels})
    labels = [item.label for item in queue.items]
    return [*rows, {"heading": "All, each counted once", "meaning": "", "labels": labels}]


def describe_sources(queue: ReviewQueue) -> str:
    """Which predictions the queue was made of, and which images have none."""
    seen = [f"{count_of(count, 'image')} {SEEN[kind]}" for kind, count in queue.predicted.items()]
    words = "No predictions were found."
    if seen:
        share = format_value(queue.agreed / sum(queue.predicted.values()))
        words = f"Judged by predictions that already existed: {'; '.join(seen)}. "
        words += f"The model decides as labelled on {share} of them."
    if queue.unseen:
        words += (
            f" The other {count_of(queue.unseen, 'image was', 'images were')} trained on and not judged: a model agrees with labels it "
            "has learnt. A cross-validation (split.kind: folds) judges every image."
        )
    if queue.reviewed:
        words += f" {count_of(queue.reviewed, 'image')} that an expert decided on before {'is' if queue.reviewed == 1 else 'are'} left out."
    return words


def describe_scope(queue: ReviewQueue) -> str:
    """Who is counted as wrong."""
    if queue.members == 1:
        return ""
    return f"An image enters if at least {queue.at_least} of the {queue.members} members are wrong."


def review_section(queue: ReviewQueue, run: str) -> Section | None:
    """Counts of the queue, its first images, and the command that makes the page to hand to an expert.

    Args:
        queue: of ``build_queue``.
        run: name of the run, for the command.
    """
    head = [shown for shown in map(_gallery_item, queue.items[:HEAD]) if shown is not None]
    judged_by = f"{describe_sources(queue)} {describe_scope(queue)}"
    return render_section(
        "review", queue=queue, reasons=count_reasons(queue), head=head, judged_by=judged_by, run=run
    )


def _gallery_item(item: ReviewItem) -> dict[str, Any] | None:
    called = item.decision or "not predicted"
    alt = f"Image {item.id}: labelled {item.label}, called {called}"
    picture = read_picture(f"review-{item.rank:02d}", alt, item.path)
    if picture is None:
        return None
    lines = [f"{item.wrong} of {item.members} members wrong"] if item.members > 1 else []
    if item.probability is not None:
        lines.append(f"{called} {format_value(item.probability)}")
    if item.twins:
        lines.append("near duplicate labelled otherwise")
    return {
        "picture": picture,
        "title": f"{item.label} → {called}",
        "text": "\n".join([*lines, item.id]),
        "tone": "bad" if item.decision != item.label else "",
    }


def to_table(queue: ReviewQueue) -> pd.DataFrame:
    """The queue as the table that is handed out: one row per image, the last three columns empty.

    Columns rank, id, path, label, decision, probability, members_wrong, members, votes_<class>, p_<class>,
    reasons (codes), why (sentences), predictions, part, subject, group, corrected_label, reviewer, comment.
    """
    voted = [f"{what}_{name}" for what in ("votes", "p") for name in queue.classes]
    columns = [
        "rank", "id", "path", "label", "decision", "probability", "members_wrong", "members", *voted, "reasons", "why",
        "predictions", "part", "subject", "group", "corrected_label", "reviewer", "comment",
    ]  # fmt: skip
    return pd.DataFrame([_make_row(item, queue.classes) for item in queue.items], columns=columns)


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


def write_review_page(
    queue: ReviewQueue, path: str | Path, facts: PageFacts, table_name: str = "review.csv"
) -> None:
    """Writes the page, atomically.

    Args:
        queue: the whole queue; counts and names are of all of it.
        path: of the HTML file.
        facts: what it says besides.
        table_name: name of the table beside the page.
    """
    script = (_TEMPLATES / "review.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    shown = list(queue.items)[: facts.most]
    rest = f", the most urgent of {len(queue.items):,}" if len(shown) < len(queue.items) else ""
    total = sum(queue.predicted.values())
    page = Page(
        title=facts.title,
        subtitle=f"{len(shown):,} images to look at{rest}. {facts.model}",
        sections=(
            render_section(
                "review_task", classes=queue.classes, table_name=table_name, agreed=queue.agreed, total=total,
                scored="test" in queue.predicted or "out-of-fold" in queue.predicted,
                weak=bool(total) and queue.agreed / total < _WEAK,
            ),
            render_section(
                "review_counts", queue=queue, reasons=count_reasons(queue), names=_list_names(queue),
                judged_by=" ".join(filter(None, (describe_sources(queue), describe_scope(queue)))),
            ),
            render_section(
                "review_images", images=[(item, _make_pictures(item, facts)) for item in shown], classes=queue.classes,
                digest=sha256_of_json([[item.id, item.label] for item in shown])[:16],
            ),
        ),
        kicker="kerasall · review queue",
        footer="Written by kerasall. For research use only: not a diagnostic device. This page asks nothing of the network.",
    )  # fmt: skip
    # The script is the package's own file, so it may stand in the page as it is.
    write_text(path, render_page(page, "review.html", script=Markup(script), script_hash=digest))


def _list_names(queue: ReviewQueue) -> dict[str, str]:
    """Names of the queued images by label and number of wrong members, or by reason for one classifier."""
    groups: dict[str, list[str]] = {}
    for item in queue.items:
        if queue.members > 1 and item.members:
            key = f"{item.label}, {item.wrong} of {item.members} members wrong"
        else:
            key = f"{item.label}, {REASONS[item.reasons[0].code].lower()}"
        groups.setdefault(key, []).append(item.id)
    return {
        f"{key} ({len(ids):,})": ", ".join(ids[:_MOST_NAMED]) + (" …" if len(ids) > _MOST_NAMED else "")
        for key, ids in groups.items()
    }


def _make_pictures(item: ReviewItem, facts: PageFacts) -> list[tuple[Picture, str]]:
    """The image as it is, where the model looked, near duplicates, each with a caption; none where it cannot be read."""
    name = f"Image {item.rank}"
    own = read_picture("own", name, item.path, PAGE_SIDE)
    if own is None:
        return []
    pictures = [(own, "")]
    if facts.overlay is not None and (drawn := facts.overlay(item)) is not None:
        pixels, words = drawn
        pictures.append((encode_picture("overlay", f"{name}: {words}", pixels, PAGE_SIDE), words))
    for twin in item.twins[:_MOST_TWINS]:
        path, alt = (facts.paths or {}).get(twin, ""), f"Near duplicate of image {item.rank}"
        copy = read_picture("twin", alt, path, PAGE_SIDE)
        if copy is not None:
            pictures.append((copy, f"Near duplicate {twin}"))
    return pictures
