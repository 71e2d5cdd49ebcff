"""An ensemble as one graph against a loop of ``model.predict`` over its members.

    python benchmarks/ensemble_prediction.py [--short] [--networks NAME ...] [--images FOLDER]

Three questions, on image files of rendered cells (450 px BMP; ``--images``: real ones), members with random weights:

- from files to answers: ``Predictor.predict`` on the exported SavedModel against decoding and resizing each file with
  TensorFlow as the documentation does, then ``model.predict`` member by member and the mean, at batch 1 and 32;
- from pixels to answers: the signature ``serving_pixels`` against the members' bare forward passes (``tf.function``)
  one after the other: what combining them costs;
- how much of the time from file to answer is decoding.

Before anything is timed, the mean of the members must equal the ensemble's answers. In the suite:
tests/test_ensemble_systems.py::test_members_see_in_the_ensemble_what_they_were_trained_on. ``kerasall predict`` reads
the next files while the model answers
(tests/serving/test_batch.py::test_the_next_files_are_read_while_the_model_answers_and_no_more).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import tensorflow as tf
from interleaved import Row, measure, parse, report, row_of

from kerasall.data.cell_drawing import draw_image
from kerasall.models.classifier import build_classifier
from kerasall.models.ensembles import build_ensemble
from kerasall.preprocessing.operations import Chain
from kerasall.serving.export import decode_batch, export_saved_model
from kerasall.serving.image_files import find_images
from kerasall.serving.predictor import Predictor

SHORT = ("mobilenet", "mobilenet_v2", "resnet50")
LONG = (*SHORT, "densenet121", "vgg16")
SIDE = 224
_CHAIN = Chain.from_json([{"op": "resize", "height": SIDE, "width": SIDE}])
GOALS = {1: 2.0, 32: 1.2}
"""Batch size -> how many times the loop's speed."""
BARE = 1 / 1.1
"""At most a tenth slower than the members alone."""


def read_files(count: int, folder: str | None) -> list[bytes]:
    """Contents of image files."""
    if folder is not None:
        paths = find_images([folder])
        return [Path(paths[i % len(paths)]).read_bytes() for i in range(count)]
    cells = (draw_image("cnmc", 0, (i % 2, i // 2, i), 450) for i in range(count))
    return [cv2.imencode(".bmp", cell[..., ::-1])[1].tobytes() for cell in cells]


def answer_in_a_loop(members: Sequence[Any], files: Sequence[bytes]) -> np.ndarray:
    """Mean probabilities, every member asked by ``predict``."""
    images = [tf.io.decode_image(data, channels=3, expand_animations=False) for data in files]
    batch = tf.stack([tf.image.resize(image, (SIDE, SIDE)) for image in images])
    return np.mean([member.predict(batch, batch_size=32, verbose=0) for member in members], axis=0)


def compare_batch(
    batch: int,
    calls: int,
    predictor: Predictor,
    members: Sequence[Any],
    forwards: Sequence[Any],
    files: list[bytes],
    rounds: int,
) -> list[Row]:
    """Rows of one batch size."""
    files = files[:batch]
    shown = {}
    pixels = tf.constant(np.stack([_pixels(data) for data in files]))

    def run_pixels(count: int = batch) -> None:
        for _ in range(calls):
            predictor.signatures["serving_pixels"](pixels=pixels[:count])["probabilities"].numpy()

    def run_bare(count: int = batch) -> None:
        for _ in range(calls):
            for forward in forwards:
                forward(pixels[:count]).numpy()

    def run_files(count: int = batch) -> None:
        for _ in range(calls):
            shown["ours"] = predictor.predict(files[:count]).probabilities

    def run_decoding(count: int = batch) -> None:
        for _ in range(calls):
            _decode_all(tf.constant(files[:count]))

    def run_loop(count: int = batch) -> None:
        for _ in range(calls):
            shown["loop"] = answer_in_a_loop(members, files[:count])

    sides = {
        "one graph": run_files,
        "loop of predict": run_loop,
        "one graph, pixels": run_pixels,
        "members alone": run_bare,
        "decoding": run_decoding,
    }
    for run in sides.values():
        run(min(batch, 2))  # warms up: all that is traced is traced for batches of any size
    taken = measure(sides, rounds, warm_up=False)
    np.testing.assert_allclose(shown["ours"], shown["loop"], atol=1e-3)  # the loop does not round pixels
    from_files, loop, from_pixels, bare, decoding = taken.values()
    share = decoding.median / from_files.median
    name, count = f"{len(members)} members, batch {batch}", batch * calls
    return [
        row_of(f"{name}, files", from_files, loop, count, goal=GOALS[batch], decoding_share=share),
        row_of(
            f"{name}, pixels", from_pixels, bare, count, goal=BARE,
            note=f"decoding and resizing are {share:.0%} of the time from file to answer",
        ),
    ]  # fmt: skip


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def _decode_all(files: tf.Tensor) -> tf.Tensor:
    return decode_batch(files, _CHAIN, (SIDE, SIDE))


def make_forward(member: Any) -> Any:
    """A member's bare forward pass, of batches of any size as in the ensemble's graph."""
    pixels = tf.TensorSpec([None, SIDE, SIDE, 3], tf.uint8)
    return tf.function(lambda x: member(tf.cast(x, tf.float32), training=False), input_signature=[pixels])


def _pixels(data: bytes) -> np.ndarray:
    return _CHAIN(tf.io.decode_image(data, channels=3, expand_animations=False)).numpy()


def main() -> None:
    options = parse(
        __doc__,
        ("--networks", {"nargs": "+", "help": "members"}),
        ("--images", {"help": "folder of real images"}),
    )
    names = options.networks or (SHORT if options.short else LONG)
    members = [
        build_classifier(name, 2, (SIDE, SIDE), weights="random", name=f"{name}_{number}", seed=number)
        for number, name in enumerate(names)
    ]
    files = read_files(32, options.images)
    with tempfile.TemporaryDirectory(prefix="kerasall-") as work:
        ensemble = build_ensemble(members, "average")
        predictor = Predictor(export_saved_model(ensemble, _CHAIN, ("all", "hem"), Path(work) / "1"))
        forwards, rows = [make_forward(member) for member in members], []
        for batch, calls in ((1, 3), (32, 1)):
            rows += compare_batch(batch, calls, predictor, members, forwards, files, options.rounds)
    report("ensemble_prediction", rows, members=", ".join(names))


if __name__ == "__main__":
    main()
