"""Do the maps look at the cells? Share of a map's energy inside the cells against the share of the image they cover.

For the four-class set of fields of stained cells. The cells are found by colour in what the model was
shown: nucleated cells take up purple or pink, red cells and the ground do not (the set's own folder
Segmented misses the pale cells of the class Pro).

    python benchmarks/explanation_in_cell.py savedmodels/aria_mobilenet PATH/Original

First table, means over images with 95% bootstrap intervals (BCa) by image, by class and in all:
    cells     share of the image that the cells cover: what a map that looks anywhere would reach
    energy    share of the map's sum inside them
    elsewhere the same with the map of another image of the class: what the layout of slides alone gives
    gain      energy less cells; above 0, maps prefer cells
    peak      share of images whose highest point lies in a cell
    border    share of the map's sum in the outermost tenth of rows and columns, which covers 36% of the image
Second table, to hold the maps against: share of images whose call stays when something is painted out:
    no cells  the cells, filled from around them
    control   as much of the image where another image has its cells
    cells     everything but the cells, in the median colour
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from scipy.ndimage import binary_fill_holes
from scipy.stats import bootstrap

from kerasall.decoding import read_image_bytes
from kerasall.preprocessing.segmentation import HsvThresholdMask
from kerasall.serving.explanation import METHODS, explain_image, require_explainable
from kerasall.serving.predictor import Predictor

CELLS = HsvThresholdMask((120, 50, 60), (172, 255, 255), opening=2, closing=2)
"""Purple to pink of at least a fifth saturation."""
SMALLEST = 100
"""Pixels of a cell at 224 x 224; smaller parts are platelets, dust and print."""
COLUMNS = ("cells", "energy", "elsewhere", "gain", "peak", "border")


def choose_images(folder: Path, count: int) -> dict[str, list[Path]]:
    """Class -> evenly spaced images, as many of each class."""
    classes = sorted(p for p in folder.iterdir() if p.is_dir())
    chosen = {}
    for each in classes:
        paths = sorted(each.iterdir())
        rows = np.linspace(0, len(paths) - 1, min(len(paths), -(-count // len(classes)))).astype(int)
        chosen[each.name] = [paths[row] for row in rows]
    return chosen


def find_cells(pixels: np.ndarray) -> np.ndarray:
    """Where the nucleated cells are in uint8 [H, W, 3]: bool [H, W]."""
    mask = CELLS.mask(tf.constant(pixels, tf.float32)).numpy()
    mask = binary_fill_holes(mask).astype(np.uint8)  # fill_holes=True would go pixel by pixel
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(mask)
    least = SMALLEST * mask.size / 224**2
    return np.isin(parts, [n for n in range(1, count) if statistics[n, cv2.CC_STAT_AREA] >= least])


def measure(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Every column of ``COLUMNS`` for maps [N, H, W] of one class: float [N, 6]."""
    border = np.ones(maps.shape[1:], bool)
    rows, columns = (round(0.1 * side) for side in border.shape)
    border[rows:-rows, columns:-columns] = False
    total = maps.sum(axis=(1, 2))
    inside = (maps * masks).sum(axis=(1, 2)) / total
    others = np.roll(maps, len(maps) // 2, axis=0)
    elsewhere = (others * masks).sum(axis=(1, 2)) / others.sum(axis=(1, 2))
    covered = masks.mean(axis=(1, 2))
    peaks = masks.reshape(len(maps), -1)[np.arange(len(maps)), maps.reshape(len(maps), -1).argmax(axis=1)]
    edge = maps[:, border].sum(axis=1) / total
    return np.stack([covered, inside, elsewhere, inside - covered, peaks, edge], axis=1)


def with_interval(values: np.ndarray) -> str:
    """Mean in percent with its interval, where the values differ."""
    text = f"{100 * values.mean():5.1f}%"
    if np.ptp(values) == 0:
        return f"{text:24s}"
    interval = bootstrap(
        (values,), np.mean, n_resamples=5_000, rng=np.random.default_rng(0)
    ).confidence_interval
    return f"{text} ({100 * interval.low:5.1f} to {100 * interval.high:5.1f}) "


def print_table(measured: dict[str, np.ndarray]) -> None:
    """One line a class, then all."""
    print(f"{'class':10s} {'images':>6s}  " + "".join(f"{name:24s}" for name in COLUMNS))
    for name, rows in [*measured.items(), ("all", np.concatenate(list(measured.values())))]:
        print(f"{name:10s} {len(rows):6d}  " + "".join(with_interval(column) for column in rows.T))


def explain_all(predictor: Predictor, paths: Sequence[Path], method: str) -> tuple[np.ndarray, np.ndarray]:
    """Maps [N, H, W] of the classes that are called, and what the model was shown, [N, H, W, 3]."""
    data = [read_image_bytes(path) for path in paths]
    found = [
        explain_image(predictor, each, str(path), method=method)
        for each, path in zip(data, paths, strict=True)
    ]
    maps, pixels = (
        np.array([each.heatmap for each in found], float),
        np.array([each.pixels for each in found]),
    )
    return maps, pixels


def paint_out(pixels: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Fills what is masked, and a rim of four pixels, from around it."""
    rim = np.ones((9, 9), np.uint8)
    pairs = zip(pixels, masks, strict=True)
    return np.array(
        [cv2.inpaint(each, cv2.dilate(m.astype(np.uint8), rim), 5, cv2.INPAINT_TELEA) for each, m in pairs]
    )


def print_calls(predictor: Predictor, shown: dict[str, np.ndarray]) -> None:
    """How many calls stay when cells, as much of the rest, or all of the rest is painted out."""

    def call(pixels: np.ndarray) -> np.ndarray:
        answers = predictor.signatures["serving_pixels"](pixels=tf.constant(pixels))
        return answers["label_index"].numpy()

    print(
        f"\n{'calls kept':10s} {'images':>6s}  "
        + "".join(f"{name:10s}" for name in ("no cells", "control", "cells"))
    )
    for name, pixels in shown.items():
        masks = np.array([find_cells(each) for each in pixels])
        ground = np.median(pixels, axis=(1, 2)).astype(np.uint8)[:, None, None]
        variants = [
            paint_out(pixels, masks),
            paint_out(pixels, np.roll(masks, len(masks) // 2, axis=0) & ~masks),
            np.where(masks[..., None], pixels, ground),
        ]
        kept = [100 * (call(each) == call(pixels)).mean() for each in variants]
        print(f"{name:10s} {len(pixels):6d}  " + "".join(f"{share:5.0f}%    " for share in kept))


def main() -> None:
    """Prints the table of each method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a SavedModel")
    parser.add_argument("folder", type=Path, help="folder of <class>/<image>")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    predictor = Predictor(options.model)
    require_explainable(predictor)
    chosen = choose_images(options.folder, options.images)
    shown: dict[str, np.ndarray] = {}
    for method in options.methods:
        measured = {}
        for name, paths in chosen.items():
            maps, shown[name] = explain_all(predictor, paths, method)
            masks = np.array([find_cells(each) for each in shown[name]])
            sound = maps.any(axis=(1, 2)) & masks.any(axis=(1, 2))  # without evidence, or without a cell
            measured[name] = measure(maps[sound], masks[sound])
        print(f"\n{method}: {sum(map(len, measured.values()))} of {sum(map(len, chosen.values()))} images")
        print_table(measured)
    print_calls(predictor, shown)


if __name__ == "__main__":
    main()
