"""Recomputes every figure of a run's report.json from predictions.csv, the split and the settings alone.

An auditor's second text: it imports nothing of kerasall. Values come from scikit-learn and statsmodels where these have
them; the rules of kerasall's own (intervals with an unseen group, prediction sets over groups, cross-fitted calibration
and thresholds) are written out anew from their description.

Intervals are drawn by a generator of the auditor's own. Their ends are therefore compared with what B of his draws say:
an end must lie between the order statistics that lie 4.5 standard errors of the difference of two such quantiles around
it, rounded outwards by 1e-6. All else must agree within 1e-6, the rounding of nine digits in predictions.csv.

    python tests/report_audit.py RUN_FOLDER [--draws 20000]

prints, for each part of the report, how many figures were compared and the largest difference.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import t as student

EXACT = 1e-6
"""Rounding of nine digits in predictions.csv, and of optimisers."""
ERRORS = 4.5
"""Standard errors by which two Monte-Carlo quantiles may differ."""


@dataclass
class Ledger:
    """What was compared: rows of part, figure, reported, recomputed, allowed lowest and highest."""

    rows: list[tuple[str, str, Any, Any, float, float]] = field(default_factory=list)

    def note(
        self, part: str, figure: str, reported: Any, mine: Any, within: tuple[float, float] | None = None
    ) -> None:
        """Adds one figure; ``within`` are the ends between which the reported one must lie."""
        if reported is None or mine is None or isinstance(reported, (str, bool)):
            low = high = np.nan
        else:
            reported, mine = float(reported), float(mine)
            low, high = within or (mine, mine)
        self.rows.append((part, figure, reported, mine, low, high))

    def table(self) -> pd.DataFrame:
        """One row a figure, with ``difference`` and ``agrees``."""
        found = pd.DataFrame(self.rows, columns=["part", "figure", "reported", "mine", "low", "high"])
        plain = found["low"].isna()
        number = found["reported"].where(~plain, 0).astype(float)
        mine = found["mine"].where(~plain, 0).astype(float)
        found["difference"] = (number - mine).abs()
        inside = (number >= found["low"] - EXACT) & (number <= found["high"] + EXACT)
        same = [a == b for a, b in zip(found["reported"], found["mine"], strict=True)]
        found["agrees"] = np.where(plain, same, inside)
        found["drawn"] = found["high"] > found["low"]
        return found


# --- values, mostly by scikit-learn ------------------------------------------------------------------


@dataclass
class Cells:
    """The scored images: true and called class, probabilities [N, C], groups; and what is malignant."""

    labels: np.ndarray
    called: np.ndarray
    chances: np.ndarray
    groups: np.ndarray
    classes: tuple[str, ...]
    malignant: np.ndarray

    def matrix(self) -> np.ndarray:
        from sklearn.metrics import confusion_matrix

        return confusion_matrix(self.labels, self.called, labels=range(len(self.classes))).astype(float)

    def take(self, rows: np.ndarray) -> Cells:
        return Cells(
            self.labels[rows],
            self.called[rows],
            self.chances[rows],
            self.groups[rows],
            self.classes,
            self.malignant,
        )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def of_matrices(name: str, m: np.ndarray, classes: tuple[str, ...], malignant: np.ndarray) -> np.ndarray:
    """A score of confusion matrices [..., C, C], rows true: written from its textbook definition."""
    right, true, called, total = np.einsum("...ii->...i", m), m.sum(-1), m.sum(-2), m.sum((-1, -2))
    if ":" in name:
        kind, label = name.split(":", 1)
        k = classes.index(label)
        if kind == "recall":
            return _share(right[..., k], true[..., k])
        if kind == "precision":
            return _share(right[..., k], called[..., k])
        if kind == "specificity":
            others = total - true[..., k]
            return _share(others - (called[..., k] - right[..., k]), others)
        return _share(2 * right[..., k], true[..., k] + called[..., k])
    if name == "accuracy":
        return right.sum(-1) / total
    if name == "balanced_accuracy":
        return _share(right, true).mean(-1)
    if name in ("f1_macro", "f1_weighted"):
        each = _share(2 * right, true + called)
        return each.mean(-1) if name == "f1_macro" else (each * true).sum(-1) / total
    if name == "cohen_kappa":
        chance = (true * called).sum(-1) / total**2
        return (right.sum(-1) / total - chance) / (1 - chance)
    if name == "mcc":
        top = right.sum(-1) * total - (true * called).sum(-1)
        return _share(top, np.sqrt((total**2 - (called**2).sum(-1)) * (total**2 - (true**2).sum(-1))))
    ill = malignant.astype(float)
    sick = np.einsum("...ij,i,j->...", m, ill, ill), np.einsum("...ij,i->...", m, ill)
    well = np.einsum("...ij,i,j->...", m, 1 - ill, 1 - ill), np.einsum("...ij,i->...", m, 1 - ill)
    return _share(*(sick if name == "malignant_sensitivity" else well))


def value_of(name: str, cells: Cells) -> float:
    """The same score by scikit-learn, on images."""
    from sklearn import metrics as sk

    y, d, p = cells.labels, cells.called, cells.chances
    if ":" in name:
        kind, label = name.split(":", 1)
        one = cells.classes.index(label)
        if kind == "specificity":
            return sk.recall_score(y != one, d != one)
        score = {"recall": sk.recall_score, "precision": sk.precision_score, "f1": sk.f1_score}[kind]
        return score(y == one, d == one)
    every = list(range(len(cells.classes)))
    if name == "roc_auc":
        return (
            sk.roc_auc_score(y, p[:, 1])
            if len(every) == 2
            else sk.roc_auc_score(y, p, multi_class="ovr", labels=every)
        )
    if name == "log_loss":
        return sk.log_loss(y, p, labels=every)
    if name == "brier":
        return sk.brier_score_loss(y, p[:, 1] if len(every) == 2 else p, labels=every)
    sick, found = cells.malignant[y], cells.malignant[d]
    return float(
        {
            "accuracy": lambda: sk.accuracy_score(y, d),
            "balanced_accuracy": lambda: sk.balanced_accuracy_score(y, d),
            "f1_macro": lambda: sk.f1_score(y, d, average="macro"),
            "f1_weighted": lambda: sk.f1_score(y, d, average="weighted"),
            "cohen_kappa": lambda: sk.cohen_kappa_score(y, d),
            "mcc": lambda: sk.matthews_corrcoef(y, d),
            "malignant_sensitivity": lambda: sk.recall_score(sick, found),
            "malignant_specificity": lambda: sk.recall_score(~sick, ~found),
        }[name]()
    )


# --- intervals ---------------------------------------------------------------------------------------


class Draws:
    """Weights of whole groups, drawn within classes, with half a group that was not seen.

    A group's stratum is the class that most of its images have. In each draw a group weighs a standard exponential
    number, the unseen one of its stratum a gamma number of shape 1/2 (Bayesian bootstrap), scaled to the number of
    the stratum's groups. It holds as many images as its stratum's mean group times the ratio of the root mean square
    of group sizes to their mean.
    """

    def __init__(self, groups: np.ndarray, labels: np.ndarray, classes: int, draws: int, seed: int) -> None:
        self.names, self.unit = np.unique(groups, return_inverse=True)
        counts = np.zeros((len(self.names), classes))
        np.add.at(counts, (self.unit, labels), 1)
        self.modal = counts.argmax(1)
        self.strata = np.unique(self.modal)
        self.within = [np.flatnonzero(self.modal == stratum) for stratum in self.strata]
        sizes = counts.sum(1)
        self.spread = np.array([np.sqrt((sizes[w] ** 2).mean()) / sizes[w].mean() for w in self.within])
        self.rng, self.draws = np.random.default_rng(seed), draws
        self.exponential = self.rng.standard_exponential((draws, len(self.names)))
        self.known: dict[float, tuple[np.ndarray, np.ndarray]] = {}

    def per_unit(self, values: np.ndarray) -> np.ndarray:
        """Sums of an image's values [N, ...] over each group."""
        out = np.zeros((len(self.names), *values.shape[1:]))
        np.add.at(out, self.unit, values)
        return out

    def unseen(self, per_unit: np.ndarray) -> np.ndarray:
        """What the unseen group of each stratum holds of the same [S, ...]."""
        means = np.stack([per_unit[w].mean(0) for w in self.within])
        return means * self.spread.reshape(-1, *[1] * (means.ndim - 1))

    def weights(self, shape: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the groups [B, G] and of the unseen ones [B, S], each of these of the given gamma shape."""
        if shape not in self.known:
            self.known[shape] = self._weights(shape)
        return self.known[shape]

    def _weights(self, shape: float) -> tuple[np.ndarray, np.ndarray]:
        seen = self.exponential.copy()
        extra = (
            self.rng.standard_gamma(shape, (self.draws, len(self.strata)))
            if shape
            else np.zeros((self.draws, len(self.strata)))
        )
        for s, w in enumerate(self.within):
            scale = len(w) / (seen[:, w].sum(1) + extra[:, s])
            seen[:, w] *= scale[:, None]
            extra[:, s] *= scale
        return seen, extra


def ends(
    low: np.ndarray, high: np.ndarray, value: float, confidence: float, theirs: int
) -> list[tuple[float, tuple[float, float]]]:
    """Each end with the range in which that of ``theirs`` other draws must lie; no end on the wrong side of the value."""
    found = []
    for drawn, share, side in ((low, (1 - confidence) / 2, min), (high, (1 + confidence) / 2, max)):
        drawn = np.sort(drawn[~np.isnan(drawn)])
        error = ERRORS * np.sqrt(share * (1 - share) * (1 / len(drawn) + 1 / theirs))
        allowed = np.quantile(drawn, np.clip([share - error, share + error], 0, 1))
        within = (side(value, allowed[0]), side(value, allowed[1]))
        found.append((side(value, np.quantile(drawn, share)), within))
    return found


def _cell_weights(cells: Cells, draws: Draws) -> np.ndarray:
    """Confusion matrix of each group [G, C, C]."""
    size = len(cells.classes)
    one = np.zeros((len(cells.labels), size, size))
    one[np.arange(len(one)), cells.labels, cells.called] = 1
    return draws.per_unit(one)


def _unseen_called(score: Callable[[np.ndarray], np.ndarray], matrix: np.ndarray, side: int) -> np.ndarray:
    """What the images of each true class are called in the unseen group: what moves the score most to ``side``.

    Asked where half of each class are called rightly and the others evenly, whatever they are called.
    """
    size, step = len(matrix), 1e-4
    spread = (1 - np.eye(size)) / max(1, size - 1)
    matrix = matrix.sum(1)[:, None] * (np.eye(size) + spread) / 2
    moved = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            up = matrix.copy()
            up[i, j] += step
            moved[i, j] = (score(up) - score(matrix)) / step
    return (side * np.round(moved, 9)).argmax(1)


def matrix_ends(
    score: Callable[[np.ndarray], np.ndarray],
    whole: Callable[[np.ndarray], np.ndarray] | None,
    cells: Cells,
    draws: Draws,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws of a score of confusion matrices with the unseen groups at their worst, and at their best.

    ``whole`` gives a plain proportion's denominator: then all strata with images in it share one unseen group between
    them, for it is one denominator in which one more group is imagined.
    """
    counts, size = _cell_weights(cells, draws), len(cells.classes)
    labelled = draws.unseen(counts.sum(2))
    both = []
    for side in (-1, 1):
        called = _unseen_called(score, counts.sum(0), side)
        extra = np.zeros((len(labelled), size, size))
        extra[:, np.arange(size), called] = labelled
        both.append(extra)
    sharing = 1
    if whole is not None:
        anywhere = np.stack([np.repeat(counts[w].sum((0, 2))[:, None], size, axis=1) for w in draws.within])
        sharing = max(1, int((whole(anywhere) > 0).sum()))
    seen, unseen = draws.weights(0.5 / sharing)
    total = seen @ counts.reshape(len(counts), -1)
    low, high = (
        score((total + unseen @ extra.reshape(len(extra), -1)).reshape(-1, size, size)) for extra in both
    )
    return low, high


def mean_ends(
    values: np.ndarray, least: np.ndarray, most: np.ndarray, draws: Draws
) -> tuple[np.ndarray, np.ndarray]:
    """Draws of the mean of values [N], the unseen groups all at the images' least and all at their most."""
    seen, unseen = draws.weights(0.5 / len(draws.strata))
    each, ones = draws.per_unit(values), draws.per_unit(np.ones(len(values)))
    images = seen @ ones + unseen @ draws.unseen(ones)
    return tuple(
        (seen @ each + unseen @ draws.unseen(draws.per_unit(limit))) / images for limit in (least, most)
    )


def worst_losses(values: np.ndarray, draws: Draws, guess: float, cap: float) -> np.ndarray:
    """Of an unseen group's images [N]: twice the mean of the stratum's worst group, at least a guess's, at most ``cap``."""
    means = draws.per_unit(values) / draws.per_unit(np.ones(len(values)))
    worst = np.array([means[w].max() for w in draws.within])
    return np.minimum(np.maximum(2 * worst, guess), cap)[
        np.searchsorted(draws.strata, draws.modal[draws.unit])
    ]


def area_ends(cells: Cells, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Draws of the area under the ROC curve (one against the rest, plain mean of classes)."""
    size = len(cells.classes)
    seen, unseen = draws.weights(0.5 / len(draws.strata))
    lows, highs = [], []
    for k in [1] if size == 2 else range(size):
        positive, score = cells.labels == k, cells.chances[:, k]
        order = np.unique(score, return_inverse=True)[1]
        g = len(draws.names)
        pos, neg = np.zeros((g, order.max() + 1)), np.zeros((g, order.max() + 1))
        np.add.at(pos, (draws.unit[positive], order[positive]), 1)
        np.add.at(neg, (draws.unit[~positive], order[~positive]), 1)
        below = np.cumsum(neg, 1) - neg / 2
        wins = pos @ below.T  # [G, H]: pairs that positives of g win against the others of h
        p, n = pos.sum(1), neg.sum(1)
        up, un = draws.unseen(p), draws.unseen(n)
        won = np.einsum("bg,gh,bh->b", seen, wins, seen)
        wp, wn, xp, xn = seen @ p, seen @ n, unseen @ up, unseen @ un
        pairs = (wp + xp) * (wn + xn)
        lows.append(won / pairs)
        highs.append((won + xp * wn + wp * xn + xp * xn) / pairs)
    return np.mean(lows, 0), np.mean(highs, 0)


# --- what is fitted, each part by the others ---------------------------------------------------------


def tempered(chances: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(ln p / T), p floored at 1e-12."""
    logits = np.log(np.maximum(chances, 1e-12)) / temperature
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


def fit_temperature(cells: Cells, surer: bool) -> float:
    """T of least log loss, 1/T within 0.02 and 50; no T below 1 unless the exported model's own is."""
    if (cells.chances.argmax(1) == cells.labels).all():
        return 1.0
    logs, rows = np.log(np.maximum(cells.chances, 1e-12)), np.arange(len(cells.labels))

    def loss(inverse: float) -> float:
        logits = inverse * logs
        return float((logsumexp(logits, axis=1) - logits[rows, cells.labels]).mean())

    best = minimize_scalar(loss, bounds=(0.02, 50), method="bounded", options={"xatol": 1e-10}).x
    return 1.0 if best > 1 and not surer else 1 / best


def threshold_for(score: np.ndarray, sick: np.ndarray, wanted: float) -> float:
    """Highest threshold that calls the wanted share of malignant images, half-way down to the next score."""
    needed = int(np.ceil(wanted * sick.sum() - 1e-9))
    lowest = np.sort(score[sick])[-needed]
    below = score[score < lowest]
    return (lowest + below.max()) / 2 if len(below) else lowest / 2


def group_quantile(values: np.ndarray, groups: np.ndarray, share: float) -> float:
    """Least value at or below which the mean over groups of their share of values is at least ``share``."""
    if not len(values):
        return np.inf
    order = np.argsort(values, kind="stable")
    _, unit, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    reached = np.cumsum(1 / sizes[unit[order]]) / len(sizes)
    found = np.flatnonzero(reached >= share - 1e-9)
    return float(values[order][found[0]]) if len(found) else np.inf


def set_threshold(chances: np.ndarray, cells: Cells, level: float) -> float:
    """Least probability of a class in a prediction set, from images that are not judged by it."""
    worst = group_quantile(1 - chances[np.arange(len(chances)), cells.labels], cells.groups, level)
    return max(min(1 - worst, 0.99) - 1e-6, 0.0)


def recalibration(
    score: np.ndarray, sick: np.ndarray, groups: np.ndarray, confidence: float
) -> dict[str, tuple[float, float, float]]:
    """Calibration intercept and slope by statsmodels, with a sandwich over groups and Student's t."""
    import statsmodels.api as sm

    p = np.clip(score, 1e-12, 1 - 1e-12)
    x, unit = np.log(p) - np.log1p(-p), np.unique(groups, return_inverse=True)[1]
    width = student.ppf(0.5 + confidence / 2, unit.max())
    found = {}
    for name, design, offset in (
        ("intercept", np.ones((len(x), 1)), x),
        ("slope", np.column_stack([np.ones(len(x)), x]), None),
    ):
        fit = sm.GLM(sick.astype(float), design, family=sm.families.Binomial(), offset=offset).fit(
            cov_type="cluster", cov_kwds={"groups": unit, "use_correction": True}, tol=1e-12, maxiter=200
        )
        found[name] = (
            fit.params[-1],
            fit.params[-1] - width * fit.bse[-1],
            fit.params[-1] + width * fit.bse[-1],
        )
    return found


# --- the report, part by part ------------------------------------------------------------------------


@dataclass
class Audit:
    """A report beside what an auditor finds.

    Attributes:
        results: of report.json.
        cells: the scored images.
        fold: name of the held-out fold of each image; None where there are none.
        settings: confidence, draws, seed, floors, wanted sensitivities and coverage.
        distances: of the images to the training images, or None: no prediction tells them.
    """

    results: Mapping[str, Any]
    cells: Cells
    ids: np.ndarray
    subjects: np.ndarray
    fold: np.ndarray | None
    settings: Mapping[str, Any]
    distances: np.ndarray | None = None
    draws: int = 20_000
    ledger: Ledger = field(default_factory=Ledger)

    def __post_init__(self) -> None:
        self.all = self.draw(self.cells)
        self.confidence, self.theirs = 0.95, int(self.settings["evaluate"]["resamples"])

    def drawn(self, cells: Cells) -> Draws:
        """Draws for these images; the same where they are all of them, whatever they are called."""
        if len(cells.labels) == len(self.cells.labels) and np.array_equal(cells.labels, self.cells.labels):
            return self.all
        return self.draw(cells)

    def draw(self, cells: Cells) -> Draws:
        return Draws(cells.groups, cells.labels, len(cells.classes), self.draws, 20_261_129)

    def interval(
        self,
        part: str,
        name: str,
        reported: Mapping[str, Any] | None,
        value: float | None,
        pair: tuple[np.ndarray, np.ndarray] | None,
        groups: int | None = None,
    ) -> None:
        """Notes value, both ends, and the number of groups."""
        if reported is None:
            self.ledger.note(part, name, None, value)
            return
        self.ledger.note(part, f"{name} value", reported["value"], value)
        if groups is not None:
            self.ledger.note(part, f"{name} groups", reported["groups"], groups)
        if pair is None:
            self.ledger.note(part, f"{name} ends", (reported["low"], reported["high"]) == (None, None), True)
            return
        for end, (mine, within) in zip(
            ("low", "high"), ends(*pair, value, self.confidence, self.theirs), strict=True
        ):
            self.ledger.note(part, f"{name} {end}", reported[end], mine, within)

    def of_matrix(
        self, part: str, name: str, reported: Mapping[str, Any], cells: Cells, value: float | None = None
    ) -> None:
        """A score of the confusion matrix with its interval."""
        whole, counted = denominator(name, cells)
        draws = self.drawn(cells)
        pair = matrix_ends(
            lambda m: of_matrices(name, m, cells.classes, cells.malignant), whole, cells, draws
        )
        groups = len(np.unique(cells.groups[counted]))
        self.interval(part, name, reported, value_of(name, cells) if value is None else value, pair, groups)

    def scores(self) -> None:
        """Metrics, confusion matrix, each class against the rest, folds."""
        r, cells = self.results, self.cells
        for name, reported in r["metrics"].items():
            self.metric("metrics", name, reported, cells)
        matrix = cells.matrix()
        for (i, j), count in np.ndenumerate(np.asarray(r["confusion_matrix"])):
            self.ledger.note(
                "confusion matrix", f"{cells.classes[i]} as {cells.classes[j]}", int(count), matrix[i, j]
            )
        ill = cells.malignant
        self.ledger.note("confusion matrix", "images", r["images"], len(cells.labels))
        self.ledger.note(
            "malignant called benign",
            "missed",
            r["malignant_called_benign"],
            (ill[cells.labels] & ~ill[cells.called]).sum(),
        )
        self.ledger.note(
            "malignant called benign", "malignant", r["malignant_images"], ill[cells.labels].sum()
        )
        for label, kinds in r["by_class"].items():
            for kind, reported in kinds.items():
                self.of_matrix("each class", f"{kind}:{label}", reported, cells)
        main = next(iter(r["metrics"]))
        for each in r["folds"]:
            held = self.fold == each["fold"]
            part = cells.take(held)
            self.ledger.note("folds", f"{each['fold']} images", each["images"], held.sum())
            self.ledger.note("folds", f"{each['fold']} groups", each["groups"], len(np.unique(part.groups)))
            self.ledger.note("folds", f"{each['fold']} score", each["score"], value_of(main, part))

    def metric(self, part: str, name: str, reported: Mapping[str, Any], cells: Cells) -> None:
        """Any metric with its interval."""
        draws, value = self.drawn(cells), value_of(name, cells)
        every = len(np.unique(cells.groups))
        if name == "roc_auc":
            self.interval(part, name, reported, value, area_ends(cells, draws), every)
        elif name in ("log_loss", "brier"):
            rows, p = np.arange(len(cells.labels)), cells.chances
            if name == "brier":
                values = ((p - np.eye(p.shape[1])[cells.labels]) ** 2).sum(1)
                guess, cap = 1 - 1 / p.shape[1], 2.0
                if p.shape[1] == 2:  # of the positive class alone
                    values, guess, cap = values / 2, guess / 2, 1.0
            else:
                values = -np.log(np.maximum(p[rows, cells.labels], np.finfo(float).eps))
                guess, cap = np.log(p.shape[1]), -np.log(np.finfo(float).eps)
            least, most = np.zeros(len(p)), worst_losses(values, draws, guess, cap)
            self.interval(part, name, reported, value, mean_ends(values, least, most, draws), every)
        else:
            self.of_matrix(part, name, reported, cells)

    # --- trust ---------------------------------------------------------------------------------------

    def trust(self) -> None:
        """Calibration, thresholds, net benefit, prediction sets and referral."""
        found = self.results["trust"]
        if found is None:
            return
        c = self.cells
        parts = self.fold if found["calibration"]["cross_fitted"] else None
        surer = found["calibration"]["temperature"] < 1
        if parts is None:
            after = tempered(c.chances, found["calibration"]["temperature"])
            thresholds = {
                each["wanted"]: np.full(len(c.labels), each["threshold"])
                for each in found["operating_points"]
            }
            limit, far = np.full(len(c.labels), found["referral"]["prediction_sets"]["threshold"]), None
        else:
            self.ledger.note(
                "calibration",
                "temperature",
                round(found["calibration"]["temperature"], 4),
                round(fit_temperature(c, True), 4)
                if surer or found["calibration"]["temperature"] != 1
                else 1.0,
            )
            after, thresholds, limit, far = self.cross_fit(found, parts, surer)
        cooler = Cells(c.labels, c.called, after, c.groups, c.classes, c.malignant)
        self.calibration("before", found["calibration"]["before"], c)
        self.calibration("after", found["calibration"]["after"], cooler)
        if c.malignant.any():
            for point in found["operating_points"]:
                self.point(point, cooler, thresholds[point["wanted"]])
            for point in found["decision_curve"]:
                self.benefit(point, cooler)
        self.referral(found["referral"], cooler, limit, far)

    def cross_fit(self, found: Mapping[str, Any], parts: np.ndarray, surer: bool) -> tuple:
        """Everything that is fitted, for each fold by the other folds."""
        c, sick = self.cells, self.cells.malignant[self.cells.labels]
        after, limit, far = np.zeros_like(c.chances), np.zeros(len(c.labels)), np.full(len(c.labels), np.inf)
        thresholds = {each["wanted"]: np.zeros(len(c.labels)) for each in found["operating_points"]}
        sets = found["referral"]["prediction_sets"]
        exported = tempered(c.chances, found["calibration"]["temperature"])
        every = len(np.unique(c.groups))
        level = sets["coverage"] * ((every + 1) / every if sets["guaranteed"] else 1)
        self.ledger.note(
            "referral", "sets' threshold", sets["threshold"], set_threshold(exported, c, min(1, level))
        )
        self.ledger.note("referral", "sets' groups", sets["groups"], every)
        self.ledger.note(
            "referral",
            "guaranteed",
            sets["guaranteed"],
            bool(every / (every + 1) >= sets["coverage"] - 1e-12),
        )
        for each in found["operating_points"]:
            mine = threshold_for(exported[:, c.malignant].sum(1), sick, each["wanted"])
            self.ledger.note("thresholds", f"{each['wanted']} threshold", each["threshold"], mine)
        for part in np.unique(parts):
            inside, others = parts == part, parts != part
            fitting = c.take(others)
            t = fit_temperature(fitting, surer)
            after[inside] = tempered(c.chances[inside], t)
            warm = tempered(fitting.chances, t)
            for wanted, each in thresholds.items():
                each[inside] = threshold_for(warm[:, c.malignant].sum(1), sick[others], wanted)
            limit[inside] = set_threshold(warm, fitting, min(1, level))
            if self.distances is not None:
                known = others & ~np.isnan(self.distances)
                share = 1 - float(self.settings["calibrate"]["false_referral"])
                far[inside] = group_quantile(self.distances[known], c.groups[known], share)
        return after, thresholds, limit, far

    def calibration(self, when: str, reported: Mapping[str, Any], cells: Cells) -> None:
        """Expected calibration error, proper scores, intercept and slope."""
        part, c = f"calibration {when}", cells
        sure, right = c.chances[np.arange(len(c.labels)), c.called], (c.called == c.labels).astype(float)
        bins = reported["expected_calibration_error"]["bins"]
        place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
        gap = np.zeros((len(sure), bins))
        gap[np.arange(len(sure)), place] = right - sure
        error = np.abs(gap.sum(0)).sum() / len(sure)
        self.ledger.note(part, "ECE", reported["expected_calibration_error"]["value"], error)
        seen, _ = self.all.weights(0)
        drawn = np.abs(seen @ self.all.per_unit(gap)).sum(1) / (seen @ self.all.per_unit(np.ones(len(sure))))
        bias = drawn.mean() - error  # gaps of noise add up in each draw as they did in the images
        for end, side, share in (
            ("low", 0, (1 - self.confidence) / 2),
            ("high", 1, (1 + self.confidence) / 2),
        ):
            error_of_share = ERRORS * np.sqrt(share * (1 - share) * (1 / len(drawn) + 1 / self.theirs))
            spread = ERRORS * 2 * drawn.std() * np.sqrt(1 / len(drawn) + 1 / self.theirs)
            shifted = (
                np.quantile(drawn, np.clip([share - error_of_share, share, share + error_of_share], 0, 1))
                - 2 * bias
            )
            clipped = np.clip(
                shifted + np.array([-spread, 0, spread]), *((0, error) if side == 0 else (error, 1))
            )
            self.ledger.note(
                part,
                f"ECE {end}",
                reported["expected_calibration_error"][end],
                clipped[1],
                (clipped[0], clipped[2]),
            )
        noise = self.noise_floor(sure, place, bins)
        self.ledger.note(
            part, "ECE noise floor", reported["expected_calibration_error"]["noise_floor"], noise[0], noise[1]
        )
        for name in ("brier", "log_loss"):
            self.metric(part, name, reported[name], cells)
        sick = c.malignant[c.labels]
        if "calibration_slope" in reported:
            mine = recalibration(c.chances[:, c.malignant].sum(1), sick, c.groups, self.confidence)
            for name, values in mine.items():
                for end, value in zip(("value", "low", "high"), values, strict=True):
                    self.ledger.note(
                        part,
                        f"{name} {end}",
                        reported[f"calibration_{name}"][end],
                        value,
                        (value - 1e-4, value + 1e-4),
                    )

    def noise_floor(
        self, sure: np.ndarray, place: np.ndarray, bins: int, rounds: int = 400
    ) -> tuple[float, tuple[float, float]]:
        """Mean error of as many independent images whose probabilities are true."""
        rng = np.random.default_rng(5)
        errors = [
            np.abs(np.bincount(place, (rng.random(len(sure)) < sure) - sure, bins)).sum() / len(sure)
            for _ in range(rounds)
        ]
        mean, slack = float(np.mean(errors)), ERRORS * float(np.std(errors)) * np.sqrt(1 / rounds + 1 / 200)
        return mean, (mean - slack, mean + slack)

    def point(self, point: Mapping[str, Any], cells: Cells, thresholds: np.ndarray) -> None:
        """A wanted sensitivity: what is reached, and predictive values."""
        sick, called = cells.malignant[cells.labels], cells.chances[:, cells.malignant].sum(1) >= thresholds
        two = Cells(
            sick.astype(int),
            called.astype(int),
            cells.chances,
            cells.groups,
            ("negative", "positive"),
            np.array([False, True]),
        )
        part, wanted = "thresholds", point["wanted"]
        for name, kind in (
            ("sensitivity", "recall"),
            ("specificity", "specificity"),
            ("precision", "precision"),
        ):
            self.of_matrix(f"{part} {wanted}", f"{kind}:positive", point[name], two)
        counts = {
            "missed": (sick & ~called).sum(),
            "false_alarms": (~sick & called).sum(),
            "positives": sick.sum(),
            "others": (~sick).sum(),
        }
        for name, count in counts.items():
            self.ledger.note(f"{part} {wanted}", name, point[name], count)

    def benefit(self, point: Mapping[str, Any], cells: Cells) -> None:
        """Net benefit at one threshold, and its gain over calling all."""
        sick, t = cells.malignant[cells.labels], point["threshold"]
        called, price = cells.chances[:, cells.malignant].sum(1) >= t, t / (1 - t)
        worth = np.where(sick, 1.0, -price)
        part = "net benefit"
        model = np.where(called, worth, 0)
        pair = mean_ends(model, np.where(sick, 0, -price), np.where(sick, 1.0, 0), self.all)
        self.interval(part, f"{t} model", point["model"], model.mean(), pair)
        gain = np.where(called, 0, -worth)
        pair = mean_ends(gain, np.where(sick, -1.0, 0), np.where(sick, 0, price), self.all)
        self.interval(part, f"{t} over all", point["over_all"], gain.mean(), pair)
        for name, mine in (
            ("all_called", worth.mean()),
            ("called", called.mean()),
            ("missed", (sick & ~called).sum()),
            ("false_alarms", (called & ~sick).sum()),
        ):
            self.ledger.note(part, f"{t} {name}", point[name], mine)

    def share(
        self, part: str, name: str, reported: Mapping[str, Any], mask: np.ndarray, cells: Cells
    ) -> None:
        """A share of images with its interval."""
        values, draws = mask.astype(float), self.drawn(cells)
        pair = mean_ends(values, 0 * values, 0 * values + 1, draws)
        if reported["low"] is None:
            pair = None
        self.interval(
            part, name, reported, values.mean(), pair, len(np.unique(cells.groups)) if pair else None
        )

    def referral(
        self, found: Mapping[str, Any], cells: Cells, limit: np.ndarray, far: np.ndarray | None
    ) -> None:
        """Prediction sets, reasons, and accuracy on what is kept."""
        part, c = "referral", cells
        members = c.chances >= limit[:, None]
        sizes, rows = members.sum(1), np.arange(len(c.labels))
        covered, right = members[rows, c.labels], c.called == c.labels
        sets = found["prediction_sets"]
        self.share(part, "coverage", sets["measured_coverage"], covered, c)
        for k, label in enumerate(c.classes):
            of = c.labels == k
            self.share(
                part,
                f"coverage of {label}",
                sets["measured_coverage_by_class"][label],
                covered[of],
                c.take(of),
            )
        for count, share in enumerate(sets["share_by_size"]):
            self.ledger.note(part, f"sets of {count}", share, (sizes == count).mean())
        unlike = np.zeros(len(rows), bool)
        if self.distances is not None and far is not None:
            unlike = ~np.isnan(self.distances) & (self.distances > far)
        reasons = {
            "unlike": unlike,
            "more than one": ~unlike & (sizes > 1),
            "no class": ~unlike & (sizes == 0),
        }
        referred = unlike | (sizes != 1)
        self.share(part, "referred", found["referred"], referred, c)
        for words, reported in found["reasons"].items():
            mask = next(mask for key, mask in reasons.items() if key in words)
            self.share(part, words, reported, mask, c)
        self.of_matrix(part, "accuracy", found["accuracy_of_kept"], c.take(~referred))
        self.ledger.note(
            part,
            "wrong answers referred",
            found["share_of_wrong_answers_referred"],
            (referred & ~right).sum() / (~right).sum(),
        )
        order = np.lexsort((self.ids, c.chances[rows, c.called]))
        for kept in found["accuracy_by_share_referred"]:
            rest = c.take(np.sort(order[int(kept["referred"] * len(rows)) :]))
            self.of_matrix(part, "accuracy", kept["accuracy"], rest)
            ill = c.malignant
            for name, mine in (
                ("images", len(rest.labels)),
                ("wrong", (rest.called != rest.labels).sum()),
                ("missed_malignant", (ill[rest.labels] & ~ill[rest.called]).sum()),
            ):
                self.ledger.note(part, f"{kept['referred']} {name}", kept[name], mine)

    # --- subjects and the blessing -------------------------------------------------------------------

    def subject_calls(self) -> None:
        """Whole subjects called malignant from a share of malignant calls that others chose."""
        found = self.results["subject_calls"]
        if found is None or "not_made" in found:
            return
        c, part = self.cells, "subject calls"
        known = self.subjects != ""
        names, first, unit = np.unique(self.subjects[known], return_index=True, return_inverse=True)
        images = np.bincount(unit)
        sick = np.bincount(unit, c.malignant[c.labels[known]]) > 0
        share = np.bincount(unit, c.malignant[c.called[known]]) / images
        rows = {each["subject"]: each for each in found["subjects"]}
        self.ledger.note(part, "subjects", len(rows), len(names))
        if not found["cross_fitted"]:
            thresholds = np.full(len(names), found["threshold"])
        else:
            self.ledger.note(part, "threshold", found["threshold"], choose_share(share, sick))
            fold, thresholds = self.fold[known][first], np.zeros(len(names))
            for each in np.unique(fold):
                thresholds[fold == each] = choose_share(share[fold != each], sick[fold != each])
        called = share >= thresholds
        for k, name in enumerate(names):
            self.ledger.note(part, f"{name} images", rows[name]["images"], images[k])
            self.ledger.note(part, f"{name} share", rows[name]["share"], share[k])
            self.ledger.note(part, f"{name} called", rows[name]["called"], bool(called[k]))
        two = Cells(
            sick.astype(int),
            called.astype(int),
            np.column_stack([1 - share, share]),
            c.groups[known][first],
            ("negative", "positive"),
            np.array([False, True]),
        )
        for name, reported in found["metrics"].items():
            self.metric(part, name, reported, two)

    def blessing(self) -> None:
        """The criteria that are judged by scores, from the floors, and the verdict from all criteria."""
        r, floors, c = self.results, self.settings["bless"], self.cells
        criteria = {each["criterion"]: each for each in r["criteria"]}
        sizes = {label: int((c.labels == k).sum()) for k, label in enumerate(c.classes)}
        groups = {label: len(np.unique(c.groups[c.labels == k])) for k, label in enumerate(c.classes)}
        one, ill = 1 / len(c.classes), c.malignant.mean()
        lows = {label: r["by_class"][label]["recall"]["low"] for label in c.classes}
        metrics = {name: found["low"] for name, found in r["metrics"].items()}
        judged = {
            "images_per_class": (min(sizes.values()), floors["images_per_class"], "images"),
            "groups_per_class": (min(groups.values()), floors["groups_per_class"], "groups"),
            "balanced_accuracy": (
                metrics["balanced_accuracy"],
                one + floors["balanced_accuracy_above_chance"],
                "low",
            ),
            "class_sensitivity": (min(lows.values()), one + floors["class_sensitivity_above_chance"], "low"),
        }
        if 0 < ill < 1:
            for name, chance in (("malignant_sensitivity", ill), ("malignant_specificity", 1 - ill)):
                judged[name] = (metrics[name], max(floors[name], chance), "low")
        for name, (mine, floor, key) in judged.items():
            self.ledger.note("blessing", f"{name} {key}", criteria[name][key], mine)
            self.ledger.note("blessing", f"{name} floor", criteria[name]["floor"], floor)
            met = mine >= floor if name.endswith("per_class") else mine > floor
            self.ledger.note("blessing", f"{name} met", criteria[name]["met"], bool(met))
        self.ledger.note("blessing", "blessed", r["blessed"], all(each["met"] for each in criteria.values()))

    def run(self) -> pd.DataFrame:
        """Every part; the table of what was compared."""
        self.scores()
        self.trust()
        self.subject_calls()
        self.blessing()
        return self.ledger.table()


def choose_share(share: np.ndarray, sick: np.ndarray) -> float:
    """Middle of two neighbouring shares with the highest sensitivity plus specificity; the widest gap, then the lowest."""
    ends_of = np.r_[0, np.unique(share), 1]
    best = []
    for low, high in pairwise(ends_of):
        if high > low:
            middle = (low + high) / 2
            called = share >= middle
            gain = called[sick].mean() - called[~sick].mean()
            best.append((-round(gain, 9), -(high - low), middle))
    return min(best)[2]


def denominator(name: str, cells: Cells) -> tuple[Callable[[np.ndarray], np.ndarray] | None, np.ndarray]:
    """The images that a plain proportion is of, by confusion matrices (None: no plain proportion), and which they are."""
    ill = cells.malignant.astype(float)
    everyone = np.ones(len(cells.labels), bool)
    if name == "accuracy":
        return lambda m: m.sum((-1, -2)), everyone
    if name == "malignant_sensitivity":
        return lambda m: (m.sum(-1) * ill).sum(-1), cells.malignant[cells.labels]
    if name == "malignant_specificity":
        return lambda m: (m.sum(-1) * (1 - ill)).sum(-1), ~cells.malignant[cells.labels]
    if ":" in name:
        kind, label = name.split(":", 1)
        k = cells.classes.index(label)
        if kind == "recall":
            return lambda m: m[..., k, :].sum(-1), cells.labels == k
        if kind == "precision":
            return lambda m: m[..., :, k].sum(-1), cells.called == k
        if kind == "specificity":
            return lambda m: m.sum((-1, -2)) - m[..., k, :].sum(-1), cells.labels != k
        return None, (cells.labels == k) | (cells.called == k)
    return None, everyone


# --- a run's folder ----------------------------------------------------------------------------------


def read_audit(folder: Path, draws: int = 20_000) -> Audit:
    """The audit of a run's folder: report.json, predictions.csv, and of run.json settings and where the split lies."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    outputs = {each["type"]: Path(each["path"]) for step in run["steps"] for each in step["outputs"].values()}
    read = {"id": str, "subject": str, "group": str, "label": str, "decision": str}
    table = pd.read_csv(folder / "predictions.csv", dtype=read, keep_default_na=False)
    split = json.loads((outputs["Split"] / "split.json").read_text(encoding="utf-8"))
    part = pd.DataFrame(split["examples"], columns=split["columns"]).set_index("id")["part"]
    distances, known = None, outputs.get("Safeguards", folder) / "distances.npz"
    if known.is_file():
        with np.load(known, allow_pickle=False) as arrays:
            distances = pd.Series(arrays["distances"], index=arrays["ids"]).reindex(table["id"]).to_numpy()
    results = json.loads((folder / "report.json").read_text(encoding="utf-8"))["results"]
    fold = part.reindex(table["id"]).to_numpy() if split["kind"] == "folds" else None
    return make_audit(results, table, fold, run["settings"], distances, draws)


def make_audit(
    results: Mapping[str, Any],
    table: pd.DataFrame,
    fold: np.ndarray | None,
    settings: Mapping[str, Any],
    distances: np.ndarray | None = None,
    draws: int = 20_000,
) -> Audit:
    """The audit of a report whose predictions are in ``table``, with the columns of predictions.csv."""
    classes = tuple(results["labels"])
    index = {label: k for k, label in enumerate(classes)}
    cells = Cells(
        table["label"].map(index).to_numpy(),
        table["decision"].map(index).to_numpy(),
        table[[f"p_{label}" for label in classes]].to_numpy(float),
        table["group"].to_numpy(str),
        classes,
        np.isin(classes, results["malignant"]),
    )
    cells.chances /= cells.chances.sum(1, keepdims=True)
    return Audit(
        results,
        cells,
        table["id"].to_numpy(str),
        table["subject"].to_numpy(str),
        fold,
        settings,
        distances,
        draws,
    )


def main() -> int:
    """Prints what was compared, part by part, and every figure that differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=20_000)
    given = parser.parse_args()
    found = read_audit(given.folder, given.draws).run()
    for kind, rows in found.groupby("drawn"):
        print("drawn anew" if kind else "computed")
        for part, each in rows.groupby("part", sort=False):
            print(
                f"  {part:24} {len(each):4} figures, largest difference {each['difference'].max():.2g}, {(~each['agrees']).sum()} differ"
            )
    odd = found[~found["agrees"]]
    print(f"{len(found)} figures, {len(odd)} differ")
    if len(odd):
        print(odd.to_string())
    return int(bool(len(odd)))


if __name__ == "__main__":
    sys.exit(main())
