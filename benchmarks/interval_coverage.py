"""How often a 95% interval holds the true score, by the number of patients.

Draws data sets whose groups are as uneven as patients of blood-cell sets are: 9 to 757 images a group,
most groups almost always classified rightly and some hardly ever. Prints, for each number of groups and
each metric, the share of data sets whose interval holds the true score, and the median width, for

    ours         kerasall.evaluation.intervals.Scorer
    percentile   plain percentiles of a group bootstrap within classes
    images       percentiles of a bootstrap of single images

With ``--grid`` it goes through a grid for one proportion (or the accuracy of two classes): 3 to 73 groups in
the denominator, means of 0.8 to 1, groups of 40 images or of 9 to 757, and three kinds of patients:

    mild         their accuracies have an intraclass correlation of 0.05
    clustered    of 0.3
    few bad      3% of them have 10% of their images right, the others a correlation of 0.02

and prints beside ours the plain bootstrap of groups, Student's t on the groups (of the ratio's residuals) and
the same with the rule of three where no group has a fault (lower end 1 - 3/groups). Then come the cells in
which ours misses the bar: coverage less two standard errors at least 0.93 from 10 groups on, 0.90 from 5, and in
the mild case a median width of at most 1.2 times Student's.

Usage:
    python benchmarks/interval_coverage.py                       # 1,000 data sets per row, some minutes on 2 cores
    python benchmarks/interval_coverage.py --simulations 200 --scenario few_bad
    python benchmarks/interval_coverage.py --classes 4 --groups 40
    python benchmarks/interval_coverage.py --grid                # 2,000 data sets per cell, some minutes on 1 core
    python benchmarks/interval_coverage.py --grid --figure accuracy --bad-share 0.1

The same arguments print the same table.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the processes share the cores already

import numpy as np
from scipy.special import stdtrit

from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import (
    UNSEEN,
    Draws,
    Resampler,
    Units,
    draw_weights,
    find_units,
    unit_counts,
)

METHODS = ("ours", "percentile", "images")
RESAMPLES = 1000


@dataclass(frozen=True)
class Scenario:
    """How group accuracies are spread: a share of bad groups, and the beta distributions of all.

    Attributes:
        good: (a, b) of the beta distribution of the other groups, per class, repeated if too few.
        bad: (a, b) of the bad groups.
        bad_share: share of bad groups per class.
    """

    good: tuple[tuple[float, float], ...]
    bad: tuple[float, float] = (3.0, 6.0)
    bad_share: tuple[float, ...] = (0.0,)

    def draw(self, rng: np.random.Generator, kind: int, count: int) -> np.ndarray:
        """Accuracies of ``count`` groups of class ``kind``."""
        bad = rng.random(count) < self.bad_share[kind % len(self.bad_share)]
        return np.where(bad, rng.beta(*self.bad, count), rng.beta(*self.good[kind % len(self.good)], count))

    def mean(self, kind: int) -> float:
        """True accuracy of class ``kind``."""
        share = self.bad_share[kind % len(self.bad_share)]
        (a, b), (c, d) = self.good[kind % len(self.good)], self.bad
        return (1 - share) * a / (a + b) + share * c / (c + d)


SCENARIOS = {
    # Means .70 and .90, from about .3 to 1: the spread published for 28 patients of C-NMC's preliminary test.
    "skewed": Scenario(good=((2.1, 0.9), (2.7, 0.3))),
    # Nearly all groups almost perfect, a few almost always wrong: the hardest, as a sample may hold none of them.
    "few_bad": Scenario(good=((30.0, 1.5),), bad_share=(0.25, 0.1)),
    # Groups hardly differ: an interval may be too wide here.
    "alike": Scenario(good=((40.0, 6.0),)),
}


def draw_sizes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Images per group: log-normal, median 100, cut to the range of C-NMC's patients."""
    return np.clip(np.round(np.exp(rng.normal(np.log(100), 1.0, count))), 9, 757).astype(int)


def groups_per_class(groups: int, classes: int) -> np.ndarray:
    """Two classes as C-NMC's 26 and 47 patients, more classes evenly."""
    shares = np.array([26, 47]) if classes == 2 else np.ones(classes)
    counts = np.floor(groups * shares / shares.sum()).astype(int)
    counts[-1] += groups - counts.sum()
    return counts


