"""Balance of the training rows: random oversampling, weights by class, and the counts for the report.

Always after the split and on training rows alone: a copy that is made before the split stands on both
sides of it, and a validation or test part with copies no longer has the prevalence it was drawn with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from kerasall.errors import DataError, SettingsError

Target = Literal["majority"] | Mapping[int, int]
"""Images each class shall have: as many as the largest class, or class index -> count."""


def oversample(
    labels: Sequence[int] | np.ndarray, rows: Sequence[int] | np.ndarray, target: Target, seed: int
) -> np.ndarray:
    """Repeats rows of the smaller classes at random until every class has its wanted count.

    Within a class the repeats are spread evenly: every row is taken as often as every other or once more,
    and chance decides which rows are. (Draws with replacement would leave about a third of the rows of a
    doubled class without a repeat.) ``epoch_batches`` augments each repeat in its own way.

    Args:
        labels: class indices of all N images, integers >= 0, [N].
        rows: the training rows, each in [0, N) and once.
        target: "majority", or class index -> count; classes that it does not name keep their count.
        seed: not negative; equal arguments give equal rows.

    Returns:
        Row indices, int64: all of ``rows`` in their order, then the repeats by class.

    Raises:
        SettingsError: a target below a class's count (images are never dropped), for a class without
            training rows, or of another kind; a negative seed.
        DataError: rows that are no training rows: none, repeated, or out of range.

    >>> oversample([0, 0, 0, 1, 1], [0, 1, 2, 3], "majority", seed=0).tolist()
    [0, 1, 2, 3, 3, 3]
    """
    labels, rows = _checked(labels, rows)
    if seed < 0:
        raise SettingsError(f"the seed must be at least 0, but is {seed}: correct it")
    own = labels[rows]
    found, counts = np.unique(own, return_counts=True)
    wanted = _settle_target(target, dict(zip(found.tolist(), counts.tolist(), strict=True)))
    repeats = [_repeat(rows[own == label], count, [seed, label]) for label, count in sorted(wanted.items())]
    return np.concatenate([rows, *repeats])


def weigh_by_class(labels: np.ndarray, class_weights: Mapping[int, float]) -> np.ndarray:
    """Sample weights, float32 [N], from one weight per class index.

    Raises:
        SettingsError: a class that occurs among the labels has no weight, or a weight is not positive.
    """
    labels = np.asarray(labels)
    if missing := sorted(set(labels.tolist()) - set(class_weights)):
        raise SettingsError(
            f"every class needs a weight, but the class indices {missing} have none: add them"
        )
    if wrong := {index: weight for index, weight in class_weights.items() if not 0 < weight < np.inf}:
        raise SettingsError(f"class weights must be positive numbers, but found {wrong}: correct them")
    return np.asarray([class_weights[label] for label in labels.tolist()], np.float32)


def count_classes(
    labels: Sequence[int] | np.ndarray, rows: Sequence[int] | np.ndarray, names: Sequence[str]
) -> dict[str, int]:
    """Class name -> images among ``rows``, repeats counted; for the report, before and after.

    Args:
        labels: class indices of all N images, [N].
        rows: row indices, repeats allowed.
        names: class names in class order.
    """
    counts = np.bincount(np.asarray(labels)[np.asarray(rows, np.int64)], minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _repeat(rows: np.ndarray, count: int, seed: list[int]) -> np.ndarray:
    """The ``count - len(rows)`` repeats of a class's rows."""
    whole, rest = divmod(count - len(rows), len(rows))
    # Drawn from the sorted rows: which rows are repeated does not hang on the order they came in.
    drawn = np.random.default_rng(seed).choice(np.sort(rows), rest, replace=False)
    return np.concatenate([np.tile(rows, whole), drawn]).astype(np.int64)


def _settle_target(target: Target, counts: dict[int, int]) -> dict[int, int]:
    if isinstance(target, str):
        if target != "majority":
            raise SettingsError(
                f'the target must be "majority" or a count per class, but is {target!r}: correct it'
            )
        return dict.fromkeys(counts, max(counts.values()))
    for label, count in target.items():
        _require_reachable(label, count, counts)
    return counts | dict(target)


def _require_reachable(label: int, count: int, counts: dict[int, int]) -> None:
    if not isinstance(count, int | np.integer) or isinstance(count, bool):
        raise SettingsError(f"the target of class {label} must be a whole number, but is {count!r}")
    if label not in counts:
        raise SettingsError(
            f"a class needs training images to be oversampled, but class {label} has none (the classes with "
            f"images are {sorted(counts)}): correct the target or the split"
        )
    if count < counts[label]:
        raise SettingsError(
            f"the target of class {label} must be at least its {counts[label]:,} training images, but is {count:,}: "
            "oversampling never drops an image; raise the target, or use class weights"
        )


def _checked(
    labels: Sequence[int] | np.ndarray, rows: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    labels, rows = np.asarray(labels), np.asarray(rows)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or (labels.size and labels.min() < 0):
        raise DataError(
            f"labels must be class indices, integers >= 0 [N], but are {labels.dtype} {labels.shape}"
        )
    if rows.ndim != 1 or not rows.size or not np.issubdtype(rows.dtype, np.integer):
        raise DataError(f"rows must be at least one row number, but are {rows!r}")
    if rows.min() < 0 or rows.max() >= len(labels):
        raise DataError(f"rows must be in [0, {len(labels)}), but range from {rows.min()} to {rows.max()}")
    if len(np.unique(rows)) != len(rows):
        raise DataError("training rows must be given once each, but some are repeated: oversample only once")
    return labels, rows.astype(np.int64)
