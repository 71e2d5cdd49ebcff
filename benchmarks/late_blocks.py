"""Fine-tuning the last block without augmentation: from activations stored at the cut, or through the whole network.

    python benchmarks/late_blocks.py [--short] [--images FOLDER] [--weights FOLDER] [--count N] [--side PIXELS]

Ours is ``ClassifierTraining.fit``, from an empty cache in every round: it passes all images through the frozen part
once, writes what comes out and trains what stands above. The alternative is Keras' own guide to fine-tuning: the same
network with the same layers frozen, pixels cached, shuffled and prefetched by ``tf.data``, one ``fit`` with validation.
Both train in float32 and build the network within the time: twenty epochs, as fine-tuning takes them. In the long form
all are run; all of them do the same work, so the short form runs three on both sides and counts the other seventeen
at the mean of the second and third.

Before, both ways train two epochs from the same weights in the same order: losses and probabilities must agree. The
short form's images are smaller than the papers', to end in time; the shares of the work, which decide, are the same.
tests/models/test_classifier.py asserts the same (``test_training_the_suffix_is_training_the_whole_with_its_base_
frozen``), tests/components/test_late_blocks.py of the whole component.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from interleaved import Row, Timing, measure, parse, report, row_of
from rendered_cells import Cells, EpochClock, draw_cells, quiet

from kerasall.components.classifier_training import ClassifierTraining
from kerasall.models.classifier import build_classifier, freeze
from kerasall.settings import ModelSettings, TrainSettings
from kerasall.training.history import History

BATCH, RATE, EPOCHS = 32, 1e-4, 20
PARTLY = 3
LAST_BLOCKS = {"vgg16": "block5", "resnet50": "conv5_block3"}
MORE_BLOCKS = {"resnet50": "conv5_block1"}
"""Compared in the long form only: all three blocks of the last stage."""
TOLERANCE = 1e-3


def main() -> None:
    options = parse(
        __doc__,
        ("--images", {"help": "folder of real images instead of rendered cells"}),
        ("--weights", {"type": Path, "help": "folder of ImageNet weights instead of random ones"}),
        ("--count", {"type": int, "help": "images; 80 in the short form, else 400"}),
        ("--side", {"type": int, "help": "pixels; 96 in the short form, else 224"}),
    )
    count, side = (
        options.count or (80 if options.short else 400),
        options.side or (96 if options.short else 224),
    )
    cells = draw_cells(count, side, options.images)
    timed = PARTLY if options.short else EPOCHS
    pairs = [*LAST_BLOCKS.items(), *(() if options.short else MORE_BLOCKS.items())]
    rows = [time_pair(LateBlock(cells, *pair, timed, options.weights), options.rounds) for pair in pairs]
    report("late_blocks", rows, epochs_timed_of_twenty=timed)


def time_pair(late: LateBlock, rounds: int) -> Row:
    """One network: first that both ways agree, then how long they take."""
    differences = late.require_equal()
    sides = {"stored at the cut": late.run_ours, "fit on pixels": late.run_alternative}
    measure(sides, rounds, warm_up=False)  # ``require_equal`` has warmed both up
    ours, alternative = (Timing(name, tuple(late.seconds[name])) for name in sides)
    count, side = late.cells.pixels.shape[:2]
    note = "; ".join(f"{what}: {value:.1e}" for what, value in differences.items())
    return row_of(
        f"{late.backbone} from {late.block} on, {count} images of {side} px, {EPOCHS} epochs",
        ours, alternative, count * EPOCHS, "images x epochs/s",
        3 if LAST_BLOCKS[late.backbone] == late.block else None, note, **differences,
    )  # fmt: skip


class LateBlock:
    """Both ways to train one network from a block on.

    Args:
        cells: the images.
        backbone, block: of the network.
        epochs: that are run of the twenty.
        weights: folder of ImageNet weights; None: random ones.
    """

    def __init__(self, cells: Cells, backbone: str, block: str, epochs: int, weights: Path | None) -> None:
        self.cells, self.backbone, self.block, self.epochs, self.weights = (
            cells,
            backbone,
            block,
            epochs,
            weights,
        )
        self.kind = "imagenet" if weights else "random"
        self.seconds: dict[str, list[float]] = {"stored at the cut": [], "fit on pixels": []}

    def run_ours(self) -> None:
        """Passes, stores and trains from an empty cache."""
        started = time.perf_counter()
        history, _ = self._train(self.epochs, stored=True)
        self._keep("stored at the cut", started, [row.seconds for row in history.epochs[1:]])

    def _keep(self, side: str, started: float, later: list[float]) -> None:
        """Seconds of all twenty epochs; ``later`` are those of the run ones after the first."""
        rest = (EPOCHS - self.epochs) * float(np.mean(later))
        self.seconds[side].append(time.perf_counter() - started + rest)

    def _train(self, epochs: int, stored: bool) -> tuple[History, np.ndarray]:
        stage = {"name": "tune", "trainable": self.block, "epochs": epochs, "keep": "last"}
        stage["optimizer"] = {"name": "adam", "learning_rate": RATE}
        train = TrainSettings.model_validate(
            {"batch_size": BATCH, "stages": [stage], "cache_activations": stored, "precision": "float32"}
        )
        model, data = ModelSettings(backbone=self.backbone, weights=self.kind), self.cells.data
        fitted, watched = data.rows_of("train"), data.rows_of("validation")
        with tempfile.TemporaryDirectory() as folder, quiet():
            training = ClassifierTraining(
                data, self.cells.cache, model, train, None, 0, False, self.weights, Path(folder) / "cache"
            )
            trained, (history,) = training.fit("late", fitted, watched, Path(folder) / "state")
            return history, training.predict(trained, watched)

    def run_alternative(self) -> None:
        """Fits on the pixels."""
        started, clock = time.perf_counter(), EpochClock()
        model = build_classifier(
            self.backbone, 2, self.cells.pixels.shape[1:3], weights=self.kind, weights_folder=self.weights
        )
        freeze(model, unfreeze_from=self.block)
        model.compile(
            optimizer=keras.optimizers.Adam(RATE), loss="categorical_crossentropy", metrics=["accuracy"],
            jit_compile=False,
        )  # fmt: skip
        model.fit(
            self._dataset("train").cache().shuffle(1000).batch(BATCH).prefetch(tf.data.AUTOTUNE),
            validation_data=self._dataset("validation").batch(BATCH).cache().prefetch(tf.data.AUTOTUNE),
            epochs=self.epochs, callbacks=[clock], shuffle=False, verbose=0,
        )  # fmt: skip
        self._keep("fit on pixels", started, np.diff(clock.ends).tolist())

    def _dataset(self, part: str) -> tf.data.Dataset:
        rows, data = self.cells.data.rows_of(part), self.cells.data
        return tf.data.Dataset.from_tensor_slices(
            (self.cells.pixels[rows], np.eye(2, dtype="f4")[data.labels[rows]])
        )

    def require_equal(self, epochs: int = 2) -> dict[str, float]:
        """Greatest differences of both ways from the same weights and batches; stops where they are not small."""
        (stored, found), (whole, wanted) = (self._train(epochs, stored) for stored in (True, False))
        differences = {
            "greatest difference of losses": max(
                abs(a.loss - b.loss) for a, b in zip(stored.epochs, whole.epochs, strict=True)
            ),
            "greatest difference of probabilities": float(np.abs(found - wanted).max()),
        }
        for what, value in differences.items():
            assert value < TOLERANCE, f"{what} must be below {TOLERANCE}, but is {value}"
        return differences


if __name__ == "__main__":
    main()
