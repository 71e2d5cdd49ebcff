"""The page of a comparison: which system is better and how surely, before everything else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from kerasall.evaluation.comparison import IMAGE_TESTS, Pair, SystemComparison
from kerasall.evaluation.curves import roc_curve
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import find_metric, malignant_mask
from kerasall.report.comparison_figures import ForestRow, draw_forest
from kerasall.report.format import Score, difference_words, interval_words, is_percent, p_words
from kerasall.report.page import Page, Picture, Section, cell, draw_picture, render_section
from kerasall.report.score_figures import draw_roc_curves
from kerasall.report.wording import (
    cochran_words,
    missed_words,
    resampled_words,
    title_of,
    turned,
    verdict_words,
)

_MOST_BANDS = 3
"""More curves than this are drawn without bands, which would cover one another."""
_LONGEST_NAME, _MOST_NAMED = 16, 4
"""Longer names, or those of more systems, give way to letters in tables and figures."""


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
            "Main score": title_of(comparison, comparison.metric),
        },
        results=comparison.to_json(),
        sections=(
            _summary(shown, names), _systems(shown), _differences(shown), _images(shown), _roc(shown),
            render_section(
                "method", systems=comparison.systems, command=command,
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
    return {name: title_of(comparison, name) for name in comparison.systems[0].intervals}


def _summary(comparison: SystemComparison, names: list[str]) -> Section | None:
    metric, title = comparison.metric, title_of(comparison, comparison.metric)
    tiles = []
    for system in comparison.systems:
        found = system.intervals[metric]
        score = Score(system.name, found.value, found.low, found.high, is_percent(metric))
        missed = "" if system.missed is None else missed_words(system)
        tiles.append({"score": score, "drawn": metric != "log_loss", "missed": missed})
    letters = {s.name: name for s, name in zip(comparison.systems, names, strict=True) if s.name != name}
    return render_section(
        "comparison_summary",
        letters=letters, tiles=tiles, title_=title, confidence=f"{100 * comparison.confidence:g}%",
        verdicts=[verdict_words(comparison, pair) for pair in comparison.pairs], warnings=list(comparison.warnings),
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
    rows = []
    for index, system in enumerate(comparison.systems):
        found = system.intervals[metric]
        rows.append(
            ForestRow(
                system.name, found.value, found.low, found.high, _beside(interval_words(metric, found)), index
            )
        )
    row = find_metric(metric, comparison.classes)
    draw = partial(
        draw_forest, rows=rows, title=row.title, percent=is_percent(metric), bounds=(row.lowest, row.highest)
    )
    caption = (
        f"{row.title} with {100 * comparison.confidence:g}% intervals over {resampled_words(comparison)}."
    )
    caption += " Lower is better." if row.direction == "lower" else ""
    return {"picture": _draw_rows(name, draw, len(rows)), "caption": caption}


def _draw_rows(name: str, draw: Any, rows: int) -> Picture:
    return draw_picture(name, draw, height=0.75 + 0.55 * rows)


def _beside(words: tuple[str, str]) -> str:
    value, ends = words
    return f"{value} ({ends})" if ends else value


def _differences(comparison: SystemComparison) -> Section | None:
    metric, title = comparison.metric, title_of(comparison, comparison.metric)
    rows = [
        ForestRow(
            f"{p.first} − {p.second}",
            found.difference,
            found.low,
            found.high,
            _beside(difference_words(metric, found)),
        )
        for p in comparison.pairs
        for found in [p.differences[metric]]
    ]
    label = f"difference in {title.lower()}" + (" (percentage points)" if is_percent(metric) else "")
    draw = partial(draw_forest, rows=rows, title=label, reference=0.0, percent=is_percent(metric))
    return render_section(
        "differences",
        c=comparison, title_=title, titles=_titles(comparison), matrix=_matrix(comparison),
        picture=_draw_rows("differences", draw, len(rows)),
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


def _images(comparison: SystemComparison) -> Section | None:
    cochran = cochran_words(comparison.cochran) if comparison.cochran else ""
    return render_section("images", pairs=comparison.pairs, caution=IMAGE_TESTS, cochran=cochran)


def _roc(comparison: SystemComparison) -> Section | None:
    """ROC curves where the classes are two kinds: malignant or not, or simply two."""
    positive = list(comparison.malignant) or ([comparison.classes[1]] if len(comparison.classes) == 2 else [])
    truth = malignant_mask(comparison.classes, positive)[comparison.systems[0].predictions.labels]
    if not positive or truth.all() or not truth.any():
        return None
    curves = [
        replace(
            roc_curve(Scorer(system.predictions, resamples=1000, confidence=comparison.confidence), positive),
            label=system.name,
        )
        for system in comparison.systems
    ]
    bands = len(curves) <= _MOST_BANDS
    picture = draw_picture("roc", lambda axes: draw_roc_curves(axes, curves, bands=bands), height=3.9)
    return render_section(
        "roc",
        picture=picture,
        caption=f"Positive: {', '.join(positive)}. Areas with {100 * comparison.confidence:g}% intervals over "
        f"{resampled_words(comparison)}.",
    )
