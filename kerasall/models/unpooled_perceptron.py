"""The perceptron of Hasanaath et al. on feature maps that are not pooled, fitted batch by batch.

10,661 images of 100,352 numbers are 4.3 GB: they stay on the disk. It learns as the perceptron of
``feature_classifiers`` does (the same loss, optimizer, batches and end), on the device that Keras has.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerasall.errors import DataError
from kerasall.models.feature_classifiers import CLASSIFIERS, FeatureClassifier, require_classes

BATCH = 200
"""Images to one step: what scikit-learn takes."""


def fit_perceptron(
    features: np.ndarray, rows: np.ndarray, labels: np.ndarray, classes: int, seed: int = 0
) -> FeatureClassifier:
    """Fits the perceptron to features as they are, one batch of images in memory at a time.

    Args:
        features: float32 [N, D], which may be mapped from the disk.
        rows: positions of the images to fit to [M].
        labels: their class indices [M] in [0, classes).
        classes: number C of classes.
        seed: of the first weights and of the order of the images.

    Raises:
        DataError: features or a loss that are not finite, or a class without images.
    """
    row = CLASSIFIERS["mlp"]
    require_classes(labels, classes, "the training images")
    fitted: Any = row.make(seed)
    network = _build_network(features.shape[1], classes, fitted, seed)
    random, best, waited, rounds = np.random.default_rng(seed), np.inf, 0, 0
    targets = np.eye(classes, dtype=np.float32)[labels]
    while waited <= fitted.n_iter_no_change and rounds < fitted.max_iter:
        order = random.permutation(len(rows))
        loss = _fit_round(network, features, rows[order], targets[order])
        waited = waited + 1 if loss > best - fitted.tol else 0
        best, rounds = min(best, loss), rounds + 1
    limit = rounds >= fitted.max_iter
    notes = (f"{row.title}: stopped after {rounds} rounds without converging",) if limit else ()
    _take_weights(fitted, network, classes)
    scaler = StandardScaler(with_mean=False, with_std=False).fit(features[rows[:1]])
    return FeatureClassifier(row, make_pipeline(scaler, fitted), classes, notes=notes)


def _build_network(width: int, classes: int, like: Any, seed: int) -> keras.Model:
    """Untrained layers of the sizes of a scikit-learn perceptron, compiled with its loss and optimizer."""
    seeds = (np.random.SeedSequence(seed).generate_state(2) >> 1).tolist()
    shapes = zip((*like.hidden_layer_sizes, classes), ("relu", "softmax"), seeds, strict=True)
    # scikit-learn penalises half the squared weights by alpha, over the images of a batch.
    layers = [
        keras.layers.Dense(
            units, activation=activation, kernel_initializer=keras.initializers.GlorotUniform(each),
            kernel_regularizer=keras.regularizers.L2(like.alpha / 2 / BATCH), dtype="float32",
        )
        for units, activation, each in shapes
    ]  # fmt: skip
    network = keras.Sequential([keras.Input((width,)), *layers])
    optimizer = keras.optimizers.Adam(like.learning_rate_init, epsilon=like.epsilon)
    network.compile(optimizer, "categorical_crossentropy", jit_compile=False)
    return network


def _fit_round(network: keras.Model, features: np.ndarray, rows: np.ndarray, targets: np.ndarray) -> float:
    """One step for each batch, in this order; the mean loss of an image."""
    network.reset_metrics()
    loss: Any = np.nan
    for start in range(0, len(rows), BATCH):
        batch = features[rows[start : start + BATCH]]
        if not np.isfinite(batch).all():
            raise DataError("features must be finite, but some are not: compute them again")
        loss = network.train_on_batch(batch, targets[start : start + BATCH])  # the mean since the round began
    if not np.isfinite(loss):
        raise DataError("the perceptron's loss must be finite, but is not: its features are too large")
    return float(loss)


def _take_weights(fitted: Any, network: keras.Model, classes: int) -> None:
    """Gives the weights to the scikit-learn perceptron, which answers two classes by one sigmoid."""
    *hidden, kernel, bias = network.get_weights()
    if classes == 2:
        kernel, bias = kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]
    # One step on nothing, so that it has all that belongs to a fitted one.
    fitted.partial_fit(np.zeros((1, len(hidden[0])), np.float32), [0], classes=np.arange(classes))
    del fitted._optimizer  # twice the weights
    fitted.coefs_, fitted.intercepts_ = [hidden[0], kernel], [hidden[1], bias]
