"""ReportGen: the Evaluator's numbers in words and pictures. It may run again at any time, and changes no number."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kerasall.components.evaluator import with_tuned_members
from kerasall.components.example_validator import UNREADABLE
from kerasall.components.pusher import VERDICT
from kerasall.csv_tables import read_csv
from kerasall.data.development import read_development, read_facts, read_rows
from kerasall.data.duplicates import read_duplicates
from kerasall.data.training_record import PROJECT, TrainingRecord
from kerasall.evaluation.findings import read_findings
from kerasall.evaluation.review import REVIEW, read_review_record
from kerasall.files import read_json, write_json, write_text
from kerasall.pipeline.component import Input, Output, Unkeyed, component
from kerasall.report.evidence import Evidence
from kerasall.report.page import write_page
from kerasall.report.pages.run import make_page
from kerasall.report.pages.run_training import describe_exported
from kerasall.report.pages.trials import write_trial_page
from kerasall.report.taguchi import describe_analysis, describe_plan
from kerasall.report.verdict import (
    describe_criterion,
    describe_main_score,
    describe_missed,
    describe_patients,
    describe_verdict,
)
from kerasall.serving.card import CARD
from kerasall.settings import Settings, StudySettings
from kerasall.taguchi.trial_events import list_trials

TRIALS_PAGE = "trials.html"
"""File of a Report: the trials of the designed experiment behind the model."""


@component
def report_gen(
    development: Annotated[Path, Input("Development")],
    test: Annotated[Path, Input("Test")],
    frozen_split: Annotated[Path, Input("Split")],
    statistics: Annotated[Path, Input("Statistics")],
    anomalies: Annotated[Path, Input("Anomalies")],
    record: Annotated[Path, Input("TrainingRecord")],
    evaluation: Annotated[Path, Input("Evaluation")],
    settings: Settings,
    report: Annotated[Path, Output("Report")],
    command: Annotated[str, Unkeyed()],
    study: StudySettings | None = None,
) -> dict[str, str]:
    """Writes report.html with its pictures, and the verdict in words; ends with the lines a person reads first.

    ``study`` is that of ``settings``, whose key leaves it out: as a parameter of its own it makes this step, and no
    other, run again.
    """
    evidence = Evidence(
        findings=read_findings(evaluation), facts=read_facts(test), development=read_development(development),
        test=read_rows(test), split_folder=frozen_split, record=record,
        statistics=read_json(statistics / "statistics.json"), anomalies=read_json(anomalies / "anomalies.json"),
        training=TrainingRecord(record).training, settings=with_tuned_members(settings, record), command=command,
        review=read_review_record(evaluation / REVIEW), no_maps=read_json(evaluation / CARD).get("no_maps") or {},
        left_out=read_csv(anomalies / UNREADABLE) if (anomalies / UNREADABLE).is_file() else None,
        copies=frozenset(name for cluster in read_duplicates(statistics).clusters for name in cluster),
    )  # fmt: skip
    write_page(report, make_page(evidence), numbers=False)
    if evidence.tuning is not None:
        _write_search(evidence, report)
    findings = evidence.findings
    criteria = [[describe_criterion(each), each.met] for each in findings.criteria]
    caveat = describe_patients(findings.criteria)
    write_json(report / VERDICT, {"blessed": findings.blessed, "caveat": caveat, "criteria": criteria})
    return {
        "main_score": describe_main_score(findings),
        "malignant_called_benign": describe_missed(findings),
        "verdict": describe_verdict(findings.criteria),
        "model": describe_exported(evidence),
    }


def _write_search(evidence: Evidence, report: Path) -> None:
    """The trials of the designed experiment on a page that needs no server, and its analysis as text."""
    members = len(evidence.settings.members)
    trials = list_trials(evidence.record / PROJECT)
    write_trial_page(report / TRIALS_PAGE, trials, f"Trials of {members} voting models")
    search = evidence.search
    words = (describe_plan(search.design.plan, **search.counting), describe_analysis(search.analyze()))
    write_text(report / "analysis.txt", "\n\n".join(words) + "\n")
