"""A whole `kerasall run aria_mobilenet`, step by step, beside its limit and beside what one would write by hand.

    python benchmarks/whole_run.py [--short] [--images FOLDER] [--weights FOLDER] [--rounds N] [--fastai PYTHON]

Ours is the command as a user gives it, in a process and a folder of its own: five folds of 40 epochs, final model,
calibration, export, scores, report. Its seconds and processor seconds are read off as its lines appear; inside, every
pass of a network counts its own (with tracing and conversion). The limit is one float32 pass of the frozen network over
the same pixels, in memory already, by whichever of TensorFlow, folded weights, OpenVINO and ONNX Runtime needs the fewest
processor seconds here, converted and warmed up before. Seconds of a processor count where a goal is set against the
limit: they hardly depend on what else the machine does.

By hand is Keras' own guide: ``image_dataset_from_directory``, cached and prefetched, base frozen and called with
``training=False``, ``fit`` with validation, 40 epochs for each of five folds and for the final model. One such fit is
built, trains an epoch that reads the files, then one epoch a round: six times the first and 234 times the second are
counted; it calibrates, exports and reports nothing. With ``--fastai`` (an interpreter with fastai and timm) fastai's
``Learner`` trains a frozen MobileNet with the same head, counted alike; weights are random there.

``--images`` takes the Original folder of the four-class set; without it cells are rendered, without ``--weights`` random
weights taken: neither changes the work. The short form has 100 small images, of which the fixed costs are most: its goals
cannot be asked for. tests/models/test_passes.py and tests/components/test_stored_features.py hold the fast pass equal
to the slow one, tests/training/test_fit.py the head's steps equal to Keras'.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import psutil
from interleaved import Row, Timing, parse, report, row_of

from kerasall.runtime import quiet_tensorflow

CONFIG = "aria_mobilenet"
EPOCHS, FITS, BATCH = 40, 6, 32
START = "start of the process"
STATISTICS = "picture_statistics"
"""Name of the model that measures pictures: no network."""
FASTAI = """
import json, sys, time
from functools import partial
from fastai.vision.all import *
folder, side, batch, rounds = sys.argv[1], *map(int, sys.argv[2:])
import timm
dls = ImageDataLoaders.from_folder(
    folder, valid_pct=0.2, seed=0, item_tfms=Resize(side, method="squish"), bs=batch, num_workers=0, device=torch.device("cpu")
)
body = timm.create_model("mobilenetv1_100", pretrained=False, num_classes=0, drop_rate=0.0)
model = nn.Sequential(body, nn.Sequential(nn.Dropout(0.2), nn.Linear(body.num_features, dls.c)))
learn = Learner(dls, model, metrics=accuracy, splitter=lambda m: [params(m[0]), params(m[1])], train_bn=False)
learn.freeze()
taken = []
for _ in range(rounds):
    begun, used = time.perf_counter(), time.process_time()
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 3e-3)
    taken.append([time.perf_counter() - begun, time.process_time() - used])
