"""The data card: a page on a data set before anything trains, from one pass over its pixels.

What colour and focus alone tell of the classes: the score that a model must beat to have seen a cell.

The pictures of a data card: subjects unlike the rest, duplicates side by side, odd images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kerasall import __version__
from kerasall.components.example_validator import Examined
from kerasall.data.oddness import (
    FEWEST,
    MEASURES,
    OddImage,
    OddSubject,
    find_odd_images,
    find_odd_subjects,
    measure_images,
)
from kerasall.data.splits import group_examples
from kerasall.evaluation.cross_fitting import cross_fit, deal_parts
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.files import write_text
from kerasall.report.background import provenance_section
from kerasall.report.data_figures import draw_counts, draw_spread_by_class, draw_spread_by_subject
from kerasall.report.document import (
    Alert,
    Block,
    Check,
    Column,
    Fact,
    Gallery,
    GalleryItem,
    KeyValues,
    Level,
    Range,
    Report,
    Scores,
    ScoreTile,
    Section,
    Table,
    Text,
    Tone,
)
from kerasall.report.figure_style import new_figure
from kerasall.report.page import render_html
from kerasall.report.review_page import make_thumbnail
from kerasall.report.scores import figure_block
from kerasall.report.summary import format_value

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


_BY_SUBJECT = ("brightness", "red_blue", "focus")

KINDS = {"subject": "subject", "block": "block", "none": "subject"}

"""Kind of subject -> what one is called."""


def write_data_card(examined: Examined, page: Path, command: str) -> None:
    """Writes the self-contained page, atomically.

    Args:
        examined: a collection with its scan, duplicates and anomalies.
        page: the HTML file.
        command: the command line, to be told.
    """
    report = make_data_card(examined, command)
    write_text(
        page,
        render_html(
            report, report.figures(), kicker="kerasall · data card",
            footer="Written by kerasall. It describes images and their labels; it does not vouch for either. "
            "The same counts for programs: kerasall check --json.",
        ),
    )  # fmt: skip


def make_data_card(examined: Examined, command: str) -> Report:
    """The page as a document."""
    collection, found = examined.collection, examined.found
    images = measure_images(collection, examined.scan)
    odd = find_odd_subjects(images) if collection.subject_kind != "none" else []
    facts = (
        Fact("Folder", str(collection.root)),
        Fact("Source", collection.source),
        Fact("Fingerprint", found["fingerprint"][:16]),
    )
    sections = (
        _summary(examined, odd), _counts(examined), _files(examined), _by_class(examined, images),
        _by_subject(examined, images, odd), duplicate_section(examined), odd_image_section(images), _provenance(command),
    )  # fmt: skip
    return Report(
        title=f"Data card: {collection.root.name or collection.root}",
        subtitle="What is in these images, how they differ, and what a model must not learn from.",
        facts=facts,
        results=found,
        sections=sections,
    )


def _kind(examined: Examined) -> str:
    return KINDS[examined.collection.subject_kind]


def _summary(examined: Examined, odd: Sequence[OddSubject]) -> Section:
    found, kind = examined.found, _kind(examined)
    subjects = f"{found['subjects']:,}" if examined.collection.subject_kind != "none" else "unknown"
    copies = found["exact_duplicate_groups"] + found["near_duplicate_groups"]
    crossing = found["cross_subject_duplicate_groups"] + found["cross_subject_near_duplicate_groups"]
    odd_ones = len({each.subject for each in odd})
    tiles = (
        ScoreTile("Images", f"{found['images']:,}", f"{found['readable']:,} can be read."),
        ScoreTile(f"{kind.capitalize()}s", subjects, _SUBJECTS[examined.collection.subject_kind]),
        ScoreTile(
            "Groups of duplicates", f"{copies:,}",
            f"{crossing:,} of them join different {kind}s." if subjects != "unknown" else "", "warning" if copies else "",
        ),
        ScoreTile(
            f"{kind.capitalize()}s unlike the rest", f"{odd_ones:,}",
            "In colour or focus." if subjects != "unknown" else "Cannot be told: none is known.",
            "warning" if odd_ones else "",
        ),
    )  # fmt: skip
    blocks: list[Block] = [Scores(tiles)]
    kinds: tuple[tuple[Level, str, list], ...] = (
        ("bad", "Errors: nothing can be trained before they are cured", found["errors"]),
        ("warning", "Warnings", found["warnings"]),
    )
    for level, title, anomalies in kinds:
        if anomalies:
            blocks.append(Alert(level, title, items=tuple(Check(each["message"]) for each in anomalies)))
    if not found["errors"] and not found["warnings"]:
        blocks.append(Alert("good", "No anomalies were found"))
    if found["notes"]:
        blocks.append(Alert("note", "What these data cannot tell", items=tuple(map(Check, found["notes"]))))
    return Section("summary", "Summary", blocks=tuple(blocks))


_SUBJECTS = {
    "subject": "Patients or donors, as the source names them.",
    "block": "Runs of consecutive file numbers; no patient is known.",
    "none": "No patient is known: a split can keep only duplicates together.",
}


def _counts(examined: Examined) -> Section:
    collection, found = examined.collection, examined.found
    parts = list(found["folds"]) or ["images"]
    examples = collection.examples.assign(part=collection.examples["fold"] if found["folds"] else "images")
    counts = pd.crosstab(examples["label"], examples["part"])
    images = counts.reindex(index=list(collection.labels), columns=parts, fill_value=0).to_numpy()
    figure, axes = new_figure(height=1.3 + 0.34 * len(collection.labels))
    alt = draw_counts(axes[0, 0], list(collection.labels), parts, images)
    columns = (
        Column("Class"), Column("Meaning"), Column("Images", "right"), Column(f"{_kind(examined).capitalize()}s", "right"),
        *(Column(part, "right") for part in parts if found["folds"]),
    )  # fmt: skip
    rows = tuple(
        (
            name,
            ("malignant" if name in collection.malignant else "benign")
            if collection.malignant
            else "not stated",
            f"{found['classes'][name]:,}",
            f"{found['subjects_per_class'][name]:,}" if collection.subject_kind != "none" else "unknown",
            *(f"{count:,}" for count in row if found["folds"]),
        )
        for name, row in zip(collection.labels, images, strict=True)
    )
    blocks: list[Block] = [
        Table("Classes", columns, rows, width="half"),
        figure_block("counts", figure, alt, "Images of each class."),
    ]
    if collection.subject_kind != "none":
        blocks.append(_images_per_subject(examined))
    return Section("counts", "How many of what", blocks=tuple(blocks))


def _images_per_subject(examined: Examined) -> Block:
    known = examined.collection.examples[examined.collection.examples["subject"] != ""]
    figure, axes = new_figure(height=1.3 + 0.34 * len(examined.collection.labels))
    sizes = {
        label: known[known["label"] == label].groupby("subject").size().to_numpy(float)
        for label in examined.collection.labels
    }
    kind = _kind(examined)
    alt = draw_spread_by_class(axes[0, 0], sizes, f"images of one {kind}")
    caption = f"Images of one {kind}: a few with very many weigh most in a plain mean over images."
    return figure_block("images-per-subject", figure, alt, caption)


def _files(examined: Examined) -> Section:
    found = examined.found
    sizes = sorted(found["sizes"].items(), key=lambda pair: -pair[1])
    rows = tuple((size, f"{count:,}") for size, count in sizes[:10])
    notes = (f"{len(sizes) - 10} more sizes occur.",) if len(sizes) > 10 else ()
    formats = ", ".join(f"{name} ({count:,})" for name, count in found["formats"].items()) or "none"
    facts = (
        Fact("Formats", formats),
        Fact(
            "Made readable first", f"{found['transcoded']:,} files are transcoded losslessly for TensorFlow."
        ),
        Fact("Groups that a split never divides", f"{found['split_groups']:,}"),
    )
    table = Table(
        "Sizes in pixels", (Column("Width x height"), Column("Images", "right")), rows, notes, width="half"
    )
    return Section("files", "Files", blocks=(table, KeyValues(facts, width="half")))


def _by_class(examined: Examined, images: pd.DataFrame) -> Section:
    classes = examined.collection.labels
    blocks: list[Block] = _colour_alone(examined, images)
    for measure, title in MEASURES.items():
        if images.empty or images[measure].min() == images[measure].max():
            continue
        figure, axes = new_figure(height=1.2 + 0.34 * len(classes))
        values = {name: images.loc[images["label"] == name, measure].to_numpy(float) for name in classes}
        alt = draw_spread_by_class(axes[0, 0], values, title)
        blocks.append(figure_block(f"class-{measure}", figure, alt))
    intro = (
        "Where classes differ in colour or focus alone, a model can tell them apart by the slide and not by the cell. "
        "Lines: 1st to 99th percentile; bars: the middle half of the images; dots: medians. Colours are those of the "
        "cell or field, without a black surround."
    )
    return Section("by-class", "Colour and focus by class", intro, tuple(blocks))


def _colour_alone(examined: Examined, images: pd.DataFrame) -> list[Block]:
    """The score of a forest that has seen no shape, as a tile."""
    classes = examined.collection.labels
    groups = group_examples(examined.collection.examples, [*examined.exact, *examined.near])
    found = score_colour_alone(images, groups.reindex(images["id"]).to_numpy(str), classes)
    if found is None or found.value is None or found.low is None:
        return []
    chance = 1 / len(classes)
    detail = (
        f"95% interval {format_value(found.low)} to {format_value(found.high)}, over {found.groups:,} groups. Guessing "
        f"reaches {format_value(chance)} (dashed line). Balanced accuracy of a random forest that knows only the numbers below of an image, each "
        "called by one that saw none of its group. A network that does not do clearly better may have learnt the slide and not "
        "the cell."
    )
    tone = "warning" if found.low > chance + 0.1 else ""
    scale = Range(found.value, found.low, found.high, chance)
    return [Scores((ScoreTile("Colour and focus alone", format_value(found.value), detail, tone, scale),))]


def _by_subject(examined: Examined, images: pd.DataFrame, odd: Sequence[OddSubject]) -> Section:
    kind, known = _kind(examined), images[images["subject"] != ""]
    title = f"Colour and focus by {kind}"
    if known.empty or examined.collection.subject_kind == "none":
        return Section("by-subject", title, blocks=(Text(("No subject is known of these images.",)),))
    labels = {str(s): str(part["label"].mode().iloc[0]) for s, part in known.groupby("subject")}
    blocks: list[Block] = []
    for measure in _BY_SUBJECT:
        values = {str(s): part[measure].to_numpy(float) for s, part in known.groupby("subject")}
        named = {each.subject for each in odd if each.measure == measure}
        figure, axes = new_figure(height=min(1.4 + 0.2 * len(values), 5.6) if len(values) <= 24 else 4.4)
        classes = examined.collection.labels
        alt = draw_spread_by_subject(axes[0, 0], values, labels, classes, MEASURES[measure], named)
        blocks.append(figure_block(f"subject-{measure}", figure, alt))
    blocks += odd_subject_blocks(images, odd, kind)
    intro = (
        f"Dots: the median over a {kind}'s images; lines: their middle four fifths. A {kind} counts as unlike the rest "
        f"where it lies far outside the spread of its class (robust standard deviations; of few {kind}s more are asked for, so "
        "that chance alone names fewer than one in a thousand); ringed in red."
    )
    return Section("by-subject", title, intro, tuple(blocks))


def _provenance(command: str) -> Section:
    section = provenance_section(command, "", environment={"Software": f"kerasall {__version__}"})
    return Section(section.id, section.title, blocks=section.blocks[:-1])
