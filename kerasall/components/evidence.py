"""What one evaluation found: everything a report and a card are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kerasall.components.development import Development, Facts
from kerasall.components.trust_scores import TrustScores
from kerasall.evaluation.ensemble_scores import EnsembleScores
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.metrics import confusion_matrix
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.review_record import ReviewRecord
from kerasall.evaluation.subject_calls import SubjectCalls
from kerasall.evaluation.view_gain import ViewGain
from kerasall.settings import Settings

GROUP_KINDS = {"subject": "groups of patients", "block": "blocks of images", "none": "groups of images"}
"""Kind of subject -> what intervals resample, in the plural."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything a report is made of; ``subject_calls`` is a sentence where subjects cannot be called."""

    scored: str
    predictions: Predictions
    intervals: dict[str, Interval]
    criteria: list[tuple[str, bool]]
    facts: Facts
    development: Development
    test: pd.DataFrame
    split_folder: Path
    statistics: dict[str, Any]
    anomalies: dict[str, Any]
    training: dict[str, Any]
    settings: Settings
    command: str
    curves: Predictions
    ensemble: EnsembleScores | None = None
    tuning: dict[str, Any] | None = None
    review: ReviewRecord | None = None
    trust: TrustScores | None = None
    subject_calls: SubjectCalls | str = ""
    views: ViewGain | None = None

    @property
    def blessed(self) -> bool:
        """Whether every criterion is met."""
        return all(met for _, met in self.criteria)

    @property
    def group_kind(self) -> str:
        """What the intervals resample, in the plural."""
        return GROUP_KINDS[self.facts.subject_kind]

    @property
    def examples(self) -> pd.DataFrame:
        """All rows that were used, with their part."""
        return pd.concat([self.development.examples, self.test], ignore_index=True)


@dataclass(frozen=True)
class Missed:
    """Malignant images called benign, out of all malignant ones."""

    called_benign: int
    total: int


def count_missed(predictions: Predictions, malignant: tuple[str, ...]) -> Missed:
    """Counts malignant images decided as a benign class."""
    matrix = confusion_matrix(predictions)
    is_malignant = np.isin(predictions.classes, malignant)
    rows = matrix[is_malignant]
    return Missed(int(rows[:, ~is_malignant].sum()), int(rows.sum()))
