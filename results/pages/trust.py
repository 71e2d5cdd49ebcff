"""What the safeguards are worth, in words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kerasall.errors import count_of
from results.pages import NAMES, points, tabulate, with_ends

UNLIKE = "unlike the training images"
"""The reason for a referral that report.json gives such images."""


def section(document: dict) -> list[str]:
    """The section of the results page, written from trust.json alone."""
    lines = [
        "## Trust: what the safeguards are worth, and what is known from parts of the image", "",
        "Linear heads on frozen MobileNet features, honest folds, one draw; every image is judged by what the other folds fit. 95% "
        "intervals over groups. Cells that are painted out leave patches, which tell of their number, place and size.",
    ]  # fmt: skip
    for source, found in document["sets"].items():
        lines += ["", f"### {NAMES[source]}", "", *(f"- {told}" for told in _describe_safeguards(found))]
        lines += [
            "",
            *tabulate_referral(found["trust"]),
            "",
            f"Net benefit where {_share_malignant(found)} of the images are malignant, as here:",
            "",
            *_tabulate_benefit(found),
            "",
            *_tabulate_altered(found),
        ]
    return [*lines, "", f"`{document['command']}`"]


def _describe_safeguards(found: Mapping[str, Any]) -> Iterator[str]:
    yield from describe_trust(found["trust"], found.get("other_set"))
    colour = found["colour_alone"]
    yield (
        "Colour, contrast, size and focus alone (a random forest that weighs classes alike, as the head does not): balanced accuracy "
        f"{with_ends(colour['groups'])} with groups whole, {with_ends(colour['single_images'])} with single images dealt out (its interval "
        f"over single images too); the network's is {with_ends(found['scores']['balanced_accuracy'])}."
    )


def describe_trust(trust: Mapping[str, Any], other: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Calibration, prediction sets, thresholds and unlike images, a sentence each, as far as they were measured.

    Args:
        trust: as report.json has it.
        other: share of another set's images that is called unlike, with its ``source``.
    """
    referral = trust["referral"]
    yield f"Calibration: {describe_calibration(trust)}"
    sets = referral["prediction_sets"]
    yield (
        f"Prediction sets of {sets['coverage']:.2f} hold the true class in {with_ends(sets['measured_coverage'])}; the exported rule refers "
        f"{with_ends(referral['referred'])} of the images, and is right in {with_ends(referral['accuracy_of_kept'])} of the others."
    )
    yield from (f"Threshold {describe_threshold(each)}." for each in trust["operating_points"])
    own = referral["reasons"].get(UNLIKE)
    theirs = f"; {with_ends(other)} of the other set's ({NAMES[other['source']]})" if other else ""
    yield f"Unlike the training images: {with_ends(own)} of the set's own images{theirs}."


def describe_calibration(trust: Mapping[str, Any]) -> str:
    """The temperature, and what errors it leaves."""
    told = trust["calibration"]
    before, after, error = told["before"], told["after"], "expected_calibration_error"
    lower = round(after["brier"]["value"], 3) < round(
        before["brier"]["value"], 3
    )  # in the digits that are shown
    return (
        f"temperature {told['temperature']:.2f}; expected calibration error {with_ends(before[error])} before and "
        f"{with_ends(after[error])} after, where perfectly calibrated probabilities would show {after[error]['noise_floor']:.3f}; Brier score "
        f"{with_ends(before['brier'])} before and {with_ends(after['brier'])} after{'' if lower else ', no lower'}."
    )


def describe_threshold(found: Mapping[str, Any]) -> str:
    """What a threshold that was chosen for a sensitivity reaches."""
    reached, kept = found["sensitivity"], found["specificity"]
    return (
        f"for a sensitivity of {found['wanted']:.2f}: {with_ends(reached)} over {count_of(reached['groups'], 'group')}, at a specificity "
        f"of {with_ends(kept)} over {count_of(kept['groups'], 'group')}"
    )


def _share_malignant(found: Mapping[str, Any]) -> str:
    point = found["trust"]["operating_points"][0]
    return f"{100 * point['positives'] / (point['positives'] + point['others']):.0f}%"


def tabulate_referral(trust: Mapping[str, Any]) -> list[str]:
    """What is left when the least sure images are passed on."""
    rows = [
        (f"{100 * each['referred']:.0f}%", with_ends(each["accuracy"]), each["missed_malignant"])
        for each in trust["referral"]["accuracy_by_share_referred"]
    ]
    return tabulate(("least sure share referred", "accuracy on the rest", "malignant called benign"), rows)


def _tabulate_benefit(found: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            f"{each['threshold']:.2f}", with_ends(each["model"]), with_ends(each["over_all"]), each["missed"],
            each["false_alarms"],
        )
        for each in found["trust"]["decision_curve"]
    ]  # fmt: skip
    heads = ("called malignant from", "net benefit", "gain over calling all", "missed", "false alarms")
    return tabulate(heads, rows)


def _tabulate_altered(found: Mapping[str, Any]) -> list[str]:
    scores = found["scores"]
    rows = [
        ("the whole image", "", with_ends(scores["balanced_accuracy"]), "", with_ends(scores["roc_auc"]), "")
    ]
    rows += [
        (
            told["title"], with_ends(told["calls_kept"]), with_ends(told["fitted_to_whole"]["balanced_accuracy"]),
            with_ends(told["fitted_to_altered"]["balanced_accuracy"]), with_ends(told["fitted_to_altered"]["roc_auc"]),
            points(told["fitted_to_altered_less_whole"]["accuracy"]),
        )
        for told in found["altered"].values()
    ]  # fmt: skip
    heads = (
        "what is shown", "calls kept", "balanced accuracy, fitted to whole images", "fitted to such images", "AUROC, fitted to such images",
        "accuracy, fitted to such images, less that with whole images, in points",
    )  # fmt: skip
    return tabulate(heads, rows)
