"""Calling subjects: the share of a subject's images that are called malignant, and a threshold on it.

The threshold comes from subjects that are not scored (validation, or the other folds), as everything else that
is chosen. A subject counts as malignant where any of its images is labelled so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasall.errors import DataError
from kerasall.evaluation.cross_fitting import cross_fit, deal_parts, number_folds
from kerasall.evaluation.intervals import Interval, Scorer, wilson_interval
from kerasall.evaluation.metrics import malignant_mask
from kerasall.evaluation.operating_points import NEGATIVE, POSITIVE, SENSITIVITY, SPECIFICITY
from kerasall.evaluation.predictions import Predictions

FEW_SUBJECTS = 10
"""Fewer fitting subjects of a kind than this: the threshold is said to rest on few."""

SCORED = ("accuracy", SENSITIVITY, SPECIFICITY, "roc_auc")
"""Metrics over subjects, each subject counting once."""


@dataclass(frozen=True, eq=False)
class Subjects:
    """S subjects by name, and what their images were called.

    Attributes:
        names: str [S], ascending.
        groups: str [S], the group (subject joined with its duplicates) each is in.
        malignant: bool [S], whether any image is labelled malignant.
        mixed: bool [S], whether some images are labelled malignant and others not.
        images: int [S].
        called: int [S], images called malignant.
    """

    names: np.ndarray
    groups: np.ndarray
    malignant: np.ndarray
    mixed: np.ndarray
    images: np.ndarray
    called: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shares(self) -> np.ndarray:
        """Share of each subject's images that are called malignant, float [S]."""
        return self.called / self.images

    def take(self, rows: np.ndarray) -> Subjects:
        """The subjects of the given rows (indices or a boolean mask)."""
        return Subjects(**{name: value[rows] for name, value in vars(self).items()})


def count_subjects(predictions: Predictions, malignant: Sequence[str]) -> Subjects:
    """Counts each subject's images and those decided as a malignant class; images of nobody are left out.

    Raises:
        DataError: no image has a subject, or one subject's images stand in several groups.
        SettingsError: a name is not a class.
    """
    mask = malignant_mask(predictions.classes, malignant)
    known = predictions.subjects != ""
    if not known.any():
        raise DataError("subjects can be called only where images name them, but none does")
    predictions = predictions.take(known)
    names, first, rows = np.unique(predictions.subjects, return_index=True, return_inverse=True)
    groups = predictions.group_names
    if (groups != groups[first][rows]).any():
        torn = names[rows][groups != groups[first][rows]][0]
        raise DataError(f"a subject's images must be in one group, but those of {torn} are in several")
    images = np.bincount(rows)
    labelled = np.bincount(rows, weights=mask[predictions.labels]).astype(int)
    called = np.bincount(rows, weights=mask[predictions.decisions]).astype(int)
    mixed = (labelled > 0) & (labelled < images)
    return Subjects(names, groups[first], labelled > 0, mixed, images, called)


def choose_share(subjects: Subjects) -> float:
    """The share from which a subject is called malignant: highest sensitivity plus specificity.

    It lies above 0 and below 1, so that a subject without any malignant call is never called malignant, and
    one with nothing else always is. Of thresholds between two neighbouring shares the middle is taken; of
    equally good ones that of the widest gap, then the lowest, which misses fewer.

    Args:
        subjects: that are not the scored ones.

    Raises:
        DataError: all subjects are malignant or none is.
    """
    truth, shares = subjects.malignant, subjects.shares
    if truth.all() or not truth.any():
        raise DataError(
            f"a threshold needs subjects with and without malignant cells, but {int(truth.sum())} of "
            f"{len(truth)} have some"
        )
    ends = np.concatenate([[0.0], np.unique(shares), [1.0]])
    gaps, middles = np.diff(ends), (ends[:-1] + ends[1:]) / 2
    real = gaps > 0
    gaps, middles = gaps[real], middles[real]
    called = shares >= middles[:, None]
    gain = called[:, truth].mean(axis=1) - called[:, ~truth].mean(axis=1)
    best = np.lexsort((middles, -gaps, -np.round(gain, 9)))[0]
    return float(middles[best])


