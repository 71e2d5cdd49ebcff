"""One classifier's training: precision, batches in parts and stored activations, through the whole of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from kerasall.components.classifier_training import ClassifierTraining, stage_settings
from kerasall.components.sweep import pool_once
from kerasall.data.development import Development, Facts
from kerasall.data.pixel_cache import PixelCache
from kerasall.data.splits import Split
from kerasall.errors import SettingsError
from kerasall.models.classifier import find_parts, freeze
from kerasall.settings import ModelSettings, TrainSettings
from kerasall.training.devices import PRECISIONS
from kerasall.training.history import History

SIDE = 32
STAGES = [
    {"name": "head", "trainable": "head", "epochs": 1},
    {"name": "last", "trainable": "block_13", "epochs": 2},
]


def make_data(count: int) -> Development:
    ids = [f"i{number}" for number in range(count)]
    examples = pd.DataFrame(
        {"id": ids, "path": ids, "label": np.resize(["all", "hem"], count), "subject": ids, "group": ids}
    )
    part = ["train"] * count
    table = pd.DataFrame({"id": ids, "group": ids, "label": examples["label"], "part": part})
    split = Split("holdout", "subject", 0, "", table, (), {})
    return Development(examples, split, Facts(("all", "hem"), ("all",), "subject", "test", (), ""), [])


def make_training(folder: Path, **train) -> ClassifierTraining:
    pixels = np.random.default_rng(0).integers(0, 256, (22, SIDE, SIDE, 3), np.uint8)
    return ClassifierTraining(
        make_data(len(pixels)),
        PixelCache(pixels, "key", None, 0),
        ModelSettings(backbone="mobilenet", alpha=0.25, weights="random"),
        TrainSettings.model_validate({"batch_size": 8, "stages": STAGES, **train}),
        None, 7, False, None, folder / "cache",
    )  # fmt: skip


def fit(folder: Path, **train) -> tuple[ClassifierTraining, keras.Model, list]:
    training = make_training(folder, **train)
    model, histories = training.fit("holdout", np.arange(16), np.arange(16, 22), folder / "state")
    return training, model, [row.loss for history in histories for row in history.epochs]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("plain"))


def test_batches_in_parts_and_several_steps_a_call_change_nothing(plain, tmp_path):
    _, model, losses = fit(tmp_path, accumulate=2, steps_per_execution=2)
    np.testing.assert_allclose(losses, plain[2], rtol=1e-4)
    for a, b in zip(model.get_weights(), plain[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_bfloat16_trains_alike_is_keyed_and_predicts_in_float32(plain, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("kerasall.training.devices.has_amx", lambda: False)
    training, model, losses = fit(tmp_path, precision="bfloat16")
    assert "slower than float32 on this CPU" in capfd.readouterr().err
    np.testing.assert_allclose(losses, plain[2], rtol=0.05)
    own, of_float32 = (
        {path.name for path in (each.cache_folder / "activations").iterdir()} for each in (training, plain[0])
    )
    assert len(own) == len(of_float32) > 0
    assert not own & of_float32, "activations of two precisions were taken for the same"
    pixels = training.pixels.pixels.astype(np.float32)
    expected = np.asarray(model(pixels, training=False))
    np.testing.assert_allclose(training.predict(model, np.arange(22)), expected, atol=1e-6)


@pytest.mark.parametrize("stages", [STAGES[:1], STAGES])
def test_later_fits_end_as_if_each_were_the_first(tmp_path, stages):
    """Where the backbone stays frozen the fits share it; where it trains, each begins with its file's weights."""
    find_parts(make_training(tmp_path).build("file")).backbone.save_weights(tmp_path / "file.weights.h5")
    pretrained = ModelSettings(backbone="mobilenet", alpha=0.25, weights=str(tmp_path / "file.weights.h5"))

    def fit_some(folder: str, names: str) -> list[np.ndarray]:
        training = replace(make_training(tmp_path / folder, stages=stages), model=pretrained)
        found = [training.fit(name, np.arange(16), None, tmp_path / folder / name)[0] for name in names]
        assert (find_parts(found[0]).backbone is find_parts(found[-1]).backbone) == (
            len(found) == 1 or stages == STAGES[:1]
        )
        return found[-1].get_weights()

    for a, b in zip(fit_some("both", "ab"), fit_some("alone", "b"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_model_built_under_a_mixed_policy_comes_back_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "kerasall.components.classifier_training.choose_precision", lambda *_: PRECISIONS["mixed_bfloat16"]
    )
    _, model, losses = fit(tmp_path, precision="auto")
    assert np.isfinite(losses).all()
    assert {layer.dtype_policy.name for layer in find_parts(model).backbone.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_a_sweeps_features_are_keyed_by_precision_and_its_model_is_float32(tmp_path, monkeypatch):
    stages = STAGES[:1]
    found = []
    for name in ("float32", "mixed_bfloat16"):
        monkeypatch.setattr(
            "kerasall.components.classifier_training.choose_precision", lambda *_, n=name: PRECISIONS[n]
        )
        heads = make_training(tmp_path, stages=stages)
        model = heads.build("net")
        freeze(model)
        found.append(pool_once(heads, "net", model))
    assert len(list((tmp_path / "cache" / "activations").iterdir())) == 2
    assert found[0].dtype == found[1].dtype == np.float32
    np.testing.assert_allclose(found[0], found[1], atol=0.05 * np.abs(found[0]).max())


COSINE = {"name": "cosine", "warmup_epochs": 3}


def test_a_final_model_is_on_the_schedule_of_the_folds():
    """Rate 1e-2, 10 steps an epoch, 30 of them to warm up: step 119 is (119 - 30) / 270 of the way down, so that
    the rate is 1e-2 (1 + cos(pi 89 / 270)) / 2 = 7.550e-3; a cosine of 12 epochs would end there, at 3e-6."""
    optimizer = {"name": "adam", "learning_rate": 1e-2}
    stage = {"name": "head", "epochs": 30, "schedule": COSINE, "optimizer": optimizer}
    train = TrainSettings.model_validate({"stages": [stage]})
    fold, final = (stage_settings(train.stages[0], train, epochs) for epochs in (None, 12))
    assert (fold.epochs, final.epochs) == (30, 12)
    for step in (0, 29, 119):
        assert float(final.rate(10)(step)) == float(fold.rate(10)(step))
    assert float(final.rate(10)(119)) == pytest.approx(7.5502e-3, rel=1e-5)


def test_a_median_epoch_within_the_warm_up_ends_well(tmp_path):
    training = make_training(tmp_path, stages=[{"name": "head", "epochs": 5, "schedule": COSINE}])
    examples = training.data.examples
    table = examples.assign(part=np.resize(["fold_1", "fold_2"], len(examples)))
    training = replace(training, data=replace(training.data, split=Split("folds", table, 0)))
    best = [[History("head", "val_loss", (), epoch, True)] for epoch in (1, 2, 5)]
    _, (history,) = training.fit_final(best, tmp_path / "final")
    assert len(history.epochs) == 2
    assert [row.learning_rate for row in history.epochs] == pytest.approx([0, 1e-3 / 3], rel=1e-5)


def test_a_schedule_that_does_not_fit_is_said_before_the_first_stage_trains(tmp_path):
    training = make_training(tmp_path, stages=[STAGES[0], {"name": "last", "epochs": 3, "schedule": COSINE}])
    with pytest.raises(SettingsError, match="warmup_epochs must be below the stage's 3 epochs"):
        training.fit("holdout", np.arange(16), np.arange(16, 22), tmp_path / "state")
    assert not (tmp_path / "state").exists()
