"""The numbers of one evaluation, as the Evaluator leaves them and a report reads them; and what a model must reach
before it is pushed, criterion by criterion.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from kerasall.evaluation import confusion_scores as of_matrix
from kerasall.evaluation.curves import BandedCurve
from kerasall.evaluation.ensemble_scores import EnsembleScores, ViewGain
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import confusion_matrix, malignant_mask
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.sample_size import GroupSpread
from kerasall.evaluation.subgroups import Subgroups
from kerasall.evaluation.subject_calls import SubjectCalls
from kerasall.evaluation.trust_scores import TrustScores
from kerasall.files import atomic_path, read_json, write_json

FINDINGS = "findings"
"""Stem of the two files of an Evaluation that hold the findings."""

NUMBERS_VERSION = 2
"""``schema_version`` of report.json and its like. Version 1 held the page's sections, too."""

LEAST_KNOWN = 0.95
"""Share of every class's images whose patient must be known. The others may have a patient on either side of the
split; so few of them cannot carry a score."""

HONEST = ("test", "out-of-fold")
"""Kinds of scored images that decide no epochs and no weights; whether one of several models was chosen on them, a
run's record says."""


@dataclass(frozen=True)
class FoldScore:
    """The main score of one held-out fold: its name, images, groups, and the score."""

    fold: str
    images: int
    groups: int
    score: float


@dataclass(frozen=True)
class ScoresBeside:
    """Scores that stand beside those of the scored images: of some of them, or of all images while each was held out.

    Attributes:
        images: so many.
        intervals: metric -> value with interval.
        distance: how far the main score of the scored images lies above this one, with its interval; None where some of
            these are scored here.
    """

    images: int
    intervals: Mapping[str, Interval]
    distance: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        metrics = {name: interval.to_json() for name, interval in self.intervals.items()}
        distance = self.distance and self.distance.to_json()
        return {"images": self.images, "metrics": metrics, "distance": distance}


