"""Training steps of plain PyTorch on this machine's processor, for ``training_step.py --torch-python``.

    PYTHON benchmarks/torch_step.py NAME --batch N --side PIXELS --steps N

Runs where torch and numpy are all there is. Networks are laid out as Keras' own (ResNet50 strides in the first 1 x 1
convolution of a block and has biases), float32, channels last, Adam, all layers train, not compiled. Pixels are bytes
in memory, as on the other side. Reads lines: "run" answers the seconds of so many steps, "profile" the milliseconds a
step of each kind of operation. The first line that it writes tells the version, threads and number of weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

EPSILON, MOMENTUM = 1.001e-5, 0.01
KINDS = {
    "conv": "convolution",
    "mm": "matrix product",
    "pool": "pooling",
    "batch_norm": "batch normalisation",
}


def convolve(
    before: int, after: int, side: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> list:
    """A convolution and its batch normalisation."""
    layer = nn.Conv2d(before, after, side, stride, padding=side // 2, groups=groups, bias=bias)
    return [layer, nn.BatchNorm2d(after, EPSILON, MOMENTUM)]


def build_mobilenet() -> nn.Module:
    """MobileNet of width 1."""
    layers, before = [*convolve(3, 32, 3, 2), nn.ReLU6(inplace=True)], 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for after, stride in plan:
        layers += [*convolve(before, before, 3, stride, groups=before), nn.ReLU6(inplace=True)]
        layers += [*convolve(before, after, 1), nn.ReLU6(inplace=True)]
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 2))


class Bottleneck(nn.Module):
    """A block of ResNet50."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *convolve(before, width, 1, stride, bias=True), nn.ReLU(inplace=True),
            *convolve(width, width, 3, bias=True), nn.ReLU(inplace=True),
            *convolve(width, 4 * width, 1, bias=True),
        )  # fmt: skip
        changes = before != 4 * width
        self.shortcut = nn.Sequential(*(convolve(before, 4 * width, 1, stride, bias=True) if changes else []))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Adds what the body makes of the maps to them."""
        return torch.relu_(self.body(maps) + self.shortcut(maps))


def build_resnet50() -> nn.Module:
    """ResNet50, first version."""
    layers, before = [*convolve(3, 64, 7, 2, bias=True), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)], 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(blocks):
            layers.append(Bottleneck(before, width, stride if number == 0 else 1))
            before = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 2))


NETWORKS = {"mobilenet": build_mobilenet, "resnet50": build_resnet50}


def make_step(name: str, batch: int, side: int) -> tuple[nn.Module, Callable[[], None]]:
    """The network, and what takes one step over random bytes."""
    model = NETWORKS[name]().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
    labels = torch.arange(batch) % 2

    def step() -> None:
        images = (
            torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        )  # stays channels last
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return model, step


def profile(step: Callable[[], None]) -> dict[str, float]:
    """Milliseconds of one step by kind of operation, the largest first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        step()
    spent: dict[str, float] = {}
    for event in found.key_averages():
        kind = next(
            (said for word, said in KINDS.items() if word in event.key), "elementwise work and copies"
        )
        spent[kind] = spent.get(kind, 0.0) + event.self_cpu_time_total / 1e3
    return dict(sorted(spent.items(), key=lambda each: -each[1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=list(NETWORKS))
    for option, default in (("--batch", 8), ("--side", 224), ("--steps", 3)):
        parser.add_argument(option, type=int, default=default)
    options = parser.parse_args()
    model, step = make_step(options.name, options.batch, options.side)
    weights = sum(each.numel() for each in model.parameters())
    ready = {"version": torch.__version__, "threads": torch.get_num_threads(), "weights": weights}
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        if line.strip() == "profile":
            print(json.dumps(profile(step)), flush=True)
            continue
        started = time.perf_counter()
        for _ in range(options.steps):
            step()
        print(json.dumps(time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
