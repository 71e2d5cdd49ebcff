"""Made-up but plausible reports: a four-class cross-validation and a binary copy of a paper.

Run as a script to look at them: ``python tests/report/sample_report.py OUT [FOLDER_OF_IMAGES]``.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from kerasall.report.background import (
    DataFacts,
    Stage,
    Step,
    data_section,
    provenance_section,
    training_section,
    weakness_section,
)
from kerasall.report.data_figures import GalleryImage, SubjectCount, TrainingRun
from kerasall.report.document import Fact, Report
from kerasall.report.page import write_report
from kerasall.report.score_figures import Curve
from kerasall.report.scores import (
    ClassScores,
    FoldScores,
    confusion_section,
    gallery_section,
    scores_section,
    subject_section,
)
from kerasall.report.summary import MissedMalignant, Score, Verdict, summary_section

CLASSES = ("Benign", "Early", "Pre", "Pro")
MALIGNANT = ("Early", "Pre", "Pro")
MATRIX = np.array([[487, 13, 3, 1], [9, 953, 22, 1], [2, 17, 939, 5], [0, 1, 6, 797]])

SETTINGS = """\
experiment: aria_mobilenet
data:
  source: aria
  variant: Original
  blocks: 10
split:
  kind: folds
  folds: 5
  seed: 7
model:
  backbone: mobilenet
  weights: imagenet
training:
  optimizer: adam
  stages:
    - {name: head, epochs: 20, learning_rate: 1.0e-3}
    - {name: fine-tuning, unfreeze_from: conv_dw_11, epochs: 12, learning_rate: 1.0e-4}
