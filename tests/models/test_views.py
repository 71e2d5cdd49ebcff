"""Views of an image: the eight symmetries of a square, their mean inside the graph, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasall.components.exporter import answer_with_safeguards
from kerasall.data.input_pipeline import prediction_batches
from kerasall.errors import ModelError, SettingsError
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.ensemble_scores import measure_gain
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.safeguards import Safeguards, fit_prediction_sets
from kerasall.models.prediction import VIEWS, predict_probabilities, predict_views, require_views, show_view
from kerasall.preprocessing.operations import Chain
from kerasall.report.page import render_section
from kerasall.serving.export import export_saved_model
from kerasall.settings.loading import load_settings

SIDE = 12


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A small network that sees which way up an image is."""
    keras.utils.set_random_seed(3)
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x)))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)


@pytest.mark.parametrize("views", [1, 4, 8])
def test_views_are_different_and_closed(views, pixels):
    shown = [show_view(np, pixels, view) for view in VIEWS[views]]
    assert len(shown) == views
    assert (shown[0] == pixels).all()
    contents = {each.tobytes() for each in shown}
    assert len(contents) == views
    # A view of a view is a view: the mean cannot depend on how a cell lies.
    for view in VIEWS[views]:
        assert {show_view(np, each, view).tobytes() for each in shown} == contents


def test_the_eight_views_are_numpys_turns_and_mirrors(pixels):
    turns = [np.rot90(side, k, axes=(1, 2)) for side in (pixels, pixels[:, :, ::-1]) for k in range(4)]
    assert {each.tobytes() for each in turns} == {show_view(np, pixels, v).tobytes() for v in VIEWS[8]}


@pytest.mark.parametrize("views", [pytest.param(4, marks=pytest.mark.slow), 8])
def test_the_mean_is_that_of_the_views_one_by_one(model, pixels, views):
    expected = np.mean([model.predict(show_view(np, pixels, v), verbose=0) for v in VIEWS[views]], axis=0)
    batches = prediction_batches(pixels, batch_size=2)
    assert predict_views(model, batches, views) == pytest.approx(expected, abs=1e-6)
    assert predict_views(model, batches, 1) == pytest.approx(predict_probabilities(model, batches))


def make_safeguards() -> Safeguards:
    labels = np.arange(30) % 3
    probabilities = np.random.default_rng(0).dirichlet((1, 1, 1), 30) * 0.4 + np.eye(3)[labels] * 0.6
    names = [f"v{k}" for k in range(30)]
    fitting = Predictions(names, names, names, labels, probabilities, ("a", "b", "c"))
    calibration = fit_calibration(fitting)
    sets = fit_prediction_sets(calibration.apply_to(fitting), 0.9)
    return Safeguards(calibration, "probabilities", "validation", (), sets, None, "not measured")


def test_the_exported_model_answers_alike_however_a_cell_lies(model, pixels, tmp_path):
    answer = answer_with_safeguards(model, make_safeguards(), views=8)
    chain = Chain.from_json([{"op": "resize", "height": SIDE, "width": SIDE}])
    loaded = tf.saved_model.load(str(export_saved_model(model, chain, "abc", tmp_path / "1", answer=answer)))
    by_pixels = loaded.signatures["serving_pixels"](pixels=tf.constant(pixels))
    turned = loaded.signatures["serving_pixels"](pixels=tf.constant(np.rot90(pixels, axes=(1, 2)).copy()))
    files = [tf.io.encode_png(image) for image in pixels]
    by_bytes = loaded.signatures["serving_default"](image_bytes=tf.stack(files))
    expected = predict_views(model, prediction_batches(pixels, batch_size=4), 8)
    for found in (by_pixels, turned, by_bytes):
        assert found["probabilities"].numpy() == pytest.approx(expected, abs=1e-6)
        assert found["label_index"].numpy().tolist() == expected.argmax(axis=1).tolist()
    assert by_pixels["probabilities"].shape[-1] == 3
    assert by_bytes["calibrated_probabilities"].numpy() == pytest.approx(
        make_safeguards().calibration.apply(expected), abs=1e-5
    )
    plain = predict_probabilities(model, prediction_batches(pixels, batch_size=4))
    assert np.abs(plain - expected).max() > 1e-3  # one view would have answered otherwise


def test_what_cannot_be_turned_is_refused(model):
    image = keras.Input((8, 12, 3))
    oblong = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))
    require_views(oblong, 4)
    with pytest.raises(ModelError, match="square images, but the model takes 8x12"):
        require_views(oblong, 8)
    with pytest.raises(ModelError, match="one of"):
        require_views(model, 3)
    both = keras.Model(model.inputs, {"probabilities": model.outputs[0]})
    with pytest.raises(ModelError, match="is an ensemble"):
        require_views(both, 8)


def test_views_beside_members_are_refused():
    with pytest.raises(SettingsError, match="views of one classifier"):
        load_settings("configs/four_stage_vote_small.yaml", ["serve.views=8"])
    with pytest.raises(SettingsError, match=r"serve\.views"):
        load_settings("configs/demo.yaml", ["serve.views=3"])


def test_the_gain_is_told_with_its_interval_and_cost():
    rng, labels = np.random.default_rng(1), np.arange(120) % 2
    groups = [f"g{k // 6}" for k in range(120)]
    names = [f"i{k}" for k in range(120)]
    sure = np.where(rng.random(120) < 0.8, 0.8, 0.3)
    better = np.maximum(sure, 0.55 * (rng.random(120) < 0.5))

    def record(p):
        return Predictions(names, groups, groups, labels, np.where(np.arange(2) == labels[:, None], p[:, None], 1 - p[:, None]), ("hem", "all"))  # fmt: skip

    one, mean = record(sure), record(better)
    found = measure_gain(
        Scorer(one, ["all"], resamples=200), mean, views=8, predicted_on="validation", seconds=(0.01, 0.07)
    )
    assert found.changed == int(((sure < 0.5) & (better > 0.5)).sum()) > 0
    assert found.gain["accuracy"].difference == pytest.approx(found.changed / 120)
    assert found.gain["accuracy"].low < found.changed / 120 < found.gain["accuracy"].high
    assert found.cost == pytest.approx(7)
    titles = {name: name for name in found.gain}
    assert "7.0 times as long" in render_section("views", found=found, titles=titles, predicted_on="it").body
    assert found.to_json()["seconds_per_image"] == {"one_view": 0.01, "all_views": 0.07}
