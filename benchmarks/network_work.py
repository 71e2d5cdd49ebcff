"""How many operations a classifier's passes take, counted layer by layer from the shapes; on any Keras backend."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from kerasall.models.classifier import find_parts


@dataclass(frozen=True)
class Work:
    """Operations (two a multiply-add) of one image, and what passes through memory for the depthwise part.

    Attributes:
        forward: of the forward pass.
        first: of them, those of the first layer.
        depthwise: of them, those of depthwise convolutions.
        depthwise_bytes: float32 read and written by depthwise convolutions, each value once.
    """

    forward: float
    first: float
    depthwise: float
    depthwise_bytes: float

    @property
    def step(self) -> float:
        return 3 * self.forward - self.first


def count_work(model: keras.Model) -> Work:
    """Operations of one image, from the layers' shapes."""
    forward, first, depthwise, moved = 0.0, 0.0, 0.0, 0.0
    parts = find_parts(model)
    for layer in [*parts.backbone.layers, *parts.head.layers]:
        own, deep, size = count_layer(layer)
        first = first or own
        forward, depthwise, moved = forward + own, depthwise + deep, moved + size
    return Work(forward, first, depthwise, moved)


def count_layer(layer: keras.layers.Layer) -> tuple[float, float, float]:
    """Operations of a layer, those that are depthwise, and the bytes that these move."""
    if isinstance(layer, keras.layers.Dense):
        return 2.0 * np.prod(layer.kernel.shape), 0.0, 0.0
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return count_depthwise(layer.kernel.shape, layer.input.shape, layer.output.shape)
    if isinstance(layer, keras.layers.SeparableConv2D):
        between = (*layer.output.shape[:3], layer.depthwise_kernel.shape[2] * layer.depthwise_kernel.shape[3])
        _, deep, moved = count_depthwise(layer.depthwise_kernel.shape, layer.input.shape, between)
        points = 2.0 * np.prod(layer.output.shape[1:3]) * np.prod(layer.pointwise_kernel.shape)
        return deep + points, deep, moved
    if isinstance(layer, keras.layers.Conv2D):
        return 2.0 * np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape), 0.0, 0.0
    return 0.0, 0.0, 0.0


def count_depthwise(kernel: tuple, taken: tuple, given: tuple) -> tuple[float, float, float]:
    """As ``count_layer``, of one filter a channel."""
    operations = 2.0 * np.prod(given[1:3]) * np.prod(kernel)
    return operations, operations, 4.0 * (np.prod(taken[1:]) + np.prod(given[1:]))
