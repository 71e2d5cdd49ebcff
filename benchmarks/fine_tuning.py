"""Fine-tuning of all layers at full size against PyTorch on the same cores, and what the step spends its time on.

    python benchmarks/fine_tuning.py --torch-python PYTHON [--backbones NAME ...] [--batch N] [--side PIXELS] [--steps N]

PYTHON is that of another environment, with torch and numpy (tried: torch 2.13.0, its build for processors). Ours is an
epoch of kerasall's own loop, as in ``training_step.py``; the other (``torch_step.py``) the documentation's loop:
channels last, Adam, cross entropy. Each side is a process with all cores, and waits while the other runs. Both
networks have the same number of parameters that train, which is checked. Not part of `make bench`: it needs torch.

Below the table stand the operations that take most of a step, as each side's own profiler names them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from interleaved import Row, measure, parse, report, row_of
from kernel_times import time_kernels
from training_step import Images, make_model, make_ours

from kerasall.models.prediction import predict_probabilities

NAMES = ("mobilenet", "resnet50", "vgg16")
SHOWN = 8
"""Operations named below the table, of each side."""


class Torch:
    """The other process.

    Attributes:
        said: what it is: ``parameters``, ``torch``, ``threads``.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.said: dict[str, Any] = self._read()

    def ask(self, what: str) -> Any:
        """Sends a line and waits for the answer."""
        assert self._process.stdin
        print(what, file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the other side ended: its message stands above")
        return json.loads(line)


@contextmanager
def other_side(python: str, name: str, batch: int, side: int, steps: int) -> Iterator[Torch]:
    """PyTorch's process, for as long as it is asked."""
    command = [python, str(Path(__file__).with_name("torch_step.py")), name, *map(str, (batch, side, steps))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Torch(process)
        finally:
            process.kill()


def main() -> None:
    options = parse(
        __doc__,
        ("--torch-python", {"required": True, "help": "Python of an environment with torch"}),
        ("--backbones", {"nargs": "+", "choices": NAMES, "default": NAMES}),
        ("--batch", {"type": int, "default": 16}),
        ("--side", {"type": int, "default": 224, "help": "pixels"}),
        ("--steps", {"type": int, "default": 3, "help": "of an epoch"}),
    )
    rows, facts = [], {}
    for name in options.backbones:
        with other_side(options.torch_python, name, options.batch, options.side, options.steps) as other:
            found, spent = compare_network(name, other, options)
            rows += found
            facts |= spent | {key: other.said[key] for key in ("torch", "threads")}
        keras.backend.clear_session()
    report("fine_tuning", rows, **facts)


def compare_network(name: str, other: Torch, options: Any) -> tuple[list[Row], dict[str, str]]:
    """Step and forward pass of one network on both sides; where each spends its step."""
    images = Images.draw(options.batch * options.steps, options.side)
    model = make_model(name, images)
    require_equal(name, model, other)
    batches = [
        images.pixels[start : start + options.batch] for start in range(0, len(images.pixels), options.batch)
    ]
    sides = {
        "step": make_ours(model, images, options.batch),
        "PyTorch, step": lambda: other.ask("step"),
        "forward": lambda: predict_probabilities(model, batches),
        "PyTorch, forward": lambda: other.ask("forward"),
    }
    timings = measure(sides, options.rounds)
    what, count = f"{name}, batch {options.batch}, {options.side} px", len(images.pixels)
    rows = [
        row_of(f"{what}: step", timings["step"], timings["PyTorch, step"], count, goal=1.0),
        row_of(f"{what}: forward", timings["forward"], timings["PyTorch, forward"], count),
    ]
    first = images.first(options.batch)
    return rows, {
        f"{name}, ours, a step": say(
            {kind: each.milliseconds for kind, each in profile_step(model, first).items()}
        ),
        f"{name}, PyTorch, a step": say(other.ask("profile")),
    }


def profile_step(model: keras.Model, images: Images) -> Any:
    """Kernels of one training step."""
    model.make_train_function()
    dataset = tf.data.Dataset.from_tensors((images.pixels, images.targets)).repeat()
    iterator = iter(dataset)
    return time_kernels(lambda: model.train_function(iterator))


def require_equal(name: str, model: keras.Model, other: Torch) -> None:
    """Both networks have as many parameters that train."""
    ours, theirs = sum(int(v.numpy().size) for v in model.trainable_variables), other.said["parameters"]
    if ours != theirs:
        raise SystemExit(
            f"{name} must have as many parameters on both sides, but has {ours:,} and {theirs:,}"
        )


def say(milliseconds: dict[str, float]) -> str:
    """The slowest operations, and what all take together."""
    shown = list(milliseconds.items())[:SHOWN]
    return (
        ", ".join(f"{name} {spent:.0f}" for name, spent in shown)
        + f"; all {sum(milliseconds.values()):.0f} ms"
    )


if __name__ == "__main__":
    main()
