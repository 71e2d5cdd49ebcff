"""The flow of images and patients through a run: found, left out, parted, scored; counted and drawn.

Every number is read from what the run kept: the frozen split, the list of files that were left out, the corrections of
labels, and the images that are scored.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import matplotlib
import matplotlib.patches
import pandas as pd
from matplotlib.axes import Axes

from kerasall.data.splits import DROPPED, Split
from kerasall.errors import count_of
from kerasall.report.figures_style import INK, MUTED, STYLE, plot_text

MOST_PARTS = 5
"""More parts than this are told in one box."""

_PEOPLE = {"subject": "patient", "ids": "patient id", "block": "block"}
"""Kind of subject -> what its boxes count beside images."""


@dataclass(frozen=True)
class FlowBox:
    """One box: what stands in it, its images, and the patients (or blocks) who have images in it; None where unknown."""

    title: str
    images: int
    patients: int | None = None


@dataclass(frozen=True)
class PatientFlow:
    """All boxes, from top to bottom.

    Attributes:
        kind: what is counted beside images: subject, ids (of patients, of whom some have several), block or none.
        found: images that the data state, after the choice of classes and published parts.
        losses: what was left out, in order; never empty boxes.
        used: what was parted.
        copies: those of them that have copies among the others; None where that is not known.
        parts: parts or folds of the split.
        scored: what the scores are of.
        together: whether copies and patients were kept on one side; false where single images were dealt out, None
            where groups were, but some are on two sides.
        groups: that the ids of patients make, of kind ids.
    """

    kind: str
    found: FlowBox
    losses: tuple[FlowBox, ...]
    used: FlowBox
    copies: FlowBox | None
    parts: tuple[FlowBox, ...]
    scored: FlowBox
    together: bool | None = True
    groups: int | None = None

    def words(self, box: FlowBox) -> str:
        """For example ``1,024 images of 12 patients``."""
        people = _PEOPLE.get(self.kind)
        if people is None or box.patients is None:
            return count_of(box.images, "image")
        return f"{count_of(box.images, 'image')} of {count_of(box.patients, people)}"

    def describe(self) -> list[str]:
        """Every box in a sentence."""
        lost = [f"{box.title}: {self.words(box)}" for box in self.losses]
        parts = "; ".join(f"{box.title} {self.words(box)}" for box in self.parts)
        return [
            f"Found: {self.words(self.found)}.",
            f"Left out: {'; '.join(lost) if lost else 'no image'}.",
            f"Parted: {self.words(self.used)} ({parts}).",
            *self._describe_ids(),
            *self._describe_copies(),
            f"{self.scored.title}: {self.words(self.scored)}.",
        ]

    def _describe_ids(self) -> list[str]:
        if self.groups is None:
            return []
        return [
            f"Some ids are known to be one patient, or share cells: those that were parted make {count_of(self.groups, 'group')}."
        ]

    def _describe_copies(self) -> list[str]:
        if self.copies is None:
            return []
        if not self.copies.images:
            return ["No image has a known copy among the others."]
        kept = {
            True: "kept on one side",
            False: "dealt out one by one, on whichever side",
            None: "not all kept on one side",
        }[self.together]
        return [f"Known copies of each other, {kept}: {self.words(self.copies)}."]


def count_flow(
    split: Split, scored: str, scored_ids: Collection[str], kind: str, *,
    left_out: pd.DataFrame | None = None, excluded: int = 0, copies: Collection[str] | None = (), leaks: int = 0,
) -> PatientFlow:  # fmt: skip
    """Counts images and patients from the frozen split of a run.

    Args:
        split: with the test part and what was dropped.
        scored: what the scored images are: test, out-of-fold, validation or selection.
        scored_ids: of the scored images.
        kind: what the column subject holds: subject, block or none.
        left_out: images that could not be read: columns id and subject; None where none was left out.
        excluded: images that corrections of labels took out.
        copies: ids of images that have copies among the others; None where that is not known.
        leaks: patients, copies and groups that were found on two sides.
    """
    table = split.table
    lost = pd.DataFrame(columns=["id", "subject"]) if left_out is None else left_out[["id", "subject"]]
    dropped = table[table["part"] == DROPPED]
    used = table[table["part"] != DROPPED]

    def box(title: str, rows: pd.DataFrame, more: int = 0) -> FlowBox:
        named = rows["subject"][rows["subject"] != ""]
        return FlowBox(title, len(rows) + more, None if kind == "none" else int(named.nunique()))

    losses = (
        box("Could not be read", lost),
        FlowBox("Taken out by corrections", excluded),
        box("Dropped by the split", dropped),
    )
    named = used[used["subject"] != ""]
    groups = named["group"].nunique() if kind == "subject" else 0
    joined = 0 < groups < named["subject"].nunique()
    return PatientFlow(
        kind="ids" if joined else kind,
        found=box("Found", pd.concat([table[["id", "subject"]], lost]), excluded),
        losses=tuple(each for each in losses if each.images),
        used=box("Parted", used),
        copies=None if copies is None else box("Of these, have copies", used[used["id"].isin(set(copies))]),
        parts=tuple(box(part, table[table["part"] == part]) for part in split.parts),
        scored=box(f"Scored ({scored})", table[table["id"].isin(set(scored_ids))]),
        together=split.unit == "group" and (None if leaks else True),
        groups=groups if joined else None,
    )


# --- drawn -------------------------------------------------------------------------------------------

_ROW, _BOX = 1.0, 0.7
"""Height of a row and of a box in it; the width of the panel is 1."""


def height_of(flow: PatientFlow) -> float:
    """Height of the figure in inches."""
    return 0.72 * (4 + len(flow.losses))


@matplotlib.rc_context(STYLE)
def draw_flow(axes: Axes, flow: PatientFlow) -> str:
    """Boxes from top to bottom with arrows; what was left out stands at the right.

    Returns:
        Alternative text with every number.
    """
    axes.set_axis_off()
    rows = 4 + len(flow.losses)
    axes.set(xlim=(0, 1), ylim=(rows * _ROW, 0))
    top, middle = _draw_box(axes, flow, flow.found, 0, 0.3, 0.44), 0.3
    for row, loss in enumerate(flow.losses, start=1):
        place = _draw_box(axes, flow, loss, row, 0.78, 0.42)
        axes.annotate("", (0.57, place), (middle, place), arrowprops=_arrow())
    row = len(flow.losses) + 1
    used = _draw_box(axes, flow, flow.used, row, 0.3, 0.44)
    axes.annotate("", (middle, used - _BOX / 2), (middle, top + _BOX / 2), arrowprops=_arrow())
    if flow.copies is not None and flow.copies.images:
        place = _draw_box(axes, flow, flow.copies, row, 0.78, 0.42, "--")
        axes.plot((0.51, 0.58), (place, place), color=MUTED, linewidth=1, linestyle="--")
    parts = _shown_parts(flow)
    centres = [(place + 0.5) / len(parts) for place in range(len(parts))]
    for part, centre in zip(parts, centres, strict=True):
        place = _draw_box(axes, flow, part, row + 1, centre, 0.94 / len(parts) if len(parts) > 2 else 0.44)
        axes.annotate("", (centre, place - _BOX / 2), (middle, used + _BOX / 2), arrowprops=_arrow())
    last = _draw_box(axes, flow, flow.scored, row + 2, 0.5, 0.5)
    for centre in _sources(flow, parts, centres):
        axes.annotate("", (0.5, last - _BOX / 2), (centre, last - _ROW + _BOX / 2), arrowprops=_arrow())
    return " ".join(["Flow of images and patients.", *flow.describe()])


def _sources(flow: PatientFlow, parts: Sequence[FlowBox], centres: Sequence[float]) -> list[float]:
    """Where the boxes stand whose images are scored: of a holdout split one part, of folds all of them."""
    of_one = [
        centre for part, centre in zip(parts, centres, strict=True) if f"({part.title})" in flow.scored.title
    ]
    folds = [
        centre
        for part, centre in zip(parts, centres, strict=True)
        if part.title not in ("train", "validation", "test", "selection")
    ]
    return of_one or folds or list(centres)


def _shown_parts(flow: PatientFlow) -> Sequence[FlowBox]:
    """The parts, or one box for very many folds."""
    if len(flow.parts) <= MOST_PARTS:
        return flow.parts
    people = flow.used.patients
    return [FlowBox(f"{len(flow.parts)} parts", sum(part.images for part in flow.parts), people)]


def _draw_box(
    axes: Axes, flow: PatientFlow, box: FlowBox, row: int, centre: float, width: float, line: str = "-"
) -> float:
    """Draws one box with an edge of that style; returns the height of its middle."""
    middle = (row + 0.5) * _ROW
    ground = matplotlib.patches.FancyBboxPatch(
        (centre - width / 2 + 0.01, middle - _BOX / 2), width - 0.02, _BOX,
        boxstyle="round,pad=0,rounding_size=0.02", mutation_aspect=8, facecolor="white", edgecolor=MUTED, linewidth=1,
        linestyle=line,
    )  # fmt: skip
    axes.add_patch(ground)
    longest = max(8, int(width * 70))
    axes.text(centre, middle - 0.16, plot_text(box.title, longest), ha="center", va="center", fontsize=8, weight="bold", color=INK)  # fmt: skip
    words = flow.words(box)
    images, _, people = words.partition(" of ") if len(words) > longest else (words, "", "")
    small = {"ha": "center", "va": "center", "fontsize": 7.5, "color": INK}
    axes.text(centre, middle + (0.04 if people else 0.14), plot_text(images), **small)
    if people:
        axes.text(centre, middle + 0.21, plot_text(f"of {people}"), **small)
    return middle


def _arrow() -> dict[str, object]:
    return {"arrowstyle": "-|>", "color": MUTED, "linewidth": 1, "shrinkA": 0, "shrinkB": 1}
