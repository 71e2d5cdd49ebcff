"""What makes a comparison of systems less than fair, or less than sure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from kerasall.evaluation.intervals import FEW_GROUPS, groups_known
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import group_names
from kerasall.evaluation.shared_images import SharedImages, System


def count_groups(record: Predictions) -> int:
    """Number of groups, an image without one being a group of its own."""
    return len(np.unique(group_names(record)))


def find_warnings(systems: Sequence[System], shared: SharedImages) -> list[str]:
    """The cautions, a sentence each.

    Args:
        systems: as they were given.
        shared: what ``share_images`` made of them.
    """
    found = [
        *_part_warnings(systems),
        _difference(
            systems, lambda s: s.fingerprint[:12], "The data sets differ",
            "images, labels or subjects are not the same, or the same names stand for other pictures",
        ),
        _difference(
            systems, lambda s: s.split[:12], "The splits differ",
            "each system learned from other images, so a difference is not the method's alone",
        ),
        _left_out(systems, shared),
        "The systems group the images differently; groups that share an image were joined." if shared.joined else "",
        *_same_predictions(systems, shared.records),
        _few_groups(shared.records[0]),
    ]  # fmt: skip
    return [sentence for sentence in found if sentence]


def _part_warnings(systems: Sequence[System]) -> list[str]:
    found = []
    kinds = {system.name: system.scored for system in systems if system.scored}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        found.append(
            f"The systems were scored on different parts ({told}): a model tested once and models tested while "
            "held out of folds saw different amounts of training images."
        )
    for name, kind in kinds.items():
        if kind == "selection":
            found.append(
                f"{name} chose its settings on the images it is scored on: its score is likely too high."
            )
    unknown = [system.name for system in systems if not system.scored]
    if unknown:
        found.append(
            f"No report stands beside the predictions of {', '.join(unknown)}: whether those images were held out "
            "is not known."
        )
    return found


def _difference(systems: Sequence[System], of: Callable[[System], str], what: str, so: str) -> str:
    values = {system.name: of(system) for system in systems if of(system)}
    if len(set(values.values())) < 2:
        return ""
    return f"{what} ({', '.join(f'{name} {value}' for name, value in values.items())}): {so}."


def _left_out(systems: Sequence[System], shared: SharedImages) -> str:
    if not any(shared.not_shared):
        return ""
    counts = ", ".join(
        f"{count:,} of {len(s.predictions):,} of {s.name}"
        for s, count in zip(systems, shared.not_shared, strict=True)
        if count
    )
    return f"Images that not all systems predicted are left out: {counts}."


def _same_predictions(systems: Sequence[System], records: Sequence[Predictions]) -> list[str]:
    return [
        f"{systems[a].name} and {systems[b].name} give every shared image the same probabilities: are they one system?"
        for a, b in combinations(range(len(systems)), 2)
        if np.array_equal(records[a].probabilities, records[b].probabilities)
    ]


def _few_groups(record: Predictions) -> str:
    if not groups_known(record):
        return (
            "Neither patients nor groups are known: images count as independent, so that intervals are too narrow "
            "and p-values too small."
        )
    groups = count_groups(record)
    if groups >= FEW_GROUPS:
        return ""
    return (
        f"The images are of {groups} groups only, fewer than {FEW_GROUPS}: intervals and p-values are rough."
    )
