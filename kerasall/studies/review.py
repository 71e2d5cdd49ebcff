"""A finished run as the review sees it: what was predicted, where it lies, and how to run it on corrected labels.

Pictures of where a run's exported model sees its call, for the page of a review. Loads TensorFlow.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.errors import ArtifactError, KerasallError
from kerasall.evaluation.review import (
    REASONS,
    REVIEW,
    ReviewItem,
    ReviewQueue,
    ReviewRecord,
    build_queue,
    read_review_record,
)
from kerasall.files import read_json
from kerasall.paths import runs_folder
from kerasall.report.pages.review import Overlay, describe_scope, describe_sources


def make_overlays(run: Path) -> Overlay | None:
    """A maker of overlays from the run's SavedModel; None, and a line that says why, where it has no maps.

    The exported model may have been trained on the very image, after the predictions of the queue were made:
    the caption says so.
    """
    from kerasall.runtime import quiet_tensorflow
    from kerasall.studies.finished_run import find_saved_model

    try:
        _, saved_model = find_saved_model(str(run))
        with quiet_tensorflow():
            from kerasall.serving.explanation import explain_image, require_explainable
            from kerasall.serving.predictor import Predictor

            predictor = Predictor(saved_model)
        require_explainable(predictor)
    except KerasallError as error:
        print(f"without overlays: {error}", file=sys.stderr)
        return None
    from kerasall.report.figures_explanation import overlay

    def draw(item: ReviewItem) -> tuple[np.ndarray, str] | None:
        shown = item.decision or item.label
        try:
            found = explain_image(
                predictor, Path(item.path).read_bytes(), item.id, predictor.labels.index(shown)
            )
        except (KerasallError, OSError):
            return None  # nothing is made up where there is no gradient or no file
        if not found.has_evidence.any():
            return None
        return overlay(found.pixels, found.heatmap), describe_overlay(item, shown)

    return draw


def describe_overlay(item: ReviewItem, shown: str) -> str:
    """The caption; it says where the exported model, unlike the one whose call is shown, may have trained on the image.

    Args:
        item: predicted out of fold, or (a training image) not at all; else by the exported model itself.
        shown: class whose map it is.
    """
    words = f"Where the exported model sees {shown} (Grad-CAM)"
    if item.kind == "out-of-fold":
        return f"{words}; unlike the model that made the call, it may have trained on this image"
    return words if item.kind else f"{words}; it may have trained on this image"


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