def simulate(rng: np.random.Generator, scenario: Scenario, counts: np.ndarray) -> Predictions:
    """One data set with ``counts[c]`` groups of class c."""
    kinds, classes = np.repeat(np.arange(len(counts)), counts), len(counts)
    accuracies = np.concatenate([scenario.draw(rng, kind, count) for kind, count in enumerate(counts)])
    groups = np.repeat(np.arange(len(kinds)), draw_sizes(rng, len(kinds)))
    labels, right = kinds[groups], rng.random(len(groups)) < accuracies[groups]
    decisions = np.where(right, labels, (labels + rng.integers(1, classes, len(groups))) % classes)
    sure = 1 / classes + (1 - 1 / classes) * rng.random(len(groups)) ** np.where(right, 0.5, 1.5)
    probabilities = np.repeat((1 - sure)[:, None] / (classes - 1), classes, axis=1)
    probabilities[np.arange(len(groups)), decisions] = sure
    names = np.arange(len(groups)).astype(str)
    return Predictions(
        names, groups.astype(str), groups.astype(str), labels, probabilities, tuple(f"c{k}" for k in range(classes)), decisions
    )  # fmt: skip


def true_scores(scenario: Scenario, counts: np.ndarray, metrics: list[str]) -> dict[str, float]:
    """The score over all images that could be drawn: exact from the mean matrix, else of 6,000 groups."""
    classes, mask = len(counts), np.zeros(len(counts), bool)
    means = np.array([scenario.mean(kind) for kind in range(classes)])
    matrix = np.repeat(((1 - means) / (classes - 1))[:, None], classes, axis=1)
    matrix[np.diag_indices(classes)] = means
    matrix *= counts[:, None]
    truth = {m: float(METRICS[m].formula(matrix, mask)) for m in metrics if METRICS[m].formula}
    if len(truth) < len(metrics):
        large = simulate(np.random.default_rng(0), scenario, counts * (6000 // counts.sum()))
        truth |= {m: METRICS[m](large) for m in metrics if m not in truth}
    return truth


def plain_ends(predictions: Predictions, metrics: list[str], seed: int) -> dict[str, dict[str, tuple]]:
    """Percentile intervals of the plain group bootstrap and of the image bootstrap."""
    rng, units = np.random.default_rng(seed), find_units(predictions)
    weights = np.zeros((RESAMPLES, len(units.sizes)))
    for members in units.membership:
        count = int(members.sum())
        weights[:, members] = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    resampler = Resampler(predictions, units, Draws(weights, np.zeros((RESAMPLES, len(units.classes)))))
    matrix = unit_counts(predictions, units).sum(axis=0)
    cells = rng.multinomial(len(predictions), matrix.ravel() / matrix.sum(), RESAMPLES).reshape(
        -1, *matrix.shape
    )
    ends = {"percentile": {}, "images": {}}
    for name in metrics:
        metric = METRICS[name]
        ends["percentile"][name] = tuple(np.nanquantile(resampler.score(metric)[0], [0.025, 0.975]))
        if metric.formula:
            ends["images"][name] = tuple(
                np.nanquantile(metric.formula(cells.astype(float), resampler.malignant), [0.025, 0.975])
            )
    return ends


def one_data_set(
    index: int, scenario: Scenario, counts: np.ndarray, metrics: list[str]
) -> dict[str, dict[str, tuple]]:
    """The intervals of every method on data set number ``index``."""
    predictions = simulate(np.random.default_rng([index, int(counts.sum())]), scenario, counts)
    intervals = Scorer(predictions, resamples=RESAMPLES, seed=index).intervals(metrics)
    return {
        "ours": {m: (i.low, i.high) for m, i in intervals.items()},
        **plain_ends(predictions, metrics, index),
    }


def print_rows(groups: int, results: list[dict], truth: dict[str, float]) -> None:
    """One line per metric: coverage and median width by method."""
    for name, true in truth.items():
        cells = []
        for method in METHODS:
            if name not in results[0][method]:
                cells.append(f"{'-':>14}")
                continue
            low, high = np.array([result[method][name] for result in results]).T
            cells.append(f"{np.mean((low <= true) & (true <= high)):6.3f} ({np.median(high - low):.3f})")
        print(f"{groups:6d}  {name:20s} {true:6.3f}  {'  '.join(cells)}", flush=True)


# --- a grid for one proportion: the counts of the groups suffice, so that a cell takes a second ------------


GRID_GROUPS = (3, 5, 10, 15, 25, 47, 73)
GRID_MEANS = (0.8, 0.9, 0.95, 0.99, 1.0)
GRID_KINDS = {"mild": 0.05, "clustered": 0.3, "few bad": 0.02}
GRID_METHODS = ("ours", "bootstrap", "t", "t, rule of 3")
BAD = 0.1


@dataclass(frozen=True)
class Cell:
    """Data sets of one kind: ``groups`` a class, of ``classes`` classes that are pooled; of two, twice as many are of the second."""

    groups: int
    mean: float
    kind: str
    uneven: bool
    classes: int = 1
    bad_share: float = 0.03

    @property
    def strata(self) -> np.ndarray:
        """int [G]."""
        return np.repeat(np.arange(self.classes), self.groups * (1 + np.arange(self.classes)))

    @property
    def good(self) -> float:
        """Mean of the patients that are not bad: below 1 - bad_share the mean of all is ``mean``."""
        if self.kind != "few bad" or self.mean == 1:
            return self.mean
        return min((self.mean - self.bad_share * BAD) / (1 - self.bad_share), 1.0)

    @property
    def truth(self) -> float:
        """The true proportion."""
        return (
            self.good
            if self.kind != "few bad" or self.mean == 1
            else self.good + self.bad_share * (BAD - self.good)
        )

    def draw(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Right images and images of each group: float [count, G] both."""
        rng, shape = (
            np.random.default_rng([self.groups, round(100 * self.mean), self.uneven]),
            (count, len(self.strata)),
        )
        sizes = draw_sizes(rng, count * shape[1]).reshape(shape) if self.uneven else np.full(shape, 40)
        spread = 1 / GRID_KINDS[self.kind] - 1
        chances = (
            np.ones(shape)
            if self.good == 1
            else rng.beta(self.good * spread, (1 - self.good) * spread, shape)
        )
        if self.kind == "few bad" and self.mean < 1:
            chances[rng.random(shape) < self.bad_share] = BAD
        return rng.binomial(sizes, chances).astype(float), sizes.astype(float)


def grid_ends(
    rights: np.ndarray,
    sizes: np.ndarray,
    strata: np.ndarray,
    resamples: int,
    seed: int = 0,
    weight: float = UNSEEN,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Ends of every method's intervals of D data sets: method -> float [D], float [D].

    Args:
        rights, sizes: right images and images of each group, float [D, G].
        strata: class of each group, int [G].
        resamples: draws.
        seed: of the draws.
        weight: of the unseen group.
    """
    classes, counts = np.unique(strata, return_counts=True)
    units = Units(
        np.arange(len(strata)), np.ones(len(strata), int), strata, classes, counts, np.ones(len(classes))
    )
    ours, rng = draw_weights(units, resamples, seed, weight / len(classes)), np.random.default_rng(seed)
    plain = np.zeros_like(ours.units)
    for members in units.membership:
        plain[:, members] = rng.multinomial(
            members.sum(), np.full(members.sum(), 1 / members.sum()), resamples
        )
    typical = [np.sqrt((sizes[:, members] ** 2).mean(axis=1)) for members in units.membership]
    unseen = np.stack(typical, axis=1) @ ours.unseen.T
    right, images = rights @ ours.units.T, sizes @ ours.units.T + unseen
    value = rights.sum(axis=1) / sizes.sum(axis=1)
    shares = (rights @ plain.T) / (sizes @ plain.T)
    low, high = student_ends(rights, sizes, value, units.membership)
    perfect = (rights == sizes).all(axis=1)
    return {
        "ours": (
            np.minimum(np.quantile(right / images, 0.025, axis=1), value),
            np.maximum(np.quantile((right + unseen) / images, 0.975, axis=1), value),
        ),
        "bootstrap": (np.quantile(shares, 0.025, axis=1), np.quantile(shares, 0.975, axis=1)),
        "t": (low, high),
        "t, rule of 3": (np.where(perfect, max(0, 1 - 3 / len(strata)), low), high),
    }


def student_ends(
    rights: np.ndarray, sizes: np.ndarray, value: np.ndarray, membership: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Ends by Student's t: the linearised variance of the ratio over groups within classes."""
    residuals, variance = rights - value[:, None] * sizes, 0.0
    for members in membership:
        variance = variance + members.sum() * residuals[:, members].var(axis=1, ddof=1)
    half = stdtrit(membership.sum() - len(membership), 0.975) * np.sqrt(variance) / sizes.sum(axis=1)
    return np.maximum(value - half, 0), np.minimum(value + half, 1)


def print_cell(cell: Cell, count: int, resamples: int, weight: float) -> list[str]:
    """Prints one row; returns what misses the bar."""
    ends = grid_ends(*cell.draw(count), cell.strata, resamples, weight=weight)
    covered, widths = {}, {}
    for name, (low, high) in ends.items():
        covered[name] = float(np.mean((low <= cell.truth + 1e-9) & (cell.truth - 1e-9 <= high)))
        widths[name] = float(np.median(high - low))
    words = "  ".join(f"{covered[name]:6.3f} ({widths[name]:.3f})" for name in GRID_METHODS)
    row = f"{cell.kind:10s} {'uneven' if cell.uneven else 'even':6s} {cell.truth:6.3f} {len(cell.strata):6d}"
    print(f"{row}  {words}", flush=True)
    least = 0.93 if len(cell.strata) >= 10 else 0.9 if len(cell.strata) >= 5 else 0.0
    error, missed = np.sqrt(covered["ours"] * (1 - covered["ours"]) / count), []
    if covered["ours"] - 2 * error < least:
        missed.append(f"{row}  coverage {covered['ours']:.3f} less {2 * error:.3f} is below {least}")
    if cell.kind == "mild" and len(cell.strata) >= 5 and widths["ours"] > 1.2 * widths["t"]:
        missed.append(f"{row}  width {widths['ours']:.3f} is above 1.2 times {widths['t']:.3f}")
    return missed


def print_grid(options: argparse.Namespace) -> None:
    """The grid, and what misses the bar."""
    count, missed = options.simulations or 2000, []
    print(f"{count} data sets a cell, {options.figure}, {options.resamples} draws; coverage (median width)")
    print(
        f"{'patients':10s} {'sizes':6s} {'true':>6} {'groups':>6}  "
        + "  ".join(f"{m:>14}" for m in GRID_METHODS)
    )
    for kind in GRID_KINDS:
        for uneven in (False, True):
            for mean in GRID_MEANS:
                for groups in GRID_GROUPS:
                    cell = Cell(
                        groups, mean, kind, uneven, 1 + (options.figure == "accuracy"), options.bad_share
                    )
                    missed += print_cell(cell, count, options.resamples, options.unseen)
    print("\nBelow the bar:" if missed else "\nNothing is below the bar.")
    print("\n".join(missed))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, help="data sets per row (default 1000, of the grid 2000)")
    parser.add_argument(
        "--grid", action="store_true", help="one proportion over a grid of groups, means and kinds"
    )
    parser.add_argument(
        "--figure",
        choices=("sensitivity", "accuracy"),
        default="sensitivity",
        help="of the grid: one class, or two pooled",
    )
    parser.add_argument(
        "--bad-share", type=float, default=0.03, help="of the grid: share of very bad patients"
    )
    parser.add_argument(
        "--unseen", type=float, default=UNSEEN, help="of the grid: weight of the unseen group, in groups"
    )
    parser.add_argument("--resamples", type=int, default=2000, help="of the grid: draws")
    parser.add_argument("--groups", type=int, nargs="+", default=[12, 28, 73, 200])
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="skewed")
    parser.add_argument(
        "--metrics", nargs="+", default=["accuracy", "balanced_accuracy", "f1_weighted", "roc_auc"]
    )
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8))
    options = parser.parse_args()
    if options.grid:
        print_grid(options)
        return
    options.simulations = options.simulations or 1000
    scenario = SCENARIOS[options.scenario]
    print(f"{options.simulations} data sets, {options.classes} classes, scenario {options.scenario}")
    print(
        f"{'groups':>6}  {'metric':20s} {'true':>6}  "
        + "  ".join(f"{m:>14}" for m in METHODS)
        + "   coverage (median width)"
    )
    with ProcessPoolExecutor(options.workers) as pool:
        for groups in options.groups:
            counts = groups_per_class(groups, options.classes)
            task = partial(one_data_set, scenario=scenario, counts=counts, metrics=options.metrics)
            results = list(pool.map(task, range(options.simulations), chunksize=10))
            print_rows(groups, results, true_scores(scenario, counts, options.metrics))


if __name__ == "__main__":
    main()
