"""What the studies together say, a line each: protocol beside architecture, ensembles, choosing, colour alone, printed scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from results.pages import NAMES, points, with_ends

HEAD, AVERAGE, STACKING = "linear", "average", "stacking"


def section(studies: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The section that stands before all tables; nothing where no study is made.

    Args:
        studies: name -> what it wrote.
    """
    told = [
        line
        for name, describe in (
            ("leakage", _describe_protocol), ("ensembles", _describe_networks), ("ensembles", _describe_gains),
            ("trust", _describe_colour), ("printed", _describe_printed),
        )
        if name in studies
        for line in describe(studies[name])
    ]  # fmt: skip
    return ["## In short", "", *(f"- {line}" for line in told), ""] if told else []


def _describe_protocol(leakage: Mapping[str, Any]) -> Iterator[str]:
    for source, found in leakage["sets"].items():
        names = list(found["protocols"])
        effect = next(
            row["metrics"]
            for row in found["heads"][HEAD]["effects"]
            if (row["first"], row["second"], row["images"]) == (names[0], names[-1], "all")
        )
        loose, strict = (found["protocols"][name]["title"] for name in (names[0], names[-1]))
        yield (
            f"**Protocol, {NAMES[source]}**: the accuracy of one head on one frozen network with folds over {loose} less that with folds "
            f"over {strict}, paired, in points: {points(effect['accuracy'])}; AUROC {points(effect['roc_auc'])}; "
            f"{found['groups']} groups of this sample."
        )


def _describe_networks(ensembles: Mapping[str, Any]) -> Iterator[str]:
    for source, found in ensembles["sets"].items():
        scores = {name: each["accuracy"]["mean"] for name, each in found["members"].items()}
        best, worst = max(scores, key=lambda name: scores[name]), min(scores, key=lambda name: scores[name])
        yield (
            f"**Architecture, {NAMES[source]}**: of {len(scores)} frozen networks under the strictest folds the highest accuracy ({best}, "
            f"{scores[best]:.3f}) and the lowest ({worst}, {scores[worst]:.3f}) lie {100 * (scores[best] - scores[worst]):.1f} points apart, "
            "as picked by these very scores."
        )


def _describe_gains(ensembles: Mapping[str, Any]) -> Iterator[str]:
    for source, found in ensembles["sets"].items():
        gain = found["gains"][AVERAGE]["over_chosen_member"]
        optimism = found["optimism"][STACKING]["accuracy"]
        yield (
            f"**Ensembles, {NAMES[source]}**: the average of these networks less the member that validation chooses, in points: accuracy "
            f"{points(gain['accuracy'])}, AUROC {points(gain['roc_auc'])}, malignant sensitivity {points(gain['malignant_sensitivity'])}; "
            f"accuracy of stacking fitted to the scored images less honest stacking: {points(optimism)}."
        )


def _describe_colour(trust: Mapping[str, Any]) -> Iterator[str]:
    for source, found in trust["sets"].items():
        yield (
            f"**Without a network, {NAMES[source]}**: colour, contrast, size and focus alone reach a balanced accuracy of "
            f"{with_ends(found['colour_alone']['groups'])}, the network's head {with_ends(found['scores']['balanced_accuracy'])} (a forest that "
            "weighs classes alike, as the head does not)."
        )


def _describe_printed(printed: Mapping[str, Any]) -> Iterator[str]:
    if batch := printed.get("batch"):
        strictest = list(batch["protocols"].values())[-1]
        yield (
            f"**One batch of {batch['batch']}, {NAMES['aria']}**: of {batch['batches']:,} such batches {100 * strictest['reach_printed']:.1f}% "
            f"reach the {batch['printed']['right']} of {batch['batch']} that Samyuktha et al. print, by a head that is right in "
            f"{strictest['accuracy']:.3f} of all images, with folds over {strictest['title']}."
        )
    if vote := printed.get("vote"):
        yield (
            f"**With patients**: the printed {vote['accuracy']:.4f} of Chen et al. has an interval of {vote['low']:.3f} to {vote['high']:.3f} "
            f"over its {vote['groups']} patients; over single images it would be {vote['low_by_image']:.3f} to {vote['high_by_image']:.3f}."
        )
