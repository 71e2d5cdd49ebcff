"""The oracle: every run of the array, each once, whatever happens to the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras_tuner
import numpy as np
import pandas as pd
import pytest
from experiment import (
    FACTORS,
    OBJECTIVE,
    FakeTuner,
    comparable,
    finish,
    make_oracle,
    respond,
    run_next,
    search,
)
from pandas.testing import assert_frame_equal

from kerasall.errors import ArtifactError, DataError, KerasallError, SettingsError
from kerasall.taguchi import stored_oracle
from kerasall.taguchi.analysis import analyze
from kerasall.taguchi.arrays import ARRAYS, levels_of, load_array
from kerasall.taguchi.oracle import TaguchiOracle


@pytest.fixture(autouse=True, scope="module")
def impatient_disk():
    """What tests write need not survive a power failure: thousands of synchronisations take a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.mark.parametrize("array", ARRAYS)
def test_every_array_runs_through(array, tmp_path):
    levels = levels_of(array)
    factors = {f"F{i + 1}": list(range(count)) for i, count in enumerate(levels)}
    oracle = TaguchiOracle(OBJECTIVE, factors, array=array, repeats=1)
    oracle.verbose = 0
    oracle._set_project_dir(str(tmp_path), "p")
    while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        oracle.update_trial(trial.trial_id, {"score": 1.0})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert trial.status == "STOPPED"
    found = oracle.results()
    assert (found[[f"{name} level" for name in factors]].to_numpy() == oracle.design.plan.levels).all()
    assert (found[list(factors)].to_numpy() == load_array(array).table[:, columns_of(oracle)] - 1).all()
    assert list(found["row"]) == list(range(1, len(found) + 1))


def columns_of(oracle):
    return [column - 1 for column in oracle.design.plan.columns.values()]


def test_every_row_repeat_and_fold_is_a_trial_of_its_own(tmp_path):
    found = search(tmp_path, repeats=2, folds=3)
    assert len(found) == 9 * 2 * 3
    assert not found.duplicated(["row", "repeat", "fold"]).any()
    assert found[["repeat", "row", "fold"]].apply(tuple, axis=1).is_monotonic_increasing
    assert found["objective"].nunique() == len(found)  # every raw response, no means
    assert (found["objective"] + found["loss"]).round(9).eq(1).all()


def test_a_dummy_level_is_told_from_its_twin(tmp_path):
    found = search(tmp_path, repeats=1)
    assert list(found["optimizer"]) == ["adam"] * 3 + ["sgdm"] * 3 + ["adam"] * 3
    assert list(found["optimizer level"]) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    values = json.loads((tmp_path / "p/trial_0008/trial.json").read_text())["hyperparameters"]["values"]
    assert values["taguchi/levels"].startswith("3,")
    assert (values["taguchi/row"], values["taguchi/repeat"], values["taguchi/fold"]) == (9, 1, 1)


def test_every_trial_has_a_seed_of_its_own_that_the_design_decides(tmp_path):
    def seeds(**options):
        oracle = make_oracle(**options)
        return [oracle.design.seed_of(place) for place in oracle.design.places(3)]

    assert len(set(seeds(folds=2))) == len(seeds(folds=2))
    assert seeds() == seeds()
    assert not set(seeds()) & set(seeds(seed=8))
    assert all(0 <= seed < 2**31 for seed in seeds(seed=0))


def test_analysis_is_that_of_the_table(tmp_path):
    search(tmp_path, repeats=3, folds=2)
    oracle = make_oracle(tmp_path, repeats=3, folds=2)
    table = oracle.results()
    means = table.groupby(["row", "repeat"])["objective"].mean().unstack().to_numpy()
    levels = {name: table.groupby("row")[f"{name} level"].first().to_numpy() for name in FACTORS}
    direct = analyze(levels, means, signal="larger", levels=FACTORS)
    assert oracle.analyze().to_json() == direct.to_json()
    best = oracle.analyze().best_levels
    assert (best["optimizer"], best["batch_size"], best["learning_rate"]) == (1, 3, 2)
    assert str(oracle.analyze("target:1").signal) == "target:1"


