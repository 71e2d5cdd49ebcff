"""Made-up but plausible reports: a four-class cross-validation and a binary copy of a paper.

Run as a script to look at them: ``python tests/report/sample_report.py OUT [FOLDER_OF_IMAGES]``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kerasall.evaluation.curves import BandedCurve
from kerasall.evaluation.intervals import Interval
from kerasall.evaluation.predictions import Predictions
from kerasall.report.figures_data import GalleryImage, SubjectCount
from kerasall.report.figures_scores import draw_fold_scores
from kerasall.report.format import Score
from kerasall.report.page import Page, Section, draw_picture, render_section, write_page
from kerasall.report.pages.run_training import TrainingRun, training_section
from kerasall.report.sections import confusion_section, data_section, gallery_section, subject_section

CLASSES = ("Benign", "Early", "Pre", "Pro")
MALIGNANT = ("Early", "Pre", "Pro")
MATRIX = np.array([[487, 13, 3, 1], [9, 953, 22, 1], [2, 17, 939, 5], [0, 1, 6, 797]])


def draw_cell(seed: int, side: int = 224) -> np.ndarray:
    """A purple disc on a light ground, uint8 [side, side, 3]: enough to fill a gallery."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    distance = np.hypot(x * rng.uniform(0.9, 1.2), y) + 0.015 * np.sin(5 * np.arctan2(y, x) + seed)
    picture = np.broadcast_to(np.array([236.0, 224, 228]), (side, side, 3)).copy()
    picture[distance < 0.36] = [188, 160, 205]
    picture[distance < rng.uniform(0.2, 0.32)] = [104, 62, 140]
    return np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


