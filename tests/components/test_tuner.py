"""The Tuner: what a trial sees and leaves, what becomes of the confirmation runs, what the report shows."""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from page_tables import read_tables

from kerasall.components.trial_search import make_oracle
from kerasall.components.trial_training import PROJECT, RESULT, SearchJob, TrialTraining, settings_at
from kerasall.components.tuner import (
    TRIALS,
    collect_members,
    confirmation_runs,
    settings_of_rows,
    write_search,
)
from kerasall.data.development import Development, Facts
from kerasall.data.pixel_cache import PixelCache
from kerasall.data.splits import Split
from kerasall.data.training_record import ANALYSIS
from kerasall.evaluation.metrics import find_metric
from kerasall.evaluation.predictions import Predictions, read_predictions, write_predictions
from kerasall.files import read_json, write_json
from kerasall.models.saving import load_model
from kerasall.report.page import Page, write_page
from kerasall.report.pages.run import make_tuning
from kerasall.report.taguchi import RAW_CAPTION
from kerasall.settings import TrialSettings, TuneSettings
from kerasall.settings.factors import factor_levels
from kerasall.settings.loading import load_settings
from kerasall.taguchi.stored_oracle import StoredOracle
from kerasall.taguchi.tuner import TaguchiTuner, TrialRun

CLASSES = ("all", "hem")
SIDE = 32
BASE = TrialSettings.model_validate(
    {
        "model": {"backbone": "mobilenet", "alpha": 0.25, "weights": "random"},
        "train": {"batch_size": 8, "stages": [{"name": "head", "epochs": 1, "keep": "last"}]},
    }
)
FACTORS = {
    "train.stages.0.optimizer.name": ("adam", "sgdm", "adam"),
    "train.batch_size": (4, 8, 16),
    "train.stages.0.epochs": (1, 2, 3),
    "train.stages.0.optimizer.learning_rate": (0.001, 0.003, 0.01),
}


