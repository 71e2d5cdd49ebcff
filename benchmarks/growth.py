"""How time and memory grow with images, members, epochs and trials: slopes on logarithmic axes, none above 1.1.

    python benchmarks/growth.py [--short] [--images-to N]

Every part of the house that meets all images is timed on its own, over the first n of one set of rendered cells
(500 to 4,000 in the short form, 1,000 to 50,000 else): reading and measuring, near duplicates, split and validation,
decoding to a cache on disk, one pass through a small frozen network from there, four epochs of a head, intervals.
Then the members of an ensemble in one graph, the epochs of a head, and the bookkeeping of a designed experiment's
trials, which answer at once.

The slope is that of a least-squares line through log(n) and log(median seconds of all runs). What a part costs
whatever n is (tracing, threads) lowers it, so that the slope between the two largest n stands beside it; parts of
less than half a second that find nothing kept from before are run again, for a tenth of a second tells little.
Near duplicates are sought among all pairs, exactly: nearly all are ruled out by a bound, but each is met, and pairs
of different cells that look alike at 32 px are decoded again. Both grow with the square and outweigh the rest
somewhere above 10,000 images, which the short form cannot show. So the three steps of the search are timed on their
own, too, and the pairs are counted that look alike: these are what is sought, not what a better search could spare.
At 50,000 images the search may take 30 s.

Memory is the most that the process holds above what it held before, sampled every 10 ms; below 32 MiB it is called
flat. tests/data/test_texture_pairs.py (pairs equal to the full product's), tests/data/test_duplicates.py,
tests/models/test_feature_cache.py and their neighbours assert what these parts give.
"""

from __future__ import annotations

import gc
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
import psutil
from interleaved import CONSOLE, parse, report
from rendered_cells import quiet
from rich.table import Table

from kerasall.data import duplicates
from kerasall.data.duplicates import Duplicates, NearDuplicateSettings, exact_duplicates, find_near_duplicates
from kerasall.data.examples import Collection
from kerasall.data.input_pipeline import FeatureBatches, prediction_batches
from kerasall.data.pixel_cache import PixelCache, decode_pixels
from kerasall.data.statistics import ImageScan, scan_images
from kerasall.data.stratification import holdout_split
from kerasall.data.synthetic import SyntheticSettings, render_cells
from kerasall.data.validation import Examined
from kerasall.evaluation.intervals import Scorer
from kerasall.evaluation.predictions import Predictions
from kerasall.models.classifier import build_classifier, freeze, split_at
from kerasall.models.ensembles import build_ensemble
from kerasall.models.prediction import cached_activations, predict_probabilities
from kerasall.preprocessing.operations import Chain
from kerasall.taguchi.oracle import TaguchiOracle
from kerasall.taguchi.tuner import TaguchiTuner
from kerasall.training.fit import StageSettings, fit

GREATEST_SLOPE = 1.1
MOST_SECONDS = {("near duplicates", 50_000): 30}
STEPS = {"_choose_images": "textures", "_nominate": "all pairs", "_confirm": "looked at again"}
"""Of the search for near duplicates: function -> what it does."""
FLAT_BYTES = 32 << 20
LEAST_SECONDS, MOST_REPEATS = 0.5, 5
"""Of one part in one round: what takes less is repeated so long or so often."""
SIDE, PER_SUBJECT = 64, 20


