"""How long the command line takes to start, and to answer one image.

    python benchmarks/start.py [--short]

``kerasall --help`` against half a second; ``kerasall predict SAVEDMODEL one-image`` against the shortest Python script
that answers the same image: ``import tensorflow``, ``tf.saved_model.load``, one call of the signature. Every time is a
fresh process, taken in turn; ``predict`` also checks every file of the model against its manifest. The model is a
MobileNet of 224 px with random weights. Before timing, both must give the same probabilities; that ``--help`` loads no
TensorFlow is held by tests/test_architecture.py::test_light_modules_load_no_tensorflow.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from interleaved import Timing, measure, parse, report, row_of

ALLOWED = 0.5
BARE = """
import sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
with open(sys.argv[2], "rb") as file:
    answer = model.signatures["serving_default"](image_bytes=tf.constant([file.read()]))
print(answer["probabilities"].numpy()[0].tolist())
"""


def export_model(folder: Path, image: Path) -> None:
    """A MobileNet with random weights as a SavedModel, and a rendered cell; in a process of their own."""
    import cv2

    from kerasall.data.cell_drawing import draw_image
    from kerasall.models.classifier import build_classifier
    from kerasall.preprocessing.operations import Chain
    from kerasall.serving.export import export_saved_model

    model = build_classifier("mobilenet", 2, (224, 224), weights="random")
    chain = Chain.from_json([{"op": "resize", "height": 224, "width": 224}])
    export_saved_model(model, chain, ("all", "hem"), folder)
    cv2.imwrite(str(image), cv2.cvtColor(draw_image("cnmc", 0, (0, 0, 0), 450), cv2.COLOR_RGB2BGR))


def run(*command: str) -> str:
    """Standard output of a fresh process."""
    return subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True).stdout


def require_same(predicted: str, bare: str) -> None:
    """Stops where the two answers differ."""
    row = next(csv.DictReader(io.StringIO(predicted)))
    far = max(abs(float(row[label]) - p) for label, p in zip(("all", "hem"), json.loads(bare), strict=True))
    if far > 1e-6:
        sys.exit(f"both sides must answer alike, but differ by {far}")


def main() -> None:
    options = parse(__doc__, ("--export", {"nargs": 2, "type": Path, "help": "only write MODEL and IMAGE"}))
    if options.export:
        export_model(*options.export)
        return
    rounds = options.rounds if options.short else max(options.rounds, 15)
    with tempfile.TemporaryDirectory(prefix="kerasall-") as work:
        model, image = f"{work}/mobilenet/1", f"{work}/cell.bmp"
        run(__file__, "--export", model, image)
        predict, bare = ("-m", "kerasall", "predict", model, image), ("-c", BARE, model, image)
        commands = {
            "kerasall --help": ("-m", "kerasall", "--help"),
            "kerasall predict": predict,
            "TensorFlow alone": bare,
        }
        require_same(run(*predict), run(*bare))  # warms up, too: from now on all files are in memory
        sides = {name: partial(run, *command) for name, command in commands.items()}
        taken = measure(sides, rounds, warm_up=False)
    shown, predicted, alone = taken.values()
    allowed = Timing(f"{ALLOWED} s", (ALLOWED,) * rounds)
    report(
        "start",
        [
            row_of(
                "kerasall --help", shown, allowed, 1, "starts/s", goal=1, note=f"median {shown.median:.2f} s of {ALLOWED} s"
            ),
            row_of(
                "one image, fresh process", predicted, alone, 1, "starts/s", goal=1 / 1.2,
                note=f"medians {predicted.median:.2f} and {alone.median:.2f} s; goal: at most a fifth more",
            ),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
