"""How numbers read: shares, scores with their intervals, counts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.paired_tests import Comparison

_PERCENT = re.compile(
    r"accuracy|balanced_accuracy|malignant_(sensitivity|specificity)|(recall|precision|specificity)[:_].*"
)
COLUMN_GAP = "  "
"""Between the columns of a terminal's table."""
MEANINGS = {
    "accuracy": "share of images given the right class",
    "balanced_accuracy": "mean of the classes' sensitivities; large classes count no more than small ones",
    "f1_weighted": "balance of sensitivity and precision, weighted by the images of each class",
    "f1_macro": "the same, every class counting alike",
    "cohen_kappa": "agreement beyond what chance alone would give; 1 is perfect",
    "mcc": "correlation of true and called classes; 0 is guessing",
    "roc_auc": "chance that an image of a class gets a higher probability for it than another image",
    "log_loss": "punishes confident wrong calls; 0 is perfect, lower is better",
    "malignant_sensitivity": "share of malignant images called malignant, whatever their subtype",
    "malignant_specificity": "share of benign images called benign",
}


def is_percent(metric: str) -> bool:
    """Whether a metric reads as a percentage: it is a share of images, or a mean of such shares."""
    return _PERCENT.fullmatch(metric) is not None


def format_value(value: float | None, percent: bool = True) -> str:
    """A share as ``97.2%``, another score as ``0.972``; only a perfect score reads 100.0%; undefined: ``–``."""
    if value is None or not np.isfinite(value):
        return "–"
    if not percent:
        return f"{value:.3f}"
    text = f"{100 * value:.1f}%"
    if (text == "100.0%" and value < 1) or (text == "0.0%" and value > 0):
        far = "> 99.99%" if value > 0.5 else "< 0.01%"
        return f"{100 * value:.2f}%" if 0.00005 <= value < 0.99995 else far
    return text


def format_range(low: float | None, high: float | None, percent: bool = True) -> str:
    """For example ``95.1% to 98.4%``; "" where there is no interval."""
    if low is None or high is None:
        return ""
    return f"{format_value(low, percent)} to {format_value(high, percent)}"


def level_words(text: str) -> str:
    """A level of a setting as people say it, where a table holds it as JSON; every other text as it is.

    >>> level_words('[{"op": "stain_shift", "basic": 1.4, "acid": 0.8}, {"op": "reinhard"}]'), level_words("[]")
    ('stain_shift basic 1.4 acid 0.8 + reinhard', '[]')
    >>> level_words('{"horizontal_flip": true, "stain": 0.1}'), level_words("adam")
    ('horizontal_flip & stain 0.1', 'adam')
    """
    try:
        level = json.loads(text) if text[:1] in ("[", "{") else None
    except ValueError:
        return text
    if isinstance(level, list) and level and all(isinstance(each, dict) and "op" in each for each in level):
        return " + ".join(" ".join([each.pop("op"), *_value_words(each)]) for each in level)
    return " & ".join(_value_words(level)) if isinstance(level, dict) and level else text


def _value_words(values: Mapping[str, Any]) -> list[str]:
    said = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return [key if text == "true" else f"{key} {text}" for key, text in said.items()]


def reword_levels(found: Any) -> Any:
    """A document of JSON values in which every level is told by ``level_words``; of a noise run all of its levels."""
    if isinstance(found, str):
        return " / ".join(map(level_words, found.split(" / ")))
    if isinstance(found, Mapping):
        return {key: reword_levels(value) for key, value in found.items()}
    return [reword_levels(each) for each in found] if isinstance(found, list | tuple) else found


def format_count(value: int) -> str:
    """For example ``12,345``."""
    return f"{value:,}"


def cell(text: Any, note: str = "", tone: str = "", share: float | None = None) -> dict[str, Any]:
    """A table's cell with a small note below it, a tone (good, bad, warning), or a bar of length ``share`` in [0, 1]."""
    return {"text": text, "note": note, "tone": tone, "share": share}


def format_number(value: float | None, digits: int = 4) -> str | None:
    """With so many digits after the point; None where there is none, which a table shows as a dash."""
    return None if value is None else f"{value:.{digits}f}"


def format_duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 3600:.2f} hours" if seconds >= 7200 else f"{seconds / 60:.1f} minutes"


