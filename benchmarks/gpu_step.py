"""Training steps on a CUDA GPU under JAX, without TensorFlow: step time, images/s, share of the bfloat16 ceiling.

    KERAS_BACKEND=jax python benchmarks/gpu_step.py [--backbones NAME ...] [--batches 64 128 256] [--steps N]
    KERAS_BACKEND=jax python benchmarks/gpu_step.py --tiny     tries the script where there is no GPU

Needs jax[cuda12], keras, numpy, rich and this repository on PYTHONPATH; not part of `make bench`. Ours is kerasall's own
classifier, precision (``choose_precision("auto")``: bfloat16 or float16), XLA and loop (``EpochRunner``); all layers train
from random weights. Pixels lie in a uint8 memory map, cross to the GPU as bytes and are flipped and turned there, inside
the compiled step. The alternative, where torch and torchvision can be imported and have the network, is a plain PyTorch
loop over the same map: pinned batches, the same changes by ``affine_grid``, channels last, autocast, ``torch.compile``.

The ceiling is a bfloat16 product of two matrices of 8192 in the same run. Work is counted as in ``machine_limit.py``.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import keras
import numpy as np
from interleaved import Row, Timing, measure, parse, report, row_of
from keras import ops
from network_work import count_work

from kerasall.models.classifier import build_classifier, freeze
from kerasall.training.devices import choose_precision, computing_in
from kerasall.training.epochs import EpochRunner
from kerasall.training.history import StageLog
from kerasall.training.stages import StageSettings, compile_stage

NAMES = ("mobilenet", "resnet50", "xception", "vgg16")
TORCHVISION = {"resnet50": "resnet50", "vgg16": "vgg16"}


@keras.saving.register_keras_serializable(package="benchmarks")
class FlipAndTurn(keras.layers.Layer):
    """Flips and turns every image by an amount of its own, on the device, while training; bytes in, floats out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(dtype="float32", **options)
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, images: Any, training: bool = False) -> Any:
        images = ops.cast(images, "float32")
        if not training:
            return images
        count, center = ops.shape(images)[0], (images.shape[1] - 1) / 2
        angle = keras.random.uniform((count,), -np.pi, np.pi, seed=self.seeds)
        flip = ops.where(keras.random.uniform((count,), seed=self.seeds) < 0.5, -1.0, 1.0)
        a, b = ops.cos(angle) * flip, -ops.sin(angle)
        c, d = ops.sin(angle) * flip, ops.cos(angle)
        zero = ops.zeros_like(angle)
        rows = [a, b, center - center * (a + b), c, d, center - center * (c + d), zero, zero]
        return ops.image.affine_transform(images, ops.stack(rows, axis=1), fill_mode="reflect")


@dataclass(frozen=True, eq=False)
class MappedBatches:
    """Batches (uint8 pixels, one-hot) of a memory map in a random order."""

    pixels: np.ndarray
    batch: int
    steps: int

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        random = np.random.default_rng(0)
        for _ in range(self.steps):
            rows = np.sort(random.choice(len(self.pixels), self.batch))
            yield self.pixels[rows], np.eye(2, dtype=np.float32)[rows % 2]


def main() -> None:
    options = parse(
        __doc__,
        ("--backbones", {"nargs": "+", "default": NAMES}),
        ("--batches", {"nargs": "+", "type": int, "default": (64, 128, 256)}),
        ("--steps", {"type": int, "default": 20, "help": "of an epoch"}),
        ("--images", {"type": int, "default": 4096, "help": "in the memory map"}),
        ("--tiny", {"action": "store_true", "help": "small sizes on whatever device there is"}),
    )
    if not options.tiny and jax.default_backend() != "gpu":
        raise SystemExit(
            "gpu_step must run on a CUDA GPU that JAX sees, but it sees none: --tiny tries the script"
        )
    if options.tiny:
        options.batches, options.steps, options.images = [4], 2, 16
    precision = choose_precision("auto")
    with tempfile.TemporaryDirectory() as folder:
        side = 72 if options.tiny else 224
        pixels = map_pixels(Path(folder) / "pixels.npy", options.images, side)
        product = make_product(256 if options.tiny else 8192)
        rows = []
        for name in options.backbones:
            for batch in options.batches:
                rows += measure_network(
                    name, MappedBatches(pixels, batch, options.steps), precision, product, options
                )
                keras.backend.clear_session()
    report(
        "gpu_step_tiny" if options.tiny else "gpu_step", rows,
        device=jax.devices()[0].device_kind, precision=precision.name, torch=find_torch() or "not at hand",
    )  # fmt: skip


