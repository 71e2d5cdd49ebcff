"""The review queue: which images an expert should look at, in which order, and why. It changes no label.

Rows are taken from predictions by models that had not trained on the image. Four things bring an image in:

    duplicate_labels    a near duplicate of it has another label: one of the two is wrong whatever a model says
    members_wrong       at least k of the n members of an ensemble call it otherwise (paper 000, Table 17)
    label_suspect       confident learning suspects the label, see ``find_suspects``
    confident_mistake   one classifier calls it otherwise with a probability of at least 0.9

First stand the contradicting duplicates, then the images that most members get wrong; of equal ones those whose
own label is least probable.

An evaluation writes what a queue is made of, a review reads it. On disk it is a folder with

    review.json           classes, sources in order, near duplicates with different labels, ids looked at before
    images.csv            columns ``IMAGE_COLUMNS``
    <kind>.npz            predictions of one source, and <kind>/<member>.npz those of an ensemble's members
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from kerasall.csv_tables import read_csv, write_csv
from kerasall.errors import ArtifactError, SettingsError
from kerasall.evaluation.ensemble_rules import combine_predictions
from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.files import read_json, write_json

REVIEW = "review"
"""Folder of an Evaluation."""

IMAGE_COLUMNS = ("id", "path", "label", "subject", "group", "part")

SURE = 0.9
"""Probability from which on a single classifier's mistake counts as confident."""


@dataclass(frozen=True, eq=False)
class ReviewSource:
    """Predictions of images that their models did not train on.

    Attributes:
        kind: test, out-of-fold, validation or selection.
        predictions: with the decisions of the model.
        members: of an ensemble, name -> predictions of the same images in the same order; else empty.
    """

    kind: str
    predictions: Predictions
    members: Mapping[str, Predictions] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ReviewRecord:
    """Everything a queue is made of.

    Attributes:
        classes: names in class order.
        sources: predictions; an image that stands in several counts in the first.
        images: table with ``IMAGE_COLUMNS`` of all images of the data.
        contradictions: groups of near duplicates, lists of ids, whose labels differ.
        reviewed: ids that an expert has decided on already; they are not queued again.
    """

    classes: tuple[str, ...]
    sources: Sequence[ReviewSource]
    images: pd.DataFrame
    contradictions: Sequence[Sequence[str]] = ()
    reviewed: Sequence[str] = ()


@dataclass(frozen=True)
class Reason:
    """Why an image is in the queue: a code of those above, and a sentence with its figures."""

    code: str
    text: str


@dataclass(frozen=True)
class ReviewItem:
    """One image to look at.

    Attributes:
        rank: 1 for the first.
        id, path, label, subject, group, part: of the image.
        kind: of the source that these predictions are of, "" where there are none.
        decision: class the model decided on, "" without predictions.
        probabilities: class -> probability, of an ensemble the members' mean; empty without predictions.
        votes: class -> number of members that decide on it; of one classifier its one decision.
        wrong: members that do not decide on the label.
        reasons: at least one, the most urgent first.
        twins: ids of near duplicates with another label.
    """

    rank: int
    id: str
    path: str
    label: str
    subject: str
    group: str
    part: str
    kind: str = ""
    decision: str = ""
    probabilities: Mapping[str, float] | None = None
    votes: Mapping[str, int] | None = None
    wrong: int = 0
    reasons: tuple[Reason, ...] = ()
    twins: tuple[str, ...] = ()

    @property
    def members(self) -> int:
        """Number of voters; 0 without predictions."""
        return sum((self.votes or {}).values())

    @property
    def probability(self) -> float | None:
        """Of the decision."""
        return (self.probabilities or {}).get(self.decision)


@dataclass(frozen=True, eq=False)
class ReviewQueue:
    """The images to look at, and counts over all images that were predicted.

    Attributes:
        items: the queue.
        classes: names in class order.
        members: number of members, 1 for one classifier.
        at_least: members that must be wrong, None where mistakes of one classifier count by their probability.
        predicted: kind of predictions -> number of images.
        agreed: how many of them the model decides as they are labelled.
        unseen: images of the data without such predictions: a model trained on them.
        wrong_counts: label -> [images with 0, 1, ... members wrong].
        reviewed: images left out as an expert decided on them before.
    """

    items: Sequence[ReviewItem]
    classes: tuple[str, ...]
    members: int
    at_least: int | None
    predicted: Mapping[str, int]
    agreed: int
    unseen: int
    wrong_counts: Mapping[str, Sequence[int]]
    reviewed: int = 0

    def count(self, code: str) -> int:
        """Items with a reason."""
        return sum(any(reason.code == code for reason in item.reasons) for item in self.items)

    def first(self, number: int) -> ReviewQueue:
        """The queue cut after so many items."""
        return replace(self, items=list(self.items)[:number])


