"""The page of a comparison: which system is better and how surely, before everything else; and the same at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from kerasall.errors import count_of
from kerasall.evaluation.comparison import Pair, SystemComparison, SystemScores
from kerasall.evaluation.curves import roc_curve
from kerasall.evaluation.intervals import FEW_GROUPS, Scorer
from kerasall.evaluation.metrics import find_metric, malignant_mask
from kerasall.evaluation.paired_tests import Comparison
from kerasall.report.figures_comparison import ForestRow, draw_forest
from kerasall.report.figures_scores import draw_roc_curves
from kerasall.report.format import (
    Score,
    align_rows,
    beside,
    cell,
    difference_words,
    interval_words,
    is_percent,
    p_words,
    title_of,
)
from kerasall.report.page import Page, Section, draw_picture, render_section

_MOST_BANDS = 3
"""More curves than this are drawn without bands, which would cover one another."""
_LONGEST_NAME, _MOST_NAMED = 16, 4
"""Longer names, or those of more systems, give way to letters in tables and figures."""
_COLUMNS = 3
"""Systems beside one another in a terminal."""


def make_comparison_page(comparison: SystemComparison, command: str = "") -> Page:
    """The page of a comparison; ``results`` holds its JSON form.

    Args:
        comparison: what ``compare_systems`` found.
        command: the command line that made it, or "".
    """
    names, shown = [system.name for system in comparison.systems], lettered(comparison)
    selected = any(system.scored == "selection" for system in comparison.systems)
    return Page(
        title=" against ".join(names) if len(names) <= _MOST_NAMED else f"{len(names)} systems compared",
        subtitle=f"{len(names)} systems side by side on the same {comparison.images:,} images.",
        protocol="faithful" if selected else "honest",
        facts={
            "Classes": ", ".join(comparison.classes),
            "Shared images": f"{comparison.images:,}",
            "Groups": f"{comparison.groups:,}" if comparison.known_groups else "not known",
            "Main score": title_of(comparison.metric, comparison.classes),
        },
        results=comparison_document(comparison),
        sections=(
            _summary(comparison, shown), _systems(shown), _differences(shown), render_section(
                "images", c=shown, words=test_words(shown), notes=_test_notes(shown),
                cochran=cochran_words(shown.cochran) if shown.cochran else "",
            ), _roc(shown),
            render_section(
                "method", systems=comparison.systems, command=command, test=comparison.pairs[0].flips.test,
                intervals=comparison.systems[0].intervals[comparison.metric].method,
            ),
        ),
    )  # fmt: skip


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


def _titles(comparison: SystemComparison) -> dict[str, str]:
    return {name: title_of(name, comparison.classes) for name in comparison.systems[0].intervals}


def _summary(named: SystemComparison, comparison: SystemComparison) -> Section | None:
    """Tiles and verdicts with the names that are shown; the key to these and the warnings, with the full ones."""
    metric, title = comparison.metric, title_of(comparison.metric, comparison.classes)
    tiles = []
    for system in comparison.systems:
        found = system.intervals[metric]
        score = Score(system.name, found.value, found.low, found.high, is_percent(metric))
        missed = "" if system.missed is None else missed_words(system)
        tiles.append({"score": score, "drawn": metric != "log_loss", "missed": missed})
    both = zip(comparison.systems, named.systems, strict=True)
    letters = {shown.name: full.name for shown, full in both if shown.name != full.name}
    return render_section(
        "comparison_summary",
        letters=letters, tiles=tiles, title_=title, confidence=f"{100 * comparison.confidence:g}%",
        verdicts=[verdict_words(comparison, pair) for pair in comparison.pairs], warnings=list(find_warnings(named)),
    )  # fmt: skip


def _systems(comparison: SystemComparison) -> Section | None:
    pictures = [_forest(comparison, comparison.metric, "scores")]
    if comparison.malignant and comparison.metric != "malignant_sensitivity":
        pictures.append(_forest(comparison, "malignant_sensitivity", "sensitivity"))
    systems = comparison.systems
    return render_section(
        "systems",
        c=comparison, titles=_titles(comparison), pictures=pictures, resampled=resampled_words(comparison),
        missed=[missed_words(system) for system in systems] if comparison.malignant else None,
        notes=sorted({each.note for system in systems for each in system.intervals.values() if each.note}),
    )  # fmt: skip


def _forest(comparison: SystemComparison, metric: str, name: str) -> dict[str, Any]:
    row = find_metric(metric, comparison.classes)
    lines = [
        ForestRow(s.name, found.value, found.low, found.high, beside(interval_words(metric, found)), index)
        for index, s in enumerate(comparison.systems)
        for found in [s.intervals[metric]]
    ]
    caption = (
        f"{row.title} with {100 * comparison.confidence:g}% intervals over {resampled_words(comparison)}."
    )
    caption += " Lower is better." if row.direction == "lower" else ""
    picture = draw_picture(
        name, draw_forest, lines, row.title, height=0.75 + 0.55 * len(lines), percent=is_percent(metric),
        bounds=(row.lowest, row.highest),
    )  # fmt: skip
    return {"picture": picture, "caption": caption}


def _differences(comparison: SystemComparison) -> Section | None:
    metric, title = comparison.metric, title_of(comparison.metric, comparison.classes)
    rows = []
    for p in comparison.pairs:
        found, name = p.differences[metric], f"{p.first} − {p.second}"
        words = beside(difference_words(metric, found))
        rows.append(ForestRow(name, found.difference, found.low, found.high, words))
    label = f"difference in {title.lower()}" + (" (percentage points)" if is_percent(metric) else "")
    picture = draw_picture(
        "differences", draw_forest, rows, label, height=0.75 + 0.55 * len(rows), reference=0.0, percent=is_percent(metric)
    )  # fmt: skip
    return render_section(
        "differences",
        c=comparison, title_=title, titles=_titles(comparison), matrix=_matrix(comparison), picture=picture,
        side="left" if find_metric(metric, comparison.classes).direction == "lower" else "right",
        notes=sorted({pair.differences[metric].note for pair in comparison.pairs} - {""}),
    )  # fmt: skip


def _matrix(comparison: SystemComparison) -> list[list[Any]]:
    """Every system less every other; empty for two systems."""
    names = [system.name for system in comparison.systems]
    pairs = {(pair.first, pair.second): pair for pair in comparison.pairs}
    if len(names) < 3:
        return []
    return [[row, *(_matrix_cell(comparison, pairs, row, column) for column in names)] for row in names]


def _matrix_cell(
    comparison: SystemComparison, pairs: dict[tuple[str, str], Pair], row: str, column: str
) -> dict[str, Any] | None:
    if row == column:
        return None
    pair = pairs.get((row, column)) or pairs[column, row]
    found = pair.differences[comparison.metric]
    text = difference_words(comparison.metric, found if pair.first == row else turned(found))[0]
    better = comparison.better(pair)
    tone = "" if better is None else ("good" if better == row else "bad")
    words = {"": "", "good": ", better", "bad": ", worse"}[tone]  # colour is never the only cue
    return cell(text, f"p {p_words(pair.adjusted)}{words}", tone)


def _roc(comparison: SystemComparison) -> Section | None:
    """ROC curves where the classes are two kinds: malignant or not, or simply two."""
    positive = list(comparison.malignant) or ([comparison.classes[1]] if len(comparison.classes) == 2 else [])
    truth = malignant_mask(comparison.classes, positive)[comparison.systems[0].predictions.labels]
    if not positive or truth.all() or not truth.any():
        return None
    curves = []
    for system in comparison.systems:
        scorer = Scorer(system.predictions, resamples=1000, confidence=comparison.confidence)
        curves.append(replace(roc_curve(scorer, positive), label=system.name))
    bands = len(curves) <= _MOST_BANDS
    caption = (
        f"Positive: {', '.join(positive)}. Areas with {100 * comparison.confidence:g}% intervals over "
        f"{resampled_words(comparison)}."
    )
    picture = draw_picture("roc", draw_roc_curves, curves, height=3.9, bands=bands)
    return render_section("roc", picture=picture, caption=caption)


# --- words that page and terminal share ---


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
    title = title_of(comparison.metric, comparison.classes)
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
    if comparison.known_groups:
        return count_of(comparison.groups, "group")
    return count_of(comparison.images, "single image")


def describe_comparison(comparison: SystemComparison) -> str:
    """The comparison for a terminal: a table of scores, the differences, the tests and every warning."""
    malignant = f" (malignant: {', '.join(comparison.malignant)})" if comparison.malignant else ""
    systems, resampled = comparison.systems, resampled_words(comparison)
    lines = [
        f"{len(systems)} systems on {comparison.images:,} shared images, intervals over {resampled}; "
        f"classes {', '.join(comparison.classes)}{malignant}"
    ]
    for start in range(0, len(systems), _COLUMNS):
        lines += ["", *_score_lines(comparison, systems[start : start + _COLUMNS])]
    lines += ["", f"{title_of(comparison.metric, comparison.classes)}, paired differences over {resampled}"]
    for pair in comparison.pairs:
        lines += [f"  {verdict_words(comparison, pair)}", f"    {groups_words(pair)}"]
    lines += ["", f"Images decided rightly ({comparison.pairs[0].flips.test})"]
    lines += [f"  {_right_line(comparison, pair)}" for pair in comparison.pairs]
    if comparison.cochran:
        lines.append(f"  Cochran's Q over all systems: {cochran_words(comparison.cochran)}")
    lines += [f"  {words}" for words in (*_test_notes(comparison), test_words(comparison))]
    if warnings := [f"warning: {text}" for text in find_warnings(comparison)]:
        lines += ["", *warnings]
    return "\n".join(lines)


def comparison_document(comparison: SystemComparison) -> dict[str, Any]:
    """The document of ``kerasall compare --json``: the numbers, every warning, and a note on the tests."""
    return comparison.to_json() | {
        "warnings": list(find_warnings(comparison)),
        "note": test_words(comparison),
    }


def find_warnings(comparison: SystemComparison) -> Iterator[str]:
    """What makes a comparison less than fair, or less than sure, a sentence each."""
    systems = comparison.systems
    yield from _part_warnings(systems)
    for what, so, known in (
        ("The data sets differ", "images, labels or subjects are not the same, or the same names stand for other "
         "pictures", {system.name: system.fingerprint[:12] for system in systems if system.fingerprint}),
        ("The splits differ", "each system learned from other images, so a difference is not the method's alone",
         {system.name: system.split[:12] for system in systems if system.split}),
    ):  # fmt: skip
        if len(set(known.values())) > 1:
            yield f"{what} ({', '.join(f'{name} {value}' for name, value in known.items())}): {so}."
    left = [(s.not_shared, s.not_shared + comparison.images, s.name) for s in systems if s.not_shared]
    if left:
        counts = ", ".join(f"{out:,} of {images:,} of {name}" for out, images, name in left)
        yield f"Images that not all systems predicted are left out: {counts}."
    if comparison.joined:
        yield "The systems group the images differently; groups that share an image were joined."
    for one, two in combinations(systems, 2):
        if np.array_equal(one.predictions.probabilities, two.predictions.probabilities):
            yield f"{one.name} and {two.name} give every shared image the same probabilities: are they one system?"
    groups = comparison.groups
    if not comparison.known_groups:
        yield (
            "Neither patients nor groups are known: images count as independent, so that intervals are too narrow "
            "and p-values too small."
        )
    elif groups < FEW_GROUPS:
        yield f"The images are of {count_of(groups, 'group')} only, fewer than {FEW_GROUPS}: intervals and p-values of differences are rough."


def _part_warnings(systems: Sequence[SystemScores]) -> Iterator[str]:
    kinds = {system.name: system.scored for system in systems if system.scored}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        yield (
            f"The systems were scored on different parts ({told}): a model tested once and models tested while "
            "held out of folds saw different amounts of training images."
        )
    for name in (name for name, kind in kinds.items() if kind == "selection"):
        yield f"{name} chose its settings on the images it is scored on: its score is likely too high."
    if unknown := [system.name for system in systems if not system.scored]:
        yield (
            f"No report stands beside the predictions of {', '.join(unknown)}: whether those images were held out "
            "is not known."
        )


def groups_words(pair: Pair) -> str:
    """In how many groups each system decided more images rightly."""
    first, second, equal = pair.groups
    return f"{pair.first} does better in {first:,} of {count_of(sum(pair.groups), 'group')}, {pair.second} in {second:,}, equally well in {equal:,}."


def test_words(comparison: SystemComparison) -> str:
    """What the test of the images decided rightly counts as independent."""
    if not comparison.known_groups:
        return (
            "Neither patients nor groups are known, so McNemar's test counts images as independent: where patients "
            "have several, its p-value is too small, and more patients do not mend that."
        )
    if comparison.single:
        return "Every group has one image, so McNemar's test is valid."
    return (
        "The two systems change places in whole groups, so that the images of a group count together. McNemar's test "
        "counts images as independent, finds differences where there are none, and is not shown."
    )


def _test_notes(comparison: SystemComparison) -> list[str]:
    """Pairs that so few groups tell apart that no small p-value can come out."""
    told = [
        (pair, pair.flips.note) for pair in comparison.pairs if pair.flips.note and comparison.known_groups
    ]
    return [f"{pair.first} and {pair.second}: {note}." for pair, note in told]


def cochran_words(found: Comparison) -> str:
    """Statistic and p-value."""
    return f"Q = {found.statistic:.2f}, p {_equals(found.p_value)}"


def _equals(p_value: float | None) -> str:
    words = p_words(p_value)
    return words if words.startswith("<") else f"= {words}"


def _right_line(comparison: SystemComparison, pair: Pair) -> str:
    adjusted = f", Holm-adjusted {_equals(pair.flips_adjusted)}" if len(comparison.pairs) > 1 else ""
    return (
        f"only {pair.first} right on {pair.images[1]:,}, only {pair.second} on {pair.images[2]:,}: "
        f"p {_equals(pair.flips.p_value)}{adjusted}"
    )


def _score_lines(comparison: SystemComparison, systems: Sequence[SystemScores]) -> list[str]:
    rows = [["", *(system.name for system in systems)]]
    rows.append(["scored on", *(system.scored or "not known" for system in systems)])
    for metric in systems[0].intervals:
        values = (beside(interval_words(metric, system.intervals[metric])) for system in systems)
        over = list(dict.fromkeys(system.intervals[metric].over for system in systems))
        rows.append([f"{title_of(metric, comparison.classes)}, {' or '.join(over)}", *values])
    if comparison.malignant:
        rows.append(["Malignant called benign", *map(missed_words, systems)])
    return align_rows(rows, [False] * (1 + len(systems)))
