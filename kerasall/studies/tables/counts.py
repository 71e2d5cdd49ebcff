"""How many images and subjects of a class stand in a part of a run's division."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from kerasall.data.cnmc import PRELIMINARY
from kerasall.data.examples import read_examples
from kerasall.data.splits import DROPPED, read_split
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.ours import Ours, none_as
from kerasall.studies.tables.scored import Scored, read_scored

_IN_TURN = "each fold's model was trained on the other folds, and scored on its own"
_PARTS = ("train", "validation", "test", "prelim", "all")


def count_images(run: Run, words: Sequence[str]) -> Ours:
    """``images/PART/CLASS``: see ``select_images``."""
    return _count(run, words, len)


def count_subjects(run: Run, words: Sequence[str]) -> Ours:
    """``subjects/PART/CLASS``: ids of patients as the data name them, joined ones each counted, images without one not."""
    if read_scored(run).facts.subject_kind != "subject":
        return none_as("the data name no patients")
    return _count(run, words, lambda rows: len(set(rows["subject"]) - {""}))


def _count(run: Run, words: Sequence[str], count: Callable[[pd.DataFrame], int]) -> Ours:
    part, of_class = words
    scored = read_scored(run)
    # C-NMC has a class "all", which keys call malignant.
    labels = scored.classes if of_class == "all" else scored.find_classes(of_class)
    if not labels:
        return none_as(f"this run has the classes {', '.join(scored.classes)}")
    rows = select_images(run, scored, part)
    if rows is None:
        return none_as(f"no image of this run stands in the part {part}")
    of_part = rows[rows["label"].isin(labels)]
    return Ours(count(of_part), reason=_IN_TURN if part == "train" and scored.kind == "out-of-fold" else "")


def select_images(run: Run, scored: Scored, part: str) -> pd.DataFrame | None:
    """The images of a part: columns id, label, subject, group, part; None where there is none.

    Args:
        run: with a frozen split.
        scored: what the run was scored on.
        part: ``train``, ``validation``, ``test`` (what was scored, whatever it is called), ``prelim`` (of the publisher's
            preliminary test part) or ``all``, which leaves out what no step may use. With folds all train.
    """
    if part not in _PARTS:
        return None
    split = read_split(run.output("Split", "split.json"))
    table = split.table[split.table["part"] != DROPPED]
    if part == "prelim":
        examples = read_examples(run.output("Examples", "examples.csv"))
        table = table[table["id"].isin(examples["id"][examples["fold"] == PRELIMINARY])]
    elif part == "test":
        table = table[table["id"].isin(scored.predictions.ids.tolist())]
    elif part == "train":
        table = table[table["part"].isin(split.folds or ("train",))]
    elif part == "validation":
        table = table[table["part"] == "validation"]
    return table if len(table) else None