@dataclass(frozen=True)
class Score:
    """A computed score, as a page shows it.

    Attributes:
        label: its name, for example ``Balanced accuracy``.
        value: the score; None or NaN where it is not defined, shown as a dash.
        low: lower end of its interval, or None.
        high: upper end of its interval, or None.
        percent: whether 0.95 reads as 95.0% (shares) or as 0.950 (AUC, kappa).
        meaning: one sentence for a reader who does not know the score.
        chance: what guessing would reach, or None.
        groups: groups with images in its denominator, or None.
        over: the same in words, such as ``33 groups``, or of unknown groups ``520 images``.
    """

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    percent: bool = True
    meaning: str = ""
    chance: float | None = None
    groups: int | None = None
    over: str = ""

    @property
    def text(self) -> str:
        """The value as text."""
        return format_value(self.value, self.percent)

    @property
    def interval(self) -> str:
        """For example ``95.1% to 98.4%``; "" where there is no interval."""
        return format_range(self.low, self.high, self.percent)

    @property
    def is_on_scale(self) -> bool:
        """Whether the value, its interval and chance lie on the scale 0 to 1, where they can be drawn."""
        ends = (self.low, self.high, self.chance)
        return self.value is not None and all(0 <= v <= 1 for v in (self.value, *ends) if v is not None)


def title_of(metric: str, classes: Sequence[str]) -> str:
    """Words for a metric."""
    return find_metric(metric, classes).title


def score_of(name: str, found: Interval, classes: Sequence[str]) -> Score:
    """One metric with its interval, its title, its meaning and what guessing would reach.

    Args:
        name: of the metric.
        found: its value and interval.
        classes: names in class order.
    """
    chance = 1 / len(classes) if name == "balanced_accuracy" else None
    meaning, percent = MEANINGS.get(name, ""), is_percent(name)
    return Score(
        title_of(name, classes),
        found.value,
        found.low,
        found.high,
        percent,
        meaning,
        chance,
        found.groups,
        found.over,
    )


def over_groups(score: Score) -> str:
    """For example ``95.1% to 98.4%, 12 groups``; "" where there is no interval."""
    return f"{score.interval}, {score.over}" if score.interval and score.over else score.interval


def interval_words(metric: str, interval: Interval) -> tuple[str, str]:
    """Value, and ``low to high`` or ""."""
    percent = is_percent(metric)
    return format_value(interval.value, percent), format_range(interval.low, interval.high, percent)


def beside(words: tuple[str, str]) -> str:
    """For example ``97.2% (95.1% to 98.4%)``."""
    value, ends = words
    return f"{value} ({ends})" if ends else value


def format_length(metric: str, length: float | None) -> str:
    """The length of a difference: in percentage points, or plain."""
    if length is None:
        return "–"
    return f"{100 * length:.1f} points" if is_percent(metric) else f"{length:.3f}"


def difference_words(metric: str, found: Comparison | Interval) -> tuple[str, str]:
    """Signed difference in points (of percentages) or plain, and ``low to high`` or ""."""
    difference = found.value if isinstance(found, Interval) else found.difference
    if difference is None:
        return "–", ""
    value = _signed(difference, metric) + (" points" if is_percent(metric) else "")
    if found.low is None or found.high is None:
        return value, ""
    return value, f"{_signed(found.low, metric)} to {_signed(found.high, metric)}"


def _signed(value: float, metric: str) -> str:
    text = f"{100 * value:+.1f}" if is_percent(metric) else f"{value:+.3f}"
    return re.sub(r"^[+-](0\.0+)$", r"\1", text).replace("-", "−")  # zero has no sign


def p_words(p_value: float | None) -> str:
    """For example ``0.034`` or ``< 0.001``; undefined: a dash."""
    if p_value is None:
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def align_rows(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Rows of texts as lines of a terminal whose columns stand below one another.

    Args:
        rows: the heading first.
        right: whether each column stands at its right end.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        COLUMN_GAP.join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


Row = tuple[str | dict[str, Any] | None, ...]
"""Cells of a row of a table: a text, None for none, or a text with note and tone (see ``cell``)."""


@dataclass(frozen=True)
class Table:
    """A table as the macro ``table`` takes it.

    Attributes:
        caption: above it; empty for none.
        columns: headings; one that begins with ">" stands at the right.
        rows: cells: a text, None for none, or a text with note and tone (see ``cell``). The first names the row.
        notes: below it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
