"""The last block trained from activations at the cut: the losses and probabilities of the whole network."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kerasall.components.classifier_training import ClassifierTraining
from kerasall.data.development import Development, Facts
from kerasall.data.pixel_cache import PixelCache
from kerasall.data.splits import Split
from kerasall.settings import ModelSettings, TrainSettings

COUNT = 30


def train(folder, stored: bool):
    rng = np.random.default_rng(0)
    ids = [f"{number:02d}" for number in range(COUNT)]
    table = pd.DataFrame(
        {"id": ids, "label": ["a", "b"] * (COUNT // 2), "subject": ids, "group": ids, "path": ids}
    )
    table["part"] = ["validation" if number % 5 == 0 else "train" for number in range(COUNT)]
    split = Split("holdout", table[["id", "label", "subject", "group", "part"]], 0)
    data = Development(table, split, Facts(("a", "b"), ("a",), "subject", "drawn", (), "0"), [])
    pixels = PixelCache(rng.integers(0, 256, (COUNT, 32, 32, 3), np.uint8), "key", None, 0)
    stage = {"name": "tune", "trainable": "block5", "epochs": 3, "keep": "last"}
    train = TrainSettings.model_validate(
        {"batch_size": 8, "stages": [stage], "cache_activations": stored, "precision": "float32"}
    )
    model = ModelSettings(backbone="vgg16", weights="random")
    training = ClassifierTraining(data, pixels, model, train, None, 3, False, None, folder / "cache")
    trained, (history,) = training.fit(
        "one", data.rows_of("train"), data.rows_of("validation"), folder / "state"
    )
    return history, training.predict(trained, np.arange(COUNT)), list((folder / "cache").rglob("*.npy"))


def test_stored_activations_train_the_last_block_as_the_whole_network_does(tmp_path):
    stored, found, files = train(tmp_path / "stored", True)
    whole, wanted, none = train(tmp_path / "whole", False)
    assert (len(files), none) == (1, [])
    for one, other in zip(stored.epochs, whole.epochs, strict=True):
        for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert stored.epochs[0].loss != stored.epochs[-1].loss
