"""ReportGen: the Evaluator's numbers in words and pictures. It may run again at any time, and changes no number."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kerasall.components.evaluator import with_tuned_members
from kerasall.components.pusher import VERDICT
from kerasall.files import write_json
from kerasall.pipeline.component import Input, Output, Unkeyed, component
from kerasall.report.evidence import read_evidence
from kerasall.report.page import write_page
from kerasall.report.pages.run import make_page
from kerasall.report.pages.run_training import describe_exported
from kerasall.report.verdict import describe_criterion, describe_main_score, describe_missed, describe_verdict
from kerasall.settings import Settings


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
) -> dict[str, str]:
    """Writes report.html with its pictures, and the verdict in words; ends with the lines a person reads first."""
    evidence = read_evidence(
        development=development, test=test, frozen_split=frozen_split, statistics=statistics, anomalies=anomalies,
        record=record, evaluation=evaluation, settings=with_tuned_members(settings, record), command=command,
    )  # fmt: skip
    write_page(report, make_page(evidence), numbers=False)
    findings = evidence.findings
    criteria = [[describe_criterion(each), each.met] for each in findings.criteria]
    write_json(report / VERDICT, {"blessed": findings.blessed, "criteria": criteria})
    return {
        "main_score": describe_main_score(findings),
        "malignant_called_benign": describe_missed(findings),
        "verdict": describe_verdict(findings.criteria),
        "model": describe_exported(evidence),
    }
