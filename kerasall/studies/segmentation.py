"""One set of colour bounds for all classes of a data set: fitted to masks or stated, shown, scored and written for a config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall.data.examples import Collection
from kerasall.data.splits import natural_order
from kerasall.errors import DataError, count_of
from kerasall.evaluation.intervals import ratio_interval
from kerasall.evaluation.metrics import area_under_roc
from kerasall.files import write_text
from kerasall.preprocessing.arguments import arguments_to_json
from kerasall.preprocessing.hsv_bounds import CHANNELS, count_colours, fit_hsv_bounds
from kerasall.preprocessing.segmentation import HsvThresholdMask
from kerasall.report.format import beside, format_range, format_value
from kerasall.report.pages.segmentation import (
    ClassOverlap,
    SegmentationFacts,
    SegmentedImage,
    find_short,
    find_told,
    write_segmentation_page,
)
from kerasall.settings.yaml_text import write_line
from kerasall.studies.masks import MaskReader, StatedMasks, make_mask

_SIZE = 224


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Bounds, and how they cut the images that they were not fitted to.

    Attributes:
        collection: the images.
        masks: what they are held against.
        operation: the bounds, as an operation of a chain.
        fitted: rows of the examples that the bounds were fitted to; none where they were stated.
        scored: rows that the overlap is of.
        classes: the overlap, class by class.
    """

    collection: Collection
    masks: StatedMasks
    operation: HsvThresholdMask
    fitted: pd.DataFrame
    scored: pd.DataFrame
    classes: tuple[ClassOverlap, ...]

    @property
    def bounds(self) -> dict[str, str]:
        """Channel -> its bounds in words."""
        ends = zip(CHANNELS, self.operation.lower, self.operation.upper, strict=True)
        return {
            channel.capitalize(): f"{low:.0f} to {high:.0f}{' (set)' if channel in self.masks.bounds else ''}"
            for channel, low, high in ends
        }

    @property
    def origin(self) -> str:
        """Where the bounds come from, in a sentence."""
        if self.fitted.empty:
            return "The bounds were stated."
        source = "the masks" if self.masks.folder else f"Otsu's threshold of {self.masks.otsu}"
        return f"The bounds were fitted to {source} of {self._count(self.fitted)}."

    def _count(self, rows: pd.DataFrame) -> str:
        words, groups = count_of(len(rows), "image"), rows["group"].nunique()
        kind = self.collection.subject_kind
        return words if kind == "none" else f"{words} of {count_of(groups, kind)}"

    @property
    def held_out(self) -> bool:
        """Whether no scored image was fitted to."""
        return not set(self.fitted["id"]) & set(self.scored["id"])

    @property
    def words_scored(self) -> str:
        """What the overlap is of, in a sentence."""
        if self.held_out:
            unknown = self.collection.subject_kind == "none" and len(self.fitted)
            return (
                f"The agreement is that of {'the other ' if len(self.fitted) else ''}{self._count(self.scored)}."
                + " No patient is known of them: images of one may stand in both halves." * bool(unknown)
            )
        return f"The agreement is that of the same {self._count(self.scored)}: it says how well the bounds stand in for the threshold."

    @property
    def settings(self) -> str:
        """YAML of the operation for a config; what an argument is by default is left out."""
        default = {each.name: each.default for each in fields(self.operation)}
        own = {
            name: value for name, value in arguments_to_json(self.operation).items() if value != default[name]
        }
        steps = [{"op": self.operation.name, **own}, {"op": "resize", "height": _SIZE, "width": _SIZE}]
        about = [f"# {self.origin}", "# Before the resize, so that cells keep their own colours."]
        return (
            "\n".join([*about, "preprocess:", *(f"  - {write_line(_plain(step))}" for step in steps)]) + "\n"
        )

    def describe(self) -> Iterator[str]:
        """What was found, in lines for a terminal."""
        yield "bounds: " + ", ".join(f"{name.lower()} {words}" for name, words in self.bounds.items())
        yield self.origin
        yield self.words_scored
        width = max(len(each.label) for each in self.classes)
        for each in self.classes:
            found = each.overlap
            score = beside((format_value(found.value, False), format_range(found.low, found.high, False)))
            yield (
                f"  {each.label:<{width}}  IoU {score}, {count_of(each.groups, 'group')}; most by colour "
                f"{format_value(each.limit, False)}; kept {format_value(each.kept)}, by the masks {format_value(each.given)}"
            )
        for label, most in find_short(self.classes).items():
            yield (
                f"warning: no bounds reach an IoU of 0.80 on {label}: whatever colours are chosen, it stays at "
                f"{format_value(most, False)} or below on these very images"
            )
        if told := find_told(self.classes):
            yield f"warning: how much is kept tells {', '.join(told)} from the other classes: a network can read it from the black alone"

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "operation": {"op": self.operation.name, **arguments_to_json(self.operation)},
            "fitted": {"images": len(self.fitted), "groups": self.fitted["group"].nunique()},
            "scored": {
                "images": len(self.scored), "groups": self.scored["group"].nunique(), "held_out": self.held_out
            },
            "masks": self.masks.name,
            "classes": [each.to_json() for each in self.classes],
        }  # fmt: skip

    def write(self, folder: Path, most: int, command: str) -> tuple[Path, Path]:
        """Writes the page and the operation for a config.

        Args:
            folder: of both.
            most: images of every class on the page.
            command: that is told.

        Returns:
            Paths of the page and of the YAML file.
        """
        reader, cut = MaskReader(self.collection, self.masks), make_mask(self.operation)
        chosen = [row for own in _by_class(self.scored) for row in _spread(own, most)]
        shown = [self._show(row, reader, cut) for row in chosen]
        facts = SegmentationFacts(
            f"Segmentation of {self.collection.root.name}", self.bounds, self.origin, self.words_scored,
            self.masks.name, self.settings, command,
        )  # fmt: skip
        page, config = folder / "segmentation.html", folder / "segmentation.yaml"
        write_segmentation_page(page, facts, self.classes, shown)
        write_text(config, self.settings)
        return page, config

    def _show(self, row: Mapping[Any, Any], reader: MaskReader, cut: Any) -> SegmentedImage:
        image, given = reader.read(row)
        kept = cut(image)
        result = np.where(kept[:, :, None], image, np.uint8(self.operation.fill_value))
        return SegmentedImage(row["id"], row["label"], image, given, kept, result)


