"""The data card: a page on a data set before anything trains, from one pass over its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kerasall import __version__
from kerasall.components.colour_baseline import score_colour_alone
from kerasall.components.data_card_pictures import duplicate_section, odd_image_section, odd_subject_blocks
from kerasall.components.example_validator import Examined
from kerasall.data.oddness import (
    MEASURES,
    OddSubject,
    find_odd_subjects,
    measure_images,
)
from kerasall.data.splits import group_examples
from kerasall.evaluation.data_figures import draw_counts
from kerasall.evaluation.figure_style import new_figure
from kerasall.evaluation.report import render_html
from kerasall.evaluation.report_background import provenance_section
from kerasall.evaluation.report_document import (
    Alert,
    Block,
    Check,
    Column,
    Fact,
    KeyValues,
    Level,
    Range,
    Report,
    Scores,
    ScoreTile,
    Section,
    Table,
    Text,
)
from kerasall.evaluation.report_sections import figure_block
from kerasall.evaluation.report_summary import format_value
from kerasall.evaluation.spread_figures import draw_spread_by_class, draw_spread_by_subject
from kerasall.files import write_text

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
