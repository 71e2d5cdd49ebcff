"""Images that a paper lists as called wrongly, beside a run: the interval of the printed score, and our own review queue."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from kerasall.evaluation.intervals import Interval, Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.review import REVIEW, build_queue, read_review_record
from kerasall.published.papers import Listed, Table
from kerasall.report.format import format_range
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.counts import select_images
from kerasall.studies.tables.scored import Scored, read_scored


def read_listed(table: Table) -> set[str]:
    """Names of the files that a table lists, without their endings."""
    if table.listed is None:
        return set()
    place = [column.name for column in table.columns].index(table.listed.column)
    cells = (row.cells[place] for row in table.rows)
    return {name.strip() for cell in cells for name in cell.split(",") if name.strip()}


def describe_listed(run: Run, table: Table) -> tuple[str, ...]:
    """What follows from the listed images, in sentences; none where a table lists none."""
    if table.listed is None:
        return ()
    scored, told = read_scored(run), " ".join(table.listed.fact.split())
    images, names = select_images(run, scored, table.listed.part), read_listed(table)
    if images is None:
        return (
            told,
            "This run has none of these images: what it calls wrongly cannot be compared with them by name.",
        )
    return (
        *_describe_printed(images, names, table.listed, told),
        _describe_overlap(run, scored, images, names),
    )


def _describe_printed(images: pd.DataFrame, names: set[str], listed: Listed, told: str) -> Iterable[str]:
    if len(images) < listed.images or not (images["subject"] != "").all():
        return (
            told,
            f"{len(images):,} of the {listed.images:,} images are in this run's data: too few to compute it again.",
        )
    found = score_printed(images, names)
    ends = format_range(found.low, found.high)
    return (
        f"Of the {len(images):,} images that the paper scored, {len(names):,} are listed as wrong: an accuracy of {found.value:.4f}. By "
        f"the patients that this run's data name, its 95% interval is {ends}, over {found.over}.",
    )


def score_printed(images: pd.DataFrame, wrong: set[str]) -> Interval:
    """The accuracy that a list of wrong images leaves, with its interval over groups of patients.

    Args:
        images: all that were scored: columns id, label, subject, group.
        wrong: names of the files that were called wrongly, without their endings.
    """
    ids, classes = images["id"].to_numpy(str), tuple(sorted(images["label"].unique()))
    labels = images["label"].map({name: index for index, name in enumerate(classes)}).to_numpy(np.int64)
    missed = np.isin([_stem(name) for name in ids], list(wrong))
    # Which of several other classes a wrong image was called does not change the accuracy.
    decisions = np.where(missed, (labels + 1) % len(classes), labels)
    shares = np.eye(len(classes))[decisions]
    groups, subjects = images["group"].to_numpy(str), images["subject"].to_numpy(str)
    return Scorer(Predictions(ids, subjects, groups, labels, shares, classes, decisions)).interval("accuracy")


def _describe_overlap(run: Run, scored: Scored, images: pd.DataFrame, names: set[str]) -> str:
    ids = set(images["id"]) & set(scored.predictions.ids.tolist())
    if not ids:
        return "This run did not score these images."
    queue = build_queue(read_review_record(run.output("Evaluation", REVIEW)))
    queued = [item.id for item in queue.items if item.id in ids]
    both = sum(_stem(name) in names for name in queued)
    known = sum(_stem(name) in names for name in ids)
    missed = scored.predictions.ids[~scored.predictions.right].tolist()
    ours = sum(_stem(name) in names for name in missed if name in ids)
    return (
        f"This run scored {len(ids):,} of these images, {known:,} of them listed. Its review queue (`kerasall review {run.name}`) holds "
        f"{len(queued):,} of them, {both:,} listed; its ensemble calls {ours:,} of the listed ones wrongly too."
    )


def _stem(name: str) -> str:
    return PurePosixPath(name).stem
