"""The same SavedModel answered by TensorFlow, OpenVINO and ONNX Runtime: `kerasall predict --runtime`.

    python benchmarks/runtimes.py [--short] [--networks NAME ...] [--models SAVEDMODEL ...] [--images FOLDER] [--count N]

Every side is ``Predictor.predict`` on the bytes of image files: header check, decoding and resizing, the network in the
runtime. The alternative is the SavedModel's own signature in TensorFlow at the same batch size. A second row sets a whole
folder, from files to a table on disk, beside the bare runtime: the same network over pixels that were decoded and resized
beforehand, all at once, in as many pieces as there are lanes. Images
are rendered cells of 450 px (``--images``: real ones); networks have random weights (``--models``: trained ones), whose
last layer is stretched until answers differ: that shows differences larger than trained networks have. The short
form times MobileNet and ResNet50, the long one DenseNet121 and VGG16 too, and bfloat16 wherever it runs at all;
``auto`` is timed where the CPU has ``amx_bf16``, since elsewhere it is float32.

Before it is timed, every side answers all images, and labels and probabilities are compared with TensorFlow's in
float32. Conversion is outside the time: it is made once for a model and kept. tests/serving/test_runtimes.py
(``test_another_runtime_answers_every_image_like_tensorflow``) asserts the same answers, tests/serving/test_sizes.py
the same pixels.
"""

from __future__ import annotations

import gc
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import tensorflow as tf
from interleaved import Row, measure, parse, report, row_of

from kerasall.data.cell_drawing import draw_image
from kerasall.decoding import decode
from kerasall.errors import SettingsError
from kerasall.models.classifier import build_classifier, find_parts
from kerasall.preprocessing.operations import Chain
from kerasall.runtime import has_amx
from kerasall.serving.batch import predict_files
from kerasall.serving.export import export_saved_model
from kerasall.serving.image_files import find_images
from kerasall.serving.network import spread
from kerasall.serving.predictor import Answers, Predictor
from kerasall.serving.runtimes import RUNTIMES, RuntimeChoice

SHORT = ("mobilenet", "resnet50")
LONG = (*SHORT, "densenet121", "vgg16")
COUNTS = {"mobilenet": 32}
"""Images of a call; 8 of the other networks."""
PLAIN = "tensorflow float32"
GOAL = 3.0
"""Of the fastest with ``--precision auto``, against TensorFlow in float32, for networks whose time is convolutions."""
SHARE = 0.9
"""Goal of a folder's images/s against the bare runtime's on pixels."""
BATCHES = 4
"""Of a folder."""
SIDE, CELL_SIDE = 224, 450


def main() -> None:
    options = parse(
        __doc__,
        ("--networks", {"nargs": "*", "help": "backbones, with random weights"}),
        ("--models", {"nargs": "*", "type": Path, "default": [], "help": "pushed SavedModels instead"}),
        ("--images", {"help": "folder of real images instead of rendered cells"}),
        ("--count", {"type": int, "help": "images of a call"}),
    )
    names = options.networks or (() if options.models else SHORT if options.short else LONG)
    choices = list_choices(options.short)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="kerasall-") as work:
        models = [(path.name, path) for path in options.models]
        for name, given in itertools.chain(((name, None) for name in names), models):
            files = read_files(options.images, options.count or COUNTS.get(name, 8))
            model = given or export(name, Path(work) / name / "1", files)
            place = Path(tempfile.mkdtemp(dir=work))
            rows += time_network(name, model, files, choices, place / "cache", options.rounds)
            rows += time_folder(name, model, files, place, options.rounds)
    missing = [name for name in RUNTIMES if not any(choice.name == name for choice in choices)]
    report(
        "runtimes",
        rows,
        **({"not installed": ", ".join(missing)} if missing else {}),
        bfloat16="auto computes in it: the CPU has amx_bf16"
        if has_amx()
        else f"the CPU has no amx_bf16: auto is float32, and its goal of {GOAL:g} cannot be tried here",
    )


def list_choices(short: bool) -> list[RuntimeChoice]:
    """What can be timed here, TensorFlow in float32 first."""
    precisions = ["float32"]
    if has_amx():
        precisions.append("auto")
    elif not short:
        precisions.append("bfloat16")
    choices = []
    for precision, name in itertools.product(precisions, ("tensorflow", *RUNTIMES)):
        if name == "onnxruntime" and precision != "float32":
            continue  # float32 again
        try:
            choices.append(RuntimeChoice(name, precision))
        except SettingsError:  # its extra is absent
            continue
    return choices


def export(name: str, folder: Path, files: list[bytes]) -> Path:
    """A classifier of two kinds of cells with random weights, as ``kerasall run`` would push it."""
    chain = Chain.from_json([{"op": "resize", "height": SIDE, "width": SIDE}])
    model = build_classifier(name, 2, (SIDE, SIDE), weights="random")
    spread_answers(model, np.stack([chain(tf.constant(decode(data))).numpy() for data in files[:8]]))
    return export_saved_model(model, chain, ("all", "hem"), folder, card={"preprocess": chain.to_json()})


