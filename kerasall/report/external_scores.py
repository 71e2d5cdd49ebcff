"""What an external check found, its scores, and what must be said beside them, the gravest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall.data.examples import Collection
from kerasall.errors import DataError
from kerasall.evaluation.class_mapping import BENIGN, MALIGNANT, ClassMapping
from kerasall.evaluation.intervals import FEW_GROUPS, Interval, Scorer, groups_known
from kerasall.evaluation.metrics import confusion_matrix
from kerasall.evaluation.operating_points import ScoredPoint, collapse, score_point
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.refer import UNLIKE, ReferScores, Safeguards, score_referral
from kerasall.evaluation.resampling import group_names
from kerasall.evaluation.subject_calls import SubjectCalls, count_subjects, score_calls
from kerasall.report.format import Score, format_value, score_of


def count_parts(parts: Iterable[str]) -> tuple[int, int]:
    """Images that decided something (trained, stopped or chose), and images that were scored as a test alone."""
    listed = list(parts)
    tested = sum(part == "test" for part in listed)
    return len(listed) - tested, tested


SCORED, MAPPED_OUT, SEEN, BESIDE_SEEN, UNREADABLE = (
    "scored", "class left out", "seen by the model", "of a group the model has seen", "not readable",
)  # fmt: skip


"""What became of an image, in words."""


@dataclass(frozen=True, eq=False)
class JudgedModel:
    """A model with what is known of it.

    Attributes:
        name: of its run or its folder.
        folder: of the SavedModel.
        card: what its training found; empty where there is none.
        seen: SHA-256 -> part of the images it has seen; None where that was not written down.
    """

    name: str
    folder: Path
    card: Mapping[str, Any]
    seen: Mapping[str, str] | None

    @property
    def results(self) -> Mapping[str, Any]:
        """The scores of its own evaluation."""
        return self.card.get("results") or {}

    @property
    def malignant(self) -> tuple[str, ...]:
        """Its malignant classes; empty where unknown."""
        return tuple(self.results.get("malignant") or ())

    @property
    def blessed(self) -> bool | None:
        """Whether it passed the checks for export on its own data; None where unknown."""
        return (self.card.get("blessing") or self.results).get("blessed")

    @property
    def safeguards(self) -> Safeguards | None:
        """Calibration, thresholds and prediction sets; None where the card holds none."""
        stored = self.card.get("safeguards")
        return Safeguards.from_json(stored) if stored else None

    @property
    def subject_threshold(self) -> float | None:
        """Share of malignant cells from which it calls a subject malignant; None where it does not."""
        return (self.results.get("subject_calls") or {}).get("threshold")


@dataclass(frozen=True, eq=False)
class ExternalCheck:
    """A model's answers to foreign images.

    Attributes:
        model: that answered.
        labels: its classes.
        collection: the images, as their source names them.
        mapping: of their classes.
        table: one row an image: id, path, label (theirs), subject, group, fate (``SCORED`` or why not),
            error; then for the readable ones called (the model's class) and refer_reason (a code, -1 where
            the model does not say).
        anomalies: what ``kerasall check`` says of the images.
        answers: of the scored images, over the model's own classes; labels are all 0.
        scored: the same over the scored classes.
        calibrated: with calibrated probabilities, likewise; None where the model does not calibrate.
        members: prediction sets over the scored classes, bool [N, scored classes], or None.
        reasons: code of each scored image's reason to be referred, int [N], or None.
    """

    model: JudgedModel
    labels: tuple[str, ...]
    collection: Collection
    mapping: ClassMapping
    table: pd.DataFrame
    anomalies: Mapping[str, Any]
    answers: Predictions
    scored: Predictions
    calibrated: Predictions | None
    members: np.ndarray | None
    reasons: np.ndarray | None

    @property
    def same_source(self) -> bool:
        """Whether the images come from a source of the same name as the training images."""
        return (self.model.card.get("data") or {}).get("source") == self.collection.source

    def count(self, fate: str) -> int:
        """Images with this fate."""
        return int((self.table["fate"] == fate).sum())

    @property
    def theirs(self) -> np.ndarray:
        """Class of each scored image as its source names it, str [N]."""
        return self.table.loc[self.table["fate"] == SCORED, "label"].to_numpy(str)


MUCH_REFERRED = 0.2


"""Share of images called unlike the training images from which on the scores are said to mean little."""


def list_cautions(check: ExternalCheck) -> list[str]:
    """Sentences on what the scores cannot tell."""
    return [
        *_about_likeness(check), *_about_model(check), *_about_seen(check), *_about_classes(check),
        *_about_groups(check), *_about_promises(check), *_about_data(check),
    ]  # fmt: skip


def _about_likeness(check: ExternalCheck) -> Iterator[str]:
    if check.reasons is None or check.model.safeguards is None or check.model.safeguards.domain is None:
        yield "The model cannot tell images unlike its training images: whether these are its business is unknown."
        return
    share = float((check.reasons == UNLIKE).mean())
    if share >= MUCH_REFERRED:
        yield (
            f"The model itself calls {100 * share:.1f}% of these images unlike its training images: its answers to "
            "them are guesses, and the scores below say what would happen if it were used all the same."
        )


def _about_promises(check: ExternalCheck) -> Iterator[str]:
    if check.members is not None:
        yield "The coverage stated for prediction sets, and calibration, were promised for the model's own kind of images only."


def _about_model(check: ExternalCheck) -> Iterator[str]:
    card = check.model.card
    if check.model.blessed is False:
        yield "The model did not pass the checks for export on its own data."
    if (card.get("data") or {}).get("source") == "synthetic":
        yield "The model was trained on rendered cells: it has never seen a photograph of blood."
    if check.collection.source == "synthetic":
        yield "The cells scored here are rendered, not photographed: the scores say nothing about leukaemia."
    elif check.same_source:
        yield (
            f"Training images and these come from the same kind of source ({check.collection.source}): if also from "
            "the same laboratory, this is no external check."
        )


def _about_seen(check: ExternalCheck) -> Iterator[str]:
    seen, beside = check.count(SEEN), check.count(BESIDE_SEEN)
    if check.model.seen is None:
        yield (
            "Which images the model was trained on was not written down when it was exported: copies of them may be "
            "scored here. Export it again to know."
        )
        return
    decided, tested = count_parts(check.model.seen.values())
    known = f"{decided:,} training and validation and {tested:,} test images"
    if seen or beside:
        yield (
            f"{seen:,} of {len(check.table):,} images are byte for byte among the model's own ({known}), and {beside:,} "
            "more are of the same subjects or show the same cells: all of these are left out."
        )
    yield (
        f"Files were compared with the model's own {known} byte for byte: copies that were compressed, resized or cropped "
        "are not recognised, nor are other images of the same patients under other names."
    )


def _about_classes(check: ExternalCheck) -> Iterator[str]:
    mapping, present = check.mapping, set(check.scored.labels.tolist())
    if mapping.kinds:
        yield (
            f"The classes of the images ({', '.join(check.collection.labels)}) and of the model ({', '.join(check.labels)}) "
            f"are joined to {BENIGN} and {MALIGNANT}. What one laboratory calls so need not be what another does: "
            f"{'; '.join(mapping.describe())}."
        )
    missing = [name for index, name in enumerate(mapping.classes) if index not in present]
    if missing:
        yield f"No image of {', '.join(missing)} is scored: what needs one is not defined, and AUC says nothing."
    if check.count(MAPPED_OUT):
        yield f"{check.count(MAPPED_OUT):,} images of {', '.join(mapping.left_out)} are left out, as stated."
    yield "Shares of classes here differ from those in a clinic: precision and accuracy hold for these shares only."


def _about_groups(check: ExternalCheck) -> Iterator[str]:
    groups = len(np.unique(group_names(check.scored)))
    if not groups_known(check.scored):
        yield "No patient is known of these images: they count as independent, and the intervals are too narrow."
    elif groups < FEW_GROUPS:
        yield f"Only {groups} groups of images (patients or stand-ins) are scored: the intervals are likely too narrow."
    if len(check.scored) < 100:
        yield f"Only {len(check.scored)} images are scored: no more than a first look."


def _about_data(check: ExternalCheck) -> Iterator[str]:
    if check.count(UNREADABLE):
        yield f"{check.count(UNREADABLE):,} images could not be read and are not scored."
    yield from check.collection.notes
    for anomaly in [*check.anomalies["errors"], *check.anomalies["warnings"]]:
        yield f"Of the images: {anomaly['message']}"


RESAMPLES = 2000


WANTED = ("balanced_accuracy", "accuracy", "f1_macro", "cohen_kappa", "mcc", "roc_auc", "log_loss")


MALIGNANT_METRICS = ("malignant_sensitivity", "malignant_specificity")


COMPARED = (*MALIGNANT_METRICS, "balanced_accuracy", "accuracy", "roc_auc")


"""Metrics shown beside those of the model's own evaluation, where both have them."""


