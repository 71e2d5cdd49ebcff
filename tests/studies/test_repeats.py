"""Repetitions: worked spreads, intervals of means, one split for all, seeds of training alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from page_tables import read_tables

from kerasall.errors import DataError, SettingsError
from kerasall.evaluation.ensemble_rules import combine_predictions
from kerasall.evaluation.ensemble_scores import for_curves
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import Predictions, read_predictions
from kerasall.evaluation.repeats import score_repeats, spread_of
from kerasall.report.page import write_page
from kerasall.report.pages.series import Background, describe_repeats, describe_spread, make_repeats_page
from kerasall.settings.loading import load_settings, validate
from kerasall.studies.experiment import Places, load_pipeline
from kerasall.studies.series import run_repeats

ROOT = Path(__file__).parents[2]
METRICS = ("f1_weighted", "accuracy", "roc_auc", "log_loss", "malignant_sensitivity")


def record(seed: int, skill: float = 0.8, images: int = 120, groups: int = 24) -> Predictions:
    """Random predictions of the same images and labels, right in about ``skill`` of them."""
    ids = np.char.add("i", np.arange(images).astype(str))
    group = np.char.add("g", (np.arange(images) % groups).astype(str))
    labels = np.arange(images) % groups % 2
    random = np.random.default_rng(seed)
    sure = random.uniform(0.5, 1, images)
    called = np.where(random.random(images) < skill, labels, 1 - labels)
    probabilities = np.where(called[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
    return Predictions(ids, group, group, labels, probabilities, ("all", "hem"))


def scored(predictions: Predictions, resamples: int = 400) -> Scorer:
    return Scorer(predictions, ("all",), resamples)


def several(count: int, models: tuple[str, ...] = ("one", "ensemble")) -> dict[str, dict[str, Scorer]]:
    return {
        f"repeat {number}": {
            model: scored(record(10 * number + k, 0.7 + 0.1 * k)) for k, model in enumerate(models)
        }
        for number in range(count)
    }


BACKGROUND = Background("x", "", "honest", "the test part", "groups of patients", {"repeat 0": "run x"})


def test_variance_divides_by_one_less_than_the_repetitions():
    found = spread_of([0.87, 0.88, 0.90, 0.89, 0.89])
    assert found.mean == pytest.approx(0.886)
    assert found.variance == pytest.approx(sum((v - 0.886) ** 2 for v in found.values) / 4)
    assert (found.lowest, found.highest) == (0.87, 0.90)
    assert found.deviation == pytest.approx(np.std(found.values, ddof=1))


def test_a_score_that_is_not_defined_everywhere_has_no_mean():
    found = spread_of([0.8, None, 0.9])
    assert found.mean is None
    assert found.values == (0.8, None, 0.9)
    one_class = replace(record(0), probabilities=np.tile([0.9, 0.1], (120, 1)), decisions=None)
    scores = score_repeats(
        {"a": {"m": scored(record(0))}, "b": {"m": scored(one_class)}}, ["mcc", "accuracy"]
    )
    assert scores.spreads["m"]["mcc"].mean is None
    assert scores.spreads["m"]["accuracy"].mean is not None
    assert "not defined" in describe_repeats(scores)[1]


def test_equal_repetitions_have_the_interval_of_one():
    """The interval of the mean is over groups: without a spread over seeds it is that of a single run."""
    one = record(3)
    scores = score_repeats({name: {"m": scored(one)} for name in "abc"}, METRICS)
    alone = scored(one).intervals(METRICS)
    for metric, spread in scores.spreads["m"].items():
        assert (spread.mean, spread.low, spread.high) == pytest.approx(
            (alone[metric].value, alone[metric].low, alone[metric].high)
        )
        assert spread.variance == pytest.approx(0, abs=1e-20)
    assert scores.groups == 24


def test_the_interval_of_a_mean_contains_it_and_is_narrower_than_the_worst_runs_reach():
    scores = score_repeats(several(5), METRICS)
    for spreads in scores.spreads.values():
        for metric, spread in spreads.items():
            assert spread.mean == pytest.approx(np.mean(spread.values)), metric
            assert spread.low < spread.mean < spread.high
    assert list(scores.spreads) == ["one", "ensemble"]
    assert scores.metrics == list(METRICS)


def test_curves_of_a_vote_come_from_mean_probabilities():
    members = [record(seed) for seed in range(3)]
    vote = combine_predictions(members, "majority_vote")
    curves = for_curves(vote, members, "majority_vote")
    found = score_repeats(
        {name: {"v": Scorer(vote, graded=curves)} for name in "ab"}, ["roc_auc", "accuracy"]
    )
    means = combine_predictions(members, "average")
    expected = Scorer(means).interval("roc_auc").value
    assert found.spreads["v"]["roc_auc"].mean == pytest.approx(expected)
    assert found.spreads["v"]["accuracy"].mean == np.mean(vote.decisions == vote.labels)


@pytest.mark.parametrize(
    ("repetitions", "words"),
    [
        (several(1), "at least 2 repetitions"),
        (several(1) | {"b": {"other": scored(record(0))}}, "the same models"),
        (several(1, ("m",)) | {"b": {"m": scored(record(0, images=96))}}, "other ids"),
    ],
)
def test_what_is_no_repetition_is_refused(repetitions, words):
    with pytest.raises(DataError, match=words):
        score_repeats(repetitions, ["accuracy"])


def test_the_page_tells_seeds_from_patients_and_headlines_no_best_run(tmp_path):
    scores = score_repeats(several(5, ("a", "b", "c", "ensemble")), METRICS)
    page = write_page(tmp_path, make_repeats_page(scores, BACKGROUND), name="repeats")
    assert page.name == "repeats.html"
    text = page.read_text(encoding="utf-8")
    assert "not the uncertainty over groups of" in text
    assert "Quote the mean" in text
    document = json.loads((tmp_path / "repeats.json").read_text())
    assert document["results"]["ddof"] == 1
    assert re.findall(r"<dt>(.*?, mean)</dt>", text) == ["ensemble, mean"]
    tables = read_tables(text)
    main, every = tables["Each model over all repetitions"], tables["Every score of every model"]
    assert [row[0].text for row in main[1:]] == ["a", "b", "c", "ensemble"]
    assert len(main[0]) == 6 + 5
    assert len(every[1:]) == len(METRICS) * 4


def test_a_spread_of_zero_is_said():
    same = {name: {"m": scored(record(1))} for name in "ab"}
    assert any(
        "no seed changes" in line for line in describe_spread(score_repeats(same, ["accuracy"]), BACKGROUND)
    )


# --- experiments ----------------------------------------------------------------------------------

TINY = {
    "pipeline": str(ROOT / "pipelines" / "weighted_ensemble.py"),
    "data": {
        "source": "synthetic",
        "synthetic": {
            "kind": "cnmc",
            "subjects_per_class": 6,
            "images_per_subject": 6,
            "size": 48,
            "seed": 5,
        },
    },
    "checks": {"near_duplicates": {"enabled": False}},
    "split": {"validation": 0.3, "test": 0.3},
    "preprocess": [{"op": "resize", "height": 32, "width": 32}],
    "members": [
        {"name": "small", "model": {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"}},
        {"name": "other", "model": {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"}},
    ],
    "ensemble": {"rule": "average"},
    "train": {
        "batch_size": 8,
        "stages": [{"name": "all", "trainable": "all", "train_batch_norm": True, "epochs": 1}],
    },
    "evaluate": {"resamples": 200, "gallery": 2},
}


def test_a_repetition_changes_the_seeds_of_training_and_no_other_parameter(tmp_path):
    """The split, and all before it, keeps its parameters, and with them its key."""
    path = tmp_path / "tiny.yaml"
    for script in ("weighted_ensemble", "single_classifier"):
        path.write_text(yaml.safe_dump(TINY | {"pipeline": str(ROOT / "pipelines" / f"{script}.py")}))
        plain, again, other = (
            load_pipeline(load_settings(path, overrides), Places(tmp_path, tmp_path))
            for overrides in ([], ["repeat=0"], ["repeat=1"])
        )
        first, same = ({s.title: s.parameters for s in pipeline.steps} for pipeline in (plain, again))
        repeated = {step.title: step.parameters for step in other.steps}
        assert first == same
        assert "Pusher" not in repeated  # repetitions are no candidates
        changed = {title for title in repeated if repeated[title] != first[title]}
        trainers = {title for title in repeated if title.startswith("Trainer")}
        assert changed == trainers | {"Evaluator", "ReportGen"}
        for title in trainers:
            assert repeated[title]["seed"] != first[title]["seed"]
            assert {k: v for k, v in repeated[title].items() if k != "seed"} == {
                k: v for k, v in first[title].items() if k != "seed"
            }


def test_seeds_of_repetitions_differ_from_one_another_and_from_the_plain_ones():
    seeds = {
        validate({"experiment": "x", "pipeline": "p", "repeat": r}, "here").training_seed for r in range(20)
    }
    assert len(seeds) == 20


@pytest.mark.parametrize(
    ("count", "overrides", "words"), [(1, [], "at least 2 repetitions"), (3, ["repeat=1"], "leave it out")]
)
def test_what_cannot_be_repeated_is_refused_at_once(tmp_path, monkeypatch, count, overrides, words):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    with pytest.raises(SettingsError, match=words):
        run_repeats(tmp_path / "tiny.yaml", count, overrides=overrides)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_repetitions_share_the_split_and_are_summed_up(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("KERASALL_SAVEDMODELS", str(tmp_path / "models"))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    done = run_repeats(tmp_path / "tiny.yaml", 2, say=lambda _: None, force=True)
    first, second = done.results
    assert [result.folder.name for result in done.results] == ["tiny", "tiny_repeat1"]
    assert second.states["Transform"] == "cached"
    assert second.states["Trainer small"] == "complete"
    assert first.artifacts["Transform", "test"] == second.artifacts["Transform", "test"]
    assert [path.name for path in (tmp_path / "models" / "tiny").iterdir()] == ["1"]
    assert done.page == tmp_path / "runs" / "tiny_repeats" / "repeats.html"
    assert set(done.scores.spreads) == {"small", "other", "ensemble"}
    for number, result in enumerate(done.results):
        report = json.loads((result.folder / "report.json").read_text())["results"]
        for metric, interval in report["metrics"].items():
            assert done.scores.spreads["ensemble"][metric].values[number] == pytest.approx(interval["value"])
        for member, scores in report["ensemble"]["scores"].items():
            for metric, interval in scores.items():
                assert done.scores.spreads[member][metric].values[number] == pytest.approx(interval["value"])
    one, two = (
        read_predictions(r.artifacts["Evaluator", "evaluation"] / "predictions.npz") for r in done.results
    )
    np.testing.assert_array_equal(one.ids, two.ids)
    assert (one.probabilities != two.probabilities).any()
    again = run_repeats(tmp_path / "tiny.yaml", 2, say=lambda _: None, force=True)
    assert {state for result in again.results for state in result.states.values()} == {"cached"}
