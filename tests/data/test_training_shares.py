"""Nested shares of training groups: whole groups, every class, and nothing else of the split changes."""

from __future__ import annotations

import pytest

from kerasall.data.examples import make_examples
from kerasall.data.splits import check_leaks, count_training, keep_training_share
from kerasall.data.stratification import fold_split, holdout_split

ROWS = [
    {"id": f"{label}{subject}_{k}", "path": "", "label": label, "subject": f"{label}{subject}"}
    for label in ("all", "hem")
    for subject in range(20)
    for k in range(3)
]
EXAMPLES = make_examples(ROWS)
HOLDOUT = holdout_split(EXAMPLES, shares={"validation": 0.2, "test": 0.2}, seed=4)
FOLDS = fold_split(EXAMPLES, folds=4, seed=4)


@pytest.mark.parametrize("split", [HOLDOUT, FOLDS], ids=["holdout", "folds"])
def test_shares_are_nested_whole_and_of_every_class(split):
    last = None
    for share in (0.125, 0.25, 0.5, 1.0):
        kept = keep_training_share(split, share)
        check_leaks(kept, [])
        for fold in kept.folds or [None]:
            ids = set(kept.development_ids(fold) if fold else kept.ids("train"))
            chosen = EXAMPLES[EXAMPLES["id"].isin(ids)]
            assert set(chosen["label"]) == {"all", "hem"}
            assert (chosen.groupby("subject").size() == 3).all()
        fold = kept.folds[0] if kept.folds else None
        ids = set(kept.development_ids(fold) if fold else kept.ids("train"))
        assert last is None or last < ids
        last = ids
    assert kept is split


def test_what_is_scored_stays():
    kept = keep_training_share(HOLDOUT, 0.5)
    for part in ("validation", "test"):
        assert kept.ids(part) == HOLDOUT.ids(part)
    assert len(kept.ids("train")) == pytest.approx(len(HOLDOUT.ids("train")) / 2, abs=3)
    folded = keep_training_share(FOLDS, 0.25)
    assert [folded.ids(fold) for fold in folded.folds] == [FOLDS.ids(fold) for fold in FOLDS.folds]
    assert not set(folded.development_ids("fold_1")) & set(FOLDS.ids("fold_1"))


def test_groups_and_images_of_a_fit_are_counted():
    assert count_training(HOLDOUT) == (24, 72)
    assert count_training(keep_training_share(HOLDOUT, 0.25)) == (6, 18)
    groups, images = count_training(keep_training_share(FOLDS, 0.5))
    assert groups == pytest.approx(16, abs=1)
    assert images == 3 * groups
    assert "learning curve" in keep_training_share(FOLDS, 0.5).notes[-1]
