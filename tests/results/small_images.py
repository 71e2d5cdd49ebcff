"""A set of images without pixels: patients, some cells that stand under two ids, and features that say whose a cell is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from kerasall.data.duplicates import Duplicates
from kerasall.data.examples import Collection
from kerasall.data.statistics import ImageScan
from results.frozen import Images

SUBJECTS, EACH = 20, 6


def make_images(source: str = "cnmc", copies: int = 3) -> Images:
    """20 subjects of 6 images, every other one malignant; the first ``copies`` images of subjects 0 and 2 (1 and 3) are the same."""
    rows = [
        {
            "id": f"s{subject:02d}_{image:02d}",
            "path": f"s{subject:02d}_{image:02d}.bmp",
            "label": ("all", "hem")[subject % 2],
            "subject": f"S{subject}",
            "fold": "",
        }
        for subject in range(SUBJECTS)
        for image in range(EACH)
    ]
    examples = pd.DataFrame(rows)
    pairs = [(f"s{one:02d}_{k:02d}", f"s{one + 2:02d}_{k:02d}") for one in (0, 1) for k in range(copies)]
    collection = Collection(
        source, Path("."), examples, ("all", "hem"), ("all",), "subject" if source == "cnmc" else "block",
        joined_subjects=(("S4", "S6"),) if source == "cnmc" else (),
    )  # fmt: skip
    hashes = [f"{k:064x}" for k in range(len(examples))]
    scan = ImageScan(pd.DataFrame({"id": examples["id"], "sha256": hashes}))
    return Images(collection, hashes, Duplicates(near=pairs), scan, Path("."))


def make_features(images: Images, class_shift: float, subject_spread: float, seed: int = 0) -> np.ndarray:
    """float32 [N, 8]: what the class, the subject and the cell itself add; copies have equal ones."""
    random = np.random.default_rng(seed)
    subject = images.collection.examples["subject"].str[1:].astype(int).to_numpy()
    values = (
        random.normal(0, 1, (len(subject), 8)) + subject_spread * random.normal(0, 1, (SUBJECTS, 8))[subject]
    )
    values[:, 0] += class_shift * images.labels
    place = {name: row for row, name in enumerate(images.ids)}
    for one, other in images.duplicates.near:
        values[place[other]] = values[place[one]]
    return values.astype(np.float32)
