"""Orthonormal contrasts of factors, least squares on them, and which effects hide behind which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import stdtrit

_ALIASED = 1e-6
"""Squared length above which two orthonormal sets of contrasts share something."""


@dataclass(frozen=True)
class Contrasts:
    """The comparisons among the levels of one factor.

    Attributes:
        by_level: float [levels, levels - 1], the value of each contrast at each level: linear,
            quadratic and so on, weighted by how often each level is run.
        columns: float [rows, levels - 1] = ``by_level[codes]``; orthonormal, each sums to 0.
    """

    by_level: np.ndarray
    columns: np.ndarray

    @property
    def df(self) -> int:
        """Degrees of freedom: number of levels less one."""
        return self.columns.shape[1]


def make_contrasts(codes: np.ndarray) -> Contrasts:
    """Orthonormal polynomial contrasts of a factor, its levels taken as equally spaced.

    Args:
        codes: int [rows], 0 to levels - 1, each of which occurs.
    """
    counts = np.bincount(codes)
    powers = np.vander(np.arange(len(counts)) - codes.mean(), increasing=True)
    root = np.sqrt(counts)[:, None]
    orthonormal, upper = np.linalg.qr(root * powers)
    by_level = (orthonormal * np.sign(np.diag(upper)) / root)[:, 1:]
    return Contrasts(by_level, by_level[codes])


def cross_contrasts(
    first: Contrasts, second: Contrasts, first_codes: np.ndarray, second_codes: np.ndarray
) -> Contrasts:
    """Products of the contrasts of two factors: their interaction, ``by_level`` at each pair of levels.

    Each sums to 0; orthonormal, and clear of main effects, where every pair is run as often as its levels ask for.
    """
    products = np.einsum("ai,bj->abij", first.by_level, second.by_level) * np.sqrt(len(first_codes))
    by_level = products.reshape(len(first.by_level) * len(second.by_level), -1)
    codes = first_codes * len(second.by_level) + second_codes
    by_level = by_level - by_level[codes].mean(axis=0)
    return Contrasts(by_level, by_level[codes])


@dataclass(frozen=True)
class Fit:
    """Least squares of a response on main effects and interactions.

    Attributes:
        mean: mean response.
        coefficients: float [df of each term], one array a term.
        inverse: float [total df, total df], (X'X)^-1 of the stacked contrasts.
        residual: float [rows].
        rank: rank of the stacked contrasts.
    """

    mean: float
    coefficients: tuple[np.ndarray, ...]
    inverse: np.ndarray
    residual: np.ndarray
    rank: int

    @property
    def residual_sum_of_squares(self) -> float:
        return float(self.residual @ self.residual)


def fit_main_effects(contrasts: Sequence[Contrasts], response: np.ndarray) -> Fit:
    """Fits mean + sum of main effects and interactions; balanced or not.

    Args:
        contrasts: one a term.
        response: float [rows].
    """
    mean = float(response.mean())
    stacked = np.column_stack([np.empty((len(response), 0)), *[c.columns for c in contrasts]])
    left, singular, right = np.linalg.svd(stacked, full_matrices=False)
    kept = singular > 1e-8
    left, singular, right = left[:, kept], singular[kept], right[kept]
    beta = right.T @ ((left.T @ response) / singular)
    residual = response - mean - left @ (left.T @ response)
    parts = np.split(beta, np.cumsum([c.df for c in contrasts])[:-1]) if contrasts else []
    return Fit(mean, tuple(parts), (right.T / singular**2) @ right, residual, int(kept.sum()))


@dataclass(frozen=True)
class Interaction:
    """A two-factor interaction and what it cannot be told from.

    Attributes:
        factors: the two names.
        aliased_with: main effects (``C``) and interactions (``C×D``) that share contrasts with it.
        complete: whether every pair of levels is run.
    """

    factors: tuple[str, str]
    aliased_with: tuple[str, ...]
    complete: bool

    @property
    def estimable(self) -> bool:
        """Whether it can be estimated apart from all main effects and other interactions of two."""
        return self.complete and not self.aliased_with

    def __str__(self) -> str:
        return "×".join(self.factors)


def find_interactions(names: Sequence[str], contrasts: Sequence[Contrasts]) -> list[Interaction]:
    """Every two-factor interaction with its aliases, in the order of the factors.

    Args:
        names: K factors.
        contrasts: K, over the same rows.
    """
    pairs = list(combinations(range(len(names)), 2))
    products = [interaction_columns(contrasts[a], contrasts[b]) for a, b in pairs]
    labels = [*names, *[f"{names[a]}×{names[b]}" for a, b in pairs]]
    shared = _shared_lengths([c.columns for c in contrasts] + products)
    found = []
    for index, (a, b) in enumerate(pairs):
        place = len(names) + index
        others = np.flatnonzero(shared[place] > _ALIASED)
        aliases = tuple(labels[other] for other in others if other not in (place, a, b))
        complete = products[index].shape[1] == contrasts[a].df * contrasts[b].df
        found.append(Interaction((names[a], names[b]), aliases, complete))
    return found


def interaction_columns(first: Contrasts, second: Contrasts) -> np.ndarray:
    """Orthonormal columns of the interaction, cleared of the mean and the two main effects."""
    rows = len(first.columns)
    product = (first.columns[:, :, None] * second.columns[:, None, :]).reshape(rows, -1) * np.sqrt(rows)
    mains = np.column_stack([np.ones(rows), first.columns, second.columns])
    basis, _ = np.linalg.qr(mains)
    return complement(basis, product)


def complement(basis: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span what ``columns`` add to ``basis``.

    Args:
        basis: float [rows, B], orthonormal.
        columns: float [rows, C].

    Returns:
        float [rows, at most C].
    """
    left, singular, _ = np.linalg.svd(columns - basis @ (basis.T @ columns), full_matrices=False)
    return left[:, singular > 1e-8]


def _shared_lengths(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """float [B, B]: squared length of each block of orthonormal columns within each other."""
    stacked = np.column_stack(blocks)
    widths = np.array([block.shape[1] for block in blocks])
    owner = np.repeat(np.arange(len(blocks)), widths)
    square = (stacked.T @ stacked) ** 2
    summed = np.zeros((len(blocks), square.shape[1]))
    np.add.at(summed, owner, square)
    result = np.zeros((len(blocks), len(blocks)))
    np.add.at(result.T, owner, summed.T)
    return result


def choose_clear_columns(candidates: Sequence[Sequence[int]], contrasts: Sequence[Contrasts]) -> list[int]:
    """Gives each factor, in turn, the free column least aliased with interactions of those before.

    In a regular two-level array this keeps main effects clear of all two-factor interactions as long
    as half the columns suffice (resolution IV): L8 gives columns 1, 2, 4, 7.

    Args:
        candidates: for each factor the columns that it may take, ascending.
        contrasts: one a column of the array.

    Returns:
        One column for each factor, no column twice.
    """
    every = np.column_stack([c.columns for c in contrasts])
    owner = np.repeat(np.arange(len(contrasts)), [c.df for c in contrasts])
    rows = len(every)
    score = np.zeros(len(contrasts))
    chosen: list[int] = []
    for allowed in candidates:
        free = [column for column in allowed if column not in chosen]
        column = min(free, key=lambda c: (round(score[c], 6), c))
        for other in chosen:
            product = contrasts[column].columns[:, :, None] * contrasts[other].columns[:, None, :]
            lengths = ((every.T @ product.reshape(rows, -1)) ** 2).sum(axis=1) * rows
            score += np.bincount(owner, lengths, minlength=len(contrasts))
        chosen.append(column)
    return chosen


_TRIES = 20_000
"""Columns tried for the factors of declared interactions before an array is given up."""


def clear_candidates(
    candidates: Sequence[Sequence[int]], contrasts: Sequence[Contrasts], pairs: Sequence[tuple[int, int]]
) -> tuple[list[list[int]], list[tuple[int, ...]]] | None:
    """Columns for which declared interactions share nothing with factors or with one another.

    Args:
        candidates: for each factor the columns that it may take, ascending.
        contrasts: one a column of the array.
        pairs: of factors, by their places among the candidates.

    Returns:
        For each factor the columns that are left to it (one, if it is in a pair), and for each pair the columns that
        hold its interaction; None where no choice is clear.
    """
    tied = list(dict.fromkeys(place for pair in pairs for place in pair))
    products: dict[tuple[int, int], tuple[np.ndarray, frozenset[int], bool]] = {}

    def cross(a: int, b: int) -> tuple[np.ndarray, frozenset[int], bool]:
        """Columns of an interaction, those of the array that share something with them, whether all pairs are run."""
        key = (min(a, b), max(a, b))
        if key not in products:
            own = interaction_columns(contrasts[key[0]], contrasts[key[1]])
            shared = [c for c, each in enumerate(contrasts) if ((own.T @ each.columns) ** 2).sum() > _ALIASED]
            products[key] = own, frozenset(shared), own.shape[1] == contrasts[a].df * contrasts[b].df
        return products[key]

    def fits(chosen: dict[int, int]) -> list[tuple[np.ndarray, frozenset[int], bool]] | None:
        made = [cross(chosen[a], chosen[b]) for a, b in pairs if a in chosen and b in chosen]
        taken = set(chosen.values())
        if any(taken & blocked or not complete for _, blocked, complete in made):
            return None
        for (one, *_), (other, *_) in combinations(made, 2):
            if ((one.T @ other) ** 2).sum() > _ALIASED:
                return None
        return made

    def leave(chosen: dict[int, int], blocked: set[int]) -> list[list[int]] | None:
        """What the other factors may take, if it suffices for them."""
        left = [
            [chosen[i]] if i in chosen else [c for c in allowed if c not in blocked]
            for i, allowed in enumerate(candidates)
        ]
        for i, allowed in enumerate(left):
            alike = [
                j for j in range(len(left)) if j not in chosen and list(candidates[j]) == list(candidates[i])
            ]
            if i not in chosen and len(alike) > len(allowed):
                return None
        return left

    tries = 0

    def search(chosen: dict[int, int]) -> tuple[list[list[int]], list[tuple[int, ...]]] | None:
        nonlocal tries
        made = fits(chosen)
        if made is None:
            return None
        if len(chosen) == len(tied):
            blocked = set(chosen.values()).union(*(each[1] for each in made))
            left = leave(chosen, blocked)
            return (left, [tuple(sorted(each[1])) for each in made]) if left else None
        place = tied[len(chosen)]
        for column in candidates[place]:
            tries += 1
            if tries > _TRIES:
                return None
            if column not in chosen.values() and (found := search(chosen | {place: column})):
                return found
        return None

    return search({})


def lenth_margin(effects: Sequence[float], confidence: float = 0.95) -> float:
    """Lenth's margin of error: single-degree effects beyond it stand out, even without an error.

    s0 = 1.5 median|c|; pseudo standard error = 1.5 median of the |c| below 2.5 s0; margin =
    t(m/3 degrees of freedom) times it, for m effects.

    Source: R. V. Lenth, Quick and easy analysis of unreplicated factorials, Technometrics 31:469 (1989).

    >>> round(lenth_margin([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 40.0]), 1)
    19.8
    """
    sizes = np.abs(np.asarray(effects, dtype=np.float64))
    start = 1.5 * np.median(sizes)
    error = 1.5 * np.median(sizes[sizes <= 2.5 * start])
    return float(stdtrit(len(sizes) / 3, 0.5 + confidence / 2) * error)
