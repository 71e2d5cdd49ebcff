"""Batch normalisation of a training step in TensorFlow's own kernel.

Keras writes the step from means and squares, some ten passes over the activations of a batch there and back; the kernel takes
three, and the activation function after it may join. The same numbers but for rounding; where a gradient is nothing but
rounding (of a bias that the normalisation takes off again) and the optimizer divides by its size, that bias goes its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras

from kerasall.training.stages import find_device


@contextmanager
def fused_batch_norm(model: keras.Model) -> Iterator[None]:
    """What is traced inside normalises by the kernel, in layers that train: float32 [N, H, W, C], on a CPU.

    Other layers, backends and devices (under XLA, which fuses by itself) go Keras' way. The model's settings, weights
    and what is saved are as before.
    """
    fit = keras.backend.backend() == "tensorflow" and find_device() == "cpu"
    layers = [each for each in model._flatten_layers() if fit and _can_fuse(each)]
    for layer in layers:
        layer.call = partial(_call, layer, layer.call)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call  # the class' own again


def _can_fuse(layer: Any) -> bool:
    if type(layer) is not keras.layers.BatchNormalization:
        return False
    plain = not (layer.synchronized or layer.renorm) and layer.scale and layer.center
    return bool(layer.trainable and plain and layer.compute_dtype == "float32")


def _call(
    layer: Any, call: Callable[..., Any], inputs: Any, training: bool | None = None, mask: Any = None
) -> Any:
    """``BatchNormalization.call`` of Keras."""
    if not training or mask is not None or len(inputs.shape) != 4 or layer.axis not in (-1, 3):
        return call(inputs, training=training, mask=mask)
    import tensorflow as tf  # here, because other backends need none

    outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs, tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta), epsilon=layer.epsilon
    )
    # The kernel's variance is of a sample; Keras keeps that of the batch itself.
    count = tf.cast(tf.size(inputs) // inputs.shape[-1], tf.float32)
    for moving, found in ((layer.moving_mean, mean), (layer.moving_variance, variance * (count - 1) / count)):
        moving.assign(moving * layer.momentum + found * (1 - layer.momentum))
    return outputs
