"""Training steps: ours, compiled as chosen for this device, against Keras' `fit` with XLA off and on.

    python benchmarks/training_step.py [--short] [--backbones NAME ...] [--batch N] [--side PIXELS] [--count N]

All layers train. Ours is an epoch of kerasall's own loop (``EpochRunner``: order, batches, guard against a loss that
is not finite), the others are what the documentation shows: ``image -> Dataset.shuffle.batch.prefetch``, ``compile``
with the same optimizer and `jit_compile` left alone ("auto", which Keras resolves to False where there is no GPU),
True or False, one ``fit`` call. Pixels are in memory on all sides; state is not written on any. XLA, which can be
many times slower, runs over an eighth of the images (two batches at least), its seconds scaled to all.

Further rows: 16 bits where ``precision: auto`` takes them here; a batch in four parts (``train.accumulate``) and
eight steps a call (``train.steps_per_execution``) against the plain way. Tests beside them:
tests/training/test_accumulation.py (parts and several steps a call train as whole batches one by one do),
tests/training/test_precision.py, tests/training/test_fit.py (``test_direct_steps_give_the_bits_of_model_fit``).

    python benchmarks/training_step.py --torch-python PATH [--backbones NAME ...] [--batch N] [--side PIXELS]

measures something else: MobileNet and ResNet50 at 224 px, batches of 8, three steps a round, against PyTorch's
channels-last step. PATH is the Python of an environment with ``torch`` (the CPU build) and ``numpy``; it runs
``torch_step.py`` in a process of its own, in turn with ours. Beside each row stands what both sides spend their time on.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from interleaved import Row, Timing, compare, measure, parse, report, row_of
from kernel_times import time_kernels
from machine_limit import sum_kinds

from kerasall.data.input_pipeline import EpochSource
from kerasall.models.backbones import BACKBONES
from kerasall.models.classifier import build_classifier, freeze
from kerasall.studies.planning import estimate_memory
from kerasall.training.devices import PRECISIONS, Precision, choose_precision, computing_in
from kerasall.training.epochs import EpochRunner
from kerasall.training.history import StageLog
from kerasall.training.stages import StageSettings, choose_jit, compile_stage

TORCH_STEPS = 3
SETTINGS = StageSettings(epochs=1000, learning_rate=1e-4)


@dataclass(frozen=True, eq=False)
class Images:
    """Random pixels uint8 [N, side, side, 3] and one-hot labels: what they show does not change the work."""

    pixels: np.ndarray
    targets: np.ndarray

    def first(self, count: int) -> Images:
        """The first of them."""
        return Images(self.pixels[:count], self.targets[:count])

    @classmethod
    def draw(cls, count: int, side: int) -> Images:
        pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
        return cls(pixels, np.eye(2, dtype=np.float32)[np.arange(count) % 2])


def main() -> None:
    options = parse(
        __doc__,
        ("--backbones", {"nargs": "+", "choices": list(BACKBONES)}),
        ("--batch", {"type": int, "help": "16, against PyTorch 8"}),
        ("--side", {"type": int, "help": "pixels; 48 in the short form, else 224"}),
        ("--count", {"type": int, "help": "images an epoch"}),
        (
            "--torch-python",
            {"help": "Python of an environment with torch: measures against it, nothing else"},
        ),
    )
    if options.torch_python:
        names, batch, side = (
            options.backbones or ("mobilenet", "resnet50"),
            options.batch or 8,
            options.side or 224,
        )
        found = [
            compare_with_torch(name, batch, side, options.rounds, options.torch_python) for name in names
        ]
        report("torch_step", [row for row, _ in found], torch=found[0][1])
        return
    options.batch = options.batch or 16
    side = options.side or (48 if options.short else 224)
    images = Images.draw(options.count or (32 if options.short else 160), side)
    # The small form of MobileNet in the short one: XLA takes long over the depthwise convolutions of a wide one.
    long = ("mobilenet", "resnet50", "densenet121", "xception", "vgg16")
    rows = []
    for name in options.backbones or (("mobilenet", "vgg16") if options.short else long):
        small = options.short and BACKBONES[name].takes_alpha
        # Epochs so long that what one costs by itself (a dataset of its own: some 15 ms) does not count as a step's.
        own = Images.draw(options.count or 512, side) if small else images
        rows += compare_with_fit(name, own, options.batch, options.rounds, 0.25 if small else 1.0)
        keras.backend.clear_session()
    rows += compare_precision(images, options.batch, options.rounds, options.short)
    rows.append(compare_parts(images, options.batch, options.rounds))
    rows.append(compare_several_steps(options.rounds))
    report(
        "training_step", rows,
        **{"jit chosen": choose_jit(), "precision auto": choose_precision("auto").name}, **say_memory(options.short),
    )  # fmt: skip


def compare_with_fit(name: str, images: Images, batch: int, rounds: int, alpha: float) -> list[Row]:
    """One network: ours against the better of XLA on and off, and against what `fit` does by itself."""
    few = images.first(max(2 * batch, len(images.pixels) // 8))
    sides = {
        "ours": make_ours(make_model(name, images, alpha), images, batch),
        "jit off": make_fit(make_model(name, images, alpha), images, batch, False),
        "jit on": make_fit(make_model(name, few, alpha), few, batch, True),
    }
    timings = measure(sides, rounds)
    share = len(images.pixels) / len(few.pixels)
    timings["jit on"] = Timing("jit on", tuple(share * taken for taken in timings["jit on"].seconds))
    better = min(("jit off", "jit on"), key=lambda side: timings[side].median)
    width = f" {alpha:g}" if alpha != 1 else ""
    count, what = len(images.pixels), f"{name}{width}, batch {batch}, {images.pixels.shape[1]} px"
    # Keras' "auto": no XLA on a CPU, XLA on a GPU.
    default = timings["jit on" if tf.config.list_physical_devices("GPU") else "jit off"]
    return [
        row_of(f"{what}: better of jit on, off", timings["ours"], timings[better], count, goal=0.95),
        row_of(f"{what}: jit on", timings["ours"], timings["jit on"], count),
        row_of(
            f"{what}: plain fit", timings["ours"], Timing('fit, "auto"', default.seconds), count, goal=0.95
        ),
    ]


def compare_with_torch(name: str, batch: int, side: int, rounds: int, python: str) -> tuple[Row, str]:
    """Three steps a round against PyTorch in a process of its own; and its version."""
    images = Images.draw(TORCH_STEPS * batch, side)
    model = make_model(name, images)
    ours = make_ours(model, images, batch)
    script, sizes = (
        Path(__file__).parent / "torch_step.py",
        {"batch": batch, "side": side, "steps": TORCH_STEPS},
    )
    options = [f"--{option}={value}" for option, value in sizes.items()]
    command = [python, str(script), name, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(what: str) -> Any:
            print(what, file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        told = json.loads(process.stdout.readline())
        timings = measure({"ours": ours, "PyTorch, channels last": lambda: ask("run")}, rounds)
        theirs = ask("profile")
        process.stdin.close()
    weights = sum(int(np.prod(each.shape)) for each in model.trainable_variables)
    if weights != told["weights"]:
        raise SystemExit(
            f"{name} must be the same network on both sides, but has {weights:,} and {told['weights']:,} weights"
        )
    mine = sum_kinds(time_kernels(ours, calls=1))
    mine = {kind: spent / TORCH_STEPS for kind, spent in mine.items()}
    said = "; ".join(
        f"{who} spends a step of {sum(spent.values()):.0f} ms of its kernels on "
        + ", ".join(
            f"{kind} {each:.0f}" for kind, each in spent.items() if each >= 0.02 * sum(spent.values())
        )
        for who, spent in (("ours", mine), ("PyTorch", theirs))
    )
    what = f"{name} step, {batch} of {side} px"
    row = row_of(
        what, *timings.values(), amount=len(images.pixels), goal=1.0, note=said, ours_ms=mine, torch_ms=theirs
    )
    return row, f"{told['version']}, {told['threads']} threads"


def compare_precision(images: Images, batch: int, rounds: int, short: bool) -> list[Row]:
    """16 bits against float32, where this device gains; else nothing: ``bfloat16.py`` shows what it would lose."""
    chosen = choose_precision("auto")
    if chosen.name == "float32":
        return []
    rows = []
    for name in ("vgg16",) if short else ("vgg16", "resnet50", "densenet121"):
        sides = []
        for precision in (chosen, PRECISIONS["float32"]):
            with computing_in(precision):
                model = make_model(name, images)
            sides.append((precision.name, make_ours(model, images, batch, precision=precision)))
        ours, other = sides
        rows.append(
            compare(
                f"{name}: precision auto", ours, other, amount=len(images.pixels), rounds=rounds, goal=1.0
            )
        )
    return rows


def compare_parts(images: Images, batch: int, rounds: int) -> Row:
    """What it costs to let a batch pass in four parts."""
    sides = [make_ours(make_model("vgg16", images), images, batch, parts) for parts in (4, 1)]
    return compare(
        f"vgg16, batch {batch} in 4 parts", ("accumulate: 4", sides[0]), ("whole", sides[1]),
        amount=len(images.pixels), rounds=rounds,
        note="no goal: what a quarter of the memory for activations costs",
    )  # fmt: skip


def compare_several_steps(rounds: int) -> Row:
    """Eight steps of a small network a call against one."""
    images = Images.draw(512, 32)
    sides = [make_ours(make_small(), images, 4, steps_per_execution=steps) for steps in (8, 1)]
    return compare(
        "two convolutions, batch 4, 32 px", ("steps_per_execution: 8", sides[0]), ("1", sides[1]),
        amount=len(images.pixels), rounds=rounds,
    )  # fmt: skip


def make_small() -> keras.Model:
    """A network whose steps take about as long as the return to Python between them."""
    layers = keras.layers
    convolutions = [layers.Conv2D(8, 3, strides=2, activation="relu") for _ in range(2)]
    end = [layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")]
    return keras.Sequential([keras.Input((32, 32, 3)), *convolutions, *end])


def make_ours(
    model: keras.Model, images: Images, batch: int, parts: int = 1,
    precision: Precision = PRECISIONS["float32"], **settings: int,
) -> Callable[[], None]:  # fmt: skip
    """An epoch of kerasall's training."""
    count = -(-len(images.pixels) // batch) * parts
    compile_stage(model, replace(SETTINGS, accumulate=parts, **settings), count)

    source = EpochSource(images.pixels, images.targets, batch_size=batch, shuffle=True, parts=parts)
    runner = EpochRunner(model, source.epoch, None, None, None, StageLog("", 1, None))
    epochs = iter(range(1000))

    def run() -> None:
        with computing_in(precision):
            runner.run(next(epochs))

    return run


def make_fit(model: keras.Model, images: Images, batch: int, jit: bool) -> Callable[[], None]:
    """One epoch of ``fit``."""
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"], jit_compile=jit)
    whole = tf.data.Dataset.from_tensor_slices((images.pixels, images.targets))
    dataset = whole.shuffle(len(images.pixels)).batch(batch).prefetch(tf.data.AUTOTUNE)
    return lambda: model.fit(dataset, shuffle=False, verbose=0)  # the dataset shuffles


def make_model(name: str, images: Images, alpha: float = 1.0) -> keras.Model:
    """Random weights, all of which train."""
    model = build_classifier(name, 2, images.pixels.shape[1:3], weights="random", alpha=alpha)
    freeze(model, "all", train_batch_norm=True)
    return model


def say_memory(short: bool) -> dict[str, str]:
    """What parts save, estimated for a paper's batch size."""
    name, batch = ("mobilenet", 32) if short else ("resnet101", 65)
    model = build_classifier(name, 2, (224, 224), weights="random")
    freeze(model, "all", train_batch_norm=True)
    sizes = {parts: estimate_memory(model, -(-batch // parts)) / 2**30 for parts in (1, 4, 8)}
    said = ", ".join(f"{size:.1f} GiB in {parts}" for parts, size in sizes.items())
    return {f"estimated memory of {name} at batch {batch}, 224 px, by parts": said}


if __name__ == "__main__":
    main()
