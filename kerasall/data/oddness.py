"""How far subjects and images lie from the rest in colour and focus, and how much of the classes that alone tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kerasall.data.examples import Collection
from kerasall.data.statistics import ImageScan
from kerasall.evaluation.cross_fitting import cross_fit, deal_parts
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.predictions import Predictions

MEASURES: dict[str, str] = {
    "brightness": "Brightness (0 to 255)",
    "red_blue": "Red less blue (-255 to 255)",
    "green": "Green (0 to 255)",
    "contrast": "Contrast (standard deviation of grey)",
    "foreground": "Share of the image that is not black",
    "focus": "Focus (log10 of the variance of the Laplacian)",
}
"""Measure of an image -> what it is called on a page."""

ODD = 3.5
"""Robust standard deviations from which on one of very many is called unlike the rest (Iglewicz and Hoaglin,
1993); see ``odd_limit`` for few."""

FEWEST = 10
"""A class of fewer subjects is compared with the subjects of all classes."""

_TO_DEVIATION = 1.4826
"""The median absolute deviation of a normal distribution times this is its standard deviation."""

_TREES, _LEAST_LEAF, _RESAMPLES = 100, 5, 1000
"""Of the random forest that knows colour and focus alone, and of its score's interval."""

_LEAST_SPREAD = dict(zip(MEASURES, (1.0, 1.0, 1.0, 0.5, 0.005, 0.03), strict=True))
"""Differences that nobody can see are not odd, however alike the rest are."""


def measure_images(collection: Collection, scan: ImageScan) -> pd.DataFrame:
    """One row a readable image: id, path, label, subject, and ``MEASURES``.

    Args:
        collection: the examples.
        scan: of them, in their order.
    """
    table = scan.table
    found = collection.examples[["id", "path", "label", "subject"]].reset_index(drop=True)
    found["brightness"] = table[["mean_r", "mean_g", "mean_b"]].mean(axis=1).to_numpy()
    found["red_blue"] = (table["mean_r"] - table["mean_b"]).to_numpy()
    found["green"] = table["mean_g"].to_numpy()
    found["contrast"] = table["std_grey"].to_numpy()
    found["foreground"] = table["foreground_share"].to_numpy()
    found["focus"] = np.log10(np.maximum(table["sharpness"].to_numpy(float), 1e-2))
    return found[(table["error"] == "").to_numpy()].reset_index(drop=True)


def robust_deviations(values: np.ndarray, strata: np.ndarray, least: float = 0.0) -> np.ndarray:
    """(value - median) / (1.4826 median absolute deviation), within strata: float [N].

    Args:
        values: float [N].
        strata: str [N]; a stratum of fewer than ``FEWEST`` is compared with all.
        least: smallest deviation that is divided by.
    """
    found = np.empty(len(values))
    for name in np.unique(strata):
        inside = strata == name
        rest = values[inside] if inside.sum() >= FEWEST else values
        middle = np.median(rest)
        spread = max(_TO_DEVIATION * float(np.median(np.abs(rest - middle))), least, 1e-12)
        found[inside] = (values[inside] - middle) / spread
    return found


def odd_limit(count: Any) -> Any:
    """Robust standard deviations from which on one of ``count`` is called unlike the rest.

    Of few, the deviation is itself uncertain; with this limit fewer than one in a thousand normally
    distributed values is called odd, for every count from 10 on.

    >>> odd_limit(10), round(odd_limit(73), 2)
    (7.5, 4.05)
    """
    return ODD + 40 / count


def _limits(strata: np.ndarray) -> np.ndarray:
    """``odd_limit`` for each value of ``robust_deviations``, float [N]."""
    _, rows, counts = np.unique(strata, return_inverse=True, return_counts=True)
    return odd_limit(np.where(counts >= FEWEST, counts, len(strata)))[rows]


@dataclass(frozen=True)
class OddSubject:
    """A subject that lies far from the others in one measure.

    Attributes:
        subject: name.
        label: class of most of its images.
        measure: a key of ``MEASURES``.
        value: median over its images.
        others: median over the subjects it is compared with.
        deviations: robust standard deviations between the two, with their sign.
        images: its readable images.
    """

    subject: str
    label: str
    measure: str
    value: float
    others: float
    deviations: float
    images: int


