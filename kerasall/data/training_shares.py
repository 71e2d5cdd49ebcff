"""Nested shares of the training groups: what a smaller study would have had to train on."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import pandas as pd

from kerasall.data.split_file import DROPPED, Split


def keep_training_share(split: Split, share: float) -> Split:
    """The same split with a share of its training groups, class by class; all that is scored stays.

    Groups (with ``split.unit`` "image" single images) stand in one random order, whose beginning is kept: a
    smaller share is part of every larger one. Of a holdout split the others become the part "dropped"; of
    folds they are listed as not to be trained on while a fold is held out.

    Args:
        split: a drawn one.
        share: in (0, 1]; at least one group of every class is kept.
    """
    if share >= 1:
        return split
    table = split.table.assign(name=split.table["group" if split.unit == "group" else "id"])
    note = f"Trained on {100 * share:g}% of the training groups alone: a point of a learning curve."
    if split.kind == "holdout":
        training = table[table["part"] == "train"]
        left_out = table["id"].isin(_left_out(training, share, split.seed))
        thinned = split.table.assign(part=split.table["part"].mask(left_out, DROPPED))
        return replace(split, table=thinned, notes=(*split.notes, note))
    dropped = {}
    for fold in split.folds:
        training = table[table["id"].isin(split.development_ids(fold))]
        dropped[fold] = tuple(sorted({*split.dropped.get(fold, ()), *_left_out(training, share, split.seed)}))
    return replace(split, dropped=dropped, notes=(*split.notes, note))


def _left_out(training: pd.DataFrame, share: float, seed: int) -> set[str]:
    """Ids of the groups beyond the share."""
    labels = training.groupby("name")["label"].agg(lambda found: found.value_counts().sort_index().idxmax())
    kept: set[str] = set()
    for label in sorted(set(labels)):
        names = sorted(labels.index[labels == label], key=lambda name: (_place(str(name), seed), name))
        kept.update(names[: ceil(share * len(names) - 1e-9)])
    return set(training["id"][~training["name"].isin(kept)])


def _place(name: str, seed: int) -> float:
    """A group's place in the random order, whatever other groups there are."""
    return float(np.random.default_rng([seed, *name.encode()]).random())


def count_training(split: Split) -> tuple[float, float]:
    """Groups and images that one fit is trained on (with folds the mean over them).

    An inner validation part, where there is one, is taken out of these.
    """
    table = split.table.set_index("id")["group"]
    fits = [split.development_ids(fold) for fold in split.folds] or [split.ids("train")]
    groups = [table.loc[ids].nunique() for ids in fits]
    return float(np.mean(groups)), float(np.mean([len(ids) for ids in fits]))
