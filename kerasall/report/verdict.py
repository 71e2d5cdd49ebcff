"""The verdict in words: every criterion of the blessing, and the lines a run ends with."""

from __future__ import annotations

from collections.abc import Sequence

from kerasall.errors import count_of
from kerasall.evaluation.findings import Criterion, Findings
from kerasall.evaluation.intervals import Interval

_WORDS = {
    "data_without_errors": "No validation error in the data",
    "near_duplicates_kept_together": "Near duplicates were looked for and kept on one side of the split",
    "export_parity": "Trained model, exported model and command line agree within {tolerance:g} "
    "(largest difference {largest_difference:.1e} on {images} images)",
    "balanced_accuracy": "Lower bound of balanced accuracy, {low:%}{over}, is above chance + {above_chance:%} = {floor:%}",
    "class_sensitivity": "Lower bound of every class's sensitivity, least {low:%}{over} ({label}), is above {floor:%}: no "
    "guess reaches that in every class",
    "images_per_class": "At least {floor} images of every class are scored (fewest: {images} of {label})",
    "groups_per_class": "At least {floor} groups of every class are scored (fewest: {groups} of {label})",
    "malignant_sensitivity": "Lower bound of sensitivity to malignant cells, {low:%}{over}, is above the floor of {floor:%}{guess}",
    "malignant_specificity": "Lower bound of the share of benign cells called benign, {low:%}{over}, is above the floor of "
    "{floor:%}{guess}",
    "malignant_classes_named": "The malignant classes are named (data.malignant)",
    "patients_known": "The patient is known of at least {least:%} of the images of every class (here {known:%}), or "
    "waived by data.subject: none",
    "patients_apart": "No scored image is of a patient (or a copy) of whom other images were trained on ({images} are)",
    "honest_protocol": "Honest protocol: nothing was chosen by this run on the images it is scored on",
}
"""Criterion -> its sentence; ``{low:%}`` reads 93.0%, or "not defined"."""

_NO_PATIENTS = {
    "waived": "patients waived by data.subject: none: images of one patient may stand on both sides",
    "blocks": "blocks of file numbers stand in for patients: images of one patient may stand on both sides",
}
"""What a verdict says where no patient is known, and what stands in their place."""

_NO_PARITY = "The exported model answers every image like the trained one"


class _Share(float):
    """A share that ``{:%}`` shows with one digit; NaN, the mark of one that is missing, as "not defined"."""

    def __format__(self, spec: str) -> str:
        if spec != "%":
            return format(float(self), spec)
        return "not defined" if self != self else f"{100 * self:.1f}%"


def describe_criterion(criterion: Criterion) -> str:
    """What must hold, with the numbers it was judged by."""
    if criterion.name == "export_parity" and criterion.values["largest_difference"] is None:
        return _NO_PARITY
    if criterion.name == "patients_known" and (caveat := describe_patients([criterion])):
        return f"{caveat[0].upper()}{caveat[1:]}"
    values = {name: float("nan") if value is None else value for name, value in criterion.values.items()}
    shares = {name: _Share(value) if isinstance(value, float) else value for name, value in values.items()}
    over = f" over {count_of(int(values['groups']), 'group')}" if "groups" in values else ""
    # Not in what earlier versions judged.
    guess = f" (guessing reaches {shares['chance']:%})" if "chance" in shares else ""
    return _WORDS[criterion.name].format(over=over, guess=guess, **shares)


def describe_patients(criteria: Sequence[Criterion]) -> str:
    """What stands in the place of patients that are not known, which every verdict must say; "" where they are known."""
    stated = next((each.values for each in criteria if each.name == "patients_known"), {})
    return next((words for name, words in _NO_PATIENTS.items() if stated.get(name)), "")


def describe_verdict(criteria: Sequence[Criterion]) -> str:
    """``blessed``, or ``not blessed`` with every criterion that is not met; then what ``describe_patients`` says."""
    failed = [describe_criterion(criterion) for criterion in criteria if not criterion.met]
    caveat = list(filter(None, [describe_patients(criteria)]))
    if not failed:
        return ", ".join(["blessed", *caveat])
    # Each sentence says what must hold: without these words it reads as if it did.
    return "; ".join([f"not blessed, as this does not hold: {'; '.join(failed)}", *caveat])


def describe_main_score(findings: Findings) -> str:
    """The main score with its interval, what was scored and how many images."""
    found = _score_words(findings.main, findings.intervals[findings.main])
    words = f"{found}, {findings.scored}, {count_of(len(findings.predictions), 'image')}"
    if held_out := findings.out_of_fold:
        before = _score_words(findings.main, held_out.intervals[findings.main])
        words += f", of the final model; {before}, out-of-fold, {count_of(held_out.images, 'image')}, of the folds' models"
    if apart := findings.apart:
        alone = _score_words(findings.main, apart.intervals[findings.main])
        words += f"; {alone}, on the {count_of(apart.images, 'scored image')} of whose patients none was trained on"
    return words


def _score_words(name: str, found: Interval) -> str:
    value = "not defined" if found.value is None else f"{found.value:.4f}"
    if found.low is None:
        return f"{name} {value}"
    ends = (
        f"95% interval {found.low:.4f} to {found.high:.4f}, by resampling {count_of(found.groups, 'group')}"
    )
    return f"{name} {value} ({ends})"


def describe_missed(findings: Findings) -> str:
    """Malignant images called benign, of all malignant ones."""
    missed, total = findings.malignant_called_benign, findings.malignant_images
    if missed is None or total is None:
        return "unknown: no class is named malignant (data.malignant)"
    groups = findings.intervals["malignant_sensitivity"].groups
    return f"{missed:,} of {count_of(total, 'malignant image')} called benign, {count_of(groups, 'group')}"
