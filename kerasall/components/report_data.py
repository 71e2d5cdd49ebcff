"""Section of a report on the data, and the weaknesses that come of data and split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kerasall.components.evidence import Evidence
from kerasall.data.splits import read_split
from kerasall.evaluation.report_background import DataFacts, data_section
from kerasall.evaluation.report_document import Section
from kerasall.files import read_json

WEAKNESSES = {
    "subject": "Images of few patients: how a score varies from patient to patient weighs more than the number of images.",
    "block": "No patient is known: runs of consecutive file numbers stand in for patients, and images of one patient may "
    "stand on both sides of the split.",
    "none": "No patient is known: images of one patient may stand on both sides of the split, so scores may be too high.",
}


def make_data(evidence: Evidence) -> Section:
    """Images and subjects of each class and part, anomalies, duplicates."""
    examples = evidence.examples
    parts = sorted(examples["part"].unique(), key=_part_order)
    images = [[_count(examples, label, part) for part in parts] for label in evidence.facts.labels]
    known = evidence.facts.subject_kind != "none"
    subjects = [[_subject_count(examples, label, part) for part in parts] for label in evidence.facts.labels]
    anomalies = evidence.anomalies
    return data_section(
        DataFacts(
            evidence.facts.labels,
            parts,
            np.asarray(images),
            np.asarray(subjects) if known else None,
            evidence.facts.subject_kind if known else "subject",
            {"Fingerprint": evidence.facts.fingerprint[:16], "Sizes": _sizes(evidence.statistics)},
            errors=[error["message"] for error in anomalies["errors"]],
            warnings=[warning["message"] for warning in anomalies["warnings"]],
            duplicates=_duplicate_words(
                anomalies,
                divided=read_split(evidence.split_folder / "split.json").unit == "image",
                searched=evidence.settings.checks.near_duplicates.enabled,
                kind=evidence.facts.subject_kind,
            ),
        )
    )


def _part_order(part: str) -> tuple[int, int, str]:
    known = ("train", "validation", "test", "selection")
    return (known.index(part) if part in known else len(known), len(part), part)


def _count(examples: pd.DataFrame, label: str, part: str) -> int:
    return int(((examples["label"] == label) & (examples["part"] == part)).sum())


def _subject_count(examples: pd.DataFrame, label: str, part: str) -> int:
    return int(examples[(examples["label"] == label) & (examples["part"] == part)]["subject"].nunique())


def _sizes(statistics: dict[str, Any]) -> str:
    sizes = sorted(statistics["sizes"].items(), key=lambda pair: -pair[1])
    shown = ", ".join(f"{size} ({count:,})" for size, count in sizes[:4])
    return shown + (f" and {len(sizes) - 4} more" if len(sizes) > 4 else "")


def _duplicate_words(anomalies: dict[str, Any], divided: bool, searched: bool, kind: str) -> list[str]:
    exact, near = anomalies["exact_duplicate_groups"], anomalies["near_duplicate_groups"]
    if not searched:
        return [f"{exact} groups of byte-identical files were found. Near duplicates were not looked for."]
    if not exact and not near:
        return ["No exact and no near duplicates were found."]
    words = [
        f"{exact} groups of byte-identical files and {near} groups of near duplicates were found; "
        + (
            "some stand on two sides of the split."
            if divided
            else "each group stays on one side of every split."
        )
    ]
    crossing = anomalies["cross_subject_duplicate_groups"] + anomalies["cross_subject_near_duplicate_groups"]
    if kind != "none" and not divided:
        words.append(f"{crossing} of them join different {kind}s, which then count as one group.")
    return words


def list_weaknesses(evidence: Evidence) -> list[str]:
    """Sentences on what the score cannot tell, the gravest first."""
    leaks = read_json(evidence.split_folder / "leaks.json")
    found = [WEAKNESSES[evidence.facts.subject_kind], *evidence.settings.weaknesses]
    if leaks:
        found.append(
            f"{len(leaks)} subjects or duplicates stand on two sides of the split, as in the paper's protocol."
        )
    if not evidence.settings.checks.near_duplicates.enabled:
        found.append(
            "Near duplicates were not looked for: copies of one cell may stand on both sides of the split."
        )
    if evidence.scored == "out-of-fold" and any(
        "fitted" in str(s) or s["op"] in ("reinhard", "macenko") for s in evidence.development.preprocess
    ):
        found.append(
            "Stain normalisation was fitted once on all images to develop on, the held-out folds among them."
        )
    if evidence.facts.source == "synthetic":
        found.insert(0, "The cells are rendered, not photographed: the score says nothing about leukaemia.")
    return found
