"""What the protocol alone is worth, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.pages import NAMES, points, tabulate, with_ends


def section(document: dict) -> list[str]:
    """The section of the results page, written from leakage.json alone."""
    lines = [
        "## What the protocol alone is worth", "",
        "The same frozen MobileNet features (224 px) and the same heads, five folds, "
        f"{len(document['settings']['seeds'])} draws of the folds; nothing is chosen. Scores are means over the draws with 95% "
        "intervals over groups of patients (blocks); differences are paired on the same images and count in points.",
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
    for head, told in found["heads"].items():
        rows = {(row["first"], row["second"], row["images"]): row["metrics"] for row in told["effects"]}
        for first, second in dict.fromkeys(key[:2] for key in rows):
            whole, recurring, rest = (rows[first, second, which] for which in ("all", "recurring", "rest"))
            cells = [
                whole["accuracy"], recurring["accuracy"], rest["accuracy"], whole["roc_auc"],
                whole["malignant_sensitivity"],
            ]  # fmt: skip
            titles = [found["protocols"][name]["title"] for name in (first, second)]
            lines.append((head, f"{titles[0]} less {titles[1]}", *map(points, cells)))
    heads = (
        "head",
        "difference",
        "accuracy",
        "on recurring images",
        "on the rest",
        "AUROC",
        "malignant sensitivity",
    )
    return tabulate(heads, lines)
