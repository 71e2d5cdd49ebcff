"""What the benchmarks of training share: rendered cells, or real ones from a folder, as rows to learn on, and a clock."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from kerasall.data.cell_drawing import draw_image
from kerasall.data.development import Development, Facts
from kerasall.data.pixel_cache import PixelCache
from kerasall.data.sources import detect_source, read_source
from kerasall.data.splits import Split
from kerasall.decoding import DEFAULT_LIMITS, decode, read_image_bytes


@dataclass(frozen=True, eq=False)
class Cells:
    """Pixels uint8 [N, side, side, 3] and what the components want to know of them."""

    pixels: np.ndarray
    data: Development

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.data.facts.labels)

    @property
    def targets(self) -> np.ndarray:
        """One-hot labels, float32 [N, classes]."""
        return np.eye(self.classes, dtype=np.float32)[self.data.labels]

    def dataset(self, part: str) -> tf.data.Dataset:
        """Pixels and targets of a part, one by one."""
        rows = self.data.rows_of(part)
        return tf.data.Dataset.from_tensor_slices((self.pixels[rows], self.targets[rows]))

    @property
    def cache(self) -> PixelCache:
        """The pixels under a key of their own."""
        return PixelCache(self.pixels, f"benchmark {self.pixels.shape}", None, 0)


def draw_cells(count: int, side: int, images: str | Path | None = None) -> Cells:
    """Two classes of rendered cells, or some images of a folder that kerasall reads; a fifth validates."""
    if images is None:
        labels = np.arange(count) % 2
        names = ("all", "hem")
        shows = [(int(label), number // 2 % 10, number) for number, label in enumerate(labels)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            pixels = np.stack(list(threads.map(lambda each: draw_image("cnmc", 0, each, side), shows)))
    else:
        examples = (
            read_source(detect_source(images), images).examples.sample(frac=1, random_state=0).head(count)
        )
        names = tuple(sorted(set(examples["label"])))
        labels = examples["label"].map(names.index).to_numpy()
        pixels = np.stack([_read(path, side) for path in examples["path"]])
    ids = [f"{number:06d}" for number in range(len(labels))]
    table = pd.DataFrame({"id": ids, "label": [names[each] for each in labels], "path": ids, "sha256": ids})
    table = table.assign(subject=ids, group=ids, fold="")
    table["part"] = ["train" if number // 2 % 5 else "validation" for number in range(len(ids))]
    split = Split("holdout", table[["id", "label", "subject", "group", "part"]], 0)
    facts = Facts(names, names[:1], "subject", "benchmark", (), "0")
    return Cells(pixels, Development(table, split, facts, []))


class EpochClock(keras.callbacks.Callback):
    """Seconds of every epoch with its validation."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds.append(time.perf_counter() - self._started)


def make_fit(model: keras.Model, cells: Cells, batch_size: int) -> Callable[[int, EpochClock], None]:
    """How a compiled model is fitted on pixels as Keras' documentation has it, for a number of epochs."""
    train = cells.dataset("train").cache().shuffle(1000).batch(batch_size).prefetch(tf.data.AUTOTUNE)
    watched = cells.dataset("validation").batch(batch_size).cache().prefetch(tf.data.AUTOTUNE)

    def fit(epochs: int, clock: EpochClock) -> None:
        model.fit(train, validation_data=watched, epochs=epochs, callbacks=[clock], shuffle=False, verbose=0)

    return fit


@dataclass
class EpochByEpoch:
    """A fit of which a short form runs but two epochs a round, on the same model: all later ones do the same work.

    The second one counts: the first takes memory back that the other side had, up to thrice its time.

    Attributes:
        fit: trains for a number of epochs, tells the callback.
        first: seconds of building the model and of its first epoch.
    """

    fit: Callable[[int, EpochClock], None]
    first: float

    def seconds(self, epochs: int) -> float:
        """Runs two epochs; what building and so many epochs take."""
        clock = EpochClock()
        self.fit(2, clock)
        return self.first + (epochs - 1) * clock.seconds[-1]


@contextlib.contextmanager
def quiet():
    """Hides the log lines of epochs."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def _read(path: str, side: int) -> np.ndarray:
    pixels = decode(read_image_bytes(path, DEFAULT_LIMITS), DEFAULT_LIMITS, path)
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
