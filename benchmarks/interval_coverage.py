"""How often a 95% interval holds the true score, by the number of patients.

Draws data sets whose groups are as uneven as patients of blood-cell sets are: 9 to 757 images a group,
most groups almost always classified rightly and some hardly ever. Prints, for each number of groups and
each metric, the share of data sets whose interval holds the true score, and the median width, for

    ours         kerasall.evaluation.intervals.Scorer
    percentile   plain percentiles of a group bootstrap within classes
    images       percentiles of a bootstrap of single images

Usage:
    python benchmarks/interval_coverage.py                       # 1,000 data sets per row, some minutes on 2 cores
    python benchmarks/interval_coverage.py --simulations 200 --scenario few_bad
    python benchmarks/interval_coverage.py --classes 4 --groups 40

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

from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.metrics import METRICS
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.resampling import Draws, Resampler, find_units, unit_counts

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


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=1000, help="data sets per row (default 1000)")
    parser.add_argument("--groups", type=int, nargs="+", default=[12, 28, 73, 200])
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="skewed")
    parser.add_argument(
        "--metrics", nargs="+", default=["accuracy", "balanced_accuracy", "f1_weighted", "roc_auc"]
    )
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8))
    options = parser.parse_args()
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
