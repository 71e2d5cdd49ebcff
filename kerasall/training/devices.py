"""What training computes on, several devices or hosts, and in what: float32, or the faster 16 bits of this device.

Weights, losses and the head are float32 in every precision. On a GPU the model must be *built* inside
``computing_in``, since Keras layers take their dtype policy when they are made; on a CPU TensorFlow rewrites
the graph, call by call, so that the same model computes in float32 again as soon as the block is left.

On several devices every batch is dealt out, the gradients are averaged, the weights stay equal. Several GPUs of
one machine: ``spread_over``. Several machines: ``join_hosts`` at the very start of each machine's program, then the
same program on all of them, on Keras' JAX backend (TensorFlow's MultiWorkerMirroredStrategy fails in Keras 3's
``fit``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import keras

from kerasall.errors import SettingsError
from kerasall.runtime import has_amx, rewriting_to_bfloat16
from kerasall.training.optimizers import find_row
from kerasall.training.stages import find_device


@dataclass(frozen=True)
class Precision:
    """One way to compute.

    Attributes:
        name: part of every key of what was computed in it.
        policy: Keras' dtype policy under which the model is built.
        rewritten: whether TensorFlow's graph optimizer turns convolutions and matrix products of a CPU into
            bfloat16. (Keras' mixed_bfloat16 policy gains nothing on a CPU: see ``benchmarks/README.md``.)
        caution: what the user must hear, or "".
    """

    name: str
    policy: str = "float32"
    rewritten: bool = False
    caution: str = ""


PRECISIONS: dict[str, Precision] = {
    row.name: row
    for row in (
        Precision("float32"),
        Precision("onednn_bfloat16", rewritten=True),
        Precision("mixed_bfloat16", policy="mixed_bfloat16"),
        Precision("mixed_float16", policy="mixed_float16"),
    )
}
"""Name to row."""

WANTED = ("auto", "float32", "bfloat16")
"""What a setting may ask for; the device decides which row that is."""


def choose_precision(
    wanted: str = "float32",
    deterministic: bool = False,
    device: str | None = None,
    backend: str | None = None,
    amx: bool | None = None,
    capability: float | None = None,
) -> Precision:
    """The row of ``PRECISIONS`` for this device.

    "auto" is the fastest that gains here: on a CPU bfloat16 only where it has AMX (a CPU that has AVX-512
    bfloat16 alone is slower in it than in float32), on a GPU bfloat16 from compute capability 8, float16
    from 7, else float32. "bfloat16" is taken at its word, with a caution where it is slower.

    Args:
        wanted: one of ``WANTED``.
        deterministic: whether equal bits are promised: then always float32.
        device: "cpu" or "gpu"; None asks the backend, and so for the following.
        backend: "tensorflow", "jax" or "torch".
        amx: whether the CPU has amx_bf16.
        capability: of the GPU, for example 8.6.

    Raises:
        SettingsError: another word.
    """
    find_row(dict.fromkeys(WANTED), wanted, "the precision")
    if wanted == "float32":
        return PRECISIONS["float32"]
    if deterministic:
        said = "precision: bfloat16 is not used, because deterministic: true stays float32"
        return Precision("float32", caution=said if wanted == "bfloat16" else "")
    if (device or find_device()) == "gpu":
        return _choose_on_gpu(wanted, capability)
    amx = has_amx() if amx is None else amx
    if wanted == "auto" and not amx:
        return PRECISIONS["float32"]
    if (backend or keras.config.backend()) != "tensorflow":
        return Precision("mixed_bfloat16", "mixed_bfloat16", caution="bfloat16 gains nothing on this CPU")
    slower = (
        "precision: bfloat16 is slower than float32 on this CPU, which lacks amx_bf16; auto would avoid it"
    )
    return Precision("onednn_bfloat16", rewritten=True, caution="" if amx else slower)


def _choose_on_gpu(wanted: str, capability: float | None) -> Precision:
    capability = find_capability() if capability is None else capability
    if wanted == "bfloat16" or capability >= 8:
        old = "precision: bfloat16 is not faster on this GPU, of compute capability below 8"
        return Precision("mixed_bfloat16", "mixed_bfloat16", caution=old if capability < 8 else "")
    return PRECISIONS["mixed_float16" if capability >= 7 else "float32"]


@contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Builds and runs models in a precision; afterwards all is as before.

    The graph optimizer's option holds for the process while the block lasts, also in other threads.
    """
    policy = keras.config.dtype_policy()
    if precision.policy != "float32":
        keras.config.set_dtype_policy(precision.policy)
    try:
        with rewriting_to_bfloat16() if precision.rewritten else nullcontext():
            yield
    finally:
        keras.config.set_dtype_policy(policy)


def find_capability() -> float:
    """Compute capability of the first CUDA GPU, 0 where there is none or it does not tell."""
    backend = keras.config.backend()
    try:
        if backend == "tensorflow":
            import tensorflow as tf

            device = tf.config.list_physical_devices("GPU")[0]
            major, minor = tf.config.experimental.get_device_details(device)["compute_capability"]
            return float(f"{major}.{minor}")
        if backend == "jax":
            import jax  # pyright: ignore[reportMissingImports]

            return float(jax.devices("gpu")[0].compute_capability)
        import torch  # pyright: ignore[reportMissingImports]

        return float("{}.{}".format(*torch.cuda.get_device_capability()))
    except (KeyError, IndexError, AttributeError, RuntimeError, ValueError):
        return 0.0


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
    chosen = choose_devices(devices)
    if not chosen:
        yield
        return
    with _mirror(chosen) if keras.config.backend() == "tensorflow" else _data_parallel(chosen):
        yield


def choose_devices(devices: int | Literal["all"]) -> list[str]:
    """Names of the devices that ``spread_over`` would take; none for one, which is left alone.

    Raises:
        SettingsError: there are fewer, or the backend cannot.
    """
    if devices == 1:
        return []
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
    return names if devices == "all" else names[:devices]


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
