"""A designed experiment: the nine rows of an L9 against a grid of 81, and caches that the rows share against none.

    python benchmarks/designed_experiment.py [--short] [--weights FILE] [--count N] [--side PIXELS]

First the same hypermodel, a small network on rendered cells, with four factors of three levels (optimizer, batch size,
epochs, learning rate): ``TaguchiTuner`` runs the nine rows of L9(3^4) and one confirmation, keras-tuner's ``GridSearch``
all 81 combinations. In the short form keras-tuner runs three of the 81, drawn anew in every round, and their seconds
count 27 times.

Then nine rows of heads on a frozen network, trained by ``TrialTraining`` as ``kerasall tune`` does it: from one folder
of activations that begins empty, against each from an empty folder of its own. The images are decoded beforehand for
both. In the short form one of the nine is trained alone in every round, the next one in the next, and counts nine
times (rows differ in their epochs: 2, 4 or 6). The responses of both ways must be equal for the rows run;
tests/components/test_tuner.py asserts it
(``test_trials_from_the_same_weights_share_what_the_frozen_part_gives``).
"""

from __future__ import annotations

import gc
import itertools
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner
import numpy as np
from interleaved import Row, Timing, measure, parse, report, row_of
from rendered_cells import Cells, draw_cells, quiet

from kerasall.components.trial_training import SearchJob, TrialTraining
from kerasall.models.base import build_backbone
from kerasall.settings import TrialSettings, TuneSettings
from kerasall.settings.factors import as_choices, factor_levels
from kerasall.taguchi.design import plan
from kerasall.taguchi.oracle import TaguchiOracle
from kerasall.taguchi.tuner import TaguchiTuner, TrialRun

FACTORS = {
    "optimizer": ("adam", "sgd", "rmsprop"),
    "batch_size": (16, 32, 64),
    "epochs": (1, 2, 3),
    "learning_rate": (0.01, 0.003, 0.001),
}
ROWS = {
    "train.stages.0.optimizer.name": ("adam", "sgdm", "rmsprop"),
    "train.batch_size": (16, 32, 64),
    "train.stages.0.epochs": (2, 4, 6),
    "train.stages.0.optimizer.learning_rate": (0.01, 0.003, 0.001),
}
GRID, NINE, PART = 81, 9, 3
BACKBONE = "vgg16"


def main() -> None:
    options = parse(
        __doc__,
        ("--weights", {"type": Path, "help": "weights file of VGG16 instead of random ones"}),
        ("--count", {"type": int, "help": "images of the nine rows; 48 in the short form, else 600"}),
        ("--side", {"type": int, "help": "pixels; 64 in the short form, else 224"}),
    )
    count, side = (
        options.count or (48 if options.short else 600),
        options.side or (64 if options.short else 224),
    )
    gc.collect()
    gc.freeze()  # every trial of either side collects garbage, and would look through all of TensorFlow
    searches = Searches(draw_cells(96, 24), options.short)
    with tempfile.TemporaryDirectory() as folder:
        weights = options.weights or write_weights(Path(folder), side)
        rows = NineRows(draw_cells(count, side), weights, options.short)
        report(
            "designed_experiment",
            [time_searches(searches, options.rounds), time_rows(rows, options.rounds)],
        )


def time_searches(searches: Searches, rounds: int) -> Row:
    """The array against the grid."""
    searches.run_grid()  # warms up
    timings = measure({"L9": searches.run_array, "grid": searches.run_grid}, rounds, warm_up=False)
    ours = timings["L9"]
    grid = Timing("GridSearch, 81 trials", tuple(searches.seconds[-rounds:]))
    how = (
        "three of the 81, drawn anew in every round, were run and count 27 times"
        if searches.partly
        else "all run"
    )
    note = (
        f"the grid: {how}. Ten trials of 81 would be 8.1 if each took as long; ours also stores every epoch's state, "
        "to go on after a kill, which counts where a trial takes a second."
    )
    return row_of(
        "4 factors of 3 levels, small network", Timing("L9 and 1 confirmation", ours.seconds), grid, 1,
        "experiments/s", None, note,
    )  # fmt: skip


def time_rows(rows: NineRows, rounds: int) -> Row:
    """Shared caches against none."""
    timings = measure({"shared": rows.run_shared, "alone": rows.run_alone}, rounds, warm_up=False)
    alone = Timing("9 trainings alone", tuple(rows.seconds))
    note = "one of the nine alone a round, counted nine times; " if rows.partly else ""
    note += f"greatest difference of responses {rows.require_equal():.1e}"
    count, side = rows.cells.pixels.shape[:2]
    return row_of(
        f"9 rows of heads on {BACKBONE}, {count} images of {side} px",
        Timing("9 rows, shared caches", timings["shared"].seconds), alone, NINE, "trainings/s", 1, note,
    )  # fmt: skip