deterministic: true
"""


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


def make_curves(classes=CLASSES, sharpness: float = 0.02) -> list[Curve]:
    """ROC curves bent towards the corner, with bands."""
    x = np.linspace(0, 1, 200)
    curves = []
    for index, name in enumerate(classes):
        y = x ** (sharpness * (1 + 0.6 * index))
        y[0] = 0
        area = float(np.trapezoid(y, x))
        band = 0.03 * np.sqrt(y * (1 - y))
        curves.append(
            Curve(name, x, y, area, area - 0.004, min(area + 0.003, 1), y - band, np.minimum(y + band, 1))
        )
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


def make_sections(folder: Path | None = None) -> tuple:
    """All sections of the four-class sample."""
    main = Score(
        "Accuracy (out of fold)",
        0.9754,
        0.9608,
        0.9851,
        chance=0.3025,
        meaning="share of cells given the right class",
    )
    scores = (
        main,
        Score(
            "Balanced accuracy",
            0.9737,
            0.9570,
            0.9842,
            meaning="mean of the classes' sensitivities; large classes count no more than small ones",
        ),
        Score(
            "Macro F1",
            0.9730,
            0.9561,
            0.9839,
            meaning="mean over classes of the balance between sensitivity and precision",
        ),
        Score(
            "Weighted F1", 0.9754, 0.9607, 0.9851, meaning="the same, weighted by the images of each class"
        ),
        Score(
            "Cohen's kappa",
            0.9664,
            0.9467,
            0.9796,
            percent=False,
            meaning="agreement beyond what chance alone would give; 1 is perfect",
        ),
        Score(
            "Matthews correlation",
            0.9665,
            0.9469,
            0.9797,
            percent=False,
            meaning="correlation of true and called classes; 0 is guessing",
        ),
        Score(
            "ROC AUC, macro",
            0.9976,
            0.9949,
            0.9990,
            percent=False,
            meaning="chance that a cell of a class gets a higher probability for it than another cell",
        ),
        Score(
            "Log loss",
            0.0871,
            0.0582,
            0.1263,
            percent=False,
            meaning="punishes confident wrong calls; 0 is perfect, lower is better",
        ),
    )
    sensitivity = Score("Sensitivity to malignant cells", 0.9960, 0.9912, 0.9985)
    per_class = tuple(
        ClassScores(
            name,
            int(MATRIX[i].sum()),
            (
                Score("Sensitivity", p := MATRIX[i, i] / MATRIX[i].sum(), p - 0.021, min(p + 0.012, 1)),
                Score("Precision", q := MATRIX[i, i] / MATRIX[:, i].sum(), q - 0.02, min(q + 0.011, 1)),
                Score("Specificity", 0.992, 0.988, 0.996),
                Score("F1", 2 * p * q / (p + q)),
            ),
        )
        for i, name in enumerate(CLASSES)
    )
    folds = tuple(
        FoldScores(f"fold {k + 1}", n, 8, {main.label: a, "Balanced accuracy": a - 0.004})
        for k, (n, a) in enumerate(((652, 0.981), (650, 0.968), (653, 0.9755), (651, 0.9831), (650, 0.9692)))
    )
    criteria = (
        ("No validation error in the data", True),
        ("Keras, the exported model and the command line agree within 0.00001", True),
        ("Lower bound of balanced accuracy 95.7% is above chance + 5% = 30.0%", True),
        ("Lower bound of sensitivity to malignant cells 99.1% is above the floor of 95.0%", True),
        ("Honest protocol: nothing was chosen on the images it was scored on", True),
    )
    note = "These public files carry no patient id: how well the model does on a new patient cannot be measured. Blocks of consecutive file numbers stand in for patients."
    parts = tuple(f"fold {k}" for k in range(1, 6))
    images = np.array(
        [[101, 101, 101, 101, 100], [197] * 5, [193, 193, 193, 192, 192], [161, 161, 161, 161, 160]]
    )
    return (
        summary_section(
            trained="MobileNet (ImageNet weights) with a new head, trained in two stages: the head alone, then the last blocks as well. The exported model was fitted again on all images with the same settings.",
            data="3,256 photographs of blood-smear cells, 224 × 224 pixels, in four classes: Benign (504), Early (985), Pre (963), Pro (804). Early, Pre and Pro are stages of acute lymphoblastic leukaemia.",
            split="5-fold cross-validation over 40 blocks of images: every image was scored once, by a model that had seen no image of its block and none of its duplicates.",
            main=main,
            resampled="40 blocks of images",
            verdict=Verdict(True, criteria),
            missed=MissedMalignant(11, 2752, sensitivity),
            others=(scores[1],),
            data_notes=(
                note,
                "89 patients contributed according to the publishers; which image is whose is not known.",
            ),
        ),
        scores_section(
            scores,
            per_class,
            folds,
            main,
            "Intervals come from resampling whole blocks 2,000 times: images of one block resemble each other, so single images would make the intervals far too narrow.",
            ("Images of all five held-out folds together.",),
        ),
        confusion_section(MATRIX, CLASSES, MALIGNANT, make_curves(), make_curves()[:0]),
        gallery_section(
            make_gallery(folder=folder),
            MALIGNANT,
            "Shown are the most confident mistakes of each class and right calls drawn at random.",
        ),
        subject_section(
            make_blocks(),
            CLASSES,
            "block",
            "A block is a run of consecutive file numbers of one class, the stand-in for a patient in these data.",
        ),
        training_section(
            (
                Stage(
                    "Stage 1: head only",
                    {
                        "Optimizer": "Adam, learning rate 0.001",
                        "Epochs": "up to 20, stopped after 4 without gain",
                        "Trained": "dense layers (4,100 weights)",
                    },
                    make_runs(5, 20, 0.6, 0),
                ),
                Stage(
                    "Stage 2: fine-tuning",
                    {
                        "Optimizer": "Adam, learning rate 0.0001",
                        "Epochs": "up to 12",
                        "Trained": "from block conv_dw_11 (1.9 million weights)",
                    },
                    make_runs(5, 12, 0.2, 1),
                ),
            ),
            "The weights of the epoch with the lowest validation loss were kept.",
        ),
        data_section(
            DataFacts(
                CLASSES,
                parts,
                images,
                np.full((4, 5), 2),
                "block",
                {"Size": "224 × 224 pixels, all images", "Format": "JPEG", "Fingerprint": "9f31c2d07be4"},
                warnings=(
                    "No patient ids: blocks of consecutive file numbers stand in for subjects.",
                    "40 files are exact copies of another file.",
                ),
                duplicates=(
                    "40 exact copies and 192 near duplicates were found; each cluster stays on one side of every split.",
                    "No duplicate crosses classes.",
                ),
            )
        ),
        weakness_section(
            (
                "No patient ids: images of one patient may stand on both sides.",
                "One hospital, one microscope and one stain.",
                "Labels come from flow cytometry of the patient, not from each cell.",
            ),
        ),
        provenance_section(
            "kerasall run configs/aria_mobilenet.yaml --data Original --weights weights",
            SETTINGS,
            tuple(
                Step(name, "3f9d2c1ab77e4410", state, s)
                for name, state, s in (
                    ("ExampleGen", "cached", 0.4),
                    ("StatisticsGen", "cached", 12.2),
                    ("SchemaGen", "cached", 0.1),
                    ("ExampleValidator", "cached", 9.0),
                    ("Transform", "cached", 3.1),
                    ("Trainer", "run", 1980.0),
                    ("Evaluator", "run", 41.0),
                )
            ),
            {
                "Software": "kerasall 0.1.0, Keras 3.15.1, TensorFlow 2.21.0, Python 3.11.9",
                "Device": "CPU, 2 cores",
                "Seed": "7",
                "Time": "34 min",
                "Peak memory": "3.1 GiB",
            },
        ),
    )


@cache
def make_report(folder: Path | None = None) -> Report:
    """The four-class sample: honest, blessed."""
    facts = (
        Fact("Experiment", "aria_mobilenet"),
        Fact("Run", "2026-11-03-1412"),
        Fact("Made", "3 November 2026"),
    )
    return Report(
        "MobileNet sorts blood-smear cells into four classes",
        "How well one neural network tells benign cells from three stages of acute lymphoblastic leukaemia, measured on images it was not trained on.",
        facts=facts,
        results={"metrics": {"accuracy": {"value": 0.9754, "low": 0.9608, "high": 0.9851}}},
        sections=make_sections(folder),
    )


@cache
def make_faithful_report(folder: Path | None = None) -> Report:
    """A binary copy of a paper that chose on its test images: watermarked, not blessed."""
    rng = np.random.default_rng(5)
    classes = ("all", "hem")
    subjects = []
    for index in range(73):
        name, total = ("hem", "all")[index % 3 > 0], int(rng.integers(9, 420))
        share = float(np.clip(1 - rng.exponential(0.14), 0.2, 1))
        subjects.append(
            SubjectCount(
                f"{'H' if name == 'hem' else 'P'}{index}", name, int(rng.binomial(total, share)), total
            )
        )
    main = Score("Accuracy on the selection part", 0.8511, 0.7987, 0.8893, chance=0.653)
    verdict = Verdict(False, (("No validation error in the data", True), ("Honest protocol", False)))
    sections = (
        summary_section(
            trained="Nine ResNet101 networks that vote.",
            data="12,528 cells of 101 people: leukaemic (all) and healthy (hem).",
            split="As in the paper: the preliminary test part chose the settings and is reported here.",
            main=main,
            resampled="28 patients",
            verdict=verdict,
            missed=MissedMalignant(97, 1219, Score("Sensitivity", 0.9204, 0.861, 0.957)),
            protocol="faithful",
        ),
        confusion_section(np.array([[1122, 97], [181, 467]]), classes, ("all",), make_curves(classes, 0.1)),
        subject_section(subjects, classes),
        gallery_section(make_gallery(classes, folder), ("all",)),
    )
    return Report(
        "Nine ResNet101 networks vote on leukaemic cells",
        "A copy of a published protocol.",
        "faithful",
        sections=sections,
    )


if __name__ == "__main__":
    out = Path(sys.argv[1])
    pictures = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    for kind, report in (("honest", make_report(pictures)), ("faithful", make_faithful_report(pictures))):
        print(write_report(out / kind, report))