@pytest.fixture(autouse=True, scope="module")
def short_collections():
    """Spares the garbage collector, which runs several times a trial, what pytest and TensorFlow hold."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def make_data(parts: list[str], kind: str = "holdout") -> Development:
    ids = [f"i{number:03d}" for number in range(len(parts))]
    labels = np.resize(CLASSES, len(parts))
    table = pd.DataFrame(
        {"id": ids, "label": labels, "subject": ids, "group": ids, "part": parts, "path": ids, "sha256": ids}
    )
    split = Split(kind, table[["id", "label", "subject", "group", "part"]], 0)
    return Development(table, split, Facts(CLASSES, ("all",), "subject", "test", (), ""), [])


def make_tune(**options) -> TuneSettings:
    return TuneSettings.model_validate({"factors": FACTORS, "repeats": 2, "confirmations": 3} | options)


def make_training(
    folder: Path, data: Development, tune: TuneSettings, base: TrialSettings = BASE
) -> TrialTraining:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 120, (len(data.examples), SIDE, SIDE, 3), np.uint8)
    pixels[data.labels == 1] += 120
    job = SearchJob(folder, folder, base, tune, 0.2, 0, True, None, folder / "cache")
    training = TrialTraining(job, data)
    training.pixels = PixelCache(pixels, "0" * 64, None, 0)
    return training


def make_run(folder: Path, row: int | str = 1, fold: int = 1, levels=(1, 1, 2, 3)) -> TrialRun:
    names = ("optimizer", "batch_size", "epochs", "learning_rate")
    return TrialRun("0003", {}, dict(zip(names, levels, strict=True)), row, 1, fold, 5, folder / "trial_0003")


HOLDOUT = ["train"] * 16 + ["validation"] * 8 + ["selection"] * 6


def test_a_trial_trains_with_its_levels_and_is_scored_on_what_it_did_not_fit(tmp_path, monkeypatch, capsys):
    data, tune = make_data(HOLDOUT), make_tune(response_on="selection", response="log_loss")
    training, run = make_training(tmp_path, data, tune), make_run(tmp_path, "confirmation")
    found = training(run)
    done = read_json(run.folder / "training.json")
    assert done["settings"]["train"]["stages"][0]["optimizer"]["learning_rate"] == 0.01
    assert done["settings"]["train"]["batch_size"] == 4
    assert done["classes"]["images"] == {"all": 8, "hem": 8}
    assert [row["epoch"] for row in done["fits"]["holdout"][0]["epochs"]] == [1, 2]
    assert len(read_json(run.folder / "epochs.json")) == 2
    own = {name: read_predictions(run.folder / name) for name in ("predictions.npz", "selection.npz")}
    assert list(own["predictions.npz"].ids) == data.split.ids("validation")
    assert list(own["selection.npz"].ids) == data.split.ids("selection")
    assert found["log_loss"] == pytest.approx(find_metric("log_loss", CLASSES)(own["selection.npz"]))
    assert next(iter(found)) == "log_loss"
    model = load_model(run.folder / "model.keras")
    again = model(training.pixels.pixels[data.rows_of("selection")].astype("float32"))
    np.testing.assert_allclose(np.asarray(again), own["selection.npz"].probabilities, atol=1e-5)
    assert not (run.folder / "fit").exists()
    # A trial that was finished is not trained again, whatever killed the search before it could say so; of one whose
    # result was changed since, the one that was kept is taken.
    capsys.readouterr()
    monkeypatch.setattr(training, "_train", lambda _: pytest.fail("it was trained again"))
    assert training(run) == found
    assert capsys.readouterr().err == ""
    write_json(run.folder / RESULT, {"log_loss": 0.25})
    assert training(run) == found
    assert "as it was changed" in capsys.readouterr().err


def test_trials_from_the_same_weights_share_what_the_frozen_part_gives(tmp_path):
    """One file of activations for all rows; every response is that of a trial on its own."""
    from kerasall.models.base import build_backbone

    weights = tmp_path / "small.weights.h5"
    build_backbone("mobilenet", (SIDE, SIDE), "random", 0.25).save_weights(weights)
    data, tune = make_data(HOLDOUT), make_tune()
    base = BASE.model_copy(update={"model": BASE.model.model_copy(update={"weights": str(weights)})})
    rows = [(1, 1, 1, 1), (2, 3, 2, 3)]

    def train(folder: Path, cache: Path, row: int) -> dict[str, float]:
        training = make_training(cache, data, tune, base)
        return training(make_run(folder, row + 1, levels=rows[row]))

    shared = [train(tmp_path / f"shared {row}", tmp_path, row) for row in range(2)]
    (file,) = (tmp_path / "cache").rglob("*.npy")
    written = file.stat().st_mtime_ns
    alone = [train(tmp_path / f"alone {row}", tmp_path / f"alone {row}", row) for row in range(2)]
    assert shared == alone
    assert file.stat().st_mtime_ns == written
    training = make_training(tmp_path, data, tune, base)
    run = make_run(tmp_path / "confirmed", "confirmation", levels=rows[1])
    training(run)
    own = read_predictions(run.folder / "predictions.npz").probabilities
    pixels = training.pixels.pixels[data.rows_of("validation")]
    whole = load_model(run.folder / "model.keras")(pixels.astype("float32"))
    np.testing.assert_allclose(own, np.asarray(whole), atol=1e-5)


def test_rows_of_folds_and_parts():
    data = make_data([f"fold_{n % 3}" for n in range(30)], "folds")
    training = make_training(Path("nowhere"), data, make_tune())
    assert [rows.name for rows in training.divisions] == list(data.split.folds)
    for rows in training.divisions:
        assert set(rows.held_out) == set(data.rows_of(rows.name))
        assert not set(rows.fitted) & set(rows.held_out)
        assert rows.watched is not None
        assert not set(rows.watched) & set(rows.fitted)
        assert not set(rows.watched) & set(rows.held_out)
    for tune in (make_tune(), make_tune(response_on="selection")):
        (plain,) = make_training(Path("nowhere"), make_data(HOLDOUT), tune).divisions
        assert set(plain.held_out) == set(plain.watched) == set(range(16, 24))
        assert set(plain.fitted) == set(range(16))


def test_dummy_columns_repeat_the_first_levels():
    tune = make_tune(factors={"train.batch_size": [4, 8], "train.stages.0.epochs": [1, 2, 3]})
    levels = factor_levels(BASE, tune.factors)
    found = [settings_at(BASE, levels, [level, 1]).train.batch_size for level in (1, 2, 3)]
    assert found == [4, 8, 4]


# --- a whole search whose trials answer at once ---------------------------------------------------

EFFECTS = {"optimizer": {"adam": 0.06, "sgdm": 0.0}, "batch_size": {4: 0.0, 8: 0.01, 16: 0.0},
           "epochs": {1: 0.0, 2: 0.01, 3: 0.02}, "learning_rate": {0.001: 0.05, 0.003: 0.02, 0.01: 0.0}}  # fmt: skip
"""What the levels add to the response."""


class SimulatedTrials(TrialTraining):
    """Leaves in a trial's folder what training would, with a response made of ``EFFECTS`` and a little noise."""

    def __call__(self, run: TrialRun) -> dict[str, float]:
        noise = np.random.default_rng(run.seed).normal(0, 0.002)
        accuracy = 0.8 + noise + sum(EFFECTS[name][value] for name, value in run.settings.items())
        part = self.data.split.folds[run.fold - 1] if self.data.split.folds else "validation"
        rows = self.data.examples.iloc[self.data.rows_of(part)]
        labels = self.data.labels[self.data.rows_of(part)]
        sure = np.where(labels[:, None] == [0, 1], 0.9, 0.1)
        predictions = Predictions(rows["id"], rows["subject"], rows["group"], labels, sure, CLASSES)
        write_predictions(predictions, run.folder / "predictions.npz")
        (run.folder / "model.keras").write_bytes(b"a model " * 100)
        described = {
            "parameters": 10,
            "seconds": 1.5,
            "classes": {},
            "settings": BASE.model_dump(mode="json"),
        }
        write_json(run.folder / "training.json", described | {"fits": {part: [{"best_epoch": run.fold}]}})
        return {"accuracy": accuracy, "log_loss": 1 - accuracy}


