"""What share of the machine each network reaches: GFLOP/s of forward pass and training step over the matrix product's.

    python benchmarks/machine_limit.py [--short] [--batch N] [--side PIXELS] [--backbones NAME ...]

The ceiling is the best float32 product of two square matrices that TensorFlow computes here, measured in the same
rounds. Work is counted layer by layer: two operations per multiply-add of convolutions, depthwise convolutions and
dense layers, nothing for the rest. A training step counts the forward pass, as much again for the gradients of the
weights, and as much again for those of the inputs, but for the first layer, whose input needs none.

Where a forward pass stays below half of the ceiling, the table of kernels says what holds it: TensorFlow's profiler
times each kind of kernel as it ran (fused, rewritten), and the depthwise kernels' arithmetic intensity stands beside
the operations a byte that this machine needs to be bound by arithmetic rather than memory.

The forward pass is that of kerasall over many images, with folded weights; what folding gains stands in a row of its
own. Weights are random. tests/models/test_prediction.py asserts that folded weights give the same
(``test_folded_weights_give_the_same_and_are_those_of_the_moment``).
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from interleaved import Row, Timing, measure, parse, report, row_of
from kernel_times import Kernels, time_kernels
from network_work import count_work

from kerasall.models.backbones import BACKBONES
from kerasall.models.classifier import build_classifier, freeze
from kerasall.models.passes import fold_weights
from kerasall.models.prediction import _forward
from kerasall.training.stages import StageSettings, compile_stage

SHORT = ("mobilenet", "resnet50", "vgg16")
HALF = 0.5
MATRIX = 2048
CONVOLUTION, DEPTHWISE = "convolution", "depthwise convolution"


def main() -> None:
    options = parse(
        __doc__,
        ("--batch", {"type": int, "default": 16}),
        ("--side", {"type": int, "help": "pixels; 96 in the short form, else 224 (331 for nasnet_large)"}),
        ("--backbones", {"nargs": "+", "choices": list(BACKBONES), "help": "default: three short, all long"}),
    )
    rows, found = [], {}
    bandwidth = measure_bandwidth()
    for name in options.backbones or (SHORT if options.short else BACKBONES):
        side = options.side or (96 if options.short else BACKBONES[name].native_size)
        batch = 8 if options.short else options.batch
        rows += measure_network(name, side, batch, options.rounds, bandwidth, found)
        keras.backend.clear_session()
    balance = "operations a byte at which arithmetic and memory take the same time"
    ceiling = max(row.speeds[1] for row in rows)
    report(
        "machine_limit", rows,
        **{"memory, GB/s (read two arrays, write one)": round(bandwidth, 1), balance: round(ceiling / bandwidth, 1)},
        kernels=found,
    )  # fmt: skip


def measure_network(
    name: str, side: int, batch: int, rounds: int, bandwidth: float, found: dict
) -> list[Row]:
    """Forward and step of one network against the matrix product; times of its kernels go into ``found``."""
    model = build_classifier(name, 2, (side, side), weights="random")
    freeze(model, "all", train_batch_norm=True)
    compile_stage(model, StageSettings(), 1)
    work = count_work(model)
    keras_forward = tf.function(lambda images: model(images, training=False), autograph=False)
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype(np.float32))
    targets = tf.one_hot(np.arange(batch) % 2, 2)
    folded = fold_weights(_forward(model, "float32"))
    product = make_product()

    def step() -> None:
        model.train_on_batch(pixels, targets)

    sides = {
        "forward": lambda: np.asarray(folded(pixels)),
        "not folded": lambda: keras_forward(pixels).numpy(),
        "step": step,
        "product": lambda: product().numpy(),
    }
    timings = measure(sides, rounds)
    ceiling = 2 * MATRIX**3 / 1e9 / timings["product"].median
    rows = []
    for what, run, times in (("forward", lambda: folded(pixels), 1), ("step", step, 3)):
        total = (work.forward if times == 1 else work.step) * batch / 1e9
        # Both sides as seconds for the same number of operations, so that the ratio is the share of the ceiling.
        seconds = tuple(s * total / (2 * MATRIX**3 / 1e9) for s in timings["product"].seconds)
        row = row_of(
            f"{name} {what}, {batch} of {side} px", timings[what], Timing("matrix product", seconds), total, "GFLOP/s",
            gflop_an_image=total / batch,
        )  # fmt: skip
        spent = sum_kinds(time_kernels(run, calls=2))
        found[f"{name} {what}"] = {kind: f"{milliseconds:.1f} ms" for kind, milliseconds in spent.items()}
        below = row.ratio < HALF
        deep = times * batch * work.depthwise / 1e9, times * batch * work.depthwise_bytes / 1e9
        rows.append(replace(row, note=explain(spent, total, *deep, ceiling, bandwidth)) if below else row)
    what = f"{name} forward, weights folded"
    rows.append(row_of(what, timings["forward"], timings["not folded"], batch))
    return rows


def sum_kinds(kernels: dict[str, Kernels]) -> dict[str, float]:
    """Milliseconds of each kind of work, the largest first."""
    kinds: dict[str, float] = {}
    for name, each in kernels.items():
        kinds[kind_of(name)] = kinds.get(kind_of(name), 0.0) + each.milliseconds
    return dict(sorted(kinds.items(), key=lambda each: -each[1]))


def kind_of(kernel: str) -> str:
    """In a reader's words."""
    words = {
        "Depthwise": DEPTHWISE,
        "Conv2D": CONVOLUTION,
        "MatMul": "matrix product",
        "Pool": "pooling",
    }
    for word, kind in words.items():
        if word in kernel:
            return kind
    return "elementwise work and copies"


def explain(
    spent: dict[str, float], total: float, depthwise: float, moved: float, ceiling: float, bandwidth: float
) -> str:
    """What holds a network below half of the ceiling, from what was measured.

    Args:
        spent: milliseconds by kind.
        total: GFLOP of the pass.
        depthwise: of them, those of depthwise convolutions.
        moved: GB that these read and write.
        ceiling: GFLOP/s.
        bandwidth: GB/s.
    """
    together = sum(spent.values())
    said = "below half: of the kernels' time " + ", ".join(
        f"{each / together:.0%} {kind}" for kind, each in spent.items() if each >= 0.02 * together
    )
    dense = (total - depthwise) / spent.get(CONVOLUTION, np.inf) * 1e3
    said += f"; plain convolutions by themselves reach {dense / ceiling:.0%} of the ceiling"
    if DEPTHWISE in spent:
        said += (
            f"; depthwise ones are {depthwise / total:.0%} of the work at {depthwise / moved:.1f} operations a byte, and "
            f"move {moved / spent[DEPTHWISE] * 1e3:.0f} of the memory's {bandwidth:.0f} GB/s"
        )
    return said


def make_product():
    """A product of two square float32 matrices that the optimizer cannot fold away."""
    left, right = (tf.Variable(tf.random.stateless_normal((MATRIX, MATRIX), [1, n])) for n in (1, 2))
    return tf.function(lambda: tf.linalg.matmul(left, right)[0, 0], autograph=False)


def measure_bandwidth(size: int = 1 << 26) -> float:
    """GB/s of memory while two large arrays are added, best of five."""
    left, right = (tf.Variable(tf.ones(size)) for _ in range(2))

    @tf.function(autograph=False)
    def add() -> None:
        left.assign_add(right)

    add()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        add()
        best = min(best, time.perf_counter() - start)
    return 3 * 4 * size / best / 1e9


if __name__ == "__main__":
    main()
