"""Noise of an experiment's own settings: one training for what is scored variously, seeds, parts dealt anew, the report."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from test_tuner import BASE, CLASSES, EFFECTS

from kerasall.components.noise_runs import list_noise
from kerasall.components.transform import training_images
from kerasall.components.trial_search import count_scored, make_oracle, plan_oracle
from kerasall.components.trial_training import PROJECT, RESULT, SearchJob, TrialTraining
from kerasall.components.tuner import collect_members, confirmation_runs, require_tune, write_search
from kerasall.data.development import Development, Facts, read_development, write_development
from kerasall.data.examples import ATTRIBUTES, read_attributes, write_attributes
from kerasall.data.splits import Split
from kerasall.data.stratification import deal_again, fold_split
from kerasall.data.training_record import ANALYSIS
from kerasall.errors import SettingsError
from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.files import read_json, write_json
from kerasall.models.saving import load_model
from kerasall.preprocessing.operations import Chain, fit_chain
from kerasall.report.pages.run import make_tuning
from kerasall.settings import TuneSettings
from kerasall.settings.loading import load_settings
from kerasall.settings.noise import NoiseRun
from kerasall.studies.experiment import Places, load_pipeline
from kerasall.taguchi.stored_oracle import StoredOracle
from kerasall.taguchi.tuner import TaguchiTuner, TrialRun

PARTS = ["train"] * 16 + ["validation"] * 8
FACTORS = {"train.batch_size": [4, 8], "train.stages.0.epochs": [1, 2]}
SHIFTED = {
    "scored.preprocess": [[], [{"op": "gamma", "gamma": 3.0}]],
    "scored.column.site": ["north", "south"],
}


def make_data(folder: Path, parts: list[str] = PARTS, kind: str = "holdout") -> Development:
    """Small images on disk, of two classes and two sites."""
    rng, rows = np.random.default_rng(0), []
    for number, part in enumerate(parts):
        label = CLASSES[number % 2]
        path = folder / f"i{number:03d}.png"
        cv2.imwrite(str(path), rng.integers(0, 120, (32, 32, 3), np.uint8) + 120 * (number % 2))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append([path.stem, label, f"s{number // 2}", f"s{number // 2}", part, str(path), sha256])
    columns = ["id", "label", "subject", "group", "part", "path", "sha256"]
    table = pd.DataFrame(rows, columns=columns)
    sites = ["north" if number % 4 < 2 else "south" for number in range(len(rows))]
    write_attributes(table[["id"]].assign(site=sites), folder)
    split = Split(kind, table[["id", "label", "subject", "group", "part"]], 0)
    chain = [{"op": "resize", "height": 32, "width": 32}]
    return Development(table, split, Facts(CLASSES, ("all",), "subject", "test", (), ""), chain)


def make_tune(**options) -> TuneSettings:
    return TuneSettings.model_validate({"factors": FACTORS, "repeats": 1, "confirmations": 2} | options)


def make_job(folder: Path, tune: TuneSettings) -> SearchJob:
    said = folder if (folder / ATTRIBUTES).is_file() else None
    return SearchJob(folder, folder / "scratch", BASE, tune, 0.2, 0, True, None, folder / "cache", said)


class Counted(TrialTraining):
    """Counts what it trains."""

    trained = 0

    def _train(self, run: TrialRun) -> None:
        self.trained += 1
        super()._train(run)


def test_what_is_scored_variously_is_trained_once(tmp_path):
    data = make_data(tmp_path)
    training = Counted(make_job(tmp_path, make_tune(noise=SHIFTED)), data)
    assert len(training.noise.runs) == 4
    levels = {"batch_size": 1, "epochs": 1}
    run = TrialRun("0000", {}, levels, "confirmation", 1, 1, 5, tmp_path / "trial_1", 1)
    runs = [replace(run, noise=n, folder=tmp_path / f"trial_{n}") for n in (1, 2, 3, 4)]
    found = [training(each)["accuracy"] for each in runs]
    assert training.trained == 1
    plain, shifted = (read_predictions(run.folder / f"{n}.npz") for n in ("predictions", "shifted_1"))
    by_hand = []
    for each in (plain, shifted):
        right = each.decisions == each.labels
        own = read_attributes(tmp_path, each.ids)["site"]
        by_hand += [right[own == "north"].mean(), right[own == "south"].mean()]
    assert found == pytest.approx(by_hand)
    # What the shift changes is the scored image before the chain.
    rows = data.rows(list(shifted.ids))
    images = [cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in data.examples["path"].iloc[rows]]
    chain = Chain.from_json([{"op": "gamma", "gamma": 3.0}, *data.preprocess])
    changed = np.stack([chain(image).numpy() for image in images]).astype("float32")
    model = load_model(run.folder / "model.keras")
    order = [list(data.examples["id"].iloc[rows]).index(name) for name in shifted.ids]
    np.testing.assert_allclose(np.asarray(model(changed))[order], shifted.probabilities, atol=1e-4)
    # A kill between training and scoring costs the scoring alone; so does another folder with the same cache.
    (runs[1].folder / RESULT).unlink()
    again = Counted(training.job, data)
    assert [again(each)["accuracy"] for each in runs] == found
    other = Counted(replace(training.job, scratch=tmp_path / "other"), data)
    assert other(replace(runs[2], folder=tmp_path / "elsewhere"))["accuracy"] == found[2]
    assert again.trained == other.trained == 0
    # Another word of the table divides them anew, and trains nothing.
    (tmp_path / ATTRIBUTES).write_text((tmp_path / ATTRIBUTES).read_text().replace("south", "east"))
    elsewhere = {**SHIFTED, "scored.column.site": ["north", "east"]}
    moved = Counted(replace(make_job(tmp_path, make_tune(noise=elsewhere)), scratch=tmp_path / "moved"), data)
    assert moved(replace(runs[3], folder=tmp_path / "east"))["accuracy"] == found[3]
    assert moved.trained == 0


class Simulated(Counted):
    """Leaves what training would, harmed by a shift where batches are small."""

    def _train(self, run: TrialRun) -> None:
        self.trained += 1
        data = self.noise.data_under(self.noise.of(run.noise))
        rows = data.rows_of(data.split.folds[run.fold - 1] if data.split.folds else "validation")
        table, labels = data.examples.iloc[rows], data.labels[rows]
        rng = np.random.default_rng(self._seed_of(run))
        for number, _ in enumerate(self.noise.shifts):
            harm = 0.3 * number if run.settings["batch_size"] == 4 else 0.02 * number
            wrong = rng.random(len(rows)) < 0.1 + harm - EFFECTS["epochs"][run.settings["epochs"]]
            called = np.where(wrong, 1 - labels, labels)
            sure = np.where(called[:, None] == [0, 1], 0.9, 0.1)
            told = Predictions(table["id"], table["subject"], table["group"], labels, sure, CLASSES)
            write_predictions(told, run.folder / (f"shifted_{number}.npz" if number else "predictions.npz"))
        (run.folder / "model.keras").write_bytes(b"a model " * 100)
        settings = self._settings_of(run).model_dump(mode="json")
        described = {"parameters": 10, "seconds": 1.5, "classes": {}, "settings": settings, "fits": {}}
        write_json(run.folder / "training.json", described)
        write_json(run.folder / RESULT, self._score(read_predictions(run.folder / "predictions.npz")))


def search(folder: Path, data: Development, **tune) -> tuple[Simulated, TaguchiTuner]:
    trials = Simulated(make_job(folder, make_tune(**tune)), data)
    oracle = make_oracle(trials.job, data)
    tuner = TaguchiTuner(oracle, run=trials, directory=str(trials.job.scratch), project_name=PROJECT)
    tuner.search()
    return trials, tuner


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Development:
    return make_data(tmp_path_factory.mktemp("images"), ["train"] * 100 + ["validation"] * 200)


def test_a_search_across_noise_is_analysed_confirmed_and_shown(data, tmp_path):
    shift = {"scored.preprocess": SHIFTED["scored.preprocess"]}
    trials, tuner = search(tmp_path, data, noise=shift)
    assert len(tuner.taguchi_oracle.trials) == 4 * 2 + 2 * 2
    assert trials.trained == 4 + 2  # the shift is scored alone
    found = tuner.analyze()
    assert found.noise
    assert found.raw
    trainings = found.raw.anova.rows[-1]
    assert (trainings.factor, trainings.df) == ("between trainings", 1)  # four rows, two settings
    assert (found.noise.hurts_most, found.noise.decides_most) == ("scored.preprocess", "batch_size")
    assert found.best_levels["batch_size"] == 2
    runs = confirmation_runs(tuner)
    assert [[run.noise for run in folds] for folds in runs] == [[1], [1]]
    for name in ("models", "records", "results"):
        (tmp_path / name).mkdir()
    members = collect_members(trials, runs, tmp_path / "models", tmp_path / "records")
    write_search(tuner, trials, members, tmp_path / "results")
    tuning = read_json(tmp_path / "results" / ANALYSIS)
    made = tuning["experiment"]
    assert made["noise"]["trainings"] == 1
    assert [len(row["responses"]) for row in made["rows"]] == [2] * 4
    assert [factor["setting"] for factor in made["noise"]["factors"]] == ["scored.preprocess"]
    kept = StoredOracle.from_project(tmp_path / "results", PROJECT)
    section = make_tuning(SimpleNamespace(tuning=tuning, search=kept))  # pyright: ignore[reportArgumentType]
    assert section is not None
    text = section.body
    assert "The noise that hurts most is scored.preprocess" in text
    assert "one training gives the 2 runs of a row" in text
    assert "The noise matters least at batch_size = 8." in text
    assert "Best by the ratio and best on average" in text
    assert "model_2, []<" in text  # a confirmation run under the first noise
    assert "gamma gamma 3.0" in text  # levels in words, as in the figures
    assert "&#34;op&#34;" not in text
    assert "looks at the mean over the noise runs alone" in text  # omega, by default
    assert "tested against the error between trainings (1 degrees of freedom)" in text


def test_a_seed_that_is_noise_is_the_same_in_all_rows(data, tmp_path):
    trials = Simulated(make_job(tmp_path, make_tune(noise={"seed": [3, 4]})), data)
    run = TrialRun("0000", {}, {"batch_size": 1, "epochs": 1}, 1, 1, 1, 5, tmp_path, 1)
    seeds = {
        (row, noise): trials._seed_of(replace(run, row=row, noise=noise))
        for row in (1, 2)
        for noise in (1, 2)
    }
    assert seeds[1, 1] == seeds[2, 1] != seeds[1, 2] == seeds[2, 2]
    # What confirms is new: with a row's own seed it would be that row's training once more, and agree with it by itself.
    confirming = [replace(run, row="confirmation", repeat=repeat) for repeat in (1, 2)]
    assert not set(seeds.values()) & {trials._seed_of(each) for each in confirming}
    plain = Simulated(make_job(tmp_path, make_tune()), data)
    assert plain._seed_of(replace(run, noise=0)) == run.seed


def test_parts_are_dealt_anew_patients_whole_and_others_left(tmp_path):
    parts = ["train"] * 40 + ["validation"] * 20 + ["selection"] * 12
    split = make_data(tmp_path, parts).split
    assert deal_again(split, split.seed) is split
    other = deal_again(split, 5)
    assert sorted(other.ids("selection")) == sorted(split.ids("selection"))
    assert sorted(other.ids("validation")) != sorted(split.ids("validation"))
    assert abs(len(other.ids("validation")) - 20) <= 2
    assert (other.table.groupby("group")["part"].nunique() == 1).all()
    assert deal_again(split, 5).table.equals(other.table)
    given = Split("folds", split.table.assign(part=split.table["id"].str[-1]), 0, fixed=tuple("0123456789"))
    with pytest.raises(SettingsError, match=r"leave the noise split\.seed out"):
        deal_again(given, 5)
    examples = split.table[["id", "label", "subject"]].assign(fold="")
    folds = deal_again(fold_split(examples, folds=3, seed=0), 1)
    assert folds.folds == ("fold_0", "fold_1", "fold_2")


def test_a_trial_under_another_deal_holds_out_other_patients(tmp_path):
    training = Counted(make_job(tmp_path, make_tune(noise={"split.seed": [0, 1]})), make_data(tmp_path))
    first, other = (training.divide(noise)[0] for noise in training.noise.runs)
    assert set(first.held_out) == set(training.divisions[0].held_out)
    assert set(first.held_out) != set(other.held_out)
    assert not set(other.fitted) & set(other.held_out)


def test_a_chain_that_was_fitted_is_fitted_anew_on_the_training_images_of_another_deal(tmp_path):
    """Otherwise the numbers of the common chain come from images that the other deal scores."""
    stated = [{"op": "reinhard"}, {"op": "resize", "height": 32, "width": 32}]
    data = make_data(tmp_path)

    def fitted(under: Development) -> list[dict]:
        return fit_chain(stated, lambda: training_images(under.examples)).to_json()

    data = replace(data, preprocess=fitted(data), stated=stated)
    write_development(replace(data, examples=data.examples.assign(fold="")), tmp_path)
    data = replace(data, stated=read_development(tmp_path).stated)
    training = Counted(make_job(tmp_path, make_tune(noise={"split.seed": [0, 1]})), data)
    first, other = training.noise.runs
    assert training.noise.data_under(first) is data  # under which the network is used
    dealt = training.noise.data_under(other)
    assert dealt.preprocess == fitted(dealt) != data.preprocess
    pixels = training.noise.pixels_of(BASE, other)
    image = cv2.cvtColor(cv2.imread(data.examples["path"].iloc[0]), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(pixels.pixels[0], Chain.from_json(dealt.preprocess)(image).numpy())
    assert training.noise.pixels_of(BASE, first) is training.pixels
    given = Counted(training.job, replace(data, stated=None))  # numbers that the settings state are no fit
    assert given.noise.data_under(other).preprocess == data.preprocess
    run = TrialRun("0000", {}, dict.fromkeys(training.job.levels, 1), 1, 1, 1, 5, tmp_path, 2)
    assert given._kept_folder(run, RESULT) != training._kept_folder(run, RESULT)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"train.batch_size": [4, 16]}, "tune.factors and tune.noise both name train.batch_size"),
        ({"train.stages.0": [{}, {}]}, "and train.stages.0 both set"),
        ({"seed": [1, -2]}, "tune.noise.seed must be whole numbers from 0"),
        ({"scored.preprocess": [[{"op": "gamma", "gamma": 2}], []]}, "the first of them [] (nothing)"),
        ({"scored.column.site": [True, False]}, "must be values of that column"),
        ({"model.heads": [1, 2]}, "must be the key of a setting that a trial reads"),
        (
            {"data.path": ["a", "b"]},
            "may show patients of the other's test part. List the images of both in one table",
        ),
        ({"seed": [1]}, "noise factor seed must have at least two different levels"),
    ],
)
def test_noise_that_cannot_be_used(noise, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        plan_oracle(BASE, make_tune(noise=noise))


def test_columns_and_values_must_be_there(tmp_path):
    data = make_data(tmp_path)
    job = make_job(tmp_path, make_tune(noise=SHIFTED))
    assert count_scored(job, data) == 4
    with pytest.raises(
        SettingsError,
        match=r"scored\.column\.scanner must name a column that the Tuner is given, but it has site",
    ):
        make_oracle(make_job(tmp_path, make_tune(noise={"scored.column.scanner": ["a", "b"]})), data)
    with pytest.raises(SettingsError, match="but none has east: those of validation have north, south"):
        make_oracle(make_job(tmp_path, make_tune(noise={"scored.column.site": ["north", "east"]})), data)


def test_the_pipeline_hands_the_columns_to_the_tuner_and_the_final_score(tmp_path):
    def steps(*overrides: str) -> dict:
        settings = load_settings("taguchi_resnet101_vote_small", overrides)
        return {step.title: step for step in load_pipeline(settings, Places(tmp_path, tmp_path)).steps}

    plain = steps("evaluate.subgroups=[fold]")
    assert list(plain["Tuner"].inputs) == [
        "development"
    ]  # what is named for the report alone trains nothing again
    made = steps("evaluate.subgroups=[fold]", "tune.noise={scored.column.site: [a, b], seed: [0, 1]}")
    assert made["Tuner"].inputs["attributes"].type == "Attributes"
    assert made["ExampleGen"].arguments["subgroups"] == ["fold", "site"]
    assert made["Evaluator"].inputs["attributes"].type == "Attributes"


def test_every_fold_must_hold_what_is_scored(tmp_path):
    """At the door, not in the trial of that fold."""
    data = make_data(tmp_path, ["fold_0"] * 8 + ["fold_1"] * 8, kind="folds")
    tune = make_tune(noise={"scored.column.site": ["north", "south"]})
    assert count_scored(make_job(tmp_path, tune), data) == 8
    first = data.examples["part"] == "fold_0"
    write_attributes(
        data.examples[["id"]].assign(site=np.where(first, ["north", "south"] * 8, "south")), tmp_path
    )
    with pytest.raises(SettingsError, match="in every fold, but none has north: those of fold_1 have south"):
        make_oracle(make_job(tmp_path, tune), data)


def test_an_outer_array_that_runs_one_noise_twice_is_refused():
    """The first level of the seed fills L9's third: one training would stand in for two."""
    noise = {"seed": [1, 2], "train.batch_size": [2, 4, 8]}
    tune = make_tune(factors={"train.stages.0.epochs": [1, 2]}, noise=noise, noise_array="L9")
    with pytest.raises(
        SettingsError, match=r"the noise runs must all differ, but 1 and . of tune\.noise_array L9"
    ):
        list_noise(BASE, tune)


def test_the_network_is_used_under_the_first_level_of_every_noise():
    def settings(**noise):
        return load_settings("taguchi_resnet101_vote_small", [f"tune.noise={noise}"])

    require_tune(settings(**{"split.seed": [0, 1]}))
    other = settings(**{"split.seed": [1, 0]})
    with pytest.raises(SettingsError, match=r"tune\.noise\.split\.seed must be that under which"):
        require_tune(other)
    resize = {"op": "resize", "height": 32, "width": 32}
    other = settings(preprocess=[[resize], [resize | {"width": 48}]])
    with pytest.raises(SettingsError, match=r"tune\.noise\.preprocess must be that under which"):
        require_tune(other)


def test_what_needs_no_training_varies_slowest():
    """So that all trainings of a row are there before another scores them."""
    runs = list_noise(BASE, make_tune(noise={"seed": [1, 2]} | SHIFTED))
    assert [run.seed for run in runs] == [1, 2] * 4
    assert runs[0].shift == runs[3].shift == []
    assert list_noise(BASE, make_tune()) == [NoiseRun()]
