"""What a training record holds, and what it says of files that are not there."""

import numpy as np
import pytest

from kerasall.data.training_record import ANALYSIS, MEMBERS_FILE, PROJECT, TrainingRecord
from kerasall.errors import ArtifactError
from kerasall.evaluation.predictions import Predictions
from kerasall.files import write_json


def predict(first: float) -> Predictions:
    names = ["a", "b"]
    return Predictions(names, names, names, [0, 1], [[first, 1 - first], [0.5, 0.5]], ("all", "hem"))  # pyright: ignore[reportArgumentType]


def firsts(*parts: Predictions | None) -> list[float | None]:
    return [None if part is None else float(part.probabilities[0, 0]) for part in parts]


def test_one_classifier_has_its_predictions_and_nothing_else(tmp_path):
    record = TrainingRecord(tmp_path)
    record.write(predict(0.9), {"seconds": 1.0})
    assert record.training == {"seconds": 1.0}
    assert record.chosen_on == ()
    assert firsts(record.predictions, record.one_view, record.selection, record.scored) == [
        0.9, None, None, 0.9,
    ]  # fmt: skip
    assert (record.ensemble, record.members, record.tuned_members, record.analysis) == (None, {}, None, None)
    with pytest.raises(ArtifactError, match=r"training\.json"):
        _ = record.member("a").training


def test_an_ensemble_names_its_members_and_keeps_the_experiment_behind_them(tmp_path):
    record = TrainingRecord(tmp_path / "record")
    told = {"rule": "average", "members": ["two", "one"]}
    record.write(predict(0.6), {}, selection=predict(0.7), one_view=predict(0.5), ensemble=told)
    for name, value in {"one": 0.1, "two": 0.2}.items():
        record.member(name).write(predict(value), selection=predict(value / 2))
    assert firsts(record.predictions, record.one_view, record.scored) == [0.6, 0.5, 0.7]
    assert record.ensemble == told
    assert list(record.members) == ["two", "one"]
    assert firsts(*(each.predictions for each in record.members.values())) == [0.2, 0.1]
    assert firsts(*(each.scored for each in record.members.values())) == [0.1, 0.05]

    (tmp_path / "search" / PROJECT).mkdir(parents=True)
    (tmp_path / "search" / PROJECT / "oracle.json").write_text("{}")
    analysis = {"best_levels": {}, "experiment": {"scored_on": "out-of-fold"}}
    write_json(tmp_path / "search" / ANALYSIS, analysis)
    write_json(tmp_path / MEMBERS_FILE, [{"name": "model_1"}])
    record.keep_experiment(tmp_path / MEMBERS_FILE, tmp_path / "search")
    assert record.tuned_members == [{"name": "model_1"}]
    assert record.analysis == analysis
    assert record.chosen_on == ("out-of-fold",)
    assert (record.folder / PROJECT / "oracle.json").is_file()


def test_predictions_come_back_bit_for_bit(tmp_path):
    kept = predict(0.1 + 0.2)
    TrainingRecord(tmp_path).write(kept)
    np.testing.assert_array_equal(TrainingRecord(tmp_path).predictions.probabilities, kept.probabilities)