def make_gallery(classes=CLASSES, folder: Path | None = None, seed: int = 3) -> list[GalleryImage]:
    """24 predictions, 9 of them wrong; real pictures where ``folder`` holds some."""
    rng = np.random.default_rng(seed)
    files = sorted(folder.rglob("*.jpg")) + sorted(folder.rglob("*.bmp")) if folder else []
    images = []
    for index in range(24):
        true = index % len(classes)
        called = (true + 1 + index // len(classes)) % len(classes) if index < 9 else true
        called = (true + 1) % len(classes) if index < 9 and called == true else called
        pixels = draw_cell(index)
        if files:
            own = [f for f in files if classes[true].lower() in f.name.lower()] or files
            pixels = np.asarray(Image.open(own[(7 + 61 * index) % len(own)]).convert("RGB"))
        probability = rng.uniform(0.5, 0.97) if index < 9 else rng.uniform(0.9, 1)
        name = f"{classes[true]}/cell-{index:03d}.jpg"
        block = f"block {classes[true]}-{1 + index % 10}"
        images.append(GalleryImage(name, pixels, classes[true], classes[called], probability, block))
    return images


def make_curves(classes=CLASSES, sharpness: float = 0.02) -> list[BandedCurve]:
    """ROC curves bent towards the corner, with bands."""
    x = np.linspace(0, 1, 200)
    curves = []
    for index, name in enumerate(classes):
        y = x ** (sharpness * (1 + 0.6 * index))
        y[0] = 0
        area = float(np.trapezoid(y, x))
        band = 0.03 * np.sqrt(y * (1 - y))
        ends = (area, area - 0.004, min(area + 0.003, 1))
        curves.append(BandedCurve(name, x, y, y - band, np.minimum(y + band, 1), *ends))
    return curves


def make_runs(count: int, epochs: int, start: float, seed: int) -> tuple[TrainingRun, ...]:
    """``count`` folds whose losses fall as losses do."""
    rng = np.random.default_rng(seed)
    runs = []
    for fold in range(count):
        length = epochs - int(rng.integers(0, 4))
        steps = np.arange(length)
        loss = start * np.exp(-steps / 5) + 0.05 + rng.normal(0, 0.006, length)
        validation = start * np.exp(-steps / 4.5) + 0.11 + 0.002 * steps + rng.normal(0, 0.012, length)
        best = int(validation.argmin()) + 1
        accuracy, held = 1 - 0.3 * loss, 1 - 0.28 * validation
        runs.append(TrainingRun(f"fold {fold + 1}", loss, validation, accuracy, held, best))
    return tuple(runs)


def make_blocks(seed: int = 1) -> list[SubjectCount]:
    """Ten blocks a class, as the four-class set is cut."""
    rng = np.random.default_rng(seed)
    counts = []
    for row, name in enumerate(CLASSES):
        share = MATRIX[row, row] / MATRIX[row].sum()
        for block in range(10):
            total = int(MATRIX[row].sum() // 10 + (block < MATRIX[row].sum() % 10))
            right = int(rng.binomial(total, min(max(share + rng.normal(0, 0.03), 0.3), 1)))
            counts.append(SubjectCount(f"{name}-{block + 1}", name, right, total))
    return counts


def make_predictions(matrix: np.ndarray, classes: tuple[str, ...]) -> Predictions:
    """One image for each count of a confusion matrix."""
    true, called = (np.repeat(index, matrix.ravel()) for index in np.indices(matrix.shape).reshape(2, -1))
    names = np.array([f"image-{number}" for number in range(len(true))])
    return Predictions(names, names, names, true, np.eye(len(classes))[called], classes, called)


def make_summary(**changes: Any) -> Section:
    """The summary of the four-class sample, with changes."""
    main = Score(
        "Accuracy", 0.9754, 0.9608, 0.9851, chance=0.3025, meaning="share of cells given the right class"
    )
    sensitivity = Score("Sensitivity to malignant cells", 0.9960, 0.9912, 0.9985)
    plain = {
        "main": main,
        "held_out": None,
        "apart": None,
        "others": [Score("Balanced accuracy", 0.9761, 0.957, 0.984, meaning="mean of the classes' sensitivities")],
        "missed": {
            "called_benign": 11, "total": 2752, "sensitivity": sensitivity, "specificity": Score("Specificity", 0.97),
        },
        "blessed": True,
        "caveat": "",
        "criteria": [("No validation error in the data", True), ("Honest protocol", True)],
        "model": "MobileNet with a new head",
        "training": {"parameters": 3_228_864, "how": None, "stages": [2], "each": False, "final": []},
        "classes": {name: int(count) for name, count in zip(CLASSES, MATRIX.sum(axis=1), strict=True)},
        "scored": "every image once",
        "images": int(MATRIX.sum()),
        "split": {"unit": "group", "folds": 5, "groups": 40, "subjects": "block"},
        "resampled": "40 blocks of images",
        "data_notes": ["These public files carry no patient id."],
        "protocol": "honest",
    }  # fmt: skip
    section = render_section("summary", **(plain | changes))
    assert section is not None
    return section


def make_scores() -> Section | None:
    """Scores over all classes, by class and by fold."""
    main = Score(
        "Accuracy", 0.9754, 0.9608, 0.9851, meaning="share of cells given the right class", groups=40
    )
    kappa = Score("Cohen's kappa", 0.9664, 0.9467, 0.9796, percent=False, meaning="agreement beyond chance")
    shares = {"recall": 0.97, "precision": 0.98, "specificity": 0.992, "f1": 0.965}
    values = [0.981, 0.968, 0.9755, 0.9831, 0.9692]
    folds = [
        {"fold": f"fold {k}", "images": 650 + k, "groups": 8, "score": value}
        for k, value in enumerate(values, 1)
    ]
    names = [fold["fold"] for fold in folds]
    ends = Interval(0.97, 0.95, 0.98, 0.95, "", 10)
    return render_section(
        "scores",
        scores=[main, kappa],
        per_class={
            name: {kind: replace(ends, value=value) for kind, value in shares.items()} for name in CLASSES
        },
        class_images=MATRIX.sum(axis=1).tolist(),
        folds=folds,
        main=main,
        picture=draw_picture("folds", draw_fold_scores, names, values, main),
        method="Intervals resample whole blocks.",
        notes=["Images of all five held-out folds together."],
    )


@cache
def make_report(folder: Path | None = None) -> Page:
    """The four-class sample: honest, blessed."""
    images = np.array(
        [[101, 101, 101, 101, 100], [197] * 5, [193, 193, 193, 192, 192], [161, 161, 161, 161, 160]]
    )
    stages = [
        ("Stage 1: head only", {"Optimizer": "Adam, learning rate 0.001"}, list(make_runs(5, 20, 0.6, 0))),
        ("Stage 2: fine-tuning", {"Optimizer": "Adam, learning rate 0.0001"}, list(make_runs(5, 12, 0.2, 1))),
    ]
    return Page(
        "MobileNet sorts blood-smear cells into four classes",
        subtitle="How well one neural network tells benign cells from three stages of leukaemia.",
        facts={"Experiment": "aria_mobilenet", "Made": "3 November 2026"},
        results={"metrics": {"accuracy": {"value": 0.9754, "low": 0.9608, "high": 0.9851}}},
        sections=(
            make_summary(), make_scores(),
            confusion_section(MATRIX, make_predictions(MATRIX, CLASSES), MALIGNANT, make_curves(), ()),
            gallery_section(make_gallery(folder=folder), MALIGNANT),
            subject_section(make_blocks(), CLASSES, "block", "A block is a run of consecutive file numbers."),
            training_section(stages, "The weights of the epoch with the lowest validation loss were kept."),
            data_section(
                CLASSES, [f"fold {k}" for k in range(1, 6)], images, np.full((4, 5), 2), "block",
                fingerprint="f" * 64, sizes={"224x224": 3256}, errors=(),
                warnings=[{"message": "40 files are exact copies of another file."}],
                duplicates=("No duplicate crosses classes.",),
            ),
            render_section(
                "weaknesses", synthetic=False, kind="block", stated=["One hospital, one microscope and one stain."], leaks=0, no_maps={},
                near_duplicates=True, stained=False, departures=(),
            ),
            render_section("provenance", command="kerasall run x.yaml", settings="seed: 7", environment={"Seed": "7"}),
        ),
    )  # fmt: skip


@cache
def make_faithful_report(folder: Path | None = None) -> Page:
    """A binary copy of a paper that chose on its test images: watermarked, not blessed."""
    rng = np.random.default_rng(5)
    classes, matrix = ("all", "hem"), np.array([[1122, 97], [181, 467]])
    subjects = []
    for index in range(73):
        name, total = ("hem", "all")[index % 3 > 0], int(rng.integers(9, 420))
        share = float(np.clip(1 - rng.exponential(0.14), 0.2, 1))
        label = f"{'H' if name == 'hem' else 'P'}{index}"
        subjects.append(SubjectCount(label, name, int(rng.binomial(total, share)), total))
    return Page(
        "Nine ResNet101 networks vote on leukaemic cells",
        subtitle="A copy of a published protocol.",
        protocol="faithful",
        sections=(
            make_summary(
                main=Score("Accuracy on the selection part", 0.8511, 0.7987, 0.8893, chance=0.653),
                resampled="28 patients", protocol="faithful",
                blessed=False, criteria=[("No validation error in the data", True), ("Honest protocol", False)],
            ),
            confusion_section(matrix, make_predictions(matrix, classes), ("all",), make_curves(classes, 0.1), ()),
            subject_section(subjects, classes, "subject"),
            gallery_section(make_gallery(classes, folder), ("all",)),
        ),
    )  # fmt: skip


if __name__ == "__main__":
    out = Path(sys.argv[1])
    pictures = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    for kind, report in (("honest", make_report(pictures)), ("faithful", make_faithful_report(pictures))):
        print(write_page(out / kind, report))
