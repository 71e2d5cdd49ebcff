"""Deals groups, or single images, out to parts so that every part gets its share of every class; the seed decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kerasall.errors import DataError

_GROUP_WEIGHT = 0.1
"""Weight of a class's number of groups beside its number of images: intervals resample groups, so a part
should not get its images of a class from one huge patient when it can get them from several."""

_PLACEMENTS = 40_000
"""Placements of a group tried in all: 256 candidates for up to 156 groups, 8 for 5,000 and more."""


def deal_images(
    ids: Sequence[str], labels: Sequence[str], shares: dict[str, float], seed: int
) -> dict[str, str]:
    """Gives every single image to a part, as the papers that drew by image did: in the numbers of scikit-learn.

    A held-out part of the share s has ceil(s N) of the N images, and of every class its share of these, the rest by
    largest remainder (``train_test_split`` with ``stratify``); the part train has what is left. Of 10,661 images a
    fifth is 2,133 and a tenth 1,067, as printed.

    Args:
        ids: N names, each once.
        labels, seed: as ``deal_groups``.
        shares: part -> share; among them "train".

    Returns:
        id -> part.

    Raises:
        DataError: some class cannot stand in every part; the message names class, part and cure.
    """
    order = np.argsort(np.asarray(ids, dtype=str), kind="stable")
    names = np.asarray(ids, dtype=object)[order]
    classes, class_index = np.unique(np.asarray(labels, dtype=str)[order], return_inverse=True)
    held_out = [part for part in shares if part != "train"]
    sizes = np.stack([_sizes_of_part(np.bincount(class_index), shares[part]) for part in held_out])
    parts = np.full(len(names), "train", dtype=object)
    random = np.random.default_rng(seed)
    for index, label in enumerate(classes.tolist()):
        rows, wanted = random.permutation(np.flatnonzero(class_index == index)), sizes[:, index]
        if wanted.min() < 1 or wanted.sum() >= len(rows):
            raise DataError(
                f"each class must stand in every one of the parts {list(shares)}, but class {label!r} has only "
                f"{len(rows):,} images: ask for larger shares or fewer parts, or add images of this class"
            )
        for part, chosen in zip(held_out, np.split(rows, np.cumsum(wanted))[:-1], strict=True):
            parts[chosen] = part
    return dict(zip(names.tolist(), parts.tolist(), strict=True))


def _sizes_of_part(counts: np.ndarray, share: float) -> np.ndarray:
    """Images of every class in a part of ceil(share N), by largest remainder: int [C]."""
    total = int(np.ceil(share * counts.sum() - 1e-9))
    wanted = total * counts / counts.sum()
    sizes = np.floor(wanted).astype(np.int64)
    sizes[np.argsort(sizes - wanted, kind="stable")[: total - sizes.sum()]] += 1
    return sizes


def deal_groups(
    groups: Sequence[str], labels: Sequence[str], shares: dict[str, float], seed: int
) -> dict[str, str]:
    """Gives every group to one part, near the wanted share of every class in every part.

    Many candidates are made: groups in a random order, the large ones earlier, each to the part that lacks
    its classes most. The one whose class shares deviate least (chi-square over images, and with a tenth of
    its weight over groups) is kept and improved by moving and swapping single groups.

    Args:
        groups: N names, one per image; images of one name stay together.
        labels: N class names.
        shares: part -> wanted share in (0, 1]; they sum to 1.
        seed: equal seeds give equal results on any order of the images.

    Returns:
        group -> part.

    Raises:
        DataError: some class cannot stand in every part; the message names class, part and cure.
    """
    names, group_index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    classes, class_index = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (group_index, class_index), 1)
    parts = list(shares)
    _require_enough_groups(counts, classes, parts)
    wanted = np.asarray([shares[part] for part in parts])
    assigned = _search(counts, wanted / wanted.sum(), np.random.default_rng(seed))
    _require_classes(counts, assigned, classes, parts)
    return {name: parts[index] for name, index in zip(names.tolist(), assigned.tolist(), strict=True)}


def _require_enough_groups(counts: np.ndarray, classes: np.ndarray, parts: list[str]) -> None:
    for name, holders in zip(classes.tolist(), (counts > 0).sum(axis=0), strict=True):
        if holders < len(parts):
            raise DataError(
                f"each class must stand in every one of the {len(parts)} parts {parts}, but class {name!r} "
                f"has only {holders} independent group(s) (a group = a subject and all joined to it by "
                f"duplicates): ask for at most {holders} part(s) or folds, or add subjects of this class"
            )


def _require_classes(counts: np.ndarray, assigned: np.ndarray, classes: np.ndarray, parts: list[str]) -> None:
    for index, part in enumerate(parts):
        present = counts[assigned == index].sum(axis=0) > 0
        if not present.all():
            raise DataError(
                f"each class must stand in every part, but {classes[~present].tolist()} could not be brought into "
                f"{part!r}: too few groups hold more than one class; ask for fewer parts or folds, or another seed"
            )


def _search(counts: np.ndarray, shares: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Part index of each group, int64 [G]: the best candidate, improved by moves and swaps."""
    fractions = _fractions(counts)
    sizes = counts.sum(axis=1)
    best, best_score = None, np.inf
    for _ in range(int(np.clip(_PLACEMENTS // len(counts), 8, 256))):
        # A jitter of up to twice the size keeps "large ones first" and still varies the candidates.
        order = np.argsort(-sizes * random.uniform(0.5, 2.0, len(sizes)), kind="stable")
        preference = random.permutation(len(shares))
        candidate = _deal_in_order(fractions, shares, order, preference)
        score = _deviation(fractions, candidate, shares)
        if score < best_score - 1e-12:
            best, best_score = candidate, score
    assert best is not None
    return _bring_in(fractions, shares, _improve(fractions, shares, best))


def _fractions(counts: np.ndarray) -> np.ndarray:
    """Share of each class's images, then weighted share of its groups, that a group holds [G, 2C]."""
    holds = (counts > 0).astype(float)
    images = counts / counts.sum(axis=0)
    return np.hstack([images, np.sqrt(_GROUP_WEIGHT) * holds / holds.sum(axis=0)])


def _totals(fractions: np.ndarray, assigned: np.ndarray, parts: int) -> np.ndarray:
    totals = np.zeros((parts, fractions.shape[1]))
    np.add.at(totals, assigned, fractions)
    return totals


def _deviation(fractions: np.ndarray, assigned: np.ndarray, shares: np.ndarray) -> float:
    """Chi-square of the parts' holdings against their shares; an absent class outweighs all else."""
    totals = _totals(fractions, assigned, len(shares))
    images = totals[:, : totals.shape[1] // 2]
    missing = (images <= 0).sum()
    gap = totals - np.outer(shares, totals.sum(axis=0))
    return float((gap**2 / shares[:, None]).sum() + 1e3 * missing)


def _deal_in_order(
    fractions: np.ndarray, shares: np.ndarray, order: np.ndarray, preference: np.ndarray
) -> np.ndarray:
    # Holdings minus targets, parts in order of preference: the first wins a tie.
    gaps = -np.outer(shares, fractions.sum(axis=0))[preference]
    weights = 1 / shares[preference]
    assigned = np.empty(len(fractions), dtype=np.int64)
    for group in order:
        # Adding f to a part changes its squared gap by f.(2 gap + f); the constant f.f still counts 1/share.
        row = fractions[group]
        part = int(np.argmin(((2 * gaps + row) @ row) * weights))
        gaps[part] += row
        assigned[group] = preference[part]
    return assigned


def _improve(fractions: np.ndarray, shares: np.ndarray, assigned: np.ndarray) -> np.ndarray:
    """Moves or swaps single groups while that lowers the deviation; for up to 400 groups."""
    if len(fractions) > 400:
        return assigned
    score = _deviation(fractions, assigned, shares)
    for _ in range(50):
        trial = assigned.copy()
        for group, part in _best_change(fractions, shares, assigned):
            trial[group] = part
        trial_score = _deviation(fractions, trial, shares)
        if trial_score >= score - 1e-12:
            break
        assigned, score = trial, trial_score
    return assigned


def _bring_in(fractions: np.ndarray, shares: np.ndarray, assigned: np.ndarray) -> np.ndarray:
    """Moves single groups into parts that lack a class, each time the one that costs least.

    Of a class with two groups, shares alone would leave both in the large part.
    """
    score = _deviation(fractions, assigned, shares)
    while absent := np.argwhere(_totals(fractions, assigned, len(shares)) <= 0).tolist():
        part, column = absent[0]
        trials = [
            np.where(np.arange(len(assigned)) == group, part, assigned)
            for group in np.flatnonzero(fractions[:, column])
        ]
        scores = [_deviation(fractions, trial, shares) for trial in trials]
        if min(scores) >= score:
            break
        assigned, score = trials[int(np.argmin(scores))], min(scores)
    return assigned


def _best_change(fractions: np.ndarray, shares: np.ndarray, assigned: np.ndarray) -> list[tuple[int, int]]:
    """The one move or swap that lowers the chi-square most, as (group, new part) pairs."""
    totals = _totals(fractions, assigned, len(shares))
    gaps = (totals - np.outer(shares, totals.sum(axis=0))) / shares[:, None]
    own, inverse = gaps[assigned], 1 / shares
    squares = (fractions**2).sum(axis=1)
    leave = -2 * (own * fractions).sum(axis=1) + squares * inverse[assigned]
    enter = 2 * fractions @ gaps.T + squares[:, None] * inverse[None, :]
    moves = leave[:, None] + enter
    moves[np.arange(len(moves)), assigned] = np.inf
    # A swap is both moves less the cross terms of the two groups in the same parts.
    gains = moves[:, assigned]
    cross = fractions @ fractions.T
    both = inverse[assigned][:, None] + inverse[assigned][None, :]
    swaps = gains + gains.T - 2 * cross * both
    if moves.min() <= swaps.min():
        group, part = np.unravel_index(np.argmin(moves), moves.shape)
        return [(int(group), int(part))]
    first, second = np.unravel_index(np.argmin(swaps), swaps.shape)
    return [(int(first), int(assigned[second])), (int(second), int(assigned[first]))]