def measure_network(
    name: str, batches: MappedBatches, precision: Any, product: Any, options: Any
) -> list[Row]:
    """One network at one batch size: share of the ceiling, and against PyTorch where that can be."""
    alpha = 0.25 if options.tiny and name == "mobilenet" else 1.0
    with computing_in(precision):
        classifier = build_classifier(name, 2, batches.pixels.shape[1:3], weights="random", alpha=alpha)
        freeze(classifier, "all", train_batch_norm=True)
        image = keras.Input(classifier.input_shape[1:], dtype="uint8")
        model = keras.Model(image, classifier(FlipAndTurn()(image)))
        compile_stage(model, StageSettings(), len(batches))
    runner = EpochRunner(model, lambda epoch: batches, None, None, None, StageLog("", 1, None))
    epochs = iter(range(1000))
    sides: dict[str, Callable[[], Any]] = {"ours": lambda: runner.run(next(epochs)), "product": product.run}
    if find_torch() and name in TORCHVISION and not options.tiny:
        sides["torch"] = make_torch(TORCHVISION[name], batches, precision.name)
    timings = measure(sides, options.rounds)
    images = batches.batch * batches.steps
    total = count_work(classifier).step * images / 1e12
    seconds = tuple(s * total / product.teraflop for s in timings["product"].seconds)
    what = f"{name}, batch {batches.batch}"
    step = timings["ours"].median / batches.steps * 1e3
    facts = {"step_ms": step, "images_per_second": images / timings["ours"].median}
    ceiling = Timing("bfloat16 product", seconds)
    note = f"{step:.1f} ms a step, {facts['images_per_second']:.0f} images/s"
    rows = [row_of(what, timings["ours"], ceiling, total, "TFLOP/s", note=note, **facts)]
    if "torch" in timings:
        rows.append(row_of(f"{what}: PyTorch", timings["ours"], timings["torch"], images))
    return rows


class Product:
    """A chain of bfloat16 matrix products on the device.

    Attributes:
        teraflop: operations of one ``run``, in units of 10^12.
    """

    def __init__(self, size: int, times: int) -> None:
        self.teraflop = 2 * size**3 * times / 1e12
        self._matrix = jax.random.normal(jax.random.key(0), (size, size), "bfloat16") / size**0.5
        self._chain = jax.jit(
            lambda matrix: jax.lax.fori_loop(0, times, lambda _, each: each @ matrix, matrix)
        )

    def run(self) -> None:
        """Runs it and waits."""
        self._chain(self._matrix).block_until_ready()


def make_product(size: int, times: int = 20) -> Product:
    """The ceiling's work."""
    return Product(size, times)


def map_pixels(path: Path, count: int, side: int) -> np.ndarray:
    """A uint8 memory map [count, side, side, 3] of noise: what images show does not change the work."""
    pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, side, side, 3))
    random = np.random.default_rng(0)
    for start in range(0, count, 256):
        stop = min(start + 256, count)
        pixels[start:stop] = random.integers(0, 256, (stop - start, side, side, 3), np.uint8)
    pixels.flush()
    return np.load(path, mmap_mode="r")


def find_torch() -> str:
    """Version of torch where it and torchvision can be imported and see a GPU, else ""."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "torchvision")):
        return ""
    import torch  # pyright: ignore[reportMissingImports]

    return torch.__version__ if torch.cuda.is_available() else ""


def make_torch(name: str, batches: MappedBatches, precision: str) -> Callable[[], None]:
    """An epoch of a plain PyTorch loop over the same batches."""
    import torch  # pyright: ignore[reportMissingImports]
    import torchvision  # pyright: ignore[reportMissingImports]

    model = getattr(torchvision.models, name)(weights=None, num_classes=2).cuda()
    model = torch.compile(model.to(memory_format=torch.channels_last).train())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    half = torch.float16 if "float16" in precision and "bfloat16" not in precision else torch.bfloat16
    scaler = torch.amp.GradScaler("cuda", enabled=half == torch.float16)

    def change(images: Any) -> Any:
        count = len(images)
        angle = (torch.rand(count, device="cuda") * 2 - 1) * torch.pi
        flip = torch.where(torch.rand(count, device="cuda") < 0.5, -1.0, 1.0)
        zero = torch.zeros_like(angle)
        first = torch.stack([angle.cos() * flip, -angle.sin(), zero], 1)
        second = torch.stack([angle.sin() * flip, angle.cos(), zero], 1)
        grid = torch.nn.functional.affine_grid(
            torch.stack([first, second], 1), images.shape, align_corners=False
        )
        return torch.nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def run() -> None:
        for pixels, targets in batches:
            images = torch.from_numpy(pixels).pin_memory().cuda(non_blocking=True).permute(0, 3, 1, 2)
            labels = torch.from_numpy(targets.argmax(1)).cuda(non_blocking=True)
            images = change(images.float()).div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", half):
                loss = torch.nn.functional.cross_entropy(model(images), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        torch.cuda.synchronize()

    return run


if __name__ == "__main__":
    main()