print(json.dumps(taken))
"""


@dataclass
class Taken:
    """Seconds of the clock and of the processors, by part."""

    clock: Counter[str] = field(default_factory=Counter)
    processor: Counter[str] = field(default_factory=Counter)

    def add(self, part: str, clock: float, processor: float) -> None:
        self.clock[part] += clock
        self.processor[part] += processor


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        run_watched(Path(sys.argv[2]), sys.argv[3:])
        return
    options = parse(
        __doc__,
        ("--images", {"type": Path, "help": "the four-class set's Original instead of rendered cells"}),
        ("--weights", {"type": Path, "help": "folder of ImageNet weights instead of random ones"}),
        ("--fastai", {"help": "Python of an environment with fastai and timm"}),
    )
    rounds = min(options.rounds, 2) if options.short else options.rounds
    side = 64 if options.short else 224
    with tempfile.TemporaryDirectory(prefix="kerasall-") as work, quiet_tensorflow():
        images = options.images or render(Path(work) / "cells", 5 if options.short else 26, side)
        pixels = read_pixels(images, side)
        weights = find_weights(options.weights) or draw_weights(Path(work) / "random.weights.h5", pixels[:64])
        command = prepare(Path(work), images, side, weights)
        limit, by_hand = Limit(pixels, weights), ByHand(images, side)
        runs = []
        for number in range(rounds):
            parts = [lambda: runs.append(run_once(command, Path(work))), limit.run, by_hand.run]
            for part in parts if number % 2 == 0 else reversed(parts):
                part()
        fastai = time_fastai(options.fastai, images, side, rounds)
        rows = list_rows(runs, limit, by_hand, fastai, not options.short)
        report("whole_run", rows, **describe(runs, limit, options))


def render(folder: Path, subjects: int, side: int) -> Path:
    """Four classes of rendered cells: 100 of five subjects each, or 2,600 of 26."""
    from kerasall.data.synthetic import SyntheticSettings, render_cells

    settings = SyntheticSettings(kind="aria", subjects_per_class=subjects, images_per_subject=5 if subjects < 26 else 25, size=side)  # fmt: skip
    render_cells(folder, settings)
    return folder


def read_pixels(images: Path, side: int) -> np.ndarray:
    """All of them, uint8 [N, side, side, 3]."""
    from kerasall.data.pixel_cache import decode_pixels
    from kerasall.preprocessing.operations import Chain
    from kerasall.serving.image_files import find_images

    chain = Chain.from_json([{"op": "resize", "height": side, "width": side}])
    return decode_pixels([Path(path) for path in find_images([str(images)])], chain).pixels


def find_weights(folder: Path | None) -> Path | None:
    """MobileNet's file in a folder of ImageNet weights."""
    from kerasall.models.backbones import get_backbone

    return None if folder is None else folder / get_backbone("mobilenet").weights[1.0].name


def draw_weights(path: Path, pixels: np.ndarray) -> Path:
    """Random weights whose batch normalisation knows the pixels: else activations vanish, and nothing is to be learnt."""
    import keras

    from kerasall.models.base import build_backbone

    base = build_backbone("mobilenet", pixels.shape[1:3], weights="random")
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    base(pixels.astype(np.float32) / 127.5 - 1, training=True)
    base.save_weights(path)
    return path


