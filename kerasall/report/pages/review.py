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

from kerasall.decoding import decode, read_image_bytes
from kerasall.errors import DecodingError
from kerasall.evaluation.review import REASONS, SEEN, ReviewItem, ReviewQueue
from kerasall.files import sha256_of_json, write_text
from kerasall.report.figure_style import data_uri
from kerasall.report.format import format_value
from kerasall.report.page import Picture, Section, render_section, render_template
from kerasall.report.sections import encode_thumbnail

EXPLANATIONS = {
    "duplicate_labels": "at least one of the labels is wrong, whatever a model says",
    "members_wrong": "hard images, wrong labels, or both",
    "label_suspect": "another class reaches the probability that its own images get on average (confident learning)",
    "confident_mistake": "called another class with a probability of at least 90%",
}


def count_reasons(queue: ReviewQueue) -> list[dict[str, Any]]:
    """Rows of the table of reasons: heading, meaning, and the labels of the images with that reason."""
    rows = []
    for code, heading in REASONS.items():
        labels = [item.label for item in queue.items if any(reason.code == code for reason in item.reasons)]
        if labels or code in ("duplicate_labels", "label_suspect"):
            rows.append({"heading": heading, "meaning": EXPLANATIONS[code], "labels": labels})
    return [
        *rows,
        {"heading": "All, each counted once", "meaning": "", "labels": [item.label for item in queue.items]},
    ]


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
    pixels = _read_pixels(item.path)
    if pixels is None:
        return None
    called = item.decision or "not predicted"
    lines = [f"{item.wrong} of {item.members} members wrong"] if item.members > 1 else []
    if item.probability is not None:
        lines.append(f"{called} {format_value(item.probability)}")
    if item.twins:
        lines.append("near duplicate labelled otherwise")
    alt = f"Image {item.id}: labelled {item.label}, called {called}"
    content = encode_thumbnail(pixels, _HEAD_SIDE, quality=88)
    return {
        "picture": Picture(f"figures/review-{item.rank:02d}.jpg", alt, content),
        "title": f"{item.label} → {called}",
        "text": "\n".join([*lines, item.id]),
        "tone": "bad" if item.decision != item.label else "",
    }


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


HEAD, _HEAD_SIDE = 24, 192
"""Images of the queue that a report shows, and their longer side in pixels."""

PAGE_SIDE = 288
"""Longer side of a picture on the page, in pixels."""


_MOST_NAMED = 400


_MOST_TWINS = 2


_WEAK = 0.7
"""Share of images decided as labelled below which a model's suspicions are mostly its own mistakes."""


_TEMPLATES = Path(__file__).parents[1] / "templates"


Overlay = Callable[[ReviewItem], "tuple[np.ndarray, str] | None"]
"""Makes a picture, uint8 [h, w, 3], of where the model looked, and a caption; None for none."""


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
    page = {
        "title": facts.title,
        "subtitle": f"{len(shown):,} images to look at{rest}. {facts.model}",
        "classes": list(queue.classes),
        "table_name": table_name,
        "digest": sha256_of_json([[item.id, item.label] for item in shown])[:16],
        "alerts": _list_alerts(queue),
        "counts_intro": " ".join(filter(None, (describe_sources(queue), describe_scope(queue)))),
        "reasons": count_reasons(queue),
        "lists": _list_names(queue),
        "queue_intro": "Most urgent first."
        if queue.items
        else "The queue is empty: nothing speaks against any label.",
        "items": [_describe_item(item, queue.classes, facts) for item in shown],
    }
    # The script is the package's own file, so it may stand in the page as it is.
    values = {"page": page, "queue": queue, "script": Markup(script), "script_hash": digest}
    write_text(path, render_template("review.html", **values))


def _read_pixels(path: str | Path) -> np.ndarray | None:
    try:
        return decode(read_image_bytes(path), name=str(path))
    except (DecodingError, OSError):
        return None


