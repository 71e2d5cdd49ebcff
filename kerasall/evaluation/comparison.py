"""Systems side by side on the images that all of them predicted: scores, paired differences, tests, and what makes
a comparison less than fair, or less than sure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kerasall.errors import DataError
from kerasall.evaluation.intervals import FEW_GROUPS, Interval, Scorer
from kerasall.evaluation.metrics import confusion_matrix, find_metric
from kerasall.evaluation.paired_tests import Comparison, cochran_q, holm, mcnemar, paired_difference
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import group_names

SCHEMA_VERSION = 1

SCORES = (
    "accuracy", "balanced_accuracy", "f1_weighted", "f1_macro", "cohen_kappa", "mcc", "roc_auc", "log_loss",
)  # fmt: skip
"""Scores of every comparison."""

MALIGNANT_SCORES = ("malignant_sensitivity", "malignant_specificity")
"""Further ones where the malignant classes are known; with more than two classes, the malignant ROC-AUC too."""

IMAGE_TESTS = (
    "McNemar's and Cochran's tests treat images as independent, and images of one patient are not: where the "
    "patients are few, trust the interval that resamples groups."
)

_MOST_NAMED = 3


@dataclass(frozen=True, eq=False)
class System:
    """One of the systems to compare: what it predicted, and what is known of how.

    Attributes:
        name: unique among the compared.
        predictions: of the images it was scored on.
        source: where the predictions came from, for the record.
        scored: ``test``, ``out-of-fold`` or ``selection``; "" where unknown.
        malignant: names of the malignant classes; None where unknown.
        fingerprint: of its data set (ids, labels, subjects, contents); "" where unknown.
        split: digest of its split; "" where unknown.
        main_metric: the score its own report is about; "" where unknown.
    """

    name: str
    predictions: Predictions
    source: str = ""
    scored: str = ""
    malignant: tuple[str, ...] | None = None
    fingerprint: str = ""
    split: str = ""
    main_metric: str = ""


@dataclass(frozen=True, eq=False)
class SystemScores:
    """One system on the shared images.

    Attributes:
        name: of the system.
        source: where its predictions came from.
        scored: ``test``, ``out-of-fold``, ``selection`` or "".
        not_shared: its images that were left out.
        intervals: metric -> value with interval over groups.
        matrix: int64 [C, C], rows = true class.
        right: images it decided rightly.
        missed: malignant images it called benign; None where no class is known to be malignant.
        malignant_images: of how many; None likewise.
        predictions: of the shared images.
    """

    name: str
    source: str
    scored: str
    not_shared: int
    intervals: dict[str, Interval]
    matrix: np.ndarray
    right: int
    missed: int | None
    malignant_images: int | None
    predictions: Predictions

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "name": self.name,
            "source": self.source,
            "scored": self.scored or None,
            "not_shared": self.not_shared,
            "metrics": {name: interval.to_json() for name, interval in self.intervals.items()},
            "confusion_matrix": self.matrix.tolist(),
            "malignant_called_benign": self.missed,
            "malignant_images": self.malignant_images,
        }


@dataclass(frozen=True)
class Pair:
    """Two systems against one another.

    Attributes:
        first: name of one.
        second: name of the other.
        differences: metric -> first less second, over groups.
        adjusted: p-value of the main metric's difference, Holm-adjusted over all pairs; None where undefined.
        mcnemar: exact test over images.
        mcnemar_adjusted: its p-value, Holm-adjusted over all pairs.
        images: images that both, only the first, only the second and neither decided rightly.
        groups: groups with a higher share right by the first, by the second, and with equal shares.
    """

    first: str
    second: str
    differences: dict[str, Comparison]
    adjusted: float | None
    mcnemar: Comparison
    mcnemar_adjusted: float
    images: tuple[int, int, int, int]
    groups: tuple[int, int, int]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        images = ("both_right", "only_first_right", "only_second_right", "neither_right")
        groups = ("first_better", "second_better", "equal")
        return {
            "first": self.first,
            "second": self.second,
            "differences": {name: difference.to_json() for name, difference in self.differences.items()},
            "p_value_holm": self.adjusted,
            "mcnemar": self.mcnemar.to_json() | {"p_value_holm": self.mcnemar_adjusted},
            "images": dict(zip(images, self.images, strict=True)),
            "groups": dict(zip(groups, self.groups, strict=True)),
        }


@dataclass(frozen=True, eq=False)
class SystemComparison:
    """Everything a comparison found.

    Attributes:
        metric: the main metric.
        confidence: of all intervals.
        classes: in the order of the first system.
        malignant: the malignant ones; () where unknown.
        images: shared by all systems.
        groups: of them.
        known_groups: False where no patient or group is known.
        systems: in the order given.
        pairs: every two systems, in the order given.
        cochran: Cochran's Q over three systems or more, else None.
        warnings: what makes the comparison less than fair, or less than sure.
    """

    metric: str
    confidence: float
    classes: tuple[str, ...]
    malignant: tuple[str, ...]
    images: int
    groups: int
    known_groups: bool
    systems: tuple[SystemScores, ...]
    pairs: tuple[Pair, ...]
    cochran: Comparison | None
    warnings: tuple[str, ...]

    def better(self, pair: Pair) -> str | None:
        """Name of the system that the adjusted test of the main metric finds better; None where it cannot tell."""
        difference = pair.differences[self.metric].difference
        if pair.adjusted is None or difference is None or pair.adjusted >= 1 - self.confidence:
            return None
        higher = find_metric(self.metric, self.classes).direction == "higher"
        return pair.first if (difference > 0) == higher else pair.second

    def to_json(self) -> dict[str, Any]:
        """The document of ``kerasall compare --json``: only JSON values, no NaN."""
        return {
            "schema_version": SCHEMA_VERSION,
            "main_metric": self.metric,
            "confidence": self.confidence,
            "classes": list(self.classes),
            "malignant": list(self.malignant),
            "shared_images": self.images,
            "groups": self.groups,
            "groups_known": self.known_groups,
            "systems": [system.to_json() for system in self.systems],
            "pairs": [pair.to_json() | {"better": self.better(pair)} for pair in self.pairs],
            "cochran_q": self.cochran.to_json() if self.cochran else None,
            "warnings": list(self.warnings),
            "note": IMAGE_TESTS,
        }


def compare_systems(
    systems: Sequence[System],
    metric: str | None = None,
    malignant: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> SystemComparison:
    """Compares two systems or more on the images that all of them predicted.

    Args:
        systems: at least two, over the same classes.
        metric: the main metric; by default the one their own reports agree on, else balanced accuracy.
        malignant: names of the malignant classes; by default what the systems say.
        confidence: of all intervals, and one less the level of "better".
        resamples: draws of groups behind the scores' intervals.
        seed: of the draws.

    Raises:
        DataError: the systems cannot be compared; the message says why.
        SettingsError: an unknown metric or class.
    """
    shared = share_images(systems)
    classes = shared.records[0].classes
    diseased = _malignant_classes(systems, malignant)
    main = metric or _main_metric(systems)
    find_metric(main, classes)
    names = _metric_names(main, len(classes), diseased)
    scorers = [Scorer(record, diseased, resamples, seed, confidence) for record in shared.records]
    return SystemComparison(
        metric=main,
        confidence=confidence,
        classes=classes,
        malignant=diseased,
        images=len(shared.records[0]),
        groups=scorers[0].units.groups,
        known_groups=scorers[0].groups_known,
        systems=tuple(
            _score_system(system, scorer, left_out, names)
            for system, scorer, left_out in zip(systems, scorers, shared.not_shared, strict=True)
        ),
        pairs=_compare_pairs(systems, scorers, names),
        cochran=cochran_q(shared.records) if len(systems) > 2 else None,
        warnings=tuple(find_warnings(systems, shared, scorers[0])),
    )


def _main_metric(systems: Sequence[System]) -> str:
    said = {system.main_metric for system in systems}
    return said.pop() if len(said) == 1 and "" not in said else "balanced_accuracy"


def _metric_names(main: str, classes: int, malignant: tuple[str, ...]) -> tuple[str, ...]:
    """The main metric first; of two classes the malignant ROC-AUC would be the ROC-AUC again."""
    names = [main, *SCORES, *(MALIGNANT_SCORES if malignant else ())]
    if malignant and classes > 2:
        names.append("malignant_roc_auc")
    return tuple(dict.fromkeys(names))


def _malignant_classes(systems: Sequence[System], given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    said = {each.name: tuple(sorted(each.malignant)) for each in systems if each.malignant is not None}
    if len(set(said.values())) > 1:
        raise DataError(
            f"compared systems must mean the same classes by malignant, but say {said}: give --malignant"
        )
    return next(iter(said.values()), ())


def _score_system(system: System, scorer: Scorer, not_shared: int, metrics: Sequence[str]) -> SystemScores:
    matrix = confusion_matrix(scorer.predictions)
    mask, known = scorer.resampler.malignant, bool(scorer.malignant)
    return SystemScores(
        name=system.name,
        source=system.source,
        scored=system.scored,
        not_shared=not_shared,
        intervals=scorer.intervals(metrics),
        matrix=matrix,
        right=int(np.trace(matrix)),
        missed=int(matrix[mask][:, ~mask].sum()) if known else None,
        malignant_images=int(matrix[mask].sum()) if known else None,
        predictions=scorer.predictions,
    )


def _compare_pairs(
    systems: Sequence[System], scorers: Sequence[Scorer], metrics: tuple[str, ...]
) -> tuple[Pair, ...]:
    indices, records = list(combinations(range(len(systems)), 2)), [scorer.predictions for scorer in scorers]
    differences = [
        {name: paired_difference(scorers[a], records[b], name) for name in metrics} for a, b in indices
    ]
    tests = [mcnemar(records[a], records[b]) for a, b in indices]
    adjusted = _adjust([found[metrics[0]].p_value for found in differences])
    adjusted_tests = holm([test.p_value for test in tests if test.p_value is not None])  # always defined
    return tuple(
        Pair(
            systems[a].name, systems[b].name, differences[k], adjusted[k], tests[k], adjusted_tests[k],
            _count_right(records[a], records[b]), _count_better_groups(records[a], records[b]),
        )
        for k, (a, b) in enumerate(indices)
    )  # fmt: skip


def _adjust(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment over the p-values that are defined."""
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]


