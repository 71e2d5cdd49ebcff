"""The members of an ensemble in the report of a run: beside the ensemble, and each with all that the ensemble is shown by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasall.evaluation.curves import GRID, MACRO, BandedCurve
from kerasall.evaluation.ensemble_scores import EnsembleScores, PartScores, grow, put_right
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.report import sections
from kerasall.report.evidence import Evidence
from kerasall.report.figures_scores import draw_confusion_matrix, draw_roc_lines, roc_lines_height
from kerasall.report.format import cell, format_range, format_value, interval_words, title_of
from kerasall.report.page import Picture, Section, draw_picture, encode_picture, render_section

GALLERY = 8
"""Most images of one part: with nine members and their growth a page shows a hundred."""

_SIDE = 112
"""Pixels of their longer side."""


@dataclass(frozen=True, eq=False)
class Part:
    """A member, or several of them together, as the page names it: ``key`` names its files."""

    name: str
    key: str
    scores: PartScores


def make_ensemble(e: Evidence) -> Section | None:
    """The members beside the ensemble; nothing for one classifier."""
    found = e.findings.ensemble
    if found is None:
        return None
    pairs = found.agreement[np.triu_indices(len(found.members), 1)]
    chosen = e.settings.ensemble.weights_from == "selection" and bool(found.description["decided_by"])
    return render_section(
        "ensemble", found=found, title_of_main=title_of(found.main, e.facts.labels), mean_agreement=float(pairs.mean()),
        chosen_on_scored=chosen,
    )  # fmt: skip


def make_members(e: Evidence) -> Section | None:
    """Every score, matrix, curve and prediction gallery of every member and every growth step."""
    found = e.findings.ensemble
    if found is None:
        return None
    parts, classes = list_parts(found), e.facts.labels
    grown = [part for part in parts if part.key.startswith("first")]
    others = [part for part in parts if part not in grown]
    steps = [*grown, parts[-1]] if grown else []
    return render_section(
        "members", metrics=[title_of(name, classes) for name in found.ensemble.intervals],
        scores=[[part.name, *_score_cells(part.scores)] for part in parts],
        by_class=[row for part in parts for row in _class_rows(part)],
        matrices={part.name: _draw_matrix(part, e) for part in parts},
        roc=_draw_roc("members", others), growth=steps and _draw_roc("growth", steps),
        galleries=[_make_gallery(e, part, record) for part, record in _list_records(e, found, parts)],
        not_made={name: each.not_made for name, each in found.weightings.items() if each.not_made},
        malignant=bool(e.facts.malignant), classes=len(classes), weighed=bool(found.weightings), folds=bool(found.weightings) and e.findings.scored == "out-of-fold",
    )  # fmt: skip


def list_parts(found: EnsembleScores) -> list[Part]:
    """Members, the first so many of them (all are the ensemble itself), other weightings, and the ensemble last."""
    members, made = found.members, found.description
    parts = [Part(name, name, scores) for name, scores in members.items()]
    parts += [
        Part(f"first {size}", f"first_{size}", scores)
        for size, scores in found.first.items()
        if size < len(members)
    ]
    for name, each in found.weightings.items():
        if each.scores is not None and list(each.weights) != made["weights"]:
            parts.append(Part(f"weighed by {name}", f"weighed_{name}", each.scores))
    return [*parts, Part("ensemble", "ensemble", found.ensemble)]


def _score_cells(scores: PartScores) -> list[dict[str, Any]]:
    return [cell(*interval_words(name, interval)) for name, interval in scores.intervals.items()]


def _class_rows(part: Part) -> Iterator[list[Any]]:
    for name, scores in part.scores.by_class.items():
        cells = [
            cell(format_value(each.value), format_range(each.low, each.high)) for each in scores.values()
        ]
        yield [part.name, name, *cells]


def _draw_matrix(part: Part, e: Evidence) -> Picture:
    classes = e.facts.labels
    side = 1.9 + 0.22 * max(len(classes) - 2, 0)
    return draw_picture(
        f"confusion-{part.key}", draw_confusion_matrix, part.scores.confusion, classes, e.facts.malignant,
        width=side * 1.12, height=side, of=f"{part.name[:1].upper()}{part.name[1:]}", small=True,
    )  # fmt: skip


def _draw_roc(name: str, parts: Sequence[Part]) -> Picture | None:
    """One curve a part; of more than two classes their mean."""
    curves = []
    for part in parts:
        lines, area = part.scores.roc, part.scores.intervals.get("roc_auc")
        if not lines:
            return None
        line = lines.get(MACRO, next(iter(lines.values())))
        ends = (area.value, area.low, area.high) if area else (None, None, None)
        curves.append(BandedCurve(part.name, GRID, line, line, line, *ends))
    return draw_picture(f"roc-{name}", draw_roc_lines, curves, height=roc_lines_height(len(curves)))


# --- galleries ---------------------------------------------------------------------------------------


def _list_records(
    e: Evidence, found: EnsembleScores, parts: Sequence[Part]
) -> Iterator[tuple[Part, Predictions]]:
    """The members and growth steps with their predictions; the ensemble's stand in a section of their own."""
    members = e.review.sources[0].members
    scorer = Scorer(e.findings.predictions, e.facts.malignant)
    grown = grow(scorer, list(members.values()), found.description)
    records = {**members, **{f"first_{size}": each.predictions for size, each in grown.items()}}
    return ((part, records[part.key]) for part in parts if part.key in records)