class Search:
    """A finished search and what it was made of."""

    def __init__(self, folder: Path, data: Development, **tune) -> None:
        self.data, self.folder = data, folder
        self.job = SearchJob(
            folder / "dev", folder / "scratch", BASE, make_tune(**tune), 0.2, 0, True, None, folder
        )
        trials = SimulatedTrials(self.job, data)
        self.tuner = TaguchiTuner(
            make_oracle(self.job, data), run=trials, directory=str(self.job.scratch), project_name=PROJECT
        )
        self.tuner.search()
        self.runs = confirmation_runs(self.tuner)
        for name in ("models", "records", "results"):
            (folder / name).mkdir()
        self.members = collect_members(trials, self.runs, folder / "models", folder / "records")
        write_search(self.tuner, trials, self.members, folder / "results")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Search:
    return Search(tmp_path_factory.mktemp("search"), make_data(HOLDOUT))


def test_confirmation_runs_become_members_with_models_and_records(finished):
    assert [member.name for member in finished.members] == ["model_1", "model_2", "model_3"]
    stated = read_json(finished.folder / "models" / "members.json")
    assert [member["name"] for member in stated] == ["model_1", "model_2", "model_3"]
    for member in finished.members:
        assert (finished.folder / "models" / member.name / "model.keras").stat().st_size == 800
        record = finished.folder / "records" / member.name
        assert set(read_predictions(record / "predictions.npz").ids) == set(
            finished.data.split.ids("validation")
        )
        assert read_json(record / "training.json")["fits"] == {"validation": [{"best_epoch": 1}]}


