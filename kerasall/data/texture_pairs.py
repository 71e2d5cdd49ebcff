"""Pairs of textures that correlate in one of eight orientations, found among all pairs, exactly, at little cost.

A full product of all pairs costs 8 x 1,024 multiplications a pair of 32 px textures. Here most pairs are ruled out
by a bound. Textures are turned into coordinates on which mirroring and turning only swap and negate: four parts that
an orientation keeps or negates, and one of couples that it also swaps. Of the eight correlations, then, two at a time
are P + Q and P - Q, with P and Q of half the coordinates each; and the four P, as the four Q, are sums and differences
of four products that have to be made but once. Within every part the axes are those of most energy
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
from threading import Event

import numpy as np
from threadpoolctl import threadpool_limits

from kerasall.data.likeness import ORIENTATIONS, orient

_ROWS, _COLUMNS = 128, 512
"""Sides of a tile of pairs: its products stay in a core's cache."""
_SAMPLE = 2048
"""Textures whose principal components are taken; the bound holds on any axes."""
_CHUNK = 512
"""Textures or pairs in double precision at a time."""
_MOST_WAITING = 1 << 15
"""Pairs of a row of tiles that wait to be correlated together, which spares many small calls."""
_COUNTS = (48, 64, 96, 128, 160, 192, 256, 384, 512, 768)
"""Numbers of first coordinates to choose from, besides all."""
_SLACK = 0.2
"""Mean of |rest of a| |rest of b|, as a share of the threshold, that the bound may lose."""
_MARGIN = 5e-4
"""Above the greatest rounding error of float32 products of unit vectors of 1,024, in however many sums (3 x 1e-4)."""
_HALVES = (0, 3), (1, 2)
"""The four parts that are only kept or negated, two by two: with A and B, C and D the two parts' sums and differences in
either half, P is A + B, C - D, C + D and A - B under the orientations below."""
_PLUS, _MINUS = np.array([0, 5, 6, 1]), np.array([2, 7, 4, 3])
"""Orientations whose correlation is P + Q and P - Q: a turn by half negates all couples."""


def correlated_pairs(textures: np.ndarray, threshold: float) -> Generator[np.ndarray, None, None]:
    """All pairs whose best orientation correlates above the threshold.

    Args:
        textures: float32 [N, side, side], unit length each; the side is even.
        threshold: in (0, 1].

    Yields:
        float64 [P, 4], one array for every 128 textures: first < second, the second's orientation towards the
        first, their correlation.
    """
    if len(textures) == 0:
        return
    pool, ended = ThreadPoolExecutor(os.cpu_count()), Event()
    # Tiles side by side with one thread each: threads within such small products would wait for one another.
    with threadpool_limits(1, user_api="blas"):
        try:
            coordinates = _Coordinates.of(textures, threshold, pool)
            starts = range(0, len(textures), _ROWS)
            yield from pool.map(lambda start: _search_row(textures, coordinates, start, ended), starts)
        finally:  # whoever asks for no more waits for the tiles in work alone
            ended.set()
            pool.shutdown(cancel_futures=True)