@dataclass(frozen=True, eq=False)
class SubjectCalls:
    """Subjects called by thresholds that other subjects chose.

    Attributes:
        subjects: S scored subjects.
        thresholds: float [S], the share from which each is called malignant.
        threshold: the one for new subjects, chosen on all fitting subjects.
        fitted_on: what the fitting images are: validation, out-of-fold or selection.
        fitting: malignant and other fitting subjects.
        cross_fitted: whether the scored subjects are the fitting ones, each called by the others' threshold.
        scores: metric -> interval over subjects, or over their groups.
    """

    subjects: Subjects
    thresholds: np.ndarray
    threshold: float
    fitted_on: str
    fitting: tuple[int, int]
    cross_fitted: bool
    scores: Mapping[str, Interval]

    @property
    def called(self) -> np.ndarray:
        """Which subjects are called malignant, bool [S]."""
        return self.subjects.shares >= self.thresholds

    def to_rows(self) -> list[dict[str, Any]]:
        """One row a subject, with the 95% interval of its share (Wilson, over its images alone)."""
        subjects = self.subjects
        ends = [wilson_interval(*counts) for counts in zip(subjects.called, subjects.images, strict=True)]
        columns = {
            "subject": subjects.names,
            "malignant": subjects.malignant,
            "images": subjects.images,
            "called_malignant": subjects.called,
            "share": subjects.shares,
            "low": np.array([low for low, _ in ends]),
            "high": np.array([high for _, high in ends]),
            "threshold": self.thresholds,
            "called": self.called,
            "right": self.called == subjects.malignant,
        }
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "threshold": self.threshold,
            "fitted_on": self.fitted_on,
            "fitting_malignant_subjects": self.fitting[0],
            "fitting_other_subjects": self.fitting[1],
            "cross_fitted": self.cross_fitted,
            "metrics": {name: interval.to_json() for name, interval in self.scores.items()},
            "subjects": self.to_rows(),
        }


def call_subjects(
    scorer: Scorer,
    fitting: Predictions,
    *,
    fitted_on: str,
    folds: Mapping[str, Sequence[str]] | None = None,
) -> SubjectCalls:
    """Calls the subjects of scored images by a threshold from those of fitting images.

    Where both are the same images, each subject is called by the threshold that the subjects of the other
    folds choose (or of the other of five parts, where there are no folds).

    Args:
        scorer: of N scored images.
        fitting: predictions of images that the model was not trained on, such as validation images.
        fitted_on: what ``fitting`` is: validation, out-of-fold or selection.
        folds: fold -> ids of its images, if the images are out-of-fold.

    Raises:
        DataError: no subject is known, one stands among the scored and the fitting images or in two folds,
            or the fitting subjects are of one kind.
    """
    subjects, others = (count_subjects(each, scorer.malignant) for each in (scorer.predictions, fitting))
    threshold, crossed = choose_share(others), set(scorer.predictions.ids) == set(fitting.ids)
    if crossed:
        thresholds = _cross_thresholds(subjects, _parts_of(subjects, scorer.predictions, folds))
    elif both := sorted(set(subjects.names) & set(others.names)):
        raise DataError(
            f"scored subjects must not have chosen the threshold, but {both[0]} stands on both sides"
        )
    else:
        thresholds = np.full(len(subjects), threshold)
    counts = int(others.malignant.sum()), int((~others.malignant).sum())
    scores = score_calls(scorer, subjects, thresholds)
    return SubjectCalls(subjects, thresholds, threshold, fitted_on, counts, crossed, scores)


def score_calls(scorer: Scorer, subjects: Subjects, thresholds: np.ndarray) -> dict[str, Interval]:
    """Metrics over subjects, each counting once, with intervals that resample their groups.

    Args:
        scorer: of the images.
        subjects: S subjects of theirs.
        thresholds: float [S], on the share of images called malignant.
    """
    return scorer.of(_as_predictions(subjects, thresholds)).intervals(SCORED)


def _as_predictions(subjects: Subjects, thresholds: np.ndarray) -> Predictions:
    shares = subjects.shares
    return Predictions(
        ids=subjects.names,
        subjects=subjects.names,
        groups=subjects.groups,
        labels=subjects.malignant.astype(np.int64),
        probabilities=np.stack([1 - shares, shares], axis=1),
        classes=(NEGATIVE, POSITIVE),
        decisions=(shares >= thresholds).astype(np.int64),
    )


def _parts_of(
    subjects: Subjects, scored: Predictions, folds: Mapping[str, Sequence[str]] | None
) -> np.ndarray:
    """Number of the part each subject is in, int [S]."""
    if not folds:
        return deal_parts(_as_predictions(subjects, np.full(len(subjects), 0.5)))
    known = scored.take(scored.subjects != "")
    numbers, rows = number_folds(known, folds), np.searchsorted(subjects.names, known.subjects)
    parts = np.zeros(len(subjects), np.int64)
    parts[rows] = numbers
    if (parts[rows] != numbers).any():
        torn = subjects.names[rows][parts[rows] != numbers][0]
        raise DataError(f"a subject must be in one fold, but the images of {torn} are in several")
    return parts


def _cross_thresholds(subjects: Subjects, parts: np.ndarray) -> np.ndarray:
    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        return np.full(int(inside.sum()), choose_share(subjects.take(others)))

    return cross_fit(parts, answer)