def choose_beside(own: Predictions, ensemble: Predictions, count: int, seed: int) -> list[int]:
    """Rows to show of a part: up to half wrong calls, first those that the ensemble puts right, each the surest first;
    the rest right calls drawn at random.
    """
    sure = np.argsort(-own.confidences, kind="stable")
    ordered = [*put_right(own, ensemble), *sure[(~own.right & ~ensemble.right)[sure]]]
    shown = [int(row) for row in ordered[: count // 2]]
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(own.right))[: count - len(shown)]
    return [*shown, *sorted(drawn.tolist())]


def _make_gallery(e: Evidence, part: Part, own: Predictions) -> dict[str, Any]:
    """Images of a part with its calls, and how many of its wrong ones the ensemble puts right."""
    # Out-of-fold predictions of an ensemble stand fold by fold, those of its members need not.
    ensemble = e.findings.predictions.in_order(own.ids)
    rows = choose_beside(own, ensemble, min(e.settings.evaluate.gallery, GALLERY), e.settings.seed)
    made = e.findings.ensemble.description if e.findings.ensemble else {}
    size = int(part.key.removeprefix("first_")) if part.key.startswith("first_") else 0
    voters = size if made.get("rule") == "majority_vote" else 0
    images = sections.show_images(
        own, rows, _paths(e), e.development.limits, e.development.sixteen_bit, voters
    )
    items = []
    for row, image in zip(rows, images, strict=True):
        missed = image.true in e.facts.malignant and image.called not in e.facts.malignant
        beside = (
            ""
            if image.right == ensemble.right[row]
            else f"ensemble {'right' if ensemble.right[row] else 'wrong'}"
        )
        lines = ["malignant called benign" if missed else "", image.sure, beside, image.subject]
        alt = f"Cell {image.id}: true class {image.true}, {part.name} called {image.called}, {image.sure}"
        items.append(
            {
                "picture": encode_picture(f"gallery-{part.key}-{len(items) + 1:02d}", alt, image.pixels, _SIDE),
                "title": image.title, "text": "\n".join(filter(None, lines)), "tone": "good" if image.right else "bad",
            }
        )  # fmt: skip
    wrong = int((~own.right).sum())
    return {"name": part.name, "wrong": wrong, "mended": len(put_right(own, ensemble)), "items": items}


def _paths(e: Evidence) -> Mapping[str, str]:
    return dict(zip(e.examples["id"], e.examples["path"], strict=True))
