"""The review of a run's labels: its queue, the page and table to fill in, and how to run on the corrected labels."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerasall.csv_tables import write_csv
from kerasall.errors import KerasallError
from kerasall.evaluation.review import (
    REVIEW,
    ReviewItem,
    ReviewQueue,
    ReviewRecord,
    build_queue,
    read_review_record,
)
from kerasall.report.pages.review import (
    REASONS,
    Overlay,
    PageFacts,
    describe_scope,
    describe_sources,
    to_table,
    write_review_page,
)
from kerasall.shown_text import tell
from kerasall.studies.finished_run import Run


@dataclass(frozen=True, eq=False)
class Review:
    """The queue of a run's images whose labels an expert should look at again.

    Attributes:
        run: the run.
        record: what its Evaluator kept for a review.
        split_file: the run's frozen split.
        queue: every image in it.
        most: how many of them are shown.
        folder: of review.html and review.csv.
    """

    run: Run
    record: ReviewRecord
    split_file: Path
    queue: ReviewQueue
    most: int
    folder: Path

    def write(self, overlays: bool, excel: bool = False) -> None:
        """Writes the page and the table to fill in.

        Args:
            overlays: whether to show where the exported model sees its call. Loads TensorFlow.
            excel: begin the table with a byte order mark, by which Excel knows it for UTF-8.
        """
        shown = self.queue.first(self.most)
        title = f"{self.run.name}: {', '.join(self.record.classes)}"
        model = f"{self.run.exported_words}." if self.run.exported_words else ""
        paths = dict(zip(self.record.images["id"], self.record.images["path"], strict=True))
        drawn = make_overlays(self.run) if overlays and shown.items else None
        write_review_page(
            self.queue, self.folder / "review.html", PageFacts(title, model, self.most, paths, drawn)
        )
        write_csv(to_table(shown), self.folder / "review.csv", excel=excel)

    def describe(self) -> list[str]:
        """What was found, in lines for a terminal."""
        queue, shown = self.queue, min(self.most, len(self.queue.items))
        lines = [describe_sources(queue), describe_scope(queue)]
        lines += [f"{queue.count(code):>6,}  {title}" for code, title in REASONS.items() if queue.count(code)]
        kept = "" if shown == len(queue.items) else f"; the first {shown:,} are shown (--most)"
        return [line for line in lines if line] + [f"{len(queue.items):>6,}  images in the queue{kept}"]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for programs."""
        queue = self.queue
        return {
            "run": self.run.name,
            "images": len(queue.items),
            "predicted": dict(queue.predicted),
            "not_judged": queue.unseen,
            "members": queue.members,
            "at_least": queue.at_least,
            "reasons": {code: queue.count(code) for code in REASONS},
            "members_wrong": {name: list(counts) for name, counts in queue.wrong_counts.items()},
            "reviewed_before": queue.reviewed,
            "page": str(self.folder / "review.html"),
            "table": str(self.folder / "review.csv"),
            "split": str(self.split_file),
        }

    def next_command(self) -> str:
        """How to run the experiment on the corrected labels, every image in the part where it stands now."""
        settings = self.run.settings
        files = [*settings["data"].get("corrections", []), "corrections.csv"]
        value = files[0] if len(files) == 1 else f"[{', '.join(files)}]"
        command = "tune" if settings.get("tune") else "run"
        words = ["kerasall", command, str(self.run.folder / "settings.yaml")]
        words += ["--name", f"{self.run.name}_corrected"]
        words += ["--set", f"data.corrections={value}", "--set", f"split.file={self.split_file}"]
        return shlex.join(words)


def review_run(run: Run, at_least: int | None, most: int, folder: Path | None) -> Review:
    """Reads what a review needs of a run, and lines its images up.

    Args:
        run: a finished one.
        at_least: members that must get an image wrong; see ``build_queue``.
        most: images to show.
        folder: of what is written; by default ``review`` in the run's.

    Raises:
        ArtifactError: the run is not finished, or its artifacts are gone.
    """
    record = read_review_record(run.output("Evaluation", REVIEW))
    split_file = run.output("Split", "split.json")
    queue = build_queue(record, at_least)
    return Review(run, record, split_file, queue, most, folder or run.folder / "review")


def make_overlays(run: Run) -> Overlay | None:
    """A maker of overlays from the run's SavedModel; None, and a line that says why, where it has no maps.

    The exported model may have been trained on the very image, after the predictions of the queue were made:
    the caption says so. Loads TensorFlow.
    """
    try:
        predictor = run.predictor()
        from kerasall.serving.explanation import explain_image, require_explainable

        require_explainable(predictor, run.no_maps)
    except KerasallError as error:
        tell(f"without overlays: {error}")
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