def prepare(work: Path, images: Path, side: int, weights: Path) -> list[str]:
    """The command, and the config: the shipped one but for images, their size and weights."""
    lines = [
        f"extends: {CONFIG}",
        f"preprocess: [{{op: resize, height: {side}, width: {side}}}]",
        f"model: {{weights: {json.dumps(str(weights))}}}",
        "data: {source: auto}",
    ]
    (work / "whole.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["run", str(work / "whole.yaml"), "--data", str(images)]


def run_once(command: list[str], work: Path) -> Taken:
    """The command in a process of its own and from nothing; what each step took, and its passes by network."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        places = {"KERASALL_RUNS": f"{folder}/runs", "KERASALL_SAVEDMODELS": f"{folder}/savedmodels"}
        passes = Path(folder) / "passes.json"
        before, begun = used_by_children(), time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, __file__, "--child", str(passes), *command], env=os.environ | places, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        taken, said = Taken(), []
        clock, used = begun, 0.0
        for line in process.stderr or ():
            said.append(line)
            part = find_part(line)
            if part is not None:
                now = used_by(process.pid)
                taken.add(part, time.perf_counter() - clock, now - used)
                clock, used = time.perf_counter(), now
        if process.wait():
            sys.exit("".join(said[-20:]))
        taken.add("end", time.perf_counter() - clock, used_by_children() - before - used)
        for name, seconds in json.loads(passes.read_text(encoding="utf-8")).items():
            taken.add(f"passes of {name}", 0.0, seconds)
        return taken


def find_part(line: str) -> str | None:
    """Which part of the run has ended with a line of it."""
    if line.startswith("[1/") and line.rstrip().endswith("..."):
        return START
    head, _, tail = line.partition(": ")
    return head.split("] ")[1] if line.startswith("[") and tail.startswith("done in") else None


def used_by(process: int) -> float:
    """Processor seconds of a process and of what it has started."""
    return sum(psutil.Process(process).cpu_times()[:4])


def used_by_children() -> float:
    """Processor seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_watched(passes: Path, command: list[str]) -> None:
    """Becomes kerasall; writes down the processor seconds of every network's passes."""
    with quiet_tensorflow():
        from kerasall.cli.app import main as run
        from kerasall.models import prediction
    used: Counter[str] = Counter()
    pass_images = prediction._run

    def watch(model: Any, *arguments: Any) -> Iterator[Any]:
        answers, begun = pass_images(model, *arguments), time.process_time()
        for answer in answers:
            used[model.name] += time.process_time() - begun
            yield answer
            begun = time.process_time()

    prediction._run = watch
    try:
        run(command)
    finally:
        passes.write_text(json.dumps(used), encoding="utf-8")


class Limit:
    """One pass of the frozen network by the runtime that needs the fewest processor seconds.

    Attributes:
        name: of that runtime.
        taken: of every round.
        tried: processor seconds of every runtime over the first images.
    """

    def __init__(self, pixels: np.ndarray, weights: Path) -> None:
        from kerasall.models.classifier import build_classifier, split_at

        self.pixels = pixels
        model = build_classifier("mobilenet", 4, pixels.shape[1:3], weights=weights)
        self._prefix = split_at(model)[0]
        self.taken: list[tuple[float, float]] = []
        self.tried: dict[str, float] = {}
        sides = dict(self._list_sides())
        for name, run in sides.items():
            run(self.pixels[:64])
            self.tried[name] = measure(lambda r=run: r(self.pixels[:512]))[1]
        self.name = min(self.tried, key=self.tried.__getitem__)
        self._run = sides[self.name]

    def _list_sides(self) -> Iterable[tuple[str, Callable[[np.ndarray], Any]]]:
        from kerasall.models.passes import WAYS
        from kerasall.models.prediction import _forward

        forward = _forward(self._prefix, "uint8")
        for way in WAYS:
            if way.is_installed:
                yield way.key, partial(pass_batches, way.open(forward))
        with suppress(ImportError):
            yield "onnxruntime", open_onnx(forward)

    def run(self) -> None:
        self.taken.append(measure(lambda: self._run(self.pixels)))


def open_onnx(forward: Any) -> Callable[[np.ndarray], Any]:
    """The same graph in ONNX Runtime, one thread for each core."""
    import onnxruntime
    import tf2onnx

    found, _ = tf2onnx.convert.from_function(forward, input_signature=forward.input_signature, opset=17)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(found.SerializeToString(), options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    pool = ThreadPoolExecutor(os.cpu_count())
    return lambda pixels: list(pool.map(lambda each: session.run(None, {name: each}), cut(pixels, 4)))


def pass_batches(forward: Callable[[np.ndarray], Any], pixels: np.ndarray) -> None:
    for batch in cut(pixels, 128):
        np.asarray(forward(batch))


def cut(pixels: np.ndarray, size: int) -> list[np.ndarray]:
    return [pixels[start : start + size] for start in range(0, len(pixels), size)]


class ByHand:
    """One fit of a frozen MobileNet as Keras' guide has it, an epoch a round.

    Attributes:
        first: seconds of the clock and of the processors of building it and of the epoch that reads the files.
        taken: of a later epoch, every round.
    """

    def __init__(self, images: Path, side: int) -> None:
        import keras
        import tensorflow as tf

        def build() -> None:
            parts = keras.utils.image_dataset_from_directory(
                images, label_mode="categorical", image_size=(side, side), batch_size=BATCH, validation_split=0.2,
                subset="both", seed=0, verbose=False,
            )  # fmt: skip
            self._batches = [part.cache().prefetch(tf.data.AUTOTUNE) for part in parts]
            base = keras.applications.MobileNet(input_shape=(side, side, 3), include_top=False, weights=None)
            base.trainable = False
            image = keras.Input((side, side, 3))
            features = base(keras.layers.Rescaling(1 / 127.5, -1)(image), training=False)
            pooled = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(features))
            self._model = keras.Model(image, keras.layers.Dense(4, activation="softmax")(pooled))
            self._model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
            self._fit()

        self.first = measure(build)
        self.taken: list[tuple[float, float]] = []

    def _fit(self) -> None:
        self._model.fit(self._batches[0], validation_data=self._batches[1], shuffle=False, verbose=0)

    def run(self) -> None:
        self.taken.append(measure(self._fit))


def measure(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the clock and of the processors."""
    begun, used = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - begun, time.process_time() - used


def time_fastai(python: str | None, images: Path, side: int, rounds: int) -> list[tuple[float, float]]:
    """The first epoch of fastai and as many more as there are rounds; none without an interpreter that has it."""
    if python is None:
        return []
    command = [python, "-c", FASTAI, str(images), str(side), str(BATCH), str(1 + rounds)]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:  # all else has been timed by then
        print(f"fastai was not timed: {found.stderr.strip().splitlines()[-1:]}")
        return []
    return json.loads(found.stdout.splitlines()[-1])


def scale(first: tuple[float, float], taken: list[tuple[float, float]], which: int) -> tuple[float, ...]:
    """Seconds of all fits, one figure a round: each fit has a first epoch."""
    return tuple(FITS * first[which] + FITS * (EPOCHS - 1) * each[which] for each in taken)


def list_rows(
    runs: list[Taken], limit: Limit, by_hand: ByHand, fastai: list[tuple[float, float]], full: bool
) -> list[Row]:
    """The comparisons; goals are those of the full size."""
    count = len(limit.pixels)
    of_limit = Timing(f"one pass, {limit.name}", tuple(each[1] for each in limit.taken))
    processor = Timing("kerasall run", tuple(sum_steps(each.processor) for each in runs))
    clock = Timing("kerasall run", tuple(sum_steps(each.clock) for each in runs))
    passes = Timing("passes of networks", tuple(sum_passes(each.processor) for each in runs))
    started = Timing(
        "kerasall run, started", tuple(sum_steps(each.processor) - each.processor[START] for each in runs)
    )
    what = f"{count:,} images"
    rows = [
        row_of(
            f"{what}: passes", passes, of_limit, count, "images/processor s", 1 / 1.5 if full else None,
            "goal: at most 1.5 times the limit",
        ),
        row_of(
            f"{what}: all steps", started, of_limit, count, "images/processor s", 1 / 3 if full else None,
            "goal: at most 3 times the limit, without the start of the process",
        ),
    ]  # fmt: skip
    others = {"fit by hand": (by_hand.first, by_hand.taken)}
    others |= {"fastai": (fastai[0], fastai[1:])} if fastai else {}
    for name, (first, taken) in others.items():
        for which, ours, unit in ((0, clock, "runs/s"), (1, processor, "runs/processor s")):
            theirs = Timing(name, scale(first, taken, which))
            goal = 60 if full and which == 0 and name == "fit by hand" else None
            note = f"medians {ours.median:.1f} and {theirs.median:.0f} s; {name}: of {FITS} fits one, of its {EPOCHS} epochs {1 + len(taken)}"
            rows.append(row_of(f"{what}: {unit.split('/')[1]}, {name}", ours, theirs, 1, unit, goal, note))
    return rows


def sum_steps(seconds: Counter[str]) -> float:
    """Of the whole process."""
    return sum(each for part, each in seconds.items() if not part.startswith("passes of"))


def sum_passes(seconds: Counter[str]) -> float:
    """Of all passes of networks and of their heads."""
    wanted = (p for p in seconds if p.startswith("passes of") and not p.endswith(STATISTICS))
    return sum(seconds[part] for part in wanted)


def describe(runs: list[Taken], limit: Limit, options: Any) -> dict[str, str]:
    """Medians of every part of the run, and what the limit was chosen from."""
    facts = {}
    for part in runs[0].processor:
        clock, processor = (statistics.median(each[part] for each in side) for side in zip(*((r.clock, r.processor) for r in runs), strict=True))  # fmt: skip
        facts[part] = f"{processor:.2f} processor s" + (f", {clock:.2f} s" if clock else "")
    facts["limit"] = ", ".join(f"{name} {seconds:.2f}" for name, seconds in limit.tried.items()) + (
        f" processor s over {min(512, len(limit.pixels))} images"
    )
    facts["fastai"] = "beside it" if options.fastai else "not run: --fastai PYTHON"
    facts["images, weights"] = (
        f"{'real' if options.images else 'rendered'}, {'ImageNet' if options.weights else 'random'}"
    )
    return facts


if __name__ == "__main__":
    main()
