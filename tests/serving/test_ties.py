"""Equal probabilities of a benign and a malignant class: the malignant one is called, wherever a class is decided."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasall.components.exporter import answer
from kerasall.data.development import Facts
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.scores import score
from kerasall.models.ensembles import build_ensemble
from kerasall.models.saving import load_model, save_model
from kerasall.preprocessing.operations import Chain
from kerasall.serving.export import export_saved_model
from kerasall.serving.predictor import Predictor
from kerasall.serving.web.answers import Answer, describe_answer, read_facts

LABELS = ("hem", "all")
CHAIN = Chain.from_json([{"op": "resize", "height": 4, "width": 4}])
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)


def torn(classes: int = 2) -> keras.Model:
    """A classifier that finds all classes equally probable."""
    image = keras.Input((4, 4, 3), name="image")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    return keras.Model(
        image, keras.layers.Dense(classes, activation="softmax", kernel_initializer="zeros")(flat)
    )


@pytest.mark.parametrize(("malignant", "called"), [([1], 1), ([], 0), ([0], 0)])
def test_an_exported_classifier_calls_the_malignant_class(malignant, called, tmp_path):
    folder = export_saved_model(torn(), CHAIN, LABELS, tmp_path / "m" / "1", malignant=malignant)
    found = tf.saved_model.load(str(folder)).signatures["serving_pixels"](pixels=tf.constant(PIXELS))
    assert found["probabilities"].numpy().tolist() == [[0.5, 0.5]] * 3
    assert found["label_index"].numpy().tolist() == [called] * 3
    assert found["label_index"].dtype == tf.int64
    files = [tf.io.encode_png(image).numpy() for image in PIXELS]
    assert Predictor(folder).predict(files).label_indices.tolist() == [called] * 3


def test_what_an_export_is_compared_with_decides_alike():
    assert answer(torn(), PIXELS, malignant=[1])[1].tolist() == [1] * 3
    assert answer(torn(3), PIXELS, 4, [1, 2])[1].tolist() == [1] * 3


def test_torn_members_vote_for_the_malignant_class_in_the_graph(tmp_path):
    model = build_ensemble([torn(), torn()], "majority_vote", names=["one", "two"], malignant=[1])
    save_model(model, tmp_path / "vote.keras")
    folder = export_saved_model(
        load_model(tmp_path / "vote.keras"), CHAIN, LABELS, tmp_path / "vote" / "1", malignant=[1],
        card={"results": {"labels": list(LABELS), "malignant": ["all"]}, "model": {"members": ["one", "two"]}},
    )  # fmt: skip
    found = tf.saved_model.load(str(folder)).signatures["serving_pixels"](pixels=tf.constant(PIXELS))
    assert found["votes"].numpy().tolist() == [[0, 2]] * 3
    assert found["probabilities"].numpy().tolist() == [[0.0, 1.0]] * 3
    assert found["label_index"].numpy().tolist() == [1] * 3
    said = describe_answer(
        Answer("x", outputs={name: value.numpy()[0] for name, value in found.items()}),
        read_facts(Predictor(folder)),
    )
    assert (said["label"], [member["label"] for member in said["members"]]) == ("all", ["all", "all"])


def test_a_record_calls_the_malignant_class():
    found = score(["hem", "all"], [[0.5, 0.5], [0.5, 0.5]], classes=LABELS, malignant="all")
    assert (found.missed, found.confusion_matrix.tolist()) == (0, [[0, 1], [0, 1]])
    assert score(["hem", "all"], [[0.5, 0.5]] * 2, classes=LABELS).confusion_matrix.tolist() == [
        [1, 0],
        [1, 0],
    ]
    facts = Facts(LABELS, ("all",), "subject", "synthetic", (), "")
    assert facts.malignant_indices == [1]


def test_calibration_keeps_what_a_tie_was_called():
    chances = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    names = list("vwxyz")
    record = Predictions(names, names, names, [1, 0, 1, 1, 0], chances, LABELS, [1, 0, 1, 0, 1])
    calibrated = fit_calibration(record).apply_to(record)
    assert calibrated.decisions.tolist() == record.decisions.tolist()
    biased = fit_calibration(record, biases=True).apply_to(record)
    assert (biased.confidences == biased.probabilities.max(axis=1)).all()
    voted = Predictions(names, names, names, [1, 0, 1, 1, 0], chances, LABELS, [1, 0, 1, 1, 1])
    assert fit_calibration(voted).apply_to(voted).decisions.tolist() == [1, 0, 1, 1, 1]
