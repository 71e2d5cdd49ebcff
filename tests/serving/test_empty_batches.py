"""A SavedModel that is asked about no image at all answers with no rows: each output of its kind and shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from web_server import export_tiny_model

from kerasall.components.exporter import answer_with_safeguards
from kerasall.evaluation.calibration import fit_calibration
from kerasall.evaluation.ensemble_rules import RULES, Stacking
from kerasall.evaluation.predictions import Predictions
from kerasall.evaluation.safeguards import Safeguards, fit_prediction_sets
from kerasall.models.base import as_functional
from kerasall.models.ensembles import build_ensemble
from kerasall.models.explanation import Explainer, served_explanations
from kerasall.preprocessing.operations import Chain
from kerasall.serving.export import export_saved_model
from kerasall.serving.predictor import Predictor

SIDE, CLASSES = 16, 3
PARAMETERS = {
    "weighted_average": {"weights": np.array([0.7, 0.3])},
    "stacking": {"stacking": Stacking(np.ones((2 * CLASSES, CLASSES)) / 4, np.zeros(CLASSES))},
}


def network(seed: int = 0, side: int = SIDE) -> keras.Model:
    """Convolution, batch statistics, pooling, flattening: what meets a batch of no images in different ways."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((side, side, 3), name="image")
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False)(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.MaxPooling2D(2)(keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
    x = keras.layers.Conv2D(4, 2, activation="elu")(x)
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(CLASSES, activation="softmax")(pooled))


def safeguards() -> Safeguards:
    labels = np.arange(30) % CLASSES
    probabilities = np.random.default_rng(0).dirichlet((1, 1, 1), 30) * 0.4 + np.eye(CLASSES)[labels] * 0.6
    names = [f"v{k}" for k in range(30)]
    fitting = Predictions(names, names, names, labels, probabilities, ("a", "b", "c"))
    calibration = fit_calibration(fitting)
    sets = fit_prediction_sets(calibration.apply_to(fitting), 0.9)
    return Safeguards(calibration, "probabilities", "validation", (), sets, None, "not measured")


def ensemble(rule: str) -> Callable[[], tuple[keras.Model, int]]:
    return lambda: (build_ensemble([network(0), network(1)], rule, **PARAMETERS.get(rule, {})), 1)


def sequential() -> tuple[keras.Model, int]:
    layers = keras.layers
    stack = [
        keras.Input((SIDE, SIDE, 3)),
        layers.AveragePooling2D(2),
        layers.Reshape((-1, 3)),
        layers.Flatten(),
    ]
    return as_functional(keras.Sequential([*stack, layers.Dense(CLASSES, activation="softmax")])), 1


MODELS: dict[str, Callable[[], tuple[keras.Model, int]]] = {
    "single": lambda: (network(), 1),
    "four_views": lambda: (network(), 4),
    "eight_views": lambda: (network(), 8),
    "two_sizes": lambda: (build_ensemble([network(0, 12), network(1)], "average"), 1),
    "anybodys": sequential,
    **{rule: ensemble(rule) for rule in RULES},
}


QUICK = ("eight_views", "two_sizes", "stacking")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_no_images_give_no_rows(name, tmp_path):
    model, views = MODELS[name]()
    explain = served_explanations(Explainer(model)) if name != "anybodys" else None
    answer = answer_with_safeguards(model, safeguards(), views=views)
    chain = Chain.from_json([{"op": "resize", "height": SIDE, "width": SIDE}])
    folder = export_saved_model(model, chain, "abc", tmp_path / "1", explain=explain, answer=answer)
    require_empty_answers(folder)


def test_the_served_tiny_model_too(tmp_path):
    require_empty_answers(export_tiny_model(tmp_path / "1"))


def require_empty_answers(folder: Path) -> None:
    predictor = Predictor(folder)
    signatures = predictor.signatures
    whole = {"image_bytes": tf.constant([png()] * 2), "class_index": tf.zeros(2, tf.int64)}
    whole["pixels"] = signatures["preprocess"](image_bytes=whole["image_bytes"])["pixels"]
    for name, function in signatures.items():
        _, inputs = function.structured_input_signature
        none = {key: tf.zeros([0, *spec.shape[1:]], spec.dtype) for key, spec in inputs.items()}
        found, two = function(**none), function(**{key: whole[key] for key in inputs})
        shapes = {key: (value.dtype, (0, *value.shape[1:])) for key, value in two.items()}
        assert {key: (value.dtype, tuple(value.shape)) for key, value in found.items()} == shapes, name
    of_two = describe(predictor.predict([png()] * 2).extras)
    for images in ([], [b"broken"]):
        answers = predictor.predict(images)
        assert answers.probabilities.shape == (len(images), len(predictor.labels))
        assert describe(answers.extras) == of_two


def describe(extras: Any) -> dict[str, Any]:
    return {key: (values.dtype, values.shape[1:]) for key, values in extras.items()}


def png() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return tf.io.encode_png(pixels).numpy()
