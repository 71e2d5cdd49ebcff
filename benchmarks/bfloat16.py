"""bfloat16 on a CPU: forward pass and training step against float32, and why Keras' own policy gains nothing more.

    python benchmarks/bfloat16.py [--short] [--backbones NAME ...] [--batch N] [--side PIXELS]
                                  [--images FOLDER --model FILE.keras]

Ours is ``train.precision: bfloat16``: TensorFlow's graph optimizer rewrites convolutions and matrix products inside
``kerasall.training.devices.computing_in``. The goals (3 times float32's forward pass and 2 times its training step
for VGG16) need a CPU with amx_bf16; without it ``precision: auto`` stays float32, which the note says, and the ratios
show what an explicit bfloat16 would cost.

The further rows compare the option with Keras' ``mixed_bfloat16`` policy, without and with XLA, and the facts list the
kernels that each runs after all rewriting. With ``--model`` and ``--images`` a trained model's labels and probabilities
under bfloat16 are compared with float32's on real images; else a network with random weights on rendered cells.

Tests: tests/training/test_precision.py (the block rounds inside alone, ``auto`` falls back) and
tests/components/test_classifier_training.py (trains alike, is keyed apart, predicts in float32).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from interleaved import Row, measure, parse, report, row_of
from kernel_times import time_kernels
from rendered_cells import draw_cells

from kerasall.models.backbones import BACKBONES
from kerasall.models.classifier import build_classifier, freeze
from kerasall.models.saving import load_model
from kerasall.runtime import has_amx
from kerasall.training.devices import PRECISIONS, choose_precision, computing_in
from kerasall.training.stages import StageSettings, compile_stage

OPTION, POLICY, FLOAT32 = (PRECISIONS[name] for name in ("onednn_bfloat16", "mixed_bfloat16", "float32"))
GOALS = {("vgg16", "forward"): 3.0, ("vgg16", "step"): 2.0}
"""Of TensorFlow alone; for ResNet50 and DenseNet121 the goal of 3 may be OpenVINO's: see ``runtimes.py``."""


def main() -> None:
    options = parse(
        __doc__,
        ("--backbones", {"nargs": "+", "choices": list(BACKBONES)}),
        ("--batch", {"type": int, "default": 16}),
        ("--side", {"type": int, "help": "pixels; 64 in the short form, else 224"}),
        ("--images", {"help": "folder of real images"}),
        ("--model", {"type": Path, "help": "a trained classifier"}),
    )
    side, batch = options.side or (64 if options.short else 224), 8 if options.short else options.batch
    names = options.backbones or (("vgg16",) if options.short else ("vgg16", "resnet50", "densenet121"))
    cells = draw_cells(64 if options.short else 512, side, options.images)
    rows, facts = [], {"amx_bf16": has_amx(), "precision auto": choose_precision("auto").name}
    for name in names:
        batches = tf.constant(cells.pixels[:batch].astype(np.float32))
        rows += compare_option(name, batches, options.rounds)
        rows += compare_policy(name, batches, options.rounds, facts, xla=name == "vgg16")
        keras.backend.clear_session()
    model = load_model(options.model) if options.model else make_model(names[0], side)
    facts |= compare_answers(model, cells.pixels)
    report("bfloat16", rows, **facts)


def compare_option(name: str, images: tf.Tensor, rounds: int) -> list[Row]:
    """Forward pass and training step, rewritten and not."""
    model = make_model(name, images.shape[1])
    freeze(model, "all", train_batch_norm=True)
    compile_stage(model, StageSettings(learning_rate=1e-5), 1)
    targets = tf.one_hot(np.arange(len(images)) % 2, 2)
    forward = tf.function(lambda each: model(each, training=False), autograph=False)
    ways: dict[str, Callable[[], object]] = {
        "forward": lambda: forward(images).numpy(),
        "step": lambda: model.train_on_batch(images, targets),
    }
    rows = []
    for what, run in ways.items():
        timings = measure({p.name: inside(p, run) for p in (OPTION, FLOAT32)}, rounds)
        goal = GOALS.get((name, what)) if has_amx() else None
        note = "" if has_amx() else "no amx_bf16 here: its goal needs it, and precision: auto stays float32"
        rows.append(
            row_of(
                f"{name} {what}, {len(images)} of {images.shape[1]} px", timings[OPTION.name], timings[FLOAT32.name],
                len(images), goal=goal, note=note,
            )
        )  # fmt: skip
    return rows


def compare_policy(name: str, images: tf.Tensor, rounds: int, facts: dict, xla: bool) -> list[Row]:
    """The option against Keras' policy; what each runs goes into ``facts``."""
    plain = make_model(name, images.shape[1])
    with computing_in(POLICY):
        mixed = make_model(name, images.shape[1])
    ours = inside(OPTION, make_forward(plain, images))
    others = {"policy": make_forward(mixed, images)}
    if xla:
        others["policy under XLA"] = make_forward(mixed, images, jit=True)
    timings = measure({"option": ours, **others}, rounds)
    for side, run in (("option", ours), ("policy", others["policy"])):
        kernels = list(time_kernels(run).items())[:5]
        facts[f"{name}, {side}"] = ", ".join(
            f"{each.count} {kind} {each.milliseconds:.1f} ms" for kind, each in kernels
        )
    if xla:
        facts[f"{name}, convolutions that XLA compiles under the policy"] = count_types(mixed, images)
    return [
        row_of(
            f"{name} forward: the option against Keras' {side}", timings["option"], timings[side], len(images)
        )
        for side in others
    ]


def count_types(model: keras.Model, images: tf.Tensor) -> str:
    """Dtypes of the convolutions in XLA's optimized program."""
    compiled = tf.function(lambda each: model(each, training=False), autograph=False, jit_compile=True)
    program = str(compiled.experimental_get_compiler_ir(images)(stage="optimized_hlo"))
    lines = [
        line.split("=")[1].split("[")[0].strip() for line in program.splitlines() if " convolution(" in line
    ]
    return (
        ", ".join(f"{lines.count(dtype)} in {dtype}" for dtype in sorted(set(lines))) or "none left as such"
    )


def compare_answers(model: keras.Model, pixels: np.ndarray) -> dict[str, float]:
    """Share of images whose label stays, and the greatest difference of a probability."""
    forward = tf.function(lambda each: model(each, training=False), autograph=False)
    found = []
    for precision in (OPTION, FLOAT32):
        with computing_in(precision):
            parts = [
                forward(pixels[i : i + 32].astype(np.float32)).numpy() for i in range(0, len(pixels), 32)
            ]
        found.append(np.concatenate(parts))
    ours, reference = found
    return {
        f"labels unchanged, of {len(pixels)}": float(np.mean(ours.argmax(1) == reference.argmax(1))),
        "greatest difference of a probability": float(np.abs(ours - reference).max()),
    }


def make_model(name: str, side: int) -> keras.Model:
    """Random weights."""
    return build_classifier(name, 2, (side, side), weights="random")


def make_forward(model: keras.Model, images: tf.Tensor, jit: bool = False) -> Callable[[], object]:
    """A compiled forward pass."""
    forward = tf.function(lambda each: model(each, training=False), autograph=False, jit_compile=jit)
    return lambda: forward(images).numpy()


def inside(precision: object, run: Callable[[], object]) -> Callable[[], object]:
    """``run`` within ``computing_in``."""

    def wrapped() -> None:
        with computing_in(precision):  # pyright: ignore[reportArgumentType]
            run()

    return wrapped


if __name__ == "__main__":
    main()
