"""The section on referral: which images an expert should see, and what is gained by it."""

from __future__ import annotations

from kerasall.evaluation.figure_style import new_figure
from kerasall.evaluation.figures import draw_selective_accuracy
from kerasall.evaluation.refer import Safeguards
from kerasall.evaluation.refer_reasons import REASONS
from kerasall.evaluation.refer_scores import ReferScores, SetScores
from kerasall.evaluation.report_document import Alert, Block, Cell, Column, Section, Table
from kerasall.evaluation.report_sections import figure_block
from kerasall.evaluation.report_summary import format_value
from kerasall.evaluation.trust_section_operating import interval_cell


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
