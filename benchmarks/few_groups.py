"""What a refer band and a threshold of few groups are worth, and whether the report judges the rule that is exported.

Draws out-of-fold predictions of patients who differ in difficulty (2 to 60 images each, three classes, two of them
malignant) and, from the same population, 200 new patients. Prints for each number of patients the means over data sets of

    exported     share of its own images that the exported rule refers
    report       share that the report tells: the same rule, refitted without each image's part
    own choice   the same where each refit decides for itself whether an unseen group counts, as it once did
    new          share of the new patients' images that the exported rule refers
    covered      share of these whose prediction set holds the true class (95% are wanted)

and for thresholds of a wanted sensitivity what the report tells (every part's threshold from the others), what the
exported threshold reaches in new patients, and the two bounds that the report prints: what is expected where a group's
images are alike, and where they are not.

Usage:
    python benchmarks/few_groups.py                  # 100 data sets a row, 3 minutes on one core
    python benchmarks/few_groups.py --simulations 50 --groups 10 20 40

The same arguments print the same tables.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the arrays are small

import numpy as np

from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.cross_fitting import cross_fit, deal_parts
from kerasall.evaluation.operating_points import (
    cross_collapse,
    expect_sensitivity,
    operating_point,
)
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.safeguards import Calibration, PredictionSets, fit_prediction_sets

MALIGNANT = ("a", "b")
COVERAGE = 0.95
WANTED = (0.95, 0.99)
NEW = 200


def simulate(rng: np.random.Generator, groups: int) -> Predictions:
    """Patients of one class each."""
    group = np.repeat(np.arange(groups), rng.integers(2, 60, groups))
    labels = group % 3
    logits = rng.normal(size=(len(group), 3))
    logits[np.arange(len(group)), labels] += rng.gamma(2.0, 1.5, groups)[group]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = group.astype(str)
    return Predictions(np.arange(len(group)).astype(str), names, names, labels, chances, ("a", "b", "c"))


@dataclass(frozen=True)
class Fitted:
    """What is exported of one data set."""

    calibration: Calibration
    sets: PredictionSets

    @classmethod
    def to(
        cls, record: Predictions, like: Fitted | None = None, sets_like: PredictionSets | None = None
    ) -> Fitted:
        """Fits both to a record, taking over the choices of what is given."""
        calibration = fit_calibration(record, like=like and like.calibration)
        return cls(calibration, fit_prediction_sets(calibration.apply_to(record), COVERAGE, like=sets_like))

    def members(self, record: Predictions) -> np.ndarray:
        """Which classes are in the images' sets."""
        return self.sets.contains(self.calibration.apply(record.probabilities))


def refer_refitted(
    record: Predictions, parts: np.ndarray, exported: Fitted, sets: PredictionSets | None
) -> float:
    """Share referred where every part is judged by what the others fit."""

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return Fitted.to(record.take(others), exported, sets).members(record.take(inside))

    return float((cross_fit(parts, answer).sum(axis=1) != 1).mean())


def sensitivity(called: np.ndarray, labels: np.ndarray) -> float:
    """Share of malignant images called so."""
    return float(called[labels != 2].mean())


def measure(rng: np.random.Generator, groups: int) -> tuple[list[float], list[float]]:
    """One data set: the five shares of the refer band, and for each wanted sensitivity four more."""
    record, new = simulate(rng, groups), simulate(rng, NEW)
    new = replace(new, groups=np.char.add("new ", new.groups))
    exported, parts = Fitted.to(record), deal_parts(record)
    shown = exported.members(new)
    band = [
        float((exported.members(record).sum(axis=1) != 1).mean()),
        refer_refitted(record, parts, exported, exported.sets),
        refer_refitted(record, parts, exported, None),
        float((shown.sum(axis=1) != 1).mean()),
        float(shown[np.arange(len(new)), new.labels].mean()),
    ]
    points, calibrated = [], exported.calibration.apply_to(record)
    score = exported.calibration.apply(new.probabilities)[:, :2].sum(axis=1)
    malignant = record.labels != 2
    for wanted in WANTED:
        told = cross_collapse(record, MALIGNANT, wanted, parts, exported.calibration)
        threshold = operating_point(calibrated, MALIGNANT, wanted).threshold
        counts = len(np.unique(record.groups[malignant])), int(malignant.sum())
        points += [sensitivity(told.decisions, record.labels), sensitivity(score >= threshold, new.labels)]
        points += [expect_sensitivity(wanted, count) for count in counts]
    return band, points


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--groups", type=int, nargs="+", default=[18, 19, 20, 21, 22, 23, 24, 25, 26])
    given = parser.parse_args()
    bands, points = {}, {}
    for groups in given.groups:
        found = [measure(np.random.default_rng([groups, each]), groups) for each in range(given.simulations)]
        bands[groups], points[groups] = (np.mean(each, axis=0) for each in zip(*found, strict=True))
    print("| groups | exported | report | own choice | new | covered |\n|---|---|---|---|---|---|")
    for groups, shares in bands.items():
        print(f"| {groups} | " + " | ".join(f"{100 * share:.1f}%" for share in shares) + " |")
    for column, wanted in enumerate(WANTED):
        print(
            f"\n| groups, {wanted:.0%} wanted | report | new | expected, alike | not alike |\n|---|---|---|---|---|"
        )
        for groups, shares in points.items():
            told = shares[4 * column : 4 * column + 4]
            print(f"| {groups} | " + " | ".join(f"{100 * share:.1f}%" for share in told) + " |")


if __name__ == "__main__":
    main()
