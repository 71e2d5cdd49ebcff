"""Systems side by side on the images they share: scores, paired differences, tests, and cautions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from kerasall.errors import DataError
from kerasall.evaluation.comparison_cautions import count_groups, find_warnings
from kerasall.evaluation.intervals import Interval, group_intervals, groups_known
from kerasall.evaluation.metrics import confusion_matrix, find_metric, malignant_mask
from kerasall.evaluation.paired_tests import Comparison, cochran_q, holm, mcnemar, paired_difference
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import group_names
from kerasall.evaluation.shared_images import System, share_images

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
            "systems": [_system_json(system) for system in self.systems],
            "pairs": [_pair_json(pair) | {"better": self.better(pair)} for pair in self.pairs],
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
    malignant_mask(classes, diseased)
    main = metric or _main_metric(systems)
    find_metric(main, classes)
    names = _metric_names(main, len(classes), diseased)
    options = {"confidence": confidence, "resamples": resamples, "seed": seed}
    return SystemComparison(
        metric=main,
        confidence=confidence,
        classes=classes,
        malignant=diseased,
        images=len(shared.records[0]),
        groups=count_groups(shared.records[0]),
        known_groups=groups_known(shared.records[0]),
        systems=tuple(
            _score_system(*found, group_intervals(found[1], names, diseased, **options), diseased)
            for found in zip(systems, shared.records, shared.not_shared, strict=True)
        ),
        pairs=_compare_pairs(systems, shared.records, names, diseased, confidence),
        cochran=cochran_q(shared.records) if len(systems) > 2 else None,
        warnings=tuple(find_warnings(systems, shared)),
    )


def _main_metric(systems: Sequence[System]) -> str:
    said = {system.main_metric for system in systems}
    return said.pop() if len(said) == 1 and "" not in said else "balanced_accuracy"


def _metric_names(main: str, classes: int, malignant: tuple[str, ...]) -> tuple[str, ...]:
    """The main metric first; of two classes the malignant ROC-AUC would be the ROC-AUC again."""
    names = [main, *SCORES, *(MALIGNANT_SCORES if malignant else ())]
    names += ["malignant_roc_auc"] if malignant and classes > 2 else []
    return tuple(dict.fromkeys(names))


def _malignant_classes(systems: Sequence[System], given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        return tuple(given)
    said = {
        system.name: tuple(sorted(system.malignant)) for system in systems if system.malignant is not None
    }
    if len(set(said.values())) > 1:
        raise DataError(
            f"compared systems must mean the same classes by malignant, but say {said}: give --malignant"
        )
    return next(iter(said.values()), ())


def _score_system(
    system: System,
    record: Predictions,
    not_shared: int,
    intervals: dict[str, Interval],
    malignant: tuple[str, ...],
) -> SystemScores:
    matrix = confusion_matrix(record)
    mask = malignant_mask(record.classes, malignant)
    known = bool(malignant)
    return SystemScores(
        name=system.name,
        source=system.source,
        scored=system.scored,
        not_shared=not_shared,
        intervals=intervals,
        matrix=matrix,
        right=int(np.trace(matrix)),
        missed=int(matrix[mask][:, ~mask].sum()) if known else None,
        malignant_images=int(matrix[mask].sum()) if known else None,
        predictions=record,
    )


def _compare_pairs(
    systems: Sequence[System],
    records: Sequence[Predictions],
    metrics: tuple[str, ...],
    malignant: tuple[str, ...],
    confidence: float,
) -> tuple[Pair, ...]:
    indices = list(combinations(range(len(systems)), 2))
    differences = [
        {
            name: paired_difference(records[a], records[b], name, malignant, confidence=confidence)
            for name in metrics
        }
        for a, b in indices
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


def _system_json(system: SystemScores) -> dict[str, Any]:
    return {
        "name": system.name,
        "source": system.source,
        "scored": system.scored or None,
        "not_shared": system.not_shared,
        "metrics": {name: interval.to_json() for name, interval in system.intervals.items()},
        "confusion_matrix": system.matrix.tolist(),
        "malignant_called_benign": system.missed,
        "malignant_images": system.malignant_images,
    }


def _pair_json(pair: Pair) -> dict[str, Any]:
    images = ("both_right", "only_first_right", "only_second_right", "neither_right")
    groups = ("first_better", "second_better", "equal")
    return {
        "first": pair.first,
        "second": pair.second,
        "differences": {name: difference.to_json() for name, difference in pair.differences.items()},
        "p_value_holm": pair.adjusted,
        "mcnemar": pair.mcnemar.to_json() | {"p_value_holm": pair.mcnemar_adjusted},
        "images": dict(zip(images, pair.images, strict=True)),
        "groups": dict(zip(groups, pair.groups, strict=True)),
    }
