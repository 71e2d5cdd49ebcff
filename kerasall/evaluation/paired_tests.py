"""Comparisons of models on the same images: differences over groups, and tests of which decides more images rightly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt

import numpy as np
from scipy.special import betaln, chdtrc, stdtr, stdtrit

from kerasall.errors import DataError, count_of
from kerasall.evaluation.intervals import FEW_GROUPS, Scorer, groups_known
from kerasall.evaluation.metrics import Metric, find_metric, undefined_reason
from kerasall.evaluation.predictions import JsonFields, Predictions
from kerasall.evaluation.resampling import Draws, Resampler

INDEPENDENT = "images count as independent: where patients have several, the p-value is too small"

_TOLD_GROUPS = 10
"""Where models differ in no more groups than this, the least possible p-value is told."""


@dataclass(frozen=True)
class Comparison(JsonFields):
    """One comparison of models.

    Attributes:
        test: name of the test.
        p_value: two-sided, or None where the data do not allow one.
        statistic: the test's own, or None.
        difference: first less second, or None for a test of many models.
        low: lower end of the difference's interval, or None.
        high: upper end.
        note: what a reader must know, or "".
    """

    test: str
    p_value: float | None
    statistic: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


def aligned(records: Sequence[Predictions]) -> list[Predictions]:
    """The records with their images in the first one's order.

    Raises:
        DataError: they are not of the same images, labels and classes, or hold none.
    """
    first, others = records[0], []
    if len(first) == 0:
        raise DataError("a comparison needs at least one image, but there is none")
    for other in records[1:]:
        if not np.array_equal(np.sort(first.ids), np.sort(other.ids)):
            raise DataError("compared models must have predicted the same images, but their ids differ")
        others.append(other.in_order(first.ids))
        if other.classes != first.classes or (others[-1].labels != first.labels).any():
            raise DataError("compared models must share classes and labels, but these differ")
    return [first, *others]


# --- differences over groups -------------------------------------------------------------------------


def paired_difference(scorer: Scorer, second: Predictions, metric: str) -> Comparison:
    """Difference of any metric between two models, with an interval and p-value over groups.

    Each group is left out in turn (a stratified jackknife), and the difference is divided by its standard
    error and held against Student's t. Its degrees of freedom count uneven groups as fewer, by Kish's
    (sum n)^2 / sum n^2 per class and Satterthwaite's formula over classes. Unlike a percentile bootstrap
    of the difference, which rejects a true null in 15% of data sets with 28 uneven groups, it keeps to 5%.

    Args:
        scorer: of one model; its groups are used.
        second: predictions of the other on the same images.
        metric: name of ``METRICS``, or a score of one class such as "recall:ALL".

    Raises:
        DataError: the records are not of the same images.
        SettingsError: an unknown metric or class.
    """
    return repeated_difference(scorer, [(scorer.predictions, second)], metric)


def repeated_difference(
    scorer: Scorer, pairs: Sequence[tuple[Predictions, Predictions]], metric: str
) -> Comparison:
    """``paired_difference`` of two ways that each predicted the same images several times: the mean over the repetitions.

    What is left out and held against Student's t is the mean difference, so that the luck of one repetition (a drawn
    split, a seed) falls away, and the patients' does not.

    Args:
        scorer: whose groups and malignant classes are used, of the same images.
        pairs: one of each way, of every repetition.
        metric: as for ``paired_difference``.

    Raises:
        DataError: the records are not of the same images.
        SettingsError: an unknown metric or class.
    """
    records = aligned([scorer.predictions, *(record for pair in pairs for record in pair)])[1:]
    row = find_metric(metric, scorer.predictions.classes)
    for record in records:
        if reason := undefined_reason(row, record, scorer.malignant):
            return Comparison("group jackknife", None, note=f"not defined: {reason}")
    values = [row(record, scorer.malignant) for record in records]
    difference = float(np.mean(values[::2]) - np.mean(values[1::2]))
    error, freedom, note = _jackknife_error(scorer, records, row)
    if error is None:
        return Comparison("group jackknife", None, difference=difference, note=note)
    if error <= 1e-12:
        p_value = 1.0 if abs(difference) <= 1e-12 else None
        note = "; ".join(filter(None, ["no group differs from another in it", note]))
        return Comparison("group jackknife", p_value, None, difference, difference, difference, note)
    statistic, width = difference / error, float(stdtrit(freedom, 0.5 + scorer.confidence / 2)) * error
    p_value = float(2 * stdtr(freedom, -abs(statistic)))
    return Comparison(
        "group jackknife", p_value, statistic, difference, difference - width, difference + width, note
    )


def _jackknife_error(
    scorer: Scorer, records: list[Predictions], metric: Metric
) -> tuple[float | None, float, str]:
    """Standard error of the mean difference, its degrees of freedom, and a note; no error where it cannot be had.

    ``records`` are of the first and the second way in turn.
    """
    units = scorer.units
    # Leaving out the only group of a class would leave the class empty.
    strata = [members for members in units.membership if members.sum() > 1]
    if not strata:
        return None, 0.0, "no class has two groups: how much groups differ is unknown"
    left_out = np.flatnonzero(np.any(strata, axis=0))
    weights = np.ones((len(left_out), len(units.sizes)))
    weights[np.arange(len(left_out)), left_out] = 0
    draws = Draws(weights, np.zeros((len(left_out), len(units.classes))))
    scores = [Resampler(record, units, draws, scorer.malignant).score(metric)[0] for record in records]
    differences = np.full(len(units.sizes), np.nan)
    differences[left_out] = np.mean(scores[::2], axis=0) - np.mean(scores[1::2], axis=0)
    if np.isnan(differences[left_out]).any():
        return None, 0.0, "without one of the groups the metric is not defined"
    variances, freedoms = zip(
        *(_stratum(differences[members], units.sizes[members]) for members in strata), strict=True
    )
    total = sum(variances)
    freedom = total**2 / max(sum(v * v / f for v, f in zip(variances, freedoms, strict=True)), 1e-300)
    return sqrt(total), freedom, _note(scorer, len(strata))


def _stratum(differences: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Jackknife variance and degrees of freedom of one class's groups."""
    count = len(differences)
    variance = (count - 1) / count * float(((differences - differences.mean()) ** 2).sum())
    return variance, max(float(sizes.sum() ** 2 / (sizes**2).sum()) - 1, 1.0)