class ExternalScores:
    """Everything the report says, computed once."""

    def __init__(self, check: ExternalCheck, seed: int = 0):
        """Scores the answers of ``check``; ``seed`` is of the intervals."""
        self.check, self.malignant = check, check.mapping.malignant
        self.scorer = Scorer(check.scored, self.malignant, RESAMPLES, seed)
        names = [*(MALIGNANT_METRICS if self.malignant else ()), *WANTED]
        self.intervals = self.scorer.intervals(names)
        self.unlike = self._unlike()
        self.referral = self._referral()
        self.points = self._points()
        self.subjects = self._subjects()
        self.cautions = list_cautions(check)

    def _unlike(self) -> Interval | None:
        """Share of images that the model calls unlike its training images; None where it cannot tell."""
        check, safeguards = self.check, self.check.model.safeguards
        if check.reasons is None or safeguards is None or safeguards.domain is None:
            return None
        return self.scorer.share(check.reasons == UNLIKE)

    def _referral(self) -> ReferScores | None:
        check, safeguards = self.check, self.check.model.safeguards
        if check.calibrated is None or check.members is None or check.reasons is None or safeguards is None:
            return None
        scorer = self.scorer.of(check.calibrated)
        return score_referral(scorer, check.members, check.reasons, safeguards.sets)

    def _points(self) -> tuple[ScoredPoint, ...]:
        """What the model's own thresholds reach here."""
        safeguards, calibrated = self.check.model.safeguards, self.check.calibrated
        if safeguards is None or calibrated is None or not self.malignant:
            return ()
        found = []
        for each in safeguards.points:
            called = self.scorer.of(collapse(calibrated, self.malignant, each.point.threshold))
            found.append(score_point(called, each.wanted, each.point.threshold))
        return tuple(found)

    def _subjects(self) -> SubjectCalls | None:
        """Subjects called by the model's own threshold, where subjects are real."""
        check, threshold = self.check, self.check.model.subject_threshold
        if threshold is None or check.collection.subject_kind != "subject" or not self.malignant:
            return None
        try:
            subjects = count_subjects(check.scored, self.malignant)
        except DataError:
            return None
        own = check.model.results["subject_calls"]
        thresholds = np.full(len(subjects), threshold)
        return SubjectCalls(
            subjects, thresholds, threshold, own["fitted_on"],
            (own["fitting_malignant_subjects"], own["fitting_other_subjects"]), False,
            score_calls(self.scorer, subjects, thresholds),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The numbers for programs."""
        check = self.check
        return {
            "model": str(check.model.folder),
            "data": str(check.collection.root),
            "source": check.collection.source,
            "mapping": dict(check.mapping.targets),
            "scored_classes": list(check.mapping.classes),
            "malignant": list(self.malignant),
            "images": len(check.table),
            "fates": {str(name): int(count) for name, count in check.table["fate"].value_counts().items()},
            "metrics": {name: found.to_json() for name, found in self.intervals.items()},
            "own_metrics": self.own_metrics,
            "confusion_matrix": confusion_matrix(check.scored).tolist(),
            "unlike_training_images": self.unlike and self.unlike.to_json(),
            "referral": self.referral and self.referral.to_json(),
            "operating_points": [each.to_json() for each in self.points],
            "subject_calls": self.subjects and self.subjects.to_json(),
            "cautions": self.cautions,
        }

    @property
    def own_metrics(self) -> dict[str, Mapping[str, Any]]:
        """Metrics of the model's own evaluation that mean the same here."""
        own = self.check.model.results.get("metrics") or {}
        same = not self.check.mapping.kinds
        names = COMPARED if same else MALIGNANT_METRICS
        return {name: own[name] for name in names if name in own and name in self.intervals}


def read_external_score(scores: ExternalScores, name: str) -> Score:
    """One metric with its interval, as the report shows it."""
    return score_of(name, scores.intervals[name], scores.check.mapping.classes)


def describe_scores(scores: ExternalScores) -> list[str]:
    """Lines for a terminal: scores with intervals, what was left out, every caution."""
    check = scores.check
    lines = [f"{len(check.scored):,} of {len(check.table):,} images scored", *check.mapping.describe()]
    for name, found in scores.intervals.items():
        score = read_external_score(scores, name)
        lines.append(f"{name:<24} {score.text:<8} {score.interval or found.note}")
    if scores.unlike is not None:
        lines.append(f"{'unlike training images':<24} {format_value(scores.unlike.value)}")
    return [*lines, *(f"caution: {each}" for each in scores.cautions)]


def predictions_table(check: ExternalCheck) -> pd.DataFrame:
    """One row an image: id, label (theirs), counts_as, subject, group, fate, called, the model's probability of
    every class, refer_reason (a code, -1 where unknown) and error."""
    table = check.table.drop(columns="path")
    table.insert(2, "counts_as", table["label"].map(dict(check.mapping.targets)))
    for index, name in enumerate(check.labels):
        values = pd.Series(check.answers.probabilities[:, index], index=table.index[table["fate"] == SCORED])
        table[f"p_{name}"] = values.reindex(table.index)
    return table
