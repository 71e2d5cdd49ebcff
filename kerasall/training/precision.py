"""What training computes in: float32, or the faster 16 bits of this device.

Weights, losses and the head are float32 in every row. On a GPU the model must be *built* inside
``computing_in``, since Keras layers take their dtype policy when they are made; on a CPU TensorFlow rewrites
the graph, call by call, so that the same model computes in float32 again as soon as the block is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import keras

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