class Searches:
    """One hypermodel, searched by an array and by a grid.

    Args:
        cells: the images.
        partly: whether the grid is run in part.
    """

    def __init__(self, cells: Cells, partly: bool) -> None:
        data, self.partly = cells.data, partly
        train, validation = data.rows_of("train"), data.rows_of("validation")
        targets = np.eye(2, dtype="f4")[data.labels]
        self._train, self._validation = (
            (cells.pixels[rows].astype("f4") / 255, targets[rows]) for rows in (train, validation)
        )
        self.seconds: list[float] = []
        self._seeds = itertools.count()

    def run_array(self) -> None:
        """Nine rows and a confirmation."""
        oracle = TaguchiOracle("val_accuracy", FACTORS, array="L9(3^4)", repeats=1, confirmations=1)
        with tempfile.TemporaryDirectory() as folder:
            self._search(TaguchiTuner(oracle, SmallNetwork(), directory=folder))

    def run_grid(self) -> None:
        """All combinations, or three of them counted 27 times."""
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            settings = {"objective": "val_accuracy", "directory": folder}
            if self.partly:
                settings |= {"max_trials": PART, "seed": next(self._seeds)}
                self._search(keras_tuner.RandomSearch(SmallNetwork(), **settings))
            else:
                self._search(keras_tuner.GridSearch(SmallNetwork(), **settings))
        times = GRID // PART if self.partly else 1
        self.seconds.append(times * (time.perf_counter() - started))

    def _search(self, tuner: keras_tuner.Tuner) -> None:
        with quiet():
            tuner.search(*self._train, validation_data=self._validation, verbose=0)


class SmallNetwork(keras_tuner.HyperModel):
    """Two convolutions; every factor is a choice."""

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        chosen = {name: hp.Choice(name, list(levels)) for name, levels in FACTORS.items()}
        model = keras.Sequential(
            [
                keras.Input((24, 24, 3)),
                keras.layers.Conv2D(8, 3, activation="relu"),
                keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(2, activation="softmax"),
            ]
        )
        optimizer = keras.optimizers.get(chosen["optimizer"])
        optimizer.learning_rate = chosen["learning_rate"]
        # Eagerly on both sides: to trace the steps would take most of so short a trial.
        model.compile(
            optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"], run_eagerly=True
        )
        return model

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, *data, **options
    ) -> keras.callbacks.History:
        return model.fit(*data, **options | {"epochs": hp.get("epochs"), "batch_size": hp.get("batch_size")})


class NineRows:
    """The rows of an L9 over settings of a head.

    Args:
        cells: the images.
        weights: of the frozen network.
        partly: whether only some are trained alone.
    """

    def __init__(self, cells: Cells, weights: Path, partly: bool) -> None:
        self.cells, self.partly = cells, partly
        stage = {"name": "head", "epochs": 4, "keep": "last"}
        self._base = TrialSettings.model_validate(
            {
                "model": {"backbone": BACKBONE, "weights": str(weights), "head": {"dense": [64]}},
                "train": {"stages": [stage], "precision": "float32"},
            }
        )
        self._tune = TuneSettings.model_validate({"factors": ROWS, "repeats": 1, "response": "log_loss"})
        levels = factor_levels(self._base, self._tune.factors)
        array = plan({key: as_choices(values) for key, values in levels.items()}, "L9(3^4)", 0)
        self._rows = [tuple(int(level) for level in row) for row in array.levels]
        self._alone = itertools.cycle([range(n, n + 1) for n in range(NINE)] if partly else [range(NINE)])
        self.seconds: list[float] = []
        self._found: dict[tuple[str, int], float] = {}

    def run_shared(self) -> None:
        """All nine from one folder."""
        with tempfile.TemporaryDirectory() as folder:
            for number in range(NINE):
                self._found["shared", number] = self._train(number, Path(folder))

    def run_alone(self) -> None:
        """Some, each from a folder of its own."""
        started, numbers = time.perf_counter(), next(self._alone)
        for number in numbers:
            with tempfile.TemporaryDirectory() as folder:
                self._found["alone", number] = self._train(number, Path(folder))
        self.seconds.append((time.perf_counter() - started) * NINE / len(numbers))

    def _train(self, number: int, folder: Path) -> float:
        job = SearchJob(folder, folder, self._base, self._tune, 0.2, 0, False, None, folder)
        training = TrialTraining(job, self.cells.data)
        training.pixels = self.cells.cache
        levels = dict(zip(ROWS, self._rows[number], strict=True))
        run = TrialRun(f"{number:04d}", {}, levels, number + 1, 1, 1, number, folder / f"trial_{number}")
        with quiet():
            return training(run)["log_loss"]

    def require_equal(self) -> float:
        """Greatest difference of the responses of both ways; stops where it is not small."""
        shared = {number: value for (way, number), value in self._found.items() if way == "shared"}
        alone = {number: value for (way, number), value in self._found.items() if way == "alone"}
        difference = max(abs(shared[number] - value) for number, value in alone.items())
        assert difference < 1e-5, f"responses must be equal, but differ by {difference}"
        return difference


def write_weights(folder: Path, side: int) -> Path:
    """Random weights in a file, from which all trials begin, as from pretrained ones."""
    path = folder / f"{BACKBONE}.weights.h5"
    build_backbone(BACKBONE, (side, side), "random").save_weights(path)
    return path


if __name__ == "__main__":
    main()