def build_queue(record: ReviewRecord, at_least: int | None = None) -> ReviewQueue:
    """Ranks the images that an expert should look at.

    Args:
        record: predictions and images.
        at_least: members that must get an image wrong, from 1 to their number; None for more than half of them.
            For one classifier 1 queues every mistake, None the confident ones.

    Raises:
        SettingsError: ``at_least`` is not between 1 and the number of members.
    """
    sources = _without_repeats(record.sources)
    members = max((len(source.members) for source in sources), default=0) or 1
    if at_least is not None and not 1 <= at_least <= members:
        raise SettingsError(
            f"--at-least must be between 1 and the number of members, {members}, but is {at_least}"
        )
    least = members // 2 + 1 if at_least is None and members > 1 else at_least
    known = {row["id"]: row for row in record.images[list(IMAGE_COLUMNS)].to_dict("records")}
    items: dict[str, ReviewItem] = {}
    counts = {name: [0] * (members + 1) for name in record.classes}
    for source in sources:
        for item in _examine(source, known, least):
            items[item.id] = item
            counts[item.label][item.wrong] += 1
    agreed = sum(item.decision == item.label for item in items.values())
    predicted = {source.kind: len(source.predictions) for source in sources}
    _note_contradictions(items, known, record)
    found, reviewed = [item for item in items.values() if item.reasons], set(record.reviewed)
    order = {name: number for number, group in enumerate(record.contradictions) for name in group}
    queued = sorted(
        (item for item in found if item.id not in reviewed), key=lambda item: _urgency(item, order)
    )
    return ReviewQueue(
        [replace(item, rank=rank) for rank, item in enumerate(queued, start=1)],
        record.classes, members, least, predicted, agreed, len(known) - sum(predicted.values()), counts,
        len(found) - len(queued),
    )  # fmt: skip


def _without_repeats(sources: Sequence[ReviewSource]) -> list[ReviewSource]:
    """Every image in the first source that holds it; sources that add nothing are left out."""
    seen: set[str] = set()
    kept = []
    for source in sources:
        new = ~np.isin(source.predictions.ids, list(seen))
        seen |= set(source.predictions.ids.tolist())
        if new.any():
            members = {name: each.take(new) for name, each in source.members.items()}
            kept.append(replace(source, predictions=source.predictions.take(new), members=members))
    return kept


def _examine(source: ReviewSource, known: Mapping[str, dict], least: int | None) -> list[ReviewItem]:
    """One item per image of a source, most of them without a reason."""
    decided, voters = source.predictions, list(source.members.values()) or [source.predictions]
    # Vote shares take few values and order images badly, so labels are judged by the members' mean.
    graded = combine_predictions(voters, "average") if source.members else decided
    is_suspect, means = find_suspects(graded)
    votes = np.sum([np.eye(len(decided.classes), dtype=int)[each.decisions] for each in voters], axis=0)
    items = []
    for row, name in enumerate(decided.ids.tolist()):
        item = ReviewItem(
            0, **known[name], kind=source.kind, decision=decided.classes[decided.decisions[row]],
            probabilities=dict(zip(decided.classes, graded.probabilities[row].tolist(), strict=True)),
            votes=dict(zip(decided.classes, votes[row].tolist(), strict=True)),
            wrong=int(len(voters) - votes[row, decided.labels[row]]),
        )  # fmt: skip
        expected = float(means[row]) if is_suspect[row] else None
        items.append(replace(item, reasons=tuple(_find_reasons(item, least, expected))))
    return items


def _find_reasons(item: ReviewItem, least: int | None, expected: float | None) -> Iterator[Reason]:
    assert item.probabilities is not None
    if least is not None and item.wrong >= least:
        text = f"{item.wrong} of {item.members} members do not call it {item.label}."
        single = f"The classifier calls it {item.decision}."
        yield Reason("members_wrong", text if item.members > 1 else single)
    if expected is not None:
        own = item.probabilities[item.label]
        text = f"Its label {item.label} gets a probability of {own:.1%}; images so labelled get {expected:.1%} on average."
        yield Reason("label_suspect", text)
    probability = item.probability or 0.0
    if item.members == 1 and item.decision != item.label and probability >= SURE:
        yield Reason("confident_mistake", f"Called {item.decision} with a probability of {probability:.1%}.")


