"""The pictures of a data card: subjects unlike the rest, duplicates side by side, odd images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kerasall.components.example_validator import Examined
from kerasall.data.oddness import FEWEST, MEASURES, OddImage, OddSubject, find_odd_images
from kerasall.evaluation.report_document import (
    Alert,
    Block,
    Column,
    Gallery,
    GalleryItem,
    Section,
    Table,
    Tone,
)
from kerasall.evaluation.review_page import make_thumbnail

MOST_GROUPS, MOST_IN_GROUP, MOST_SUBJECTS, PICTURES = 20, 6, 12, 4
_SIDE = 192

_Group = tuple[str, Sequence[str]]


def odd_subject_blocks(images: pd.DataFrame, odd: Sequence[OddSubject], kind: str) -> list[Block]:
    """A table of subjects unlike the rest, and pictures of each beside others of its class."""
    if not odd:
        enough = images.loc[images["subject"] != "", "subject"].nunique() >= FEWEST
        words = (
            f"No {kind} is unlike the rest" if enough else f"Too few {kind}s to say which is unlike the rest"
        )
        return [Alert("good" if enough else "note", words)]
    columns = (
        Column(kind.capitalize()), Column("Class"), Column("Images", "right"), Column("In what"), Column("Median", "right"),
        Column("The others", "right"), Column("Deviations", "right"),
    )  # fmt: skip
    rows = tuple(
        (
            each.subject, each.label, f"{each.images:,}", MEASURES[each.measure].partition(" (")[0],
            f"{each.value:.4g}", f"{each.others:.4g}", f"{each.deviations:+.1f}",
        )
        for each in odd
    )  # fmt: skip
    blocks: list[Block] = [Table(f"Every {kind} unlike the rest", columns, rows, tall=len(rows) > 16)]
    names = list(dict.fromkeys(each.subject for each in odd))[:MOST_SUBJECTS]
    for number, name in enumerate(names, start=1):
        own = images[images["subject"] == name]
        items = list(_pictures(own.iloc[_spread(len(own))], f"odd-{number:02d}", name, "warning"))
        label = str(own["label"].mode().iloc[0])
        others = images[(images["label"] == label) & ~images["subject"].isin(names)]
        items += _pictures(others.iloc[_spread(len(others), 2)], f"usual-{number:02d}", f"other {label}")
        blocks.append(
            Gallery(tuple(items), f"{kind.capitalize()} {name}, and beside it others of class {label}")
        )
    return blocks


def _spread(count: int, most: int = PICTURES) -> np.ndarray:
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).astype(int))


def _pictures(rows: pd.DataFrame, name: str, title: str, tone: Tone = "") -> Iterator[GalleryItem]:
    for number, row in enumerate(rows.to_dict("records")):
        content = make_thumbnail(str(row["path"]), _SIDE)
        if content is not None:
            src = f"figures/{name}-{number}.jpg"
            yield GalleryItem(
                src, f"Image {row['id']}: {title}", title, Path(str(row["id"])).name, tone, content
            )


def duplicate_section(examined: Examined) -> Section:
    """Groups of duplicates side by side, the gravest first."""
    examples = examined.collection.examples.set_index("id")
    groups: list[_Group] = [("near duplicates", ids) for ids in examined.near]
    groups += [("byte-identical files", ids) for ids in examined.exact]
    if not groups:
        return Section("duplicates", "Duplicates", blocks=(Alert("good", "No duplicates were found"),))
    groups.sort(key=lambda group: (-_gravity(examples, group[1]), group[1][0]))
    blocks: list[Block] = []
    kind = "block" if examined.collection.subject_kind == "block" else "subject"
    for number, (what, ids) in enumerate(groups[:MOST_GROUPS], start=1):
        blocks.append(_duplicate_gallery(examples, number, what, ids, kind))
    intro = (
        "The same cell, more than once. A split keeps every group on one side; different labels for one cell are a fault "
        "that somebody must cure. The gravest stand first."
    )
    if len(groups) > MOST_GROUPS:
        intro += f" Shown are {MOST_GROUPS} of {len(groups):,} groups; kerasall check --json counts them all."
    return Section("duplicates", "Duplicates side by side", intro, tuple(blocks))


def _gravity(examples: pd.DataFrame, ids: Sequence[str]) -> int:
    rows = examples.loc[list(ids)]
    return 2 * (rows["label"].nunique() > 1) + (rows.loc[rows["subject"] != "", "subject"].nunique() > 1)


def _duplicate_gallery(
    examples: pd.DataFrame, number: int, what: str, ids: Sequence[str], kind: str
) -> Gallery:
    rows = examples.loc[list(ids)]
    labels, subjects = rows["label"].nunique(), rows.loc[rows["subject"] != "", "subject"].nunique()
    tone: Tone = "bad" if labels > 1 else "warning" if subjects > 1 else ""
    items = []
    for place, (name, row) in enumerate(rows.head(MOST_IN_GROUP).iterrows()):
        content = make_thumbnail(str(row["path"]), _SIDE)
        if content is None:
            continue
        text = "\n".join(part for part in (str(row["subject"]), Path(str(name)).name) if part)
        alt = f"Image {name} of class {row['label']}, one of group {number}"
        items.append(
            GalleryItem(f"figures/copy-{number:02d}-{place}.jpg", alt, str(row["label"]), text, tone, content)
        )
    words = [f"Group {number}: {len(ids)} {what}"]
    words += ["different labels"] if labels > 1 else []
    words += [f"{subjects} {kind}s"] if subjects > 1 else []
    words += [f"the first {MOST_IN_GROUP} are shown"] if len(ids) > MOST_IN_GROUP else []
    return Gallery(tuple(items), " · ".join(words))


def odd_image_section(images: pd.DataFrame) -> Section:
    """The images farthest from their class in colour or focus."""
    found = find_odd_images(images)
    title = "Images unlike the rest of their class"
    if not found:
        words = "No image lies far outside its class"
        return Section("odd-images", title, blocks=(Alert("good", words),))
    items = tuple(item for number, each in enumerate(found) if (item := _odd_item(each, number)))
    intro = "The farthest in colour or focus; look for empty fields, blur, dirt, another stain, another magnification."
    return Section("odd-images", title, intro, (Gallery(items),))


def _odd_item(odd: OddImage, number: int) -> GalleryItem | None:
    content = make_thumbnail(odd.path, _SIDE)
    if content is None:
        return None
    what = MEASURES[odd.measure].partition(" (")[0]
    words = f"{what} {odd.value:.4g}, {odd.deviations:+.1f} deviations"
    text = "\n".join(part for part in (words, odd.subject, Path(odd.id).name) if part)
    return GalleryItem(
        f"figures/odd-image-{number:02d}.jpg", f"Image {odd.id}: {words}", odd.label, text, "", content
    )