def test_confirmation_runs_stand_at_the_predicted_optimum(tmp_path):
    found = search(tmp_path, confirmations=2, folds=2)
    confirmed = found[found["row"] == "confirmation"]
    oracle = make_oracle(tmp_path, confirmations=2, folds=2)
    analysis = oracle.analyze()
    assert list(confirmed["trial"]) == ["0036", "0037", "0038", "0039"]
    for name, level in analysis.best_levels.items():
        assert (confirmed[f"{name} level"] == level).all()
        assert (confirmed[name] == FACTORS[name][level - 1]).all()
    means = confirmed.groupby("repeat")["objective"].mean()
    assert analysis.prediction.confirmed == pytest.approx(-10 * np.log10((1 / means**2).mean()))


def test_confirmation_of_another_optimum_is_not_taken_for_this_one(tmp_path):
    search(tmp_path, confirmations=1)
    found = make_oracle(tmp_path, confirmations=1).analyze("smaller")
    assert found.prediction.confirmed is None
    assert any("not the optimum of this analysis" in text for text in found.warnings)


def test_confirmations_may_be_added_to_a_finished_experiment(tmp_path):
    first = search(tmp_path)
    both = search(tmp_path, confirmations=2)
    assert len(both) == len(first) + 2
    assert_frame_equal(both.iloc[: len(first)], first, check_dtype=False)
    assert_frame_equal(search(tmp_path, confirmations=0), both)
    assert make_oracle(tmp_path).remaining_trials() == 0


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The table of the experiment with two repeats."""
    return search(tmp_path_factory.mktemp("unbroken"))


@pytest.fixture(scope="module")
def unbroken_with_confirmation(tmp_path_factory):
    """The table with one repeat and two confirmation runs."""
    return search(tmp_path_factory.mktemp("confirmed"), repeats=1, confirmations=2)


@pytest.mark.parametrize("step", ["create", "update", "end"])
@pytest.mark.parametrize("number", [0, 4, 8, 9, 10])
def test_reloading_at_any_stage_changes_nothing(number, step, tmp_path, unbroken_with_confirmation):
    options = {"repeats": 1, "confirmations": 2}
    oracle = make_oracle(tmp_path, **options)
    for _ in range(number):
        run_next(oracle)
    trial = oracle.create_trial("tuner0")
    if step != "create":
        oracle.update_trial(trial.trial_id, {"score": -5.0}, step=3)  # never ended: must not count
    if step == "end":
        finish(oracle, trial)
    again = make_oracle(tmp_path, **options)
    expected = number + (step == "end")
    while (following := again.create_trial("tuner0")).status == "RUNNING":
        assert following.trial_id == f"{expected:04d}"
        finish(again, following)
        expected += 1
    assert following.status == "STOPPED"
    assert expected == 11
    assert_frame_equal(comparable(make_oracle(tmp_path, **options)), unbroken_with_confirmation)


class PowerCut(BaseException):
    """Ends the process at a write, as far as the oracle can tell."""


def test_a_cut_at_any_write_loses_doubles_and_reorders_nothing(tmp_path, monkeypatch):
    options = {"factors": {"A": [1, 2], "B": [1, 2], "C": [1, 2]}, "repeats": 1, "confirmations": 1}
    whole = _run_abc(tmp_path / "whole", options)
    write, cut_at, writes = stored_oracle.write_text, None, 0

    def cut_power(path, text):
        nonlocal writes
        writes += 1
        if writes == cut_at:
            raise PowerCut
        write(path, text)

    monkeypatch.setattr(stored_oracle, "write_text", cut_power)
    for cut_at in range(1, 100):
        writes = 0
        folder = tmp_path / str(cut_at)
        try:
            _run_abc(folder, options)
            break
        except PowerCut:
            assert_frame_equal(_run_abc(folder, options), whole)
    assert cut_at > 20  # five trials write four files each


def _run_abc(folder, options):
    oracle = make_oracle(folder, **options)
    while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        values = trial.hyperparameters.values
        oracle.update_trial(trial.trial_id, {"score": values["A"] + values["taguchi/seed"] % 1000 / 1e4})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return comparable(oracle)


def test_killed_in_the_middle_of_trial_3_it_ends_as_if_unbroken(tmp_path, unbroken_with_confirmation):
    options = {"repeats": 1, "confirmations": 2}
    script = f"""
