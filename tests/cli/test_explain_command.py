"""``kerasall explain`` from a SavedModel or a run to its pictures, and the signature behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from functools import partial
from pathlib import Path

import command_line
import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasall.cli.explain import TITLES
from kerasall.components.exporter import find_explanations
from kerasall.errors import ArtifactError, ModelError, SettingsError
from kerasall.files import write_json
from kerasall.models.ensembles import build_ensemble
from kerasall.models.explanation import METHODS, Explainer
from kerasall.preprocessing.operations import Chain
from kerasall.report.figures_explanation import ExplainedImage, describe_explanation, overlay
from kerasall.serving import explanation as served
from kerasall.serving.export import export_saved_model
from kerasall.studies.finished_run import Run

LABELS = ("all", "hem", "other")
SIZE = 40


def small_network(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(6, 5, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(x), name=f"net{seed}")


def export(model: keras.Model, folder: Path) -> Path:
    chain = Chain.from_json([{"op": "resize", "height": SIZE, "width": SIZE}])
    function, reason = find_explanations(model)
    assert not reason
    return export_saved_model(model, chain, LABELS, folder, explain=function)


@pytest.fixture(scope="module")
def ensemble() -> keras.Model:
    return build_ensemble([small_network(seed) for seed in range(3)], "weighted_average", [1, 2, 5])


@pytest.fixture(scope="module")
def saved(ensemble, tmp_path_factory) -> Path:
    return export(ensemble, tmp_path_factory.mktemp("models") / "vote" / "2")


@pytest.fixture(scope="module")
def saved_single(tmp_path_factory) -> Path:
    return export(small_network(7), tmp_path_factory.mktemp("models") / "single" / "1")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "c.tif", "sub/a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), noise.integers(0, 255, (50, 60, 3), np.uint8))
    return folder


invoke = partial(command_line.invoke, "explain")


def test_pictures_grid_and_numbers_of_an_ensemble(saved, images, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    result = invoke(saved.parent, images, tmp_path / "broken.png", "--out", tmp_path / "maps")
    assert result.exit_code == 1
    assert str(tmp_path / "maps" / "grid.png") in result.stdout
    assert "5 files, 1 failed" in result.stderr
    document = json.loads((tmp_path / "maps" / "explanations.json").read_text())
    rows = document["images"]
    assert [row.get("picture") for row in rows] == [
        "overlays/a.png", "overlays/b.png", "overlays/c.png", "overlays/a_2.png", None,
    ]  # fmt: skip
    assert "broken.png" in rows[4]["error"]
    for row in rows[:4]:
        assert row["label"] == row["explained_class"]
        assert row["probability"] == row["explained_probability"] > 1 / 3
        assert [each["weight"] for each in row["networks"]] == pytest.approx([1 / 8, 2 / 8, 5 / 8])
        assert row["positive_evidence"] == any(each["raw"]["maximum"] > 0 for each in row["networks"])
        picture = cv2.imread(str(tmp_path / "maps" / row["picture"]))
        assert picture.shape[0] > 2 * 6 * SIZE  # three panels above three members, six times as large
    assert cv2.imread(str(tmp_path / "maps" / "grid.png")) is not None


def test_every_image_has_a_picture_of_its_own_whatever_it_is_called(saved_single, images, tmp_path):
    long = "x" * 244
    names = [f"{long}one.png", f"{long}two.png", "a.png", "sub/a.png", "a_2.png", "A.png"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes((images / "a.png").read_bytes())
    with open(os.fsencode(tmp_path / "in") + b"/caf\xe9.png", "wb") as file:
        file.write((images / "a.png").read_bytes())
    (tmp_path / "in" / "loop.png").symlink_to("loop.png")
    result = invoke(saved_single, tmp_path / "in", "--out", tmp_path / "maps")
    assert f"{len(names) + 2} files, 1 failed" in result.stderr
    rows = json.loads((tmp_path / "maps" / "explanations.json").read_text())["images"]
    pictures = [row["picture"] for row in rows if not row["error"]]
    assert len({unicodedata.normalize("NFC", each).casefold() for each in pictures}) == len(names) + 1
    assert all((tmp_path / "maps" / each).is_file() for each in pictures)
    assert {"overlays/A.png", "overlays/a_2.png"} <= set(pictures)


def test_the_picture_shows_the_models_own_pixels_and_the_map(saved_single, images, tmp_path):
    invoke(saved_single, images / "a.png", "--out", tmp_path)
    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "overlays" / "a.png")), cv2.COLOR_BGR2RGB)
    pixels, heatmap = one_map(saved_single, images / "a.png", None)
    for content in (pixels, overlay(pixels, heatmap)):
        panel = content.repeat(6, axis=0).repeat(6, axis=1)
        _, _, (left, top), _ = cv2.minMaxLoc(cv2.matchTemplate(picture, panel, cv2.TM_SQDIFF))
        np.testing.assert_array_equal(
            picture[top : top + panel.shape[0], left : left + panel.shape[1]], panel
        )


def one_map(saved: Path, path: Path, class_index: int | None) -> tuple[np.ndarray, np.ndarray]:
    found = served.explain_image(served.Predictor(saved), path.read_bytes(), "a", class_index)
    return found.pixels, found.heatmap


@pytest.mark.parametrize("method", METHODS)
def test_the_saved_model_and_the_trained_one_have_the_same_maps(ensemble, saved, images, method):
    predictor, explainer = served.Predictor(saved), Explainer(ensemble)
    for path in sorted(images.glob("*.*")):
        for index in range(3):
            found = served.explain_image(predictor, path.read_bytes(), path.name, index, method)
            expected = explainer.explain(found.pixels[None], index, method)
            np.testing.assert_allclose(found.heatmap, expected.heatmaps[0], atol=1e-4)
            np.testing.assert_allclose(found.member_heatmaps, expected.member_heatmaps[0], atol=1e-4)
            np.testing.assert_allclose(found.raw, expected.raw[0], atol=1e-4)
            np.testing.assert_allclose(found.weights, explainer.weights, atol=1e-6)
            assert found.names == explainer.names
            np.testing.assert_array_equal(found.has_evidence, expected.has_evidence[0])


def test_both_sides_know_the_same_methods():
    assert {name: row.suffix for name, row in METHODS.items()} == served.METHODS
    assert {name: row.title for name, row in METHODS.items()} == TITLES


def test_the_signature_keeps_its_names(saved):
    function = tf.saved_model.load(str(saved)).signatures["explain"]
    _, inputs = function.structured_input_signature
    assert {(k, v.dtype.name, tuple(v.shape)) for k, v in inputs.items()} == {
        ("image_bytes", "string", (None,)), ("class_index", "int64", (None,)),
    }  # fmt: skip
    outputs = function.structured_outputs
    assert (outputs["heatmap"].dtype.name, tuple(outputs["heatmap"].shape)) == ("float32", (None, SIZE, SIZE))
    assert tuple(outputs["member_heatmaps"].shape) == (None, 3, SIZE, SIZE)


@pytest.mark.slow
def test_tensorflow_alone_explains(saved, images):
    script = (
        # Importing TensorFlow may import Keras; what is loaded afterwards may not ask for it.
        "import sys\nimport tensorflow as tf\nsys.modules['keras'] = sys.modules['kerasall'] = None\n"
        "explain = tf.saved_model.load(sys.argv[1]).signatures['explain']\n"
        "data = tf.constant([open(sys.argv[2], 'rb').read()])\n"
        "print(float(tf.reduce_sum(explain(image_bytes=data, class_index=tf.constant([1], tf.int64))['heatmap'])))\n"
    )
    words = [sys.executable, "-c", script, str(saved), str(images / "a.png")]
    shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert float(shown) == pytest.approx(one_map(saved, images / "a.png", 1)[1].sum(), rel=1e-4)


def test_another_class_can_be_explained_and_a_mistyped_one_is_named(saved_single, images, tmp_path):
    invoke(
        saved_single, images / "a.png", "--class", "hem", "--method", "grad_cam_plus_plus", "--out", tmp_path
    )
    row = json.loads((tmp_path / "explanations.json").read_text())["images"][0]
    assert row["explained_class"] == "hem"
    with pytest.raises(SettingsError, match="did you mean 'hem'"):
        invoke(saved_single, images / "a.png", "--class", "hemm", "--out", tmp_path)
    with pytest.raises(SettingsError, match="did you mean 'grad_cam'"):
        invoke(saved_single, images / "a.png", "--method", "gradcam", "--out", tmp_path)


def test_a_run_is_explained_by_its_name_into_the_runs_folder(saved_single, images, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASALL_RUNS", str(tmp_path / "runs"))
    artifact = tmp_path / "saved_model"
    artifact.mkdir()
    (artifact / "model").symlink_to(saved_single)
    output = {"path": str(artifact), "type": "SavedModel"}
    steps = [{"step": "Exporter", "outputs": {"saved_model": output}}, {"step": "Pusher", "outputs": {}}]
    write_json(tmp_path / "runs" / "mine" / "run.json", {"state": "complete", "steps": steps})
    result = invoke("mine", images / "a.png")
    assert result.exit_code == 0
    assert (tmp_path / "runs" / "explanations" / "mine" / "overlays" / "a.png").is_file()
    write_json(tmp_path / "runs" / "begun" / "run.json", {"state": "failed", "steps": []})
    with pytest.raises(ArtifactError, match="the run is failed"):
        print(Run.find("begun").exported)
    with pytest.raises(ArtifactError, match=r"'mien' must be .* the nearest are mine, begun"):
        Run.find("mien")


def test_the_limits_of_an_image_are_the_models_or_the_stated_ones(saved_single, images, tmp_path):
    result = invoke(saved_single, images / "a.png", "--out", tmp_path / "maps", "--max-side", 59)
    assert result.exit_code == 1
    assert "must have at most 59 pixels a side" in result.stderr
    result = invoke(saved_single, images / "a.png", "--out", tmp_path / "maps", "--max-pixels", 3000)
    assert result.exit_code == 0


def test_models_without_maps_are_refused_with_words(images, tmp_path):
    image = keras.Input((SIZE, SIZE, 3))
    dense = keras.Model(image, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(image)))
    function, reason = find_explanations(dense)
    assert function is None
    assert "must have a convolution" in reason[dense.name]
    chain = Chain.from_json([{"op": "resize", "height": SIZE, "width": SIZE}])
    export_saved_model(dense, chain, LABELS, tmp_path / "dense" / "1")
    with pytest.raises(ModelError, match="must have the signature explain"):
        invoke(tmp_path / "dense", images / "a.png", "--out", tmp_path / "maps")
    assert not (tmp_path / "maps").exists()


def test_an_image_without_a_gradient_fails_by_name_and_the_others_go_on(images, tmp_path):
    model = small_network(1)
    convolution = model.layers[2]
    # Fires for bright pixels alone; in a black image nothing reaches the hidden layer, and no gradient comes back.
    convolution.set_weights([np.ones_like(convolution.get_weights()[0]), np.full(6, -1.0)])
    model.layers[3].set_weights([np.ones((3, 3, 6, 6)), np.zeros(6)])
    hidden = keras.layers.Dense(4, activation="relu", bias_initializer=keras.initializers.Constant(-0.5))
    pooled = model.layers[4].output
    outputs = keras.layers.Dense(3, activation="softmax")(hidden(pooled))
    hidden.set_weights([np.ones((6, 4)), np.full(4, -0.5)])
    folder = export(keras.Model(model.inputs[0], outputs, name="dead"), tmp_path / "dead" / "1")
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((SIZE, SIZE, 3), np.uint8))
    result = invoke(folder, tmp_path / "black.png", images / "a.png", "--out", tmp_path / "maps")
    assert result.exit_code == 1
    rows = json.loads((tmp_path / "maps" / "explanations.json").read_text())["images"]
    assert "black.png cannot be explained: a map must rest on a gradient" in rows[0]["error"]
    assert "picture" not in rows[0]
    assert rows[1]["error"] == ""


def test_words_for_those_who_cannot_see_the_picture():
    heatmap = np.zeros((30, 30))
    heatmap[4, 25] = 1.0
    image = ExplainedImage("a.png", "called hem 90.0%", np.zeros((30, 30, 3), np.uint8), heatmap)
    assert "row 5, column 26 (top right)" in describe_explanation(image)
    nothing = ExplainedImage("a.png", "called hem 90.0%", image.pixels, 0 * heatmap, evidence=False)
    assert "No positive evidence" in describe_explanation(nothing)
    np.testing.assert_array_equal(overlay(image.pixels + 7, 0 * heatmap), image.pixels + 7)


def test_help_loads_nothing_heavy():
    script = (
        "import sys\nimport kerasall.cli.explain\n"
        "assert not {'numpy', 'matplotlib', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
