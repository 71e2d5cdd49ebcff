"""Random changes of training images: one warp an image against four Random* layers and ImageDataGenerator.

    python benchmarks/augmentation.py [--short]

All sides turn, flip, zoom and shift the same uint8 images of 224 px in batches of 32, with reflected borders and
bilinear interpolation. The layers run on whole batches in ``Dataset.map``, as many at a time as there are cores
(AUTOTUNE begins with one, which a short walk would pay for), with a prefetch; their dataset is built and traced once,
before. The second comparison adds brightness, contrast and saturation. In the short form the alternatives change half of
the images, and their seconds count twice. That the warp is right within interpolation (against scipy.ndimage) is held by
tests/preprocessing/test_augmentation.py::test_the_warp_is_that_of_scipy_with_the_matrix_multiplied_out.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from interleaved import Timing, measure, parse, report, row_of
from keras.src.legacy.preprocessing.image import ImageDataGenerator

from kerasall.data.input_pipeline import epoch_batches
from kerasall.preprocessing.augmentation import Augmentation

BATCH = 32
MOVES: dict[str, Any] = {
    "horizontal_flip": True,
    "vertical_flip": True,
    "rotation_degrees": 36,
    "zoom": (0.8, 1.2),
    "shift": 0.1,
    "fill": "reflect",
}
COLOURS: dict[str, Any] = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2}


def run_ours(pixels: np.ndarray, augmentation: Augmentation) -> None:
    """One epoch of changed batches."""
    labels = np.zeros(len(pixels), int)
    for _ in epoch_batches(pixels, labels, batch_size=BATCH, classes=2, shuffle=True, augment=augmentation):
        pass


def build_layers(pixels: np.ndarray, colours: bool) -> tf.data.Dataset:
    """The same amounts with Keras' layers, as its documentation has them; an epoch is a walk over the dataset."""
    layers = [
        keras.layers.RandomFlip(),
        keras.layers.RandomRotation(0.1, fill_mode="reflect"),
        keras.layers.RandomZoom(0.2, fill_mode="reflect"),
        keras.layers.RandomTranslation(0.1, 0.1, fill_mode="reflect"),
    ]
    if colours:
        layers += [
            keras.layers.RandomSaturation(0.2, value_range=(0, 255)),
            keras.layers.RandomContrast(0.2, value_range=(0, 255)),
            keras.layers.RandomBrightness(0.2),
        ]

    def change(images: tf.Tensor) -> tf.Tensor:
        for layer in layers:
            images = layer(images, training=True)
        return images

    batches = tf.data.Dataset.from_tensor_slices(pixels).shuffle(len(pixels)).batch(BATCH)
    return batches.map(change, num_parallel_calls=os.cpu_count()).prefetch(tf.data.AUTOTUNE)


def run_dataset(batches: tf.data.Dataset) -> None:
    """One epoch."""
    for _ in batches:
        pass


def run_generator(pixels: np.ndarray) -> None:
    """One epoch of the papers' ImageDataGenerator, which Keras still holds under ``legacy``."""
    generator = ImageDataGenerator(
        horizontal_flip=True, vertical_flip=True, rotation_range=36, zoom_range=0.2, width_shift_range=0.1,
        height_shift_range=0.1, fill_mode="reflect",
    )  # fmt: skip
    batches = generator.flow(pixels, batch_size=BATCH)
    for _ in range(len(batches)):
        next(batches)


def main() -> None:
    options = parse(__doc__)
    count = 256 if options.short else 2_000
    pixels = np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)
    # Half of them for the alternatives, unless that left cores without a batch.
    share = 2 if options.short and count // BATCH >= 4 * (os.cpu_count() or 1) else 1
    few = pixels[: count // share]
    moved_layers, coloured_layers = (build_layers(few, colours) for colours in (False, True))
    moved, coloured = Augmentation(**MOVES), Augmentation(**MOVES, **COLOURS)
    taken = measure(
        {
            "one warp": lambda: run_ours(pixels, moved),
            "4 Random* layers": lambda: run_dataset(moved_layers),
            "ImageDataGenerator": lambda: run_generator(few),
            "one warp, one colour matrix": lambda: run_ours(pixels, coloured),
            "7 Random* layers": lambda: run_dataset(coloured_layers),
        },
        options.rounds,
    )
    ours, coloured_ours = taken["one warp"], taken["one warp, one colour matrix"]
    layers, generator, coloured_layered = (
        Timing(name, tuple(share * seconds for seconds in taken[name].seconds))
        for name in ("4 Random* layers", "ImageDataGenerator", "7 Random* layers")
    )
    report(
        "augmentation",
        [
            row_of("moved, 224 px", ours, layers, count, goal=5),
            row_of("moved, 224 px", ours, generator, count, goal=5),
            row_of("moved and recoloured", coloured_ours, coloured_layered, count),
        ],
        images=f"{count}, of which the alternatives change {len(few)}",
        batch=BATCH,
    )


if __name__ == "__main__":
    main()
