"""A report's sections on labels: the head of the review queue, and corrections that were applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kerasall.evaluation.review import ReviewItem, ReviewQueue
from kerasall.report.document import (
    Alert,
    Block,
    Cell,
    Code,
    Column,
    Gallery,
    GalleryItem,
    Section,
    Table,
    Tone,
)
from kerasall.report.format import format_value
from kerasall.report.review_page import (
    count_tables,
    describe_scope,
    describe_sources,
    make_thumbnail,
)

HEAD = 24


"""Images of the queue that a report shows."""


_SIDE = 192


_MOST_ROWS = 500


def review_section(queue: ReviewQueue, run: str) -> Section:
    """Counts of the queue, its first images, and the command that makes the page to hand to an expert.

    Args:
        queue: of ``build_queue``.
        run: name of the run, for the command.
    """
    intro = (
        "Images whose labels deserve a second look. A model's doubt is no proof: most images that it gets wrong are "
        "labelled rightly. No label was changed."
    )
    head = list(queue.items[:HEAD])
    pictures = [picture for picture in map(_gallery_item, head) if picture is not None]
    blocks: list[Block] = list(count_tables(queue))
    if pictures:
        caption = f"The first {len(pictures)} of {len(queue.items):,}: label → what the model called it"
        blocks.append(Gallery(tuple(pictures), caption))
    caption = "Makes a page to hand to an expert and a table to fill in (with the run's own name, if --name gave it one)"
    blocks.append(Code(f"kerasall review {run}", caption))
    words = " ".join(filter(None, (intro, describe_sources(queue), describe_scope(queue))))
    return Section("review", "Labels to look at again", words, tuple(blocks))


def _gallery_item(item: ReviewItem) -> GalleryItem | None:
    content = make_thumbnail(item.path, _SIDE)
    if content is None:
        return None
    called = item.decision or "not predicted"
    lines = [f"{item.wrong} of {item.members} members wrong"] if item.members > 1 else []
    if item.probability is not None:
        lines.append(f"{called} {format_value(item.probability)}")
    if item.twins:
        lines.append("near duplicate labelled otherwise")
    tone: Tone = "bad" if item.decision != item.label else ""
    alt = f"Image {item.id}: labelled {item.label}, called {called}"
    src = f"figures/review-{item.rank:02d}.jpg"
    return GalleryItem(src, alt, f"{item.label} → {called}", "\n".join([*lines, item.id]), tone, content)


@dataclass(frozen=True)
class CorrectedLabel:
    """One decision of a reviewer, as it was applied.

    Attributes:
        id: of the image.
        before, after: labels; ``after`` is "left out" where the image was excluded.
        part: of the split the image stands in, "" where it is in none.
        reviewer, comment: as written.
    """

    id: str
    before: str
    after: str
    part: str = ""
    reviewer: str = ""
    comment: str = ""


@dataclass(frozen=True)
class CorrectedFile:
    """One file of corrections: its name, the SHA-256 of its bytes, and how many labels it confirmed."""

    name: str
    sha256: str
    labels: Sequence[CorrectedLabel]
    confirmed: int = 0


@dataclass(frozen=True)
class ScoreBefore:
    """A score on the labels as they were before the corrections, beside the one on the corrected labels."""

    title: str
    before: str
    after: str


def corrections_section(
    files: Sequence[CorrectedFile],
    scored: Sequence[str],
    kind: str,
    score: ScoreBefore | None = None,
    frozen: bool = False,
) -> Section:
    """Every label that was changed, and what that means for the score.

    Args:
        files: in the order they were applied; without confirmations.
        scored: ids of the images that are scored.
        kind: what these are: test, out-of-fold, validation or selection.
        score: of the same images on both labels; None where no scored label was changed.
        frozen: whether the split was given as a file.
    """
    total = sum(len(file.labels) for file in files)
    touched, left_out = _count_touched(files, set(scored), kind)
    blocks: list[Block] = []
    if touched or left_out:
        blocks.append(_warn_of_scored(touched, left_out, len(scored), kind, score))
    if not frozen:
        text = (
            "The split was drawn anew on the corrected data, so images may stand in other parts than before. To compare "
            "with an earlier run, give its frozen split as split.file."
        )
        blocks.append(Alert("note", "Not the same split as before the corrections", text))
    blocks += [_file_table(files)]
    if total:
        blocks.append(_change_table(files))
    intro = f"{total:,} labels were changed or images left out before anything was trained."
    return Section("corrections", "Corrected labels", intro, tuple(blocks))


def _count_touched(files: Sequence[CorrectedFile], scored: set[str], kind: str) -> tuple[int, int]:
    """Scored images with a changed label, and images left out that would have been scored."""
    labels = [label for file in files for label in file.labels]
    changed = {label.id for label in labels if label.id in scored}
    # Out-of-fold every image would have been; otherwise only those known to stand in the part.
    gone = [label for label in labels if label.after == LEFT_OUT and label.id not in scored]
    return len(changed), len({label.id for label in gone if kind == "out-of-fold" or label.part == kind})


def _warn_of_scored(touched: int, left_out: int, scored: int, kind: str, score: ScoreBefore | None) -> Alert:
    name = "test" if kind == "test" else "scored"
    text = (
        f"{touched:,} of the {scored:,} scored images ({kind}) carry a corrected label, and {left_out:,} were left out. A "
        f"corrected {name} set is another {name} set: its score must not be compared with scores on the labels as they were, and "
        "correcting only what a model got wrong makes it look better."
    )
    if score is not None:
        text += f" {score.title} of these images: {score.after} on the corrected labels, {score.before} on those before."
    return Alert("warning", f"The corrections touch the {name} set", text)


def _file_table(files: Sequence[CorrectedFile]) -> Table:
    columns = (
        Column("File"),
        Column("Changed", "right"),
        Column("Left out", "right"),
        Column("Confirmed", "right"),
        Column("SHA-256"),
    )
    rows = []
    for file in files:
        gone = sum(label.after == LEFT_OUT for label in file.labels)
        changed = f"{len(file.labels) - gone:,}"
        rows.append((file.name, changed, f"{gone:,}", f"{file.confirmed:,}", file.sha256))
    return Table("Files of corrections", columns, tuple(rows))


def _change_table(files: Sequence[CorrectedFile]) -> Table:
    names = ("Image", "Label before", "Label now", "Part", "Reviewer", "Comment")
    labels = [label for file in files for label in file.labels]
    rows = tuple(
        (
            label.id,
            label.before,
            Cell(label.after, tone="warning"),
            label.part or None,
            label.reviewer or None,
            label.comment or None,
        )
        for label in labels[:_MOST_ROWS]
    )
    more = len(labels) - len(rows)
    notes = (f"{more:,} more stand in corrections.json of the Split artifact.",) if more else ()
    return Table("Every change", tuple(map(Column, names)), rows, notes, tall=len(rows) > 12)


LEFT_OUT = "left out"


"""``CorrectedLabel.after`` of an image that was excluded."""
