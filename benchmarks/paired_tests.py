"""How often tests of two systems on the same images find a difference that is none, and one that is.

Draws data sets of 3 to 73 patients in which two systems are equally good, and the same with the second erring
1.5 times as often. Patients are as uneven as in blood-cell sets (9 to 757 images, median 100) or hold few images
(1 to 60, median 8), and

    mild        patients are a little harder or easier, alike for both systems
    clustered   the more so, and each system has patients of its own that it finds hard
    few_bad     as mild, but each system is right in only 10% of the images of 3% of patients of its own
    unlike      only the first system is that bad, and better in all other patients: equal on the whole

Prints the share of data sets with p <= .05 as level (power) for

    McNemar     exact, over images
    flips       kerasall.evaluation.paired_tests.flip_p_value over patients: what ``kerasall compare`` uses
    Durkalski   chi-squared of (sum of d/n)^2 / sum of (d/n)^2 (Stat. Med. 22:2417, 2003), d the net right of n images
    Obuchowski  chi-squared of (1 - 1/G) (sum of d)^2 / sum of d^2 (Stat. Med. 17:1495, 1998)
    jackknife   kerasall.evaluation.paired_tests.paired_difference of balanced accuracy, from 6 patients on

and the mean number of patients in whom the systems differ at all, without which no test can tell them apart.

Usage:
    python benchmarks/paired_tests.py                      # 2,000 data sets a row, 2 minutes on one core
    python benchmarks/paired_tests.py --simulations 500 --scenario few_bad --sizes small

The same arguments print the same table.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import bdtr, chdtrc, expit, stdtr

from kerasall.evaluation.paired_tests import flip_p_value

TESTS = ("McNemar", "flips", "Durkalski", "Obuchowski", "jackknife")
ERRING = 1.5
"""How many times as often the second system errs where it is worse."""

BAD_ACCURACY = 0.1
SHARED = 0.5
"""Share of images on which both systems err for the same reason."""


@dataclass(frozen=True)
class Scenario:
    """Spread of patients: standard deviations of logits, common and own, and the share of very bad ones by system."""

    common: float
    own: float
    bad: tuple[float, float] = (0.0, 0.0)

    def draw(
        self, rng: np.random.Generator, centres: tuple[float, float], shape: tuple[int, ...]
    ) -> np.ndarray:
        """Accuracies of both systems, float [2, *shape]."""
        common, systems = rng.normal(0, self.common, shape), []
        for centre, bad in zip(centres, self.bad, strict=True):
            accuracy = expit(centre + common + rng.normal(0, self.own, shape))
            systems.append(np.where(rng.random(shape) < bad, BAD_ACCURACY, accuracy))
        return np.stack(systems)


SCENARIOS = {
    "mild": Scenario(0.3, 0.2),
    "clustered": Scenario(1.0, 0.8),
    "few_bad": Scenario(0.3, 0.2, (0.03, 0.03)),
    "unlike": Scenario(0.3, 0.2, (0.03, 0.0)),
}
SIZES = {"uneven": (100, 9, 757), "small": (8, 1, 60)}
"""Median, least and most images of a patient; log-normal between."""


@cache
def find_centre(scenario: Scenario, system: int, mean: float) -> float:
    """The logit that gives the system the mean accuracy, by bisection over 100,000 patients."""
    low, high = -4.0, 14.0
    for _ in range(40):
        middle = (low + high) / 2
        found = scenario.draw(np.random.default_rng(0), (middle, middle), (100_000,))[system].mean()
        low, high = (middle, high) if found < mean else (low, middle)
    return low


def draw_images(
    rng: np.random.Generator, accuracies: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Images that only the first and only the second system decides rightly, int of the shape of ``sizes``."""
    first, second = accuracies
    shared = rng.binomial(sizes, SHARED)
    more = rng.binomial(shared, np.abs(first - second))
    alone = sizes - shared
    only_first = rng.binomial(alone, first * (1 - second))
    rest = (1 - first) * second / (1 - first * (1 - second))
    only_second = rng.binomial(alone - only_first, np.clip(rest, 0, 1))
    return only_first + np.where(first > second, more, 0), only_second + np.where(first < second, more, 0)


