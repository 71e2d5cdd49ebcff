"""The section on calibration: whether a probability can be taken at its word.

The section on thresholds: what finding nearly all malignant cells costs in false alarms.

The section on referral: which images an expert should see, and what is gained by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.operating_points import NetBenefit, ScoredPoint
from kerasall.evaluation.refer import REASONS, ReferScores, Safeguards, SetScores
from kerasall.evaluation.reliability import Believed, CalibrationScores
from kerasall.report.document import Alert, Block, Cell, Column, FigureBlock, Section, Table
from kerasall.report.figure_style import MUTED, STYLE, color_of, new_figure, show_legend
from kerasall.report.format import format_value
from kerasall.report.score_figures import draw_reliability, draw_selective_accuracy
from kerasall.report.scores import figure_block


def operating_section(
    points: Sequence[ScoredPoint], benefit: Sequence[NetBenefit], malignant: Sequence[str], chosen_on: str
) -> Section:
    """Thresholds for wanted sensitivities, and the net benefit over thresholds.

    Args:
        points: scored on images that did not choose their thresholds.
        benefit: ascending thresholds.
        malignant: names of the malignant classes.
        chosen_on: one sentence on which images chose the thresholds.
    """
    blocks: list[Block] = [_point_table(points)] if points else []
    if benefit:
        figure, axes = new_figure(height=3.6)
        alt = draw_decision_curve(axes[0, 0], benefit)
        caption = "Net benefit in malignant cells found per image. Use the model only where its line is the highest."
        blocks += [figure_block("decision-curve", figure, alt, caption), _benefit_table(benefit)]
    together = " + ".join(malignant)
    return Section(
        "thresholds",
        "Finding nearly all malignant cells",
        "Where the line is drawn decides how many malignant cells are missed and how many benign ones are called "
        f"malignant. The probability is that of {together} taken together, calibrated. {chosen_on}",
        tuple(blocks),
    )


def _point_table(points: Sequence[ScoredPoint]) -> Table:
    columns = (
        Column("Wanted sensitivity"), Column("Called malignant from", "right"), Column("Sensitivity", "right"),
        Column("Specificity", "right"), Column("Missed", "right"), Column("False alarms", "right"),
    )  # fmt: skip
    rows = tuple(
        (
            format_value(each.wanted),
            _probability(each.threshold),
            interval_cell(each.sensitivity),
            interval_cell(each.specificity),
            Cell(f"{each.missed:,}", f"of {each.positives:,} malignant"),
            Cell(f"{each.false_alarms:,}", f"of {each.others:,} benign"),
        )
        for each in points
    )
    return Table("Thresholds for a wanted sensitivity, as reached on the scored images", columns, rows)


def interval_cell(found: Interval) -> Cell:
    """A share with its interval below it."""
    if found.value is None or found.low is None:
        return Cell("–")
    return Cell(format_value(found.value), f"{format_value(found.low)} to {format_value(found.high)}")


def _probability(threshold: float) -> str:
    """At least two digits that say something, also of small probabilities: 4.2%, 0.13%, 0.0021%."""
    digits = max(1, 1 - int(np.floor(np.log10(100 * threshold)))) if threshold > 0 else 1
    return f"{100 * threshold:.{min(digits, 6)}f}%"


def _benefit_table(benefit: Sequence[NetBenefit]) -> Table:
    columns = (
        Column("One miss is as bad as"), Column("Call from", "right"), Column("Missed", "right"),
        Column("False alarms", "right"), Column("Net benefit", "right"), Column("Calling all", "right"),
    )  # fmt: skip
    rows = tuple(
        (
            f"{each.false_alarms_per_miss:,.3g} false alarm{'s' if each.false_alarms_per_miss > 1 else ''}",
            format_value(each.threshold),
            f"{each.missed:,}",
            f"{each.false_alarms:,}",
            Cell(f"{each.model.value:.3f}", f"{each.model.low:.3f} to {each.model.high:.3f}"),
            f"{each.all_called:.3f}",
        )
        for each in benefit
    )
    note = "Net benefit: malignant cells found per image, less the false alarms at their price. Calling none has 0."
    return Table("What a threshold is worth", columns, rows, (note,))


@matplotlib.rc_context(STYLE)
def draw_decision_curve(axes: Axes, benefit: Sequence[NetBenefit]) -> str:
    """Net benefit of the model, of calling all and of calling none, against the threshold.

    Args:
        axes: where to draw.
        benefit: at ascending thresholds.

    Returns:
        Alternative text with every threshold.
    """
    thresholds = [each.threshold for each in benefit]
    values = np.array([each.model.value for each in benefit], float)
    # As numbers, so that an interval that is not defined is NaN, which leaves a gap.
    lows, highs = (np.array([getattr(each.model, end) for each in benefit], float) for end in ("low", "high"))
    axes.fill_between(thresholds, lows, highs, color=color_of(0), alpha=0.14, linewidth=0)
    axes.plot(thresholds, values, "o-", color=color_of(0), markersize=4, label="the model")
    axes.plot(
        thresholds, [e.all_called for e in benefit], "--", color=color_of(1), label="calling every cell"
    )
    axes.axhline(0, color=MUTED, linestyle=(0, (2, 3)), linewidth=1, label="calling none")
    axes.set_xscale("log")
    axes.set_xticks(thresholds, [f"{100 * each:g}%" for each in thresholds])
    axes.minorticks_off()
    lowest, highest = np.nanmin([0.0, *lows]), np.nanmax([0.0, *highs])
    axes.set_ylim(lowest - 0.12 * (highest - lowest) - 0.02, highest + 0.08 * (highest - lowest) + 0.02)
    axes.set(xlabel="threshold on the malignant probability", ylabel="net benefit")
    show_legend(axes, loc="center left")
    shown = "; ".join(
        f"at {100 * e.threshold:g}% {e.model.value:.3f}, calling every cell {e.all_called:.3f}"
        for e in benefit
    )
    return f"Net benefit against the threshold. {shown}."


def refer_section(scores: ReferScores, safeguards: Safeguards, malignant: bool) -> Section:
    """Accuracy against the share referred, what the exported rule refers, and the prediction sets.

    Args:
        scores: on the scored images.
        safeguards: of the exported model.
        malignant: whether malignant classes are named.
    """
    figure, axes = new_figure(height=3.4)
    curve = scores.curve
    alt = draw_selective_accuracy(axes[0, 0], curve.x, curve.y, curve.band_low, curve.band_high)
    caption = (
        "The images of which the model is least sure go to an expert; the band is a 95% interval over groups."
    )
    blocks: list[Block] = [
        figure_block("selective-accuracy", figure, alt, caption),
        _kept_table(scores, malignant),
        _rule_table(scores, safeguards),
        _set_table(scores.sets, safeguards.fitted_on),
    ]
    if safeguards.domain is None:
        blocks.append(
            Alert("note", "Strange images are not recognised", f"Not offered: {safeguards.no_domain}.")
        )
    return Section("refer", "When to ask an expert", _INTRO, tuple(blocks))


_INTRO = (
    "A model that passes on its doubtful images answers the others better. The exported model marks every image "
    "it would refer, and says why; its answer is given all the same."
)


def _kept_table(scores: ReferScores, malignant: bool) -> Table:
    columns = [Column("Referred", "right"), Column("Accuracy on the rest", "right"), Column("Wrong", "right")]
    if malignant:
        columns.append(Column("Malignant called benign", "right"))
    rows = []
    for each in scores.kept:
        row = [
            format_value(each.referred),
            interval_cell(each.accuracy),
            Cell(f"{each.wrong:,}", f"of {each.images:,}"),
        ]
        rows.append((*row, f"{each.missed_malignant:,}") if malignant else tuple(row))
    return Table("If the least sure images are referred", tuple(columns), tuple(rows), width="half")


def _rule_table(scores: ReferScores, safeguards: Safeguards) -> Table:
    columns = (Column("What the exported model does"), Column("Share of images", "right"))
    rows: list[tuple[Cell | str, Cell | str]] = [
        (Cell(f"Refers as {REASONS[code]}"), interval_cell(share)) for code, share in scores.reasons.items()
    ]
    rows.append((Cell("Refers, for whatever reason"), interval_cell(scores.referred)))
    if scores.accuracy is not None:
        rows.append(
            (
                Cell("Is right where it does not refer", "accuracy of what is left"),
                interval_cell(scores.accuracy),
            )
        )
    if scores.caught is not None:
        rows.append(("Share of its wrong answers that it refers", format_value(scores.caught)))
    return Table("The rule inside the exported model", columns, tuple(rows), _rule_notes(safeguards))


def _rule_notes(safeguards: Safeguards) -> tuple[str, ...]:
    notes = [
        "Referred as unsure: not exactly one class has a calibrated probability of at least "
        f"{format_value(safeguards.sets.threshold)}."
    ]
    domain = safeguards.domain
    if domain is not None:
        notes.append(
            "Unlike the training images: the network's features, or the colours and details of the picture, lie "
            f"farther from them than those of {format_value(1 - domain.false_referral)} of {domain.images:,} images "
            f"of {domain.groups:,} groups "
            f"({domain.measured_by})."
        )
    return tuple(notes)


_FOLDS = "; that is true of the folds' models, and about true of the exported one"


def _set_table(scores: SetScores, fitted_on: str) -> Table:
    sets = scores.sets
    columns = (Column("Images of"), Column("True class in the set", "right"))
    rows = [("all classes", interval_cell(scores.covered))]
    rows += [(name, interval_cell(each)) for name, each in scores.by_class.items()]
    sizes = ", ".join(
        f"{format_value(share)} {'no class' if size == 0 else f'{size} class' + ('es' if size > 1 else '')}"
        for size, share in enumerate(scores.sizes)
        if share
    )
    promise = (
        f"by construction, for a new patient who is like these{_FOLDS if fitted_on == 'out-of-fold' else ''}"
        if sets.guaranteed
        else f"aimed at, not guaranteed: {sets.groups} groups are too few for it"
    )
    notes = (
        f"Stated coverage {format_value(sets.coverage)} ({promise}), calibrated on {sets.groups:,} groups that count alike.",
        f"Sets hold: {sizes}.",
    )
    caption = "Prediction sets: the classes that cannot be ruled out"
    return Table(caption, columns, tuple(rows), notes, width="half")


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