def block_count(number: int) -> int:
    """How many arrays ``correlated_pairs`` yields for so many textures."""
    return -(-number // _ROWS)


@dataclass(frozen=True, eq=False)
class _Coordinates:
    """Textures on axes of falling energy, sorted so that those alike in compactness stand together.

    Attributes:
        order: int64 [N], rows of the textures.
        threshold: that correlations must exceed.
        kept: coordinates that an orientation keeps or negates, in two halves, float32 [N, K] each.
        signs: float32 [K] of each half: which of them the last two orientations negate.
        couples: float32 [2, N, C], coordinates that it also swaps.
        levels: numbers of first coordinates (of either half, of C), rising to all.
        rest: float32 [levels, N], length of what the first coordinates leave out.
    """

    order: np.ndarray
    threshold: float
    kept: list[np.ndarray]
    signs: list[np.ndarray]
    couples: np.ndarray
    levels: list[tuple[int, ...]]
    rest: np.ndarray

    @classmethod
    def of(cls, textures: np.ndarray, threshold: float, pool: ThreadPoolExecutor) -> _Coordinates:
        axes = _Axes.of(textures[:: -(-len(textures) // _SAMPLE)])
        kept = [np.empty((len(textures), len(signs)), np.float32) for signs in axes.signs]
        couples = np.empty((2, len(textures), len(axes.couples)), np.float32)
        levels = axes.levels()
        rest = np.empty((len(levels), len(textures)), np.float32)

        def fill(start: int) -> None:
            rows = slice(start, start + _CHUNK)
            *exact, exact_couples = axes.project(textures[rows])
            for half, values in zip(kept, exact, strict=True):
                half[rows] = values
            couples[:, rows] = exact_couples.swapaxes(0, 1)
            tails = [_tails(values**2) for values in exact] + [_tails((exact_couples**2).sum(axis=1))]
            for level, counts in enumerate(levels):
                left_out = [tail[:, count] for tail, count in zip(tails, counts, strict=True)]
                rest[level, rows] = np.sqrt(np.sum(left_out, axis=0))

        list(pool.map(fill, range(0, len(textures), _CHUNK)))
        # Rises towards textures that need many coordinates.
        order = np.argsort((rest > np.sqrt(_SLACK * threshold)).sum(axis=0), kind="stable")
        return cls(
            order,
            threshold,
            [half[order] for half in kept],
            axes.signs,
            couples[:, order],
            levels,
            rest[:, order],
        )

    def level(self, rows: slice, columns: slice) -> int:
        """The first at which the bound loses little between these textures."""
        lost = self.rest[:, rows].mean(axis=1) * self.rest[:, columns].mean(axis=1)
        return int(np.argmax(lost <= _SLACK * self.threshold))

    def bounds(self, rows: slice, columns: slice, tile: _Tile) -> None:
        """What Q or -Q must exceed, and Q, for the orientations of _PLUS.

        With A, B and C, D the products of the two halves, as they are and with their signs, -P is -A - B, -C + D,
        -C - D and -A + B; Q is a sum or a difference of two products of couples.
        """
        level = self.level(rows, columns)
        one, another, coupled = self.levels[level]
        left, right = self.kept[0][rows, :one], self.kept[0][columns, :one]
        # Two coordinates more bring what the rest may add, and the threshold.
        left = np.stack([_widen(-left * signs, -self.rest[level, rows], self.threshold - _MARGIN)
                         for signs in (1, self.signs[0][:one])])  # fmt: skip
        np.matmul(left, _widen(right, self.rest[level, columns], 1).T, out=tile.halves[0])
        left, right = self.kept[1][rows, :another], self.kept[1][columns, :another]
        np.matmul(np.stack((left, left * self.signs[1][:another])), right.T, out=tile.halves[1])
        left, right = self.couples[:, rows, :coupled], self.couples[:, columns, :coupled]
        np.matmul(left[:, None], right.transpose(0, 2, 1)[None], out=tile.couples)
        np.subtract(*tile.halves, out=tile.needed[0::2])
        np.add(*tile.halves, out=tile.needed[3::-2])
        np.add(tile.couples[0], tile.couples[1, ::-1], out=tile.turned[:2])
        np.subtract(tile.couples[0], tile.couples[1, ::-1], out=tile.turned[2:])


def _widen(coordinates: np.ndarray, rest: np.ndarray, last: float) -> np.ndarray:
    wide = np.full((len(coordinates), coordinates.shape[1] + 2), last, np.float32)
    wide[:, :-2], wide[:, -2] = coordinates, rest
    return wide


class _Tile:
    """Room for the products of some textures with others, used again and again: to get it takes as long as they do."""

    def __init__(self, rows: int, columns: int) -> None:
        self.halves = np.empty((2, 2, rows, columns), np.float32)
        self.couples = np.empty((2, 2, rows, columns), np.float32)
        self.needed, self.turned, self.sizes = np.empty((3, 4, rows, columns), np.float32)
        self.exceeds = np.empty((4, rows, columns), bool)


@dataclass(frozen=True, eq=False)
class _Axes:
    """Orthonormal axes that mirroring and turning only swap and negate, by falling energy.

    Attributes:
        parts: of the four kept parts, float64 [D, D] each, axes as columns.
        orders: int64 [K] of either half of the parts: of both parts' axes, side by side.
        signs: float32 [K] of either half, -1 for axes of its second part.
        couples: float64 [C, C], axes as columns.
        energies: mean squares along the kept axes, [K] of either half, and the couples [C].
    """

    parts: list[np.ndarray]
    orders: list[np.ndarray]
    signs: list[np.ndarray]
    couples: np.ndarray
    energies: list[np.ndarray]

    @classmethod
    def of(cls, textures: np.ndarray) -> _Axes:
        *parts, couples = _split(textures.astype(np.float64))
        found = [np.linalg.eigh(part.T @ part / len(textures)) for part in parts]
        both = couples.reshape(-1, couples.shape[2])
        energy, axes = np.linalg.eigh(both.T @ both / len(both))
        orders, signs, energies = [], [], []
        for one, other in _HALVES:
            values = np.concatenate((found[one][0], found[other][0]))
            orders.append(np.argsort(-values, kind="stable"))
            energies.append(values[orders[-1]])
            signs.append(np.where(orders[-1] < len(found[one][0]), 1, -1).astype(np.float32))
        couples_axes = np.ascontiguousarray(axes[:, ::-1])
        return cls([vectors for _, vectors in found], orders, signs, couples_axes, [*energies, energy[::-1]])

    def project(self, textures: np.ndarray) -> list[np.ndarray]:
        """Coordinates of textures, float64: [N, K] of either half, and [N, 2, C]."""
        *parts, couples = _split(textures.astype(np.float64))
        kept = [part @ axes for part, axes in zip(parts, self.parts, strict=True)]
        halves = [np.hstack((kept[one], kept[other])) for one, other in _HALVES]
        halves = [half[:, order] for half, order in zip(halves, self.orders, strict=True)]
        # All in one product: of a stack, NumPy would make one small product a texture.
        return [*halves, (couples.reshape(-1, len(self.couples)) @ self.couples).reshape(couples.shape)]

    def levels(self) -> list[tuple[int, ...]]:
        """Numbers of first axes of all kinds, those of most energy."""
        least = np.sort(np.concatenate((*self.energies, self.energies[-1])))[::-1]
        counts = [count for count in _COUNTS if count < len(least)]
        chosen = [tuple(int((values >= least[n]).sum()) for values in self.energies) for n in counts]
        return [*chosen, tuple(map(len, self.energies))]


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


def _search_row(textures: np.ndarray, coordinates: _Coordinates, row: int, ended: Event) -> np.ndarray:
    """Pairs over the threshold of 128 textures with those of the same or later places in the order."""
    rows, found, waiting, tile = slice(row, row + _ROWS), [np.empty((0, 4))], [], None
    for column in range(row, len(textures), _COLUMNS):
        if ended.is_set():
            break
        columns = slice(column, min(column + _COLUMNS, len(textures)))
        size = len(coordinates.order[rows]), columns.stop - column
        if tile is None or tile.exceeds.shape[1:] != size:
            tile = _Tile(*size)
        coordinates.bounds(rows, columns, tile)
        np.greater(np.abs(tile.turned, out=tile.sizes), tile.needed, out=tile.exceeds)
        hits = np.flatnonzero(tile.exceeds)
        kind, first, second = np.unravel_index(hits, tile.exceeds.shape)
        turned, needed = tile.turned.ravel()[hits], tile.needed.ravel()[hits]
        for orientations, exceeds in ((_PLUS, turned > needed), (_MINUS, -turned > needed)):
            chosen = exceeds & (first + row < second + column)
            waiting.append(np.stack((first + row, second + column, orientations[kind]))[:, chosen])
        if sum(each.shape[1] for each in waiting) > _MOST_WAITING or columns.stop == len(textures):
            first, second, orientation = np.concatenate(waiting, axis=1)
            pairs = np.column_stack((coordinates.order[first], coordinates.order[second]))
            found.append(_correlate(textures, pairs, orientation, coordinates.threshold))
            waiting.clear()
    return np.concatenate(found)


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
