"""What a finished run knows of itself, in the words and numbers that the rules of the checklists put together.

Everything is read from the run's settings, its report.json and its artifacts. What is not there (an artifact that was
deleted, a number that an earlier version did not write) is None, and its sentence is left out: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd

from kerasall.components.example_validator import UNREADABLE
from kerasall.csv_tables import read_csv
from kerasall.data.label_corrections import CORRECTIONS, CorrectionFile, read_corrections
from kerasall.data.splits import Split, read_split
from kerasall.errors import count_of
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.scores import Scores
from kerasall.files import read_json
from kerasall.paths import runs_folder
from kerasall.report.format import beside, interval_words, title_of
from kerasall.report.patient_flow import PatientFlow, count_flow
from kerasall.settings import StudySettings
from kerasall.settings.factors import find_place
from kerasall.studies.finished_run import Run

_SECTION = re.compile(r'<section id="([^"]+)" aria-labelledby="[^"]*">\s*<h2[^>]*>(.*?)</h2>', re.DOTALL)

GROUPS = {
    "subject": "patient",
    "block": "block of file numbers",
    "none": "group of copies",
    "unknown": "group",
}
"""Kind of subject -> what is never divided among parts, and what intervals resample."""

GROUPS_OF = {
    kind: "blocks of file numbers" if kind == "block" else f"{name}s" for kind, name in GROUPS.items()
}
"""The same in the plural."""


@dataclass(frozen=True, eq=False)
class RunFacts:
    """A finished run, asked item by item.

    Raises ArtifactError where the run has not been evaluated yet, or a file of it was changed.

    Attributes:
        run: the run.
    """

    run: Run

    @cached_property
    def results(self) -> dict[str, Any]:
        """The results of report.json."""
        return self.run.evaluated

    @cached_property
    def scores(self) -> Scores:
        """Every metric with its interval."""
        return self.run.scores

    @cached_property
    def study(self) -> StudySettings:
        """What the authors state; of a run of another version what this one knows of it."""
        found = self.run.settings.get("study") or {}
        known = {name: text for name, text in found.items() if name in StudySettings.model_fields}
        return StudySettings(**{name: text for name, text in known.items() if isinstance(text, str)})

    def setting(self, key: str, otherwise: Any = None) -> Any:
        """A resolved setting by its dotted key; ``otherwise`` where the run's version did not have it."""
        place = find_place(self.run.settings, key)
        return otherwise if place is None or place.value is None else place.value

    # --- artifacts

    def output(self, kind: str, holds: str) -> Path | None:
        """A file of the last artifact of a type that has it; None where there is none (any more)."""
        there = any(
            each.get("type") == kind and (Path(each["path"]) / holds).exists() for each in self.run.outputs
        )
        return self.run.output(kind, holds) if there else None

    def read(self, kind: str, holds: str) -> dict[str, Any]:
        """A JSON object of an artifact; {} where there is none."""
        file = self.output(kind, holds)
        return {} if file is None else read_json(file)

    @cached_property
    def data(self) -> dict[str, Any]:
        """What every step must know of the data: source, subject_kind, notes, labels, malignant, fingerprint."""
        kinds = ("Test", "Development", "Model")
        return next(filter(None, (self.read(kind, "facts.json") for kind in kinds)), {})

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """Counts, sizes and formats."""
        return self.read("Statistics", "statistics.json")

    @cached_property
    def anomalies(self) -> dict[str, Any]:
        """What the validation found."""
        return self.read("Anomalies", "anomalies.json")

    @cached_property
    def training(self) -> dict[str, Any]:
        """What the training recorded."""
        return self.read("TrainingRecord", "training.json")

    @cached_property
    def card(self) -> dict[str, Any]:
        """The model's card."""
        return self.read("Evaluation", "card.json")

    @cached_property
    def split(self) -> Split | None:
        """The frozen split with the test part."""
        file = self.output("Split", "split.json")
        return None if file is None else read_split(file)

    @cached_property
    def leaks(self) -> int | None:
        """Patients, copies and groups that were found on two sides; None where that cannot be told any more."""
        file = self.output("Split", "leaks.json")
        return None if file is None else len(read_json(file))

    @cached_property
    def corrections(self) -> list[CorrectionFile]:
        """Corrections of labels, file by file."""
        file = self.output("Split", CORRECTIONS)
        return [] if file is None else read_corrections(file.parent)

    @cached_property
    def copies(self) -> frozenset[str] | None:
        """Ids of images that have copies; None where that is not known (any more)."""
        found = self.read("Statistics", "duplicates.json")
        if not found:
            return None
        return frozenset(
            name for kind in ("exact", "near", "named") for group in found.get(kind, ()) for name in group
        )

    @cached_property
    def left_out(self) -> pd.DataFrame | None:
        """Images that could not be read and were left out."""
        file = self.output("Anomalies", UNREADABLE)
        return None if file is None else read_csv(file)

    @cached_property
    def flow(self) -> PatientFlow | None:
        """The flow of images and patients; None where the split is gone."""
        if self.split is None:
            return None
        excluded = sum(file.count("excluded") for file in self.corrections)
        return count_flow(
            self.split, self.run.scored, self.run.predictions().ids, self.subject_kind,
            left_out=self.left_out, excluded=excluded, copies=self.copies, leaks=self.leaks or 0,
        )  # fmt: skip

    @cached_property
    def external(self) -> list[tuple[str, dict[str, Any]]]:
        """External checks of this very model in the runs folder: name of the folder, results."""
        exported = [
            Path(each["path"]) / "model" for each in self.run.outputs if each.get("type") == "SavedModel"
        ]
        models = {str(path) for path in (self.run.pushed_to, *exported) if path}
        found = []
        for file in sorted(runs_folder().glob("external/*/report.json")):
            results = read_json(file).get("results") or {}
            if results.get("model") in models:
                found.append((file.parent.name, results))
        return found

    @cached_property
    def sections(self) -> dict[str, str]:
        """Sections of the run's page: anchor -> title; {} where there is no page."""
        page = self.run.folder / "report.html"
        if not page.is_file():
            return {}
        found = _SECTION.findall(page.read_text(encoding="utf-8"))
        return {anchor: unescape(re.sub(r"<[^>]+>", "", title)).strip() for anchor, title in found}

    # --- words

    @property
    def subject_kind(self) -> str:
        """What stands as subjects: subject, block or none; unknown where the run's artifacts are gone."""
        return self.data.get("subject_kind") or self.anomalies.get("subject_kind") or "unknown"

    @property
    def group(self) -> str:
        """What is never divided, in the singular."""
        return GROUPS[self.subject_kind]

    @property
    def person(self) -> str:
        """Whom the data tell apart: patients, or ids of which several are one patient, as far as is known."""
        return "patient id" if self.flow is None or self.flow.groups else "patient"

    @cached_property
    def joined(self) -> str:
        """For example ``; those that share copies are one group (40 in 33, over all parts)``; "" where every group is one patient or block."""
        if self.split is None or self.subject_kind not in ("subject", "block"):
            return ""
        named = self.split.table[self.split.table["subject"] != ""]
        subjects, groups = named["subject"].nunique(), named["group"].nunique()
        shared = (
            "ids that share copies or are one patient"
            if self.subject_kind == "subject"
            else "those that share copies"
        )
        counted = f"({subjects:,} in {groups:,}, over all parts)"
        return f"; {shared} are one group {counted}" if groups < subjects else ""

    @property
    def labels(self) -> list[str]:
        """Names of the classes."""
        return list(self.results["labels"])

    @property
    def malignant(self) -> list[str]:
        """Names of the malignant classes."""
        return list(self.results["malignant"] or ())

    @property
    def honest(self) -> bool:
        """Whether nothing of the run was chosen on the images it is scored on; 0.1.0 wrote that as a sentence."""
        found = {
            str(each["criterion"]).lower().replace(" ", "_"): each["met"] for each in self.results["criteria"]
        }
        return all(met for name, met in found.items() if name.startswith("honest_protocol"))

    def score(self, metric: str, results: Mapping[str, Any] | None = None) -> str:
        """For example ``Accuracy 97.2% (95% interval 95.1% to 98.4%, 12 groups)``; "" where it was not computed.

        Args:
            metric: name.
            results: of another evaluation than the run's own.
        """
        found = (results or self.results)["metrics"].get(metric)
        if found is None:
            return ""
        interval = Interval(**found)
        value, ends = interval_words(metric, interval)
        title = title_of(metric, self.labels)
        note = f"{100 * interval.confidence:g}% interval {ends}, {interval.over}" if ends else ""
        return f"{title} {beside((value, note))}"

    def list_scores(self, metrics: Iterable[str]) -> str:
        """Those of some scores that were computed, with commas between."""
        return ", ".join(filter(None, map(self.score, metrics)))

    @property
    def main_metric(self) -> str:
        """Name of the main score."""
        return self.setting("evaluate.main_metric") or next(iter(self.scores))

    @property
    def scored(self) -> str:
        """How many images are scored, and what they are."""
        kind = self.run.scored
        whole = self.setting("split.unit", "group") == "group" and self.leaks == 0
        words = SCORED[kind] if whole or kind != "out-of-fold" else OUT_OF_FOLD
        return f"{count_of(self.results['images'], 'image')}, {words}"


OUT_OF_FOLD = "each scored by a model of the folds that was not trained on it, but may have been on others of its patient or copies"
"""What out-of-fold images are where groups were not kept whole, or nobody can tell any more."""

SCORED = {
    "test": "a test part of the same data, which this run opened once, after its last choice",
    "out-of-fold": "each scored by a model of the folds that was not trained on it, its group or a known copy of it",
    "validation": "the validation part, which also decided when training stopped",
    "selection": "the part on which the copied protocol also chose its settings",
}
"""Kind of scored images -> what they are."""
