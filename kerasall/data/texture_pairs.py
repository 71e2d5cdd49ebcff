"""Pairs of textures that correlate in one of eight orientations, found among all pairs, exactly, at little cost.

A full product of all pairs costs 8 x 1,024 multiplications a pair of 32 px textures. Here most pairs are ruled out
by a bound. Textures are turned into coordinates on which mirroring and turning only swap and negate: four parts that
an orientation keeps or negates, and one of couples that it also swaps. Of the eight correlations, then, two at a time
are P + Q and P - Q, with P and Q of half the coordinates each. Within every part the axes are those of most energy
(principal components of the textures), so that a and b are nearly told by their first coordinates, and by the
Cauchy-Schwarz inequality

    <a, b>  <=  <first of a, first of b> + |rest of a| |rest of b|.

Pairs below the threshold by that are done with; the few others are correlated in full, in double precision.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from kerasall.data.likeness import ORIENTATIONS, orient

_ROWS, _COLUMNS = 256, 1024
"""Sides of a tile of pairs: its products stay in a core's cache."""
_SAMPLE = 2048
"""Textures whose principal components are taken; the bound holds on any axes."""
_CHUNK = 512
"""Textures or pairs in double precision at a time."""
_COUNTS = (48, 64, 96, 128, 160, 192, 256, 384, 512, 768)
"""Numbers of first coordinates to choose from, besides all."""
_SLACK = 0.2
"""Mean of |rest of a| |rest of b|, as a share of the threshold, that the bound may lose."""
_MARGIN = 5e-4
"""Above the greatest rounding error of a float32 product of two unit vectors of 1,024 (2,050 x 2^-24 = 1.2e-4)."""
_KEPT = np.array([[1, 1, 1, 1], [1, -1, -1, 1], [1, 1, -1, -1], [1, -1, 1, -1]], np.float32)
"""Signs of the four parts that are only kept or negated, under the orientations below."""
_PLUS, _MINUS = np.array([0, 1, 6, 5]), np.array([2, 3, 4, 7])
"""Orientations whose correlation is P + Q and P - Q: a turn by half negates all couples."""


def correlated_pairs(textures: np.ndarray, threshold: float) -> Generator[np.ndarray, None, None]:
    """All pairs whose best orientation correlates above the threshold.

    Args:
        textures: float32 [N, side, side], unit length each; the side is even.
        threshold: in (0, 1].

    Yields:
        float64 [P, 4], one array for every 256 textures: first < second, the second's orientation towards the
        first, their correlation.
    """
    if len(textures) == 0:
        return
    pool = ThreadPoolExecutor(os.cpu_count())
    # Tiles side by side with one thread each: threads within such small products would wait for one another.
    with threadpool_limits(1, user_api="blas"), pool:
        coordinates = _Coordinates.of(textures, threshold, pool)
        for start in range(0, len(textures), _ROWS):
            starts = range(start - start % _COLUMNS, len(textures), _COLUMNS)
            found = pool.map(
                lambda column, row=start: _search_tile(textures, coordinates, row, column), starts
            )
            yield np.concatenate(list(found))