def jackknife_p_values(net: np.ndarray, sizes: np.ndarray, first_class: int) -> np.ndarray:
    """``paired_difference`` of balanced accuracy for many data sets at once; 1 where no group differs from another."""
    difference, variance, squares = 0.0, 0.0, 0.0
    for part in (slice(0, first_class), slice(first_class, None)):
        d, n = net[:, part], sizes[:, part]
        total, images, count = d.sum(1, keepdims=True), n.sum(1, keepdims=True), n.shape[1]
        difference = difference + (total / images)[:, 0] / 2
        left_out = (total - d) / (images - n) / 2
        own = (count - 1) / count * ((left_out - left_out.mean(1, keepdims=True)) ** 2).sum(1)
        freedom = np.maximum(n.sum(1) ** 2 / (n**2).sum(1) - 1, 1)
        variance, squares = variance + own, squares + own**2 / freedom
    known = variance > 1e-24
    error, freedom = (
        np.sqrt(np.where(known, variance, 1)),
        np.where(known, variance**2, 1) / np.maximum(squares, 1e-300),
    )
    return np.where(known, 2 * stdtr(np.where(known, freedom, 1), -np.abs(difference) / error), 1.0)


def p_values(only_first: np.ndarray, only_second: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
    """p-values of every test over data sets, from counts int [data sets, patients]."""
    net, groups = only_first - only_second, sizes.shape[1]
    first, second = only_first.sum(1), only_second.sum(1)
    means = net / sizes
    found = {
        "McNemar": np.minimum(1, 2 * bdtr(np.minimum(first, second), first + second, 0.5)),
        "flips": np.array([flip_p_value(row) for row in net]),
        "Durkalski": chdtrc(1, means.sum(1) ** 2 / np.maximum((means**2).sum(1), 1e-300)),
        "Obuchowski": chdtrc(1, (1 - 1 / groups) * net.sum(1) ** 2 / np.maximum((net**2).sum(1), 1)),
    }
    if groups >= 6:  # two of each class
        found["jackknife"] = jackknife_p_values(net, sizes, max(2, round(groups * 26 / 73)))
    return found


def simulate(
    scenario: Scenario, mean: float, groups: int, spread: tuple[int, int, int], count: int, erring: float
) -> tuple[dict[str, float], float]:
    """Share of data sets in which each test rejects at .05, and the mean number of patients that differ."""
    rng = np.random.default_rng([groups, round(1000 * mean), round(10 * erring)])
    median, least, most = spread
    sizes = np.clip(np.round(np.exp(rng.normal(np.log(median), 1, (count, groups)))), least, most).astype(int)
    centres = find_centre(scenario, 0, mean), find_centre(scenario, 1, 1 - erring * (1 - mean))
    only_first, only_second = draw_images(rng, scenario.draw(rng, centres, sizes.shape), sizes)
    found = p_values(only_first, only_second, sizes)
    rejected = {name: float((values <= 0.05).mean()) for name, values in found.items()}
    return rejected, float((only_first != only_second).sum(1).mean())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=2000, help="data sets a row (default 2000)")
    parser.add_argument("--groups", type=int, nargs="+", default=[3, 6, 10, 20, 40, 73])
    parser.add_argument("--means", type=float, nargs="+", default=[0.8, 0.9, 0.97])
    parser.add_argument("--scenario", choices=SCENARIOS, nargs="+", default=list(SCENARIOS))
    parser.add_argument("--sizes", choices=SIZES, nargs="+", default=list(SIZES))
    options = parser.parse_args()
    print(
        f"{options.simulations} data sets a row: share with p <= .05 where equal (where one errs {ERRING} times as often)"
    )
    print(
        f"{'sizes':6} {'scenario':9} {'mean':>5} {'patients':>8} {'differ':>6}  "
        + "  ".join(f"{t:>13}" for t in TESTS)
    )
    rows = (
        (s, n, m, g)
        for s in options.sizes
        for n in options.scenario
        for m in options.means
        for g in options.groups
    )
    for spread, name, mean, groups in rows:
        place = (SCENARIOS[name], mean, groups, SIZES[spread], options.simulations)
        (level, differing), (power, _) = simulate(*place, 1.0), simulate(*place, ERRING)
        cells = (f"{level[t]:.3f} ({power[t]:.3f})" if t in level else "-" for t in TESTS)
        print(
            f"{spread:6} {name:9} {mean:5.2f} {groups:8d} {differing:6.1f}  "
            + "  ".join(f"{c:>13}" for c in cells),
            flush=True,
        )


if __name__ == "__main__":
    main()
