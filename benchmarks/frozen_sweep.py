"""Heads on a frozen network, four optimizers for ten epochs each: every image through the network once, or 40 times.

    python benchmarks/frozen_sweep.py [--short] [--images FOLDER] [--weights FOLDER] [--count N] [--side PIXELS]

Ours are the functions of ``kerasall.components.sweep``, from an empty cache in every round: one pass, pooled
features on disk, then 40 epochs of the head, whose state is stored after each. The alternative is Keras' own guide to
transfer learning: base frozen and called with ``training=False``, pixels cached, shuffled and prefetched by
``tf.data``, one ``fit`` with validation a run. Neither decodes; both validate after every epoch.

The long form runs all of the alternative's 40 epochs. All of them do the same work, whichever optimizer moves the
head, so the short form builds and starts one run of the four, goes on with it for two epochs in every round, and counts
four times the start and nine times the second of them.

The first rows compare four runs of ten epochs with the alternative, the last with one run of one epoch of ours: what
epochs and runs add. Before, the whole network trains two epochs from the weights and in the order of ours: the losses
of training and of validation must agree. tests/test_feature_systems.py asserts that of the whole component
(``test_training_on_stored_activations_equals_training_through_the_whole_network``).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from interleaved import Row, Timing, measure, parse, report, row_of
from rendered_cells import Cells, EpochByEpoch, EpochClock, draw_cells, make_fit, quiet

from kerasall.components.classifier_training import ClassifierTraining
from kerasall.components.sweep import Heads, build_heads
from kerasall.data.input_pipeline import epoch_batches
from kerasall.models.backbones import get_backbone
from kerasall.models.base import build_backbone, build_preprocess
from kerasall.models.classifier import freeze
from kerasall.settings import BackboneSettings, HeadSettings, ModelSettings, OptimizerSettings, TrainSettings
from kerasall.settings.seeds import derive_seed
from kerasall.training.history import History
from kerasall.training.optimizers import make_optimizer
from kerasall.training.stages import StageSettings, compile_stage

BATCH, EPOCHS, DENSE = 32, 10, 512
HEAD = HeadSettings(dense=(DENSE,))
OPTIMIZERS = tuple(
    OptimizerSettings.model_validate({"name": name}) for name in ("adam", "adamax", "sgdm", "rmsprop")
)
TRAIN = TrainSettings.model_validate({"batch_size": BATCH, "stages": [{"name": "head", "epochs": EPOCHS}]})
TOLERANCE = 1e-3


def main() -> None:
    options = parse(
        __doc__,
        ("--images", {"help": "folder of real images instead of rendered cells"}),
        ("--weights", {"type": Path, "help": "folder of ImageNet weights instead of random ones"}),
        ("--backbone", {"default": "vgg16"}),
        ("--count", {"type": int, "help": "images; 112 in the short form, else 1000"}),
        ("--side", {"type": int, "help": "pixels; 96 in the short form, else 224"}),
    )
    count, side = (
        options.count or (112 if options.short else 1000),
        options.side or (96 if options.short else 224),
    )
    sweep = Sweep(draw_cells(count, side, options.images), options.backbone, options.weights)
    whole = sweep.train_whole()
    if options.short:
        sweep.start_alternative()
    timings = measure(
        {"once": sweep.run_ours, "one run": sweep.run_one, "every epoch": sweep.run_alternative},
        options.rounds,
        warm_up=False,  # ``train_whole`` has warmed up
    )
    rows = list_rows(sweep, timings, count, side, options.backbone)
    report("frozen_sweep", rows, **{"greatest difference of losses": sweep.require_equal(whole)})


class Sweep:
    """Both ways to the same four heads.

    Args:
        cells: the images.
        backbone: key of the frozen network.
        weights: folder of ImageNet weights; None: random ones.
    """

    def __init__(self, cells: Cells, backbone: str, weights: Path | None) -> None:
        self.cells, self.weights = cells, weights
        kind = "imagenet" if weights else "random"
        self.backbone = BackboneSettings(name=backbone, backbone=backbone, weights=kind)
        self.full_seconds: list[float] = []
        self._histories: dict[tuple[str, int], History] = {}
        self._started: EpochByEpoch | None = None

    def run_ours(self, optimizers: Sequence[OptimizerSettings] = OPTIMIZERS, epochs: int = EPOCHS) -> None:
        """Trains and scores all heads from an empty cache."""
        with tempfile.TemporaryDirectory() as folder, quiet():
            heads = self.build_heads(Path(folder))
            for optimizer in optimizers:
                _, (history,) = heads.sweep(optimizer, [epochs], Path(folder) / "sweep")
                self._histories.setdefault((optimizer.name, epochs), history)

    def run_one(self) -> None:
        """One head for one epoch."""
        self.run_ours(OPTIMIZERS[:1], epochs=1)

    def build_heads(self, folder: Path) -> Heads:
        """Features of all images, stored below ``folder``."""
        cells, settings = self.cells, ModelSettings(head=HEAD)
        training = ClassifierTraining(
            cells.data, cells.cache, settings, TRAIN, None, 0, False, self.weights, folder / "cache"
        )
        return build_heads(training, self.backbone)

    def run_alternative(self) -> None:
        """Fits on the pixels; keeps what all four runs take, or would."""
        if self._started is not None:
            self.full_seconds.append(len(OPTIMIZERS) * self._started.seconds(EPOCHS))
            return
        started = time.perf_counter()
        for optimizer in OPTIMIZERS:
            self._build(optimizer)(EPOCHS, EpochClock())
        self.full_seconds.append(time.perf_counter() - started)

    @property
    def full(self) -> bool:
        """Whether all of the alternative runs."""
        return self._started is None

    def start_alternative(self) -> None:
        """Builds one run and trains its first epoch; from then on each round trains two more."""
        started = time.perf_counter()
        fit = self._build(OPTIMIZERS[0])
        fit(1, EpochClock())
        self._started = EpochByEpoch(fit, time.perf_counter() - started)

    def _build(self, optimizer: OptimizerSettings) -> Callable[[int, EpochClock], None]:
        row, side = get_backbone(self.backbone.backbone), self.cells.pixels.shape[1:3]
        base = build_backbone(row.name, side, self.backbone.weights, weights_folder=self.weights)
        base.trainable = False
        image = keras.Input((*side, 3))
        features = base(build_preprocess(row.preprocess, side)(image), training=False)
        features = keras.layers.GlobalAveragePooling2D()(features)
        features = keras.layers.Dense(DENSE, activation="relu")(features)
        model = keras.Model(image, keras.layers.Dense(self.cells.classes, activation="softmax")(features))
        rate = optimizer.learning_rate
        model.compile(
            optimizer=make_optimizer(optimizer.name, rate), loss="categorical_crossentropy", metrics=["accuracy"],
            jit_compile=False,
        )  # fmt: skip
        return make_fit(model, self.cells, BATCH)

    def train_whole(self, epochs: int = 2) -> list[float]:
        """Losses of training and of validation when all images pass the network in every epoch.

        From the weights and in the order of ours.
        """
        cells = self.cells
        settings = ModelSettings(backbone=self.backbone.backbone, weights=self.backbone.weights, head=HEAD)
        ours = ClassifierTraining(
            cells.data, cells.cache, settings, TRAIN, None, 0, False, self.weights, Path("unused")
        )
        model, seed = ours.build(self.backbone.name), derive_seed(0, "holdout/head")
        train, held_out = cells.data.rows_of("train"), cells.data.rows_of("validation")
        targets = cells.targets
        freeze(model)
        compile_stage(
            model, StageSettings(epochs=epochs, optimizer=OPTIMIZERS[0].name, learning_rate=1e-3), 1
        )
        losses = []
        for epoch in range(epochs):
            batches = epoch_batches(
                cells.pixels, targets, batch_size=BATCH, seed=seed, epoch=epoch, shuffle=True, indices=train
            )
            watched = epoch_batches(cells.pixels, targets, batch_size=BATCH, indices=held_out)
            history = model.fit(batches, validation_data=watched, shuffle=False, verbose=0).history
            losses += [history["loss"][0], history["val_loss"][0]]
        return losses

    def require_equal(self, whole: Sequence[float]) -> float:
        """Greatest difference of the losses of ours and of ``whole``; stops where it is not small."""
        rows = self._histories[OPTIMIZERS[0].name, EPOCHS].epochs
        stored = [loss for row in rows for loss in (row.loss, row.val_loss)]
        difference = max(abs(a - b) for a, b in zip(stored, whole, strict=False))
        assert difference < TOLERANCE, f"losses must agree within {TOLERANCE}, but differ by {difference}"
        return difference


def list_rows(sweep: Sweep, timings: dict[str, Timing], count: int, side: int, backbone: str) -> list[Row]:
    """Both comparisons; the speed is that of images times epochs times runs."""
    amount = count * EPOCHS * len(OPTIMIZERS)
    what = f"{backbone}, {count} images of {side} px"
    how = (
        "all timed"
        if sweep.full
        else "one run built once, two epochs of it run a round, the second counted for nine, all that four times"
    )
    ours, one = timings["once"], timings["one run"]
    alternative = Timing("fit on pixels", tuple(sweep.full_seconds))
    added = ours.median - one.median
    note = (
        f"the alternative: {how}. Ours takes {ours.median:.1f} s, of which one run of one epoch needs "
        f"{one.median:.1f} s: 39 more epochs and 3 more runs add {added:.1f} s, however large the network."
    )
    return [
        row_of(f"{what}, 10 epochs x 4 runs", ours, alternative, amount, "images x epochs/s", 20, note),
        row_of(
            f"{what}, 10 x 4 against 1 x 1", ours, Timing("ours, 1 epoch x 1 run", one.seconds), 1, "sweeps/s"
        ),
    ]


if __name__ == "__main__":
    main()
