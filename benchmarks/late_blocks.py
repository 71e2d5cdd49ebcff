"""Fine-tuning the last block without augmentation: from activations stored at the cut, or through the whole network.

    python benchmarks/late_blocks.py [--short] [--images FOLDER] [--weights FOLDER] [--count N] [--side PIXELS]
                                     [--backbones NAME ...]

Ours is ``ClassifierTraining.fit``, from an empty cache in every round: it passes all images through the frozen part
once, writes what comes out and trains what stands above. The alternative is Keras' own guide to fine-tuning: the same
network with the same layers frozen, pixels cached, shuffled and prefetched by ``tf.data``, one ``fit`` with validation.
Both train in float32 and build the network within the time: twenty epochs, as fine-tuning takes them. In the long form
all are run; all of them do the same work. So the short form runs three of ours in every round and counts the others at
the mean of the second and third; of the alternative, whose network it builds and starts once, it runs two in every
round, and counts the start and nineteen times the second.

Before, the whole network trains two epochs from the weights and in the order of ours: the losses of training and of
validation must agree. The short form's images are smaller than the papers', to end in time; the shares of the work,
which decide, are the same.
tests/models/test_classifier.py asserts the same (``test_training_the_suffix_is_training_the_whole_with_its_base_
frozen``), tests/components/test_late_blocks.py of the whole component.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from interleaved import Row, Timing, measure, parse, report, row_of
from rendered_cells import Cells, EpochByEpoch, EpochClock, draw_cells, make_fit, quiet

from kerasall.components.classifier_training import ClassifierTraining
from kerasall.models.classifier import build_classifier, freeze
from kerasall.settings import ModelSettings, TrainSettings
from kerasall.training.history import History

BATCH, RATE, EPOCHS = 32, 1e-4, 20
PARTLY = 3
"""Epochs of ours that the short form runs."""
LAST_BLOCKS = {"vgg16": "block5", "resnet50": "conv5_block3"}
MORE_BLOCKS = {"resnet50": "conv5_block1"}
"""Compared in the long form only: all three blocks of the last stage."""
TOLERANCE = 1e-3


def main() -> None:
    options = parse(
        __doc__,
        ("--images", {"help": "folder of real images instead of rendered cells"}),
        ("--weights", {"type": Path, "help": "folder of ImageNet weights instead of random ones"}),
        ("--backbones", {"nargs": "+", "choices": list(LAST_BLOCKS), "default": list(LAST_BLOCKS)}),
        ("--count", {"type": int, "help": "images; 64 in the short form, else 400"}),
        ("--side", {"type": int, "help": "pixels; 96 in the short form, else 224"}),
    )
    count, side = (
        options.count or (64 if options.short else 400),
        options.side or (96 if options.short else 224),
    )
    cells = draw_cells(count, side, options.images)
    timed = PARTLY if options.short else EPOCHS
    pairs = [*LAST_BLOCKS.items(), *(() if options.short else MORE_BLOCKS.items())]
    pairs = [(backbone, block) for backbone, block in pairs if backbone in options.backbones]
    rows = [time_pair(LateBlock(cells, *pair, timed, options.weights), options.rounds) for pair in pairs]
    of_the_alternative = "two a round, the second counted" if options.short else EPOCHS
    report("late_blocks", rows, epochs_run_of_twenty=f"ours {timed}, alternative {of_the_alternative}")


def time_pair(late: LateBlock, rounds: int) -> Row:
    """One network: how long both ways take, and that their losses agree."""
    whole = late.train_whole()  # warms up, too
    if late.epochs < EPOCHS:
        late.start_alternative()
    sides = {"stored at the cut": late.run_ours, "fit on pixels": late.run_alternative}
    measure(sides, rounds, warm_up=False)
    difference = late.require_equal(whole)
    ours, alternative = (Timing(name, tuple(late.seconds[name])) for name in sides)
    count, side = late.cells.pixels.shape[:2]
    return row_of(
        f"{late.backbone} from {late.block} on, {count} images of {side} px, {EPOCHS} epochs",
        ours, alternative, count * EPOCHS, "images x epochs/s",
        3 if LAST_BLOCKS[late.backbone] == late.block else None, f"greatest difference of losses: {difference:.1e}",
        difference_of_losses=difference,
    )  # fmt: skip


class LateBlock:
    """Both ways to train one network from a block on.

    Args:
        cells: the images.
        backbone, block: of the network.
        epochs: of ours that are run of the twenty.
        weights: folder of ImageNet weights; None: random ones.
    """

    def __init__(self, cells: Cells, backbone: str, block: str, epochs: int, weights: Path | None) -> None:
        self.cells, self.backbone, self.block = cells, backbone, block
        self.epochs, self.weights = epochs, weights
        self.kind = "imagenet" if weights else "random"
        self.started: EpochByEpoch | None = None
        self.seconds: dict[str, list[float]] = {"stored at the cut": [], "fit on pixels": []}

    def run_ours(self) -> None:
        """Passes, stores and trains from an empty cache."""
        started = time.perf_counter()
        self.history = self._train(self.epochs, stored=True)
        taken = time.perf_counter() - started
        later = [row.seconds for row in self.history.epochs[1:]]
        self.seconds["stored at the cut"].append(taken + (EPOCHS - self.epochs) * float(np.mean(later)))

    def train_whole(self) -> History:
        """Two epochs through the whole network, from the weights and in the order of ours."""
        return self._train(2, stored=False)

    def _train(self, epochs: int, stored: bool) -> History:
        stage = {"name": "tune", "trainable": self.block, "epochs": epochs, "keep": "last"}
        stage["optimizer"] = {"name": "adam", "learning_rate": RATE}
        train = TrainSettings.model_validate(
            {"batch_size": BATCH, "stages": [stage], "cache_activations": stored, "precision": "float32"}
        )
        model, data = ModelSettings(backbone=self.backbone, weights=self.kind), self.cells.data
        with tempfile.TemporaryDirectory() as folder, quiet():
            training = ClassifierTraining(
                data, self.cells.cache, model, train, None, 0, False, self.weights, Path(folder) / "cache"
            )
            _, (history,) = training.fit(
                "late", data.rows_of("train"), data.rows_of("validation"), Path(folder) / "state"
            )
        return history

    def run_alternative(self) -> None:
        """Fits on the pixels: all epochs, or two more."""
        if self.started is not None:
            self.seconds["fit on pixels"].append(self.started.seconds(EPOCHS))
            return
        started = time.perf_counter()
        self.build_alternative()(EPOCHS, EpochClock())
        self.seconds["fit on pixels"].append(time.perf_counter() - started)

    def start_alternative(self) -> None:
        """Builds the network and runs its first epoch; from then on each round runs two more."""
        started = time.perf_counter()
        fit = self.build_alternative()
        fit(1, EpochClock())
        self.started = EpochByEpoch(fit, time.perf_counter() - started)

    def build_alternative(self) -> Callable[[int, EpochClock], None]:
        """A network of its own, and how to fit it."""
        model = build_classifier(
            self.backbone, self.cells.classes, self.cells.pixels.shape[1:3], weights=self.kind,
            weights_folder=self.weights,
        )  # fmt: skip
        freeze(model, unfreeze_from=self.block)
        model.compile(
            optimizer=keras.optimizers.Adam(RATE), loss="categorical_crossentropy", metrics=["accuracy"],
            jit_compile=False,
        )  # fmt: skip
        return make_fit(model, self.cells, BATCH)

    def require_equal(self, whole: History) -> float:
        """Greatest difference of the losses of ours and of ``whole``; stops where it is not small."""
        pairs = zip(self.history.epochs, whole.epochs, strict=False)  # the longer one's later epochs are left
        difference = max(
            abs(getattr(a, loss) - getattr(b, loss)) for a, b in pairs for loss in ("loss", "val_loss")
        )
        assert difference < TOLERANCE, f"losses must agree within {TOLERANCE}, but differ by {difference}"
        return difference


if __name__ == "__main__":
    main()
