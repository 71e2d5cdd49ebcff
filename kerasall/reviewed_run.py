"""A finished run as the review sees it: what was predicted, where it lies, and how to run it on corrected labels."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasall.errors import ArtifactError
from kerasall.evaluation.review import REASONS, ReviewQueue, build_queue
from kerasall.evaluation.review_counts import describe_scope, describe_sources
from kerasall.evaluation.review_record import REVIEW, ReviewRecord, read_review_record
from kerasall.files import read_json
from kerasall.paths import runs_folder


@dataclass(frozen=True, eq=False)
class ReviewedRun:
    """A run with the record of its review.

    Attributes:
        folder: the run's.
        content: of run.json.
        record: what its Evaluator kept for a review.
        split_file: the run's frozen split.
        report: of report.json, {} where it is missing.
    """

    folder: Path
    content: dict[str, Any]
    record: ReviewRecord
    split_file: Path
    report: dict[str, Any]

    @property
    def title(self) -> str:
        """Heading of the page."""
        return f"{self.content['name']}: {', '.join(self.record.classes)}"

    @property
    def model(self) -> str:
        """The model in words, as in the run's report."""
        facts = {fact["label"]: fact["value"] for fact in self.report.get("facts", [])}
        return f"{facts['Model']}." if "Model" in facts else ""

    def build(self, at_least: int | None) -> ReviewQueue:
        """The queue; see ``build_queue``."""
        return build_queue(self.record, at_least)

    def describe(self, queue: ReviewQueue, shown: ReviewQueue) -> list[str]:
        """What was found, in lines for a terminal."""
        lines = [describe_sources(queue), describe_scope(queue)]
        lines += [f"{queue.count(code):>6,}  {title}" for code, title in REASONS.items() if queue.count(code)]
        kept = (
            ""
            if len(shown.items) == len(queue.items)
            else f"; the first {len(shown.items):,} are shown (--most)"
        )
        return [line for line in lines if line] + [f"{len(queue.items):>6,}  images in the queue{kept}"]

    def summarize(self, queue: ReviewQueue, folder: Path) -> dict[str, Any]:
        """A JSON object for programs."""
        return {
            "run": self.content["name"],
            "images": len(queue.items),
            "predicted": dict(queue.predicted),
            "not_judged": queue.unseen,
            "members": queue.members,
            "at_least": queue.at_least,
            "reasons": {code: queue.count(code) for code in REASONS},
            "members_wrong": {name: list(counts) for name, counts in queue.wrong_counts.items()},
            "reviewed_before": queue.reviewed,
            "page": str(folder / "review.html"),
            "table": str(folder / "review.csv"),
            "split": str(self.split_file),
        }

    def next_command(self) -> str:
        """How to run the experiment on the corrected labels, every image in the part where it stands now."""
        earlier = self.content["settings"]["data"].get("corrections", [])
        files = [*earlier, "corrections.csv"]
        value = files[0] if len(files) == 1 else f"[{', '.join(files)}]"
        words = [
            "kerasall",
            "tune" if self.content["settings"].get("tune") else "run",
            str(self.folder / "settings.yaml"),
            "--name",
            f"{self.content['name']}_corrected",
        ]
        words += ["--set", f"data.corrections={value}", "--set", f"split.file={self.split_file}"]
        return shlex.join(words)


def find_run(text: str, root: Path | None = None) -> Path:
    """The folder of a run, from its name in the runs folder or its path.

    Raises:
        ArtifactError: there is no such run; the message names those there are.
    """
    root = root or runs_folder()
    for folder in (root / text, Path(text).expanduser()):
        if (folder / "run.json").is_file():
            return folder
    known = sorted(path.parent.name for path in root.glob("*/run.json"))
    raise ArtifactError(f"{text!r} must be a run in {root} or a run's folder, but is none; runs: {known}")


def read_reviewed_run(folder: Path) -> ReviewedRun:
    """Reads what a review needs of a run.

    Raises:
        ArtifactError: the run is not finished, or its artifacts are gone.
    """
    content = read_json(folder / "run.json")
    paths = {
        output["type"]: Path(output["path"])
        for step in content["steps"]
        for output in step["outputs"].values()
    }
    if not {"Evaluation", "Split"} <= set(paths):
        raise ArtifactError(
            f"a run must be finished before it is reviewed, but {content['name']} is {content['state']}: run it again "
            "with `kerasall run`, which goes on where it was"
        )
    report = folder / "report.json"
    record = read_review_record(paths["Evaluation"] / REVIEW)
    split_file = paths["Split"] / "split.json"
    return ReviewedRun(folder, content, record, split_file, read_json(report) if report.is_file() else {})
