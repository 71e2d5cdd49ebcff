"""Scores of a run's members, of its ensemble and of the first so many members; of its folds; what they call wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from kerasall.data.training_record import TRAINING, TrainingRecord
from kerasall.evaluation.metrics import find_metric
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.ours import Ours, none_as
from kerasall.studies.tables.scored import Scored, name_metric, read_fold, read_score, read_scored

WHILE_TRAINING = (
    "as the training reports it: the mean over the last epoch kept, while the weights still moved"
)
NO_ENSEMBLE = "this run has one model, no ensemble"
_RECORDED = ("accuracy", "loss")
"""What a training reports of its own images."""


def score_member(run: Run, words: Sequence[str]) -> Ours:
    """``member/NAME/METRIC``, and ``member/NAME/train/METRIC`` of the images trained on."""
    scored, (named, *rest) = read_scored(run), words
    name = scored.find_member(named)
    if isinstance(name, Ours):
        return name
    if rest[:1] == ["train"]:
        return read_training(run, scored, name, rest[1])
    return read_score(scored, scored.scorer.of(scored.members[name]), rest)


def score_ensemble(run: Run, words: Sequence[str]) -> Ours:
    """``ensemble/METRIC``."""
    scored = read_scored(run)
    if not scored.made:
        return none_as(NO_ENSEMBLE)
    return read_score(scored, scored.scorer, words)


def score_vote(run: Run, words: Sequence[str]) -> Ours:
    """``vote/N/METRIC``: of the first N members, joined by the run's own rule."""
    scored, (count, *rest) = read_scored(run), words
    scorer = scored.grow(int(count))
    return scorer if isinstance(scorer, Ours) else read_score(scored, scorer, rest)


def score_fold(run: Run, words: Sequence[str]) -> Ours:
    """``fold/N/METRIC``: of the images of the fold, by the model that it was held out from; ``fold/N/member/NAME/METRIC``."""
    scored, (number, *rest) = read_scored(run), words
    member, rest = (rest[1], rest[2:]) if rest[0] == "member" else ("", rest)
    own = read_fold(run, number, member)
    return own if isinstance(own, Ours) else read_score(scored, scored.scorer.of(own), rest)


def score_members(run: Run, words: Sequence[str]) -> Ours:
    """``members/mean/METRIC``, ``members/sd/METRIC`` (of a sample) and ``members/eta/METRIC``, with ``train/`` before it.

    η is -10 log10((mean - 1)^2), in decibels: how far the members' mean lies from 1 (Chen et al. 2021).
    """
    scored, (what, *rest) = read_scored(run), words
    if len(scored.members) < 2:
        return none_as("this run has no members")
    found = [_member_value(run, scored, name, rest) for name in scored.members]
    values = [each.value for each in found if isinstance(each.value, int | float)]
    if len(values) < len(found):
        return none_as(
            next((each.reason for each in found if each.reason), "it is not defined of every member")
        )
    reason = found[0].reason if rest[0] == "train" else ""
    return summarize(values, what, reason)


def summarize(values: Sequence[float], what: str, reason: str = "") -> Ours:
    """Mean, standard deviation of a sample, or η of several scores.

    >>> round(summarize([0.8045, 0.8066, 0.7927], "eta").value, 4)
    14.0346
    """
    if what == "mean":
        return Ours(float(np.mean(values)), reason=reason)
    if what == "sd":
        if len(values) < 2:
            return none_as("one run has no spread")
        return Ours(float(np.std(values, ddof=1)), reason=reason)
    distance = abs(float(np.mean(values)) - 1)
    if distance == 0:
        return none_as("η has no bound where the mean is 1")
    return Ours(-20 * float(np.log10(distance)), reason=reason)


def _member_value(run: Run, scored: Scored, name: str, words: Sequence[str]) -> Ours:
    """One member's score without its interval, which no mean over members has."""
    if words[0] == "train":
        return read_training(run, scored, name, words[1])
    metric = name_metric(scored, words[0])
    if not metric:
        return none_as(f"{words[0]} is not defined over the classes {', '.join(scored.classes)}")
    return Ours(scored.scorer.of(scored.members[name]).value(find_metric(metric, scored.classes)))


def read_training(run: Run, scored: Scored, name: str, metric: str) -> Ours:
    """What a member's training reported of the images it trained on: of the kept epoch of its last stage.

    Args:
        run: of the member.
        scored: names the members.
        name: of the member.
        metric: ``accuracy`` or ``loss``; nothing else is reported.
    """
    if metric not in _RECORDED:
        return none_as("a training reports only accuracy and loss of its own images")
    record: dict[str, Any] = TrainingRecord(run.output("TrainingRecord", TRAINING).parent).training
    # Where the ensemble's own record is gone, that of a member is the last one, and says nothing of the others.
    fits = (record.get("members", {}).get(name, {}) if scored.made else record).get("fits", {})
    # What was refitted on all folds is the model; else every fold's own counts alike.
    fits = {"final": fits["final"]} if "final" in fits else fits
    kept = [stages[-1]["epochs"][stages[-1]["best_epoch"] - 1][metric] for stages in fits.values() if stages]
    if not kept or None in kept:
        return none_as("this run kept no history of the training")
    return Ours(float(np.mean(kept)), reason=WHILE_TRAINING)


def wrong_images(run: Run, words: Sequence[str]) -> Ours:
    """``wrong/CLASS/N/count`` and ``wrong/CLASS/N/names``: of the class, wrong by the ensemble and by exactly N members."""
    of_class, count, what = words
    scored = read_scored(run)
    if scored.made is None:
        return none_as("this run has no members")
    if int(count) > len(scored.members):
        return none_as(f"this run has {len(scored.members)} members")
    ids = find_wrong(scored, of_class, int(count))
    if what == "count":
        return Ours(len(ids))
    return Ours(", ".join(PurePosixPath(name).stem for name in ids) or "none")


def find_wrong(scored: Scored, of_class: str, count: int) -> list[str]:
    """Ids of the images of a class that the ensemble and exactly so many members call wrongly."""
    decided = scored.predictions
    labels = [scored.classes.index(name) for name in scored.find_classes(of_class)]
    votes = np.sum([~each.in_order(decided.ids).right for each in scored.members.values()], axis=0)
    chosen = ~decided.right & (votes == count) & np.isin(decided.labels, labels)
    return decided.ids[chosen].tolist()