def subject_medians(images: pd.DataFrame) -> pd.DataFrame:
    """One row a subject: subject, label (of most images), images, and the median of every measure.

    Args:
        images: from ``measure_images``; images of nobody are left out.
    """
    known = images[images["subject"] != ""]
    grouped = known.groupby("subject")
    found = grouped[list(MEASURES)].median()
    found.insert(0, "images", grouped.size())
    found.insert(0, "label", grouped["label"].agg(lambda labels: labels.value_counts().sort_index().idxmax()))
    return found.reset_index()


def find_odd_subjects(images: pd.DataFrame) -> list[OddSubject]:
    """Subjects whose median lies ``odd_limit`` robust standard deviations from the others' or farther, the oddest first.

    Subjects are compared within their class where it has at least ``FEWEST``; with fewer in all nothing
    is called odd.

    Args:
        images: from ``measure_images``.
    """
    subjects = subject_medians(images)
    if len(subjects) < FEWEST:
        return []
    strata, found = subjects["label"].to_numpy(str), []
    every = _measure_deviations(subjects, strata)
    for row, column in np.argwhere(np.abs(every) >= _limits(strata)[:, None]):
        measure = list(MEASURES)[column]
        values = subjects[measure].to_numpy(float)
        rest = values[strata == strata[row]]
        found.append(
            OddSubject(
                str(subjects["subject"][row]), str(strata[row]), measure, float(values[row]),
                float(np.median(rest if len(rest) >= FEWEST else values)), float(every[row, column]),
                int(subjects["images"][row]),
            )
        )  # fmt: skip
    return sorted(found, key=lambda odd: (-abs(odd.deviations), odd.subject, odd.measure))


def _measure_deviations(table: pd.DataFrame, strata: np.ndarray) -> np.ndarray:
    """``robust_deviations`` of every measure, float [N, number of ``MEASURES``]."""
    found = [robust_deviations(table[m].to_numpy(float), strata, least) for m, least in _LEAST_SPREAD.items()]
    return np.stack(found, axis=1)


@dataclass(frozen=True)
class OddImage:
    """An image that lies far from the others of its class in one measure; fields as of ``OddSubject``."""

    id: str
    path: str
    label: str
    subject: str
    measure: str
    value: float
    deviations: float


def find_odd_images(images: pd.DataFrame, most: int = 12) -> list[OddImage]:
    """The ``most`` images farthest from their class, each by its oddest measure, the oddest first.

    Args:
        images: from ``measure_images``.
        most: how many at most; none within ``odd_limit``.
    """
    if len(images) < FEWEST:
        return []
    strata = images["label"].to_numpy(str)
    limits, every = _limits(strata), _measure_deviations(images, strata)
    oddest, size = np.abs(every).argmax(axis=1), np.abs(every).max(axis=1)
    rows = [row for row in np.lexsort((images["id"], -size)) if size[row] >= limits[row]][:most]
    names = list(MEASURES)
    return [
        OddImage(
            *(str(images[column][row]) for column in ("id", "path", "label", "subject")),
            measure=names[oddest[row]],
            value=float(images[names[oddest[row]]][row]),
            deviations=float(every[row, oddest[row]]),
        )
        for row in rows
    ]


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
    from sklearn.ensemble import RandomForestClassifier

    labels = images["label"].map({name: index for index, name in enumerate(classes)}).to_numpy(np.int64)
    if len(np.unique(labels)) < 2 or len(np.unique(groups)) < 10 or len(images) < 50:
        return None
    blank = np.full((len(images), len(classes)), 1 / len(classes))
    record = Predictions(
        images["id"].to_numpy(), images["subject"].to_numpy(), groups, labels, blank, classes
    )
    values = images[list(MEASURES)].to_numpy(float)
    forest = RandomForestClassifier(
        _TREES, min_samples_leaf=_LEAST_LEAF, class_weight="balanced", random_state=0
    )

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return forest.fit(values[others], labels[others]).predict(values[inside])

    decisions = cross_fit(deal_parts(record), answer)
    called = Predictions(
        record.ids, record.subjects, groups, labels, np.eye(len(classes))[decisions], classes, decisions
    )
    found = Scorer(called, resamples=_RESAMPLES).interval("balanced_accuracy")
    return None if found.value is None else found
