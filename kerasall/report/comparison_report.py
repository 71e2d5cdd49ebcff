"""The page of a comparison: which system is better and how surely, before everything else.

What a comparison says of pairs: differences over groups, and tests over images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kerasall.evaluation.comparison import IMAGE_TESTS, Pair, SystemComparison, SystemScores
from kerasall.evaluation.curves import roc_curve
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.metrics import find_metric, malignant_mask
from kerasall.report.comparison_figures import ForestRow, draw_forest, forest_figure
from kerasall.report.document import (
    Alert,
    Block,
    Cell,
    Check,
    Code,
    Column,
    Fact,
    FigureBlock,
    KeyValues,
    Range,
    Report,
    Scores,
    ScoreTile,
    Section,
    Table,
    Tone,
)
from kerasall.report.figure_style import new_figure
from kerasall.report.score_figures import Curve, draw_roc_curves
from kerasall.report.scores import figure_block
from kerasall.report.wording import (
    cochran_words,
    difference_words,
    interval_words,
    is_percent,
    missed_words,
    p_words,
    resampled_words,
    title_of,
    turned,
    verdict_words,
)


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


_MOST_BANDS = 3

"""More curves than this are drawn without bands, which would cover one another."""


_LONGEST_NAME, _MOST_NAMED = 16, 4

"""Longer names, or those of more systems, give way to letters in tables and figures."""


def make_comparison_report(comparison: SystemComparison, command: str = "") -> Report:
    """The document of a comparison, ready for ``write_report``; ``results`` holds its JSON form.

    Args:
        comparison: what ``compare_systems`` found.
        command: the command line that made it, or "".
    """
    results, shown = comparison.to_json(), lettered(comparison)
    names = [system.name for system in comparison.systems]
    key = tuple(zip((system.name for system in shown.systems), names, strict=True))
    selected = any(system.scored == "selection" for system in comparison.systems)
    roc = _roc_section(shown)
    return Report(
        title=" against ".join(names) if len(names) <= _MOST_NAMED else f"{len(names)} systems compared",
        subtitle=f"{len(comparison.systems)} systems side by side on the same {comparison.images:,} images.",
        protocol="faithful" if selected else "honest",
        facts=(
            Fact("Classes", ", ".join(comparison.classes)),
            Fact("Shared images", f"{comparison.images:,}"),
            Fact("Groups", f"{comparison.groups:,}" if comparison.known_groups else "not known"),
            Fact("Main score", title_of(comparison, comparison.metric)),
        ),
        results=results,
        sections=(
            _summary(shown, key),
            _systems_section(shown),
            differences_section(shown),
            images_section(shown),
            *([roc] if roc else []),
            _method_section(comparison, command),
        ),
    )


def lettered(comparison: SystemComparison) -> SystemComparison:
    """The comparison with systems called A, B, C ... where their names are too long or too many for columns."""
    names = [system.name for system in comparison.systems]
    if max(map(len, names)) <= _LONGEST_NAME and len(names) <= _MOST_NAMED:
        return comparison
    letter = {name: _letters(index) for index, name in enumerate(names)}
    return replace(
        comparison,
        systems=tuple(replace(s, name=letter[s.name]) for s in comparison.systems),
        pairs=tuple(replace(p, first=letter[p.first], second=letter[p.second]) for p in comparison.pairs),
    )


def _letters(index: int) -> str:
    """A to Z, then AA, AB and so on."""
    before, last = divmod(index, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)


# --- summary -----------------------------------------------------------------------------------------


def _summary(comparison: SystemComparison, key: Sequence[tuple[str, str]]) -> Section:
    names = tuple(Fact(shown, name) for shown, name in key if shown != name)
    blocks: list[Block] = [
        *([KeyValues(names)] if names else []),
        Scores(tuple(_tile(comparison, system) for system in comparison.systems)),
        Alert(
            "note",
            "What can be said",
            items=tuple(Check(verdict_words(comparison, p)) for p in comparison.pairs),
        ),
    ]
    if comparison.warnings:
        title = "Before you trust the difference"
        blocks.append(Alert("warning", title, items=tuple(map(Check, comparison.warnings))))
    blocks.append(
        Alert(
            "warning",
            "Research use only: not a diagnostic device",
            "The better of these systems is not thereby fit for patients: the comparison holds for these images, "
            "their stain, microscope and camera alone.",
        )
    )
    return Section("summary", "Summary", blocks=tuple(blocks))


def _tile(comparison: SystemComparison, system: SystemScores) -> ScoreTile:
    interval = system.intervals[comparison.metric]
    value, ends = interval_words(comparison.metric, interval)
    detail = f"{title_of(comparison, comparison.metric)}."
    detail += f" {100 * comparison.confidence:g}% interval {ends}." if ends else ""
    if system.missed is not None:
        detail += f" Malignant called benign: {missed_words(system)}."
    return ScoreTile(system.name, value, detail, range=_range(comparison.metric, interval))


def _range(metric: str, interval: Interval) -> Range | None:
    ends = (interval.value, interval.low, interval.high)
    if interval.value is None or not all(0 <= v <= 1 for v in ends if v is not None) or metric == "log_loss":
        return None
    return Range(interval.value, interval.low, interval.high)


# --- systems -----------------------------------------------------------------------------------------


def _systems_section(comparison: SystemComparison) -> Section:
    intro = (
        f"Every score is over the same {comparison.images:,} images. Intervals resample "
        f"{resampled_words(comparison)}. Two intervals may overlap although the difference is sure: judge a "
        "difference by its own interval, in the next section."
    )
    blocks: list[Block] = [_score_table(comparison), _forest(comparison, comparison.metric, "scores")]
    if comparison.malignant and comparison.metric != "malignant_sensitivity":
        blocks.append(_forest(comparison, "malignant_sensitivity", "sensitivity"))
    return Section("systems", "The systems", intro, tuple(blocks))


def _score_table(comparison: SystemComparison) -> Table:
    systems = comparison.systems
    columns = (Column("Score"), *(Column(system.name, "right") for system in systems))
    rows: list[tuple[str | Cell, ...]] = [
        (title_of(comparison, metric), *(Cell(*interval_words(metric, s.intervals[metric])) for s in systems))
        for metric in systems[0].intervals
    ]
    if comparison.malignant:
        rows.append(
            (
                "Malignant called benign",
                *(Cell(missed_words(s), tone="bad" if s.missed else "") for s in systems),
            )
        )
    rows.append(("Right", *(f"{s.right:,} of {comparison.images:,}" for s in systems)))
    rows.append(("Scored on", *(s.scored or "not known" for s in systems)))
    rows.append(("Images left out", *(f"{s.not_shared:,}" for s in systems)))
    notes = sorted({i.note for s in systems for i in s.intervals.values() if i.note})
    return Table("Scores with intervals", columns, tuple(rows), tuple(notes))


def _forest(comparison: SystemComparison, metric: str, name: str) -> FigureBlock:
    rows = []
    for index, system in enumerate(comparison.systems):
        interval = system.intervals[metric]
        value, ends = interval_words(metric, interval)
        text = f"{value} ({ends})" if ends else value
        rows.append(ForestRow(system.name, interval.value, interval.low, interval.high, text, index))
    row = find_metric(metric, comparison.classes)
    figure, axes = forest_figure(len(rows))
    alt = draw_forest(axes, rows, row.title, None, is_percent(metric), (row.lowest, row.highest))
    caption = (
        f"{row.title} with {100 * comparison.confidence:g}% intervals over {resampled_words(comparison)}."
    )
    caption += " Lower is better." if row.direction == "lower" else ""
    return figure_block(name, figure, alt, caption)


# --- curves and method ------------------------------------------------------------------------------


def _roc_section(comparison: SystemComparison) -> Section | None:
    """ROC curves where the classes are two kinds: malignant or not, or simply two."""
    positive = list(comparison.malignant) or ([comparison.classes[1]] if len(comparison.classes) == 2 else [])
    truth = malignant_mask(comparison.classes, positive)[comparison.systems[0].predictions.labels]
    if not positive or truth.all() or not truth.any():
        return None
    curves = []
    for system in comparison.systems:
        scorer = Scorer(system.predictions, resamples=1000, confidence=comparison.confidence)
        found = roc_curve(scorer, positive)
        bands = (found.band_low, found.band_high) if len(comparison.systems) <= _MOST_BANDS else (None, None)
        curves.append(
            Curve(system.name, found.x, found.y, found.area, found.area_low, found.area_high, *bands)
        )
    figure, axes = new_figure(height=3.9)
    alt = draw_roc_curves(axes[0, 0], curves)
    caption = f"Positive: {', '.join(positive)}. Areas with {100 * comparison.confidence:g}% intervals over {resampled_words(comparison)}."
    intro = (
        "How many positive images a system finds at every rate of false alarms, whatever its threshold. A curve "
        "that lies above another everywhere is better; curves that cross are better at different thresholds."
    )
    return Section("roc", "ROC curves", intro, (figure_block("roc", figure, alt, caption),))


def _method_section(comparison: SystemComparison, command: str) -> Section:
    facts = (
        *(
            Fact(s.name, f"{s.source or 'not known'} ({s.scored or 'part not known'})")
            for s in comparison.systems
        ),
        Fact("Intervals", comparison.systems[0].intervals[comparison.metric].method),
        Fact(
            "Differences",
            "leave-one-group-out jackknife within classes, Student's t with degrees of freedom for uneven groups",
        ),
        Fact(
            "Many pairs", "Holm's adjustment, over the differences of the main score and over McNemar's tests"
        ),
    )
    blocks: list[Block] = [KeyValues(facts)]
    if command:
        blocks.append(Code(command, "Command"))
    return Section("method", "Where the figures come from", blocks=tuple(blocks))