def test_every_response_is_kept_and_the_project_goes_along_without_models(finished):
    table = pd.read_csv(finished.folder / "results" / TRIALS, dtype={"trial": str})
    assert len(table) == 9 * 2 + 3
    assert {"optimizer", "optimizer level", "batch_size", "epochs", "learning_rate", "objective", "log_loss",
            "seconds"} <= set(table.columns)  # fmt: skip
    kept = StoredOracle.from_project(finished.folder / "results", PROJECT)
    assert list(kept.results()["objective"]) == list(finished.tuner.results()["objective"])
    assert not list((finished.folder / "results").rglob("*.keras"))
    assert kept.analyze().best_levels == finished.tuner.analyze().best_levels


def test_the_analysis_names_the_best_levels_and_what_confirms_them(finished):
    found = read_json(finished.folder / "results" / ANALYSIS)
    assert found["best_levels"] == {"optimizer": 1, "batch_size": 2, "epochs": 3, "learning_rate": 1}
    made = found["experiment"]
    assert made["best"] == {"optimizer": "adam", "batch_size": "8", "epochs": "3", "learning_rate": "0.001"}
    assert made["array"] == "L9(3^4)"
    assert {f["name"]: f["setting"] for f in made["factors"]}["optimizer"] == "train.stages.0.optimizer.name"
    assert len(made["confirmation"]["responses"]) == 3
    assert [row["levels"]["optimizer"] for row in made["rows"]] == ["adam"] * 3 + ["sgdm"] * 3 + ["adam"] * 3
    table = finished.tuner.results()
    for row in made["rows"]:
        own = table[table["row"] == row["row"]]["objective"]
        assert row["responses"] == pytest.approx(list(own))
    assert made["interactions"][0]["factors"] == ["optimizer", "batch_size"]
    assert {path.name for path in (finished.folder / "results").iterdir()} == {ANALYSIS, TRIALS, PROJECT}


def test_a_response_between_0_and_1_is_taken_by_its_odds_over_the_images_scored(finished):
    found = finished.tuner.analyze()
    assert (str(found.signal), found.signal.images, found.signal.bounds) == ("omega", 8, (0.0, 1.0))
    assert read_json(finished.folder / "results" / ANALYSIS)["experiment"]["signal"] == "omega"


class CountedTrials(TrialTraining):
    """Trains nothing, but leaves what training would; counts its trials."""

    trained = 0

    def _train(self, run: TrialRun) -> None:
        self.trained += 1
        SimulatedTrials(self.job, self.data)(run)
        noise = np.random.default_rng(run.seed).normal(0, 0.01)
        write_json(run.folder / RESULT, {"accuracy": 0.8 + noise + EFFECTS["epochs"][run.settings["epochs"]]})


def test_another_analysis_trains_no_trial_again(tmp_path):
    """Trials are keyed by the design; only what is new, such as more confirmations, is trained."""
    data = make_data(HOLDOUT)

    def count(name: str, seed: int = 0, **options) -> tuple[int, pd.DataFrame]:
        job = SearchJob(
            tmp_path, tmp_path / name, BASE, make_tune(**options), 0.2, seed, True, None, tmp_path / "cache"
        )
        trials = CountedTrials(job, data)
        tuner = TaguchiTuner(
            make_oracle(job, data), run=trials, directory=str(job.scratch), project_name=PROJECT
        )
        tuner.search()
        assert len(confirmation_runs(tuner)) == options.get("confirmations", 3)
        return trials.trained, tuner.results().drop(columns="seconds")

    once, first = count("first")
    assert once == 9 * 2 + 3
    again, second = count("second", levels_as="dummy")
    assert again == 0
    pd.testing.assert_frame_equal(first, second)
    assert count("third", confirmations=5)[0] == 2
    for changed in ({"signal": "larger"}, {"levels_as": "separate"}, {"pool": ("train.batch_size",)}):
        assert count(str(changed), **changed)[0] in (0, 3)  # confirmations, where the optimum is another
    assert count("without", without={"train.stages.0.epochs": [3]})[0] == 3
    assert count("seed", seed=1)[0] == once
    assert count("repeats", repeats=3)[0] in (9, 12)


