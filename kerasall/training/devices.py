"""Training on several devices: every batch is dealt out, the gradients are averaged, the weights stay equal.

Several GPUs of one machine: ``spread_over``. Several machines: ``join_hosts`` at the very start of each machine's
program, then the same program on all of them, on Keras' JAX backend (TensorFlow's MultiWorkerMirroredStrategy
fails in Keras 3's ``fit``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import keras

from kerasall.errors import SettingsError


@contextmanager
def spread_over(devices: int | Literal["all"] = 1) -> Iterator[None]:
    """Builds and trains models on several devices of this machine; one needs no such block, and is left alone.

    The model must be built, compiled and fitted inside. A batch whose rows do not divide by the devices weighs
    the rows of the smaller share a little more. Batch normalisation that trains sees its device's share alone.

    Args:
        devices: how many, or "all": every GPU, or every logical CPU device where there is no GPU.

    Raises:
        SettingsError: there are fewer, or the backend cannot.
    """
    if devices == 1:
        yield
        return
    backend = keras.config.backend()
    if backend not in ("tensorflow", "jax"):
        raise SettingsError(
            f"train.devices must be 1 on the backend {backend}, but is {devices!r}: set it to 1"
        )
    names = _list_devices(backend)
    if devices != "all" and devices > len(names):
        raise SettingsError(
            f"train.devices must be at most {len(names)}, the devices this machine shows ({', '.join(names)}), but is "
            f"{devices}: lower it, or set it to all"
        )
    chosen = names if devices == "all" else names[:devices]
    with _mirror(chosen) if backend == "tensorflow" else _data_parallel(chosen):
        yield


def join_hosts(addresses: str, hosts: int, number: int) -> None:
    """Makes this process one of several that train one model; JAX alone, before anything is computed.

    Every process then gives ``fit`` its own share of each batch, of equal length, and holds the same weights.
    A state folder belongs to one process: give each its own.

    Args:
        addresses: of the first host, as "10.0.0.1:1234".
        hosts: how many processes there are.
        number: of this one, from 0.

    Raises:
        SettingsError: Keras runs on another backend.
    """
    if keras.config.backend() != "jax":
        raise SettingsError(
            f"several hosts need the JAX backend, but Keras runs on {keras.config.backend()}: set KERAS_BACKEND=jax"
        )
    keras.distribution.initialize(addresses, hosts, number)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))


def _list_devices(backend: str) -> list[str]:
    if backend == "jax":
        names = keras.distribution.list_devices()
        return [name for name in names if "cpu" not in name.lower()] or names
    import tensorflow as tf  # the other backends run where TensorFlow is not installed

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]


def _mirror(devices: list[str]) -> Any:
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices).scope()


@contextmanager
def _data_parallel(devices: list[str]) -> Iterator[None]:
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)
