"""From image files to batches: the pixel cache against ``image_dataset_from_directory``.

    python benchmarks/input_pipeline.py [--short] [--images FOLDER]

Files are rendered cells, each under its own name: JPEG of 224 px (``--images``: a folder of <class>/<image>) and BMP of
450 px, resized to 224 px, batches of 32. Timed are

- the first epoch: list, read, check headers, decode, resize, shuffle, batch; the alternative lists, reads,
  decodes, resizes, shuffles, batches and prefetches, and with ``.cache()`` keeps the images too. Every round begins
  with nothing. In a run the files' SHA-256 are known from the scan before, and every file is held against its own
  again: rows of their own, the second against tf.data that does the same work (the SHA-256, the very pixels, uint8 kept);
- the parts of a first epoch, each alone on all cores over the same files: reading, decoding by the fastest library here
  without a check, resizing, filling fresh memory, SHA-256. Their sum is the limit of whoever does them in these
  libraries, and the alternative's time over this sum is the best ratio that a first epoch could have;
- later epochs, against the same two; with ``.cache()`` all images lie in memory as float32, four times as large, and the
  batches of the first epoch come again;
- decoding a BMP of 450 px, against reading its bytes and copying them, both into one large array; and the same for
  reading and one pass that exchanges red and blue, which leaves the rows upside down: the least that OpenCV can do;
- the peak memory of a process that decodes to disk and runs one epoch, few images against many, all allowed 32 MiB.

Tests: tests/data/test_input_pipeline.py (``test_training_sees_the_pixels_that_an_exported_model_sees``,
``test_batches_from_disk_are_those_from_memory_and_a_cut_file_is_told``) and
tests/test_decoding.py::test_every_lossless_kind_gives_the_reference_pixels_on_both_ways.
"""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import simplejpeg
import tensorflow as tf
from interleaved import Row, Timing, measure, parse, report, row_of

from kerasall.data.cell_drawing import draw_image
from kerasall.data.image_folder import read_image_folder
from kerasall.data.input_pipeline import EpochSource
from kerasall.data.pixel_cache import PixelCache, decode_pixels, empty_pixels
from kerasall.decoding import decode, read_image_bytes
from kerasall.preprocessing.operations import Chain
from kerasall.runtime import as_tensor, empty_aligned

BATCH, SIDE, ALLOWED = 32, 224, 32 << 20
CHAIN = Chain.from_json([{"op": "resize", "height": SIDE, "width": SIDE}])
DRAWN = 32
"""Different cells; their files are written over and over under other names."""


