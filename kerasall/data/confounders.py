"""File attributes that tell the class: one class saved as PNG and the other as JPEG, one grey, one of another size.

A network sees what a format, a camera or a resizing left in the pixels, and a score on images of the same making cannot
tell this from what it learned of the cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd

LEAST = 0.75
"""Balanced accuracy from which an attribute tells a class: half way from guessing, 0.5, to certainty."""
_DEVIATIONS = 2.4
"""By how many standard deviations of guessing it must exceed 0.5 besides, so that few groups do not cry wolf:
with three or four on either side, all must agree."""
_MOST_SIZES = 20
"""Up to so many sizes are compared as they are, more by their longer side in steps of a half octave."""


@dataclass(frozen=True)
class Confounder:
    """An attribute that tells one class from all others.

    Attributes:
        attribute: format, quality (of JPEG files alone), size or colour.
        label: the class.
        value: balanced accuracy, in [``LEAST``, 1], of telling it by the attribute alone.
        common: class -> its most frequent value, how many of its images have it, and how many it has.
    """

    attribute: str
    label: str
    value: float
    common: dict[str, tuple[str, int, int]]


def find_confounders(table: pd.DataFrame, labels: Sequence[str]) -> list[Confounder]:
    """For every attribute the class that it tells best, where it tells one.

    An image is called by the class (this one or any other) in whose other groups its attribute's value is the more
    frequent; unknown values and ties count one half. Images weigh so that all groups of a side count the same. Guessing
    gives 0.5 with a standard deviation of sqrt(1 / n + 1 / m) / 4 for n and m groups on the two sides.

    Args:
        table: readable images with the columns label, group, format, quality, width, height, mode, mean_r, mean_g, mean_b.
        labels: class names in class order.
    """
    found = []
    for attribute, values in _attributes(table):
        if values.nunique() < 2:
            continue
        sides = ((tell_apart(values, table["group"], table["label"] == label), label) for label in labels)
        value, label = max(sides, key=lambda side: side[0])
        if value:
            common = {name: _most_common(values[table["label"] == name]) for name in labels}
            found.append(Confounder(attribute, label, value, common))
    return found


def tell_apart(values: pd.Series, groups: pd.Series, is_one: pd.Series) -> float:
    """Balanced accuracy of telling two sides by an attribute's values; 0 where it is too low to speak of.

    Args:
        values: of the attribute, of N images.
        groups: of the images; every one is called by the others.
        is_one: whether an image is of the first side.
    """
    shares = [_shares(values[side], groups[side]) for side in (is_one, ~is_one)]
    if not all(map(len, shares)):
        return 0.0
    columns = sorted(set(shares[0].columns) | set(shares[1].columns))
    one, other = (each.reindex(columns=columns, fill_value=0.0).to_numpy() for each in shares)
    value = (_recall(one, other) + _recall(other, one)) / 2
    deviation = sqrt(1 / len(one) + 1 / len(other)) / 4
    return float(value) if value >= LEAST and value > 0.5 + _DEVIATIONS * deviation else 0.0


def _shares(values: pd.Series, groups: pd.Series) -> pd.DataFrame:
    """Share of each value in each group: one row a group."""
    return pd.crosstab(groups, values, normalize="index")


def _recall(own: np.ndarray, others: np.ndarray) -> float:
    """Mean over the groups of one side, [groups, values], of the share that is called right without them."""
    rest = (own.sum(axis=0) - own) / max(len(own) - 1, 1)
    right = 0.5 * (1 + np.sign((rest - others.mean(axis=0)).round(9)))
    return float((own * right).sum(axis=1).mean())


def _attributes(table: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    yield "format", table["format"]
    if set(table["format"]) == {"JPEG"}:
        nearest = (5 * (table["quality"] / 5).round()).astype(int)
        yield "quality", "quality " + nearest.astype(str)
    sizes = table["width"].astype(str) + "x" + table["height"].astype(str)
    if sizes.nunique() > _MOST_SIZES:
        longer = table[["width", "height"]].max(axis=1).to_numpy()
        steps = np.floor(2 * np.log2(np.maximum(longer, 1)))
        words = [f"{2 ** (step / 2):.0f} to {2 ** ((step + 1) / 2):.0f} pixels" for step in steps]
        sizes = pd.Series(words, index=table.index)
    yield "size", sizes
    means = table[["mean_r", "mean_g", "mean_b"]].to_numpy()
    grey = pd.Series(np.ptp(means, axis=1) < 1e-6, index=table.index)
    yield (
        "colour",
        table["mode"]
        .map(lambda mode: "transparent" if mode in ("RGBA", "LA") else "coloured")
        .mask(grey, "grey"),
    )


def _most_common(values: pd.Series) -> tuple[str, int, int]:
    counts = values.value_counts()
    return min(counts.index[counts == counts.max()]), int(counts.max()), len(values)
