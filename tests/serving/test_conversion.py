"""Models for other runtimes answer like the SavedModel, carry what explains them, and never half exist."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from kerasall.errors import ArtifactError, ModelError, SettingsError
from kerasall.files import read_json, write_json
from kerasall.preprocessing.operations import Chain
from kerasall.serving.card import verify_manifest, write_manifest
from kerasall.serving.conversion import TARGETS, compare_answers, require_same_answers
from kerasall.serving.export import export_saved_model
from kerasall.serving.predictor import Predictor, read_labels

LABELS = ("all", "hem")
STEPS = [{"op": "resize", "height": 24, "width": 24}]
ONNX = pytest.mark.skipif(
    importlib.util.find_spec("tf2onnx") is None,
    reason="the extra onnx is absent: pip install -c constraints.txt -e '.[test,onnx]'",
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A small MobileNet-like network with named outputs, pushed with a card."""
    keras.utils.set_random_seed(3)
    image = keras.Input((24, 24, 3), name="image")
    hidden = keras.layers.Rescaling(1 / 127.5, -1.0)(image)
    for filters in (8, 16):
        hidden = keras.layers.ReLU(6.0)(keras.layers.DepthwiseConv2D(3, padding="same")(hidden))
        hidden = keras.layers.BatchNormalization()(keras.layers.Conv2D(filters, 1, strides=2)(hidden))
    probabilities = keras.layers.Dense(2, "softmax")(keras.layers.GlobalAveragePooling2D()(hidden))
    model = keras.Model(image, {"probabilities": probabilities, "calibrated_probabilities": probabilities**2})
    folder = tmp_path_factory.mktemp("models") / "tiny" / "1"
    export_saved_model(model, Chain.from_json(STEPS), LABELS, folder)
    write_json(folder / "card.json", {"experiment": "tiny", "preprocess": STEPS})
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Twelve labelled pictures in folders by class."""
    folder, noise = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(12):
        path = folder / LABELS[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        low, high = sorted(noise.integers(0, 255, 2))
        cv2.imwrite(str(path), noise.integers(low, high + 1, (30, 26, 3), np.uint8))
    return folder


def export(saved: Path, images: Path, out: Path, *options: str):
    from kerasall.cli.app import app

    command = ["export", str(saved), "--images", str(images), "--out", str(out), *options]
    return CliRunner().invoke(app, command, catch_exceptions=True)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["litert", pytest.param("onnx", marks=ONNX)])
def test_a_converted_model_answers_like_the_savedmodel_by_its_card_alone(saved, images, tmp_path, form):
    out = tmp_path / form
    done = export(saved, images, out, "--to", form, "--labelled", str(images))
    assert done.exit_code == 0, (done.output, done.exception)
    assert "0 of 12 images called otherwise" in done.output
    assert "accuracy:" in done.output
    verify_manifest(out)
    assert read_labels(out) == LABELS
    card = read_json(out / "card.json")
    answer = TARGETS[form].load(out / TARGETS[form].file)
    chain, paths = Chain.from_json(card["preprocess"]), sorted(images.rglob("*.png"))
    pixels = np.stack([chain(cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB)).numpy() for p in paths])
    found = answer(pixels)
    expected = Predictor(saved).predict([path.read_bytes() for path in paths])
    np.testing.assert_allclose(found["probabilities"], expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(
        found["calibrated_probabilities"], expected.extras["calibrated_probabilities"], atol=1e-5
    )
    assert (found["label_index"] == expected.label_indices).all()
    assert card["conversion"]["scores"]["images"] == 12
    assert card["conversion"]["bytes"] == (out / TARGETS[form].file).stat().st_size


@pytest.mark.slow
def test_int8_is_smaller_says_what_it_costs_and_leaves_out_what_was_fitted_to_float(saved, images, tmp_path):
    out = tmp_path / "int8"
    done = export(saved, images, out, "--to", "litert", "--int8", "--labelled", str(images))
    assert done.exit_code == 0, (done.output, done.exception)
    found = read_json(out / "card.json")["conversion"]
    assert found["numbers"] == "int8"
    scores = found["scores"]
    change = scores["right_after_only"] - scores["right_before_only"]
    assert scores["accuracy_after"] - scores["accuracy_before"] == pytest.approx(change / 12)
    pixels = np.zeros((2, 24, 24, 3), np.uint8)
    answer = TARGETS["litert"].load(out / "model.tflite")(pixels)
    assert set(answer) == {"probabilities", "label_index"}
    assert 0 < found["parity"]["largest"]["probabilities"] < 0.2


def test_a_conversion_that_answers_otherwise_is_refused():
    expected = {"probabilities": np.asarray([[0.9, 0.1]]), "label_index": np.asarray([0])}
    for other in ([[0.8, 0.2]], [[np.nan, 0.1]]):
        found = compare_answers(expected, {**expected, "probabilities": np.asarray(other)})
        with pytest.raises(ModelError, match="nothing was written"):
            require_same_answers(found)
    swapped = compare_answers(expected, {**expected, "label_index": np.asarray([1])})
    assert swapped.labels_changed == 1
    with pytest.raises(ModelError, match="1 have another label"):
        require_same_answers(swapped)
    require_same_answers(compare_answers(expected, expected))
    with pytest.raises(ModelError, match="must give probabilities"):
        compare_answers(expected, {"Identity": expected["probabilities"]})


def test_what_cannot_be_converted_is_said_first_and_leaves_nothing(saved, images, tmp_path):
    out = tmp_path / "out"
    assert isinstance(export(saved, images, out, "--to", "coreml").exception, SettingsError)
    assert isinstance(export(saved, images, out, "--to", "onnx", "--int8").exception, SettingsError)
    out.mkdir()
    assert "must not exist yet" in str(export(saved, images, out, "--to", "litert").exception)
    out.rmdir()
    (saved.parents[1] / "bare").mkdir()
    bare = saved.parents[1] / "bare" / "1"
    shutil.copytree(saved, bare)
    (bare / "card.json").unlink()
    write_manifest(bare)
    refused = export(bare, images, out, "--to", "litert").exception
    assert isinstance(refused, ArtifactError)
    assert "card.json" in str(refused)
    assert not list(tmp_path.iterdir())
