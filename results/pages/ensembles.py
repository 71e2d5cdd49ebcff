"""What ensembles gain and cost, in words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.pages import NAMES, points, tabulate, with_ends


def section(document: dict) -> list[str]:
    """The section of the results page, written from ensembles.json alone."""
    lines = [
        "## Ensembles: gain, cost, optimism", "",
        f"Linear heads on frozen networks, honest folds, {len(document['settings']['seeds'])} draws. The best member, weights and stacking are "
        "chosen on validation answers inside the other folds. Gains are over that member, paired on the same images, in points with 95% "
        "intervals over groups; the last column is what the same rule gains when it is fitted to the scored images themselves. The AUROC of "
        "a majority vote is that of its members' mean probability.",
    ]  # fmt: skip
    for source, found in document["sets"].items():
        lines += ["", f"### {NAMES[source]}", "", *_tabulate_members(found), "", *_tabulate_rules(found)]
        lines += ["", _describe_cost(found)]
    return [*lines, "", f"`{document['command']}`"]


def _tabulate_members(found: Mapping[str, Any]) -> list[str]:
    networks = found["networks"]
    rows = [
        (
            name, f"{networks[name]['parameters'] / 1e6:.1f} M", f"{networks[name]['operations'] / 1e9:.2f} G",
            *(with_ends(scores[metric]) for metric in ("accuracy", "balanced_accuracy", "roc_auc")),
            found["chosen_members"][name],
        )
        for name, scores in found["members"].items()
    ]  # fmt: skip
    heads = (
        "member",
        "parameters",
        "operations an image",
        "accuracy",
        "balanced accuracy",
        "AUROC",
        "chosen in folds",
    )
    return tabulate(heads, rows)


def _tabulate_rules(found: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, scores in found["rules"].items():
        gain, optimism = found["gains"].get(name), found["optimism"].get(name)
        effects = [
            gain and gain["over_chosen_member"]["accuracy"], gain and gain["over_best_on_scored"]["accuracy"],
            gain and gain["over_chosen_member"]["roc_auc"], gain and gain["over_chosen_member"]["malignant_sensitivity"],
            optimism and optimism["accuracy"],
        ]  # fmt: skip
        rows.append((name, with_ends(scores["accuracy"]), *map(points, effects)))
    heads = (
        "rule", "accuracy", "gain over the chosen member", "over the best on the scored images", "gain in AUROC",
        "gain in malignant sensitivity",
        "optimism if fitted to the scored images",
    )  # fmt: skip
    return tabulate(heads, rows)


def _describe_cost(found: Mapping[str, Any]) -> str:
    networks, counts = found["networks"], found["chosen_members"]
    chosen = max(counts, key=lambda name: counts[name])
    parameters, operations = (
        sum(each[key] for each in networks.values()) for key in ("parameters", "operations")
    )
    return (
        f"All {len(networks)} networks together hold {parameters / 1e6:.1f} million parameters and take {operations / 1e9:.1f} billion "
        f"operations an image: {operations / networks[chosen]['operations']:.1f} times those of {chosen} alone, the member chosen most often."
    )
