"""PyTorch's side of ``fine_tuning.py``, in a process and an environment of its own: needs torch and numpy alone.

Reads lines from standard input (``step``, ``forward``, ``profile``) and answers each with one line of JSON. MobileNet,
ResNet50 and VGG16 are written out here with the parameters of Keras Applications' (``fine_tuning.py`` compares
their number), so that no further package need fit this torch.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from torch import nn


def convolution(
    before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> list:
    """Convolution and batch normalisation."""
    layer = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=bias)
    return [layer, nn.BatchNorm2d(after)]


def mobilenet() -> nn.Module:
    """MobileNet of width 1."""
    layers: list[nn.Module] = [*convolution(3, 32, 3, 2), nn.ReLU6(True)]
    width = 32
    for after, stride in [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ]:
        layers += [*convolution(width, width, 3, stride, width), nn.ReLU6(True)]
        layers += [*convolution(width, after, 1), nn.ReLU6(True)]
        width = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2))


class Bottleneck(nn.Module):
    """One block of ResNet50; biases before batch normalisation, and the stride in the first convolution, as in Keras'."""

    def __init__(self, before: int, width: int, stride: int, project: bool) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *convolution(before, width, 1, stride, bias=True), nn.ReLU(True),
            *convolution(width, width, 3, bias=True), nn.ReLU(True), *convolution(width, 4 * width, 1, bias=True),
        )  # fmt: skip
        self.side = (
            nn.Sequential(*convolution(before, 4 * width, 1, stride, bias=True)) if project else nn.Identity()
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu_(self.main(images) + self.side(images))


def resnet50() -> nn.Module:
    """ResNet50."""
    layers: list[nn.Module] = [*convolution(3, 64, 7, 2, bias=True), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    before = 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(count):
            layers.append(Bottleneck(before, width, stride if number == 0 else 1, number == 0))
            before = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 2))


def vgg16() -> nn.Module:
    """The convolutions of VGG16, with a pooled head."""
    layers: list[nn.Module] = []
    before = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(True)]
            before = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 2))


NETWORKS = {"mobilenet": mobilenet, "resnet50": resnet50, "vgg16": vgg16}


class Side:
    """A network that trains and answers on random images, channels last."""

    def __init__(self, name: str, batch: int, side: int, steps: int) -> None:
        self.batch = batch
        self.pixels = np.random.default_rng(0).integers(0, 256, (batch * steps, 3, side, side), np.uint8)
        self.model = NETWORKS[name]().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        self.labels = torch.arange(batch * steps) % 2

    def batches(self) -> Any:
        """Float images in -1..1 and labels; the bytes are turned into floats inside, as on the other side."""
        for start in range(0, len(self.pixels), self.batch):
            images = torch.from_numpy(self.pixels[start : start + self.batch]).float().div_(127.5).sub_(1)
            yield (
                images.contiguous(memory_format=torch.channels_last),
                self.labels[start : start + self.batch],
            )

    def step(self) -> None:
        """An epoch of training."""
        self.model.train()
        for images, labels in self.batches():
            self.optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(self.model(images), labels).backward()
            self.optimizer.step()

    def forward(self) -> None:
        """All images once, in inference mode."""
        self.model.eval()
        with torch.inference_mode():
            for images, _ in self.batches():
                self.model(images)

    def profile(self) -> dict[str, float]:
        """Milliseconds a step by operation, the slowest first."""
        with torch.profiler.profile() as profile:
            self.step()
        spent: dict[str, float] = defaultdict(float)
        for event in profile.key_averages():
            spent[event.key] += event.self_cpu_time_total / 1e3 / (len(self.pixels) / self.batch)
        return dict(sorted(spent.items(), key=lambda each: -each[1]))


def main() -> None:
    name, *numbers = sys.argv[1:]
    torch.manual_seed(0)
    side = Side(name, *map(int, numbers))
    parameters = sum(each.numel() for each in side.model.parameters())
    said = {"parameters": parameters, "torch": torch.__version__, "threads": torch.get_num_threads()}
    print(json.dumps(said), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        found = getattr(side, line.strip())()
        print(json.dumps(found or time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()
