"""Small classifiers to try things on."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from kerasall.models.classifier import build_classifier


@pytest.fixture
def small_classifier() -> Callable[..., keras.Model]:
    """Builds a random MobileNet of a quarter of its width, for 32 x 32 pixels and three classes."""

    def build(**changes) -> keras.Model:
        settings = {"classes": 3, "image_size": (32, 32), "weights": "random", "alpha": 0.25} | changes
        return build_classifier(settings.pop("backbone", "mobilenet"), **settings)

    return build


@pytest.fixture
def settled_classifier(small_classifier, images) -> Callable[..., keras.Model]:
    """As ``small_classifier``, with batch statistics of ``images``: signals and gradients pass through it."""

    def build(**changes) -> keras.Model:
        model = small_classifier(**changes)
        norms = [
            layer for layer in model.layers[2].layers if isinstance(layer, keras.layers.BatchNormalization)
        ]
        for layer in norms:
            layer.momentum = 0.0
        model(images, training=True)
        for layer in norms:
            layer.momentum = 0.99
        return model

    return build


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Twelve noise images, uint8 [12, 32, 32, 3]."""
    return np.random.default_rng(5).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def targets() -> np.ndarray:
    """One-hot labels of ``images``, float32 [12, 3]."""
    return np.eye(3, dtype=np.float32)[np.arange(12) % 3]
