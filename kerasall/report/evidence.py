"""What a report is made of: the findings of an evaluation, and what is known of the run behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from kerasall.data.development import Development, Facts
from kerasall.data.splits import Split, read_split
from kerasall.data.training_record import PROJECT, TrainingRecord
from kerasall.evaluation.findings import Findings
from kerasall.evaluation.review import ReviewRecord
from kerasall.report.format import Score, score_of
from kerasall.settings import Settings

if TYPE_CHECKING:
    from kerasall.taguchi.stored_oracle import StoredOracle

GROUP_KINDS = {"subject": "groups of patients", "block": "blocks of images", "none": "groups of images"}
"""Kind of subject -> what intervals resample, in the plural."""

ONE_GROUP = {"subject": "patient", "block": "block of images", "none": "group of images"}
"""Kind of subject -> one of them."""

SCORED = {
    "test": "the test part, opened once, after every choice was made",
    "out-of-fold": "every image once, by a model that saw neither its group nor its duplicates",
    "validation": "the validation part, which also decided when training stopped: too good to be trusted",
    "selection": "the part on which the paper's protocol also chose its settings",
}
"""Kind of scored images -> what they are, in words."""

FITTED = {
    "out-of-fold": "out-of-fold predictions",
    "validation": "the validation part",
    "selection": "the part on which the paper's protocol chose its settings",
}
"""Kind of predictions that something was fitted to -> words."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything a report is made of.

    Attributes:
        findings: the numbers.
        facts, development: of the data; what training could read.
        test: rows of the test part; empty where there is none.
        split_folder, record: folders of these artifacts.
        statistics, anomalies, training: what these steps wrote.
        settings: of the experiment, with the members that a designed experiment made.
        command: that started the run.
        review: what a review queue is made of.
        no_maps: networks (of an ensemble members) that can have no map of where they looked -> why.
        left_out: images that could not be read and were left out: columns id, label, subject, error; None for none.
        copies: ids of images that have exact, near or named copies among the others.
    """

    findings: Findings
    facts: Facts
    development: Development
    test: pd.DataFrame
    split_folder: Path
    record: Path
    statistics: dict[str, Any]
    anomalies: dict[str, Any]
    training: dict[str, Any]
    settings: Settings
    command: str
    review: ReviewRecord
    no_maps: Mapping[str, str] = field(default_factory=dict)
    left_out: pd.DataFrame | None = None
    copies: frozenset[str] = frozenset()

    @property
    def group_kind(self) -> str:
        """What the intervals resample, in the plural."""
        return GROUP_KINDS[self.facts.subject_kind]

    @cached_property
    def split(self) -> Split:
        """The frozen split, the test part included."""
        return read_split(self.split_folder / "split.json")

    @cached_property
    def tuning(self) -> dict[str, Any] | None:
        """The analysis of the designed experiment behind the model, or None."""
        return TrainingRecord(self.record).analysis

    @cached_property
    def search(self) -> StoredOracle:
        """The trials of that experiment. Loads keras-tuner."""
        from kerasall.taguchi.stored_oracle import StoredOracle

        return StoredOracle.from_project(self.record, PROJECT)

    @cached_property
    def examples(self) -> pd.DataFrame:
        """All rows that were used, with their part."""
        return pd.concat([self.development.examples, self.test], ignore_index=True)

    def score(self, name: str) -> Score:
        """One metric with its interval."""
        return score_of(name, self.findings.intervals[name], self.facts.labels)