def segment(collection: Collection, masks: StatedMasks) -> Segmentation:
    """Finds one set of bounds for all classes and holds it against the masks.

    With masks in files, every second group of a class (a subject, a block, or an image where nobody knows them) is fitted
    to, and the others are scored. Otsu's threshold is no truth: all images are fitted to it and held against it.

    Raises:
        DataError: masks are missing, of another size than their images, or keep no pixel; a class has but one group.
        DecodingError: a file cannot be read.
    """
    examples = collection.examples.assign(group=_name_groups(collection))
    reader = MaskReader(collection, masks)
    if len(masks.bounds) == len(CHANNELS):
        fitted, scored = examples.iloc[:0], examples
    else:
        fitted, scored = _divide(examples, masks.swap) if masks.folder else (examples, examples)
    operation = _find_bounds(reader, fitted, masks)
    classes = _compare(reader, scored, operation)
    return Segmentation(collection, masks, operation, fitted, scored, classes)


def _find_bounds(reader: MaskReader, fitted: pd.DataFrame, masks: StatedMasks) -> HsvThresholdMask:
    """Bounds fitted to the masks; those that a person set are as they are, and the others the best beside them."""
    if len(masks.bounds) == len(CHANNELS):
        ends = (masks.bounds[channel] for channel in CHANNELS)
        (h0, h1), (s0, s1), (v0, v1) = ends
        return HsvThresholdMask((h0, s0, v0), (h1, s1, v1), **masks.cleaning)
    rows = fitted.to_dict("records")
    return fit_hsv_bounds(*_unzip(map(reader.read, rows)), masks.bounds, masks.cure, **masks.cleaning)


