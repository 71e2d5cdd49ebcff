"""Do the maps look at the cells? Share of a map's energy inside the cells against the share of the image they cover.

Every image needs a twin of the same name and size in which all but the cells is black, as the folders
Original and Segmented of the four-class set have. The model's chain may resize, but not crop.

    python benchmarks/explanation_in_cell.py savedmodels/aria_mobilenet PATH/Original PATH/Segmented

Printed are means over images with 95% bootstrap intervals (BCa) by image, in all and by class:
    cells     share of the image that the cells cover: what a map that looks anywhere would reach
    energy    share of the map's sum inside them
    elsewhere the same with the map of another image of the class: what the layout of slides alone gives
    gain      energy less cells; above 0, maps prefer cells
    peak      share of images whose highest point lies in a cell
    border    share of the map's sum in the outermost tenth of rows and columns, which covers 36% of the image
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import bootstrap

from kerasall.decoding import read_image_bytes
from kerasall.serving.explanation import METHODS, explain_image, require_explainable
from kerasall.serving.predictor import Predictor

BLACK = 12
"""Brightest channel up to which a pixel counts as black: above the ringing of JPEG around a cell."""
COLUMNS = ("cells", "energy", "elsewhere", "gain", "peak", "border")


def choose_images(original: Path, segmented: Path, count: int) -> dict[str, list[Path]]:
    """Class -> evenly spaced images that have a twin, as many of each class."""
    folders = sorted(p for p in original.iterdir() if p.is_dir())
    chosen = {}
    for folder in folders:
        paired = [p for p in sorted(folder.iterdir()) if (segmented / folder.name / p.name).is_file()]
        rows = np.linspace(0, len(paired) - 1, min(len(paired), -(-count // len(folders)))).astype(int)
        chosen[folder.name] = [paired[row] for row in rows]
    return chosen


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Where the cells are: bool [H, W]."""
    bright = (cv2.imread(str(path)).max(axis=2) > BLACK).astype(np.uint8)
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return cv2.resize(opened, size[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)


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


def explain_all(
    predictor: Predictor, paths: Sequence[Path], segmented: Path, method: str
) -> tuple[np.ndarray, np.ndarray, int]:
    """Maps of the classes that are called, the cells' masks, and for how many images there was no evidence."""
    maps, masks, empty = [], [], 0
    for path in paths:
        found = explain_image(predictor, read_image_bytes(path), str(path), method=method)
        if not found.has_evidence.any():
            empty += 1
            continue
        maps.append(found.heatmap)
        masks.append(read_mask(segmented / path.parent.name / path.name, found.heatmap.shape))
    return np.array(maps, np.float64), np.array(masks), empty


def main() -> None:
    """Prints the table of each method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a SavedModel")
    parser.add_argument("original", type=Path, help="folder of <class>/<image>")
    parser.add_argument("segmented", type=Path, help="folder of the same images with all but the cells black")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    predictor = Predictor(options.model)
    require_explainable(predictor)
    chosen = choose_images(options.original, options.segmented, options.images)
    for method in options.methods:
        measured, empty = {}, 0
        for name, paths in chosen.items():
            maps, masks, without = explain_all(predictor, paths, options.segmented, method)
            measured[name], empty = measure(maps, masks), empty + without
        print(
            f"\n{method}: {sum(map(len, measured.values()))} images, {empty} more without positive evidence"
        )
        print_table(measured)


if __name__ == "__main__":
    main()