@dataclass
class Part:
    """What was measured of one part of the house.

    Attributes:
        name: of the part.
        unit: what is counted.
        seconds, memory: n -> median seconds, and most bytes above those before, over the rounds.
        runs: n -> seconds of every run.
    """

    name: str
    unit: str
    seconds: dict[int, float] = field(default_factory=dict)
    memory: dict[int, int] = field(default_factory=dict)
    runs: dict[int, list[float]] = field(default_factory=dict)

    def measure(self, amount: int, run: Callable[[], Any], repeatable: bool = False) -> Any:
        """Runs and keeps what it took; what is short and repeatable, more than once."""
        found, taken = None, 0.0
        for _ in range(MOST_REPEATS if repeatable else 1):
            gc.collect()
            with watched_memory() as most:
                started = time.perf_counter()
                found = run()
                seconds = time.perf_counter() - started
            self.runs.setdefault(amount, []).append(seconds)
            self.memory[amount] = max(most[0], self.memory.get(amount, 0))
            taken += seconds
            if taken >= LEAST_SECONDS:
                break
        self.seconds[amount] = statistics.median(self.runs[amount])
        return found

    @property
    def slopes(self) -> tuple[float, float]:
        """Of time: over all amounts, and between the two largest."""
        amounts = sorted(self.seconds)
        return _slope(self.seconds, amounts), _slope(self.seconds, amounts[-2:])

    @property
    def memory_slope(self) -> float:
        """Of memory over all amounts, what is small counted as ``FLAT_BYTES``; 0 where it stays so."""
        if max(self.memory.values()) <= FLAT_BYTES:
            return 0.0
        return _slope({n: max(most, FLAT_BYTES) for n, most in self.memory.items()}, sorted(self.memory))

    @property
    def grows(self) -> bool:
        """Whether time or memory grow faster than they may."""
        return max(self.slopes[0], self.memory_slope) > GREATEST_SLOPE


def _slope(values: dict[int, float] | dict[int, int], amounts: list[int]) -> float:
    found = [max(values[amount], 1e-9) for amount in amounts]
    return float(np.polyfit(np.log(amounts), np.log(found), 1)[0])