def _count_right(first: Predictions, second: Predictions) -> tuple[int, int, int, int]:
    one, two = (record.decisions == record.labels for record in (first, second))
    both, neither = int((one & two).sum()), int((~one & ~two).sum())
    return both, int((one & ~two).sum()), int((~one & two).sum()), neither


def _count_better_groups(first: Predictions, second: Predictions) -> tuple[int, int, int]:
    _, group = np.unique(group_names(first), return_inverse=True)
    gain = (first.decisions == first.labels).astype(int) - (second.decisions == second.labels)
    sums = np.bincount(group, weights=gain)
    return int((sums > 0).sum()), int((sums < 0).sum()), int((sums == 0).sum())


# --- the images that all systems predicted -----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SharedImages:
    """The predictions of every system for the shared images.

    Attributes:
        records: one a system, all with the same ids, labels, groups, subjects and class order.
        not_shared: images of each system that another one did not predict, and that are left out.
        joined: whether the systems grouped the images differently, so that their groups were joined.
    """

    records: tuple[Predictions, ...]
    not_shared: tuple[int, ...]
    joined: bool


def share_images(systems: Sequence[System]) -> SharedImages:
    """Takes the images that all systems predicted, in the first one's order of images and classes.

    Two images are of one group where any system's groups, linked through one another, say so: what one
    run knows of patients and duplicates holds for all.

    Raises:
        DataError: fewer than two systems, equal names, different classes, no shared image, or a shared
            image whose true label differs.
    """
    _check_systems(systems)
    first = systems[0].predictions
    shared = set.intersection(*(set(system.predictions.ids.tolist()) for system in systems))
    if not shared:
        examples = "; ".join(f"{s.name}: {list(s.predictions.ids[:2])}" for s in systems)
        raise DataError(
            f"compared systems must have predicted the same images, but no id is shared ({examples}): compare "
            "runs on the same data and the same test part"
        )
    ids = [name for name in first.ids.tolist() if name in shared]
    records = [_reordered(system.predictions, ids, first.classes) for system in systems]
    _check_labels(systems, records)
    subjects, groups, joined = _joined_groups(records)
    return SharedImages(
        records=tuple(replace(record, subjects=subjects, groups=groups) for record in records),
        not_shared=tuple(len(system.predictions) - len(ids) for system in systems),
        joined=joined,
    )