@dataclass(frozen=True)
class Criterion:
    """One criterion.

    Attributes:
        name: of the criterion; ``report/verdict.py`` has its words.
        met: whether it is met.
        values: the numbers it was judged by.
    """

    name: str
    met: bool
    values: Mapping[str, float | int | str | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {"criterion": self.name, "met": self.met, **self.values}


@dataclass(frozen=True)
class Floors:
    """What the scores of a model must reach; the settings ``bless`` describe each and give its default."""

    balanced_accuracy_above_chance: float
    malignant_sensitivity: float
    malignant_specificity: float
    class_sensitivity_above_chance: float
    images_per_class: int
    groups_per_class: int


@dataclass(frozen=True)
class Patients:
    """What is known of the patients of the images.

    Attributes:
        known: share of images whose patient is known, in the class where it is least, in [0, 1].
        blocks: runs of consecutive file numbers stand in for patients, which the source says.
        waived: the settings state that no patient can be told (data.subject: none).
    """

    known: float
    blocks: bool = False
    waived: bool = False

    @property
    def are_known(self) -> bool:
        """Whether images of one patient are kept on one side of a split, as good as all."""
        return self.known >= LEAST_KNOWN and not self.blocks


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything an evaluation computed.

    Attributes:
        scored: what the images are: test, out-of-fold, validation or selection.
        predictions: of the model on them.
        curves: the same images with the probabilities that curves are drawn from.
        malignant: names of the malignant classes.
        main: name of the main metric.
        intervals: metric -> value with interval, the main one first.
        criteria: of the blessing.
        folds: main score of each held-out fold; empty where there are none.
        roc, precision_recall: curves of the classes with bands.
        ensemble: the members beside the ensemble; None for one classifier.
        trust: what the exported model's safeguards are worth.
        subject_calls: calls of whole subjects, or why there are none: a word that the report knows (block, none, malignant), or a sentence.
        by_class: each class against the rest: class -> recall, precision, specificity and F1 with intervals.
        views: what averaging views gains; None where one view answers.
        out_of_fold: of the folds' models, where there are folds beside a test part.
        apart: of those of the scored images whose group was not trained on, where some were (split.joined: keep).
        spread: of shares between groups, and how many groups narrower intervals take.
        subgroups: scores by columns of the table of images; empty where none is named.
    """

    scored: str
    predictions: Predictions
    curves: Predictions
    malignant: tuple[str, ...]
    main: str
    intervals: Mapping[str, Interval]
    criteria: tuple[Criterion, ...]
    folds: tuple[FoldScore, ...] = ()
    roc: tuple[BandedCurve, ...] = ()
    precision_recall: tuple[BandedCurve, ...] = ()
    ensemble: EnsembleScores | None = None
    trust: TrustScores | None = None
    subject_calls: SubjectCalls | str = ""
    views: ViewGain | None = None
    by_class: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    out_of_fold: ScoresBeside | None = None
    apart: ScoresBeside | None = None
    spread: tuple[GroupSpread, ...] = ()
    subgroups: tuple[Subgroups, ...] = ()
    confusion: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "confusion", confusion_matrix(self.predictions))

    @property
    def blessed(self) -> bool:
        """Whether every criterion is met."""
        return all(criterion.met for criterion in self.criteria)

    @property
    def malignant_images(self) -> int | None:
        """How many of the images are malignant; None where no class is named so."""
        return self._count(of_matrix.malignant_images)

    @property
    def malignant_called_benign(self) -> int | None:
        """How many of these are decided as a benign class."""
        return self._count(of_matrix.malignant_called_benign)

    def _count(self, formula: of_matrix.Formula) -> int | None:
        mask = malignant_mask(self.predictions.classes, self.malignant)
        return int(formula(self.confusion, mask)) if self.malignant else None

    def to_json(self) -> dict[str, Any]:
        """The numbers of report.json, for programs."""
        calls = self.subject_calls
        return {
            "scored": self.scored,
            "images": len(self.predictions),
            "labels": list(self.predictions.classes),
            "malignant": list(self.malignant),
            "metrics": {name: interval.to_json() for name, interval in self.intervals.items()},
            "by_class": {
                name: {kind: interval.to_json() for kind, interval in scores.items()}
                for name, scores in self.by_class.items()
            },
            "confusion_matrix": self.confusion.tolist(),
            "malignant_called_benign": self.malignant_called_benign,
            "malignant_images": self.malignant_images,
            "folds": [vars(fold) for fold in self.folds],
            "out_of_fold": self.out_of_fold.to_json() if self.out_of_fold else None,
            "apart": self.apart.to_json() if self.apart else None,
            "sample_size": [each.to_json() for each in self.spread],
            "subgroups": [each.to_json() for each in self.subgroups],
            "blessed": self.blessed,
            "ensemble": self.ensemble.to_json() if self.ensemble else None,
            "views": self.views.to_json() if self.views else None,
            "trust": self.trust.to_json() if self.trust else None,
            "subject_calls": calls.to_json() if isinstance(calls, SubjectCalls) else {"not_made": calls},
            "criteria": [criterion.to_json() for criterion in self.criteria],
        }


# --- the blessing ------------------------------------------------------------------------------------


def judge(
    intervals: Mapping[str, Interval],
    recalls: Mapping[str, Interval],
    *,
    images: Mapping[str, int],
    malignant: int,
    floors: Floors,
    protocol: str,
    scored: str,
    chosen_on: Collection[str],
    errors: int,
    parity: Mapping[str, Any],
    near_searched: bool,
    patients: Patients,
    trained_beside: int,
) -> tuple[Criterion, ...]:
    """Every criterion of the blessing and whether it is met.

    Args:
        intervals: metric -> interval; ``malignant_sensitivity`` and ``malignant_specificity`` where the malignant
            classes are named.
        recalls: every class -> interval of its sensitivity.
        images: every class -> its scored images.
        malignant: number of malignant classes.
        floors: of the scores.
        protocol: honest or faithful.
        scored: what the images are: test, out-of-fold, validation or selection.
        chosen_on: the kinds of images on which the run chose among models.
        errors: validation errors in the data.
        parity: of the exported with the trained model: passed, tolerance, largest_difference, images.
        near_searched: whether near duplicates were looked for.
        patients: what is known of them.
        trained_beside: scored images of patients of whom other images were trained on.
    """
    return (
        Criterion("data_without_errors", errors == 0, {"errors": errors}),
        Criterion("near_duplicates_kept_together", near_searched),
        Criterion(
            "export_parity",
            parity["passed"],
            {name: parity[name] for name in ("tolerance", "largest_difference", "images")},
        ),
        *_judge_counts(recalls, images, floors),
        *_judge_classes(intervals["balanced_accuracy"], recalls, floors),
        *_judge_malignant(intervals, malignant / len(recalls), floors),
        Criterion("honest_protocol", protocol == "honest" and scored in HONEST and scored not in chosen_on),
        Criterion("patients_apart", not trained_beside, {"images": trained_beside}),
        Criterion(
            "patients_known",
            patients.are_known or patients.blocks or patients.waived,
            {"known": patients.known, "least": LEAST_KNOWN}
            | {"blocks": patients.blocks, "waived": patients.waived and not patients.are_known},
        ),
    )


def _judge_counts(
    recalls: Mapping[str, Interval], images: Mapping[str, int], floors: Floors
) -> Iterator[Criterion]:
    """Enough groups and images of the class that has the fewest."""
    groups = {name: recall.groups for name, recall in recalls.items()}
    wanted = {"groups": (groups, floors.groups_per_class), "images": (images, floors.images_per_class)}
    for kind, (counts, floor) in wanted.items():
        label = min(counts, key=lambda name: counts[name])
        values = {kind: counts[label], "label": label, "floor": floor}
        yield Criterion(f"{kind}_per_class", counts[label] >= floor, values)


def _judge_classes(whole: Interval, recalls: Mapping[str, Interval], floors: Floors) -> Iterator[Criterion]:
    """Balanced accuracy and the worst class above 1/C: a guess's sensitivities sum to 1, however it guesses."""
    label, worst = min(recalls.items(), key=lambda each: -1 if each[1].low is None else each[1].low)
    judged = (
        ("balanced_accuracy", whole, floors.balanced_accuracy_above_chance, {}),
        ("class_sensitivity", worst, floors.class_sensitivity_above_chance, {"label": label}),
    )
    for name, score, above_chance, named in judged:
        floor = 1 / len(recalls) + above_chance
        values = {"low": score.low, "above_chance": above_chance, "floor": floor, "groups": score.groups}
        yield Criterion(name, _above(score.low, floor), values | named)


def _judge_malignant(intervals: Mapping[str, Interval], share: float, floors: Floors) -> Iterator[Criterion]:
    """Malignant sensitivity and specificity above what guessing one of the classes reaches, and above the floors.

    Args:
        intervals: as for ``judge``.
        share: of the classes that are malignant: the sensitivity of such a guess, and 1 less its specificity.
        floors: of the scores.
    """
    if not share:
        yield Criterion("malignant_classes_named", False)
        return
    if share == 1:  # no class is benign: nothing can be missed, and every class is judged by itself
        return
    judged = (
        ("malignant_sensitivity", floors.malignant_sensitivity, share),
        ("malignant_specificity", floors.malignant_specificity, 1 - share),
    )
    for name, wanted, chance in judged:
        score, floor = intervals[name], max(wanted, chance)
        values = {"low": score.low, "chance": chance, "floor": floor, "groups": score.groups}
        yield Criterion(name, _above(score.low, floor), values)


def _above(value: float | None, floor: float) -> bool:
    """NaN and None, the marks of a score that is not defined, are not above anything."""
    return value is not None and value > floor


# --- on disk ------------------------------------------------------------------------------------------


def write_findings(findings: Findings, folder: Path) -> None:
    """Writes the findings as ``findings.json``, whose arrays stand in ``findings.npz``."""
    arrays: dict[str, np.ndarray] = {}
    write_json(folder / f"{FINDINGS}.json", _pack(findings, arrays))
    with atomic_path(folder / f"{FINDINGS}.npz") as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_findings(folder: Path) -> Findings:
    """Reads what ``write_findings`` wrote, every number as it was."""
    with np.load(folder / f"{FINDINGS}.npz", allow_pickle=False) as arrays:
        classes = {each.__name__: each for each in _held_by(Findings)}
        return _unpack(read_json(folder / f"{FINDINGS}.json"), dict(arrays), classes)


def _held_by(hint: Any) -> Iterator[type]:
    """The dataclasses that a value of an annotated type may be or hold."""
    if is_dataclass(hint) and isinstance(hint, type):
        yield hint
        for inner in get_type_hints(hint).values():
            yield from _held_by(inner)
    for inner in get_args(hint):
        yield from _held_by(inner)


def _pack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        arrays[f"a{len(arrays)}"] = value.astype(str) if value.dtype == object else value
        return {"array": f"a{len(arrays) - 1}"}
    if isinstance(value, np.generic):
        return _pack(value.item(), arrays)
    if is_dataclass(value):
        given = {f.name: _pack(getattr(value, f.name), arrays) for f in fields(value) if f.init}
        return {"class": type(value).__name__, "fields": given}
    if isinstance(value, Mapping):
        return {"items": [[_pack(key, arrays), _pack(each, arrays)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_pack(each, arrays) for each in value]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}  # JSON has no word for it
    return value


def _unpack(value: Any, arrays: Mapping[str, np.ndarray], classes: Mapping[str, type]) -> Any:
    if not isinstance(value, dict):
        return value
    kind, content = next(iter(value.items()))
    if kind == "array":
        return arrays[content]
    if kind == "float":
        return float(content)
    if kind == "class":
        return classes[content](**{n: _unpack(v, arrays, classes) for n, v in value["fields"].items()})
    if kind == "items":
        return {_unpack(k, arrays, classes): _unpack(v, arrays, classes) for k, v in content}
    each = [_unpack(v, arrays, classes) for v in content]
    return tuple(each) if kind == "tuple" else each


def write_numbers(path: Path, title: str, protocol: str, results: Mapping[str, Any]) -> None:
    """Writes the numbers of a page for programs: schema_version, title, protocol, results."""
    document = {"schema_version": NUMBERS_VERSION, "title": title, "protocol": protocol, "results": results}
    write_json(path, document)
