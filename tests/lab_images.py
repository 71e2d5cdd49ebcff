"""A lab's own images for tests: empty files for what reads names alone, and small pictures in a table."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def touch(root: Path, *names: str) -> Path:
    """Lays empty files of these names below ``root``, and gives it."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write_table(folder: Path, patients: Mapping[str, Mapping[str, int]], side: int = 40) -> Path:
    """Paints images and lists them in ``cells.csv``.

    Args:
        folder: to write into.
        patients: class -> patient ("" where none is known) -> number of images.
        side: of an image, in pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = []
    for shade, (label, counts) in enumerate(patients.items()):
        for patient, count in counts.items():
            for _ in range(count):
                name = f"img{len(rows):04d}.png"
                pixels = rng.integers(0, 100, (side, side, 3)) + 60 * shade
                Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
                rows.append((name, label, patient))
    with open(folder / "cells.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "subject"), *rows])
    return folder / "cells.csv"


def evenly(count: int, images: int, first: int = 0) -> dict[str, int]:
    """So many patients with so many images each."""
    return {f"P{number:02d}": images for number in range(first, first + count)}