def _check_systems(systems: Sequence[System]) -> None:
    if len(systems) < 2:
        raise DataError(f"a comparison needs at least two systems, but {len(systems)} is given: name another")
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        raise DataError(f"compared systems must have names of their own, but are called {names}")
    classes = systems[0].predictions.classes
    for system in systems[1:]:
        if set(system.predictions.classes) != set(classes):
            raise DataError(
                f"compared systems must know the same classes, but {systems[0].name} knows {list(classes)} and "
                f"{system.name} knows {list(system.predictions.classes)}: compare runs on the same classes"
            )


def _reordered(predictions: Predictions, ids: list[str], classes: tuple[str, ...]) -> Predictions:
    """The given images in the given order, classes in the given order."""
    row_of = {name: row for row, name in enumerate(predictions.ids.tolist())}
    taken = predictions.take(np.asarray([row_of[name] for name in ids], dtype=np.int64))
    if taken.classes == classes:
        return taken
    new_of_old = np.asarray([classes.index(name) for name in taken.classes])
    return replace(
        taken,
        labels=new_of_old[taken.labels],
        decisions=new_of_old[taken.decisions],
        probabilities=taken.probabilities[:, np.argsort(new_of_old)],
        classes=classes,
    )


def _check_labels(systems: Sequence[System], records: Sequence[Predictions]) -> None:
    first = records[0]
    for system, record in zip(systems[1:], records[1:], strict=True):
        differ = np.flatnonzero(record.labels != first.labels)
        if len(differ):
            some = ", ".join(
                f"{first.ids[row]} ({first.classes[first.labels[row]]} against {first.classes[record.labels[row]]})"
                for row in differ[:_MOST_NAMED]
            )
            raise DataError(
                f"a shared image must have one true label, but {systems[0].name} and {system.name} differ on "
                f"{len(differ):,} of {len(first):,}: {some}: score both on the same labels"
            )


