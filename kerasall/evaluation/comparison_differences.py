"""What a comparison says of pairs: differences over groups, and tests over images."""

from __future__ import annotations

from collections.abc import Mapping

from kerasall.evaluation.comparison import IMAGE_TESTS, Pair, SystemComparison
from kerasall.evaluation.comparison_figures import ForestRow, draw_forest, forest_figure
from kerasall.evaluation.comparison_wording import (
    cochran_words,
    difference_words,
    is_percent,
    p_words,
    title_of,
    turned,
)
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.report_document import (
    Alert,
    Block,
    Cell,
    Column,
    Fact,
    FigureBlock,
    KeyValues,
    Section,
    Table,
    Tone,
)
from kerasall.evaluation.report_sections import figure_block


def differences_section(comparison: SystemComparison) -> Section:
    """Differences in the main score with intervals over groups, then in every score."""
    title = title_of(comparison, comparison.metric)
    worse = find_metric(comparison.metric, comparison.classes).direction == "lower"
    intro = (
        "Each difference is between two systems on the same images, so what makes an image hard for both drops "
        "out. Its interval leaves out one group at a time"
        + (". " if comparison.known_groups else ": here, one image, for groups are not known. ")
        + "An interval that holds 0 does not show that the systems are equal."
    )
    blocks: list[Block] = [_difference_table(comparison), _difference_forest(comparison, title, worse)]
    if len(comparison.systems) > 2:
        blocks.append(_matrix(comparison, title))
    blocks.append(_all_differences(comparison))
    return Section("differences", "Paired differences", intro, tuple(blocks))


def _difference_table(comparison: SystemComparison) -> Table:
    columns = [Column("First less second"), Column("Difference", "right"), Column("p", "right")]
    columns += [Column("p, Holm", "right")] if len(comparison.pairs) > 1 else []
    rows = []
    for pair in comparison.pairs:
        found = pair.differences[comparison.metric]
        row = [
            _pair_cell(comparison, pair),
            Cell(*difference_words(comparison.metric, found)),
            p_words(found.p_value),
        ]
        row += [p_words(pair.adjusted)] if len(comparison.pairs) > 1 else []
        rows.append(tuple(row))
    notes = sorted({p.differences[comparison.metric].note for p in comparison.pairs} - {""})
    caption = f"{title_of(comparison, comparison.metric)}: difference with {100 * comparison.confidence:g}% interval"
    return Table(caption, tuple(columns), tuple(rows), tuple(notes), width="half")


def _pair_cell(comparison: SystemComparison, pair: Pair) -> Cell:
    first, second, equal = pair.groups
    note = f"groups: {first:,} better, {second:,} worse, {equal:,} equal" if comparison.known_groups else ""
    return Cell(f"{pair.first} − {pair.second}", note)


def _difference_forest(comparison: SystemComparison, title: str, lower_is_better: bool) -> FigureBlock:
    rows = []
    for pair in comparison.pairs:
        found = pair.differences[comparison.metric]
        value, ends = difference_words(comparison.metric, found)
        text = f"{value} ({ends})" if ends else value
        rows.append(ForestRow(f"{pair.first} − {pair.second}", found.difference, found.low, found.high, text))
    figure, axes = forest_figure(len(rows))
    label = f"difference in {title.lower()}"
    label += " (percentage points)" if is_percent(comparison.metric) else ""
    alt = draw_forest(axes, rows, label, 0.0, is_percent(comparison.metric))
    side = "left" if lower_is_better else "right"
    caption = f"To the {side} of the dashed line the first system is better; an interval across it leaves that open."
    return figure_block("differences", figure, alt, caption)


def _matrix(comparison: SystemComparison, title: str) -> Table:
    names = [system.name for system in comparison.systems]
    pairs = {(pair.first, pair.second): pair for pair in comparison.pairs}
    rows = tuple((row, *(_matrix_cell(comparison, pairs, row, column) for column in names)) for row in names)
    columns = (Column("System"), *(Column(f"− {name}", "right") for name in names))
    notes = (
        "Each cell is the row's system less the column's, with the Holm-adjusted p-value below. Green: the row's "
        "system is better; red: the column's; no colour: not told.",
    )
    return Table(f"Every system against every other, {title.lower()}", columns, rows, notes)


def _matrix_cell(
    comparison: SystemComparison, pairs: Mapping[tuple[str, str], Pair], row: str, column: str
) -> Cell | None:
    if row == column:
        return None
    pair = pairs.get((row, column)) or pairs[column, row]
    found = pair.differences[comparison.metric]
    text = difference_words(comparison.metric, found if pair.first == row else turned(found))[0]
    better = comparison.better(pair)
    tone: Tone = "" if better is None else ("good" if better == row else "bad")
    words = {"": "", "good": ", better", "bad": ", worse"}[tone]  # colour is never the only cue
    return Cell(text, f"p {p_words(pair.adjusted)}{words}", tone)


def _all_differences(comparison: SystemComparison) -> Table:
    columns = (Column("Score"), *(Column(f"{p.first} − {p.second}", "right") for p in comparison.pairs))
    rows = tuple(
        (
            title_of(comparison, metric),
            *(Cell(*difference_words(metric, p.differences[metric])) for p in comparison.pairs),
        )
        for metric in comparison.systems[0].intervals
    )
    notes = (
        "These are not adjusted for their number: decide by the main score, chosen before looking.",
        "A lower log loss is better.",
    )
    return Table("Differences in every score", columns, rows, notes)


def images_section(comparison: SystemComparison) -> Section:
    """On which images the systems part, with the tests that count images."""
    several = len(comparison.pairs) > 1
    columns = [
        Column("Pair"), Column("Both right", "right"), Column("Only first", "right"), Column("Only second", "right"),
        Column("Neither", "right"), Column("McNemar p", "right"), *([Column("p, Holm", "right")] if several else []),
    ]  # fmt: skip
    rows = tuple(
        (f"{p.first} − {p.second}", *(f"{count:,}" for count in p.images), p_words(p.mcnemar.p_value),
         *([p_words(p.mcnemar_adjusted)] if several else []))
        for p in comparison.pairs
    )  # fmt: skip
    caption = "Which of the two is right on how many images, with the exact McNemar test"
    blocks: list[Block] = [Alert("warning", "Images of one patient are not independent", IMAGE_TESTS)]
    blocks.append(Table(caption, tuple(columns), rows))
    if comparison.cochran:
        text = "whether all systems decide equally many images rightly"
        blocks.append(KeyValues((Fact("Cochran's Q", f"{cochran_words(comparison.cochran)}: {text}."),)))
    return Section("images", "Image by image", blocks=tuple(blocks))
