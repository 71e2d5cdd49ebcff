"""The page on a segmentation: originals, masks and results side by side, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.predictions import JsonFields
from kerasall.files import write_text
from kerasall.report.page import Page, Picture, encode_picture, render_page, render_section
from kerasall.version import __version__

TELLS = 0.9
"""From this share of pairs on, how much is kept is said to tell a class."""
AGREES = 0.8
"""Intersection over union from which on bounds and masks are said to agree."""


@dataclass(frozen=True)
class ClassOverlap(JsonFields):
    """How the bounds cut the images of one class.

    Attributes:
        label: of the class.
        images: that are counted, and ``groups`` of them.
        given: share of their pixels that the masks keep; None without masks.
        kept: share of them that the bounds keep.
        overlap: pixels that both keep over pixels that either keeps, of all images together.
        limit: the most that any choice of colours has on these very images; see ``ColourCounts.limit``.
        tells: share of pairs of an image of this class and one of another that the share of kept pixels sorts the same way;
            0.5: it tells nothing.
    """

    label: str
    images: int
    groups: int
    given: float
    kept: float
    overlap: Interval
    limit: float | None
    tells: float


@dataclass(frozen=True, eq=False)
class SegmentedImage:
    """One image on the page: ``image`` and ``result`` uint8 [H, W, 3], the masks bool [H, W]."""

    id: str
    label: str
    image: np.ndarray
    given: np.ndarray
    kept: np.ndarray
    result: np.ndarray


@dataclass(frozen=True)
class SegmentationFacts:
    """What the page says besides.

    Attributes:
        title: of the page.
        bounds: channel -> its bounds in words.
        origin: where they come from, in a sentence.
        scored: on which images the overlap is, in a sentence.
        masks: what the masks are called: "published mask", "Otsu's mask".
        settings: YAML for a config.
        command: that made the page.
    """

    title: str
    bounds: dict[str, str]
    origin: str
    scored: str
    masks: str
    settings: str
    command: str


def find_short(classes: Sequence[ClassOverlap]) -> dict[str, float]:
    """Class -> the most that any choice of colours has there, where that is too little."""
    return {each.label: each.limit for each in classes if each.limit is not None and each.limit < AGREES}


def find_told(classes: Sequence[ClassOverlap]) -> list[str]:
    """Classes that the amount of kept pixels tells from the others."""
    return [each.label for each in classes if each.tells >= TELLS]


def write_segmentation_page(
    path: Path, facts: SegmentationFacts, classes: Sequence[ClassOverlap], images: Sequence[SegmentedImage]
) -> None:
    """Writes the self-contained page, atomically."""
    page = Page(
        title=facts.title,
        subtitle=f"{facts.origin} {facts.scored}",
        facts=facts.bounds,
        sections=(
            render_section(
                "segmentation_overlap", classes=classes, masks=facts.masks, settings=facts.settings,
                short=find_short(classes), told=find_told(classes),
            ),
            render_section("segmentation_images", groups=_group(images, facts.masks), masks=facts.masks),
            render_section(
                "provenance", command=facts.command, settings="", environment={"Software": f"kerasall {__version__}"}
            ),
        ),
        kicker="kerasall · segmentation",
        footer="Written by kerasall. For research use only: not a diagnostic device. A mask says what a colour is, not what a cell is.",
    )  # fmt: skip
    write_text(path, render_page(page))


def _group(images: Sequence[SegmentedImage], masks: str) -> dict[str, list[dict[str, Any]]]:
    """Class -> its images, four pictures each."""
    found: dict[str, list[dict[str, Any]]] = {}
    for number, each in enumerate(images, start=1):
        found.setdefault(each.label, []).append({"id": each.id, "pictures": _draw(number, each, masks)})
    return found


def _draw(number: int, each: SegmentedImage, masks: str) -> list[tuple[Picture, str]]:
    shown = {
        "Original": each.image, masks: _to_grey(each.given), "Mask of the bounds": _to_grey(each.kept),
        "Result": each.result,
    }  # fmt: skip
    return [
        (encode_picture(f"segmented-{number}-{place}", f"{words} of {each.id}", pixels, 224), words)
        for place, (words, pixels) in enumerate(shown.items())
    ]


def _to_grey(mask: np.ndarray) -> np.ndarray:
    return np.repeat(np.where(mask, 255, 0).astype(np.uint8)[:, :, None], 3, axis=2)