def block_count(number: int) -> int:
    """How many arrays ``correlated_pairs`` yields for so many textures."""
    return -(-number // _ROWS)


@dataclass(frozen=True, eq=False)
class _Coordinates:
    """Textures on axes of falling energy, sorted so that those alike in compactness stand together.

    Attributes:
        order: int64 [N], rows of the textures.
        threshold: that correlations must exceed.
        kept: float32 [N, K], coordinates that an orientation keeps or negates.
        signs: float32 [4, K], which.
        couples: float32 [N, 2, C], coordinates that it also swaps.
        levels: numbers of first coordinates (of K, of C), rising to (K, C).
        rest: float32 [levels, N], length of what the first coordinates leave out.
    """

    order: np.ndarray
    threshold: float
    kept: np.ndarray
    signs: np.ndarray
    couples: np.ndarray
    levels: list[tuple[int, int]]
    rest: np.ndarray

    @classmethod
    def of(cls, textures: np.ndarray, threshold: float, pool: ThreadPoolExecutor) -> _Coordinates:
        axes = _Axes.of(textures[:: -(-len(textures) // _SAMPLE)])
        kept = np.empty((len(textures), axes.signs.shape[1]), np.float32)
        couples = np.empty((len(textures), 2, len(axes.couples)), np.float32)
        levels = axes.levels()
        rest = np.empty((len(levels), len(textures)), np.float32)

        def fill(start: int) -> None:
            rows = slice(start, start + _CHUNK)
            exact, exact_couples = axes.project(textures[rows])
            kept[rows], couples[rows] = exact, exact_couples
            tails = _tails(exact**2), _tails((exact_couples**2).sum(axis=1))
            for level, (one, other) in enumerate(levels):
                rest[level, rows] = np.sqrt(tails[0][:, one] + tails[1][:, other])

        list(pool.map(fill, range(0, len(textures), _CHUNK)))
        # Rises towards textures that need many coordinates.
        order = np.argsort((rest > np.sqrt(_SLACK * threshold)).sum(axis=0), kind="stable")
        return cls(order, threshold, kept[order], axes.signs, couples[order], levels, rest[:, order])

    def level(self, rows: slice, columns: slice) -> int:
        """The first at which the bound loses little between these textures."""
        lost = self.rest[:, rows].mean(axis=1) * self.rest[:, columns].mean(axis=1)
        return int(np.argmax(lost <= _SLACK * self.threshold))

    def bounds(self, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """What Q or -Q must exceed, and Q: float32 [4, rows, columns], for the orientations of _PLUS."""
        level = self.level(rows, columns)
        one, other = self.levels[level]
        length, width = len(self.kept[rows]), len(self.kept[columns])
        left = np.empty((4, length, one + 2), np.float32)
        np.multiply(self.kept[rows, :one], -self.signs[:, None, :one], out=left[..., :one])
        left[..., one], left[..., one + 1] = -self.rest[level, rows], self.threshold - _MARGIN
        right = np.ones((width, one + 2), np.float32)
        right[:, :one], right[:, one] = self.kept[columns, :one], self.rest[level, columns]
        p, q = self.couples[rows, 0, :other], self.couples[rows, 1, :other]
        turned = np.stack([np.hstack(both) for both in ((p, q), (-q, p), (p, -q), (q, p))])
        couples = self.couples[columns, :, :other].reshape(width, -1)
        shape = 4, length, width
        needed = left.reshape(4 * length, -1) @ right.T
        return needed.reshape(shape), (turned.reshape(4 * length, -1) @ couples.T).reshape(shape)


@dataclass(frozen=True, eq=False)
class _Axes:
    """Orthonormal axes that mirroring and turning only swap and negate, by falling energy.

    Attributes:
        parts: of the four kept parts, float64 [D, D] each, axes as columns.
        order: int64 [K], of all four parts' axes, side by side.
        signs: float32 [4, K], of the axes so ordered.
        couples: float64 [C, C], axes as columns.
        energies: mean squares along the kept axes [K] and the couples [C].
    """

    parts: list[np.ndarray]
    order: np.ndarray
    signs: np.ndarray
    couples: np.ndarray
    energies: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, textures: np.ndarray) -> _Axes:
        *parts, couples = _split(textures.astype(np.float64))
        found = [np.linalg.eigh(part.T @ part / len(textures)) for part in parts]
        both = couples.reshape(-1, couples.shape[2])
        energy, axes = np.linalg.eigh(both.T @ both / len(both))
        energies = np.concatenate([values for values, _ in found])
        order = np.argsort(-energies, kind="stable")
        signs = np.repeat(_KEPT, [len(values) for values, _ in found], axis=1)[:, order]
        return cls(
            [vectors for _, vectors in found], order, signs, axes[:, ::-1], (energies[order], energy[::-1])
        )

    def project(self, textures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of textures, float64: [N, K] and [N, 2, C]."""
        *parts, couples = _split(textures.astype(np.float64))
        kept = np.hstack([part @ axes for part, axes in zip(parts, self.parts, strict=True)])
        return kept[:, self.order], couples @ self.couples

    def levels(self) -> list[tuple[int, int]]:
        """Numbers of first axes of both kinds, those of most energy."""
        kept, couples = self.energies
        least = np.sort(np.concatenate((kept, couples, couples)))[::-1]
        counts = [count for count in _COUNTS if count < len(least)]
        chosen = [(int((kept >= least[n]).sum()), int((couples >= least[n]).sum())) for n in counts]
        return [*chosen, (len(kept), len(couples))]


def _split(textures: np.ndarray) -> list[np.ndarray]:
    """Four parts [N, D] that orientations keep or negate, and couples [N, 2, C]; together of the same length.

    Even and odd halves across both middles; those odd across one alone are swapped by a quarter turn.
    """
    half = textures.shape[1] // 2
    top, bottom = textures[:, :half], textures[:, : half - 1 : -1]
    even, odd = (top + bottom) / 2, (top - bottom) / 2
    one, other = even[..., :half], even[..., : half - 1 : -1]
    two, another = odd[..., :half], odd[..., : half - 1 : -1]
    above, below = np.triu_indices(half), np.triu_indices(half, 1)
    parts = []
    for square in (one + other, two - another):
        mirrored = square.transpose(0, 2, 1)
        weight = np.where(above[0] == above[1], 0.5, np.sqrt(0.5))
        parts.append((square + mirrored)[:, above[0], above[1]] * weight)
        parts.append((square - mirrored)[:, below[0], below[1]] * np.sqrt(0.5))
    couples = np.stack((one - other, (two + another).transpose(0, 2, 1)), axis=1)
    return [*parts, couples.reshape(len(textures), 2, -1)]


def _tails(squares: np.ndarray) -> np.ndarray:
    """Sums over the last k entries, k falling from all to none: [N, K] to [N, K + 1]."""
    tails = np.zeros((len(squares), squares.shape[1] + 1))
    tails[:, :-1] = squares[:, ::-1].cumsum(axis=1)[:, ::-1]
    return tails


def _search_tile(textures: np.ndarray, coordinates: _Coordinates, row: int, column: int) -> np.ndarray:
    """Pairs over the threshold of 256 textures with 1,024 of the same or later places in the order."""
    needed, turned = coordinates.bounds(slice(row, row + _ROWS), slice(column, column + _COLUMNS))
    plus = np.flatnonzero(np.abs(turned) > needed)
    kind, first, second = np.unravel_index(plus, turned.shape)
    first, second = first + row, second + column
    found, needed = turned.ravel()[plus], needed.ravel()[plus]
    over = [(found > needed) & (first < second), (-found > needed) & (first < second)]
    first, second = coordinates.order[first], coordinates.order[second]
    orientation = np.concatenate((_PLUS[kind[over[0]]], _MINUS[kind[over[1]]]))
    pairs = np.concatenate([np.column_stack((first[each], second[each])) for each in over])
    return _correlate(textures, pairs, orientation, coordinates.threshold)


def _correlate(
    textures: np.ndarray, pairs: np.ndarray, orientation: np.ndarray, threshold: float
) -> np.ndarray:
    """Rows (first, second, orientation, correlation) over the threshold; of several orientations, the best."""
    backwards = pairs[:, 0] > pairs[:, 1]
    orientation = np.where(backwards, inverse(orientation), orientation)
    pairs = np.sort(pairs, axis=1)
    found = [np.empty((0, 4))]
    for turn in range(ORIENTATIONS):
        chosen = pairs[orientation == turn]
        for start in range(0, len(chosen), _CHUNK):
            first, second = chosen[start : start + _CHUNK].T
            ones = orient(textures[first], int(inverse(turn))).reshape(len(first), -1)
            others = textures[second].reshape(len(second), -1)
            near = np.einsum("ij,ij->i", ones, others) > threshold - _MARGIN
            exact = np.einsum("ij,ij->i", ones[near].astype(np.float64), others[near].astype(np.float64))
            rows = np.column_stack((first[near], second[near], np.full(len(exact), turn), exact))
            found.append(rows[exact > threshold])
    return _best(np.concatenate(found))


def inverse(orientation: np.ndarray | int) -> np.ndarray:
    """Orientations that undo these: a mirrored turn undoes itself."""
    return np.where(np.asarray(orientation) >= 4, orientation, -np.asarray(orientation) % 4)


def _best(rows: np.ndarray) -> np.ndarray:
    """Of each pair's rows the one of greatest correlation; the first orientation of equal ones."""
    rows = rows[np.lexsort((rows[:, 2], -rows[:, 3].round(6), rows[:, 1], rows[:, 0]))]
    is_best = np.ones(len(rows), dtype=bool)
    is_best[1:] = (np.diff(rows[:, :2], axis=0) != 0).any(axis=1)
    return rows[is_best]