import time
from experiment import FakeTuner, make_oracle

class Sleepy(FakeTuner):
    def run_trial(self, trial, **options):
        if trial.trial_id == "0003":
            print("in trial 3", flush=True)
            time.sleep(60)
        return super().run_trial(trial)

Sleepy(oracle=make_oracle(**{options}), directory={str(tmp_path)!r}, project_name="p").search()
"""
    places = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    command = [sys.executable, "-c", script]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        assert any("in trial 3" in line for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    before = comparable(make_oracle(tmp_path, **options))
    assert list(before["status"]) == ["COMPLETED"] * 3 + ["RUNNING"]
    assert_frame_equal(search(tmp_path, **options), unbroken_with_confirmation)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"factors": FACTORS | {"epochs": [8, 10, 20]}}, "factor epochs had the levels"),
        ({"factors": {k: v for k, v in FACTORS.items() if k != "epochs"}}, "has None"),
        ({"factors": dict(reversed(FACTORS.items()))}, "order"),
        ({"array": "L27"}, "array was L9"),
        ({"repeats": 3}, "repeats was 2 and is 3"),
        ({"folds": 2}, "folds was None and is 2"),
        ({"seed": 8}, "seed was 7 and is 8"),
    ],
)
def test_another_experiment_in_the_same_folder_is_refused_with_the_difference(changed, difference, tmp_path):
    run_next(make_oracle(tmp_path))
    before = (tmp_path / "p/oracle.json").read_bytes()
    with pytest.raises(SettingsError, match=difference):
        make_oracle(tmp_path, **changed).create_trial("tuner0")
    with pytest.raises(SettingsError, match="overwrite=True"):
        make_oracle(tmp_path, **changed).save()
    assert (tmp_path / "p/oracle.json").read_bytes() == before


def test_a_change_is_refused_even_if_the_kill_came_in_the_first_trial(tmp_path):
    FakeTuner(oracle=make_oracle(), directory=str(tmp_path), project_name="p").oracle.create_trial("tuner0")
    with pytest.raises(SettingsError, match="seed was 7"):
        search(tmp_path, seed=9)


def test_overwriting_starts_anew(tmp_path):
    search(tmp_path)
    oracle = make_oracle(seed=9)
    FakeTuner(oracle=oracle, directory=str(tmp_path), project_name="p", overwrite=True).search(verbose=0)
    assert len(oracle.results()) == 18


def test_a_second_end_is_refused_and_changes_nothing(tmp_path, capsys):
    oracle = make_oracle(tmp_path)
    first = oracle.create_trial("worker0")
    finish(oracle, first)
    stored = (tmp_path / "p/trial_0000/trial.json").read_bytes()
    oracle.verbose = 1
    oracle.update_trial(first.trial_id, {"score": 99.0})
    first.status = "INVALID"
    oracle.end_trial(first)
    assert (tmp_path / "p/trial_0000/trial.json").read_bytes() == stored
    assert oracle.end_order == ["0000"]
    assert "a second end is refused" in capsys.readouterr().err


def test_after_a_restart_of_the_chief_the_first_end_counts(tmp_path, unbroken):
    chief = make_oracle(tmp_path)
    on_one, on_two = chief.create_trial("worker1"), chief.create_trial("worker2")
    chief = make_oracle(tmp_path)
    other = chief.create_trial("worker3")
    assert other.trial_id == "0002"  # the two may still be running where they were
    finish(chief, on_one)
    assert chief.create_trial("worker2").trial_id == on_two.trial_id
    while (trial := chief.create_trial("worker4")).status == "RUNNING":
        finish(chief, trial)
    finish(chief, on_two)
    finish(chief, other)
    finish(chief, other)
    assert chief.remaining_trials() == 0
    assert sorted(chief.end_order) == [f"{i:04d}" for i in range(18)]
    assert_frame_equal(comparable(chief), unbroken)


def test_a_trial_whose_worker_never_returns_is_run_by_another_in_the_end(tmp_path, unbroken):
    make_oracle(tmp_path).create_trial("gone")
    assert_frame_equal(search(tmp_path), unbroken)


def test_a_worker_restarted_under_its_id_gets_its_trial_again(tmp_path):
    oracle = make_oracle(tmp_path)
    trial = oracle.create_trial("worker1")
    oracle.update_trial(trial.trial_id, {"score": 5.0}, step=4)
    assert oracle.create_trial("worker2").trial_id == "0001"
    again = oracle.create_trial("worker1")
    assert again.trial_id == trial.trial_id
    finish(oracle, again)
    assert oracle.results()["objective"][0] == respond(again.hyperparameters.values)


def test_workers_idle_until_the_optimum_is_known(tmp_path):
    oracle = make_oracle(tmp_path, repeats=1, confirmations=1)
    for _ in range(8):
        run_next(oracle)
    last = oracle.create_trial("worker1")
    assert oracle.create_trial("worker2").status == "IDLE"
    finish(oracle, last)
    assert oracle.create_trial("worker2").hyperparameters.values["taguchi/row"] == "confirmation"
    assert oracle.create_trial("worker1").status == "STOPPED"


def test_trials_survive_the_way_to_a_worker(tmp_path):
    trial = make_oracle(tmp_path).create_trial("worker1")
    arrived = type(trial).from_proto(trial.to_proto())
    assert arrived.hyperparameters.values == trial.hyperparameters.values


def test_declared_interactions_are_planned_stored_and_analysed(tmp_path):
    factors = {"A": [1, 2], "B": [1, 2], "C": [1, 2]}
    oracle = make_oracle(tmp_path, factors=factors, interactions=["A*B"], repeats=1, confirmations=1)
    while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        values = trial.hyperparameters.values
        oracle.update_trial(
            trial.trial_id, {"score": 1.0 + (values["A"] == values["B"] == 2) + 0.1 * values["C"]}
        )
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    found = oracle.analyze(signal="mean")
    assert [row.factor for row in found.anova.rows] == ["A", "B", "C", "A×B"]
    assert found.best_values == {"A": 2, "B": 2, "C": 2}
    assert found.prediction.confirmed == pytest.approx(2.2)
    assert TaguchiOracle.from_project(tmp_path, "p").analyze("mean").to_json() == found.to_json()


class Failing(FakeTuner):
    """Fails where its class attribute says."""

    where: frozenset = frozenset()

    def run_trial(self, trial, *arguments, **options):
        if trial.trial_id in self.where:
            raise RuntimeError("out of memory")
        return super().run_trial(trial)


def fail_at(folder, numbers, **options):
    oracle = make_oracle(**options)
    tuner = type("FailingHere", (Failing,), {"where": frozenset(numbers)})(
        oracle=oracle, directory=str(folder), project_name="p"
    )
    return oracle, tuner


def test_a_failed_trial_is_retried_then_reported_and_run_again_on_request(tmp_path, unbroken):
    oracle, tuner = fail_at(tmp_path, ["0002"], max_retries_per_trial=2)
    tuner.search(verbose=0)
    found = oracle.results()
    assert list(found.loc[found["status"] == "FAILED", "trial"]) == ["0002"]
    assert oracle._run_times["0002"] == 3
    assert "out of memory" in oracle.trials["0002"].message
    assert np.isnan(found["objective"][2])
    assert len(oracle.analyze().signal_to_noise) == 9  # row 3 has its other repeat
    assert (search(tmp_path)["status"] == "FAILED").sum() == 1
    assert_frame_equal(search(tmp_path, retry_failed=True), unbroken)


def test_too_many_failures_in_unlike_rows_stop_the_search_with_their_message(tmp_path, unbroken):
    oracle, tuner = fail_at(tmp_path, ["0001", "0002", "0003"], max_retries_per_trial=0)
    with pytest.raises(
        KerasallError, match=r"(?s)3 in a row failed, in rows.*no level in common.*out of memory"
    ):
        tuner.search(verbose=0)
    assert list(oracle.results()["status"]) == ["COMPLETED"] + ["FAILED"] * 3
    assert_frame_equal(search(tmp_path, retry_failed=True), unbroken)


class Diverging(FakeTuner):
    """Fails at one level of a factor, and counts its runs."""

    level = ("learning_rate", 1e-5)

    def run_trial(self, trial, *arguments, **options):
        ran.append(trial.trial_id)
        name, value = self.level
        if trial.hyperparameters.get(name) == value:
            raise RuntimeError("the loss is not finite")
        return super().run_trial(trial)


ran: list[str] = []


def search_diverging(folder, level, **options):
    ran.clear()
    oracle = make_oracle(**options)
    tuner = type("Here", (Diverging,), {"level": level})(
        oracle=oracle, directory=str(folder), project_name="p"
    )
    tuner.search(verbose=0)
    return oracle


@pytest.mark.parametrize(
    ("level", "rows"),
    [(("learning_rate", 1e-5), {3, 4, 8}), (("optimizer", "sgdm"), {4, 5, 6}), (("epochs", 8), None)],
)
def test_a_level_that_always_fails_stops_neither_search_nor_analysis(level, rows, tmp_path):
    oracle = search_diverging(tmp_path, level, confirmations=2)
    table = oracle.results()
    failed = table[table["status"] == "FAILED"]
    assert len(failed) == 6
    assert rows is None or set(failed["row"]) == rows
    assert len(ran) == 18 + 2 + 6
    # Whatever failed runs again after all that never ran, and before the confirmation.
    assert set(ran[-8:-2]) == set(failed["trial"])
    found = oracle.analyze()
    assert found.best_values[level[0]] != level[1]
    assert np.isnan(found.signal_to_noise).sum() == 3
    assert f"Every run with {level[0]} = {level[1]} failed: that level cannot be chosen." in found.warnings
    assert any("left out: rows" in text for text in found.warnings)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["signal_to_noise"].count(None) == 3
    assert found.prediction.confirmed is not None
    unclear = [text for text in found.warnings if "cannot be told from the others" in text]
    assert len(unclear) == 1  # of six rows five degrees of freedom are left
    assert sum(factor.df for factor in found.model.factors) in (4, 5)
    again = search_diverging(tmp_path, level, confirmations=2, retry_failed=True)
    assert sorted(ran) == sorted(failed["trial"])  # once more each, and not for ever
    assert again.analyze().best_levels == found.best_levels


def test_a_level_to_do_without_is_neither_run_nor_analysed(tmp_path):
    options = {"without": {"learning_rate": [1e-5]}, "confirmations": 1}
    oracle = search_diverging(tmp_path, ("learning_rate", 1e-5), **options)
    assert len(ran) == 6 * 2 + 1
    assert oracle.remaining_trials() == 0
    found = oracle.analyze()
    assert found.best_values["learning_rate"] != 1e-5
    assert any("Done without learning_rate = 1e-05" in text for text in found.warnings)
    assert TaguchiOracle.from_project(tmp_path, "p").analyze().to_json() == found.to_json()
    with pytest.raises(SettingsError, match="learning_rate = 1 is none: learning_rate has"):
        make_oracle(without={"learning_rate": [1]})
    with pytest.raises(SettingsError, match="its factors are optimizer, batch_size"):
        make_oracle(without={"rate": [1]})


def test_a_wholly_broken_search_stops_though_its_first_rows_share_a_level(tmp_path):
    with pytest.raises(KerasallError, match="3 in a row failed"):
        fail_at(tmp_path, [f"{n:04d}" for n in range(18)])[1].search(verbose=0)


def test_a_row_that_fails_alone_is_left_out(tmp_path):
    oracle, tuner = fail_at(tmp_path, ["0002"], repeats=1, confirmations=1)
    tuner.search(verbose=0)
    found = oracle.analyze()
    assert np.flatnonzero(np.isnan(found.signal_to_noise)).tolist() == [2]
    assert any("left out: row 3 of 9" in text for text in found.warnings)


def test_a_row_that_was_not_run_yet_is_waited_for(tmp_path):
    oracle = make_oracle(tmp_path, repeats=1)
    for _ in range(6):
        run_next(oracle)
    with pytest.raises(DataError, match="rows 7, 8, 9"):
        oracle.analyze()


def test_whoever_recovers_from_a_nan_has_a_response(tmp_path):
    oracle = make_oracle(tmp_path)
    trial = oracle.create_trial("tuner0")
    for step, value in enumerate([0.5, float("nan"), 0.75]):
        oracle.update_trial(trial.trial_id, {"score": value}, step=step)
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    assert oracle.trials["0000"].score == 0.75


def test_an_objective_that_is_not_a_number_fails_the_trial(tmp_path):
    oracle = make_oracle(tmp_path, max_retries_per_trial=0)
    trial = oracle.create_trial("tuner0")
    oracle.update_trial(trial.trial_id, {"score": float("nan")})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    again = make_oracle(tmp_path)
    assert again.results()["status"][0] == "FAILED"
    assert "must be finite" in again.trials["0000"].message


def test_a_trial_must_report_its_objective(tmp_path):
    oracle = make_oracle(tmp_path)
    trial = oracle.create_trial("tuner0")
    trial.status = "COMPLETED"
    with pytest.raises(SettingsError, match="must report score"):
        oracle.end_trial(trial)
    with pytest.raises(ValueError, match="Objective value missing"):
        oracle.update_trial(trial.trial_id, {"loss": 1.0})
    finish(oracle, trial)


def test_any_hypermodel_finds_its_factors(tmp_path):
    seen = []

    def build(hp):
        seen.append(
            {
                "optimizer": hp.Choice("optimizer", ["adam", "sgdm"]),
                "batch_size": hp.Int("batch_size", 1, 100),
                "learning_rate": hp.Float("learning_rate", 1e-6, 1.0, sampling="log"),
                "epochs": hp.get("epochs"),
                "other": hp.Float("dropout", 0.1, 0.5),
                "repeat": hp.get("taguchi/repeat"),
            }
        )

    class Building(FakeTuner):
        def run_trial(self, trial, *arguments, **options):
            self.hypermodel.build(trial.hyperparameters)
            return super().run_trial(trial)

    oracle = make_oracle()
    Building(oracle=oracle, hypermodel=build, directory=str(tmp_path), project_name="p").search(verbose=0)
    found = pd.DataFrame(seen[-18:])
    assert_frame_equal(found[list(FACTORS)], oracle.results()[list(FACTORS)], check_dtype=False)
    assert set(found["other"]) == {0.1}
    assert list(found["repeat"]) == [1] * 9 + [2] * 9
    assert oracle.trials["0005"].hyperparameters.values["dropout"] == 0.1


def test_what_is_no_factor_is_told(tmp_path, capsys):
    oracle = TaguchiOracle(OBJECTIVE, {"lr": [0.1, 0.2]})
    FakeTuner(
        oracle=oracle, hypermodel=lambda hp: hp.Float("learning_rate", 0.1, 1.0), directory=str(tmp_path)
    )
    assert "learning_rate is no factor" in capsys.readouterr().err


def test_results_can_be_read_without_repeating_the_settings(tmp_path):
    expected = search(tmp_path, folds=2, confirmations=1)
    oracle = TaguchiOracle.from_project(tmp_path, "p")
    assert_frame_equal(comparable(oracle), expected)
    assert oracle.results()["seconds"].ge(0).all()
    assert oracle.analyze().prediction.confirmed is not None
    with pytest.raises(ArtifactError):
        TaguchiOracle.from_project(tmp_path, "absent")


def test_state_is_json_with_a_schema_and_refuses_another(tmp_path):
    oracle = make_oracle(tmp_path)
    run_next(oracle)
    state = json.loads(json.dumps(oracle.get_state()))
    assert state["schema"] == 1
    with pytest.raises(ArtifactError, match="schema"):
        oracle.set_state(state | {"schema": 2})
    oracle.set_state(state)
    assert run_next(oracle).trial_id == "0001"


def test_another_kind_of_oracle_is_not_taken_over(tmp_path):
    other = keras_tuner.oracles.RandomSearchOracle(OBJECTIVE)
    other._set_project_dir(str(tmp_path), "p")
    other.save()
    with pytest.raises(ArtifactError, match="another kind of oracle"):
        make_oracle(tmp_path).create_trial("tuner0")


def test_trials_without_their_oracle_are_not_thrown_away(tmp_path):
    search(tmp_path)
    (tmp_path / "p/oracle.json").unlink()
    with pytest.raises(ArtifactError, match=r"oracle\.json"):
        search(tmp_path)


def test_a_halved_tuner_file_does_not_stop_a_restart(tmp_path, unbroken):
    run_next(make_oracle(tmp_path))
    (tmp_path / "p/tuner0.json").write_text("")
    assert_frame_equal(search(tmp_path), unbroken)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"factors": {"A": [1, "x"]}}, "all numbers"),
        ({"factors": {"A": [None, 1]}}, "all numbers"),
        ({"factors": {"taguchi/row": [1, 2]}}, "rename"),
        ({"factors": {"fold": [1, 2]}}, "rename"),
        ({"factors": {"A": [1, 1]}}, "two different levels"),
        ({"array": "L10"}, "must be one that is offered"),
        ({"repeats": 0}, "repeats"),
        ({"folds": 1}, "folds"),
        ({"seed": -1}, "seed"),
        ({"confirmations": -1}, "confirmations"),
        ({"signal": "loud"}, "signal"),
        ({"signal": "smaller"}, "smallest score, whose direction is max: take larger"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        make_oracle(**wrong)


@pytest.mark.parametrize("signal", ["larger", "mean"])
def test_a_loss_is_not_maximised(signal):
    loss = keras_tuner.Objective("val_loss", "min")
    with pytest.raises(SettingsError, match="seeks the largest val_loss"):
        TaguchiOracle(loss, FACTORS, signal=signal)
    assert TaguchiOracle(loss, FACTORS, signal="target:0").signal == "target:0"


def test_one_objective_is_needed():
    with pytest.raises(SettingsError, match="one objective"):
        TaguchiOracle(["accuracy", "loss"], FACTORS)


def test_numbers_of_two_types_become_one():
    oracle = make_oracle(factors={"rate": [1, 0.5], "B": [True, False]})
    assert oracle.design.plan.factors == {"rate": (1.0, 0.5), "B": (True, False)}


def test_progress_tells_the_time_left(tmp_path, capsys):
    oracle = make_oracle(tmp_path)
    oracle.verbose = 1
    run_next(oracle)
    time.sleep(0.001)
    lines = capsys.readouterr()
    assert lines.out == ""
    assert "row 1 repeat 1" in lines.err
    assert "1/18 done" in lines.err
    assert "left" in lines.err


def test_a_factor_called_as_anothers_level_numbers_is_refused():
    with pytest.raises(SettingsError, match="must not be called 'a level'"):
        TaguchiOracle(OBJECTIVE, {"a": [1, 2], "a level": [1, 2]})
