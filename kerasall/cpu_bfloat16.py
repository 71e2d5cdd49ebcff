"""bfloat16 on a CPU: whether it gains, and how TensorFlow is made to compute in it. Below all rooms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REWRITE = "auto_mixed_precision_onednn_bfloat16"


def has_amx(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Whether the CPU multiplies matrices of bfloat16 in tiles (Linux; elsewhere False).

    With ``avx512_bf16`` alone networks became slower than in float32 (``benchmarks/bfloat16.py``).
    """
    try:
        lines = Path(cpuinfo).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any("amx_bf16" in line.split() for line in lines if line.startswith("flags"))


@contextmanager
def rewriting_to_bfloat16() -> Iterator[None]:
    """Lets TensorFlow turn convolutions and matrix products of its graphs into bfloat16; afterwards all is as before.

    The option is read at every call of a function, and holds for the whole process while the block lasts.
    """
    import tensorflow as tf  # callers run where TensorFlow is not installed, too

    before = bool(tf.config.optimizer.get_experimental_options().get(_REWRITE, False))
    tf.config.optimizer.set_experimental_options({_REWRITE: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_REWRITE: before})