def _note(scorer: Scorer, used: int) -> str:
    notes = []
    if not scorer.groups_known:
        notes.append(f"groups are unknown: {INDEPENDENT}")
    elif scorer.units.groups < FEW_GROUPS:
        notes.append(f"fewer than {FEW_GROUPS} groups: interval and p-value are rough")
    if used < len(scorer.units.classes):
        notes.append("a class has only one group: how much such groups differ is unknown")
    return "; ".join(notes)


# --- which model decides more images rightly ---------------------------------------------------------


def sign_flips(first: Predictions, second: Predictions) -> Comparison:
    """Exact test that knows groups: which model decides more images rightly?

    Were the two models equally good, they could change places in any group. Of all 2^G ways to change places
    in G groups, the p-value is the share in which the difference of right images is at least as far from 0 as
    it is (Fisher, The Design of Experiments, section 21). So images of one patient count together, however
    alike they are. Where every group has one image it is McNemar's exact test (Psychometrika 12:153, 1947);
    where groups are many, Obuchowski's chi-squared test for clustered pairs comes near it (Stat. Med. 17:1495,
    1998). ``benchmarks/paired_tests.py`` shows its level and power beside that one's and Durkalski's. What it
    does not know is patients who are not there: a system that fails only on rare ones can look the better.

    Returns:
        The statistic is the images that only the first decides rightly less those that only the second does,
        the difference that of the accuracies. G groups in which the models differ give no p-value below
        2^(1 - G), which the note says where G is small.

    Raises:
        DataError: the records are not of the same images, or hold none.
    """
    one, two = aligned([first, second])
    _, group = np.unique(one.group_names, return_inverse=True)
    net = np.bincount(group, weights=one.right.astype(int) - two.right).astype(np.int64)
    single = len(net) == len(one)
    differing = int((net != 0).sum())
    notes = [] if groups_known(one) else [f"groups are unknown: {INDEPENDENT}"]
    if differing <= _TOLD_GROUPS:
        notes.append(
            f"the models differ in {count_of(differing, 'group')}: no p-value below {smallest_p_value(differing):.3g} can come out"
        )
    return Comparison(
        "McNemar, exact" if single else "sign flips over groups",
        flip_p_value(net), float(net.sum()), float(net.sum() / len(one)), note="; ".join(notes),
    )  # fmt: skip


def flip_p_value(net: np.ndarray) -> float:
    """Share of all sign flips of ``net`` whose sum is at least as far from 0 as that of ``net``.

    Exact: the distribution of the sum of the flipped positive ones is built up number by number.

    Args:
        net: int [G], of each group.

    >>> flip_p_value(np.array([3, 2, 2, 0, -1]))
    0.25
    """
    sizes = np.sort(np.abs(net[net != 0]))
    ones = int((sizes == 1).sum())
    # Sums of ones are binomial, and there may be very many of them where every image is a group.
    positive = np.arange(ones + 1)
    chances = np.exp(-betaln(positive + 1, ones - positive + 1) - log(ones + 1) - ones * log(2))
    for size in sizes[ones:].tolist():
        halves = chances / 2
        chances = np.concatenate([halves, np.zeros(size)])
        chances[size:] += halves
    fewer = (int(sizes.sum()) - abs(int(net.sum()))) // 2
    return min(1.0, 2 * float(chances[: fewer + 1].sum()))


def smallest_p_value(differing: int) -> float:
    """The least that ``flip_p_value`` can give where so many groups are not 0."""
    return min(1.0, 2.0 ** (1 - differing))


def cochran_q(records: Sequence[Predictions]) -> Comparison:
    """Cochran's Q: do k models decide rightly equally often? Only for images that are independent.

    Q = (k - 1) (k sum_j G_j^2 - T^2) / (k T - sum_i L_i^2) with G_j the images model j decides rightly, L_i
    the models that decide image i rightly and T their sum; chi-squared with k - 1 degrees of freedom
    (Cochran, Biometrika 37:256, 1950). For two models it is McNemar's test without correction.

    Raises:
        DataError: fewer than two models, or not of the same images.
    """
    if len(records) < 2:
        raise DataError(f"Cochran's Q compares at least two models, but {len(records)} is given")
    right = np.stack([record.right for record in aligned(records)]).astype(float)
    models, total = len(right), right.sum()
    spread = models * total - (right.sum(axis=0) ** 2).sum()
    if spread == 0:
        return Comparison("Cochran's Q", 1.0, 0.0, note="the models are right on the same images")
    statistic = float((models - 1) * (models * (right.sum(axis=1) ** 2).sum() - total**2) / spread)
    return Comparison("Cochran's Q", float(chdtrc(models - 1, statistic)), statistic)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, which keep the chance of any false claim at the level (Scand. J. Stat. 6:65, 1979).

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_j). None stays, and does not count.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    values = np.array([p for p in p_values if p is not None], dtype=float)
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"p-values must lie in [0, 1], but are {list(p_values)}")
    order = np.argsort(values)
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = iter(np.minimum(stepped, 1)[np.argsort(order)].tolist())
    return [None if p is None else next(adjusted) for p in p_values]