def _note_contradictions(
    items: dict[str, ReviewItem], known: Mapping[str, dict], record: ReviewRecord
) -> None:
    """Adds the reason to all images of near duplicates with different labels, predicted or not."""
    for group in record.contradictions:
        for name in group:
            twins = tuple(other for other in group if known[other]["label"] != known[name]["label"])
            if not twins:
                continue
            item = items.get(name, ReviewItem(0, **known[name]))
            shown = ", ".join(f"{other} (labelled {known[other]['label']})" for other in twins[:3])
            text = f"It looks like a copy of {shown}: one of the labels must be wrong."
            reasons = (Reason("duplicate_labels", text), *item.reasons)
            items[name] = replace(item, reasons=reasons, twins=twins)


def _urgency(item: ReviewItem, contradiction: Mapping[str, int]) -> tuple:
    own = (item.probabilities or {}).get(item.label, 1.0)
    share = item.wrong / item.members if item.members else 0.0
    if item.twins:
        return 0, contradiction[item.id], -share, own, item.id
    return 1, 0, -share, own, item.id


# --- labels that models which never saw them contradict: confident learning, by cleanlab -------------


def find_suspects(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Finds suspected label errors.

    An image counts as suspected where its most probable class, of those that reach their own images' mean
    probability, is not its label: an off-diagonal entry of the confident joint (Northcutt, Jiang & Chuang,
    "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, 2021, eq. 1 and 2). Unlike a
    fixed threshold this allows for a model that is surer of one class than of another.

    Args:
        predictions: of N images that the models did not train on: in-sample probabilities agree with wrong labels.

    Returns:
        Which labels are suspected, bool [N]; and the probability that images with the same label get for it on
        average, float [N].
    """
    labels, probabilities, quality = predictions.labels, predictions.probabilities, predictions.of_truth
    expected = np.zeros(len(labels))
    for index in np.unique(labels):
        expected[labels == index] = quality[labels == index].mean()
    is_suspect = np.zeros(len(labels), dtype=bool)
    present = np.unique(labels)
    if len(present) > 1:
        is_suspect[_find_issues(np.searchsorted(present, labels), probabilities[:, present])] = True
    return is_suspect, expected


def _find_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Positions, over the classes that occur: cleanlab takes labels from 0 without a gap."""
    from cleanlab.filter import find_label_issues  # seconds to import, and needed by reviews only

    total = probabilities.sum(axis=1, keepdims=True)
    # An image all of whose probability lies on absent classes says nothing of the others.
    shares = np.divide(
        probabilities, total, out=np.full_like(probabilities, 1 / probabilities.shape[1]), where=total > 0
    )
    return find_label_issues(
        labels, shares, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )


# --- on disk ------------------------------------------------------------------------------------------


def write_review_record(record: ReviewRecord, folder: str | Path) -> None:
    """Writes the record into ``folder``, which is made."""
    folder = Path(folder)
    for source in record.sources:
        (folder / source.kind).mkdir(parents=True)
        write_predictions(source.predictions, folder / f"{source.kind}.npz")
        for name, predictions in source.members.items():
            write_predictions(predictions, folder / source.kind / f"{name}.npz")
    write_csv(record.images[list(IMAGE_COLUMNS)], folder / "images.csv")
    facts = {
        "classes": list(record.classes),
        "sources": [{"kind": source.kind, "members": list(source.members)} for source in record.sources],
        "contradictions": [list(group) for group in record.contradictions],
        "reviewed": list(record.reviewed),
    }
    write_json(folder / "review.json", facts)


def read_review_record(folder: str | Path) -> ReviewRecord:
    """Reads what ``write_review_record`` wrote.

    Raises:
        ArtifactError: there is no such record, as in runs of earlier versions.
    """
    folder = Path(folder)
    if not (folder / "review.json").is_file():
        raise ArtifactError(
            f"{folder} must hold the record of a review, but does not: run the experiment again with `kerasall run`, "
            "which trains nothing anew that is at hand"
        )
    facts = read_json(folder / "review.json")
    sources = [
        ReviewSource(
            each["kind"],
            read_predictions(folder / f"{each['kind']}.npz"),
            {name: read_predictions(folder / each["kind"] / f"{name}.npz") for name in each["members"]},
        )
        for each in facts["sources"]
    ]
    images = read_csv(folder / "images.csv")
    return ReviewRecord(tuple(facts["classes"]), sources, images, facts["contradictions"], facts["reviewed"])
