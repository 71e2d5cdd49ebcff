"""The verdict in words: every criterion of the blessing, and the lines a run ends with."""

from __future__ import annotations

from collections.abc import Sequence

from kerasall.evaluation.findings import Criterion, Findings
from kerasall.evaluation.intervals import Interval

_WORDS = {
    "data_without_errors": "No validation error in the data",
    "near_duplicates_kept_together": "Near duplicates were looked for and kept on one side of the split",
    "export_parity": "Trained model, exported model and command line agree within {tolerance:g} "
    "(largest difference {largest_difference:.1e} on {images} images)",
    "balanced_accuracy": "Lower bound of balanced accuracy, {low:%}, is above chance + {above_chance:%} = {floor:%}",
    "malignant_sensitivity": "Lower bound of sensitivity to malignant cells, {low:%}, is above the floor of {floor:%}",
    "malignant_classes_named": "The malignant classes are named (data.malignant)",
    "honest_protocol": "Honest protocol: nothing was chosen on the images it is scored on",
}
"""Criterion -> its sentence; ``{low:%}`` reads 93.0%, or "not defined"."""

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
    values = {name: float("nan") if value is None else value for name, value in criterion.values.items()}
    shares = {name: _Share(value) if isinstance(value, float) else value for name, value in values.items()}
    return _WORDS[criterion.name].format(**shares)


def describe_verdict(criteria: Sequence[Criterion]) -> str:
    """``blessed``, or ``not blessed`` with every criterion that is not met."""
    failed = [describe_criterion(criterion) for criterion in criteria if not criterion.met]
    return f"not blessed: {'; '.join(failed)}" if failed else "blessed"


def describe_main_score(findings: Findings) -> str:
    """The main score with its interval, what was scored and how many images."""
    main = findings.intervals[findings.main]
    return (
        f"{findings.main} {main.value:.4f}{_interval_words(main)}, {findings.scored}, "
        f"{len(findings.predictions):,} images"
    )


def _interval_words(found: Interval) -> str:
    if found.low is None:
        return ""
    return f" (95% interval {found.low:.4f} to {found.high:.4f}, by resampling {found.groups} groups)"


def describe_missed(findings: Findings) -> str:
    """Malignant images called benign, of all malignant ones."""
    if findings.malignant_called_benign is None:
        return "unknown: no class is named malignant (data.malignant)"
    missed, total = findings.malignant_called_benign, findings.malignant_images
    return f"{missed:,} of {total:,} malignant images called benign"
