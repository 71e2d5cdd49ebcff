"""The page of an external check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from kerasall.decoding import DEFAULT_LIMITS
from kerasall.errors import count_of
from kerasall.evaluation.calibration import score_calibration
from kerasall.evaluation.class_mapping import MALIGNANT
from kerasall.evaluation.curves import precision_recall_curves, roc_curves
from kerasall.evaluation.intervals import list_notes
from kerasall.evaluation.metrics import MALIGNANT_SCORES, confusion_matrix
from kerasall.report import sections
from kerasall.report.evidence import FITTED
from kerasall.report.external_scores import (
    SCORED,
    ExternalCheck,
    ExternalScores,
    read_external_score,
)
from kerasall.report.format import Score, is_percent
from kerasall.report.page import Page, Section, render_section
from kerasall.version import __version__

RESAMPLED_CURVES = 1000
GALLERY = 24


def make_external_page(scores: ExternalScores, command: str) -> Page:
    """The page of one model on foreign images."""
    check = scores.check
    return Page(
        title=f"{check.model.name} on other images",
        subtitle=f"A model trained elsewhere, applied to {check.collection.root}.",
        facts={
            "Model": check.model.name,
            "Images": f"{check.collection.source}, {len(check.scored):,} scored of {len(check.table):,}",
            "Classes": ", ".join(check.mapping.classes),
        },
        results=scores.to_json(),
        sections=(
            _summary(scores), _all_scores(scores), _against_own(scores), _confusion(scores), *_trust(scores),
            sections.subject_calls_section(scores.subjects) if scores.subjects else None, _gallery(check), _subject_accuracy(check),
            _data(check), _provenance(scores, command),
        ),
    )  # fmt: skip


def _summary(scores: ExternalScores) -> Section | None:
    check, found = scores.check, scores.unlike
    names = [n for n in MALIGNANT_SCORES if n in scores.intervals]
    return render_section(
        "external_summary",
        tiles=[read_external_score(scores, name) for name in [*names, "balanced_accuracy"]],
        unlike=found and Score("Unlike its training images", found.value, found.low, found.high),
        cautions=scores.cautions, model=check.model, labels=check.labels, mapping=check.mapping.describe(),
        fates=check.table["fate"].value_counts().to_dict(),
    )  # fmt: skip


def _all_scores(scores: ExternalScores) -> Section | None:
    first = next(iter(scores.intervals.values()))
    groups = max(each.groups for each in scores.intervals.values())
    return render_section(
        "scores",
        scores=[read_external_score(scores, name) for name in scores.intervals],
        per_class=scores.by_class, class_images=confusion_matrix(scores.check.scored).sum(axis=1).tolist(),
        folds=(), main=None, picture=None,
        method=f"This check chose nothing on these images. Intervals: {first.method}, {count_of(groups, 'group')}.",
        notes=list_notes(scores.intervals.values()),
    )  # fmt: skip


def _against_own(scores: ExternalScores) -> Section | None:
    rows = []
    for name, own in scores.own_metrics.items():
        there = Score(name, own.get("value"), own.get("low"), own.get("high"), is_percent(name))
        here = read_external_score(scores, name)
        lost = None if here.value is None or there.value is None else here.value - there.value
        rows.append({"there": there, "here": here, "lost": lost})
    return render_section("against_own", rows=rows)


def _confusion(scores: ExternalScores) -> Section | None:
    check, scorer = scores.check, replace(scores.scorer, resamples=RESAMPLED_CURVES)
    return sections.confusion_section(
        confusion_matrix(check.scored), check.scored, scores.malignant,
        roc_curves(scorer), precision_recall_curves(scorer),
        _called_table(check),
    )  # fmt: skip


def _called_table(check: ExternalCheck) -> dict[str, Any]:
    rows = check.table[check.table["fate"] == SCORED]
    counts = pd.crosstab(rows["label"], rows["called"]).reindex(columns=list(check.labels), fill_value=0)
    return {
        "caption": "What the model called the images, in its own classes",
        "columns": ["Class of the images", "Counts as", *(f">{name}" for name in check.labels)],
        "rows": [
            [str(name), check.mapping.targets[str(name)], *(f"{count:,}" for count in counts.loc[name])]
            for name in counts.index
        ],
    }


def _trust(scores: ExternalScores) -> Sequence[Section | None]:
    check, safeguards = scores.check, scores.check.model.safeguards
    if safeguards is None or check.calibrated is None:
        return ()
    believed = None
    if len(np.unique(check.scored.labels)) > 1 or len(check.mapping.classes) == 2:
        believed = score_calibration(
            scores.scorer, check.calibrated, safeguards.calibration, safeguards.fitted_on, cross_fitted=False
        )
    names = (MALIGNANT,) if check.mapping.kinds else scores.malignant
    fitted = FITTED[safeguards.fitted_on]
    chosen = f"Thresholds were chosen on {fitted} of the model's own data, and are applied here as they are."
    return (
        sections.calibration_section(believed),
        sections.threshold_section(scores.points, (), names, chosen),
        sections.refer_section(scores.referral, safeguards, bool(scores.malignant)),
    )


def _gallery(check: ExternalCheck) -> Section | None:
    paths = dict(zip(check.table["id"], check.table["path"], strict=True))
    rows = sections.choose_gallery(check.scored, GALLERY, 0)
    read = check.collection.sixteen_bit
    images = sections.show_images(
        check.scored, rows, paths, DEFAULT_LIMITS, read, unnamed=check.theirs.tolist()
    )
    return sections.gallery_section(images, check.mapping.malignant)


def _subject_accuracy(check: ExternalCheck) -> Section | None:
    kind, named = check.collection.subject_kind, check.scored.subjects != ""
    if kind == "none" or not named.any():
        return None
    return sections.subject_section(
        sections.count_right(check.scored.take(named)), check.scored.classes, kind
    )


def _data(check: ExternalCheck) -> Section | None:
    fates = [str(fate) for fate in check.table["fate"].value_counts().index]
    images = sections.count_images(check.table["label"], check.table["fate"], check.collection.labels, fates)
    found = check.anomalies
    return sections.data_section(
        check.collection.labels, fates, images, None, "subject",
        **{name: found[name] for name in ("fingerprint", "sizes", "errors", "warnings")},
        duplicates=[
            f"{count_of(found['exact_duplicate_groups'], 'group')} of byte-identical files, {found['near_duplicate_groups']} of near "
            f"duplicates and {found['named_copy_groups']} of copies by name among them count as one group each."
        ],
    )  # fmt: skip


def _provenance(scores: ExternalScores, command: str) -> Section | None:
    check = scores.check
    stated = "\n".join(f"{name}: {target}" for name, target in check.mapping.targets.items())
    environment = {"Software": f"kerasall {__version__}", "Model": str(check.model.folder)}
    return render_section(
        "provenance", command=command, settings=f"mapping of classes\n{stated}", environment=environment
    )
