"""The blessing: what a model must reach before it is pushed, criterion by criterion, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kerasall.evaluation.intervals import Interval

HONEST = ("test", "out-of-fold")
"""Kinds of scored images that decided nothing."""


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
    values: Mapping[str, float | int | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        return {"criterion": self.name, "met": self.met, **self.values}


def judge(
    intervals: Mapping[str, Interval],
    *,
    classes: int,
    above_chance: float,
    sensitivity_floor: float,
    protocol: str,
    scored: str,
    errors: int,
    parity: Mapping[str, Any],
    near_searched: bool,
) -> tuple[Criterion, ...]:
    """Every criterion of the blessing and whether it is met.

    Args:
        intervals: metric -> interval; ``malignant_sensitivity`` where the malignant classes are named.
        classes: number of classes.
        above_chance: how far the lower end of balanced accuracy must lie above chance.
        sensitivity_floor: what the lower end of malignant sensitivity must exceed.
        protocol: honest or faithful.
        scored: what the images are: test, out-of-fold, validation or selection.
        errors: validation errors in the data.
        parity: of the exported with the trained model: passed, tolerance, largest_difference, images.
        near_searched: whether near duplicates were looked for.
    """
    balanced, floor = intervals["balanced_accuracy"].low, 1 / classes + above_chance
    criteria = [
        Criterion("data_without_errors", errors == 0, {"errors": errors}),
        Criterion("near_duplicates_kept_together", near_searched),
        Criterion(
            "export_parity",
            parity["passed"],
            {name: parity[name] for name in ("tolerance", "largest_difference", "images")},
        ),
        Criterion(
            "balanced_accuracy",
            _above(balanced, floor),
            {"low": balanced, "above_chance": above_chance, "floor": floor},
        ),
    ]
    if "malignant_sensitivity" in intervals:
        low = intervals["malignant_sensitivity"].low
        met = _above(low, sensitivity_floor)
        criteria.append(Criterion("malignant_sensitivity", met, {"low": low, "floor": sensitivity_floor}))
    else:
        criteria.append(Criterion("malignant_classes_named", False))
    criteria.append(Criterion("honest_protocol", protocol == "honest" and scored in HONEST))
    return tuple(criteria)


def _above(value: float | None, floor: float) -> bool:
    """NaN and None, the marks of a score that is not defined, are not above anything."""
    return value is not None and value > floor
