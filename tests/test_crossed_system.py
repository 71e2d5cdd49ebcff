"""A crossed design as a whole system: killed and resumed, and shared by workers, it is the one that nothing disturbed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from pandas.testing import assert_frame_equal
from test_taguchi_system import TINY, Workshop, begun

from kerasall.files import read_json

pytestmark = pytest.mark.slow

TUNE = TINY["tune"] | {
    "factors": {"train.batch_size": [8, 16], "train.stages.0.epochs": [2, 3]},
    "noise": {
        "scored.preprocess": [[], [{"op": "stain_shift", "basic": 1.5, "acid": 0.7}]],
        "split.seed": [0, 1],
    },
    "confirmations": 2,
}
TRIALS = [*range(4 * 4), *range(4 * 4, 4 * 4 + 2 * 4)]
"""Four rows and two runs at the optimum, each under two shifts of two deals: every second one is scored alone."""


def crossed(folder: Path) -> Workshop:
    (folder / "crossed.yaml").write_text(yaml.safe_dump(TINY | {"tune": TUNE}))
    return Workshop(folder, folder / "crossed.yaml")


def trained(text: str) -> set[str]:
    """Names of the trainings whose first epoch a run told of."""
    return set(re.findall(r"trial (\S+) learn  epoch 1/", text))


def require_same(shop: Workshop, unbroken: Workshop) -> None:
    """Every raw response is a trial of its own, none lost or doubled, and bit-equal; so are analysis and scores."""
    table = shop.table()
    assert sorted(table["trial"].astype(int)) == TRIALS
    assert set(table["status"]) == {"COMPLETED"}
    assert_frame_equal(table, unbroken.table())
    assert shop.analysis() == unbroken.analysis()
    assert shop.report()["results"]["metrics"] == unbroken.report()["results"]["metrics"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Workshop:
    shop = crossed(tmp_path_factory.mktemp("unbroken"))
    said = shop.run("--force")
    assert len(begun(said)) == len(TRIALS)
    assert len(trained(said)) == 4 * 2 + 2 * 2  # a shift is scored alone
    assert shop.analysis()["noise"]["runs"] == 4
    return shop


def test_killed_in_the_array_and_at_the_optimum_it_ends_as_the_unbroken_one(tmp_path, unbroken):
    shop = crossed(tmp_path)
    first = shop.kill_at(r"trial 2-1-1-1 learn  epoch 1/")
    second = shop.kill_at(r"trial confirmation-1-1-2 learn  epoch 1/")
    last = shop.run("--force")
    for text, name in ((second, "2-1-1-1"), (last, "confirmation-1-1-2")):
        assert name not in trained(text)  # it went on after the epoch that was finished
    again = trained(first) & trained(second) | trained(second) & trained(last)
    assert not again
    assert (
        Counter(begun(first + second + last)).most_common(2)[-1][1] == 2
    )  # those that a kill cut short, no others
    assert len(begun(first + second + last)) == len(TRIALS) + 2
    require_same(shop, unbroken)


def test_two_workers_share_it_and_train_nothing_twice(tmp_path, unbroken):
    shop = crossed(tmp_path)
    said = shop.run("--workers", "2", "--force")
    assert sorted(map(int, begun(said))) == TRIALS
    (results,) = tmp_path.glob("runs/artifacts/Tuner/*/results/project")
    ended = read_json(results / "oracle.json")["end_order"]
    assert sorted(map(int, ended)) == TRIALS
    # Trials of two workers wait for one training; how long each epoch took tells two trainings apart.
    trainings = {path.read_text() for path in results.glob("trial_*/training.json")}
    assert len(trainings) == 4 * 2 + 2 * 2
    require_same(shop, unbroken)