def write_cells(folder: Path, kind: str, suffix: str, side: int, count: int) -> Path:
    """Writes ``count`` files in two classes."""
    cells = [draw_image(kind, 0, (i % 2, i // 2, i), side)[..., ::-1] for i in range(DRAWN)]
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
    files = [cv2.imencode(suffix, cell, quality if suffix == ".jpg" else [])[1].tobytes() for cell in cells]
    for number in range(count):
        path = folder / f"class_{number % 2}" / f"{number:06d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[number % DRAWN])
    return folder


def list_files(folder: Path) -> tuple[list[str], np.ndarray, int]:
    """Paths, class indices, number of classes."""
    table = read_image_folder(folder).examples
    classes = sorted(set(table["label"]))
    return table["path"].tolist(), table["label"].map(classes.index).to_numpy(), len(classes)


def run_first(folder: Path, keys: list[str] | None = None) -> None:
    """Our first epoch; with ``keys`` the files must have these SHA-256."""
    paths, labels, classes = list_files(folder)
    run_all_of(open_ours(decode_pixels(paths, CHAIN, keys=keys), labels, classes).epoch(0))


def open_ours(cache: PixelCache, labels: np.ndarray, classes: int) -> EpochSource:
    """Shuffled batches of every epoch, as the Trainer takes them."""
    return EpochSource(cache.pixels, labels, batch_size=BATCH, classes=classes, shuffle=True)


def open_keras(folder: Path) -> Any:
    """The dataset of Keras' documentation."""
    return keras.utils.image_dataset_from_directory(
        folder, label_mode="categorical", image_size=(SIDE, SIDE), batch_size=BATCH, verbose=False
    )


def run_all_of(batches: Any) -> None:
    """One pass."""
    for _ in batches:
        pass


def open_equal(folder: Path, keys: dict[str, str]) -> tf.data.Dataset:
    """The same work as ours in tf.data: every file's SHA-256 compared, the very pixels, kept as uint8 for later epochs."""
    paths = sorted(map(str, folder.glob("*/*")))
    names = sorted({Path(path).parent.name for path in paths})
    labels = [names.index(Path(path).parent.name) for path in paths]

    def load(path: tf.Tensor, key: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        data = tf.io.read_file(path)
        found = tf.numpy_function(lambda data: sha256(data).hexdigest(), [data], tf.string)
        with tf.control_dependencies([tf.debugging.assert_equal(found, key)]):
            pixels = (
                tf.io.decode_bmp(data, 3)
                if paths[0].endswith(".bmp")
                else tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE")
            )
        resized = tf.image.resize(pixels, (SIDE, SIDE))
        return tf.cast(tf.round(tf.ensure_shape(resized, (SIDE, SIDE, 3))), tf.uint8), tf.one_hot(
            label, len(names)
        )

    files = tf.data.Dataset.from_tensor_slices((paths, [keys[path] for path in paths], labels))
    images = files.shuffle(len(paths)).map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
    return images.cache().batch(BATCH).prefetch(tf.data.AUTOTUNE)


def list_parts(paths: list[str]) -> dict[str, Callable[[], None]]:
    """Each part of a first epoch alone, on all cores; what the others would give it is made before.

    Files are read from the disk's cache, pixels lie in the processor's where they are few; both are so in an epoch.
    """
    contents = [read_image_bytes(path) for path in paths[:DRAWN]]
    images = [decode(data, allocate=lambda shape: empty_aligned(shape, np.uint8)) for data in contents]
    size, small = tf.constant((SIDE, SIDE)), np.zeros((SIDE, SIDE, 3), np.uint8)

    def decode_alone(number: int) -> None:
        data, into = contents[number % DRAWN], empty_aligned(images[number % DRAWN].shape, np.uint8)
        if data[:2] == b"BM":
            (start,), row_bytes = struct.unpack_from("<I", data, 10), (3 * into.shape[1] + 3) // 4 * 4
            stored = np.ndarray(into.shape, np.uint8, data, start, (row_bytes, 3, 1))
            cv2.cvtColor(stored, cv2.COLOR_BGR2RGB, into)
        else:
            simplejpeg.decode_jpeg(data, "RGB", buffer=into)

    def resize_alone(number: int) -> None:
        image = images[number % DRAWN]
        if image.shape != small.shape:
            tf.raw_ops.ResizeBilinear(images=as_tensor(image[None]), size=size, half_pixel_centers=True)

    def run(each: Callable[[int], object]) -> None:
        def run_part(start: int) -> None:
            for number in range(start, min(start + 32, len(paths))):
                each(number)

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(run_part, range(0, len(paths), 32)))

    def fill() -> None:
        pixels = empty_pixels((len(paths), SIDE, SIDE, 3))
        run(lambda number: np.copyto(pixels[number], small))

    return {
        "reading": lambda: run(lambda number: read_image_bytes(paths[number])),
        "decoding": lambda: run(decode_alone),
        "resizing": lambda: run(resize_alone),
        "filling memory": fill,
        "SHA-256": lambda: run(lambda number: sha256(contents[number % DRAWN]).hexdigest()),
    }


def compare_first(folder: Path, what: str, rounds: int) -> list[Row]:
    """The first epoch, alone and with every file's SHA-256 compared, and its parts alone."""
    paths = list_files(folder)[0]
    keys = {path: sha256(read_image_bytes(path)).hexdigest() for path in paths}
    parts = list_parts(paths)
    taken = measure(
        {
            "pixel cache": lambda: run_first(folder),
            "pixel cache, hashes compared": lambda: run_first(folder, [keys[path] for path in paths]),
            "image_dataset_from_directory": lambda: run_all_of(open_keras(folder).prefetch(tf.data.AUTOTUNE)),
            "the same with .cache()": lambda: run_all_of(
                open_keras(folder).cache().prefetch(tf.data.AUTOTUNE)
            ),
            "tf.data, the same work": lambda: run_all_of(open_equal(folder, keys)),
            **parts,
        },
        rounds,
    )
    ours, checked, theirs, theirs_cached, equal, *alone = taken.values()
    hashed = _sum_of("its parts alone, SHA-256 too", alone)
    bare = _sum_of("its parts alone", alone[:-1])
    speeds = ", ".join(f"{each.name} {len(paths) / each.median:,.0f}" for each in alone)
    note = (
        f"images/s of each part alone on all cores: {speeds}; at the sum of all but the last the ratio would be "
        f"{theirs.median / bare.median:.2f}, of all five against the same work in tf.data "
        f"{equal.median / hashed.median:.2f}; listing, threads and batches come on top on both sides"
    )
    title = f"first epoch, {what}"
    return [
        row_of(title, ours, theirs, len(paths), goal=1.2, note=note),
        row_of(title, checked, theirs, len(paths)),
        row_of(title, ours, theirs_cached, len(paths)),
        row_of(title, checked, equal, len(paths), goal=1.2),
        row_of(f"{title}: limit", ours, bare, len(paths)),
        row_of(f"{title}: limit", checked, hashed, len(paths)),
    ]


def _sum_of(name: str, timings: list[Timing]) -> Timing:
    return Timing(name, tuple(map(sum, zip(*(each.seconds for each in timings), strict=True))))


def compare_later(folder: Path, rounds: int) -> list[Row]:
    """Epochs after the first."""
    paths, labels, classes = list_files(folder)
    ours_of = open_ours(decode_pixels(paths, CHAIN), labels, classes)
    numbers = itertools.count(1)
    plain = open_keras(folder).prefetch(tf.data.AUTOTUNE)
    cached = open_keras(folder).cache().prefetch(tf.data.AUTOTUNE)
    taken = measure(
        {
            "pixel cache": lambda: run_all_of(ours_of.epoch(next(numbers))),
            "image_dataset_from_directory": lambda: run_all_of(plain),
            "the same with .cache()": lambda: run_all_of(cached),
        },
        rounds,
    )
    ours, theirs, theirs_cached = taken.values()
    note = (
        "hands out the same float32 batches again, copying nothing, in four times the memory; beside any training step "
        "both are as good as free"
    )
    return [
        row_of("later epochs, JPEG", ours, theirs, len(paths), goal=5),
        row_of("later epochs, JPEG", ours, theirs_cached, len(paths), note=note),
    ]


def compare_bitmaps(folder: Path, rounds: int) -> list[Row]:
    """Decoding BMP against reading and copying."""
    paths = list_files(folder)[0]
    pixels = np.zeros((len(paths), 450, 450, 3), np.uint8)
    raw = np.zeros((len(paths), os.path.getsize(paths[0])), np.uint8)

    def run_decoding() -> None:
        for row, path in enumerate(paths):
            decode(read_image_bytes(path), name=path, allocate=lambda shape, row=row: pixels[row])

    def run_copying() -> None:
        for row, path in enumerate(paths):
            with open(path, "rb") as file:
                raw[row] = np.frombuffer(file.read(), np.uint8)

    def run_exchanging() -> None:
        for row, path in enumerate(paths):
            with open(path, "rb") as file:
                stored = np.ndarray((450, 450, 3), np.uint8, file.read(), 54, (1352, 3, 1))
            cv2.cvtColor(stored, cv2.COLOR_BGR2RGB, pixels[row])

    taken = measure(
        {
            "decoding": run_decoding,
            "reading and copying": run_copying,
            "reading and exchanging red and blue": run_exchanging,
        },
        rounds,
    )
    decoding, copying, exchanging = taken.values()
    note = (
        "goal: at most a fifth longer; the rows are turned about in place after red and blue have changed places; "
        f"without it, and without looking at the header, the ratio would be {copying.median / exchanging.median:.2f}"
    )
    return [
        row_of("BMP 450 px", decoding, copying, len(paths), goal=1 / 1.2, note=note),
        row_of("BMP 450 px: limit", decoding, exchanging, len(paths)),
    ]


def compare_memory(source: Path, work: Path, counts: tuple[int, int]) -> Row:
    """Peak memory with few and with many images, each in a process of its own."""
    files = sorted(source.rglob("*.*"))
    peaks = []
    for count in counts:
        folder = work / f"many_{count}"
        for number in range(count):
            file = files[number % len(files)]
            link = folder / file.parent.name / f"{number:06d}{file.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
        command = [sys.executable, __file__, "--child", str(folder)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks.append(float(output.split()[-1]))
    few, many = peaks
    return Row(
        what="peak memory", unit="MiB", ours=f"{counts[1]:,} images", alternative=f"{counts[0]:,} images",
        speeds=(many, few), ratio=few / many, spread=(few / many, few / many), goal=0.95,
        note=f"pixels on disk: {counts[1] * SIDE**2 * 3 / 2**20:,.0f} and {counts[0] * SIDE**2 * 3 / 2**20:,.0f} MiB, "
        f"{ALLOWED >> 20} MiB of them allowed in memory; goal: at most a twentieth more",
        facts={"peaks": peaks},
    )  # fmt: skip


def run_child(folder: Path) -> None:
    """Decodes to disk, runs an epoch, prints the peak memory in MiB."""
    paths, labels, classes = list_files(folder)
    with tempfile.TemporaryDirectory(dir=folder.parent) as store:
        run_all_of(open_ours(decode_pixels(paths, CHAIN, store, ALLOWED), labels, classes).epoch(0))
    status = Path("/proc/self/status").read_text(
        encoding="utf-8"
    )  # getrusage also counts the parent's memory
    print(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024)


def main() -> None:
    options = parse(
        __doc__,
        ("--images", {"type": Path, "help": "folder of <class>/<image> instead of rendered cells"}),
        ("--child", {"type": Path, "help": "measures memory"}),
    )
    if options.child:
        run_child(options.child)
        return
    jpegs, bitmaps, counts = (1_000, 600, (500, 4_000)) if options.short else (3_256, 2_000, (1_000, 50_000))
    with tempfile.TemporaryDirectory(prefix="kerasall-") as name:
        work = Path(name)
        smears = options.images or write_cells(work / "jpeg", "aria", ".jpg", SIDE, jpegs)
        cells = write_cells(work / "bmp", "cnmc", ".bmp", 450, bitmaps)
        rows = [
            *compare_first(smears, "JPEG 224 px", options.rounds),
            *compare_first(cells, "BMP 450 px", options.rounds),
            *compare_later(smears, options.rounds),
            *compare_bitmaps(cells, options.rounds),
            compare_memory(smears, work, counts),
        ]
    report("input_pipeline", rows, batch=BATCH)


if __name__ == "__main__":
    main()
