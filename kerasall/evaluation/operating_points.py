"""Thresholds: chosen on validation images, what they reach on others, and what calling cells malignant is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.confusion_scores import ratio, recall
from kerasall.evaluation.cross_fitting import cross_fit
from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.metrics import Metric, confusion_matrix, malignant_mask
from kerasall.evaluation.predictions import JsonFields, Predictions
from kerasall.evaluation.safeguards import Calibration, OperatingPoint

NEGATIVE, POSITIVE = "negative", "positive"

SENSITIVITY, SPECIFICITY, PRECISION = (
    f"{kind}:{POSITIVE}" for kind in ("recall", "specificity", "precision")
)
"""Metrics of two such classes."""

THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Of a decision curve, from "one missed cell is as bad as 99 false alarms" to "as bad as one"."""


def positive_scores(predictions: Predictions, positive: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Summed probability of the classes ``positive``, float [N], and which images are of them, bool [N].

    Raises:
        DataError: all images or none are of these classes.
        SettingsError: a name is not a class.
    """
    mask = malignant_mask(predictions.classes, positive)
    truth = mask[predictions.labels]
    if truth.all() or not truth.any():
        raise DataError(
            f"images of {list(positive)} and of other classes are both needed, but {int(truth.sum())} of "
            f"{len(truth)} are of them"
        )
    return predictions.probabilities[:, mask].sum(axis=1), truth


def operating_point(validation: Predictions, positive: Sequence[str], sensitivity: float) -> OperatingPoint:
    """The highest threshold that reaches a wanted sensitivity on validation images.

    It lies half-way between the last score that must be called and the next lower one, so that rounding
    cannot turn a call around. Report it on test images through ``collapse``.

    Args:
        validation: predictions that are not the test's.
        positive: the classes to find, for example the malignant ones.
        sensitivity: wanted share of them, in (0, 1].

    Raises:
        SettingsError: the wanted sensitivity is out of range.
        DataError: the images are all positive or all not.
    """
    if not 0 < sensitivity <= 1:
        raise SettingsError(f"a wanted sensitivity must be above 0 and at most 1, but is {sensitivity}")
    scores, truth = positive_scores(validation, positive)
    needed = _count_needed(sensitivity, int(truth.sum()))
    lowest = np.sort(scores[truth])[::-1][needed - 1]
    below = scores[scores < lowest]
    threshold = (lowest + below.max()) / 2 if len(below) else lowest / 2
    called = scores >= threshold
    return OperatingPoint(float(threshold), float(called[truth].mean()), float(1 - called[~truth].mean()))


def expect_sensitivity(wanted: float, positives: int) -> float:
    """What ``operating_point`` can be expected to reach on new images: ceil(wanted n) / (n + 1).

    Its threshold is the score of the ceil(wanted n)-th of n positive images, and a new one's rank among them is
    uniform; half-way down to the next score it gains at most 1 / (n + 1). Where a group's images are alike, n counts
    groups; where they are not, images; so that both bound what few groups can promise.

    Args:
        wanted: sensitivity on the images that choose the threshold, in (0, 1].
        positives: n, at least 1.

    >>> round(expect_sensitivity(0.99, 20), 3), expect_sensitivity(0.99, 99)
    (0.952, 0.99)
    """
    return _count_needed(wanted, positives) / (positives + 1)


def _count_needed(sensitivity: float, positives: int) -> int:
    return ceil(sensitivity * positives - 1e-9)


def collapse(predictions: Predictions, positive: Sequence[str], threshold: float) -> Predictions:
    """The same images as two classes, "negative" and "positive", decided at ``threshold``.

    All metrics and intervals apply: "recall:positive" is the sensitivity.
    """
    mask = malignant_mask(predictions.classes, positive)
    scores = np.clip(predictions.probabilities[:, mask].sum(axis=1), 0, 1)
    return replace(
        predictions,
        labels=mask[predictions.labels],
        probabilities=np.stack([1 - scores, scores], axis=1),
        classes=(NEGATIVE, POSITIVE),
        decisions=scores >= threshold,
    )


@dataclass(frozen=True)
class Prevalence(JsonFields):
    """Where a model would be used other images are malignant than where it was scored.

    Attributes:
        share: of malignant images where it would be used, in (0, 1).
        fitted: the same among the images that its calibrated probabilities were fitted to, in (0, 1).
    """

    share: float
    fitted: float

    def threshold_of(self, chance: float) -> float:
        """The calibrated probability that means ``chance``, in (0, 1), at this prevalence.

        Odds move as the odds of the prevalence do: sensitivity and specificity are taken to stay the same.
        Source: Elkan, IJCAI 2001, theorem 2.
        """
        malignant, other = (
            chance * self.fitted / self.share,
            (1 - chance) * (1 - self.fitted) / (1 - self.share),
        )
        return malignant / (malignant + other)


@dataclass(frozen=True)
class ScoredPoint(JsonFields):
    """A wanted sensitivity and what was reached on images that did not choose the threshold.

    Attributes:
        wanted: sensitivity that was asked for.
        threshold: of the exported model, on calibrated probabilities.
        sensitivity: share of positive images called so.
        specificity: share of other images not called so.
        precision: share of called images that are positive.
        missed: positive images not called.
        false_alarms: other images called.
        positives: positive images.
        others: other images.
        positive_value: at a stated prevalence, share of called images that are positive; None where none is stated,
            or no image is called.
        negative_value: likewise, share of images not called that are not positive.
    """

    wanted: float
    threshold: float
    sensitivity: Interval
    specificity: Interval
    precision: Interval
    missed: int
    false_alarms: int
    positives: int
    others: int
    positive_value: Interval | None = None
    negative_value: Interval | None = None

    @property
    def expected(self) -> tuple[float, float]:
        """Sensitivity that a threshold chosen on these very images is expected to reach on new ones, see
        ``expect_sensitivity``: where a group's images are alike, and where they are not."""
        return expect_sensitivity(self.wanted, self.sensitivity.groups), expect_sensitivity(
            self.wanted, self.positives
        )


def score_point(
    scorer: Scorer, wanted: float, threshold: float, prevalence: Prevalence | None = None
) -> ScoredPoint:
    """Scores decisions at a threshold, from ``collapse`` or ``cross_collapse``.

    Args:
        scorer: of N images, negative and positive.
        wanted: sensitivity that was asked for.
        threshold: of the exported model, to be told.
        prevalence: that predictive values are told for.
    """
    called, found = scorer.predictions, scorer.intervals([SENSITIVITY, SPECIFICITY, PRECISION])
    (others, false_alarms), (missed, hits) = confusion_matrix(called).tolist()
    return ScoredPoint(
        wanted,
        threshold,
        sensitivity=found[SENSITIVITY],
        specificity=found[SPECIFICITY],
        precision=found[PRECISION],
        missed=missed,
        false_alarms=false_alarms,
        positives=missed + hits,
        others=others + false_alarms,
        positive_value=prevalence and _predictive_value(scorer, prevalence.share, POSITIVE),
        negative_value=prevalence and _predictive_value(scorer, prevalence.share, NEGATIVE),
    )


def _predictive_value(scorer: Scorer, share: float, called: str) -> Interval | None:
    """Share of the images called so that are so, at a prevalence, from sensitivity and specificity (Bayes)."""
    if not (scorer.predictions.decisions == (NEGATIVE, POSITIVE).index(called)).any():
        return None

    def value(matrices: np.ndarray, _: np.ndarray) -> np.ndarray:
        specificity, sensitivity = np.moveaxis(recall(matrices), -1, 0)
        found, alarms = share * sensitivity, (1 - share) * (1 - specificity)
        right, wrong = (found, alarms) if called == POSITIVE else (1 - share - alarms, share - found)
        return ratio(right, right + wrong)

    return scorer.interval_of(Metric(called, called, "", requires=("every class labelled",), formula=value))


def predictive_values(scorer: Scorer, prevalence: Prevalence) -> dict[str, Interval | None]:
    """``positive`` and ``negative`` predictive value of the model's own calls, malignant or not, at a prevalence.

    Args:
        scorer: of N images, with the malignant classes named and images of both kinds.
        prevalence: that they are told for.
    """
    mask = malignant_mask(scorer.predictions.classes, scorer.malignant)
    called = replace(
        collapse(scorer.predictions, scorer.malignant, 0.5), decisions=mask[scorer.predictions.decisions]
    )
    return {
        name: _predictive_value(scorer.of(called), prevalence.share, name) for name in (POSITIVE, NEGATIVE)
    }


def cross_collapse(
    raw: Predictions,
    positive: Sequence[str],
    sensitivity: float,
    parts: np.ndarray,
    like: Calibration | None = None,
) -> Predictions:
    """Negative and positive decisions, each image's threshold chosen on the other parts alone.

    Calibration and threshold are both fitted without the part that they are applied to.

    Args:
        raw: N images with the model's own probabilities.
        positive: the classes to find.
        sensitivity: wanted.
        parts: number of each image's part, int [N].
        like: the calibration of the exported model, whose choices are taken.
    """
    mask = malignant_mask(raw.classes, positive)

    def answer(others: np.ndarray, inside: np.ndarray) -> np.ndarray:
        fitting = raw.take(others)
        calibration = fit_calibration(fitting, like=like)
        point = operating_point(calibration.apply_to(fitting), positive, sensitivity)
        scores = calibration.apply(raw.probabilities[inside])[:, mask].sum(axis=1)
        return np.stack([np.clip(scores, 0, 1), scores >= point.threshold], axis=1)

    answers = cross_fit(parts, answer)
    probabilities = np.stack([1 - answers[:, 0], answers[:, 0]], axis=1)
    return replace(collapse(raw, positive, 0.5), probabilities=probabilities, decisions=answers[:, 1])


@dataclass(frozen=True)
class NetBenefit(JsonFields):
    """Calling all images positive whose probability is at least ``threshold``.

    Attributes:
        threshold: p_t; a miss counts (1 - p_t) / p_t false alarms.
        model: TP / N - FP / N * p_t / (1 - p_t), in true positives per image.
        all_called: the same when every image is called positive; calling none gives 0, so that ``model`` is the
            gain over that.
        over_all: gain of the model over calling every image, of the same images.
        called: share of images called.
        missed: positive images not called.
        false_alarms: other images called.
        called_from: calibrated probability that means ``threshold`` at a stated prevalence, for which ``model``,
            ``all_called`` and ``over_all`` hold then; None where none is stated: they hold for the images' own.
    """

    threshold: float
    model: Interval
    all_called: float
    over_all: Interval
    called: float
    missed: int
    false_alarms: int
    called_from: float | None = None

    @property
    def false_alarms_per_miss(self) -> float:
        """How many false alarms one miss is worth at this threshold."""
        return (1 - self.threshold) / self.threshold

    @property
    def pays(self) -> bool:
        """Whether the intervals of the gains over calling all and over calling none both lie above 0."""
        return all(gain.low is not None and gain.low > 0 for gain in (self.model, self.over_all))


def decision_curve(
    scorer: Scorer, thresholds: Sequence[float] = THRESHOLDS, prevalence: Prevalence | None = None
) -> list[NetBenefit]:
    """Net benefit of calling images malignant at each threshold, with its interval over groups.

    Source: Vickers and Elkin, Med. Decis. Making 26:565, 2006.

    Args:
        scorer: of N images with probabilities that mean what they say.
        thresholds: in (0, 1).
        prevalence: that it is told for; None: that of the images.

    Raises:
        SettingsError: a threshold out of range.
        DataError: the images are all malignant or all not.
    """
    if not all(0 < threshold < 1 for threshold in thresholds):
        raise SettingsError(f"thresholds must lie between 0 and 1, but are {list(thresholds)}")
    scores, truth = positive_scores(scorer.predictions, scorer.malignant)
    if prevalence is not None:
        return [_benefit_elsewhere(scorer, prevalence, threshold) for threshold in thresholds]
    return [_benefit_at(scorer, scores, truth, threshold) for threshold in thresholds]


def _benefit_at(scorer: Scorer, scores: np.ndarray, truth: np.ndarray, threshold: float) -> NetBenefit:
    called, price = scores >= threshold, threshold / (1 - threshold)
    worth = np.where(truth, 1.0, -price)
    missed, alarms = int((truth & ~called).sum()), int((called & ~truth).sum())
    model = scorer.mean(np.where(called, worth, 0.0), np.where(truth, 0.0, -price), truth.astype(float))
    over_all = scorer.mean(
        np.where(called, 0.0, -worth), np.where(truth, -1.0, 0.0), np.where(truth, 0.0, price)
    )
    return NetBenefit(
        float(threshold), model, float(worth.mean()), over_all, float(called.mean()), missed, alarms
    )


def _benefit_elsewhere(scorer: Scorer, prevalence: Prevalence, threshold: float) -> NetBenefit:
    """The same at a prevalence that is not that of the images, from sensitivity and specificity."""
    share, price, start = prevalence.share, threshold / (1 - threshold), prevalence.threshold_of(threshold)
    called = collapse(scorer.predictions, scorer.malignant, start)

    def benefit(matrices: np.ndarray, _: np.ndarray) -> np.ndarray:
        specificity, sensitivity = np.moveaxis(recall(matrices), -1, 0)
        return share * sensitivity - (1 - share) * price * (1 - specificity)

    metric = Metric("benefit", "Net benefit", "", lowest=-(1 - share) * price, highest=share, formula=benefit)
    model = scorer.of(called).interval_of(metric)
    all_called = share - (1 - share) * price
    gains = {
        end: None if (v := getattr(model, end)) is None else v - all_called
        for end in ("value", "low", "high")
    }
    (others, alarms), (missed, hits) = confusion_matrix(called).tolist()
    share_called = share * hits / (hits + missed) + (1 - share) * alarms / (alarms + others)
    return NetBenefit(
        float(threshold), model, all_called, replace(model, **gains), share_called, missed, alarms, start
    )  # fmt: skip
