"""The data card: a page on a data set before anything trains, from one pass over its pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall.data.oddness import (
    FEWEST,
    MEASURES,
    OddSubject,
    find_odd_images,
    find_odd_subjects,
    measure_images,
    score_colour_alone,
)
from kerasall.data.validation import Examined
from kerasall.files import write_text
from kerasall.report.figures_data import (
    NAMED_SUBJECTS,
    draw_counts,
    draw_spread_by_class,
    draw_spread_by_subject,
)
from kerasall.report.format import Score
from kerasall.report.page import Page, Section, draw_picture, read_picture, render_page, render_section
from kerasall.report.sections import count_images
from kerasall.version import __version__

MOST_GROUPS, MOST_IN_GROUP, MOST_SUBJECTS, PICTURES = 20, 6, 12, 4
_BY_SUBJECT = ("brightness", "red_blue", "focus")


def write_data_card(examined: Examined, page: Path, command: str) -> None:
    """Writes the self-contained page, atomically.

    Args:
        examined: a collection with its scan, duplicates and anomalies.
        page: the HTML file.
        command: the command line, to be told.
    """
    write_text(page, render_page(make_data_card(examined, command)))


def make_data_card(examined: Examined, command: str) -> Page:
    """The page on a collection."""
    collection, found = examined.collection, examined.found
    images = measure_images(collection, examined.scan)
    odd = find_odd_subjects(images) if collection.subject_kind != "none" else []
    return Page(
        title=f"Data card: {collection.root.name or collection.root}",
        subtitle="What is in these images, how they differ, and what a model must not learn from.",
        facts={
            "Folder": str(collection.root), "Source": collection.source, "Fingerprint": found["fingerprint"][:16],
        },
        results=found,
        sections=(
            render_section(
                "card_summary", found=found, kind=_kind(examined), subject_kind=collection.subject_kind,
                odd=len({each.subject for each in odd}),
            ),
            _counts(examined), render_section("card_files", found=found), _by_class(examined, images),
            _by_subject(examined, images, odd), _duplicates(examined), _odd_images(images),
            render_section(
                "provenance", command=command, settings="", environment={"Software": f"kerasall {__version__}"}
            ),
        ),
        kicker="kerasall · data card",
        footer="Written by kerasall. It describes images and their labels; it does not vouch for either. "
        "The same counts for programs: kerasall check --json.",
    )  # fmt: skip


def _kind(examined: Examined) -> str:
    """What a subject is called."""
    return "block" if examined.collection.subject_kind == "block" else "subject"


def _counts(examined: Examined) -> Section | None:
    collection, found, kind = examined.collection, examined.found, _kind(examined)
    examples, labels, known = collection.examples, list(collection.labels), collection.subject_kind != "none"
    parts = list(found["folds"])
    columns = parts or ["images"]
    part = examples["fold"] if parts else pd.Series("images", examples.index)
    images = count_images(examples["label"], part, labels, columns)
    height, per_subject = 1.3 + 0.34 * len(labels), None
    if known:
        named = examples[examples["subject"] != ""]
        sizes = {
            label: own.groupby("subject").size().to_numpy(float)
            for label in labels
            for own in [named[named["label"] == label]]
        }
        words = f"images of one {kind}"
        per_subject = draw_picture("images-per-subject", draw_spread_by_class, sizes, words, height=height)
    return render_section(
        "card_counts",
        labels=labels, malignant=collection.malignant, found=found, kind=kind, known=known, parts=parts,
        images=images.tolist(),
        picture=draw_picture("counts", draw_counts, labels, columns, images, height=height),
        per_subject=per_subject,
    )  # fmt: skip


def _by_class(examined: Examined, images: pd.DataFrame) -> Section | None:
    classes, height = examined.collection.labels, 1.2 + 0.34 * len(examined.collection.labels)
    pictures = []
    for measure, title in MEASURES.items():
        if images.empty or images[measure].min() == images[measure].max():
            continue
        values = {name: images.loc[images["label"] == name, measure].to_numpy(float) for name in classes}
        pictures.append(draw_picture(f"class-{measure}", draw_spread_by_class, values, title, height=height))
    groups = examined.groups
    found = score_colour_alone(images, groups.reindex(images["id"]).to_numpy(str), classes)
    alone = None
    if found is not None and found.low is not None:
        title = "Colour and focus alone"
        alone = Score(title, found.value, found.low, found.high, chance=1 / len(classes))
    return render_section("by_class", alone=alone, groups=found.groups if found else 0, pictures=pictures)


def _by_subject(examined: Examined, images: pd.DataFrame, odd: Sequence[OddSubject]) -> Section | None:
    known = images[images["subject"] != ""]
    if examined.collection.subject_kind == "none":
        known = known.iloc[:0]
    subjects = {str(name): part for name, part in known.groupby("subject")}
    labels = {name: _label_of(part) for name, part in subjects.items()}
    height = min(1.4 + 0.2 * len(subjects), 5.6) if len(subjects) <= NAMED_SUBJECTS else 4.4
    pictures = []
    for measure in _BY_SUBJECT if subjects else ():
        values = {name: part[measure].to_numpy(float) for name, part in subjects.items()}
        named = {each.subject for each in odd if each.measure == measure}
        pictures.append(
            draw_picture(
                f"subject-{measure}", draw_spread_by_subject, values, labels, examined.collection.labels,
                MEASURES[measure], named, height=height,
            )
        )  # fmt: skip
    measures = {name: _short(name) for name in MEASURES}
    return render_section(
        "by_subject", kind=_kind(examined), pictures=pictures, odd=odd, measures=measures,
        enough=known["subject"].nunique() >= FEWEST, galleries=_odd_galleries(images, odd),
    )  # fmt: skip


def _label_of(rows: pd.DataFrame) -> str:
    return str(rows["label"].mode().iloc[0])


def _short(measure: str) -> str:
    """The measure without its unit."""
    return MEASURES[measure].partition(" (")[0]


def _odd_galleries(images: pd.DataFrame, odd: Sequence[OddSubject]) -> list[dict[str, Any]]:
    """Pictures of every subject unlike the rest, beside others of its class."""
    names = list(dict.fromkeys(each.subject for each in odd))[:MOST_SUBJECTS]
    galleries = []
    for number, name in enumerate(names, start=1):
        own = images[images["subject"] == name]
        label = _label_of(own)
        others = images[(images["label"] == label) & ~images["subject"].isin(names)]
        items = _spread(own, PICTURES, f"odd-{number:02d}", name, "warning")
        items += _spread(others, 2, f"usual-{number:02d}", f"other {label}")
        galleries.append({"name": name, "label": label, "items": items})
    return galleries


def _spread(rows: pd.DataFrame, most: int, name: str, title: str, tone: str = "") -> list[dict[str, Any]]:
    """Pictures of some rows, evenly spread over all."""
    chosen = np.unique(np.linspace(0, max(len(rows) - 1, 0), min(len(rows), most)).astype(int))
    return _gallery(
        (f"{name}-{number}", row["path"], f"Image {row['id']}: {title}", title, Path(str(row["id"])).name, tone)
        for number, row in enumerate(rows.iloc[chosen].to_dict("records"))
    )  # fmt: skip


def _gallery(items: Iterable[tuple[str, str, str, str, str, str]]) -> list[dict[str, Any]]:
    """Pictures of a gallery, of name, path, alternative text, title, text and tone; without what cannot be read."""
    read = ((read_picture(name, alt, path), *words) for name, path, alt, *words in items)
    return [dict(zip(("picture", "title", "text", "tone"), each, strict=True)) for each in read if each[0]]


def _duplicates(examined: Examined) -> Section | None:
    """Groups of duplicates side by side, the gravest first."""
    examples = examined.collection.examples.set_index("id")
    groups = []
    copies = examined.duplicates
    kinds = {
        "near duplicates": copies.near,
        "byte-identical files": copies.exact,
        "copies by name": copies.named,
    }
    for what, found in kinds.items():
        for ids in found:
            rows = examples.loc[list(ids)]
            labels = rows["label"].nunique()
            subjects = rows.loc[rows["subject"] != "", "subject"].nunique()
            gravity = 2 * (labels > 1) + (subjects > 1)
            facts = {"what": what, "images": len(ids), "labels": labels, "subjects": subjects}
            groups.append((-gravity, ids[0], rows, facts))
    groups.sort(key=lambda group: group[:2])
    shown = [
        facts | {"items": _copies(number, rows, {-1: "warning", 0: ""}.get(grave, "bad"))}
        for number, (grave, _, rows, facts) in enumerate(groups[:MOST_GROUPS], start=1)
    ]
    return render_section(
        "duplicates", groups=shown, total=len(groups), most=MOST_IN_GROUP, kind=_kind(examined)
    )


def _copies(number: int, rows: pd.DataFrame, tone: str) -> list[dict[str, Any]]:
    return _gallery(
        (
            f"copy-{number:02d}-{place}", row["path"], f"Image {name} of class {row['label']}, one of group {number}",
            str(row["label"]), "\n".join(filter(None, (str(row["subject"]), Path(str(name)).name))), tone,
        )
        for place, (name, row) in enumerate(rows.head(MOST_IN_GROUP).iterrows())
    )  # fmt: skip


def _odd_images(images: pd.DataFrame) -> Section | None:
    """The images farthest from their class in colour or focus."""
    items = []
    for number, each in enumerate(find_odd_images(images)):
        words = f"{_short(each.measure)} {each.value:.4g}, {each.deviations:+.1f} deviations"
        text = "\n".join(filter(None, (words, each.subject, Path(each.id).name)))
        name, alt = f"odd-image-{number:02d}", f"Image {each.id}: {words}"
        items.append((name, each.path, alt, each.label, text, ""))
    return render_section("odd_images", items=_gallery(items))
