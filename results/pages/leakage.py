"""What the protocol alone is worth, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.pages import NAMES, points, tabulate, with_ends

FEWEST_GROUPS = 5
"""With fewer groups in all no interval is told."""

_CAUSES = (
    "A difference is of all that a protocol changes together: copies of a scored image in training, other images of its patient, and how "
    "many patients training has seen. Recurring images are those with a copy under another subject id (four-class set: with any "
    "duplicate); copies under the same id are among the rest."
)
"""What the differences are of."""


def section(document: dict) -> list[str]:
    """The section of the results page, written from leakage.json alone."""
    lines = [
        "## What the protocol alone is worth", "",
        "The same frozen MobileNet features (224 px) and the same heads, five folds, "
        f"{len(document['settings']['seeds'])} draws of the folds; nothing is chosen. Heads: logistic regression (C = "
        f"{document['settings']['linear_strength']}), {document['settings']['neighbours']} nearest neighbours. Scores are means over the draws with 95% "
        "intervals over groups of patients (blocks); differences are paired on the same images and count in points, with Student's "
        f"intervals over left-out groups; with fewer than {FEWEST_GROUPS} groups there is none. {_CAUSES}",
    ]  # fmt: skip
    for source, found in document["sets"].items():
        lines += ["", f"### {NAMES[source]}", "", _describe_set(source, found), "", *_tabulate_scores(found)]
        lines += ["", *_tabulate_effects(found)]
    return [*lines, "", f"`{document['command']}`"]


def _describe_set(source: str, found: Mapping[str, Any]) -> str:
    if source == "cnmc":
        return (
            f"{found['images']:,} cells of {found['subject_ids']} subject ids, {found['groups']} groups. This is a sample of the set, not the "
            "set: of every subject it takes the cells first that also occur under another id, so it is enriched in them, and their copies "
            f"are here for {found['recurring_images']} of them. The sizes below hold for this sample alone, and how often cells recur elsewhere nobody has measured here."
        )
    return (
        f"{found['images']:,} images, of no patient that is known; {found['recurring_images']} have a duplicate. Blocks of consecutive "
        f"file numbers ({found['groups']} groups) stand in for patients."
    )


def _tabulate_scores(found: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            head, found["protocols"][name]["title"], with_ends(scores["accuracy"]), with_ends(scores["roc_auc"]),
            with_ends(scores["malignant_sensitivity"]), f"± {100 * scores['accuracy']['deviation']:.1f} points",
        )
        for head, told in found["heads"].items()
        for name, scores in told["scores"].items()
    ]  # fmt: skip
    heads = ("head", "folds over", "accuracy", "AUROC", "malignant sensitivity", "accuracy from draw to draw")
    return tabulate(heads, rows)


def _tabulate_effects(found: Mapping[str, Any]) -> list[str]:
    lines = []
    first = next(iter(found["heads"].values()))["effects"]
    counted = {row["images"]: f"{row['count']:,} images, {row['groups']} groups" for row in first}
    for head, told in found["heads"].items():
        effects = {(row["first"], row["second"], row["images"]): row for row in told["effects"]}
        for first, second in dict.fromkeys(key[:2] for key in effects):
            rows = (effects[first, second, which] for which in ("all", "recurring", "rest"))
            whole, recurring, rest = map(_tell_metrics, rows)
            cells = [
                whole["accuracy"], recurring["accuracy"], rest["accuracy"], whole["roc_auc"],
                whole["malignant_sensitivity"],
            ]  # fmt: skip
            titles = [found["protocols"][name]["title"] for name in (first, second)]
            lines.append((head, f"{titles[0]} less {titles[1]}", *map(points, cells)))
    heads = (
        "head", "difference", "accuracy", f"on recurring images ({counted['recurring']})", f"on the rest ({counted['rest']})", "AUROC",
        "malignant sensitivity",
    )  # fmt: skip
    return tabulate(heads, lines)


def _tell_metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    """Differences without intervals where there are too few groups to have one."""
    if row["groups"] >= FEWEST_GROUPS:
        return row["metrics"]
    return {name: found and found | {"low": None, "high": None} for name, found in row["metrics"].items()}