def _compare(
    reader: MaskReader, scored: pd.DataFrame, operation: HsvThresholdMask
) -> tuple[ClassOverlap, ...]:
    """Every class once through its images."""
    cut, shares, found = make_mask(operation), [], []
    for own in _by_class(scored):
        counts: list[tuple[int, int, int, int, int]] = []

        def look(
            rows: list[dict[Any, Any]], counts: list[Any] = counts
        ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for row in rows:
                image, given = reader.read(row)
                counts.append(_count_pixels(given, cut(image)))
                yield image, given

        colours = count_colours(*_unzip(look(own.to_dict("records"))))
        together, either, given, kept, pixels = map(np.array, zip(*counts, strict=True))
        shares.append(kept / pixels)
        overlap = ratio_interval(together, either, list(own["group"]))
        found.append((own, given.sum() / pixels.sum(), kept.sum() / pixels.sum(), overlap, colours.limit))
    return tuple(
        ClassOverlap(
            str(own["label"].iloc[0]), len(own), own["group"].nunique(), float(given), float(kept), overlap, limit,
            _tell(number, shares),
        )
        for number, (own, given, kept, overlap, limit) in enumerate(found)
    )  # fmt: skip


def _count_pixels(given: np.ndarray, kept: np.ndarray) -> tuple[int, int, int, int, int]:
    """Pixels that both keep, either keeps, the mask keeps, the bounds keep, and all."""
    return int((given & kept).sum()), int((given | kept).sum()), int(given.sum()), int(kept.sum()), given.size


def _unzip(
    pairs: Iterator[tuple[np.ndarray, np.ndarray]],
) -> tuple[Iterator[np.ndarray], Iterator[np.ndarray]]:
    """Both sides of pairs, to be read side by side: one pair is held at a time."""
    first, second = tee(pairs)
    return (image for image, _ in first), (mask for _, mask in second)


def _tell(number: int, shares: Sequence[np.ndarray]) -> float:
    """How often a class's share of kept pixels is on the same side of another's; 0.5 of one class alone."""
    others = [own for other, own in enumerate(shares) if other != number]
    if not others:
        return 0.5
    values = np.concatenate([shares[number], *others])
    area = area_under_roc(values, np.arange(len(values)) < len(shares[number]))
    return max(area, 1 - area)


def _name_groups(collection: Collection) -> list[str]:
    """Subject or block, ids that are known to be one patient joined; the image itself where nobody is known."""
    examples = collection.examples
    if collection.subject_kind == "none":
        return list(examples["id"])
    one = {each: subjects[0] for subjects in collection.joined_subjects for each in subjects}
    named = zip(examples["subject"], examples["id"], strict=True)
    return [one.get(subject, subject) or name for subject, name in named]


def _divide(examples: pd.DataFrame, swap: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every second group to fit to, and the rest; a group of several classes goes by that of its first image.

    Raises:
        DataError: a class has but one group.
    """
    first = examples.drop_duplicates("group")
    fitted: set[str] = set()
    for label, own in first.groupby("label"):
        groups = sorted(own["group"], key=natural_order)
        if len(groups) < 2:
            raise DataError(
                f"bounds are fitted to one half of every class's groups and scored on the other, but {label} has one "
                "group: state all three bounds, or give more images"
            )
        fitted |= set(groups[swap::2])
    half = examples["group"].isin(fitted)
    return examples[half], examples[~half]


def _by_class(examples: pd.DataFrame) -> list[pd.DataFrame]:
    return [own for _, own in examples.groupby("label", sort=True)]


def _spread(rows: pd.DataFrame, most: int) -> list[dict[Any, Any]]:
    """Some rows, evenly spread over all."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))
    return rows.iloc[chosen].to_dict("records")


def _plain(step: Mapping[str, Any]) -> dict[str, Any]:
    """Whole numbers without a point, as people write bounds."""
    return {
        name: [int(n) if n == int(n) else n for n in value] if isinstance(value, list) else value
        for name, value in step.items()
    }