@contextmanager
def watched_memory() -> Iterator[list[int]]:
    """A list whose entry ends as the most resident bytes above those at the start."""
    process, most, done = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.01):
            most[0] = max(most[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()
        most[0] = max(most[0], process.memory_info().rss - before)


def main() -> None:
    options = parse(__doc__, ("--images-to", {"type": int, "help": "4,000 in the short form, else 50,000"}))
    most = options.images_to or (4000 if options.short else 50_000)
    amounts = [n for n in (500, 1000, 2000, 4000) if n <= most] if options.short else _spread(most)
    rounds = options.rounds
    parts: dict[str, Part] = {}
    with tempfile.TemporaryDirectory() as folder, quiet():
        images = Images(Path(folder), most)
        network = Network()
        images.run(amounts[0], {}, network)  # imports, threads, traces
        gc.collect()
        gc.freeze()  # else every collection, here and in keras-tuner, looks through all that stands in memory
        for _ in range(rounds):
            for amount in amounts:
                images.run(amount, parts, network)
        grow_epochs(parts, 1 if options.short else rounds)
        grow_trials(parts, (9, 18, 36) if options.short else (9, 27, 81, 243), rounds)
        grow_members(parts, rounds)
    show(parts)
    facts = {part.name: describe(part) for part in parts.values()}
    facts["near duplicates, step by step"] = images.describe_steps()
    missed = [part.name for part in parts.values() if part.grows]
    facts["goal"] = f"no slope above {GREATEST_SLOPE}: " + (f"MISSED by {missed}" if missed else "met")
    for (name, amount), most in MOST_SECONDS.items():
        if seconds := parts[name].seconds.get(amount):
            met = "met" if seconds <= most else "MISSED"
            facts[f"goal of {name}"] = f"{amount:,} images in {most} s: {met}, {seconds:.1f} s"
    report("growth", [], **facts)


def _spread(most: int) -> list[int]:
    return [n for n in (1000, 2500, 5000, 12_500, 25_000, 50_000) if n <= most]


class Network:
    """A small frozen network and its head, traced once."""

    def __init__(self) -> None:
        self.model = build_classifier("mobilenet", 2, (SIDE, SIDE), weights="random", alpha=0.25)
        freeze(self.model)
        self.prefix, self.suffix = split_at(self.model)


class Images:
    """Rendered cells on disk, and every part that meets all of them."""

    def __init__(self, folder: Path, most: int) -> None:
        subjects = -(-most // (2 * PER_SUBJECT))
        settings = SyntheticSettings(subjects_per_class=subjects, images_per_subject=PER_SUBJECT, size=SIDE)
        self._folder, self._collection = folder, render_cells(folder / "cells", settings)
        number = self._collection.examples["subject"].str[1:].astype(int)
        self._rows = self._collection.examples.assign(number=number).sort_values(["number", "id"])
        self._chain = Chain.from_json([{"op": "resize", "height": SIDE, "width": SIDE}])
        self._steps: dict[int, dict[str, float]] = {}

    def run(self, amount: int, parts: dict[str, Part], network: Network) -> None:
        """Measures all parts over the first ``amount`` images; whole subjects but for the last one."""

        def step(name: str, run: Callable[[], Any]) -> Any:
            """What is kept on disk would be found there by a second run: only decoding gets a new folder every time."""
            repeatable = name not in ("frozen pass", "head, 4 epochs")
            return parts.setdefault(name, Part(name, "images")).measure(amount, run, repeatable)

        rows = self._rows.head(amount).drop(columns="number").sort_values("id", ignore_index=True)
        collection = Collection(**{**vars(self._collection), "examples": rows})
        scan: ImageScan = step("read and measure", lambda: scan_images(rows))
        near = step("near duplicates", lambda: self._search(rows, scan))
        step("split and validation", lambda: self._split(collection, scan, near))
        with tempfile.TemporaryDirectory(dir=self._folder) as cache:
            keys = dict(zip(scan.table["id"], scan.table["sha256"], strict=True))
            pixels: PixelCache = step(
                "decoded to disk",
                lambda: decode_pixels(
                    rows["path"].tolist(),
                    self._chain,
                    tempfile.mkdtemp(dir=cache),
                    memory_bytes=1,
                    keys=[keys[each] for each in rows["id"]],
                ),
            )
            features = step(
                "frozen pass", lambda: cached_activations(network.prefix, pixels.pixels, pixels.key, cache)
            )
            targets = np.eye(2, dtype="f4")[(rows["label"] == "all").to_numpy(int)]
            step("head, 4 epochs", lambda: train_head(network, features, targets, 4, Path(cache) / "state"))
        predictions = make_predictions(rows)
        names = ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss")
        step("intervals", lambda: Scorer(predictions, ("all",)).intervals(names))

    def _search(self, rows: pd.DataFrame, scan: ImageScan) -> list[list[str]]:
        """The search, and beside it what each of its steps took this time."""
        taken: dict[str, float] = self._steps.setdefault(len(rows), {})

        def timed(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
            def run_timed(*inputs: Any) -> Any:
                started = time.perf_counter()
                found = run(*inputs)
                taken[name] = time.perf_counter() - started
                if name == "_nominate":
                    taken["pairs"] = len(found)
                return found

            return run_timed

        functions = {name: timed(name, getattr(duplicates, name)) for name in STEPS}
        with mock.patch.multiple(duplicates, **functions):
            return find_near_duplicates(rows, scan, NearDuplicateSettings())

    def describe_steps(self) -> str:
        """Seconds of every step in the last round, and how many pairs looked alike."""
        lines = []
        for amount, taken in sorted(self._steps.items()):
            steps = ", ".join(f"{said} {taken[name]:.2f} s" for name, said in STEPS.items())
            lines.append(f"{amount:,}: {steps} ({taken['pairs']:,.0f} pairs)")
        return "; ".join(lines)

    def _split(self, collection: Collection, scan: ImageScan, near: list[list[str]]) -> None:
        found = Duplicates(exact_duplicates(scan), near)
        Examined(collection, scan, found).find_anomalies()
        holdout_split(collection.examples, found.clusters, shares={"validation": 0.2, "test": 0.2}, seed=0)


def train_head(
    network: Network, features: np.ndarray, targets: np.ndarray, epochs: int, folder: Path
) -> None:
    """Trains the head on stored features."""
    rows = np.arange(len(features))
    fit(
        network.suffix,
        lambda epoch: FeatureBatches(features, targets, batch_size=32, indices=rows, shuffle=(0, epoch)),
        None, StageSettings(epochs=epochs), folder, store_seconds=5,
    )  # fmt: skip


def make_predictions(rows: pd.DataFrame) -> Predictions:
    """Predictions that are right four times in five."""
    random, labels = np.random.default_rng(0), (rows["label"] == "hem").to_numpy(int)
    sure = np.clip(random.normal(0.7, 0.25, len(rows)), 0.01, 0.99)
    probabilities = np.where(labels[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
    subjects = rows["subject"].to_numpy()
    return Predictions(rows["id"].to_numpy(), subjects, subjects, labels, probabilities, ("all", "hem"))


def grow_epochs(parts: dict[str, Part], rounds: int) -> None:
    """A head on the features of 1,000 images, 10 to 80 epochs."""
    part = parts.setdefault("epochs of a head", Part("epochs of a head", "epochs"))
    random = np.random.default_rng(0)
    features = random.normal(size=(1000, 256)).astype("f4")
    targets = np.eye(2, dtype="f4")[random.integers(0, 2, 1000)]
    network = Network()
    for _ in range(rounds):
        for epochs in (10, 20, 40, 80):
            with tempfile.TemporaryDirectory() as folder:
                part.measure(
                    epochs, lambda e=epochs, f=folder: train_head(network, features, targets, e, Path(f))
                )


def grow_trials(parts: dict[str, Part], amounts: tuple[int, ...], rounds: int) -> None:
    """A search's own cost: the oracle, its state on disk, keras-tuner."""
    part = parts.setdefault("trials' bookkeeping", Part("trials' bookkeeping", "trials"))
    factors = dict.fromkeys("abcd", (1, 2, 3))
    for amount in amounts * rounds:
        oracle = TaguchiOracle("accuracy", factors, array="L9(3^4)", repeats=amount // 9)
        with tempfile.TemporaryDirectory() as folder:
            tuner = TaguchiTuner(oracle, run=lambda run: {"accuracy": run.seed % 97 / 97}, directory=folder)
            part.measure(amount, lambda t=tuner: t.search())


def grow_members(parts: dict[str, Part], rounds: int) -> None:
    """One graph of all members over 256 images, and the model of a single one."""
    part = parts.setdefault("members of an ensemble", Part("members of an ensemble", "members"))
    pixels = np.random.default_rng(0).integers(0, 256, (256, SIDE, SIDE, 3), np.uint8)
    members = [
        build_classifier(
            "mobilenet", 2, (SIDE, SIDE), weights="random", alpha=0.25, seed=each, name=f"m{each}"
        )
        for each in range(9)
    ]
    for amount in (1, 3, 9):
        model = members[0]
        if amount > 1:
            ensemble = build_ensemble(members[:amount], "average")
            outputs: Any = ensemble.output  # a dict, which Keras' own annotations forget
            model = keras.Model(ensemble.inputs[0], outputs["probabilities"])
        predict_probabilities(model, prediction_batches(pixels, batch_size=32))  # traces
        for _ in range(rounds):
            batches = prediction_batches(pixels, batch_size=32)
            part.measure(amount, lambda m=model, b=batches: predict_probabilities(m, b))


def show(parts: dict[str, Part]) -> None:
    """Prints all figures."""
    table = Table(title="growth", title_justify="left")
    for heading in ("part", "n: seconds", "slope of time (last two)", "n: MiB", "slope of memory"):
        table.add_column(heading, overflow="fold")
    for part in parts.values():
        seconds = "  ".join(f"{n:,}: {value:.2f}" for n, value in sorted(part.seconds.items()))
        memory = "  ".join(f"{n:,}: {value / 2**20:.0f}" for n, value in sorted(part.memory.items()))
        all_of_them, last = part.slopes
        table.add_row(
            f"{part.name} ({part.unit})", seconds, f"{all_of_them:.2f} ({last:.2f})", memory,
            f"{part.memory_slope:.2f}" if part.memory_slope else "flat",
        )  # fmt: skip
    CONSOLE.print(table)


def describe(part: Part) -> str:
    """One line for the results."""
    slope, last = part.slopes
    memory = f"{part.memory_slope:.2f}" if part.memory_slope else "flat"
    ends = " to ".join(f"{part.seconds[n]:.3g} s at {n:,}" for n in (min(part.seconds), max(part.seconds)))
    ends = f"{ends} {part.unit}"
    return f"slope of time {slope:.2f} ({last:.2f} between the two largest), of memory {memory}; {ends}"


if __name__ == "__main__":
    main()