def _joined_groups(records: Sequence[Predictions]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Subjects, groups, and whether the groups had to be joined."""
    subjects = records[0].subjects
    for record in records[1:]:
        subjects = np.where(subjects == "", record.subjects, subjects)
    codes = [np.unique(group_names(record), return_inverse=True)[1] for record in records]
    if all(np.array_equal(_first_rows(code), _first_rows(codes[0])) for code in codes[1:]):
        return subjects, records[0].groups, False
    # A graph of images and of every system's groups; its connected parts are the joined groups.
    count, edges, offset = len(subjects), [], len(subjects)
    for code in codes:
        edges.append(np.stack([np.arange(count), offset + code]))
        offset += int(code.max()) + 1
    ends = np.concatenate(edges, axis=1)
    _, part = connected_components(
        coo_array((np.ones(ends.shape[1]), ends), shape=(offset, offset)), directed=False
    )
    names = group_names(records[0])
    return subjects, names[_first_rows(part[:count])], True


def _first_rows(codes: np.ndarray) -> np.ndarray:
    """First row with the same code, int [N]: equal for two codings of the same groups."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return first[inverse]


# --- what makes a comparison less than fair, or less than sure ---------------------------------------


def find_warnings(systems: Sequence[System], shared: SharedImages, scorer: Scorer) -> Iterator[str]:
    """The cautions, a sentence each.

    Args:
        systems: as they were given.
        shared: what ``share_images`` made of them.
        scorer: of the first one's shared images.
    """
    yield from _part_warnings(systems)
    for what, so, known in (
        ("The data sets differ", "images, labels or subjects are not the same, or the same names stand for other "
         "pictures", {system.name: system.fingerprint[:12] for system in systems if system.fingerprint}),
        ("The splits differ", "each system learned from other images, so a difference is not the method's alone",
         {system.name: system.split[:12] for system in systems if system.split}),
    ):  # fmt: skip
        if len(set(known.values())) > 1:
            yield f"{what} ({', '.join(f'{name} {value}' for name, value in known.items())}): {so}."
    if any(shared.not_shared):
        counted = zip(systems, shared.not_shared, strict=True)
        counts = [f"{left:,} of {len(s.predictions):,} of {s.name}" for s, left in counted if left]
        yield f"Images that not all systems predicted are left out: {', '.join(counts)}."
    if shared.joined:
        yield "The systems group the images differently; groups that share an image were joined."
    for (one, first), (two, second) in combinations(zip(systems, shared.records, strict=True), 2):
        if np.array_equal(first.probabilities, second.probabilities):
            yield f"{one.name} and {two.name} give every shared image the same probabilities: are they one system?"
    groups = scorer.units.groups
    if not scorer.groups_known:
        yield (
            "Neither patients nor groups are known: images count as independent, so that intervals are too narrow "
            "and p-values too small."
        )
    elif groups < FEW_GROUPS:
        yield f"The images are of {groups} groups only, fewer than {FEW_GROUPS}: intervals and p-values are rough."


def _part_warnings(systems: Sequence[System]) -> Iterator[str]:
    kinds = {system.name: system.scored for system in systems if system.scored}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        yield (
            f"The systems were scored on different parts ({told}): a model tested once and models tested while "
            "held out of folds saw different amounts of training images."
        )
    for name in (name for name, kind in kinds.items() if kind == "selection"):
        yield f"{name} chose its settings on the images it is scored on: its score is likely too high."
    if unknown := [system.name for system in systems if not system.scored]:
        yield (
            f"No report stands beside the predictions of {', '.join(unknown)}: whether those images were held out "
            "is not known."
        )
