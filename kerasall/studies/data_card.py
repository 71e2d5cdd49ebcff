"""The data card: a page on a data set before anything trains, from one pass over its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall import __version__
from kerasall.data.oddness import (
    FEWEST,
    MEASURES,
    OddSubject,
    find_odd_images,
    find_odd_subjects,
    measure_images,
)
from kerasall.data.splits import group_examples
from kerasall.data.validation import Examined
from kerasall.decoding import decode, read_image_bytes
from kerasall.errors import DecodingError
from kerasall.evaluation.cross_fitting import cross_fit, deal_parts
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.files import write_text
from kerasall.report.data_figures import draw_counts, draw_spread_by_class, draw_spread_by_subject
from kerasall.report.format import Score
from kerasall.report.page import Page, Picture, Section, draw_picture, render_page, render_section
from kerasall.report.sections import encode_thumbnail

TREES, LEAST_LEAF = 100, 5

RESAMPLES = 1000


def score_colour_alone(images: pd.DataFrame, groups: np.ndarray, classes: tuple[str, ...]) -> Interval | None:
    """Balanced accuracy of a random forest that knows only the six measures of an image, and no shape.

    Every image is called by a forest that saw no image of its group.

    Args:
        images: from ``measure_images``.
        groups: str [N], of their subjects and duplicates.
        classes: names in class order.

    Returns:
        The score with its 95% interval over groups; None where there are too few images or groups, or one class.
    """
    labels = images["label"].map({name: index for index, name in enumerate(classes)}).to_numpy(np.int64)
    if len(np.unique(labels)) < 2 or len(np.unique(groups)) < 10 or len(images) < 50:
        return None
    blank = np.full((len(images), len(classes)), 1 / len(classes))
    record = Predictions(
        images["id"].to_numpy(), images["subject"].to_numpy(), groups, labels, blank, classes
    )
    values = images[list(MEASURES)].to_numpy(float)

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return _grow(values[others], labels[others]).predict(values[inside])

    decisions = cross_fit(deal_parts(record), answer)
    called = Predictions(
        record.ids, record.subjects, groups, labels, np.eye(len(classes))[decisions], classes, decisions
    )
    found = Scorer(called, resamples=RESAMPLES).interval("balanced_accuracy")
    return None if found.value is None else found


def _grow(values: np.ndarray, labels: np.ndarray):
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        TREES, min_samples_leaf=LEAST_LEAF, class_weight="balanced", random_state=0
    ).fit(values, labels)


MOST_GROUPS, MOST_IN_GROUP, MOST_SUBJECTS, PICTURES = 20, 6, 12, 4
_SIDE = 192
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
    parts = list(found["folds"]) or ["images"]
    examples = collection.examples.assign(part=collection.examples["fold"] if found["folds"] else "images")
    counts = pd.crosstab(examples["label"], examples["part"])
    images = counts.reindex(index=list(collection.labels), columns=parts, fill_value=0).to_numpy()
    labels, height = list(collection.labels), 1.3 + 0.34 * len(collection.labels)
    per_subject = None
    if collection.subject_kind != "none":
        known = collection.examples[collection.examples["subject"] != ""]
        sizes = {
            label: known[known["label"] == label].groupby("subject").size().to_numpy(float)
            for label in labels
        }
        draw = partial(draw_spread_by_class, values=sizes, measure=f"images of one {kind}")
        per_subject = draw_picture("images-per-subject", draw, height)
    return render_section(
        "card_counts",
        labels=labels, malignant=collection.malignant, found=found, kind=kind,
        known=collection.subject_kind != "none", parts=parts if found["folds"] else [], images=images,
        picture=draw_picture("counts", lambda axes: draw_counts(axes, labels, parts, images), height),
        per_subject=per_subject,
    )  # fmt: skip


def _by_class(examined: Examined, images: pd.DataFrame) -> Section | None:
    classes = examined.collection.labels
    pictures = []
    for measure, title in MEASURES.items():
        if images.empty or images[measure].min() == images[measure].max():
            continue
        values = {name: images.loc[images["label"] == name, measure].to_numpy(float) for name in classes}
        draw = partial(draw_spread_by_class, values=values, measure=title)
        pictures.append(draw_picture(f"class-{measure}", draw, height=1.2 + 0.34 * len(classes)))
    groups = group_examples(examined.collection.examples, [*examined.exact, *examined.near])
    found = score_colour_alone(images, groups.reindex(images["id"]).to_numpy(str), classes)
    alone = None
    if found is not None and found.low is not None:
        title = "Colour and focus alone"
        alone = Score(title, found.value, found.low, found.high, chance=1 / len(classes))
    return render_section("by_class", alone=alone, groups=found.groups if found else 0, pictures=pictures)


def _by_subject(examined: Examined, images: pd.DataFrame, odd: Sequence[OddSubject]) -> Section | None:
    kind, known = _kind(examined), images[images["subject"] != ""]
    if examined.collection.subject_kind == "none":
        known = known.iloc[:0]
    labels = {str(s): str(part["label"].mode().iloc[0]) for s, part in known.groupby("subject")}
    pictures = []
    for measure in _BY_SUBJECT if len(known) else ():
        values = {str(s): part[measure].to_numpy(float) for s, part in known.groupby("subject")}
        named = {each.subject for each in odd if each.measure == measure}
        draw = partial(
            draw_spread_by_subject, values=values, labels=labels, classes=examined.collection.labels,
            measure=MEASURES[measure], odd=named,
        )  # fmt: skip
        height = min(1.4 + 0.2 * len(values), 5.6) if len(values) <= 24 else 4.4
        pictures.append(draw_picture(f"subject-{measure}", draw, height))
    return render_section(
        "by_subject",
        kind=kind, pictures=pictures, odd=odd, measures={name: title.partition(" (")[0] for name, title in MEASURES.items()},
        enough=known["subject"].nunique() >= FEWEST, galleries=_odd_galleries(images, odd),
    )  # fmt: skip


def _odd_galleries(images: pd.DataFrame, odd: Sequence[OddSubject]) -> list[dict[str, Any]]:
    """Pictures of every subject unlike the rest, beside others of its class."""
    names = list(dict.fromkeys(each.subject for each in odd))[:MOST_SUBJECTS]
    galleries = []
    for number, name in enumerate(names, start=1):
        own = images[images["subject"] == name]
        label = str(own["label"].mode().iloc[0])
        others = images[(images["label"] == label) & ~images["subject"].isin(names)]
        items = _pictures(own.iloc[_spread(len(own))], f"odd-{number:02d}", name, "warning")
        items += _pictures(others.iloc[_spread(len(others), 2)], f"usual-{number:02d}", f"other {label}")
        galleries.append({"name": name, "label": label, "items": items})
    return galleries


def _spread(count: int, most: int = PICTURES) -> np.ndarray:
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).astype(int))


def _pictures(rows: pd.DataFrame, name: str, title: str, tone: str = "") -> list[dict[str, Any]]:
    found = (
        _item(
            f"{name}-{number}",
            row["path"],
            f"Image {row['id']}: {title}",
            title,
            Path(str(row["id"])).name,
            tone,
        )
        for number, row in enumerate(rows.to_dict("records"))
    )
    return [item for item in found if item]


def _item(name: str, path: str, alt: str, title: str, text: str, tone: str = "") -> dict[str, Any] | None:
    """One picture of a gallery; None where the file cannot be read."""
    try:
        pixels = decode(read_image_bytes(path), name=str(path))
    except (DecodingError, OSError):
        return None
    picture = Picture(f"figures/{name}.jpg", alt, encode_thumbnail(pixels, _SIDE, quality=88))
    return {"picture": picture, "title": title, "text": text, "tone": tone}


def _duplicates(examined: Examined) -> Section | None:
    """Groups of duplicates side by side, the gravest first."""
    examples = examined.collection.examples.set_index("id")
    groups = [("near duplicates", ids) for ids in examined.near]
    groups += [("byte-identical files", ids) for ids in examined.exact]
    groups.sort(key=lambda group: (-_gravity(examples, group[1]), group[1][0]))
    shown = [
        _duplicate_gallery(examples, number, what, ids)
        for number, (what, ids) in enumerate(groups[:MOST_GROUPS], start=1)
    ]
    return render_section(
        "duplicates", groups=shown, total=len(groups), most=MOST_IN_GROUP, kind=_kind(examined)
    )


def _gravity(examples: pd.DataFrame, ids: Sequence[str]) -> int:
    labels, subjects = _count_kinds(examples.loc[list(ids)])
    return 2 * (labels > 1) + (subjects > 1)


def _count_kinds(rows: pd.DataFrame) -> tuple[int, int]:
    """Labels and subjects that occur."""
    return rows["label"].nunique(), rows.loc[rows["subject"] != "", "subject"].nunique()


def _duplicate_gallery(examples: pd.DataFrame, number: int, what: str, ids: Sequence[str]) -> dict[str, Any]:
    rows = examples.loc[list(ids)]
    labels, subjects = _count_kinds(rows)
    tone = "bad" if labels > 1 else "warning" if subjects > 1 else ""
    found = (
        _item(
            f"copy-{number:02d}-{place}", row["path"], f"Image {name} of class {row['label']}, one of group {number}",
            str(row["label"]), "\n".join(filter(None, (str(row["subject"]), Path(str(name)).name))), tone,
        )
        for place, (name, row) in enumerate(rows.head(MOST_IN_GROUP).iterrows())
    )  # fmt: skip
    items = [item for item in found if item]
    return {"what": what, "images": len(ids), "labels": labels, "subjects": subjects, "items": items}


def _odd_images(images: pd.DataFrame) -> Section | None:
    """The images farthest from their class in colour or focus."""
    items = []
    for number, each in enumerate(find_odd_images(images)):
        words = (
            f"{MEASURES[each.measure].partition(' (')[0]} {each.value:.4g}, {each.deviations:+.1f} deviations"
        )
        text = "\n".join(filter(None, (words, each.subject, Path(each.id).name)))
        items.append(
            _item(f"odd-image-{number:02d}", each.path, f"Image {each.id}: {words}", each.label, text)
        )
    return render_section("odd_images", items=[item for item in items if item])