def _list_alerts(queue: ReviewQueue) -> list[dict[str, str]]:
    alerts = []
    if "test" in queue.predicted or "out-of-fold" in queue.predicted:
        text = (
            "These images are also the ones the model is scored on. Correcting only labels that the model disagrees "
            "with moves the score towards the model: a corrected test set is another test set, and its score is not "
            "to be compared with scores on the labels as they were."
        )
        alerts.append({"level": "warning", "title": "Scored images are among them", "text": text})
    total = sum(queue.predicted.values())
    if total and queue.agreed / total < _WEAK:
        text = (
            f"The model decides as labelled on {queue.agreed:,} of {total:,} images only: what it suspects is mostly its "
            "own mistakes. Train a better model before an expert spends time on this list."
        )
        alerts.append({"level": "bad", "title": "This model knows too little to doubt labels", "text": text})
    text = "A model’s doubt is no proof. Most images that a model gets wrong are labelled rightly and merely hard."
    return [*alerts, {"level": "note", "title": "Decide by the image", "text": text}]


def _list_names(queue: ReviewQueue) -> list[dict[str, str]]:
    """Names of the queued images by label and number of wrong members, or by reason for one classifier."""
    groups: dict[str, list[str]] = {}
    for item in queue.items:
        if queue.members > 1 and item.members:
            key = f"{item.label}, {item.wrong} of {item.members} members wrong"
        else:
            key = f"{item.label}, {REASONS[item.reasons[0].code].lower()}"
        groups.setdefault(key, []).append(item.id)
    return [
        {
            "label": f"{key} ({len(ids):,})",
            "value": ", ".join(ids[:_MOST_NAMED]) + (" …" if len(ids) > _MOST_NAMED else ""),
        }
        for key, ids in groups.items()
    ]


def _describe_item(item: ReviewItem, classes: Sequence[str], facts: PageFacts) -> dict[str, Any]:
    probabilities, votes = item.probabilities or {}, item.votes or {}
    bars = [
        {"name": name, "votes": votes.get(name), "text": format_value(share), "width": f"{100 * share:.1f}"}
        for name, share in probabilities.items()
    ]
    choices = [
        {"value": name, "text": name, "told": "label is right:" if name == item.label else "should be:"}
        for name in classes
    ]
    return {
        "rank": item.rank, "id": item.id, "label": item.label,
        "pictures": _make_pictures(item, facts), "facts": _list_facts(item),
        "bars": bars, "voted": item.members > 1, "reasons": [reason.text for reason in item.reasons],
        "choices": [*choices, {"value": "exclude", "text": "cannot tell", "told": ""}],
    }  # fmt: skip


def _list_facts(item: ReviewItem) -> list[dict[str, str]]:
    facts = {"Label": item.label}
    if item.decision:
        facts["Called"] = f"{item.decision} ({format_value(item.probability)})"
    facts["Predictions"] = item.kind or "none: a model trained on it"
    facts |= {
        "Subject": item.subject,
        "Group": item.group if item.group != item.subject else "",
        "Part": item.part if item.part != item.kind else "",
    }
    return [{"label": label, "value": value} for label, value in facts.items() if value]


def _make_pictures(item: ReviewItem, facts: PageFacts) -> list[dict[str, Any]]:
    pixels = _read_pixels(item.path)
    if pixels is None:
        return []
    pictures = [_picture(pixels, f"Image {item.rank}", "", neutral=True)]
    if facts.overlay is not None and (drawn := facts.overlay(item)) is not None:
        overlay, words = drawn
        pictures.append(_picture(overlay, f"Image {item.rank}: {words}", words))
    for twin in item.twins[:_MOST_TWINS]:
        copy = _read_pixels((facts.paths or {}).get(twin, ""))
        if copy is not None:
            pictures.append(_picture(copy, f"Near duplicate of image {item.rank}", f"Near duplicate {twin}"))
    return pictures


def _picture(pixels: np.ndarray, alt: str, caption: str, neutral: bool = False) -> dict[str, Any]:
    content = encode_thumbnail(pixels, PAGE_SIDE, quality=88)
    return {"src": data_uri(content, "image/jpeg"), "alt": alt, "caption": caption, "neutral": neutral}
