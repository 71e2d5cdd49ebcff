"""The page of a comparison: which system is better and how surely, before everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kerasall.evaluation.comparison import SystemComparison, SystemScores
from kerasall.evaluation.comparison_differences import differences_section, images_section
from kerasall.evaluation.comparison_figures import ForestRow, draw_forest, forest_figure
from kerasall.evaluation.comparison_wording import (
    interval_words,
    is_percent,
    missed_words,
    resampled_words,
    title_of,
    verdict_words,
)
from kerasall.evaluation.curves import roc_curve
from kerasall.evaluation.figure_style import new_figure
from kerasall.evaluation.figures import Curve, draw_roc_curves
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import find_metric, malignant_mask
from kerasall.evaluation.report_document import (
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
)
from kerasall.evaluation.report_sections import figure_block

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
        found = roc_curve(system.predictions, positive, confidence=comparison.confidence)
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
