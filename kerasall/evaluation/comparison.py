"""Systems side by side on the images that all of them predicted: scores, paired differences and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kerasall.errors import DataError
from kerasall.evaluation import confusion_scores as of_matrix
from kerasall.evaluation.intervals import RESAMPLES, Interval, Scorer
from kerasall.evaluation.metrics import MALIGNANT_SCORES, SCORES, confusion_matrix, find_metric
from kerasall.evaluation.paired_tests import Comparison, cochran_q, holm, paired_difference, sign_flips
from kerasall.evaluation.predictions import Predictions

SCHEMA_VERSION = 2

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


@dataclass(frozen=True, eq=False, kw_only=True)
class SystemScores(System):
    """One system on the shared images; its predictions are of these alone.

    Attributes:
        not_shared: its images that were left out.
        intervals: metric -> value with interval over groups.
        matrix: int64 [C, C], rows = true class.
        right: images it decided rightly.
        missed: malignant images it called benign; None where no class is known to be malignant.
        malignant_images: of how many; None likewise.
    """

    not_shared: int
    intervals: dict[str, Interval]
    matrix: np.ndarray
    right: int
    missed: int | None
    malignant_images: int | None

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
        flips: which system decides more images rightly, tested over groups; where each has one image, McNemar's.
        images: images that both, only the first, only the second and neither decided rightly.
        groups: groups with a higher share right by the first, by the second, and with equal shares.
        adjusted: p-value of the main metric's difference, Holm-adjusted over all pairs; None where undefined.
        flips_adjusted: that of ``flips``, likewise.
    """

    first: str
    second: str
    differences: dict[str, Comparison]
    flips: Comparison
    images: tuple[int, int, int, int]
    groups: tuple[int, int, int]
    adjusted: float | None = None
    flips_adjusted: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        images = ("both_right", "only_first_right", "only_second_right", "neither_right")
        groups = ("first_better", "second_better", "equal")
        return {
            "first": self.first,
            "second": self.second,
            "differences": {name: difference.to_json() for name, difference in self.differences.items()},
            "p_value_holm": self.adjusted,
            "right_images": self.flips.to_json() | {"p_value_holm": self.flips_adjusted},
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
        joined: whether the systems grouped the images differently, so that their groups were joined.
        single: whether every group has one image.
        systems: in the order given.
        pairs: every two systems, in the order given.
        cochran: Cochran's Q over three systems or more where every group has one image, else None.
    """

    metric: str
    confidence: float
    classes: tuple[str, ...]
    malignant: tuple[str, ...]
    images: int
    groups: int
    known_groups: bool
    joined: bool
    single: bool
    systems: tuple[SystemScores, ...]
    pairs: tuple[Pair, ...]
    cochran: Comparison | None

    def better(self, pair: Pair) -> str | None:
        """Name of the system that the adjusted test of the main metric finds better; None where it cannot tell."""
        difference = pair.differences[self.metric].difference
        if pair.adjusted is None or difference is None or pair.adjusted >= 1 - self.confidence:
            return None
        higher = find_metric(self.metric, self.classes).direction == "higher"
        return pair.first if (difference > 0) == higher else pair.second

    def to_json(self) -> dict[str, Any]:
        """The numbers of ``kerasall compare --json``: only JSON values, no NaN."""
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
        }


def compare_systems(
    systems: Sequence[System],
    metric: str | None = None,
    malignant: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
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
    records, joined = share_images(systems)
    classes = records[0].classes
    diseased = _malignant_classes(systems, malignant)
    main = metric or _main_metric(systems)
    find_metric(main, classes)
    names = _metric_names(main, len(classes), diseased)
    scorers = [Scorer(record, diseased, resamples, seed, confidence) for record in records]
    single = scorers[0].units.groups == len(records[0])
    return SystemComparison(
        metric=main,
        confidence=confidence,
        classes=classes,
        malignant=diseased,
        images=len(records[0]),
        groups=scorers[0].units.groups,
        known_groups=scorers[0].groups_known,
        joined=joined,
        single=single,
        systems=tuple(_score_system(*each, names) for each in zip(systems, scorers, strict=True)),
        pairs=_compare_pairs(systems, scorers, names),
        cochran=cochran_q(records) if len(systems) > 2 and single else None,
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


def _score_system(system: System, scorer: Scorer, metrics: Sequence[str]) -> SystemScores:
    matrix = confusion_matrix(scorer.predictions)
    mask, known = scorer.resampler.malignant, bool(scorer.malignant)
    return SystemScores(
        **{**vars(system), "predictions": scorer.predictions},
        not_shared=len(system.predictions) - len(scorer.predictions),
        intervals=scorer.intervals(metrics),
        matrix=matrix,
        right=int(np.trace(matrix)),
        missed=int(of_matrix.malignant_called_benign(matrix, mask)) if known else None,
        malignant_images=int(of_matrix.malignant_images(matrix, mask)) if known else None,
    )


def _compare_pairs(
    systems: Sequence[System], scorers: Sequence[Scorer], metrics: tuple[str, ...]
) -> tuple[Pair, ...]:
    pairs = []
    for (one, scorer), (two, other) in combinations(zip(systems, scorers, strict=True), 2):
        first, second = scorer.predictions, other.predictions
        differences = {name: paired_difference(scorer, second, name) for name in metrics}
        counts = _count_right(first, second), _count_better_groups(first, second)
        pairs.append(Pair(one.name, two.name, differences, sign_flips(first, second), *counts))
    adjusted = holm([pair.differences[metrics[0]].p_value for pair in pairs])
    tests = holm([pair.flips.p_value for pair in pairs])
    return tuple(
        replace(pair, adjusted=main, flips_adjusted=test)
        for pair, main, test in zip(pairs, adjusted, tests, strict=True)
    )


def _count_right(first: Predictions, second: Predictions) -> tuple[int, int, int, int]:
    one, two = first.right, second.right
    both, neither = int((one & two).sum()), int((~one & ~two).sum())
    return both, int((one & ~two).sum()), int((~one & two).sum()), neither


def _count_better_groups(first: Predictions, second: Predictions) -> tuple[int, int, int]:
    _, group = np.unique(first.group_names, return_inverse=True)
    gain = first.right.astype(int) - second.right
    sums = np.bincount(group, weights=gain)
    return int((sums > 0).sum()), int((sums < 0).sum()), int((sums == 0).sum())


# --- the images that all systems predicted -----------------------------------------------------------


def share_images(systems: Sequence[System]) -> tuple[list[Predictions], bool]:
    """Takes the images that all systems predicted, in the first one's order of images and classes.

    Two images are of one group where any system's groups, linked through one another, say so: what one
    run knows of patients and duplicates holds for all.

    Returns:
        A record for each system, all with the same ids, labels, groups, subjects and class order; and whether
        the systems grouped the images differently, so that their groups were joined.

    Raises:
        DataError: fewer than two systems, equal names, different classes, no shared image, or a shared
            image whose true label differs.
    """
    _check_systems(systems)
    first = systems[0].predictions
    shared = np.logical_and.reduce([np.isin(first.ids, system.predictions.ids) for system in systems])
    if not shared.any():
        examples = "; ".join(f"{s.name}: {list(s.predictions.ids[:2])}" for s in systems)
        raise DataError(
            f"compared systems must have predicted the same images, but no id is shared ({examples}): compare "
            "runs on the same data and the same test part"
        )
    records = [_reordered(system.predictions, first.ids[shared], first.classes) for system in systems]
    _check_labels(systems, records)
    subjects, groups, joined = _joined_groups(records)
    return [replace(record, subjects=subjects, groups=groups) for record in records], joined


def _check_systems(systems: Sequence[System]) -> None:
    if len(systems) < 2:
        raise DataError(
            f"a comparison needs at least two systems, but {len(systems)} is given: name another, or "
            "compare the members of an ensemble (--members)"
        )
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


def _reordered(predictions: Predictions, ids: np.ndarray, classes: tuple[str, ...]) -> Predictions:
    """The given images in the given order, classes in the given order."""
    taken = predictions.in_order(ids)
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
    codes = [np.unique(record.group_names, return_inverse=True)[1] for record in records]
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
    names = records[0].group_names
    return subjects, names[_first_rows(part[:count])], True


def _first_rows(codes: np.ndarray) -> np.ndarray:
    """First row with the same code, int [N]: equal for two codings of the same groups."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return first[inverse]