def make_section(folder: Path, **said):
    """The report's section of a recorded experiment."""
    tuning = read_json(folder / ANALYSIS)
    tuning["experiment"] |= said
    search = StoredOracle.from_project(folder, PROJECT)
    section = make_tuning(SimpleNamespace(tuning=tuning, search=search))  # pyright: ignore[reportArgumentType]
    assert section is not None
    return section


def test_the_report_shows_the_experiment(finished, tmp_path):
    section = make_section(finished.folder / "results")
    tables = read_tables(section.body)
    assert list(tables) == [
        "Factors", "Accuracy of every run", "Response table", "Analysis of variance of the ratios",
        RAW_CAPTION, "Accuracy of the confirmation runs",
    ]  # fmt: skip
    found = read_json(finished.folder / "results" / ANALYSIS)
    response = tables["Response table"]
    assert [cell.text for cell in response[0]] == [
        "Level", "optimizer", "batch_size", "epochs", "learning_rate",
    ]  # fmt: skip
    assert response[1][1].text == f"{found['response_table']['optimizer'][0]:.4f}"
    assert (response[1][1].tone, response[2][1].tone) == ("good", "")
    anova = tables["Analysis of variance of the ratios"][1:]
    assert [row[0].text for row in anova] == [
        "optimizer", "batch_size", "epochs", "learning_rate", "Error", "Total",
    ]  # fmt: skip
    assert [row[2].text for row in anova] == ["1", "2", "2", "2", "1", "8"]
    for said in ("Predicted", "Confirmed", "from 3 runs", "aliased with", "the validation part"):
        assert said in section.body
    assert "Settings chosen on the scored images" not in section.body
    write_page(tmp_path / "page", Page("t", [section]))
    assert (tmp_path / "page" / "figures" / "tuning_main_effects.svg").stat().st_size > 1000


def test_a_response_of_the_scored_part_is_labelled(finished):
    section = make_section(finished.folder / "results", scored_on="selection")
    assert "Settings chosen on the scored images" in section.body
    assert make_tuning(SimpleNamespace(tuning=None)) is None  # pyright: ignore[reportArgumentType]


def test_a_record_of_folds_is_out_of_fold_and_a_response_their_mean(tmp_path):
    data = make_data([f"fold_{n % 2}" for n in range(30)], "folds")
    small = {"train.batch_size": [4, 8], "train.stages.0.epochs": [1, 2]}
    job = SearchJob(
        tmp_path,
        tmp_path,
        BASE,
        make_tune(factors=small, repeats=1, confirmations=2),
        0.2,
        0,
        True,
        None,
        tmp_path,
    )
    tuner = TaguchiTuner(
        make_oracle(job, data), run=SimulatedTrials(job, data), directory=str(tmp_path), project_name=PROJECT
    )
    tuner.search()
    runs = confirmation_runs(tuner)
    assert [[run.fold for run in folds] for folds in runs] == [[1, 2]] * 2
    table = tuner.results()
    assert len(table) == 4 * 2 + 2 * 2
    means = table[table["row"] == 2].groupby("repeat")["objective"].mean()
    assert tuner.analyze(signal="mean").signal_to_noise[1] == pytest.approx(means.iloc[0])


def test_the_faithful_copy_of_chen_et_al_has_matlabs_epsilon_wherever_it_takes_adam():
    settings = load_settings("taguchi_resnet101_vote_faithful")
    rows = settings_of_rows(settings)
    found = {row.train.stages[0].optimizer.name: row.train.stages[0].optimizer.own_constants for row in rows}
    assert found == {"adam": {"epsilon": 1e-8}, "sgdm": {}}
