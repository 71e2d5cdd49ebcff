"""Best epoch, patience, and the history's JSON form."""

from __future__ import annotations

import json

import pytest

from kerasall.errors import ArtifactError
from kerasall.training.history import EpochRow, History, StageLog, find_best_epoch, has_lost_patience


def rows(losses, accuracies=None):
    accuracies = accuracies or [0.5] * len(losses)
    return [
        EpochRow(i + 1, 1.0, 0.5, loss, accuracy, 1e-3, 2.0)
        for i, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
    ]


@pytest.mark.parametrize(
    ("losses", "min_delta", "best"),
    [
        ([0.5], 0, 1),
        ([0.5, 0.4, 0.6], 0, 2),
        ([0.5, 0.4, 0.4], 0, 2),  # of equal epochs the first
        ([0.5, 0.49, 0.3], 0.05, 3),
        ([0.5, 0.46, 0.44], 0.05, 3),  # measured against the best that counted, not the last
        ([], 0, 0),
    ],
)
def test_best_epoch_by_loss(losses, min_delta, best):
    assert find_best_epoch(rows(losses), "val_loss", min_delta) == best


def test_best_epoch_by_accuracy_and_without_monitor():
    table = rows([0.1, 0.2, 0.3], [0.6, 0.9, 0.9])
    assert find_best_epoch(table, "val_accuracy") == 2
    assert find_best_epoch(table, None) == 3


def test_patience_counts_epochs_since_the_best():
    losses = [0.5, 0.4, 0.6, 0.7, 0.8]
    lost = [has_lost_patience(rows(losses[:n]), "val_loss", 2) for n in range(6)]
    assert lost == [False, False, False, False, True, True]
    assert not has_lost_patience(rows(losses), "val_loss", None)


def test_the_log_says_best_so_far_of_the_best_alone_also_where_the_last_epoch_is_kept(capsys):
    table = tuple(rows([0.5, 0.4, 0.6, 0.39]))
    log = StageLog("head", epochs=4, patience=None, min_delta=0.05)
    for count in range(1, 5):
        log.write(History("head", "val_loss", table[:count], best_epoch=count, stopped_early=False))
    lines = [line for line in capsys.readouterr().err.splitlines() if "epoch" in line]
    # The third rose; the fourth fell by less than min_delta.
    assert ["best so far" in line for line in lines] == [True, True, False, False]


def test_json_gives_the_same_history():
    history = History("head", "val_loss", tuple(rows([0.1 + 0.2, 0.2])), 2, True)
    assert History.from_json(json.loads(json.dumps(history.to_json()))) == history
    assert history.seconds == 4
    assert history.best.val_loss == 0.2
    with pytest.raises(ArtifactError, match="best_epoch"):
        History.from_json({"epochs": []})


@pytest.mark.parametrize(
    ("key", "value"), [("best_epoch", 3), ("best_epoch", "2"), ("stage", 5), ("epochs", [1]), ("more", 0)]
)
def test_a_history_of_odd_values_is_none(key, value):
    stored = History("head", "val_loss", tuple(rows([0.3, 0.2])), 2, True).to_json()
    with pytest.raises(ArtifactError, match=f"must hold.*{key}"):
        History.from_json(stored | {key: value})
