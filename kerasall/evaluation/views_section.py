"""The section on views: whether averaging mirrored and turned images is worth its time."""

from __future__ import annotations

from kerasall.evaluation.comparison_wording import difference_words, is_percent
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.report_document import Cell, Column, Section, Table
from kerasall.evaluation.report_summary import format_value
from kerasall.evaluation.trust_section_calibration import FITTED
from kerasall.evaluation.view_gain import ViewGain


def views_section(found: ViewGain) -> Section:
    """Scores with one view and with the mean of all, the paired difference, and the time an answer takes."""
    columns = (
        Column("Score"), Column("One view", "right"), Column(f"Mean of {found.views}", "right"), Column("Gain", "right")
    )  # fmt: skip
    rows = []
    for name, gain in found.gain.items():
        value, ends = difference_words(name, gain)
        sides = (_cell(name, each[name]) for each in (found.one, found.mean))
        rows.append((METRICS[name].title, *sides, Cell(value, ends)))
    first, last = (1000 * seconds for seconds in found.seconds)
    notes = (
        "Gain: mean of views less one view on the same images, with a 95% interval that leaves out one group at a time; "
        "one that holds 0 does not show a gain.",
        f"An answer takes {last:.0f} ms an image instead of {first:.0f} ms ({found.cost:.1f} times as long) on the "
        "machine that exported the model.",
    )
    intro = (
        f"The exported model answers every image by the mean of {found.views} views of it, mirrored"
        f"{' and turned by quarters' if found.views == 8 else ''}. Measured on {FITTED[found.predicted_on]} "
        f"({found.images:,} images): {found.changed:,} are called otherwise than by one view. Maps and the distance to the "
        "training images are those of the image as it is."
    )
    table = Table("With and without", columns, tuple(rows), notes)
    return Section("views", f"Is the mean of {found.views} views worth it?", intro, (table,))


def _cell(name: str, found: Interval) -> Cell:
    percent = is_percent(name)
    if found.value is None or found.low is None:
        return Cell("–")
    return Cell(
        format_value(found.value, percent),
        f"{format_value(found.low, percent)} to {format_value(found.high, percent)}",
    )
