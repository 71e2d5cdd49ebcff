"""How fast two processes of a Ray cluster score images, beside `kerasall predict` alone on the same two cores.

    python benchmarks/batch_scoring.py [--short] [--images FOLDER]

Both sides are what the command does once the model is loaded: names are walked, files read, decoded, predicted, and written
to a new table; the cluster is this machine's own (`--cluster auto --workers 2`), its rows travel to the process that writes
them. The model is a MobileNet of 224 px with random weights; images are rendered cells of 450 px, or FOLDER's. Before
timing, both tables must hold the same answers. How long each side takes to start stands below the table. That no image is
lost when workers and drivers are killed is held by tests/serving/test_cluster.py.
"""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
from interleaved import compare, parse, report

from kerasall.data.synthetic import SyntheticSettings, render_cells
from kerasall.models.classifier import build_classifier
from kerasall.preprocessing.operations import Chain
from kerasall.serving.batch import Answering, resume_predictions
from kerasall.serving.cluster import Scoring, on_cluster
from kerasall.serving.export import export_saved_model
from kerasall.serving.image_files import ImageNames, NameSet
from kerasall.serving.prediction_tables import Kind
from kerasall.serving.predictor import Predictor
from kerasall.serving.table_files import open_table

BATCH = 32
TOLERANCE = 1e-5
GOAL = 0.9
NOTE = "2 processes of one core each, against one process of two; what the start costs stands below"


def link_images(sources: list[str], folder: Path, files: int) -> Path:
    """So many names that lead to the sources, over and over."""
    folder.mkdir()
    for number in range(files):
        source = Path(sources[number % len(sources)]).absolute()
        (folder / f"cell_{number:07d}{source.suffix}").symlink_to(source)
    return folder


def scorer(model: Answering, images: Path, folder: Path) -> Callable[[], Path]:
    """What scores all images into a new table, whose path it returns."""
    numbers = count()
    folder.mkdir()

    def score() -> Path:
        out = folder / f"{next(numbers)}.csv"
        tally = resume_predictions(model, ImageNames((str(images),)), out, parts=True)
        assert (tally.held, tally.failed) == (0, 0), tally
        return out

    return score


def require_same(one: Path, other: Path) -> None:
    """Stops where two tables name other images, or answer one otherwise."""
    tables = []
    for out in (one, other):
        rows = {}
        for part in sorted(out.iterdir()):
            with part.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    assert rows.setdefault(row["path"], row) is row, f"{row['path']} stands twice in {out}"
        tables.append(rows)
    first, second = tables
    assert first.keys() == second.keys(), "an image is left out"
    for path, row in first.items():
        far = max(abs(float(row[name]) - float(second[path][name])) for name in ("all", "hem"))
        assert row["label"] == second[path]["label"], path
        assert far <= TOLERANCE, (path, far)


def table_speeds(columns: Mapping[str, Kind], folder: Path, rows: int = 100_000) -> dict[str, str]:
    """What the one process that writes all tables can do, in rows a second of its own processor time."""
    facts, noise = {}, np.random.default_rng(0)
    made = [
        {
            name: float(noise.random(dtype=np.float32)) if kind is float else kind()
            for name, kind in columns.items()
        }
        | {"path": f"s3://bucket/cells/slide_{number // 1000:06d}/cell_{number:09d}.png"}
        for number in range(rows)
    ]
    for suffix in (".csv", ".parquet"):
        out = folder / f"table{suffix}"
        begun = time.process_time()
        with open_table(out, columns, parts=True) as table:
            for first in range(0, rows, 256):
                table.append(made[first : first + 256])
        written = time.process_time()
        with open_table(out, columns) as table:
            held = NameSet()
            read = time.process_time()
            for each in table.held():
                held.add(each["path"])
            again = time.process_time()
        size = sum(part.stat().st_size for part in out.iterdir())
        facts[f"{suffix} parts"] = (
            f"{rows / (written - begun):,.0f} rows/s written, {rows / (again - read):,.0f} rows/s read again "
            f"to go on, {size / rows:.0f} bytes a row"
        )
    return facts


def driver_speed(place: Path, files: int = 20_000) -> float:
    """Rows a second of processor time of the process that gives names out, takes rows and writes them: tiny images and model."""
    (place / "tiny").mkdir()
    noise = np.random.default_rng(0)
    sources = [str(place / "tiny" / f"{number}.png") for number in range(100)]
    for source in sources:
        cv2.imwrite(source, noise.integers(0, 255, (20, 20, 3), np.uint8))
    image = keras.Input((16, 16, 3), name="image")
    outputs = keras.layers.Dense(2, "softmax")(keras.layers.GlobalAveragePooling2D()(image))
    chain = Chain.from_json([{"op": "resize", "height": 16, "width": 16}])
    saved = export_saved_model(keras.Model(image, outputs), chain, ("all", "hem"), place / "small" / "1")
    images = link_images(sources, place / "links", files)
    with on_cluster(Scoring(saved, place, BATCH, None, None), "auto", 2, print) as cluster:
        spent = time.process_time()
        resume_predictions(cluster, ImageNames((str(images),)), place / "rows.parquet")
        return files / (time.process_time() - spent)


def main() -> None:
    options = parse(__doc__, ("--images", {"help": "folder of images; default rendered cells"}))
    files = 512 if options.short else 2_048
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        sources = options.images
        if sources is None:
            render_cells(place / "cells", SyntheticSettings(subjects_per_class=8, images_per_subject=8))
            sources = place / "cells"
        images = link_images(list(ImageNames((str(sources),))), place / "images", files)
        classifier = build_classifier("mobilenet", 2, (224, 224), weights="random")
        chain = Chain.from_json([{"op": "resize", "height": 224, "width": 224}])
        saved = export_saved_model(classifier, chain, ("all", "hem"), place / "mobilenet" / "1")
        begun = time.perf_counter()
        here = Answering.here(Predictor(saved), BATCH)
        loaded = time.perf_counter() - begun
        begun = time.perf_counter()
        scoring = Scoring(saved, place, BATCH, None, None)
        with on_cluster(scoring, "auto", 2, print) as cluster:
            ready = time.perf_counter() - begun
            sides = [scorer(model, images, place / name) for model, name in ((cluster, "two"), (here, "one"))]
            require_same(*(score() for score in sides))
            spent = time.process_time()
            sides[1]()
            spent = files / (time.process_time() - spent)
            row = compare(
                f"predict, {files} images of a folder", ("Ray, 2 processes", sides[0]), ("alone", sides[1]),
                amount=files, rounds=options.rounds, goal=GOAL, note=NOTE,
            )  # fmt: skip
        facts = {"cluster and first process ready": f"{ready:.1f} s", "model loaded alone": f"{loaded:.1f} s"}
        facts["alone"] = f"{spent:.0f} images a second of processor time"
        facts["the process that writes"] = (
            f"{driver_speed(place):,.0f} rows a second of its own processor time"
        )
        facts |= table_speeds(here.columns, place)
    report("batch_scoring", [row], **facts)


if __name__ == "__main__":
    main()
