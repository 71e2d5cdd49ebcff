"""The section on calibration: whether a probability can be taken at its word."""

from __future__ import annotations

from kerasall.evaluation.calibration_scores import Believed, CalibrationScores
from kerasall.evaluation.figure_style import new_figure
from kerasall.evaluation.figures import draw_reliability
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.report_document import Alert, Block, Cell, Column, FigureBlock, Section, Table
from kerasall.evaluation.report_sections import figure_block
from kerasall.evaluation.report_summary import format_value

FITTED = {
    "out-of-fold": "out-of-fold predictions",
    "validation": "the validation part",
    "selection": "the part on which the paper's protocol chose its settings",
}

_MEANINGS = {
    "brier": "mean squared distance of the probabilities from the truth; 0 is perfect",
    "log_loss": "punishes confident wrong calls; 0 is perfect",
}


def calibration_section(scores: CalibrationScores) -> Section:
    """Reliability before and after temperature scaling, and what was fitted to what."""
    figures = [
        _reliability("before", "The model's own probabilities", scores.before),
        _reliability("after", "Calibrated probabilities", scores.after),
    ]
    blocks: list[Block] = [*figures, _table(scores)]
    if scores.calibration.at_limit:
        blocks.append(Alert("warning", "The calibration stopped at a limit", _LIMIT))
    return Section(
        "calibration",
        "Can its probabilities be believed?",
        "When a calibrated model says 90%, it is right in 9 of 10 cases. Dots below the dashed line mean that it "
        f"is too sure of itself, dots above it that it is not sure enough. {describe_fit(scores)}",
        tuple(blocks),
    )


_LIMIT = (
    "Every image that it was fitted to was called rightly, or all of them looked alike to the model: its "
    "probabilities were left as they are, or flattened as far as allowed. Do not read them as chances."
)


def describe_fit(scores: CalibrationScores) -> str:
    """What was fitted to which images, and why the shown numbers are fair."""
    found = scores.calibration
    sure = "too sure of itself" if found.temperature > 1 else "not sure enough"
    words = (
        f"One number, the temperature {found.temperature:.2f} (above 1: the model was too sure), was fitted to "
        f"{found.images:,} predictions ({FITTED[scores.fitted_on]})."
        if abs(found.temperature - 1) < 0.005
        else f"One number, the temperature {found.temperature:.2f}, was fitted to {found.images:,} predictions "
        f"({FITTED[scores.fitted_on]}): the model was {sure}."
    )
    if found.refused is not None:
        words = (
            f"The probabilities were left as they are. The temperature that fits {found.images:,} predictions "
            f"({FITTED[scores.fitted_on]}) best, {found.refused:.2f}, would make the model surer of itself on "
            "the word of a few images: fitted without some groups, it does worse on those."
        )
    if any(found.biases):
        shown = ", ".join(
            f"{name} {bias:+.2f}" for name, bias in zip(found.classes, found.biases, strict=True)
        )
        words += f" Each class has a bias besides: {shown}. The called class stays the model's own."
    if scores.cross_fitted:
        return words + (
            " Shown here is every image with a temperature from the other parts alone, so that none judges itself."
        )
    return words + " None of the images shown here was among them."


def _reliability(name: str, title: str, found: Believed) -> FigureBlock:
    figure, axes = new_figure(height=4.1)
    bins = found.reliability
    alt = draw_reliability(axes[0, 0], bins.confidences, bins.accuracies, bins.counts, bins.error)
    return figure_block(f"reliability-{name}", figure, f"{title}. {alt}", f"{title}.")


def _table(scores: CalibrationScores) -> Table:
    columns = (Column("Score"), Column("Before", "right"), Column("After", "right"))
    sides = (scores.before, scores.after)
    bins = len(scores.before.reliability.counts)
    floor = format_value(scores.after.reliability.noise_floor)
    rows = [("Expected calibration error", *(_error_cell(side) for side in sides))]
    rows += [(METRICS[name].title, *(_score_cell(side, name) for side in sides)) for name in _MEANINGS]
    notes = (
        f"Expected calibration error: mean gap between how sure and how often right, in {bins} bins; probabilities "
        f"without any fault would show about {floor} here, by chance.",
        *(f"{METRICS[name].title}: {meaning}." for name, meaning in _MEANINGS.items()),
    )
    return Table("Before and after, with 95% intervals over groups", columns, tuple(rows), notes)


def _error_cell(side: Believed) -> Cell:
    found = side.reliability
    return Cell(
        format_value(found.error), f"{format_value(found.error_low)} to {format_value(found.error_high)}"
    )


def _score_cell(side: Believed, name: str) -> Cell:
    found = side.scores[name]
    if found.value is None or found.low is None:
        return Cell("–")
    low, high = format_value(found.low, percent=False), format_value(found.high, percent=False)
    return Cell(format_value(found.value, percent=False), f"{low} to {high}")