def spread_answers(model: keras.Model, pixels: np.ndarray) -> None:
    """Scales the last layer so that answers differ from image to image: equal ones would hide a difference."""
    parts = find_parts(model)
    features = parts.backbone(parts.preprocess(pixels.astype(np.float32)), training=False)
    pooled = keras.ops.convert_to_numpy(keras.ops.mean(features, axis=(1, 2)))
    dense = parts.head.layers[-1]
    kernel, _ = dense.get_weights()
    kernel /= np.maximum((pooled @ kernel).std(axis=0), 1e-30)
    dense.set_weights([kernel, -(pooled @ kernel).mean(axis=0)])


def read_files(folder: str | None, count: int) -> list[bytes]:
    """Image files: rendered cells as BMP, or the first of a folder, over and over."""
    if folder is not None:
        paths = itertools.islice(itertools.cycle(find_images([folder])), count)
        return [Path(path).read_bytes() for path in paths]
    cells = (draw_image("cnmc", 0, (i % 2, i // 2 % 10, i), CELL_SIDE) for i in range(count))
    return [cv2.imencode(".bmp", cell[..., ::-1])[1].tobytes() for cell in cells]


def time_network(
    name: str, model: Path, files: list[bytes], choices: list[RuntimeChoice], cache: Path, rounds: int
) -> list[Row]:
    """All runtimes on one SavedModel: first their answers, then their speed."""
    predictors, starts = {}, {}
    gc.collect()
    gc.freeze()  # converters make objects by the million, and would have all of TensorFlow looked through
    for choice in choices:
        begun = time.perf_counter()
        side = f"{choice.name} {choice.precision}"
        predictors[side] = Predictor(model, runtime=RuntimeChoice(choice.name, choice.precision, cache))
        starts[side] = time.perf_counter() - begun
    answers = {side: predictor.predict(files) for side, predictor in predictors.items()}
    timings = measure({side: lambda p=p: p.predict(files) for side, p in predictors.items()}, rounds)
    rows = []
    for side in predictors.keys() - {PLAIN}:
        largest, changed = compare_all(answers[PLAIN], answers[side])
        left = (
            "; too coarse here: went on in float32"
            if "was left" in predictors[side].describe_parity()
            else ""
        )
        has_goal = side.endswith("auto") and name in ("resnet50", "densenet121", "vgg16")
        rows.append(
            row_of(
                f"{name}, batch {len(files)}", timings[side], timings[PLAIN], len(files),
                goal=GOAL if has_goal else None,
                note=f"{side}: largest difference of a probability {largest:.1e}, {changed} of {len(files)} labels differ; "
                f"conversion and load {starts[side]:.0f} s{left}",
                largest_difference=largest, labels_changed=changed, seconds_to_start=starts[side],
            )
        )  # fmt: skip
    return sorted(rows, key=lambda row: row.ours)


def time_folder(name: str, model: Path, files: list[bytes], place: Path, rounds: int) -> list[Row]:
    """A folder's images/s with each runtime that was converted in ``place / "cache"``, against the runtime alone."""
    paths, rows = [], []
    for number, file in enumerate(files * BATCHES):
        paths.append(place / f"{number:04d}")
        paths[-1].write_bytes(file)
    for kept in sorted((place / "cache").glob("*/*")):
        runtime = kept.parent.name
        predictor = Predictor(model, runtime=RuntimeChoice(runtime, cache=place / "cache"))
        if predictor.describe_start():  # its pixels are TensorFlow's
            continue
        pixels = np.stack([np.asarray(predictor.prepare(path.read_bytes())) for path in paths])
        alone = spread(RUNTIMES[runtime].open(kept, False))
        sides = {
            f"kerasall predict FOLDER, {runtime}": partial(
                predict_files, predictor, paths, place / "table.csv", batch_size=len(files)
            ),
            f"{runtime} alone on pixels": partial(alone, pixels),
        }
        ours, theirs = measure(sides, rounds).values()
        mine, bare = (processor_seconds(side) for side in sides.values())
        rows.append(row_of(
            f"{name}, a folder of {len(paths)}", ours, theirs, len(paths), goal=SHARE,
            note=f"{runtime}: processor time of the network is {bare / mine:.2f} of all", processor_share=bare / mine,
        ))  # fmt: skip
    return rows


def processor_seconds(run: Callable[[], Any]) -> float:
    """Of all threads, for one call."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def compare_all(expected: Answers, found: Answers) -> tuple[float, int]:
    """Largest difference of a probability, and how many labels differ."""
    expected.require_all()
    found.require_all()
    changed = int((expected.label_indices != found.label_indices).sum())
    return float(np.abs(expected.probabilities - found.probabilities).max()), changed


if __name__ == "__main__":
    main()
