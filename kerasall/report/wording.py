"""A comparison in words: lines of a terminal, and the sentences that terminal and report share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kerasall.evaluation.comparison import IMAGE_TESTS, Pair, SystemComparison, SystemScores
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.paired_tests import Comparison
from kerasall.report.format import difference_words, interval_words, p_words

_COLUMNS = 3
"""Systems beside one another in a terminal."""


def title_of(comparison: SystemComparison, metric: str) -> str:
    """Words for a metric."""
    return find_metric(metric, comparison.classes).title


def turned(found: Comparison) -> Comparison:
    """The same comparison seen from the second system: second less first."""
    return replace(
        found,
        difference=None if found.difference is None else -found.difference,
        low=None if found.high is None else -found.high,
        high=None if found.low is None else -found.low,
    )


def missed_words(system: SystemScores) -> str:
    """For example ``3 of 160``; a dash where no class is known to be malignant."""
    if system.missed is None:
        return "–"
    return f"{system.missed:,} of {system.malignant_images:,}"


def verdict_words(comparison: SystemComparison, pair: Pair) -> str:
    """One sentence: which system is better by the main metric, or that it cannot be told."""
    title = title_of(comparison, comparison.metric)
    better = comparison.better(pair)
    found = pair.differences[comparison.metric]
    found = turned(found) if better == pair.second else found
    value, ends = difference_words(comparison.metric, found)
    level = f"{100 * comparison.confidence:g}% interval {ends}" if ends else ""
    adjusted = f", Holm-adjusted p {_equals(pair.adjusted)}" if len(comparison.pairs) > 1 and ends else ""
    numbers = f"difference {value}" + (f", {level}{adjusted}" if level else "")
    if better:
        other = pair.second if better == pair.first else pair.first
        return f"{better} is better than {other} by {title.lower()}: {numbers}."
    if found.p_value is None:
        reason = found.note or "no interval"
        told = f"difference {value}, but {reason}" if found.difference is not None else reason
        return f"{pair.first} and {pair.second} cannot be told apart by {title.lower()}: {told}."
    return f"No difference between {pair.first} and {pair.second} is shown by {title.lower()}: {numbers}."


def resampled_words(comparison: SystemComparison) -> str:
    """What the intervals resample."""
    return (
        f"{comparison.groups:,} groups" if comparison.known_groups else f"{comparison.images:,} single images"
    )


def describe_comparison(comparison: SystemComparison) -> str:
    """The comparison for a terminal: a table of scores, the differences, the tests and every warning."""
    malignant = f" (malignant: {', '.join(comparison.malignant)})" if comparison.malignant else ""
    lines = [
        f"{len(comparison.systems)} systems on {comparison.images:,} shared images, intervals over "
        f"{resampled_words(comparison)}; classes {', '.join(comparison.classes)}{malignant}",
    ]
    for start in range(0, len(comparison.systems), _COLUMNS):
        lines += ["", *_score_lines(comparison, comparison.systems[start : start + _COLUMNS])]
    title = title_of(comparison, comparison.metric)
    lines += ["", f"{title}, paired differences over {resampled_words(comparison)}"]
    for pair in comparison.pairs:
        lines += [f"  {verdict_words(comparison, pair)}", f"    {groups_words(pair)}"]
    lines += [
        "",
        "Exact McNemar test over images",
        *(f"  {_mcnemar_line(comparison, p)}" for p in comparison.pairs),
    ]
    if comparison.cochran:
        lines.append(f"  Cochran's Q over all systems: {cochran_words(comparison.cochran)}")
    lines += [
        f"  {IMAGE_TESTS}",
        *(["", *(f"warning: {text}" for text in comparison.warnings)] if comparison.warnings else []),
    ]
    return "\n".join(lines)


def groups_words(pair: Pair) -> str:
    """In how many groups each system decided more images rightly."""
    first, second, equal = pair.groups
    return f"{pair.first} does better in {first:,} of {sum(pair.groups):,} groups, {pair.second} in {second:,}, equally well in {equal:,}."


def cochran_words(found: Comparison) -> str:
    """Statistic and p-value."""
    return f"Q = {found.statistic:.2f}, p {_equals(found.p_value)}"


def _equals(p_value: float | None) -> str:
    words = p_words(p_value)
    return words if words.startswith("<") else f"= {words}"


def _mcnemar_line(comparison: SystemComparison, pair: Pair) -> str:
    adjusted = f", Holm-adjusted {_equals(pair.mcnemar_adjusted)}" if len(comparison.pairs) > 1 else ""
    return (
        f"only {pair.first} right on {pair.images[1]:,}, only {pair.second} on {pair.images[2]:,}: "
        f"p {_equals(pair.mcnemar.p_value)}{adjusted}"
    )


def _score_lines(comparison: SystemComparison, systems: Sequence[SystemScores]) -> list[str]:
    rows = [["", *(system.name for system in systems)]]
    rows.append(["scored on", *(system.scored or "not known" for system in systems)])
    for metric in systems[0].intervals:
        rows.append(
            [title_of(comparison, metric), *(_value_cell(metric, s.intervals[metric]) for s in systems)]
        )
    if comparison.malignant:
        rows.append(["Malignant called benign", *map(missed_words, systems)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _value_cell(metric: str, interval: Interval) -> str:
    value, ends = interval_words(metric, interval)
    return f"{value} ({ends})" if ends else value
